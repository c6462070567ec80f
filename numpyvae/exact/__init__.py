"""Models whose evidence is known: where the bound can be held against what it bounds.

| family | evidence, Eq. (2) | q |
|---|---|---|
| `LinearGaussian` | closed form: probabilistic PCA, factor analysis | `Gaussian` |
| `Quadrature` | by quadrature, for any decoder with at most two latents | `Gaussian` |
| `FiniteMixture` | a sum over a discrete latent | table (B, M) |

All three answer to the same names (`ExactModel`), in nats per datapoint; `exact_model` finds the
one that belongs to a VAE.
"""

from .choose import exact_model
from .cubature import QuadratureError
from .discrete import FiniteMixture
from .gaussian import Gaussian
from .linear_gaussian import ElboGradient, LinearGaussian, ppca_maximum_likelihood
from .model import ExactModel
from .quadrature import Quadrature, QuadraturePosterior

__all__ = [
    "ElboGradient",
    "ExactModel",
    "FiniteMixture",
    "Gaussian",
    "LinearGaussian",
    "Quadrature",
    "QuadratureError",
    "QuadraturePosterior",
    "exact_model",
    "ppca_maximum_likelihood",
]
