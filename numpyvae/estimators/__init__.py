"""Gradient estimators of the ELBO and of L_K, with one signature.

    estimate = estimator(vae, x, eps, update="both")     ε (L·K, B, J)
    estimate.objective, .reconstruction, .kl          nats per datapoint
    estimate.gradient                                 `Parameters`; ascend it

All are for φ and θ at once, and unbiased but for `STLIWAE` with K > 1. Start with `sampled`,
whose head has them in one formula and one table; `closed` has the one with the closed-form KL,
its β and its free bits; `score` the one that needs no reparameterization.
"""

from .choose import ESTIMATORS, make_estimator
from .closed import SGVBB
from .sampled import IWAE, SGVBA, STL, STLIWAE, DReG
from .score import ScoreFunction

__all__ = [
    "ESTIMATORS",
    "IWAE",
    "SGVBA",
    "SGVBB",
    "STL",
    "STLIWAE",
    "DReG",
    "ScoreFunction",
    "make_estimator",
]
