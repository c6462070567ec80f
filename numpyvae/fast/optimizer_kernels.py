"""The loops of Adam and Adagrad, compiled: one pass over the parameters. Imports Numba."""

from __future__ import annotations

import numpy as np

from .compiling import compile_with

__all__ = ["adagrad", "adam"]


@compile_with()
def adam(g, m, v, flat, beta1, beta2, eps, rate):
    """m ← β₁ m + g;  v ← β₂ v + g²;  flat ← flat + rate m/(√v + ε), where it is finite.

    Return the number of entries that are not finite. State, ε and rate are those of the second
    form in `optimizers.Adam`.

    While the gradient of a weight is 0, as it is for a pixel that is nearly always 0, m and v
    fall geometrically. A processor computes with numbers below the smallest normal one (1.2e-38
    in float32) many times more slowly, so before they get there they become 0. Their steps are
    too small to change a parameter, unless it is about as small.
    """
    zero, failed = g.dtype.type(0), 0
    least = 16 * np.finfo(g.dtype).tiny  # β m, β v and most steps are normal numbers then, too
    for i in range(g.size):
        m_i = m[i] * beta1 + g[i]
        v_i = v[i] * beta2 + g[i] * g[i]
        m[i] = zero if abs(m_i) < least else m_i
        v[i] = zero if v_i < least else v_i
        step = m[i] / (np.sqrt(v[i]) + eps) * rate
        finite = abs(flat[i] + step) < np.inf
        flat[i] += step if finite else g.dtype.type(0)
        failed += not finite
    return failed


@compile_with()
def adagrad(g, s, flat, rate, eps):
    """s ← s + g²;  flat ← flat + rate g/(√s + ε), where it is finite.

    Return the number of entries that are not finite.
    """
    failed = 0
    for i in range(g.size):
        s[i] += g[i] * g[i]
        step = rate * g[i] / (np.sqrt(s[i]) + eps)
        finite = abs(flat[i] + step) < np.inf
        flat[i] += step if finite else g.dtype.type(0)
        failed += not finite
    return failed
