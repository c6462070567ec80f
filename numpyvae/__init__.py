"""A variational auto-encoder in NumPy, written to be read beside its derivation.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → ELBO → gradient → update

Start with `numpyvae.elbo`: value and gradient of the evidence lower bound, Eq. (7) and Eq. (11).
"""

from .bounds import importance_log_likelihood
from .elbo import elbo, elbo_and_grad
from .training import History, NonFiniteError, fit
from .vae import VAE

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "History",
    "NonFiniteError",
    "elbo",
    "elbo_and_grad",
    "fit",
    "importance_log_likelihood",
]
