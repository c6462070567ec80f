"""Layouts: which tensor of a state dict is which part of a `VAE`.

`nn.Linear` computes y = x Aᵀ + b, with its weight A in the shape (out, in), while a layer of a
`VAE` computes y = x W + b: so W = Aᵀ. The last layer of a network may be several `nn.Linear` that
read the same input: their outputs stand side by side, and so do the columns of W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.likelihoods import Likelihood
from ..core.vae import Architecture
from ..support.checks import check_count, shown

__all__ = ["PYTORCH_EXAMPLE", "Layout", "Part", "parts", "sequential_layout"]

Layer = str | tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The names of the layers of a dense VAE in a state dict, from input to output.

    A layer called "fc1" has the tensors "fc1.weight", of shape (out, in), and "fc1.bias".

    Parameters
    ----------
    encoder : tuple of str or tuple of str
        A name for each layer. For the last one, a name if its output is (μ, log σ²), or a pair of
        names, of the layer of μ and of that of log σ².
    decoder : tuple of str or tuple of str
        A name for each layer; for the last one, a pair if `gaussian:head` has two layers.
    others : mapping of str to str, optional
        Names in the state dict of the parameters of the likelihood, as `decoder.logvar` of
        `gaussian:learned`; the name itself if left out.

    Raises
    ------
    TypeError, ValueError
        If a network has no layers, or a name stands twice.

    Examples
    --------
    >>> Layout(("fc1", ("fc21", "fc22")), ("fc3", "fc4")) == PYTORCH_EXAMPLE
    True
    """

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    others: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        names: list[str] = []
        for network in ("encoder", "decoder"):
            layers = getattr(self, network)
            if isinstance(layers, str) or not isinstance(layers, (tuple, list)) or not layers:
                raise TypeError(
                    f"{network}: expected a tuple with a name for each layer, as ('fc3', 'fc4'), "
                    f"got {shown(layers)}"
                )
            for layer in layers:
                names += layer if isinstance(layer, (tuple, list)) else [layer]
            object.__setattr__(self, network, tuple(layers))
        if odd := [name for name in names if not isinstance(name, str)]:
            raise TypeError(f"layout: expected names of layers, got {shown(odd[0])}")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"layout: expected each name once, got {twice[0]!r} twice")

    def tensors(self, likelihood: Likelihood) -> list[str]:
        """Return the names of all tensors of a model with this likelihood."""
        layers = [
            n for network in ("encoder", "decoder") for ns in self.heads(network) for n in ns
        ]
        return [
            *(f"{name}.{part}" for name in layers for part in ("weight", "bias")),
            *(self.other(name) for name in likelihood.parameter_shapes(1)),
        ]

    def other(self, name: str) -> str:
        """Return the name of a parameter of the likelihood in the state dict."""
        return (self.others or {}).get(name, name)

    def heads(self, network: str) -> list[tuple[str, ...]]:
        """Return the names of each layer of "encoder" or "decoder", one or several."""
        return [(n,) if isinstance(n, str) else tuple(n) for n in getattr(self, network)]


PYTORCH_EXAMPLE = Layout(("fc1", ("fc21", "fc22")), ("fc3", "fc4"))  # pytorch/examples/vae


def sequential_layout(
    n_hidden: int = 1, mu: str | None = None, logvar: str | None = None, *, step: int = 2
) -> Layout:
    """Return the layout of two `nn.Sequential`, called `encoder` and `decoder`.

    Their layers are `encoder.0`, `encoder.2` and so on, with an activation after each one.

    Parameters
    ----------
    n_hidden : int
        Number of hidden layers of each network.
    mu, logvar : str, optional
        Names of the layers of μ and log σ², if they are not in `encoder`; by default its last
        layer has both, side by side.
    step : int
        Distance between two layers: 3 if there is a dropout beside each activation.

    Returns
    -------
    layout : Layout

    Raises
    ------
    TypeError, ValueError
        If a number is not a whole number above 0, or only one of `mu` and `logvar` is given.

    Examples
    --------
    >>> sequential_layout(2).decoder
    ('decoder.0', 'decoder.2', 'decoder.4')
    >>> sequential_layout(1, "fc_mu", "fc_var").encoder
    ('encoder.0', ('fc_mu', 'fc_var'))
    """
    count, step = check_count("n_hidden", n_hidden), check_count("step", step)
    if (mu is None) != (logvar is None):
        raise ValueError(f"mu, logvar: expected both names or none, got {mu!r} and {logvar!r}")
    encoder: tuple[Layer, ...] = tuple(f"encoder.{step * i}" for i in range(count))
    last: Layer = f"encoder.{step * count}" if mu is None or logvar is None else (mu, logvar)
    decoder = tuple(f"decoder.{step * i}" for i in range(count + 1))
    return Layout((*encoder, last), decoder)


class Part(NamedTuple):
    """A tensor of a state dict, and the part of a parameter of the `VAE` that it is.

    Attributes
    ----------
    name : str
        In the state dict.
    shape : tuple of int
        There.
    parameter : str
        In the `VAE`.
    columns : slice
        Of the parameter, on its last axis.
    """

    name: str
    shape: tuple[int, ...]
    parameter: str
    columns: slice

    def of(self, parameters: Mapping[str, Any]) -> Any:
        """Return the view of the parameter that has the shape of the tensor."""
        return parameters[self.parameter][..., self.columns].T


def parts(layout: Layout, architecture: Architecture) -> Iterator[Part]:
    """Yield every tensor that a model of this architecture has in this layout.

    Raises
    ------
    ValueError
        If the model has another number of layers, or a layer cannot be split.
    """
    phi, theta = architecture.shapes()
    shapes = {**phi, **theta}
    for network in ("encoder", "decoder"):
        layers, expected = layout.heads(network), len(architecture.hidden) + 1
        if len(layers) != expected:
            raise ValueError(
                f"layout: expected {expected} layers of the {network}, as the model has, got "
                f"{len(layers)}; name each layer once"
            )
        for i, names in enumerate(layers):
            W, b = f"{network}.W{i}", f"{network}.b{i}"
            n_in, n_out = shapes.pop(W)
            del shapes[b]
            width, rest = divmod(n_out, len(names))
            if rest:
                raise ValueError(
                    f"layout: expected a number of names that divides the {n_out} outputs of "
                    f"layer {i} of the {network}, got {len(names)}; change the layout"
                )
            for k, name in enumerate(names):
                columns = slice(k * width, (k + 1) * width)
                yield Part(f"{name}.weight", (width, n_in), W, columns)
                yield Part(f"{name}.bias", (width,), b, columns)
    for name, shape in shapes.items():  # of the likelihood
        yield Part(layout.other(name), shape[::-1], name, slice(None))
