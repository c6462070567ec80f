"""A model whose tanh and log p(x|z) are compiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core import layers
from ..core.distributions import log_binomial_coefficient
from ..core.likelihoods import Bernoulli, Binomial
from ..core.vae import VAE
from .adam import kernels

__all__ = ["compiled"]


class CompiledVAE(VAE):
    """What `compiled` returns: a `VAE` that shares its parameters, and computes faster."""

    @property
    def activation(self) -> Callable:
        return _tanh if self.architecture.activation == "tanh" else super().activation

    def log_prob(self, x, out):
        single = x.dtype == out.dtype == np.float32 and x.shape == out.shape[-2:]
        if type(self.likelihood) in (Bernoulli, Binomial) and single:  # a subclass has its own
            logp, pull = _binomial_logpmf(x, out, self.likelihood.n)
            return logp, lambda dlogp, gradient=None: pull(dlogp)
        return super().log_prob(x, out)


def compiled(vae: VAE) -> VAE:
    """Return `vae` with its tanh and its Bernoulli or Binomial log p(x|z) compiled.

    Both models are around the same parameters: to train the one is to train the other. What is
    not compiled (another activation, a Gaussian likelihood, numbers that are not float32) is as
    in `vae`. Values agree within a few roundings of float32, so a training run is not the same to
    the bit; nor are annealed chains, which accept a move or not. The threads of `bounds`
    (`n_jobs`) may use it.

    Parameters
    ----------
    vae : VAE
        Of float32, and no subclass, whose own methods would be lost.

    Returns
    -------
    twin : VAE

    Raises
    ------
    ImportError
        If Numba is not installed.
    TypeError
        If it is no VAE of float32, or a subclass.

    Examples
    --------
    >>> vae = VAE(data_dim=784, latent_dim=20, hidden=(500,))
    >>> fit(compiled(vae), x, epochs=20)                                 # doctest: +SKIP
    """
    known = type(vae) in (VAE, CompiledVAE)
    if not known or vae.dtype != np.float32:
        got = f"a VAE of {vae.dtype}" if known else type(vae).__name__
        raise TypeError(f'vae: expected a VAE with dtype="float32" to compile, got {got}')
    kernels("compiled")
    twin = CompiledVAE.__new__(CompiledVAE)
    twin.__dict__ |= vae.__dict__
    return twin


def _tanh(x: np.ndarray) -> tuple[np.ndarray, Callable]:
    """`layers.tanh` in one walk, and one back."""
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


def _like(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return ∂y with the shape and the dtype of y, broadcast to it: nothing guards a walk."""
    if type(dy) is np.ndarray and dy.shape == y.shape and dy.dtype == y.dtype:
        return dy
    return np.broadcast_to(dy, y.shape).astype(y.dtype, casting="same_kind")


def _binomial_logpmf(x: np.ndarray, logits: np.ndarray, n: int) -> tuple[np.ndarray, Callable]:
    """`distributions.binomial_logpmf` in one walk, and one back: x (B, D), logits (..., B, D)."""
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
