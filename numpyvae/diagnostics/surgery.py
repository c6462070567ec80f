"""ELBO surgery: what the KL term is made of (Hoffman & Johnson 2016).

With the aggregate posterior of N datapoints, q(z) = (1/N) Σ_n q_φ(z|x_n),

    (1/N) Σ_n KL(q_φ(z|x_n) ‖ p(z))  =  I_q(n; z)  +  KL(q(z) ‖ p(z))

    I_q(n; z)        = E[log q(z|x_n) − log q(z)]   which datapoint z came from; at most log N
    KL(q(z) ‖ p(z))  = E[log q(z) − log p(z)]       how far codes are from the prior samples use

over n uniform and z ~ q_φ(z|x_n). Only the first part is paid for information; the second is lost
by a prior that does not fit. Both are at least 0.

The sampled log q(z|x_n) − log p(z) differs from the closed-form KL by noise of known mean, zero.
That noise is taken out of the first average by regression, and the second is what the KL leaves:
so the identity holds to rounding, and each part has less noise than its plain average.

What is biased, and how. log q(z) is the sum over all N components, z's own among them, so both
parts are fair estimates for these N rows, but for the regression, whose bias is of the order of
one over the number of draws. As estimates for the distribution that the rows come from they are
not: I_q(n; z) cannot exceed log N and grows with N towards I_q(x; z), and KL(q(z) ‖ p(z)) falls
by as much. Where I_q comes near log N it says that the codes of these rows do not overlap, and
nothing more.

The standard errors take the rows as a sample, and hold the noise of the draws. That all rows
share q(z) adds nothing to first order: where one row more changes it by δq, the log q(z) of the
others changes by δq/q, whose mean under q is ∫ δq dz = 0. For these N rows alone the standard
errors are too large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bounds.streams import RowStreams, how_many
from ..core.distributions import gaussian_kl, log_mean_exp
from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed, row_blocks
from ..support.progress import progress_line
from ..support.statistics import mean_and_error, plus_minus
from ..support.streams import Purpose

__all__ = ["ElboSurgery", "elbo_surgery"]

_TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class ElboSurgery:
    """What `elbo_surgery` returns (Hoffman & Johnson 2016); nats per datapoint.

    Attributes
    ----------
    kl : (N,) array
        KL(q_φ(z|x_n) ‖ p(z)) in closed form.
    mutual_information : (N,) array
        The share of each datapoint in I_q(n; z), its mean.

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
        """The share of each datapoint in KL(q(z) ‖ p(z)), (N,)."""
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
        """log N, the largest information that N datapoints can show."""
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

    Time grows as N²: a second or two for N = 10,000. Memory does not.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
        All rows that make up q(z).
    n_samples : int
        Draws of z from each q_φ(z|x_n).
    seed : int
    memory : float
        Megabytes for the densities that are looked at together.
    progress : bool
        Show a line on standard error.

    Returns
    -------
    parts : ElboSurgery

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not what the model can take, or the memory is too small.

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
    log_own = -0.5 * (eps * eps + logvar).sum(axis=-1)  # (S, N), without the constant of 2π
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

    Σ_j (z_j − μ_j)²/σ_j² = [z², z] · [1/σ², −2μ/σ²] + Σ_j μ_j²/σ_j², one matrix product for all
    pairs of z and component.
    """

    def __init__(self, mu: np.ndarray, logvar: np.ndarray) -> None:
        self.center = mu.mean(axis=0)  # of all: the smaller z and μ, the less cancels
        mu, precision = mu - self.center, np.exp(-logvar)
        self.factors = np.concatenate([precision, -2 * mu * precision], axis=1).T  # (2J, N)
        self.squares = (mu * mu * precision).sum(axis=1)
        self.log_scale = -0.5 * logvar.sum(axis=1)

    def log_density(self, z: np.ndarray, log_own: np.ndarray, first: int) -> np.ndarray:
        """Return log q(z), (B,), for draws from the components `first`, `first` + 1, …

        The log density of z in its own component is known without the difference of squares, so
        q(z) ≥ q(z|x_n)/N holds to rounding, and I_q ≤ log N.
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
