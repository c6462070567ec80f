"""The loop of Adam, compiled: one pass over the parameters. This module imports Numba."""

from __future__ import annotations

import numpy as np

from .compiling import compile_with

__all__ = ["adam"]


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
