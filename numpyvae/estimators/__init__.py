"""Estimators of the gradient of the ELBO and of L_K. All have the same signature:

    estimate = estimator(vae, x, eps, update="both")     ε (L·K, B, J)
    estimate.objective, .reconstruction, .kl          nats per datapoint
    estimate.gradient                                 the gradient of the objective

Each gives the gradient in φ and θ together. All are unbiased except `STLIWAE` with K > 1. Start
with the file `sampled`: its docstring has one formula and one table for all estimators with a
sampled KL. `closed` has the estimator with the closed-form KL, its weight β and free bits. `score`
has the estimator that needs no reparameterization.

Two more are not the gradient of one of these bounds: `WakeSleep` has another objective for each
slice, and `WithWeightPrior` adds a prior of the decoder's weights to any of them. `DataParallel`
divides the minibatches of any of them among several processes.
"""

from .choose import ESTIMATORS, make_estimator
from .closed import SGVBB
from .data_parallel import DataParallel
from .sampled import IWAE, SGVBA, STL, STLIWAE, DReG
from .score import ScoreFunction
from .wake_sleep import WakeSleep, dream, dream_log_q
from .weight_prior import WithWeightPrior, weight_log_prior

__all__ = [
    "ESTIMATORS",
    "IWAE",
    "SGVBA",
    "SGVBB",
    "STL",
    "STLIWAE",
    "DReG",
    "DataParallel",
    "ScoreFunction",
    "WakeSleep",
    "WithWeightPrior",
    "dream",
    "dream_log_q",
    "make_estimator",
    "weight_log_prior",
]
