"""Two integration rules over a box in one or two dimensions, which converge or raise.

    ∫_box exp(log w(u)) g(u) du,   u in [−1, 1]^J

for many integrands ("rows") at once. log w is a log density of any height, g holds components of
moderate size. First a lattice rule: a smooth function that dies off towards the edges is summed
by equal weights to machine precision as soon as the spacing resolves it. Rows for which a finer
lattice still changes the result go to the adaptive rule: Gauss-Lobatto cells, bisected where
children and parent disagree, which follows walls, kinks and separate modes.

Symbols: R rows, C cells or rows in one call, n nodes, k components of g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = [
    "Integral",
    "QuadratureError",
    "adaptive_rule",
    "lattice",
    "lattice_rule",
    "leaps",
]

# f(rows (C,), u (C, n, J)) -> log w (C, n), g (C, n, k)
Integrand = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

NEGLIGIBLE = 40.0  # nats below the top at which a region no longer matters: e^−40 = 4e-18
_LATTICE_NODES = 40_000  # beyond this many the adaptive rule is the cheaper one
_BLOCK = 1 << 14  # nodes in one call of the integrand
_STEEP = 20.0  # nats between neighbouring nodes: a cell this steep may hide a peak


class QuadratureError(ArithmeticError):
    """The rule did not converge to the tolerance: there is no figure to be trusted.

    Attributes
    ----------
    row : int or None
        The datapoint it happened at.
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
    """Largest step from each lattice node to a neighbour: how much higher a peak may hide.

    Between nodes a distance δ apart, a quadratic log density rises above the higher of them by
    less than its step to a neighbour.

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


def _blocks(count: int, nodes: int) -> Iterator[slice]:
    """Split `count` cells into slices with a bounded number of nodes."""
    step = max(1, _BLOCK // nodes)
    return (slice(start, start + step) for start in range(0, count, step))


def _weighted(
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
    for block in _blocks(len(rows), len(u)):
        some = rows[block]
        parts.append(_weighted(*f(some, np.broadcast_to(u, (len(some), *u.shape))), weights))
    top, value, size = (np.concatenate(part) for part in zip(*parts))
    return Integral(top, value), size


class _Cells(NamedTuple):
    """Boxes centre ± half in the u of a row, with the rule's result on each."""

    row: np.ndarray  # (C,)
    centre: np.ndarray  # (C, J)
    half: np.ndarray  # (C, J)
    top: np.ndarray  # (C,)
    value: np.ndarray  # (C, k), relative to exp(top), as is size
    size: np.ndarray  # (C, k)
    leap: np.ndarray  # (C,), largest step of log w between neighbouring nodes
    doubt: np.ndarray  # (C,), the change that bisecting its parent made, by 8

    def take(self, which: np.ndarray) -> _Cells:
        """Return some of the cells."""
        return _Cells(*(part[which] for part in self))


def adaptive_rule(
    f: Integrand,
    cells: np.ndarray,
    dim: int,
    order: int,
    tolerance: float,
    max_nodes: int,
    kinks: bool = False,
) -> Integral:
    """Integrate by Gauss-Lobatto cells, bisected until children agree with their parents.

    In each round every open cell is compared with the sum of its 2^J halves. A row is done when
    the differences sum to less than the tolerance; before that, the cells with the smallest ones
    are closed, with their halves' values, which may use up half of the tolerance. A cell whose
    log w steps by more than 20 nats from node to node may hide a peak and stays open until it
    cannot matter.

    Parameters
    ----------
    f : callable
        `f(rows, u) -> (log_w, g)`.
    cells : (R, J) array of int
        Cells along each axis to begin with.
    dim : int
        J.
    order : int
        Gauss-Lobatto nodes per axis of a cell.
    tolerance : float
        Bound on the sum of the differences, relative to ∫ w (1 + |g|).
    max_nodes : int
        Per row.
    kinks : bool
        Trust a small difference only if the one before it was small too: on a kink a parent and
        its children agree by accident once in a while.

    Returns
    -------
    integral : Integral

    Raises
    ------
    QuadratureError
        If a row needs more than `max_nodes` nodes.
    """
    R = len(cells)
    parents = _measure(f, *_first_cells(cells), order)
    scale = np.full(R, -np.inf)
    np.maximum.at(scale, parents.row, parents.top)
    total, size = (np.zeros_like(parents.value, shape=(R, parents.value.shape[1])) for _ in "ab")
    spent, nodes = np.zeros(R), np.bincount(parents.row, minlength=R) * order**dim
    parents = parents.take(_matters(parents, scale))
    while len(parents.row):
        halves = _measure(f, *_bisected(parents, dim), order)
        nodes += np.bincount(halves.row, minlength=R) * order**dim
        higher = scale.copy()
        np.maximum.at(higher, halves.row, halves.top)
        rescale = np.exp(scale - higher)[:, None]
        total, size, scale = total * rescale, size * rescale, higher

        families = (len(parents.row), 2**dim, -1)  # halves of one parent stand together
        weight = np.exp(halves.top - scale[halves.row])[:, None]
        refined = (halves.value * weight).reshape(families).sum(axis=1)
        sizes = (halves.size * weight).reshape(families).sum(axis=1)
        before = parents.value * np.exp(parents.top - scale[parents.row])[:, None]
        everything = size.copy()
        np.add.at(everything, parents.row, sizes)
        change = (np.abs(refined - before) / everything[parents.row]).max(axis=1)
        error = np.maximum(change, parents.doubt) if kinks else change
        halves = halves._replace(doubt=np.repeat(change / 8, 2**dim))  # at a kink it falls by 4

        hidden = (halves.leap > _STEEP) & _matters(halves, scale)
        hidden = hidden.reshape(len(error), -1).any(axis=1)
        open_error = np.bincount(parents.row, error, minlength=R)
        allowed = np.where(
            open_error <= tolerance - spent, np.inf, np.maximum(tolerance / 2 - spent, 0) / 4
        )
        closed = ~hidden & _smallest(parents.row, error, allowed)
        np.add.at(total, parents.row[closed], refined[closed])
        np.add.at(size, parents.row[closed], sizes[closed])
        np.add.at(spent, parents.row[closed], error[closed])

        halves = halves.take(np.repeat(~closed, 2**dim))
        idle = ~_matters(halves, scale)  # too small to open again, or to count
        late = np.bincount(parents.row[~closed], minlength=R) > 0
        if (late & (nodes > max_nodes)).any():
            worst = int(np.argmax(np.where(late, nodes, 0)))
            left = error[parents.row == worst].sum()
            raise _not_converged(worst, left, nodes[worst], tolerance)
        parents = halves.take(~idle)
    return Integral(scale, total)


def _not_converged(row: int, left: float, nodes: int, tolerance: float) -> QuadratureError:
    return QuadratureError(
        f"expected the quadrature to settle within {tolerance:.0e}, got an error of "
        f"about {left:.0e} after {nodes} nodes; raise tolerance or max_nodes (activations with a "
        "kink, such as relu, converge slowly with two latents)",
        row,
    )


def _matters(cells: _Cells, scale: np.ndarray) -> np.ndarray:
    """Tell which cells reach, or may hide something that reaches, 40 nats below the top."""
    return cells.top + cells.leap > scale[cells.row] - NEGLIGIBLE


def _first_cells(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each row's box into cells; return row (C,), centre (C, J) and half (C, J)."""
    centres, halves = [], []
    for counts in cells:
        axes = [(np.arange(m) + 0.5) * 2 / m - 1 for m in counts]
        centre = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(counts))
        centres.append(centre)
        halves.append(np.broadcast_to(1 / counts, centre.shape))
    row = np.repeat(np.arange(len(cells)), [len(centre) for centre in centres])
    return row, np.concatenate(centres), np.concatenate(halves)


def _bisected(cells: _Cells, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve each cell along every axis; the 2^J halves of one parent stand together."""
    corners = lattice(2, dim)
    half = cells.half / 2
    centre = cells.centre[:, None] + half[:, None] * corners  # (C, 2^J, J)
    return (
        np.repeat(cells.row, len(corners)),
        centre.reshape(-1, dim),
        np.repeat(half, len(corners), axis=0),
    )


def _measure(
    f: Integrand, row: np.ndarray, centre: np.ndarray, half: np.ndarray, order: int
) -> _Cells:
    """Apply the tensor Gauss-Lobatto rule to each cell."""
    dim = centre.shape[1]
    axis, axis_weights = gauss_lobatto(order)
    nodes = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    weights = axis_weights
    for _ in range(dim - 1):
        weights = np.multiply.outer(weights, axis_weights)
    weights, parts = weights.ravel(), []
    for block in _blocks(len(row), len(nodes)):
        u = centre[block, None] + half[block, None] * nodes
        log_w, g = f(row[block], u)
        top, value, size = _weighted(log_w, g, weights)
        leap = leaps(log_w.reshape(-1, *[order] * dim), dim).reshape(len(u), -1).max(axis=1)
        volume = half[block].prod(axis=1)[:, None]
        parts.append((top, value * volume, size * volume, leap))
    measured = (np.concatenate(part) for part in zip(*parts))
    return _Cells(row, centre, half, *measured, doubt=np.ones(len(row)))


@lru_cache(maxsize=32)
def gauss_lobatto(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [−1, 1], both ends among the nodes, exact to degree 2·order − 3.

    Nodes ±1 and the zeros of P′_{n−1}; weights 2/(n (n − 1) P_{n−1}²). With nodes at the ends a
    kink cannot hide between the last node and the edge, from parent and children alike.
    """
    P = np.polynomial.Legendre.basis(order - 1)
    nodes = np.concatenate([[-1.0], np.sort(P.deriv().roots().real), [1.0]])
    return nodes, 2 / (order * (order - 1) * P(nodes) ** 2)


def _smallest(row: np.ndarray, error: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Mark, in each row, the smallest errors whose sum stays within what is allowed."""
    order = np.lexsort((error, row))
    running = np.cumsum(error[order])
    first = np.flatnonzero(np.diff(row[order], prepend=-1))  # where each row begins
    counts = np.diff(first, append=len(row))
    running -= np.repeat(running[first] - error[order][first], counts)
    marked = np.empty(len(row), bool)
    marked[order] = running <= allowed[row[order]]
    return marked
