"""Functions of one number for the compiled loops: of float32 by polynomials, else by `math`.

A compiled loop takes the version for its dtype; called from Python, each is the one of `math`.
If a loop contains only arithmetic, the compiler processes eight numbers at a time. Therefore the
exponential and the logarithm are computed by polynomials:

    e^x = 2^k (1 + p),  p = r + r² P(r),  x = k ln 2 + r,  |r| ≤ ½ ln 2
    log(1 + t) = 2 artanh s,  artanh s = s + s q Q(q),  s = t/(2 + t),  q = s²     for 0 ≤ t ≤ 1

P and Q are minimax polynomials with relative errors of 3.1e-9 in e^r and 4.5e-9 in artanh s. The
rounding error of float32 is larger, 6.0e-8. All numbers are float32, except the sums over a row.

Two options of `compile_with` allow the compiler to change the rounding. "contract" computes
a·b + c in one operation, which is accurate here. "reassoc" adds in another order. Only plain sums
have it: in x − k ln 2 and 1 − t the order of the operations preserves the digits, and with
"reassoc" and "nsz" no digit of tanh is correct near 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .compiling import compile_with

__all__ = [
    "exp_minus_one",
    "exp_negative",
    "exponential",
    "log_one_plus",
    "one_minus_exp",
    "tanh",
]

F, I = np.float32, np.int32
_OPTIONS: Any = {"error_model": "numpy", "fastmath": {"contract"}}


@compile_with("contract", inline="always")
def polynomial_exp(x):
    """Return 2^k and p of e^x = 2^k (1 + p), for x ≤ 88; for x < −87, those of e^−87."""
    x = max(x, F(-87))
    k = np.floor(x * F(1.44269504) + F(0.5))  # x/ln 2, rounded
    r = x - k * F(0.693359375) + k * F(2.12194440e-4)  # ln 2 in two parts, the first has 10 bits
    p = F(8.36888937e-3) + r * F(1.3950491e-3)
    p = F(0.166665188) + r * (F(0.0416662058) + r * p)
    p = r + r * r * (F(0.50000001) + r * p)
    return I((I(k) + I(127)) << I(23)).view(F), p


@compile_with("contract", inline="always")
def polynomial_log1p(t):
    """log(1 + t), for 0 ≤ t ≤ 1."""
    s = t / (F(2) + t)
    q = s * s
    Q = F(0.200108495) + q * (F(0.139995705) + q * F(0.140122296))
    return F(2) * (s + s * q * (F(0.333332066) + q * Q))


def _for_float32(single):
    """Return a decorator that puts `single` in the place of a function where x is a float32."""

    def decorate(double):
        @overload(double, jit_options=_OPTIONS)
        def choose(x):
            return single if x == types.float32 else double

        return double

    return decorate


def _exp_negative(x):
    power, p = polynomial_exp(x)
    return power + power * p


@_for_float32(_exp_negative)
def exp_negative(x):
    """e^x, for x ≤ 0."""
    return math.exp(x)


def _exponential(x):
    power, p = polynomial_exp(min(x, F(88)))
    return power + power * p


@_for_float32(_exponential)
def exponential(x):
    """e^x; in float32 at most e^88."""
    return math.exp(x)


def _exp_minus_one(x):
    power, p = polynomial_exp(x)
    return (power - F(1)) + power * p


@_for_float32(_exp_minus_one)
def exp_minus_one(x):
    """e^x − 1, for x ≤ 1, without cancellation."""
    return math.expm1(x)


def _log_one_plus(x):
    return polynomial_log1p(x)


@_for_float32(_log_one_plus)
def log_one_plus(x):
    """log(1 + x), for 0 ≤ x ≤ 1."""
    return math.log1p(x)


def _one_minus_exp(x):
    power, p = polynomial_exp(-x)
    return (F(1) - power) - power * p


@_for_float32(_one_minus_exp)
def one_minus_exp(x):
    """1 − e^−x, for x ≥ 0, without cancellation."""
    return -math.expm1(-x)


def _tanh(x):
    power, p = polynomial_exp(F(-2) * abs(x))
    minus = (F(1) - power) - power * p  # 1 − t, t = e^−2|x|
    return math.copysign(minus / (F(2) - minus), x)


@_for_float32(_tanh)
def tanh(x):
    """Hyperbolic tangent of x: sign(x) (1 − t)/(1 + t), t = e^−2|x|."""
    return math.tanh(x)
