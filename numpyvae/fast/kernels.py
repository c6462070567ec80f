"""The compiled loops. Each makes one pass over memory. This module imports Numba.

If a loop contains only arithmetic, the compiler processes eight numbers at a time. Therefore the
exponential and the logarithm are computed by polynomials:

    e^x = 2^k (1 + p),  p = r + r² P(r),  x = k ln 2 + r,  |r| ≤ ½ ln 2
    log(1 + t) = 2 artanh s,  artanh s = s + s q Q(q),  s = t/(2 + t),  q = s²     for 0 ≤ t ≤ 1

P and Q are minimax polynomials with relative errors of 3.1e-9 in e^r and 4.5e-9 in artanh s. The
rounding error of float32 is larger, 6.0e-8. All numbers are float32, except the sums over a row.

Two options allow the compiler to change the rounding. "contract" computes a·b + c in one
operation, which is accurate here. "reassoc" adds in another order. Only plain sums have it: in
x − k ln 2 and 1 − t the order of the operations preserves the digits, and with "reassoc" and "nsz"
no digit of tanh is correct near 0.
"""

from __future__ import annotations

import math

import numpy as np

from .compiling import compile_with

__all__ = ["adam", "binomial_logpmf", "pull_binomial_logpmf", "pull_tanh", "tanh"]

F, I = np.float32, np.int32
RUN = 128  # the number of terms that are added in float32


@compile_with()
def adam(g, m, v, flat, beta1, beta2, eps, rate):
    """m ← β₁ m + g;  v ← β₂ v + g²;  flat ← flat + rate m/(√v + ε), where it is finite.

    Return the number of entries that are not finite. State, ε and rate are those of the second
    form in `optimizers.Adam`.
    """
    failed = 0
    for i in range(g.size):
        m[i] = m[i] * beta1 + g[i]
        v[i] = v[i] * beta2 + g[i] * g[i]
        step = m[i] / (np.sqrt(v[i]) + eps) * rate
        finite = abs(flat[i] + step) < np.inf
        flat[i] += step if finite else g.dtype.type(0)
        failed += not finite
    return failed


@compile_with("contract", inline="always")
def exp(x):
    """Return 2^k and p of e^x = 2^k (1 + p), for x ≤ 0; for x < −87, those of e^−87."""
    x = max(x, F(-87))
    k = np.floor(x * F(1.44269504) + F(0.5))  # x/ln 2, rounded
    r = x - k * F(0.693359375) + k * F(2.12194440e-4)  # ln 2 in two parts, the first has 10 bits
    p = F(8.36888937e-3) + r * F(1.3950491e-3)
    p = F(0.166665188) + r * (F(0.0416662058) + r * p)
    p = r + r * r * (F(0.50000001) + r * p)
    return I((I(k) + I(127)) << I(23)).view(F), p


@compile_with("contract", inline="always")
def log1p(t):
    """log(1 + t), for 0 ≤ t ≤ 1."""
    s = t / (F(2) + t)
    q = s * s
    Q = F(0.200108495) + q * (F(0.139995705) + q * F(0.140122296))
    return F(2) * (s + s * q * (F(0.333332066) + q * Q))


@compile_with("contract")
def tanh(x, y):
    """y = tanh x = sign(x) (1 − t)/(1 + t), t = e^−2|x|; 1 − t is accurate also near x = 0."""
    for i in range(x.size):
        power, p = exp(F(-2) * abs(x[i]))
        minus = (F(1) - power) - power * p  # 1 − t
        y[i] = math.copysign(minus / (F(2) - minus), x[i])


@compile_with("contract")
def pull_tanh(y, dy, dx):
    """dx = (1 − y²) dy."""
    for i in range(y.size):
        dx[i] = (F(1) - y[i] * y[i]) * dy[i]


@compile_with("reassoc")
def add_up(terms, n):
    """Σ_i terms_i, i < n."""
    total = F(0)
    for i in range(n):
        total += terms[i]
    return total


@compile_with("contract")
def binomial_logpmf(x, logits, n, logp):
    """Σ_d min(x l, (x − n) l) − n log(1 + e^−|l|), with row r mod B of x for row r of l (R, D).

    The minimum is (x − n) l if l > 0, else x l. So the result for an infinite l is −∞ or NaN, and
    never +∞.
    """
    B, D = x.shape
    terms = np.empty(RUN, np.float32)
    for r in range(logits.shape[0]):
        b, total = r % B, 0.0
        for start in range(0, D, RUN):
            xs, ls = x[b, start : start + RUN], logits[r, start : start + RUN]
            for i in range(ls.size):
                power, p = exp(-abs(ls[i]))
                side = xs[i] - n if ls[i] > 0 else xs[i]
                terms[i] = side * ls[i] - n * log1p(power + power * p)
            total += add_up(terms, ls.size)
        logp[r] = total


@compile_with("contract")
def pull_binomial_logpmf(x, logits, n, dlogp, dlogits):
    """dl = (x − n sigmoid(l)) dlogp, row by row."""
    B, D = x.shape
    for r in range(logits.shape[0]):
        b = r % B
        for d in range(D):
            l = logits[r, d]
            power, p = exp(-abs(l))
            t = power + power * p
            right = F(1) if l > 0 else t
            dlogits[r, d] = (x[b, d] - n * (right / (F(1) + t))) * dlogp[r]
