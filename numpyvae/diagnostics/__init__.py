"""The causes of the gap between log p(x) and the ELBO, and the use of the latents.

| function | question | source |
|---|---|---|
| `decompose_gap` | is the gap caused by the family of q, or by the encoder? | Cremer et al. 2018 |
| `elbo_surgery` | which part of the KL is information about x? | Hoffman & Johnson 2016 |
| `rate_distortion` | how large are the two terms of the ELBO? | Alemi et al. 2018 |
| `active_units` | which latents depend on x? | Burda et al. 2015 |
| `signal_to_noise` | how large is a gradient, beside its noise? | Rainforth et al. 2018 |

All other values are in nats per datapoint.
"""

from .gap import GapDecomposition, decompose_gap
from .rate import RateDistortion, rate_distortion
from .signal import signal_to_noise
from .surgery import ElboSurgery, elbo_surgery
from .units import active_units

__all__ = [
    "ElboSurgery",
    "GapDecomposition",
    "RateDistortion",
    "active_units",
    "decompose_gap",
    "elbo_surgery",
    "rate_distortion",
    "signal_to_noise",
]
