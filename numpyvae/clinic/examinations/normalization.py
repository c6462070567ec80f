"""Is a reconstruction term −log of any density of x, Σ_x exp(−r(x, out)/c) = 1?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from ...support.special import log_mean_exp
from ..facts import Facts
from ..hypotheses import sigmoid
from ..subject import SubjectError

__all__ = ["normalized"]

_MOST = 1024  # values of x
_OUTPUTS = 4
_REACH = 40.0  # of x of a Gaussian, whose integral is a sum over a grid
_GRID = 2001


def normalized(facts: Facts) -> tuple[bool, str] | None:
    """Return whether one factor c makes the sum over all x the same for all outputs, and 1.

    For real x the integral must be the same, for a constant may be missing. None if the function
    does not take so few pixels.
    """
    gaussian = facts.calls.subject.family == "gaussian"
    for width in (1, 2, facts.data_dim):
        try:
            r, step = _table(facts, width)
        except (SubjectError, OverflowError):
            continue
        break
    else:
        return None

    def log_sums(c: float) -> np.ndarray:
        return np.array([log_mean_exp(-v / c) for v in r]) + np.log(r.shape[1] * step)

    def off(log_c: float) -> float:
        sums = log_sums(np.exp(log_c))
        return float(sums[0] - sums[1] if gaussian else sums[0])

    sides = np.linspace(-6, 6, 49)
    values = [off(t) for t in sides]
    roots = [
        _root(off, a, b) for a, b, u, v in zip(sides, sides[1:], values, values[1:]) if u * v < 0
    ]
    tolerance = max(1e-6, 10 * facts.tolerance)
    for c in np.exp([0.0, *roots]):
        sums = log_sums(c)
        spread = np.ptp(sums) if gaussian else np.abs(sums).max()
        if spread <= tolerance:
            return True, f"Σ_x exp(−r/{c:.4g}) is {np.exp(sums[0]):.6g} for all outputs"
    sums = log_sums(1.0)
    return False, f"Σ_x exp(−r) from {np.exp(sums.min()):.4g} to {np.exp(sums.max()):.4g}"


def _table(facts: Facts, width: int) -> tuple[np.ndarray, float]:
    """r for each output and each x (O, X), and the distance of two x."""
    subject, rng, step = facts.calls.subject, facts.rng(21), 1.0
    if subject.family == "gaussian":
        if width > 1:
            raise OverflowError
        grid = np.linspace(-_REACH, _REACH, _GRID)
        x, step = grid[:, None], grid[1] - grid[0]
    else:
        values = subject.trials + 1
        if values**width > _MOST:
            raise OverflowError
        x = np.array(list(product(range(values), repeat=width)), dtype=float)
    first = rng.standard_normal((_OUTPUTS, width))
    first = sigmoid(first) if facts.output == "probabilities" else first
    second = rng.uniform(0.3, 1.8, (_OUTPUTS, width))
    pair = facts.output in ("mean_logvar", "mean_sigma")
    rows = []
    for f, s in zip(first, second):
        out = np.broadcast_to(f, x.shape), np.broadcast_to(s, x.shape)
        rows.append(_values(facts, x, out if pair else out[0]))
    return np.array(rows), float(step)


def _values(facts: Facts, x: np.ndarray, out: object) -> np.ndarray:
    """r of each row; a function that returns one number for a batch gets batches of one row."""
    values = facts.calls.term("reconstruction", x, out)
    return values if values.ndim else facts.calls.row_terms("reconstruction", x, out)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f, of another sign at each end, is 0, by bisection to rounding errors."""
    sign = np.sign(f(low))
    for _ in range(52):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.sign(f(middle)) == sign else (low, middle)
    return 0.5 * (low + high)
