"""safetensors files: named tensors without code, as PyTorch, JAX and others write them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.likelihoods import Likelihood
from ..core.vae import VAE
from ..support.files import atomic_write, open_file
from .layouts import Layout
from .state import build, to_state_dict

__all__ = ["load_safetensors", "save_safetensors"]

_READ = ("F32", "F64")


class _Unread(NamedTuple):
    """The place of a tensor that is not read, since NumPy may lack its dtype, as bfloat16."""

    dtype: str
    shape: tuple[int, ...]


def save_safetensors(path: str | os.PathLike, vae: VAE, layout: Layout) -> None:
    """Write the weights of a model; the file is replaced as a whole or not at all.

    It contains neither the activation nor the likelihood.

    Parameters
    ----------
    path : path
    vae : VAE

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the folder does not exist or cannot be written.
    TypeError, ValueError
        If a parameter is not finite, or the model does not have the layers of the layout.

    Examples
    --------
    >>> save_safetensors("vae.safetensors", vae, PYTORCH_EXAMPLE)        # doctest: +SKIP
    """
    state = to_state_dict(vae, layout)
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers to save, got NaN or infinity")
    with _needing_safetensors("save_safetensors"):
        from safetensors.numpy import save
    data = save(state, {"format": "pt"})
    with atomic_write(path) as file:
        file.write(data)


def load_safetensors(
    path: str | os.PathLike,
    layout: Layout,
    *,
    activation: str | Callable,
    likelihood: str | Likelihood,
) -> VAE:
    """Return the model whose weights are in a safetensors file.

    Parameters
    ----------
    path : path

    Returns
    -------
    vae : VAE

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged or another kind of file, or a tensor is missing, left over, or of another
        shape or dtype.

    Examples
    --------
    >>> load_safetensors(                                                # doctest: +SKIP
    ...     "vae.safetensors", PYTORCH_EXAMPLE, activation="relu", likelihood="bernoulli"
    ... )
    VAE(784-400-20, relu, bernoulli, float32, 652824 parameters)
    """
    return build(_tensors(Path(path)), layout, activation, likelihood, str(path))


def _tensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a file; only those of float32 and float64 are read."""
    with open_file(path) as file:
        start = file.read(9)
    # Eight bytes are the length of the header, which begins with "{"; they may be "PK" by chance.
    if start[8:] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise ValueError(
            f"{path}: expected a safetensors file, got a pickle, as torch.save writes it, which "
            "may contain code; load it in PyTorch, and write it by safetensors.torch.save_file"
        )
    with _needing_safetensors("load_safetensors"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, "np") as file:
            found = {}
            for name in file.keys():  # noqa: SIM118 - it is no dict
                part = file.get_slice(name)
                dtype, shape = part.get_dtype(), tuple(part.get_shape())
                found[name] = file.get_tensor(name) if dtype in _READ else _Unread(dtype, shape)
    except SafetensorError as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected a safetensors file, got a damaged or truncated one ({why}); write "
            "it again"
        ) from None
    return found


@contextmanager
def _needing_safetensors(who: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{who}: expected the library safetensors, which cannot be imported ({error}); "
            'pip install "numpyvae[safetensors]"'
        ) from None
