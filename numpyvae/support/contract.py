"""What a model must offer so that log p(x) can be bounded: a contract, not a class.

`numpyvae.bounds` uses the members of `Model` and no others. A `VAE` has them, and so has
`numpyvae.clinic.ForeignVAE`, whose networks belong to another library. Nothing tests the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["Model", "RowSize", "row_size"]

_LIKELIHOOD_ARRAYS, _CHAIN_ARRAYS = 8, 30  # of the width of the outputs, and of that of z
_DENSE_ARRAYS = 7  # of the width of each hidden layer (softplus; tanh needs three)


class RowSize(NamedTuple):
    """How many floating-point numbers one row of z needs.

    Attributes
    ----------
    widest : int
        The values in the widest layer, inputs and outputs too; blocks for the processor's cache
        are made by it.
    total : int
        The values in all arrays of the decoder, its gradient and a chain: an upper estimate, by
        which a budget of memory is divided.

    Examples
    --------
    >>> RowSize.of_decoder(100, outputs=64, latent_dim=2).total    # 100 + 8 · 64 + 30 · 2
    672
    """

    widest: int
    total: int

    @classmethod
    def of_decoder(cls, inner: int, outputs: int, latent_dim: int, widest: int = 0) -> RowSize:
        """Return the size of a row, given the values `inner` inside the decoder and its gradient.

        The rest are the arrays of the likelihood, eight of the width of the outputs, and of the
        chain.
        """
        total = inner + _LIKELIHOOD_ARRAYS * outputs + _CHAIN_ARRAYS * latent_dim
        return cls(max(widest, outputs, 2 * latent_dim), total)


class Model(Protocol):
    """The members of a model that `numpyvae.bounds` uses. Arrays have the dtype of the model.

    Attributes
    ----------
    data_dim, latent_dim : int
        D and J.
    dtype : numpy.dtype
        float32 or float64.
    likelihood : Likelihood
    parameters : mapping of str to array
        At least those that `likelihood.parameter_shapes(data_dim)` names.
    row_size : RowSize
        Only a model of dense layers may leave it out: then its `architecture.hidden`, a tuple of
        widths, tells it.

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2)
    >>> [name for name in vars(Model) if name[0] != "_" and not hasattr(vae, name)]
    []
    """

    @property
    def data_dim(self) -> int:
        """The number D of dimensions of x."""

    @property
    def latent_dim(self) -> int:
        """The number J of latent variables."""

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""

    @property
    def likelihood(self) -> Any:
        """A `Likelihood`."""

    @property
    def parameters(self) -> Mapping[str, np.ndarray]:
        """At least those of the likelihood."""

    def encoder(self, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Callable]:
        """Return (mu, logvar), (B, J) each, of a q(z|x) for x (B, D), and a pullback.

        It is the proposal of the importance weights, and where annealing may start. The bounds are
        valid for every q; the pullback is not used.
        """

    def decoder(self, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Return the outputs (L, B, heads·D) for z (L, B, J), and `pull(dout) -> dz`."""

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Return log p(x|z), (L, B), with every constant, and `pull(dlog_px) -> dz`."""

    def encode(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return (mu, logvar) as `encoder` does, with a check of x; for the ELBO alone."""


def row_size(model: Any) -> RowSize:
    """Return what `model` declares as its `row_size`, or the size of its dense layers.

    Parameters
    ----------
    model : Model

    Returns
    -------
    size : RowSize

    Examples
    --------
    >>> from numpyvae import VAE
    >>> row_size(VAE(data_dim=4, latent_dim=2, hidden=(30,)))      # 7 · 30 + 8 · 4 + 30 · 2
    RowSize(widest=30, total=302)
    """
    declared = getattr(model, "row_size", None)
    if declared is not None:
        return declared
    hidden, D = model.architecture.hidden, model.data_dim
    outputs = model.likelihood.heads * D
    return RowSize.of_decoder(
        _DENSE_ARRAYS * sum(hidden), outputs, model.latent_dim, max(D, *hidden, 0)
    )
