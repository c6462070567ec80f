"""Models whose evidence is known exactly, so that the ELBO can be compared with log p(x).

| family | evidence, Eq. (2) | q |
|---|---|---|
| `LinearGaussian` | closed form: probabilistic PCA, factor analysis | `Gaussian` |
| `Quadrature` | by quadrature, for any decoder with at most two latents | `Gaussian` |
| `FiniteMixture` | a sum over a discrete latent | table (B, M) |

All three have the methods of `ExactModel`, in nats per datapoint. `exact_model` returns the exact
model of a VAE.
"""

from .choose import exact_model
from .discrete import FiniteMixture
from .gaussian import Gaussian
from .integration import QuadratureError
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
