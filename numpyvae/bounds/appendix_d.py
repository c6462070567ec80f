"""The marginal-likelihood estimator of Kingma & Welling 2013, appendix D.

Statistics knows it as the estimator of Gelfand & Dey 1994, or reciprocal importance sampling.
For any normalized density q̂(z), averaging over the posterior gives the inverse of the evidence:

    E_{p(z|x)}[q̂(z) / p_θ(x, z)] = ∫ q̂(z) p_θ(x, z) / (p_θ(x) p_θ(x, z)) dz = 1 / p_θ(x)

so that log p(x) ≈ −log (1/S) Σ_s q̂(z_s) / p_θ(x, z_s) with draws z_s from the posterior, made by
Hamiltonian Monte Carlo. q̂ is a Gaussian with full covariance. It is fitted to other draws than
those that are averaged; a fit to the same draws would bias the estimate.

The estimator is useful for few latents. The variance of the average is small only if q̂ has no
mass where the posterior has little, which fails as J grows (the paper uses J = 3, and says below
5). Its bias is upwards, by Jensen's inequality. Chains that have not converged add an error that
the result does not show. The estimator does not need a good encoder, so the paper used it to
compare training methods. For larger J use `sandwich`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed
from ..support.parallel import check_jobs, map_rows
from ..support.progress import progress_line
from ..support.special import log_mean_exp
from ..support.streams import Purpose
from .hmc import sample
from .path import Path
from .streams import RowStreams, row_slices

__all__ = ["FittedEstimate", "fitted_log_likelihood"]


class FittedEstimate(NamedTuple):
    """The result of `fitted_log_likelihood` (Kingma & Welling 2013, appendix D).

    Attributes
    ----------
    log_likelihood : (N,) array of float64
        Nats per datapoint.
    acceptance : (N,) array
        Mean acceptance probability of a move after the burn-in; its target is 0.65.
    seconds : float
        The running time.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=1, hidden=(3,))
    >>> estimate = fitted_log_likelihood(vae, [[0, 1, 1, 0]], n_burn=20)
    >>> estimate.log_likelihood.shape, estimate.acceptance.shape
    ((1,), (1,))
    """

    log_likelihood: np.ndarray
    acceptance: np.ndarray
    seconds: float


def fitted_log_likelihood(
    vae: VAE,
    x: Any,
    n_samples: int = 50,
    n_chains: int = 10,
    *,
    n_leapfrog: int = 4,
    n_burn: int = 200,
    seed: int = 0,
    memory: float = 32.0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> FittedEstimate:
    """Estimate log p(x) from posterior draws and a density fitted to them; for small J.

    −log (1/S) Σ_s q̂(z_s) / p_θ(x, z_s),  z_s ~ p_θ(z|x)   (Kingma & Welling 2013, appendix D)

    The estimator of Gelfand & Dey 1994, "Bayesian model choice: asymptotics and exact
    calculations", Journal of the Royal Statistical Society B 56.

    The draws of one half of the chains are used to fit q̂, those of the other half are averaged.

    Parameters
    ----------
    n_samples : int
        The number of draws of each chain.
    n_chains : int
        The number of chains, at least 2. They start at draws from q_φ(z|x).
    n_leapfrog : int
        The number of leapfrog steps in a Hamiltonian move; 4 in the paper.
    n_burn : int
        The number of moves before the first draw; the step size is adapted only during them.

    Returns
    -------
    estimate : FittedEstimate

    Raises
    ------
    TypeError, ValueError
        Also if there are too few draws to fit a Gaussian.
    FloatingPointError
        If log p(x, z) is not finite at the start of the chains.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> fitted_log_likelihood(vae, [[0, 1, 1, 0]], n_burn=20).log_likelihood.shape
    (1,)
    """
    x = check_data(vae, x)
    n_samples = check_count("n_samples", n_samples)
    C = check_count("n_chains", n_chains, minimum=2)
    n_leapfrog = check_count("n_leapfrog", n_leapfrog)
    n_burn = check_count("n_burn", n_burn)
    seed, n_jobs = check_seed(seed), check_jobs(n_jobs)
    fitted = n_samples * (C // 2)
    if fitted < 2 * (vae.latent_dim + 1):
        raise ValueError(
            f"n_samples: expected at least {2 * (vae.latent_dim + 1)} draws to fit a Gaussian of "
            f"{vae.latent_dim} dimensions, got {n_samples} from each of {C // 2} chains"
        )
    start = time.perf_counter()
    blocks = row_slices(vae, len(x), C, memory, kept=4 * n_samples * C * (vae.latent_dim + 1))
    work = partial(_fitted_block, vae, n_samples, C, n_leapfrog, n_burn, seed)
    with progress_line(len(blocks) * (n_burn + n_samples), "move", progress) as advance:
        parts = map_rows(work, blocks, [x], n_jobs, advance)
    result, acceptance = (np.concatenate(part) for part in zip(*parts))
    return FittedEstimate(result, acceptance, time.perf_counter() - start)


def _fitted_block(
    vae: VAE,
    n_samples: int,
    C: int,
    n_leapfrog: int,
    n_burn: int,
    seed: int,
    x: np.ndarray,
    *,
    advance: Callable[[str], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the estimates and the acceptance of one block, (B,) each."""
    x = x.astype(vae.dtype)
    path = Path(vae, x, "encoder")
    draws = RowStreams(seed, Purpose.POSTERIOR_CHAINS, x, C, vae.latent_dim, vae.dtype)
    point = path.start(1.0, path.draw(draws.normal()))
    samples = sample(
        path.density(1.0),
        point.z,
        n_samples,
        draws,
        n_leapfrog=n_leapfrog,
        n_burn=n_burn,
        advance=advance,
    )
    log_q = _fitted_log_density(samples.z[:, : C // 2], samples.z[:, C // 2 :])
    log_ratio = log_q - samples.log_p[:, C // 2 :]
    estimates = -log_mean_exp(log_ratio.reshape(-1, log_ratio.shape[-1]))
    return estimates, samples.acceptance


def _fitted_log_density(to_fit: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Fit a Gaussian to draws (S, C, B, J) of each datapoint, and evaluate it at other draws.

    Returns
    -------
    log_q : (S, C′, B) array of float64
        Nats, for `z` of shape (S, C′, B, J).
    """
    rows = to_fit.reshape(-1, *to_fit.shape[-2:]).astype(float)  # (S, C, B, J) → (S·C, B, J)
    mean = rows.mean(axis=0)
    deviation = rows - mean
    cov = np.einsum("sbi,sbj->bij", deviation, deviation) / (len(rows) - 1)
    try:
        factor = np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        raise ValueError(
            "n_samples: expected posterior draws with a covariance of full rank, got chains that "
            "hardly moved; increase n_samples or n_burn"
        ) from None
    white = np.linalg.solve(factor, (z - mean)[..., None])[..., 0]
    log_scale = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    return -0.5 * (white * white + math.log(2 * math.pi)).sum(axis=-1) - log_scale
