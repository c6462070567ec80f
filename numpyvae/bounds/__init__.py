"""How tight is the bound? log p(x) from below, from above, and estimates in between.

| function | what it is | where |
|---|---|---|
| `importance_log_likelihood` | L_K, a lower bound that tightens with K | `importance` |
| `annealed_log_likelihood` | a lower bound by annealing, and an upper one back | `ais` |
| `sandwich` | both, on data that the model simulates | `ais` |
| `eubo` | an upper bound, from posterior draws | `upper` |
| `cubo` | a diagnosis of q; an upper bound only as K → ∞ | `upper` |
| `fitted_log_likelihood` | an estimate for few latents | `appendix_d` |

All are in nats per datapoint, and bounds are bounds in expectation.

Examples
--------
>>> from numpyvae import VAE, bounds
>>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
>>> x, z = bounds.simulate(vae, 5)
>>> bounds.eubo(vae, x, z).shape
(5,)
"""

from .ais import AnnealedBounds, annealed_log_likelihood, sandwich, simulate
from .appendix_d import FittedEstimate, fitted_log_likelihood
from .importance import importance_log_likelihood, log_weights
from .upper import cubo, eubo
from .walk import sigmoid_temperatures

__all__ = [
    "AnnealedBounds",
    "FittedEstimate",
    "annealed_log_likelihood",
    "cubo",
    "eubo",
    "fitted_log_likelihood",
    "importance_log_likelihood",
    "log_weights",
    "sandwich",
    "sigmoid_temperatures",
    "simulate",
]
