"""Bounds on log p(x) from below and from above, and estimates of it: how tight is the ELBO?

| function | what it is | where |
|---|---|---|
| `importance_log_likelihood` | L_K, a lower bound that tightens with K | `importance` |
| `importance_curve` | L_k for all k up to K, from the same draws | `importance` |
| `annealed_log_likelihood` | lower bound by annealing, upper bound by reverse annealing | `ais` |
| `sandwich` | both bounds, on data that the model simulates | `ais` |
| `eubo` | an upper bound, from posterior draws | `upper` |
| `cubo` | a diagnostic of q; an upper bound only as K → ∞ | `upper` |
| `fitted_log_likelihood` | an estimate for few latents | `appendix_d` |
| `compare_bounds` | several of them on the same datapoints | `compare` |

All values are in nats per datapoint. The bounds are bounds in expectation: the value from a finite
number of draws can be on the wrong side of log p(x).

The functions share these parameters:

- `vae : VAE`, or a model with other networks: a `numpyvae.clinic.ForeignVAE`, or any object with
  the members of `numpyvae.support.contract.Model`
- `x : (N, D) array_like`, the datapoints
- `n_temperatures : int`, the number of intermediate distributions of annealing; more of them make
  the bounds tighter
- `n_chains : int`, C, the number of chains for each datapoint and each direction
- `seed : int`, the seed of the random streams. The draws of a datapoint depend on the seed and on
  its values, not on the other rows or their order: to rounding, the figures of a row are those of
  the row alone. Rounding is about 1e-6 of a figure in float32 and 1e-12 in float64; chains enlarge
  it. Equal rows have the same draws, so that a standard error over rows that repeat is too small.
- `memory : float, optional`, the megabytes for the arrays of the decoder and its gradient, for
  each worker. The datapoints are processed in blocks of that size. With None a block fits into the
  processor's cache, which is fastest. The result depends on it only by rounding.
- `n_jobs : int, optional`, the number of workers, each on one core; −1 takes all cores. By default
  it is that of `joblib.parallel_config`, else the number of BLAS threads. The workers are threads,
  or what `joblib.parallel_config(backend=…)` says: processes, or a Dask cluster. The result does
  not depend on it, to the last bit.
- `progress : bool`, whether to show a progress line on standard error

They raise a TypeError or a ValueError if `x` or a setting is not valid for the model, or if the
memory is too small for one datapoint, and a FloatingPointError if log p(x, z) is NaN or infinite
where it is needed.

Examples
--------
>>> from numpyvae import VAE, bounds
>>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
>>> x, z = bounds.simulate(vae, 5)
>>> bounds.eubo(vae, x, z).shape
(5,)
"""

from typing import TYPE_CHECKING

from ..support.later import later

if TYPE_CHECKING:
    from .ais import AnnealedBounds, annealed_log_likelihood, sandwich, simulate
    from .annealing import sigmoid_temperatures
    from .appendix_d import FittedEstimate, fitted_log_likelihood
    from .compare import Comparison, Estimate, compare_bounds
    from .importance import (
        ImportanceCurve,
        importance_curve,
        importance_log_likelihood,
        log_weights,
    )
    from .upper import cubo, eubo

__all__ = [
    "AnnealedBounds",
    "Comparison",
    "Estimate",
    "FittedEstimate",
    "ImportanceCurve",
    "annealed_log_likelihood",
    "compare_bounds",
    "cubo",
    "eubo",
    "fitted_log_likelihood",
    "importance_curve",
    "importance_log_likelihood",
    "log_weights",
    "sandwich",
    "sigmoid_temperatures",
    "simulate",
]

__getattr__, __dir__ = later(
    __name__,
    {
        "AnnealedBounds": "ais",
        "Comparison": "compare",
        "Estimate": "compare",
        "FittedEstimate": "appendix_d",
        "ImportanceCurve": "importance",
        "annealed_log_likelihood": "ais",
        "compare_bounds": "compare",
        "cubo": "upper",
        "eubo": "upper",
        "fitted_log_likelihood": "appendix_d",
        "importance_curve": "importance",
        "importance_log_likelihood": "importance",
        "log_weights": "importance",
        "sandwich": "ais",
        "sigmoid_temperatures": "annealing",
        "simulate": "ais",
    },
)
