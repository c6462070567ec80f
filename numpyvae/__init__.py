"""A variational auto-encoder in NumPy, written to be read beside its derivation.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → ELBO → gradient → update

Start with `core/elbo.py`: value and gradient of the evidence lower bound, Eq. (11).
"""

from .bounds import importance_log_likelihood
from .core.elbo import elbo, elbo_and_grad
from .core.training import History, NonFiniteError, fit
from .core.vae import VAE

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
