"""Both terms of Eq. (11) for each datapoint, averaged over fresh noise.

Diagnostics and comparisons need the ELBO of each datapoint with a small error, for one or several
q at the same datapoints, and with noise that was not used to fit those q.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..core.distributions import gaussian_kl
from ..core.elbo import Terms
from ..core.vae import VAE
from ..fast.model import weigh_draws
from ..support.parallel import map_rows
from ..support.progress import progress_line
from .importance import check_weights
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
    n_jobs: int | None = None,
    progress: bool = False,
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
        Megabytes for the arrays of the decoder, for each worker.
    n_jobs : int, optional
    progress : bool
    """
    pairs = -(-n_samples // 2)
    blocks = row_slices(vae, len(x), 2 * pairs, memory)
    arrays = [x, *(array for q in qs for array in q)]
    with progress_line(len(blocks), "block", progress) as advance:
        work = partial(_block_terms, vae, pairs, purpose, seed)
        parts = map_rows(work, blocks, arrays, n_jobs, advance)
    return [Terms(*terms) for terms in np.concatenate(parts, axis=-1)]  # (len(qs), 2, N)


def _block_terms(
    vae: VAE,
    pairs: int,
    purpose: int,
    seed: int,
    x: np.ndarray,
    *qs: np.ndarray,
    advance: Callable[[str], None],
) -> np.ndarray:
    """Return both terms of each row of a block for each q, (len(qs) / 2, 2, B)."""
    x = x.astype(vae.dtype, copy=False)
    half = RowStreams(seed, purpose, x, pairs, vae.latent_dim, vae.dtype).normal()
    eps = np.concatenate([half, -half])
    found = []
    for mu, logvar in zip(qs[::2], qs[1::2]):
        kl, _ = gaussian_kl(mu, logvar)
        log_w = check_weights(weigh_draws(vae, x, mu, logvar, eps))
        found.append((log_w.mean(axis=0, dtype=float) + kl, kl))
    advance("")
    return np.array(found, dtype=float)
