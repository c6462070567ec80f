"""A Gaussian prior on the decoder's parameters: MAP in place of maximum likelihood.

Kingma & Welling 2013, §5, add to the bound the log density of θ ~ N(0, I), "a small weight decay
term"; here its variance is v. The log posterior of θ is a sum of N terms, one for each datapoint,
and one term for the prior. With the ELBO in place of log p(x), and divided by N, it is

    (1/N) (Σ_n ELBO_n + log p(θ)) = mean ELBO + (1/N) log N(θ; 0, v I)

N is the size of the data set, whatever the size of a minibatch. θ contains weights and biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.elbo import Estimate
from ..core.vae import VAE
from ..support.checks import check_count, check_positive
from .wrapping import Wrapping

__all__ = ["WithWeightPrior", "weight_log_prior"]


def weight_log_prior(theta: np.ndarray, variance: float) -> tuple[np.ndarray, Callable]:
    """Log density of the prior of the weights, log N(θ; 0, v I) (Kingma & Welling 2013, §5).

    log N(θ; 0, v I) = −½ (‖θ‖²/v + P_θ log 2πv)

    θ is large, so it is read only once here, and once in the pullback.

    Parameters
    ----------
    theta : (P_θ,) array
    variance : float
        The variance v of the prior.

    Returns
    -------
    log_p : () array
        Nats, for all parameters together.
    pull : callable
        `pull(dlog_p) -> dtheta`, which is −θ/v for dlog_p = 1.

    Examples
    --------
    >>> log_p, pull = weight_log_prior(np.array([1.0, 0.0]), 0.5)
    >>> pull(1.0)
    array([-2., -0.])
    """
    log_p = -0.5 * (theta @ theta / variance + theta.size * math.log(2 * math.pi * variance))
    return log_p, lambda dlog_p: theta * theta.dtype.type(-dlog_p / variance)


@dataclass(frozen=True)
class WithWeightPrior(Wrapping):
    """Any estimator, with the log density of a prior θ ~ N(0, v I) in its objective.

    objective + (1/N) log N(θ; 0, v I)   (Kingma & Welling 2013, §5)

    Parameters
    ----------
    estimator : Estimator
    n_data : int
        N, the number of rows of the training set, not of a minibatch.
    variance : float
        v; 1 in the paper.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Examples
    --------
    >>> from numpyvae import Estimator, fit
    >>> vae, x = VAE(data_dim=4, latent_dim=1, hidden=(3,)), np.eye(4)
    >>> history = fit(vae, x, epochs=1, estimator=WithWeightPrior(Estimator(), n_data=len(x)))
    >>> bool(history["objective"][0] < history["elbo"][0])
    True
    """

    n_data: int
    variance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "n_data", check_count("n_data", self.n_data))
        object.__setattr__(self, "variance", check_positive("variance", self.variance))

    def __call__(self, vae: VAE, x: Any, eps: Any, update: str = "both") -> Estimate:
        return self._added(vae, self.estimator(vae, x, eps, update), update)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        return self._added(vae, self.estimator.estimate(vae, x, eps, update), update)

    def _added(self, vae: VAE, estimate: Estimate, update: str) -> Estimate:
        """Add (1/N) log p(θ) to the objective, and its gradient to that in θ."""
        log_p, pull = weight_log_prior(vae.parameters.theta, self.variance)
        if update != "phi":
            estimate.gradient.theta[:] += pull(1 / self.n_data)
        return estimate._replace(objective=estimate.objective + float(log_p) / self.n_data)
