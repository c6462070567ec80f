"""Integrals over a box in one or two dimensions: the lattice rule, and what both rules share.

    ∫_box exp(log w(u)) g(u) du,   u in [−1, 1]^J

for many integrands ("rows") at once. log w is a log density of any height, g holds components of
moderate size. First a lattice rule: a smooth function that dies off towards the edges is summed
by equal weights to machine precision as soon as the spacing resolves it. Rows for which a finer
lattice still changes the result are for `adaptive`.

Symbols: R rows, C rows in one call, n nodes, k components of g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

__all__ = [
    "NEGLIGIBLE",
    "Integral",
    "Integrand",
    "QuadratureError",
    "blocks",
    "lattice",
    "lattice_rule",
    "lattice_sum",
    "leaps",
    "weighted",
]

# f(rows (C,), u (C, n, J)) -> log w (C, n), g (C, n, k)
Integrand = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

NEGLIGIBLE = 40.0  # nats below the top at which a region no longer matters: e^−40 = 4e-18
_LATTICE_NODES = 40_000  # beyond this many the adaptive rule is the cheaper one
_BLOCK = 1 << 14  # nodes in one call of the integrand


class QuadratureError(ArithmeticError):
    """The rule of Eq. (2) did not converge to the tolerance: there is no figure to be trusted.

    Attributes
    ----------
    row : int or None
        The datapoint it happened at.

    Examples
    --------
    >>> str(QuadratureError("the nodes ran out", row=3))
    'row 3 of x: the nodes ran out'
    """

    def __init__(self, problem: str, row: int | None = None) -> None:
        super().__init__(problem if row is None else f"row {row} of x: {problem}")
        self.problem, self.row = problem, row

    def renumbered(self, rows: np.ndarray) -> QuadratureError:
        """Return the error of one of a few rows, under the number that it has among all."""
        return QuadratureError(self.problem, None if self.row is None else int(rows[self.row]))


class Integral(NamedTuple):
    """Integrals exp(log_scale) · value of R rows."""

    log_scale: np.ndarray  # (R,)
    value: np.ndarray  # (R, k)

    def put(self, rows: np.ndarray, other: Integral) -> None:
        """Write `other` into the given rows."""
        for mine, theirs in zip(self, other):
            mine[rows] = theirs

    def at(self, log_scale: np.ndarray) -> np.ndarray:
        """Return the values relative to another scale, (R, k)."""
        return self.value * np.exp(self.log_scale - log_scale)[:, None]


def lattice(points: int, dim: int) -> np.ndarray:
    """Return the nodes of a regular lattice over [−1, 1]^J, (points^J, J)."""
    axis = np.linspace(-1, 1, points)
    return np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)


def leaps(values: np.ndarray, dim: int) -> np.ndarray:
    """Largest step from each lattice node to a neighbor: how much higher a peak may hide.

    Between nodes a distance δ apart, a quadratic log density rises above the higher of them by
    less than its step to a neighbor.

    Parameters
    ----------
    values : (C, points, …, points) array
        With `dim` lattice axes.
    """
    result = np.zeros_like(values)
    for axis in range(1, dim + 1):
        step = np.abs(np.diff(values, axis=axis))
        for part in (slice(1, None), slice(None, -1)):
            at = (slice(None),) * axis + (part,)
            np.maximum(result[at], step, out=result[at])
    return result


def blocks(count: int, nodes: int) -> Iterator[slice]:
    """Split `count` cells into slices with a bounded number of nodes."""
    step = max(1, _BLOCK // nodes)
    return (slice(start, start + step) for start in range(0, count, step))


def weighted(
    log_w: np.ndarray, g: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the top of log w, (C,), and relative to it ∫ w g and ∫ w (1 + |g|), (C, k)."""
    top = log_w.max(axis=1)
    if not (np.isfinite(top).all() and np.isfinite(g).all()):
        raise QuadratureError(
            "expected finite log densities, got NaN or infinity; check the decoder's parameters"
        )
    w = np.exp(log_w - top[:, None]) * weights
    value = np.einsum("cn,cnk->ck", w, g)
    size = np.einsum("cn,cnk->ck", w, np.abs(g)) + w.sum(axis=1)[:, None]
    return top, value, size


def lattice_rule(
    f: Integrand, finest: np.ndarray, dim: int, start: int, tolerance: float
) -> tuple[Integral, np.ndarray]:
    """Sum over regular lattices, each half as fine again, until the result stands.

    For a smooth integrand that vanishes at the edges the error falls exponentially with the
    number of points (Trefethen & Weideman 2014), so that the change, which is the error of the
    lattice before, is a safe bound on that of the last. Not for integrands with kinks, whose sums
    may agree by accident.

    Parameters
    ----------
    f : callable
        `f(rows, u) -> (log_w, g)`.
    finest : (R,) array
        Points per axis that a row needs at least before its result can be accepted.
    dim : int
        J.
    start : int
        Points per axis to begin with.
    tolerance : float
        Largest accepted change from one lattice to the next, relative to ∫ w (1 + |g|).

    Returns
    -------
    integral : Integral
    points : (R,) array of int
        Points per axis at which a row stood; 0 where it did not converge.
    """
    settled, open_ = np.zeros(len(finest), int), np.arange(len(finest))
    coarse, _ = lattice_sum(f, open_, start, dim)
    result, points = Integral(*map(np.copy, coarse)), start
    while len(open_) and (finer := points + points // 2) ** dim <= _LATTICE_NODES:
        points = finer
        fine, size = lattice_sum(f, open_, points, dim)
        change = (np.abs(fine.value - coarse.at(fine.log_scale)) / size).max(axis=1)
        result.put(open_, fine)
        done = (change <= tolerance) & (points >= finest[open_])
        settled[open_[done]] = points
        open_, coarse = open_[~done], Integral(*(part[~done] for part in fine))
    return result, settled


def lattice_sum(
    f: Integrand, rows: np.ndarray, points: int, dim: int, shift: float = 0.0
) -> tuple[Integral, np.ndarray]:
    """Sum over one lattice, moved by a fraction of its spacing.

    Returns
    -------
    integral : Integral
        Of the given rows.
    size : (R, k) array
        ∫ w (1 + |g|), on the integral's scale.
    """
    spacing = 2 / (points - 1)
    u = lattice(points, dim) + shift * spacing
    weights = np.full(len(u), spacing**dim)
    parts = []
    for block in blocks(len(rows), len(u)):
        some = rows[block]
        parts.append(weighted(*f(some, np.broadcast_to(u, (len(some), *u.shape))), weights))
    top, value, size = (np.concatenate(part) for part in zip(*parts))
    return Integral(top, value), size
