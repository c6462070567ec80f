"""A model whose tanh and log p(x|z) are compiled: the same parts, computed in fewer passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..core import layers
from ..core.likelihoods import Bernoulli, Binomial
from ..core.vae import VAE
from ..support.special import log_binomial_coefficient
from .adam import kernels

__all__ = ["compiled"]


class CompiledTanh:
    """`layers.tanh` with one pass over memory forward and one backward. It is saved as `tanh`."""

    __name__ = "tanh"
    smooth = increasing = True

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, Callable]:
        if x.dtype != np.float32:
            return layers.tanh(x)
        k = kernels("compiled")
        y = np.empty(x.shape, np.float32)
        k.tanh(x.reshape(-1), y.reshape(-1))

        def pull(dy):
            dx = np.empty_like(y)
            k.pull_tanh(y.reshape(-1), _like(y, dy).reshape(-1), dx.reshape(-1))
            return dx

        return y, pull

    def __eq__(self, other: object) -> bool:
        return other is layers.tanh or isinstance(other, CompiledTanh)

    def __hash__(self) -> int:
        return hash(layers.tanh)


class _Compiled:
    """log p of a Binomial, compiled. It is equal (==) to the likelihood without compilation."""

    def log_prob(self, x, out, parameters):
        if not (x.dtype == out.dtype == np.float32 and x.shape == out.shape[-2:]):
            return super().log_prob(x, out, parameters)
        logp, pull = _binomial_logpmf(x, out, self.n)
        return logp, lambda dlogp, gradient=None: pull(dlogp)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Binomial) and (other.name, other.n) == (self.name, self.n)

    def __hash__(self) -> int:
        return super().__hash__()


@dataclass(frozen=True, eq=False)
class CompiledBinomial(_Compiled, Binomial):
    """`Binomial` with the compiled log p of `_Compiled`."""


@dataclass(frozen=True, eq=False)
class CompiledBernoulli(_Compiled, Bernoulli):
    """`Binomial` with the compiled log p of `_Compiled`."""


_COMPILED = {
    Binomial: lambda likelihood: CompiledBinomial(likelihood.n),
    Bernoulli: lambda likelihood: CompiledBernoulli(),
}


def compiled(vae: VAE) -> VAE:
    """Return `vae` with its tanh and its Bernoulli or Binomial log p(x|z) compiled.

    The two models share their parameters, so training one of them also trains the other. Another
    activation or another likelihood is that of `vae`, without compilation. Values agree within a
    few rounding errors of float32, so training runs and annealed chains are not bitwise identical.
    Several threads can use the model at the same time (`n_jobs` of `bounds`).

    Parameters
    ----------
    vae : VAE
        A model with dtype float32.

    Returns
    -------
    twin : VAE

    Raises
    ------
    ImportError
        If Numba is not installed.
    TypeError
        If `vae` is not a VAE with dtype float32.

    Examples
    --------
    >>> vae = VAE(data_dim=784, latent_dim=20, hidden=(500,))
    >>> fit(compiled(vae), x, epochs=20)                                 # doctest: +SKIP
    """
    if not isinstance(vae, VAE) or vae.dtype != np.float32:
        got = f"a VAE of {vae.dtype}" if isinstance(vae, VAE) else type(vae).__name__
        raise TypeError(f'vae: expected a VAE with dtype="float32" to compile, got {got}')
    kernels("compiled")
    activation, likelihood = vae.activation, vae.likelihood
    if activation is layers.tanh:
        activation = CompiledTanh()
    likelihood = _COMPILED.get(type(likelihood), lambda same: same)(likelihood)
    parts = replace(vae.architecture, activation=activation, likelihood=likelihood)
    return vae.with_parts(architecture=parts)


def _like(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return ∂y with the shape and dtype of y; the compiled loop does not check indices."""
    if type(dy) is np.ndarray and dy.shape == y.shape and dy.dtype == y.dtype:
        return dy
    return np.broadcast_to(dy, y.shape).astype(y.dtype, casting="same_kind")


def _binomial_logpmf(x: np.ndarray, logits: np.ndarray, n: int) -> tuple[np.ndarray, Callable]:
    """Return `distributions.binomial_logpmf`, compiled: x (B, D), logits (..., B, D)."""
    k, n = kernels("compiled"), np.float32(n)
    rows = logits.reshape(-1, logits.shape[-1])  # (..., B, D) → (R, D)
    logp = np.empty(logits.shape[:-1], np.float32)
    x = np.ascontiguousarray(x)
    k.binomial_logpmf(x, rows, n, logp.reshape(-1))
    if n != 1:
        logp += log_binomial_coefficient(x, int(n))

    def pull(dlogp):
        dlogits = np.empty_like(rows)
        k.pull_binomial_logpmf(x, rows, n, _like(logp, dlogp).reshape(-1), dlogits)
        return dlogits.reshape(logits.shape)

    return logp, pull
