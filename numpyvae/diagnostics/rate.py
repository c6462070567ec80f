"""The two terms of the ELBO, seen as the rate and the distortion of a code (Alemi et al. 2018).

    −ELBO = rate + distortion,   rate = KL(q_φ(z|x) ‖ p(z)),   distortion = −E_q[log p_θ(x|z)]

These are the two terms of Eq. (11). In a plot of distortion against rate, models of equal ELBO lie
on a line of slope −1. Training with another weight β of the KL, `SGVBB(beta=…)`, gives another
point. The points of all β form a curve; the best ELBO is where its slope is −1. The rate is an
upper bound on the mutual information of x and z under q: see `elbo_surgery`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..bounds.terms import row_terms
from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed
from ..support.parallel import check_jobs
from ..support.statistics import mean_and_error
from ..support.streams import Purpose

__all__ = ["RateDistortion", "rate_distortion"]


@dataclass(frozen=True)
class RateDistortion:
    """The result of `rate_distortion`: means over the datapoints with their standard errors.

    Attributes
    ----------
    rate, distortion, elbo : (float, float)
        Mean and standard error, nats per datapoint; elbo = −(rate + distortion).

    Examples
    --------
    >>> point = RateDistortion(rate=(5.0, 0.1), distortion=(18.0, 0.2), elbo=(-23.0, 0.2))
    >>> point.elbo[0] == -(point.rate[0] + point.distortion[0])
    True
    """

    rate: tuple[float, float]
    distortion: tuple[float, float]
    elbo: tuple[float, float]


def rate_distortion(
    vae: VAE,
    x: Any,
    *,
    n_samples: int = 10,
    seed: int = 0,
    memory: float = 32.0,
    n_jobs: int | None = None,
) -> RateDistortion:
    """Estimate the rate and the distortion of a model: one point of a rate–distortion curve.

    ELBO = −(rate + distortion), Eq. (11)   (Alemi et al. 2018)

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    n_samples : int
        The number of draws of z for each datapoint; an odd number is rounded up.
    seed : int
    memory : float
        Megabytes for the arrays of the decoder, for each worker.
    n_jobs : int, optional
        The number of workers, as in `numpyvae.bounds`.

    Returns
    -------
    point : RateDistortion

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not valid for the model, or the memory is too small.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> point = rate_distortion(vae, vae.sample(5))
    >>> bool(abs(point.elbo[0] + point.rate[0] + point.distortion[0]) < 1e-12)
    True
    """
    x = check_data(vae, x)
    (terms,) = row_terms(
        vae,
        x,
        vae.encode(x),
        n_samples=check_count("n_samples", n_samples),
        purpose=Purpose.RATE,
        seed=check_seed(seed),
        memory=memory,
        n_jobs=check_jobs(n_jobs),
    )
    return RateDistortion(
        mean_and_error(terms.kl),
        mean_and_error(-terms.reconstruction),
        mean_and_error(terms.elbo),
    )
