"""A variational auto-encoder in NumPy, written to be read beside its derivation.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → ELBO → gradient → update

Start with `core/elbo.py`: value and gradient of the evidence lower bound, Eq. (11).
"""

from typing import TYPE_CHECKING

from .core.elbo import (
    Estimate,
    Estimator,
    elbo,
    elbo_and_grad,
    elbo_terms,
    log_joint,
    sampled_elbo,
)
from .core.likelihoods import Likelihood
from .core.optimizers import SGD, Adagrad, Adam, Momentum, Optimizer, RMSProp
from .core.training import fit
from .core.vae import VAE
from .support.history import History, NonFiniteError
from .support.later import later
from .support.progress import Progress
from .support.registry import register_activation, register_likelihood
from .support.schedules import burda_schedule, cosine_schedule
from .support.stopping import EarlyStopping

if TYPE_CHECKING:
    from .bounds import importance_log_likelihood
    from .estimators.evaluation import mean_terms
    from .support.versions import show_versions

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "VAE",
    "Adagrad",
    "Adam",
    "EarlyStopping",
    "Estimate",
    "Estimator",
    "History",
    "Likelihood",
    "Momentum",
    "NonFiniteError",
    "Optimizer",
    "Progress",
    "RMSProp",
    "burda_schedule",
    "cosine_schedule",
    "elbo",
    "elbo_and_grad",
    "elbo_terms",
    "fit",
    "importance_log_likelihood",
    "log_joint",
    "mean_terms",
    "register_activation",
    "register_likelihood",
    "sampled_elbo",
    "show_versions",
]

# Loaded when they are first used: `import numpyvae` needs only what trains a model.
__getattr__, __dir__ = later(
    __name__,
    {
        "bounds": "bounds",
        "estimators": "estimators",
        "fast": "fast",
        "importance_log_likelihood": "bounds",
        "mean_terms": "estimators.evaluation",
        "show_versions": "support.versions",
    },
)
