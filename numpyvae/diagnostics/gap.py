"""The two causes of a loose bound: the family of q, and the encoder (Cremer, Li & Duvenaud 2018).

    log p(x) − ELBO(q_φ)  =  log p(x) − ELBO(q*)     approximation gap: the posterior is not a
                                                      diagonal Gaussian
                          +  ELBO(q*) − ELBO(q_φ)     amortization gap: the encoder does not give
                                                      the best q for each x

q* is the best diagonal Gaussian for each datapoint, argmin_q KL(q ‖ p_θ(z|x)) of Eq. (5). By
Eq. (8) the approximation gap is KL(q* ‖ p_θ(z|x)). Both gaps are at least 0.

**q* is fitted with one set of draws and evaluated with another.** With the draws of the fit its
ELBO would be too high, because q* is adapted to them. With new draws the estimate of ELBO(q*) is
unbiased for the q that was found. If the search does not reach the best q, the amortization gap is
too small, and the approximation gap is too large by the same amount.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bounds.streams import row_slices
from ..bounds.terms import row_terms
from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed
from ..support.progress import progress_line
from ..support.statistics import mean_and_error, plus_minus
from ..support.streams import Purpose

if TYPE_CHECKING:
    from ..exact import ExactModel

__all__ = ["GapDecomposition", "decompose_gap"]


@dataclass(frozen=True)
class GapDecomposition:
    """The result of `decompose_gap` (Cremer et al. 2018), in nats per datapoint.

    Attributes
    ----------
    log_likelihood : (N,) array
        log p(x), or an estimate of it.
    best_elbo, elbo : (N,) arrays
        The ELBO of q* and of the encoder's q_φ, from the same new draws.
    mu, logvar : (N, J) arrays
        μ and log σ² of q*.
    source : str
        The source of `log_likelihood`, in words.

    Examples
    --------
    >>> ones, zeros = np.ones(2), np.zeros((2, 1))
    >>> gap = GapDecomposition(-3 * ones, -4 * ones, -4.5 * ones, zeros, zeros, "by hand")
    >>> gap.approximation, gap.amortization        # means with their standard errors
    ((1.0, 0.0), (0.5, 0.0))
    """

    log_likelihood: np.ndarray
    best_elbo: np.ndarray
    elbo: np.ndarray
    mu: np.ndarray
    logvar: np.ndarray
    source: str

    @property
    def total(self) -> tuple[float, float]:
        """Mean of log p(x) − ELBO(q_φ), and its standard error over the datapoints."""
        return mean_and_error(self.log_likelihood - self.elbo)

    @property
    def approximation(self) -> tuple[float, float]:
        """Mean of log p(x) − ELBO(q*), and its standard error over the datapoints."""
        return mean_and_error(self.log_likelihood - self.best_elbo)

    @property
    def amortization(self) -> tuple[float, float]:
        """Mean of ELBO(q*) − ELBO(q_φ), and its standard error over the datapoints."""
        return mean_and_error(self.best_elbo - self.elbo)

    def __str__(self) -> str:
        total, approximation, amortization = (
            plus_minus(*pair, 3) for pair in (self.total, self.approximation, self.amortization)
        )
        return (
            f"log p(x) − ELBO {total} = approximation {approximation} + amortization "
            f"{amortization} nats per datapoint ({len(self.elbo)} datapoints, log p(x) "
            f"{self.source})"
        )


def decompose_gap(
    vae: VAE,
    x: Any,
    log_likelihood: ExactModel | Any = None,
    *,
    n_samples: int = 500,
    n_nodes: int | None = None,
    max_iterations: int = 100,
    n_temperatures: int = 300,
    n_chains: int = 8,
    seed: int = 0,
    memory: float = 64.0,
    progress: bool = False,
) -> GapDecomposition:
    """Split log p(x) − ELBO into the approximation gap and the amortization gap.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    log_likelihood : ExactModel or (N,) array_like, optional
        log p(x): an exact model that computes it, as `numpyvae.exact.exact_model` returns, or its
        values. By default it is estimated by `annealed_log_likelihood`, a lower bound. The
        approximation gap is then too small by the error of this bound, which `sandwich` estimates.
    n_samples : int
        The number of new draws of z for each datapoint, from which both ELBOs are estimated; an
        odd number is rounded up.
    n_nodes : int, optional
        n of `noise_nodes`, for the search for q*: by default 16 for J ≤ 2, and 4 for larger J.
    max_iterations : int
        The largest number of iterations of each quasi-Newton search over (μ, log σ²). It starts at
        the q of the encoder. One search serves a block of rows, so that ELBO(q*) of a row depends
        on the others by what the search leaves open, some 1e-4 nats in float32.
    n_temperatures, n_chains : int
        Settings of `annealed_log_likelihood`; not used if `log_likelihood` is given.
    seed : int
    memory : float
        Megabytes for the arrays of the decoder and its gradient.
    progress : bool
        Show progress lines on standard error.

    Returns
    -------
    gaps : GapDecomposition

    Raises
    ------
    TypeError, ValueError
        If `x`, `log_likelihood` or a setting is not valid for the model, or the memory is too
        small.

    Examples
    --------
    >>> from numpyvae.exact import exact_model
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(), likelihood="gaussian:0.5")
    >>> gaps = decompose_gap(vae, vae.sample(3), exact_model(vae))
    >>> gaps.best_elbo.shape
    (3,)
    >>> bool(abs(gaps.total[0] - gaps.approximation[0] - gaps.amortization[0]) < 1e-12)
    True
    """
    from ..inference.procedures import (  # here, since it imports SciPy
        noise_nodes,
        variational_inference,
    )

    x = check_data(vae, x)
    n_samples, seed = check_count("n_samples", n_samples), check_seed(seed)
    max_iterations = check_count("max_iterations", max_iterations)
    if n_nodes is None:
        n_nodes = 16 if vae.latent_dim <= 2 else 4
    nodes = noise_nodes(vae.latent_dim, check_count("n_nodes", n_nodes, minimum=2), seed=seed)
    blocks = row_slices(vae, len(x), len(nodes[1]), memory)
    n_samples += n_samples % 2
    row_slices(vae, len(x), n_samples, memory)  # raises if one datapoint does not fit
    log_p, source = _log_likelihood(
        vae, x, log_likelihood, n_temperatures, n_chains, seed, memory, progress
    )
    start = vae.encode(x)
    mu, logvar = np.empty((2, *start[0].shape), vae.dtype)
    with progress_line(len(blocks), "block", progress) as advance:
        for rows in blocks:
            found = variational_inference(vae, x[rows], nodes=nodes, max_iterations=max_iterations)
            mu[rows], logvar[rows] = found.mu, found.logvar
            advance(f"best q, ELBO {found.elbo:.2f}")
    at_best, at_encoder = row_terms(
        vae,
        x,
        (mu, logvar),
        start,
        n_samples=n_samples,
        purpose=Purpose.GAP,
        seed=seed,
        memory=memory,
    )
    return GapDecomposition(log_p, at_best.elbo, at_encoder.elbo, mu, logvar, source)


def _log_likelihood(
    vae: VAE,
    x: np.ndarray,
    given: Any,
    n_temperatures: int,
    n_chains: int,
    seed: int,
    memory: float,
    progress: bool,
) -> tuple[np.ndarray, str]:
    """Return log p(x), (N,), and its source in words."""
    if given is None:
        from ..bounds.ais import annealed_log_likelihood

        bounds = annealed_log_likelihood(
            vae, x, n_temperatures, n_chains, seed=seed, memory=memory, progress=progress
        )
        return bounds.log_lower, "from AIS, a lower bound"
    if hasattr(given, "log_evidence"):
        return given.log_evidence(x), f"of {type(given).__name__}"
    try:
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        values = np.full((), np.nan)
    if values.shape != (len(x),) or not np.isfinite(values).all():
        raise ValueError(
            f"log_likelihood: expected an exact model, or {len(x)} finite numbers, one for each "
            f"row of x, got {type(given).__name__} of shape {np.shape(given)}"
        )
    return values, "as given"
