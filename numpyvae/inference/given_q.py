"""The ELBO for any q, not only the encoder's, with the expectation by weighted nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.distributions import gaussian_kl, reparameterize
from ..core.elbo import Terms
from ..core.vae import VAE

__all__ = ["terms_given_q"]


def terms_given_q(
    vae: VAE,
    x: np.ndarray,
    mu: np.ndarray,
    logvar: np.ndarray,
    eps: np.ndarray,
    weights: np.ndarray,
) -> tuple[Terms, Callable]:
    """Batch means of the two terms of Eq. (11) for any q = N(μ, σ²), and their pullback.

    E_q[log p_θ(x|z)] ≈ Σ_l w_l log p_θ(x|μ + σ ε_l)

    The encoder gives one such q for each x; variational inference per datapoint finds others.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    mu, logvar : (B, J) array
    eps : (L, 1, J) or (L, B, J) array
        Nodes of a rule for N(0, I).
    weights : (L,) array
        Its weights, which sum to 1.

    Returns
    -------
    terms : Terms
        Two floats.
    pull : callable
        `pull(gradient=None, into_q=True) -> (dmu, dlogvar)`; if a gradient is given, it writes
        that in θ; without `into_q` the rest is left out.
    """
    z, pull_z = reparameterize(mu, logvar, eps)
    log_px, pull_decoder = vae.log_likelihood(x, z)
    kl, pull_kl = gaussian_kl(mu, logvar)
    B = len(x)
    px_shares = np.repeat(weights[:, None] / B, B, axis=1).astype(log_px.dtype)  # (L, B)
    kl_shares = np.full(B, 1 / B, kl.dtype)
    terms = Terms(float(np.vdot(px_shares, log_px)), float(np.vdot(kl_shares, kl)))

    def pull(gradient=None, into_q=True):
        dz = pull_decoder(px_shares, gradient, input_gradient=into_q)
        if not into_q:
            return None
        dmu_kl, dlogvar_kl = pull_kl(-kl_shares)
        dmu, dlogvar = pull_z(dz)
        return dmu + dmu_kl, dlogvar + dlogvar_kl

    return terms, pull
