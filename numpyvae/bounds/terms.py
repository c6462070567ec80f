"""Both terms of Eq. (11) for each datapoint, averaged over noise that nothing was fitted to."""

from __future__ import annotations

import numpy as np

from ..core.distributions import gaussian_kl
from ..core.elbo import Terms
from ..core.vae import VAE
from .importance import log_weights
from .streams import RowStreams, row_slices

__all__ = ["row_terms"]


def row_terms(
    vae: VAE,
    x: np.ndarray,
    *qs: tuple[np.ndarray, np.ndarray],
    n_samples: int,
    purpose: int,
    seed: int,
    memory: float = 32.0,
) -> list[Terms]:
    """Return reconstruction and KL of each datapoint, (N,), for each given q = N(μ, σ²).

    Every datapoint has draws of its own, so that the standard error of a mean over datapoints
    holds the noise of the draws too; the several q share them, so that it leaves their difference.
    The draws come in pairs ±ε, which takes out all odd powers of ε. And the ELBO is that of
    Eq. (7), the mean of log p_θ(x, z) − log q_φ(z|x), which hardly varies with z where q is near
    the posterior; the KL is in closed form, and the reconstruction is ELBO + KL.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array
    *qs : (mu, logvar)
        Two (N, J) arrays each.
    n_samples : int
        Draws of z for each datapoint; an odd number is rounded up.
    purpose, seed : int
        Of the random streams.
    memory : float
        Megabytes for what the decoder needs at a time.
    """
    pairs = -(-n_samples // 2)
    result = [Terms(*np.empty((2, len(x)))) for _ in qs]
    for rows in row_slices(vae, len(x), 2 * pairs, memory):
        half = RowStreams(seed, purpose, rows, pairs, vae.latent_dim, vae.dtype).normal()
        eps = np.concatenate([half, -half])
        block = x[rows].astype(vae.dtype, copy=False)
        for terms, (mu, logvar) in zip(result, qs):
            kl, _ = gaussian_kl(mu[rows], logvar[rows])
            log_w = log_weights(vae, block, mu[rows], logvar[rows], eps)
            terms.kl[rows] = kl
            terms.reconstruction[rows] = log_w.mean(axis=0, dtype=float) + kl
    return result
