"""From z to log p_θ(x|z), and back to ∂z and ∂θ, compiled.

θ contains the weights of the decoder, and after them log σ² of a Gaussian that learns it.
"""

from __future__ import annotations

import numpy as np

from .compiling import compile_with
from .densities import binomial, gaussian, gaussian_head, pull_variance, weigh_rows
from .networks import mlp, pull_mlp
from .parts import BINOMIAL, FIXED, HEAD, LEARNED

__all__ = ["decode", "pull_decode"]


@compile_with()
def last_bias(theta, kind, D, m):
    """Return where the bias (m,) of the last layer begins and ends in θ."""
    end = theta.size - (D if kind == LEARNED else 0)
    return end - m, end


@compile_with()
def decode(x, z, theta, down, kinds, number, constant, derivative):
    """log p(x|z) + constant (R,), with the outputs of all layers, and `out`, that of the last.

    `kinds` are the numbers of activation and likelihood, `number` is n or log σ². With
    `derivative`, `out` is ∂log p/∂out.
    """
    activation, likelihood = kinds
    B, D = x.shape
    outputs, out = mlp(z, theta, down, activation)
    start, end = last_bias(theta, likelihood, D, down[-1])
    b, logp = theta[start:end], np.empty(out.shape[0], x.dtype)
    if likelihood == BINOMIAL:
        binomial(x, out, b, x.dtype.type(number), logp, derivative)
    elif likelihood == HEAD:
        gaussian_head(x, out, b, logp)
    elif likelihood == FIXED:
        gaussian(x, out, b, np.full(D, number, x.dtype), logp)
    else:
        gaussian(x, out, b, theta[end:], logp)
    for r in range(logp.size):
        logp[r] += constant[r % B]
    return logp, outputs, out


@compile_with()
def pull_decode(x, z, theta, dtheta, down, kinds, outputs, out, a, for_theta, for_z):
    """Take a = ∂objective/∂log p (R,) back: write dθ if it is wanted; return dz, else no rows.

    `out` is overwritten.
    """
    activation, likelihood = kinds
    start, end = last_bias(theta, likelihood, x.shape[1], down[-1])
    if for_theta and likelihood == LEARNED:
        pull_variance(out, theta[end:], a, dtheta[end:])
    weigh_rows(out, a, dtheta[start:end] if for_theta else np.empty(end - start, theta.dtype))
    dz = np.empty_like(z if for_z else z[:0])
    pull_mlp(z, theta, dtheta, down, activation, outputs, out, dz, for_theta)
    return dz
