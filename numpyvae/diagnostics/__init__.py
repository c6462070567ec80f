"""Where the bound loses, and what the latents are used for.

| function | the question it answers | source |
|---|---|---|
| `decompose_gap` | is log p(x) − ELBO the family's fault, or the encoder's? | Cremer et al. 2018 |
| `elbo_surgery` | does the KL carry information, or miss the prior? | Hoffman & Johnson 2016 |
| `rate_distortion` | how many nats does the code cost, and what does it buy? | Alemi et al. 2018 |
| `active_units` | which latents move with x at all? | Burda et al. 2015 |

All are in nats per datapoint.
"""

from .gap import GapDecomposition, decompose_gap
from .rate import RateDistortion, rate_distortion
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
]
