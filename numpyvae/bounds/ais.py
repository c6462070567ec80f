"""Annealed importance sampling: a lower and an upper bound on log p(x) that are close together.

Chains that are annealed in many small steps from a Gaussian to the posterior have weights w with
E[w] = p(x) (Neal 2001), so by Jensen's inequality

    E[log (1/C) Σ_c w_c] ≤ log p(x)                              the lower bound

Chains that are annealed in reverse, from an exact posterior draw to the Gaussian, have weights
with E[w] = 1/p(x), and

    log p(x) ≤ E[−log (1/C) Σ_c w_c]                             the upper bound

Exact posterior draws exist for simulated data: if z ~ p(z) and x ~ p(x|z), then z is a draw from
p(z|x). For such data log p(x) lies between the two bounds (bidirectional Monte Carlo: Grosse,
Ghahramani & Adams 2015; for decoders, Wu et al. 2016). For other data there is only the lower
bound. The gap on simulated data tells how close it is, if the simulated data resemble the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..support.blocks import in_decoder_blocks
from ..support.checks import (
    check_choice,
    check_count,
    check_data,
    check_rows,
    check_seed,
    check_vae,
)
from ..support.parallel import check_jobs, map_rows
from ..support.progress import progress_line
from ..support.special import log_mean_exp
from ..support.statistics import mean_and_error, plus_minus
from ..support.streams import Purpose, Seed, generator
from .annealing import (
    PILOT_CHAINS,
    anneal,
    check_temperatures,
    n_moves,
    sigmoid_temperatures,
    tune,
)
from .path import Path
from .streams import RowStreams, row_slices

__all__ = ["AnnealedBounds", "annealed_log_likelihood", "sandwich", "simulate"]


@dataclass(frozen=True)
class AnnealedBounds:
    """The result of `annealed_log_likelihood` and `sandwich` (Grosse, Ghahramani & Adams 2015).

    Attributes
    ----------
    log_lower : (N,) array
        Nats per datapoint; at most log p(x) in expectation.
    log_upper : (N,) array or None
        At least log p(x) in expectation; None if no posterior draws were given.
    acceptance : (N,) array
        Mean acceptance probability of a move; its target is 0.65. Where it is far from the target
        the bounds are valid, but may be loose.
    n_temperatures : int
        The number of intermediate distributions.
    n_chains : int
        C, the number of chains for each datapoint and direction.
    seconds : float
        The running time.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> bounds = annealed_log_likelihood(vae, [[0, 1, 1, 0]], n_temperatures=20, n_chains=4)
    >>> bounds.upper is None, bounds.n_temperatures
    (True, 20)
    """

    log_lower: np.ndarray
    log_upper: np.ndarray | None
    acceptance: np.ndarray
    n_temperatures: int
    n_chains: int
    seconds: float

    @property
    def lower(self) -> tuple[float, float]:
        """Mean lower bound and its standard error over the datapoints."""
        return mean_and_error(self.log_lower)

    @property
    def upper(self) -> tuple[float, float] | None:
        """Mean upper bound and its standard error over the datapoints, if there is one."""
        return None if self.log_upper is None else mean_and_error(self.log_upper)

    @property
    def gap(self) -> tuple[float, float] | None:
        """Mean of upper − lower, and its standard error over the datapoints.

        The bounds are ordered in expectation: the estimate of a small gap can be negative.
        """
        if self.log_upper is None:
            return None
        return mean_and_error(self.log_upper - self.log_lower)

    def __str__(self) -> str:
        how = (
            f"{len(self.log_lower)} datapoints, {self.n_temperatures} intermediate distributions, "
            f"{self.n_chains} chains, acceptance {self.acceptance.mean():.2f}, "
            f"{self.seconds:.1f} s"
        )
        lower = plus_minus(*self.lower, 3)
        if self.upper is None or self.gap is None:
            return f"log p(x) ≥ {lower} nats per datapoint, no upper bound ({how})"
        upper, gap = (plus_minus(*pair, 3) for pair in (self.upper, self.gap))
        return f"{lower} ≤ log p(x) ≤ {upper} nats per datapoint, gap {gap} ({how})"


def annealed_log_likelihood(
    vae: VAE,
    x: Any,
    n_temperatures: int = 1000,
    n_chains: int = 16,
    *,
    temperatures: Any = None,
    n_leapfrog: int = 3,
    initial: str = "encoder",
    posterior: Any = None,
    seed: int = 0,
    memory: float | None = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> AnnealedBounds:
    """Bound log p(x) from below by annealed importance sampling, and from above if possible.

    The intermediate distributions are spaced as in Wu et al. 2016.

    Parameters
    ----------
    temperatures : sequence of float, optional
        Increasing inverse temperatures from 0 to 1, used in place of `n_temperatures`.
    n_leapfrog : int
        The number of leapfrog steps in a Hamiltonian move; each takes one gradient of the decoder.
    initial : {"encoder", "prior"}
        The distribution at the start of the path: q_φ(z|x), or p(z) as in the literature, which
        does not depend on the quality of the encoder. The bounds are valid for both.
    posterior : (N, J) array_like, optional
        An exact draw from p(z|x) for each row, where the reverse chains start.

    Returns
    -------
    bounds : AnnealedBounds

    Raises
    ------
    FloatingPointError
        If log p(x, z) is not finite at the start of the chains.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> bounds = annealed_log_likelihood(vae, [[0, 1, 1, 0]], n_temperatures=20, n_chains=4)
    >>> bounds.log_lower.shape
    (1,)
    """
    x = check_data(vae, x)
    if temperatures is None:
        betas = sigmoid_temperatures(check_count("n_temperatures", n_temperatures))
    else:
        betas = check_temperatures(temperatures)
    C = check_count("n_chains", n_chains)
    n_leapfrog = check_count("n_leapfrog", n_leapfrog)
    check_choice("initial", initial, ("encoder", "prior"))
    seed = check_seed(seed)
    if posterior is not None:
        posterior = check_rows(posterior, vae.latent_dim, "posterior", vae.dtype, len(x))
    n_jobs = check_jobs(n_jobs)
    blocks = row_slices(vae, len(x), max(C, PILOT_CHAINS), memory)
    start = time.perf_counter()
    pilot_moves, moves = n_moves(betas)
    total = len(blocks) * (pilot_moves + moves * (1 if posterior is None else 2))
    work = partial(_anneal_block, vae, betas, C, n_leapfrog, initial, seed)
    arrays = [x] if posterior is None else [x, posterior]
    with progress_line(total, "move", progress) as advance:
        parts = map_rows(work, blocks, arrays, n_jobs, advance)
    lower, upper, acceptance = (np.concatenate(part) for part in zip(*parts))
    above = None if posterior is None else upper
    return AnnealedBounds(lower, above, acceptance, moves, C, time.perf_counter() - start)


def _anneal_block(
    vae: VAE,
    betas: np.ndarray,
    C: int,
    n_leapfrog: int,
    initial: str,
    seed: int,
    x: np.ndarray,
    posterior: np.ndarray | None = None,
    *,
    advance: Callable[[str], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower bound, upper bound (NaN without posterior draws) and acceptance, (B,) each."""
    x = x.astype(vae.dtype)

    def streams(purpose, n):
        return RowStreams(seed, purpose, x, n, vae.latent_dim, vae.dtype)

    path = Path(vae, x, initial)
    steps = None
    if len(betas) > 2:
        pilot = streams(Purpose.ANNEAL_PILOT, PILOT_CHAINS)
        steps = tune(path, betas, n_leapfrog, pilot, advance)
    draws = streams(Purpose.ANNEAL_FORWARD, C)
    point = path.start(0.0, path.draw(draws.normal()))
    log_w, acceptance = anneal(path, point, betas, steps, n_leapfrog, draws, advance)
    lower, upper = log_mean_exp(log_w), np.full(len(x), np.nan)
    if posterior is not None:
        z = np.repeat(posterior[None].astype(vae.dtype), C, axis=0)
        point, draws = path.start(1.0, z), streams(Purpose.ANNEAL_REVERSE, C)
        log_w, reverse = anneal(path, point, betas[::-1], steps, n_leapfrog, draws, advance)
        upper = -log_mean_exp(log_w)
        acceptance = 0.5 * (acceptance + reverse)
    return lower, upper, acceptance


def sandwich(
    vae: VAE,
    n: int = 100,
    n_temperatures: int = 1000,
    n_chains: int = 16,
    *,
    seed: int = 0,
    **settings: Any,
) -> AnnealedBounds:
    """Bound log p(x) from below and from above, on data that the model itself simulates.

    The gap between the bounds tells how tight `annealed_log_likelihood` is with the same settings:
    bidirectional Monte Carlo (Grosse, Ghahramani & Adams 2015).

    Parameters
    ----------
    n : int
        The number of datapoints to simulate.
    **settings : dict
        Further arguments of `annealed_log_likelihood`.

    Returns
    -------
    bounds : AnnealedBounds

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> bounds = sandwich(vae, n=3, n_temperatures=20, n_chains=4)
    >>> bounds.log_lower.shape, bounds.log_upper.shape
    ((3,), (3,))
    """
    x, z = simulate(vae, n, seed)
    return annealed_log_likelihood(
        vae, x, n_temperatures, n_chains, posterior=z, seed=seed, **settings
    )


def simulate(vae: VAE, n: int, seed: Seed = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw data together with the latents that generated them.

    z ~ p(z), x ~ p_θ(x|z): so (x, z) ~ p_θ(x, z) of Eq. (1), and z is an exact draw from p_θ(z|x).

    Parameters
    ----------
    n : int
        The number of rows.
    seed : int, numpy.random.Generator or None
        A number gives the same draws in each call, a generator goes on, None draws anew.

    Returns
    -------
    x : (n, D) array
    z : (n, J) array

    Examples
    --------
    >>> x, z = simulate(VAE(data_dim=4, latent_dim=2, hidden=(3,)), 5)
    >>> x.shape, z.shape
    ((5, 4), (5, 2))
    """
    check_vae(vae)
    n = check_count("n", n)
    rng = generator(seed, Purpose.SIMULATE)
    z = rng.standard_normal((n, vae.latent_dim), vae.dtype)
    x = in_decoder_blocks(vae, lambda out: vae.likelihood.draw(out, vae.parameters, rng), z)
    return x, z
