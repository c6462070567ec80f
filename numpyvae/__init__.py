"""A variational auto-encoder in NumPy, written to be read beside its derivation.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → ELBO → gradient → update

Start with `core/elbo.py`: value and gradient of the evidence lower bound, Eq. (11).
"""

from .bounds import importance_log_likelihood
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
from .estimators.evaluation import mean_terms
from .support.history import History, NonFiniteError
from .support.progress import Progress
from .support.registry import register_activation, register_likelihood
from .support.schedules import burda_schedule, cosine_schedule
from .support.stopping import EarlyStopping
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
