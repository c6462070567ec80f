"""State dicts to models and back, by a declared layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.likelihoods import Likelihood, parse_likelihood
from ..core.vae import VAE, Architecture
from ..support.checks import check_kind, check_vae, shown
from ..support.registry import find_activation
from .layouts import Layout, parts

__all__ = ["build", "from_state_dict", "to_state_dict"]

_SHOWN = 4  # lines in a message; the others are its notes


def from_state_dict(
    state: Mapping[str, Any],
    layout: Layout,
    *,
    activation: str | Callable,
    likelihood: str | Likelihood,
) -> VAE:
    """Return the model whose weights are the tensors of a state dict.

    Parameters
    ----------
    state : mapping of str to (out, in) or (out,) array
        As from `state_dict()` of a PyTorch module, or a mapping to NumPy arrays; float32 or
        float64.

    Returns
    -------
    vae : VAE
        With float64 parameters if a tensor has this dtype, else float32.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or a tensor is missing, left over, or of another shape
        or dtype.

    Examples
    --------
    >>> from numpyvae.weights import PYTORCH_EXAMPLE
    >>> state = to_state_dict(VAE(784, 20, (400,), "relu"), PYTORCH_EXAMPLE)
    >>> from_state_dict(state, PYTORCH_EXAMPLE, activation="relu", likelihood="bernoulli")
    VAE(784-400-20, relu, bernoulli, float32, 652824 parameters)
    """
    return build(_mapping(state), layout, activation, likelihood, "state dict")


def to_state_dict(vae: VAE, layout: Layout) -> dict[str, np.ndarray]:
    """Return the weights of a model as a state dict.

    Parameters
    ----------
    vae : VAE

    Returns
    -------
    state : dict of str to array
        New arrays, in the dtype of the model.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or the model does not have the layers of the layout.

    Examples
    --------
    >>> from numpyvae.weights import PYTORCH_EXAMPLE
    >>> state = to_state_dict(VAE(784, 20, (400,)), PYTORCH_EXAMPLE)
    >>> {name: array.shape for name, array in state.items() if name.startswith("fc2")}
    {'fc21.weight': (20, 400), 'fc21.bias': (20,), 'fc22.weight': (20, 400), 'fc22.bias': (20,)}
    """
    check_vae(vae)
    check_kind("layout", layout, Layout, "use PYTORCH_EXAMPLE or sequential_layout()")
    table = list(parts(layout, vae.architecture))
    return {part.name: part.of(vae.parameters).copy(order="C") for part in table}


def _mapping(state: Any) -> Mapping[str, Any]:
    """Return `state` if it is a mapping; what users pass in its place has a remedy of its own."""
    if isinstance(state, Mapping):
        return state
    remedy = "pass net.state_dict()"
    if isinstance(state, (str, os.PathLike)):
        remedy = "for a .safetensors file use load_safetensors; load a .pt file in PyTorch first"
    raise TypeError(f"state: expected a mapping of names to arrays, got {shown(state)}; {remedy}")


def build(
    state: Mapping[str, Any],
    layout: Layout,
    activation: str | Callable,
    likelihood: str | Likelihood,
    where: str,
) -> VAE:
    """Return the model; messages about tensors begin with `where`."""
    check_kind("layout", layout, Layout, "use PYTORCH_EXAMPLE or sequential_layout()")
    activation, likelihood = find_activation(activation), parse_likelihood(likelihood)
    arrays, problems = _arrays(state)
    widths = _widths(layout, arrays)
    D, J, hidden = widths or (1, 1, (1,))
    architecture = Architecture(D, J, hidden, activation, likelihood)
    # Shapes are not known if a weight of the encoder is missing, or has no two axes.
    table = list(parts(layout, architecture)) if widths else []
    shapes = {part.name: part.shape for part in table}
    problems += _differences(shapes or dict.fromkeys(layout.tensors(likelihood)), arrays)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        error = ValueError(f"{where}: {'; '.join(problems[:_SHOWN])}{more}")
        for problem in problems[_SHOWN:]:
            error.add_note(problem)
        raise error
    dtype = np.result_type(*arrays.values()).name
    vae = VAE(D, J, hidden, activation, likelihood, dtype)
    for part in table:
        part.of(vae.parameters)[...] = arrays[part.name]
    return vae


def _arrays(state: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the tensors as arrays, and a line for each one that is not finite float32 or 64."""
    arrays, problems = {}, []
    for name, tensor in state.items():
        dtype = getattr(tensor, "dtype", type(tensor).__name__)
        dtype = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
        if dtype not in ("float32", "float64"):
            problems.append(
                f"{name}: expected float32 or float64, got {dtype}; convert it, as with "
                "net.float().state_dict()"
            )
            array = np.empty(tuple(getattr(tensor, "shape", ())), "float32")
        else:
            if hasattr(tensor, "detach"):  # of PyTorch, maybe on another device
                tensor = tensor.detach().cpu().numpy()
            array = np.asarray(tensor)
            if not np.isfinite(array).all():
                problems.append(f"{name}: expected finite numbers, got NaN or infinity")
        arrays[str(name)] = array
    return arrays, problems


def _widths(
    layout: Layout, arrays: Mapping[str, np.ndarray]
) -> tuple[int, int, tuple[int, ...]] | None:
    """Return D, J and the hidden widths, from the weights of the encoder, if it has them all."""
    layers = [[f"{name}.weight" for name in names] for names in layout.heads("encoder")]
    for name in (name for layer in layers for name in layer):
        if name not in arrays or arrays[name].ndim != 2 or 0 in arrays[name].shape:
            return None
    outs = [sum(arrays[name].shape[0] for name in layer) for layer in layers]
    return arrays[layers[0][0]].shape[1], max(1, outs[-1] // 2), tuple(outs[:-1])


def _differences(
    shapes: Mapping[str, tuple[int, ...] | None], arrays: Mapping[str, np.ndarray]
) -> list[str]:
    """Return a line for each tensor that is missing, left over, or of another shape.

    A shape is None where it is not known; then a weight must have two axes.
    """
    lines = []
    for name, shape in shapes.items():
        if name not in arrays:
            lines.append(f"{name}: expected a tensor{_of(shape)}, got none")
            continue
        found = arrays[name].shape
        if shape is None and name.endswith(".weight") and (len(found) != 2 or 0 in found):
            lines.append(f"{name}: expected a tensor of shape (out, in), got {found}")
        elif shape not in (None, found):
            lines.append(f"{name}: expected a tensor{_of(shape)}, got {found}")
    return lines + [
        f"{name}: expected no tensor of this name, got one{_of(array.shape)}"
        for name, array in arrays.items()
        if name not in shapes
    ]


def _of(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f" of shape {shape}"
