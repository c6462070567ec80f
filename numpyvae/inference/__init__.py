"""Ways to learn: variational inference and EM, wake-sleep, Monte-Carlo EM, full Bayes.

- `procedures`: variational inference and variational EM, section 3.6 of the notes, and the
  parameters that its functions share
- `mcem`: maximum likelihood by draws from the posterior, without an encoder
- `full_bayes`: a q over the decoder's parameters too; `full_bayes_fit` ascends its bound
- `WakeSleep` and `WithWeightPrior`, which `fit` takes, are from `numpyvae.estimators`
"""

from .full_bayes import FullBound, FullGradient, WeightPosterior, full_bound, weight_kl
from .full_bayes_fit import FullBayes, full_variational_bayes
from .mcem import monte_carlo_em
from .procedures import (
    EMStep,
    Posterior,
    m_step,
    noise_nodes,
    variational_em,
    variational_inference,
)

__all__ = [
    "EMStep",
    "FullBayes",
    "FullBound",
    "FullGradient",
    "Posterior",
    "WeightPosterior",
    "full_bound",
    "full_variational_bayes",
    "m_step",
    "monte_carlo_em",
    "noise_nodes",
    "variational_em",
    "variational_inference",
    "weight_kl",
]
