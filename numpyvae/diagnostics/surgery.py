"""ELBO surgery: the two parts of the KL term (Hoffman & Johnson 2016).

With the aggregate posterior of N datapoints, q(z) = (1/N) Σ_n q_φ(z|x_n),

    (1/N) Σ_n KL(q_φ(z|x_n) ‖ p(z))  =  I_q(n; z)  +  KL(q(z) ‖ p(z))

    I_q(n; z)        = E[log q(z|x_n) − log q(z)]   information in z about n; at most log N
    KL(q(z) ‖ p(z))  = E[log q(z) − log p(z)]       distance of the codes from the prior

where n is uniform and z ~ q_φ(z|x_n). Only the first part is information about the datapoint. The
second part is positive if the prior does not fit the codes. Both are at least 0.

The estimate of log q(z|x_n) − log p(z) from draws differs from the closed-form KL by noise with
mean 0. The noise is removed from the first part by regression (a control variate), and the second
part is the KL minus the first. So the identity is exact up to rounding, and both parts have less
noise than plain averages.

Bias. log q(z) is computed from all N components, including the one from which z is drawn. So both
estimates are unbiased for these N rows, apart from the regression, whose bias is of the order of 1
over the number of draws. They are biased for the distribution from which the rows come: I_q(n; z)
is at most log N and increases with N towards I_q(x; z), and KL(q(z) ‖ p(z)) decreases by the same
amount. If I_q is close to log N, this shows only that the codes of these rows do not overlap.

Standard errors. They treat the rows as a random sample, and include the noise of the draws. All
rows share q(z), but to first order this adds nothing: if one more row changes q(z) by δq, the
log q(z) of the others changes by δq/q, and the mean of δq/q under q is ∫ δq dz = 0. As errors for
these N rows alone they are too large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bounds.streams import RowStreams, how_many
from ..core.distributions import gaussian_kl
from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed, row_blocks
from ..support.progress import progress_line
from ..support.special import log_mean_exp
from ..support.statistics import mean_and_error, plus_minus
from ..support.streams import Purpose

__all__ = ["ElboSurgery", "elbo_surgery"]

_TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class ElboSurgery:
    """The result of `elbo_surgery` (Hoffman & Johnson 2016), in nats per datapoint.

    Attributes
    ----------
    kl : (N,) array
        KL(q_φ(z|x_n) ‖ p(z)) in closed form.
    mutual_information : (N,) array
        The contribution of each datapoint; the mean over the datapoints is I_q(n; z).

    Examples
    --------
    >>> surgery = ElboSurgery(kl=np.array([2.0, 4.0]), mutual_information=np.array([0.5, 0.7]))
    >>> surgery.marginal_kl
    array([1.5, 3.3])
    """

    kl: np.ndarray
    mutual_information: np.ndarray

    @property
    def marginal_kl(self) -> np.ndarray:
        """The contribution of each datapoint to KL(q(z) ‖ p(z)), (N,)."""
        return self.kl - self.mutual_information

    @property
    def information(self) -> tuple[float, float]:
        """I_q(n; z) and its standard error."""
        return mean_and_error(self.mutual_information)

    @property
    def mismatch(self) -> tuple[float, float]:
        """KL(q(z) ‖ p(z)) and its standard error."""
        return mean_and_error(self.marginal_kl)

    @property
    def most(self) -> float:
        """log N, the largest possible value of I_q(n; z)."""
        return math.log(len(self.kl))

    def __str__(self) -> str:
        information, mismatch = (
            plus_minus(*pair, 3) for pair in (self.information, self.mismatch)
        )
        return (
            f"KL {self.kl.mean():.3f} = information {information} (at most log N = "
            f"{self.most:.3f}) + KL of the aggregate posterior {mismatch} nats per datapoint "
            f"({len(self.kl)} datapoints)"
        )


def elbo_surgery(
    vae: VAE,
    x: Any,
    *,
    n_samples: int = 1,
    seed: int = 0,
    memory: float = 32.0,
    progress: bool = False,
) -> ElboSurgery:
    """Split the KL of Eq. (11) into information and the mismatch of the aggregate posterior.

    The time is proportional to N²: one or two seconds for N = 10,000. The memory is limited.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
        The rows whose mean of q_φ(z|x_n) is q(z).
    n_samples : int
        The number of draws of z from each q_φ(z|x_n).
    seed : int
    memory : float
        Megabytes for the densities that are computed at the same time.
    progress : bool
        Show a progress line on standard error.

    Returns
    -------
    parts : ElboSurgery

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not valid for the model, or the memory is too small.

    Examples
    --------
    >>> import numpy as np
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> parts = elbo_surgery(vae, np.eye(4), n_samples=100)
    >>> parts.information[0] <= parts.most
    True
    """
    x = check_data(vae, x)
    S, seed = check_count("n_samples", n_samples), check_seed(seed)
    mu, logvar = (part.astype(float) for part in vae.encode(x))
    N, J = mu.shape
    eps = np.concatenate(
        [
            RowStreams(seed, Purpose.SURGERY, rows, S, J, np.dtype(float)).normal()
            for rows in (block.astype(vae.dtype, copy=False) for block in row_blocks(x))
        ],
        axis=1,
    )
    z = mu + np.exp(0.5 * logvar) * eps
    log_own = -0.5 * (eps * eps + logvar).sum(axis=-1)  # (S, N), without log (2π)^(−J/2)
    log_prior = -0.5 * (z * z).sum(axis=-1)  # likewise
    log_q = np.empty((S, N))
    mixture = _Mixture(mu, logvar)
    most = how_many(memory, 3 * 8e-6 * N, f"one draw and the {N} components of q(z)")
    blocks = [(s, i, min(i + most, N)) for s in range(S) for i in range(0, N, most)]
    with progress_line(len(blocks), "block", progress) as advance:
        for s, i, j in blocks:
            log_q[s, i:j] = mixture.log_density(z[s, i:j], log_own[s, i:j], i)
            advance("")
    kl, _ = gaussian_kl(mu, logvar)
    information = log_own - log_q
    noise = log_own - log_prior - kl  # of mean 0
    slope = np.vdot(noise - noise.mean(), information) / max(noise.size * noise.var(), _TINY)
    return ElboSurgery(kl, (information - slope * noise).mean(axis=0))


class _Mixture:
    """q(z) = (1/N) Σ_m N(z; μ_m, σ_m²), without the constant (2π)^(−J/2).

    Σ_j (z_j − μ_j)²/σ_j² = [z², z] · [1/σ², −2μ/σ²] + Σ_j μ_j²/σ_j², which is one matrix product
    for all pairs of z and component.
    """

    def __init__(self, mu: np.ndarray, logvar: np.ndarray) -> None:
        self.center = mu.mean(axis=0)  # smaller z and μ lose fewer digits in the difference
        mu, precision = mu - self.center, np.exp(-logvar)
        self.factors = np.concatenate([precision, -2 * mu * precision], axis=1).T  # (2J, N)
        self.squares = (mu * mu * precision).sum(axis=1)
        self.log_scale = -0.5 * logvar.sum(axis=1)

    def log_density(self, z: np.ndarray, log_own: np.ndarray, first: int) -> np.ndarray:
        """Return log q(z), (B,), for draws from the components `first`, `first` + 1, …

        The log density of z in its own component is known from the noise, without a difference of
        squares. So q(z) ≥ q(z|x_n)/N is true up to rounding, and I_q ≤ log N.
        """
        z = z - self.center
        log_q = np.concatenate([z * z, z], axis=1) @ self.factors
        log_q += self.squares
        np.maximum(log_q, 0, out=log_q)
        log_q *= -0.5
        log_q += self.log_scale
        own = np.arange(len(z))
        log_q[own, first + own] = log_own
        return log_mean_exp(log_q.T)
