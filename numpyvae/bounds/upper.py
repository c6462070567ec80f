"""Upper bounds on log p(x), and how well they can be estimated.

With the weight w(z) = p_θ(x, z) / q_φ(z|x), two integrals are at least log p(x), as the ELBO is at
most log p(x):

    EUBO   = E_{p(z|x)}[log w]         = log p(x) + KL(p_θ(z|x) ‖ q_φ(z|x))
    CUBO_n = (1/n) log E_q[w^n], n ≥ 1 = log p(x) + (1/n) log E_q[(p_θ(z|x)/q_φ(z|x))^n]

The EUBO needs draws from the posterior; the average over them is an unbiased estimate. The CUBO
(Dieng, Tran, Ranganath, Paisley & Blei 2017) needs only draws from q, but the logarithm of an
average is biased downwards, by Jensen's inequality: see `cubo`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..estimators.weights import weigh
from ..support.checks import check_count, check_data, check_positive, check_rows, check_seed
from ..support.parallel import check_jobs, map_rows
from ..support.progress import progress_line
from ..support.streams import Purpose
from .importance import check_weights, log_mean_weights
from .streams import row_slices

__all__ = ["cubo", "eubo"]


def eubo(
    vae: VAE,
    x: Any,
    posterior: Any,
    *,
    memory: float = 32.0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Estimate the evidence upper bound E_{p(z|x)}[log p_θ(x, z) − log q_φ(z|x)] ≥ log p(x).

    It exceeds log p(x) by KL(p_θ(z|x) ‖ q_φ(z|x)), which has the arguments of Eq. (8) exchanged.
    If q is too narrow, or misses a mode of the posterior, the EUBO is far from log p(x), while the
    ELBO may be near it.

    Parameters
    ----------
    posterior : (N, J) or (L, N, J) array_like
        Exact draws from p_θ(z|x), as `simulate` returns them with x. With other draws, from q or
        from a chain that has not converged, the result is not a bound.

    Returns
    -------
    eubo : (N,) array of float64
        Nats per datapoint; at least log p(x) in expectation. The value from one draw can be lower.

    Examples
    --------
    >>> from numpyvae.bounds import simulate
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, z = simulate(vae, 5)
    >>> eubo(vae, x, z).shape
    (5,)
    """
    x = check_data(vae, x)
    z, n_jobs = _posterior_draws(posterior, x.shape[0], vae), check_jobs(n_jobs)
    blocks = row_slices(vae, x.shape[0], z.shape[0], memory)
    with progress_line(len(blocks), "block", progress) as advance:
        arrays = [x, z.swapaxes(0, 1)]  # (L, N, J) → (N, L, J)
        return np.concatenate(map_rows(partial(_eubo_block, vae), blocks, arrays, n_jobs, advance))


def _eubo_block(
    vae: VAE, x: np.ndarray, z: np.ndarray, *, advance: Callable[[str], None]
) -> np.ndarray:
    """Return the mean log weight of each row of a block at its posterior draws z, (B, L, J)."""
    x, z = x.astype(vae.dtype), np.ascontiguousarray(z.swapaxes(0, 1), vae.dtype)
    (mu, logvar), _ = vae.encoder(x)
    eps = (z - mu) * np.exp(-0.5 * logvar)
    log_w = check_weights(weigh(vae, x, mu, logvar, eps).log_w)
    advance("")
    return log_w.mean(axis=0, dtype=float)


def _posterior_draws(posterior: Any, rows: int, vae: VAE) -> np.ndarray:
    """Return the posterior draws as an array (L, N, J), after a check."""
    expected = f"({rows}, {vae.latent_dim}) or (L, {rows}, {vae.latent_dim})"
    try:
        shape = np.shape(posterior)
    except ValueError:
        raise ValueError(f"posterior: expected shape {expected}, got a ragged list") from None
    if len(shape) not in (2, 3) or not all(shape) or shape[-2:] != (rows, vae.latent_dim):
        raise ValueError(
            f"posterior: expected shape {expected}, draws of z for each row of x, got {shape}"
        )
    z = posterior if np.ma.isMaskedArray(posterior) else np.asarray(posterior)
    flat = check_rows(z.reshape(-1, vae.latent_dim), name="posterior", dtype=vae.dtype)
    return flat.reshape(-1, rows, vae.latent_dim)  # (L·N, J) → (L, N, J)


def cubo(
    vae: VAE,
    x: Any,
    n_importance: int = 500,
    order: float = 2.0,
    *,
    seed: int = 0,
    memory: float | None = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Estimate the χ² upper bound CUBO_n = (1/n) log E_q[w^n] from K draws of q.

    CUBO_2 = ½ log E_q[w²] = log p(x) + ½ log(1 + χ²(p_θ(z|x) ‖ q_φ(z|x)))

    **The estimate is not an upper bound.** The logarithm of an average of K terms is too low in
    expectation, and most of E_q[w²] comes from rare draws, where q is small and p(x, z) is not.
    The estimate increases with K and tends to the bound, but often needs far more draws than are
    possible; at K = 1 it is the ELBO, a lower bound. Use it as a diagnostic of q: if it still
    increases with K, q misses part of the posterior. `sandwich` gives an upper bound with any
    settings.

    Parameters
    ----------
    n_importance : int
        K, the number of draws per datapoint.
    order : float
        n, at least 1. A larger n gives a looser bound, which is harder to estimate.

    Returns
    -------
    cubo : (N,) array of float64
        Nats per datapoint.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> cubo(vae, [[0, 1, 1, 0]], 50).shape
    (1,)
    """
    x = check_data(vae, x)
    K = check_count("n_importance", n_importance)
    order = check_positive("order", order)
    if order < 1:
        raise ValueError(f"order: expected at least 1, got {order:g}; below 1 it is a lower bound")
    seed, n_jobs = check_seed(seed), check_jobs(n_jobs)
    log_mean = log_mean_weights(
        vae, x, K, Purpose.CUBO, seed, memory, n_jobs, progress, power=order
    )
    return log_mean / order
