"""Special functions that NumPy does not have, or computes more slowly.

Those that a derivative goes through have no `abs`, so that they also run on complex input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

__all__ = [
    "exp_minus_abs",
    "log1p",
    "log_binomial_coefficient",
    "log_factorial",
    "log_mean_exp",
    "sum_log1p",
]

_FACTORIALS = np.array([math.lgamma(k + 1.0) for k in range(256)])
_LOWEST = -1e300  # below any log weight, and finite, since −inf − (−inf) is not a number


def log_factorial(x: np.ndarray) -> np.ndarray:
    """log x! for whole numbers: a table up to 255, and Stirling's series above, in float64."""
    k = x.astype(float)
    large = np.maximum(k, 255.0)
    series = (large + 0.5) * np.log(large) - large + 0.5 * math.log(2 * math.pi)
    series += 1 / (12 * large) - 1 / (360 * large**3)
    return np.where(k > 255, series, _FACTORIALS[np.minimum(k, 255).astype(np.intp)])


@lru_cache(maxsize=32)
def _log_coefficients(n: int) -> np.ndarray:
    """Return log C(n, k) for k = 0 … n, from exact integers, each from the one before it."""
    table, ways = np.empty(n + 1), 1
    for k in range(n // 2 + 1):
        table[k] = table[n - k] = math.log(ways)
        ways = ways * (n - k) // (k + 1)
    return table


def log_binomial_coefficient(x: np.ndarray, n: int) -> np.ndarray:
    """Sum log C(n, x_d) over the last axis: the part of log p that depends on no parameter.

    log C(n, k) = log n! − log k! − log (n − k)!, from exact integers.

    Parameters
    ----------
    x : (..., D) array of whole numbers in 0 … n
    n : int
        Trials.

    Returns
    -------
    constant : (...) array, in the dtype of `x` (float64 for integers)

    Examples
    --------
    >>> np.exp(log_binomial_coefficient(np.array([[2, 1]]), 4)).round(6)      # 6 · 4
    array([24.])
    """
    terms = _log_coefficients(n)[x.astype(np.intp)].sum(axis=-1)
    return terms.astype(x.dtype) if x.dtype.kind == "f" else terms


def log_mean_exp(a: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
    """Logarithm of the mean of K exponentials, such as importance weights w_k = exp(a_k).

    log (1/K) Σ_k exp(a_k) = m + log (1/K) Σ_k exp(a_k − m),  m = max_k a_k

    The largest exponential on the right is 1, so that nothing overflows and the sum is at least 1.
    The K terms may come in pieces: m is then the maximum so far, and where it rises to m′ the sum
    so far is multiplied by exp(m − m′). The memory is that of one piece, whatever K.

    Parameters
    ----------
    a : (K, ...) array, or iterable of (k, ...) arrays with K = Σ k
        Nats; −inf is a weight of zero.

    Returns
    -------
    log_mean : (...) array of float64
        Nats; −inf where every weight is zero.

    Examples
    --------
    >>> log_mean_exp(np.array([[0.0, -90.0], [np.log(3), -np.inf]])).round(4)
    array([  0.6931, -90.6931])
    >>> log_mean_exp([np.zeros((2, 1)), np.array([[np.log(4)]])]).round(4)   # log (1 + 1 + 4)/3
    array([0.6931])
    """
    m, total, K = _LOWEST, 0.0, 0
    for piece in [a] if isinstance(a, np.ndarray) else a:
        piece = np.asarray(piece, dtype=float)
        before, m = m, np.maximum(m, piece.max(axis=0))
        total = total * np.exp(before - m) + np.exp(piece - m).sum(axis=0)  # Σ_k exp(a_k − m)
        K += len(piece)
    with np.errstate(divide="ignore"):  # log 0 = −inf
        return m + np.log(total / K)


def exp_minus_abs(x: np.ndarray) -> np.ndarray:
    """e^−|x|, in (0, 1]. −|x| is written min(x, −x), which the complex step can follow."""
    t = -x
    np.minimum(x, t, out=t)
    return np.exp(t, out=t)


def log1p(t: np.ndarray, one_t: np.ndarray) -> np.ndarray:
    """log(1 + t) for t ≥ 0, as log u + (t − (u − 1))/u, where u = 1 + t as it was rounded.

    The second term restores what the rounding took. `np.log1p` takes four times as long.
    """
    y = one_t - 1
    np.subtract(t, y, out=y)
    y /= one_t
    y += np.log(one_t)
    return y


def sum_log1p(t: np.ndarray) -> np.ndarray:
    """Sum log(1 + t_d) over the last axis, 0 ≤ t ≤ 1, with one logarithm for 32 terms.

    Σ_d log(1 + t_d) = log Π_d (1 + t_d); 32 factors of at most 2 do not overflow. Two halves are
    multiplied as (1 + a)(1 + b) − 1 = a + b + a b, whose positive terms keep all digits.
    """
    for _ in range(5):
        width = t.shape[-1]
        if width < 32:  # for short rows this costs more than it saves
            break
        half = width // 2
        a, b = t[..., :half], t[..., half : 2 * half]
        folded = a * b
        folded += a
        folded += b
        if width % 2:
            folded = np.concatenate([folded, t[..., -1:]], axis=-1)
        t = folded
    return log1p(t, 1 + t).sum(axis=-1)
