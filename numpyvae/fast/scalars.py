"""Functions of one number, for float32 by the polynomials of `kernels`, else by `math`.

A compiled loop takes the version for its numbers; called from Python, each is the plain one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from . import kernels

__all__ = ["exp_negative", "log_one_plus", "one_minus_exp", "tanh"]

F = np.float32
_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}


def _for_float32(single):
    """Return a decorator that puts `single` in the place of a function where x is a float32."""

    def decorate(double):
        @overload(double, jit_options=_OPTIONS)
        def choose(x):
            return single if x == types.float32 else double

        return double

    return decorate


def _exp_negative(x):
    power, p = kernels.exp(x)
    return power + power * p


@_for_float32(_exp_negative)
def exp_negative(x):
    """e^x, for x ≤ 0."""
    return math.exp(x)


def _log_one_plus(x):
    return kernels.log1p(x)


@_for_float32(_log_one_plus)
def log_one_plus(x):
    """log(1 + x), for 0 ≤ x ≤ 1."""
    return math.log1p(x)


def _one_minus_exp(x):
    power, p = kernels.exp(-x)
    return (F(1) - power) - power * p


@_for_float32(_one_minus_exp)
def one_minus_exp(x):
    """1 − e^−x, for x ≥ 0, without cancellation."""
    return -math.expm1(-x)


def _tanh(x):
    power, p = kernels.exp(F(-2) * abs(x))
    minus = (F(1) - power) - power * p  # 1 − t, t = e^−2|x|
    return math.copysign(minus / (F(2) - minus), x)


@_for_float32(_tanh)
def tanh(x):
    """Hyperbolic tangent of x: sign(x) (1 − t)/(1 + t), t = e^−2|x|."""
    return math.tanh(x)
