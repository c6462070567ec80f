"""The log importance weights of Eq. (7), compiled: one pass from ε to log w.

log w = log p(x|z) + log p(z) − log q(z|x),  z = μ + σ ε
"""

from __future__ import annotations

from .compiling import compile_with
from .decoding import decode
from .posterior import draw, log_weights, spread

__all__ = ["weigh"]


@compile_with()
def weigh(x, e, eps, theta, down, kinds, number, constant):
    """log w (R,) of each draw, from e = (μ, log σ²) (B, 2·J) and ε (R, J)."""
    sigma, _ = spread(e)
    z, log_ratio = draw(e, sigma, eps)
    log_px, _, _ = decode(x, z, theta, down, kinds, number, constant, False)
    return log_weights(log_px, log_ratio)
