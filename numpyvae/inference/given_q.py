"""The ELBO for any diagonal Gaussian q, by a quadrature rule for the expectation."""

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
) -> tuple[Terms[float], Callable]:
    """Return the batch means of the two terms of Eq. (11) for any q = N(μ, σ²), and a pullback.

    E_q[log p_θ(x|z)] ≈ Σ_l w_l log p_θ(x|μ + σ ε_l)

    q can be that of the encoder, or that of variational inference for each datapoint.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    mu, logvar : (B, J) array
    eps : (L, 1, J) or (L, B, J) array
        The nodes of a quadrature rule for N(0, I).
    weights : (L,) array
        The weights of the rule, which sum to 1.

    Returns
    -------
    terms : Terms
        Two floats.
    pull : callable
        `pull(gradient=None, into_q=True) -> (dmu, dlogvar)`, the derivatives of the ELBO in μ
        and log σ². If `gradient` is given, the derivatives in θ are written to it. With
        `into_q=False` only these are computed, and `pull` returns None.
    """
    z, pull_z = reparameterize(mu, logvar, eps)
    log_px, pull_log_px = vae.log_likelihood(x, z)
    kl, pull_kl = gaussian_kl(mu, logvar)
    B = len(x)
    px_shares = np.repeat(weights[:, None] / B, B, axis=1).astype(log_px.dtype)  # (L, B)
    kl_shares = np.full(B, 1 / B, kl.dtype)
    terms = Terms(float(np.vdot(px_shares, log_px)), float(np.vdot(kl_shares, kl)))

    def pull(gradient=None, into_q=True):
        dz = pull_log_px(px_shares, gradient, input_gradient=into_q)
        if not into_q:
            return None
        dmu_kl, dlogvar_kl = pull_kl(-kl_shares)
        dmu, dlogvar = pull_z(dz)
        return dmu + dmu_kl, dlogvar + dlogvar_kl

    return terms, pull
