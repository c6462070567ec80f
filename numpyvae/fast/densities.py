"""log p_θ(x|z) of the decoder's outputs with its derivative, in one pass over them.

Row r of the outputs (R, heads·D) belongs to row r mod B of x (B, D). Each function adds the bias b
of the last layer, writes log p(x|z) into logp (R,), and replaces `out` by ∂log p/∂out.
`weigh_rows` then multiplies each row by its ∂objective/∂log p.
"""

from __future__ import annotations

import math

import numpy as np

from .compiling import compile_with
from .scalars import exp_negative, log_one_plus

__all__ = ["binomial", "gaussian", "gaussian_head", "pull_variance", "weigh_rows"]

LOG_2PI = math.log(2 * math.pi)
RUN = 128  # the number of terms that are added in float32


@compile_with("reassoc")
def add_up(terms, n):
    """Σ_i terms_i, i < n."""
    total = terms.dtype.type(0)
    for i in range(n):
        total += terms[i]
    return total


@compile_with("contract")
def binomial(x, out, b, n, logp, derivative):
    """log p = Σ_d min(x l, (x − n) l) − n log(1 + e^−|l|);  ∂log p/∂l = x − n sigmoid(l).

    The minimum is (x − n) l if l > 0, else x l. So the result for an infinite l is −∞ or NaN, and
    never +∞. Without `derivative`, `out` remains as it is.
    """
    (B, D), one = x.shape, x.dtype.type(1)
    terms = np.empty(RUN, x.dtype)
    for r in range(out.shape[0]):
        total = 0.0
        for start in range(0, D, RUN):
            xs, ls, bs = x[r % B, start : start + RUN], out[r, start : start + RUN], b[start:]
            for i in range(ls.size):
                l = ls[i] + bs[i]
                t = exp_negative(-abs(l))
                side = xs[i] - n if l > 0 else xs[i]
                terms[i] = side * l - n * log_one_plus(t)
                if derivative:
                    right = one if l > 0 else t
                    ls[i] = xs[i] - n * (right / (one + t))  # sigmoid = max(t, [l > 0])/(1 + t)
            total += add_up(terms, ls.size)
        logp[r] = total


@compile_with("contract")
def gaussian(x, out, b, logvar, logp):
    """log p = −½ Σ_d (log 2π + log σ² + (x − μ)²/σ²);  ∂log p/∂μ = (x − μ)/σ²."""
    B, D = x.shape
    inverse, constant = np.exp(-logvar), 0.0
    for d in range(D):
        constant += LOG_2PI + logvar[d]
    for r in range(out.shape[0]):
        total = constant
        for d in range(D):
            deviation = x[r % B, d] - (out[r, d] + b[d])
            out[r, d] = deviation * inverse[d]
            total += deviation * out[r, d]
        logp[r] = -0.5 * total


@compile_with("contract")
def gaussian_head(x, out, b, logp):
    """As `gaussian`, with out = (μ, log σ²);  ∂log p/∂log σ² = ½ ((x − μ)²/σ² − 1)."""
    (B, D), half, one = x.shape, x.dtype.type(0.5), x.dtype.type(1)
    for r in range(out.shape[0]):
        total = 0.0
        for d in range(D):
            deviation, logvar = x[r % B, d] - (out[r, d] + b[d]), out[r, D + d] + b[D + d]
            out[r, d] = deviation * np.exp(-logvar)
            square = deviation * out[r, d]
            out[r, D + d] = half * (square - one)
            total += LOG_2PI + logvar + square
        logp[r] = -0.5 * total


@compile_with("contract")
def pull_variance(out, logvar, a, dlogvar):
    """d log σ² = Σ_r a_r ½ (s² σ² − 1), where `gaussian` left s = (x − μ)/σ²."""
    variance, half, one = np.exp(logvar), out.dtype.type(0.5), out.dtype.type(1)
    dlogvar[:] = out.dtype.type(0)
    for r in range(out.shape[0]):
        for d in range(logvar.size):
            dlogvar[d] += a[r] * half * (out[r, d] * out[r, d] * variance[d] - one)


@compile_with("contract")
def weigh_rows(dy, a, db):
    """dy_r ← a_r dy_r;  db = Σ_r dy_r."""
    db[:] = dy.dtype.type(0)
    for r in range(dy.shape[0]):
        for i in range(dy.shape[1]):
            dy[r, i] *= a[r]
            db[i] += dy[r, i]
