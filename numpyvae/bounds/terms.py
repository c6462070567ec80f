"""Both terms of Eq. (11) for each datapoint, averaged over fresh noise.

Diagnostics and comparisons need the ELBO of each datapoint with a small error, for one or several
q at the same datapoints, and with noise that was not used to fit those q.
"""

from __future__ import annotations

import numpy as np

from ..core.distributions import gaussian_kl
from ..core.elbo import Terms
from ..core.vae import VAE
from ..fast.model import weigh_draws
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

    Datapoints with different values have independent draws, so that the standard error of a mean
    over datapoints includes the noise of the draws. All q use the same draws, so that most of the
    noise cancels in their differences. The draws come in pairs ±ε, which removes all odd powers of
    ε. The ELBO is that of Eq. (7), the mean of log p_θ(x, z) − log q_φ(z|x), which hardly varies
    with z if q is near the posterior; the KL is in closed form, and the reconstruction is
    ELBO + KL.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array
    *qs : (mu, logvar)
        The parameters of each q: two (N, J) arrays.
    n_samples : int
        The number of draws of z for each datapoint; an odd number is rounded up.
    purpose, seed : int
        These identify the random streams.
    memory : float
        Megabytes for the arrays of the decoder.
    """
    pairs = -(-n_samples // 2)
    result = [Terms(*np.empty((2, len(x)))) for _ in qs]
    for rows in row_slices(vae, len(x), 2 * pairs, memory):
        block = x[rows].astype(vae.dtype, copy=False)
        half = RowStreams(seed, purpose, block, pairs, vae.latent_dim, vae.dtype).normal()
        eps = np.concatenate([half, -half])
        for terms, (mu, logvar) in zip(result, qs):
            kl, _ = gaussian_kl(mu[rows], logvar[rows])
            log_w = weigh_draws(vae, block, mu[rows], logvar[rows], eps)
            terms.kl[rows] = kl
            terms.reconstruction[rows] = log_w.mean(axis=0, dtype=float) + kl
    return result
