"""Integrals over boxes in one or two dimensions: two rules that refine until nothing changes.

    ∫ exp(log w(u)) g(u) du,   u in [−1, 1]^J

for many integrands ("rows") at once, known by their values alone. log w is a log density of any
height, g holds components of moderate size.

- `trapezoidal` sums equally spaced nodes, all with one weight. For a smooth integrand that dies
  off towards the edges the error falls exponentially with the number of nodes (Trefethen &
  Weideman 2014). Each refinement adds the centers of the cells, and only around nodes that may
  matter: a posterior of several narrow modes costs what its modes cost.
- `panels` continues where there are kinks, or steep steps that many nodes do not resolve. It takes
  Gauss-Lobatto panels around the nodes that matter, and halves those whose halves and whole
  disagree.

Symbols: R rows, N nodes, k components of g.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

__all__ = ["NEGLIGIBLE", "STEEP", "Grid", "Integral", "QuadratureError", "panels", "trapezoidal"]

NEGLIGIBLE = 40.0  # nats below the top at which a node no longer matters: e^−40 = 4e-18
STEEP = 20.0  # nats between neighboring nodes: a step this large may hide a peak
_HALF = {1: 12, 2: 6}  # nodes on either side of the center to begin with, for each J
_LOWEST = -1e15  # below, float64 cannot tell log densities apart
_BLOCK = 1 << 13  # nodes in one call of the integrand
_MANY = 20_000  # nodes of a row, beyond which panels are the cheaper way to go on
_TOGETHER = 1 << 20  # nodes that all rows may have at a time; beyond, each row comes alone
_BITS = 56  # of a key are for coordinates, the 7 above them for the row

# f(rows (N,), u (N, J)) -> log w (N,), g (N, k)
Integrand = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


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


class Grid:
    """Equally spaced nodes of at most 128 rows, kept as sorted whole numbers ("keys").

    A key holds the row and the J coordinates. The sum of a key and a step is the key of a
    neighbor: all neighbors are found by one binary search.

    Parameters
    ----------
    dim : int
        The number J of latent variables.
    half : int
        Nodes on either side of the center, along each axis, to begin with.
    """

    def __init__(self, dim: int, half: int) -> None:
        self.dim, self._bits = dim, _BITS // dim
        self.unit = 1 << (self._bits - 2 - int(half).bit_length())  # coordinates that are 1 in u
        self.steps = [self.unit << self._bits * j for j in range(dim)]

    def keys(self, row: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Return the keys of nodes with whole coordinates u (N, J), in units of the first grid."""
        key = row.astype(np.int64)
        for column in u.T.astype(np.int64) * self.unit:
            key = (key << self._bits) + column + (1 << (self._bits - 1))
        return key

    def row(self, key: np.ndarray) -> np.ndarray:
        """Return the rows of the keys, (N,)."""
        return (key >> self._bits * self.dim).astype(np.intp)  # 32 bits on some processors

    def u(self, key: np.ndarray) -> np.ndarray:
        """Return the coordinates of the keys, (N, J), in units of the first grid's spacing."""
        mask, center = (1 << self._bits) - 1, 1 << (self._bits - 1)
        shifts = [self._bits * j for j in reversed(range(self.dim))]
        return np.stack([((key >> s & mask) - center) / self.unit for s in shifts], axis=1)

    def centers(self, key: np.ndarray) -> np.ndarray:
        """Refine by the centers of the cells around the given nodes; return the centers' keys.

        Nodes and centers together are a grid of half the cell: in one dimension of half the
        spacing, in two of spacing h/√2, turned by 45°. Its steps lead from nodes to centers.
        """
        if self.steps[0] == 1:
            raise QuadratureError("expected a posterior wider than 1e-6 of the box that holds it")
        a, b = self.steps[0], self.steps[-1]
        self.steps = [a // 2] if self.dim == 1 else [(a + b) // 2, (a - b) // 2]
        around = np.sort(np.concatenate([key + s * t for s in self.steps for t in (1, -1)]))
        return around[np.diff(around, prepend=-1) > 0]

    def leaps(self, key: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the largest |step| from each node to a neighbor: how much higher a peak may hide.

        Between nodes a distance h apart, a quadratic log density rises above the higher of them by
        less than its step to a neighbor.
        """
        leap = np.zeros(len(key))
        for step in self.steps:
            there = np.searchsorted(key, key + step)
            there[there == len(key)] = 0
            one = np.flatnonzero(key[there] == key + step)
            other = there[one]
            size = np.abs(values[one] - values[other])
            leap[one] = np.maximum(leap[one], size)
            leap[other] = np.maximum(leap[other], size)
        return leap


def evaluated(f: Integrand, row: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log w (N,) and g (N, k) of finite values, in blocks of nodes."""
    parts = [f(row[i : i + _BLOCK], u[i : i + _BLOCK]) for i in range(0, len(row), _BLOCK)]
    log_w, g = map(np.concatenate, zip(*parts))
    wrong = np.isnan(log_w) | (log_w == np.inf) | ~np.isfinite(g).all(axis=1)
    if wrong.any():
        raise QuadratureError(
            "expected finite log densities, got NaN or infinity; check the decoder's parameters",
            int(row[wrong.argmax()]),
        )
    return np.maximum(log_w, -1e300), g


def check_top(top: np.ndarray, rows: np.ndarray) -> None:
    """Raise where the largest log density is so low that float64 does not resolve 40 nats."""
    if (low := top < _LOWEST).any():
        raise QuadratureError(
            f"expected log densities above {_LOWEST:.0e}, got none; is x anything like what the "
            "decoder produces?",
            int(rows[low.argmax()]),
        )


def highest(row: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    """Return the largest value of each row, (R,); −∞ for rows without any."""
    top = np.full(rows, -np.inf)
    np.maximum.at(top, row, values)
    return top


def _summed(row: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    """Sum values (N, k) over the nodes of each row, (R, k)."""
    return np.stack([np.bincount(row, column, rows) for column in values.T], axis=1)


def trapezoidal(
    f: Integrand,
    rows: np.ndarray,
    dim: int,
    tolerance: float,
    max_nodes: int,
    *,
    kinks: bool = False,
    order: int = 8,
    least: np.ndarray | float = 0.0,
    shift: float = 0.0,
) -> Integral:
    """Sum over equally spaced nodes, with as many again in each round, until the result stands.

    A round's new nodes are a grid of their own, shifted by half a cell: the change that they make
    is the error of the grid before, and a safe bound on that of both together. In two dimensions
    two rounds halve the spacing, and every other round adds nodes to the columns of the grid but
    no columns: it sees the error along the columns alone. The round before it must then have
    changed the result by less than √tolerance, since to halve the spacing is to square, at least,
    an error that falls exponentially.

    Sums over an integrand with kinks agree by accident now and then: such a row is left to
    `panels` as soon as log w no longer leaps. In two dimensions so is one that many nodes do not
    settle.

    Parameters
    ----------
    f : callable
        `f(rows, u) -> (log_w, g)`.
    rows : (R,) array of int
        At most 128.
    dim : int
        The number J of latent variables.
    tolerance : float
        Largest accepted change, relative to ∫ w (1 + |g|).
    max_nodes : int
        Per row.
    kinks : bool
        Whether the integrand may have kinks.
    order : int
        Nodes of a panel, along each axis.
    least : (R,) array
        Number of cells along an axis that a row needs before anything is left out or accepted.
    shift : float
        Distance by which all nodes are moved, in units of the first spacing.

    Returns
    -------
    integral : Integral

    Raises
    ------
    QuadratureError
        If a row needs more than `max_nodes` nodes: to settle, or to bring the steps of log w from
        node to node below 20 nats.
    """
    R, half = len(rows), _HALF[dim]
    grid, least, level = Grid(dim, half), np.broadcast_to(least, R), 0

    def at(key):
        return evaluated(f, rows[grid.row(key)], (grid.u(key) + shift) / half)

    first = _product(np.arange(-half, half + 1), dim)  # (G, J)
    key = grid.keys(np.repeat(np.arange(R), len(first)), np.tile(first, (R, 1)))
    log_w, g = at(key)
    log_scale, value = np.full(R, -np.inf), np.zeros((R, g.shape[1]))
    change, open_ = np.full(R, np.inf), np.ones(R, bool)
    cells: dict[Any, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    while True:
        row = grid.row(key)
        top = np.where(open_, highest(row, log_w, R), log_scale)
        check_top(top, rows)
        w = np.exp(log_w - top[row])[:, None] / (half**dim * 2.0**level)
        coarse, before = value * np.exp(log_scale - top)[:, None], change
        new, change = _sums(row, w, g, coarse)
        log_scale, value = top, np.where(open_[:, None], new, value)

        across = 2 * half * 2 ** (level / dim)  # cells along an axis
        fine = across >= least
        near, steep = _leaping(row, log_w, grid.leaps(key, log_w), top)
        steady = dim == 1 or before <= math.sqrt(tolerance)
        open_ = open_ & ~((change <= tolerance) & steady & fine & ~steep & (not kinks))
        nodes = np.bincount(row, minlength=R)
        if (kinks or dim == 2) and level % dim == 0:  # every other grid is turned by 45°
            ready = (across * 2 * order >= least) & (~steep if kinks else level >= 2 * dim)
            for i in set(np.flatnonzero(open_ & ready)) - set(cells):
                u = (grid.u(key[(row == i) & near]) + shift) / half  # of the cells' centers
                cells[i] = np.full(len(u), rows[i]), u, np.full(len(u), 1 / across)
        for i in set(np.flatnonzero(open_)) & set(cells):
            if kinks or (dim == 2 and nodes[i] > _MANY):
                one = f, rows[i : i + 1], top[i : i + 1], *cells[i]
                part = panels(*one, order, tolerance, max_nodes, kinks)
                log_scale[i], value[i], open_[i] = part.log_scale[0], part.value[0], False
        _check_nodes(open_ & (nodes > max_nodes), rows, change, nodes, tolerance)
        if open_.any() and nodes[open_].sum() > _TOGETHER and R > 1:
            alone = partial(trapezoidal, kinks=kinks, order=order, shift=shift)
            for i in np.flatnonzero(open_):
                part = alone(f, rows[i : i + 1], dim, tolerance, max_nodes, least=least[i])
                log_scale[i], value[i], open_[i] = part.log_scale[0], part.value[0], False
        if not open_.any():
            return Integral(log_scale, value)
        kept = open_[row]
        added = grid.centers(key[kept & (near | ~fine[row])])
        more = zip((key, log_w, g), (added, *at(added)))
        key, log_w, g = (np.concatenate([old[kept], new]) for old, new in more)
        sort, level = np.argsort(key), level + 1
        key, log_w, g = key[sort], log_w[sort], g[sort]


def _product(axis: np.ndarray, dim: int) -> np.ndarray:
    """Return all points whose coordinates are on the axis, (n^J, J)."""
    return np.array(list(itertools.product(axis, repeat=dim)))


def _sums(
    row: np.ndarray, w: np.ndarray, g: np.ndarray, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ w g of each row, (R, k), and its change from the `coarse` sum, (R,)."""
    R = len(coarse)
    new, size = _summed(row, w * g, R), _summed(row, w * (1 + np.abs(g)), R)
    return new, (np.abs(new - coarse) / np.where(size > 0, size, 1)).max(axis=1)


def _leaping(
    row: np.ndarray, log_w: np.ndarray, leap: np.ndarray, top: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which nodes may matter, (N,), and which rows have steps too large to trust, (R,)."""
    near = log_w + leap > top[row] - NEGLIGIBLE
    return near, highest(row[near], leap[near], len(top)) > STEEP


def _check_nodes(
    late: np.ndarray, rows: np.ndarray, left: np.ndarray, nodes: np.ndarray, tolerance: float
) -> None:
    """Raise for the first row that is late, with the error that is left."""
    if late.any():
        worst = int(late.argmax())
        raise _not_converged(rows[worst], left[worst], nodes[worst], tolerance)


def _not_converged(row: int, left: float, nodes: int, tolerance: float) -> QuadratureError:
    return QuadratureError(
        f"expected the quadrature to settle within {tolerance:.0e}, got an error of about "
        f"{left:.0e} after {nodes} nodes; raise tolerance or max_nodes (activations with a "
        "kink, such as relu, converge slowly with two latents)",
        int(row),
    )


def panels(
    f: Integrand,
    rows: np.ndarray,
    top: np.ndarray,
    row: np.ndarray,
    center: np.ndarray,
    half: np.ndarray,
    order: int,
    tolerance: float,
    max_nodes: int,
    kinks: bool,
) -> Integral:
    """Integrate by Gauss-Lobatto panels, halved along each axis until halves and whole agree.

    A row is done when the differences of its panels sum to half the tolerance. Until then those
    that are small even if all were as large are closed, with their halves' values. At a kink a
    panel and its halves agree by accident now and then, wherever it is: a small difference counts
    only if that of the panel before was small too. A panel in which log w leaps may hide a peak:
    it stays open until that could not matter.

    Parameters
    ----------
    f : callable
        `f(rows, u) -> (log_w, g)`.
    rows : (R,) array of int
        In ascending order.
    top : (R,) array
        Roughly the largest log w of each row.
    row : (C,) array of int
        The row of each panel to begin with.
    center : (C, J) array
    half : (C,) array
        Half the width of each panel.
    order : int
        Nodes of a panel, along each axis.
    tolerance : float
        Relative to ∫ w (1 + |g|).
    max_nodes : int
        Per row.
    kinks : bool
        Whether the integrand may have kinks. In two dimensions a row whose errors fall too slowly
        for `max_nodes` is then refused early.

    Returns
    -------
    integral : Integral

    Raises
    ------
    QuadratureError
        If a row needs more than `max_nodes` nodes.
    """
    R, dim = len(rows), center.shape[1]
    corners = _product(np.array([-0.5, 0.5]), dim)  # (2^J, J)
    row = np.searchsorted(rows, row)
    rule = partial(_rule, f, rows, top, order)

    whole, size, _, _ = rule(row, center, half)
    scale, total = _summed(row, size, R), np.zeros((R, whole.shape[1]))
    spent = np.zeros(R)
    doubt, nodes = np.full(len(row), np.inf), np.bincount(row, minlength=R) * order**dim
    while True:
        center = (center[:, None] + half[:, None, None] * corners).reshape(-1, dim)
        half = np.repeat(half / 2, len(corners))
        halves, _, leap, height = rule(np.repeat(row, len(corners)), center, half)
        both = halves.reshape(len(row), len(corners), -1).sum(axis=1)
        change = (np.abs(both - whole) / scale[row]).max(axis=1)
        error = np.maximum(change, doubt) if kinks else change
        count, left = np.bincount(row, minlength=R), np.bincount(row, error, minlength=R)
        nodes += count * len(halves) // len(row) * order**dim
        allowed = np.where(
            left <= tolerance / 2, np.inf, (tolerance / 2 - spent) / np.maximum(count, 1) / 2
        )
        floor = np.log(scale.min(axis=1))[np.repeat(row, len(corners))] - NEGLIGIBLE
        hidden = (leap > STEEP) & (height + leap + dim * np.log(2 * half) > floor)
        closed = (error <= allowed[row]) & ~hidden.reshape(len(row), -1).any(axis=1)
        spent += np.bincount(row[closed], error[closed], minlength=R)
        total += _summed(row[closed], both[closed], R)
        if closed.all():
            return Integral(top, total)
        # A kink is a line: n times the nodes for an error n² times smaller.
        finite = np.where(np.isfinite(left), left, 0)
        needed = nodes * np.sqrt(finite / tolerance) / 4 if kinks and dim == 2 else nodes
        working = np.bincount(row[~closed], minlength=R) > 0
        late = (np.maximum(nodes, needed) > max_nodes) & working
        _check_nodes(late, rows, left, nodes, tolerance)
        still = np.repeat(~closed, len(corners))
        row, whole = np.repeat(row, len(corners))[still], halves[still]
        center, half = center[still], half[still]
        doubt = np.repeat(change / 8, len(corners))[still]  # at a kink it falls by 4 or more


def _rule(
    f: Integrand,
    rows: np.ndarray,
    top: np.ndarray,
    order: int,
    row: np.ndarray,
    center: np.ndarray,
    half: np.ndarray,
) -> Iterator[np.ndarray]:
    """Return of each panel ∫ w g, ∫ w (1 + |g|), the largest step of log w, and its top."""
    dim = center.shape[1]
    axis, axis_weights = gauss_lobatto(order)
    x, weights = _product(axis, dim), _product(axis_weights, dim).prod(axis=1)  # (n, J), (n,)
    parts, step = [], max(1, _BLOCK // len(x))
    for i in range(0, len(row), step):
        u = (center[i : i + step, None] + half[i : i + step, None, None] * x).reshape(-1, dim)
        log_w, g = evaluated(f, np.repeat(rows[row[i : i + step]], len(x)), u)
        log_w = log_w.reshape(-1, len(x)) - top[row[i : i + step], None]
        table = log_w.reshape(-1, *[order] * dim)
        leaps = [abs(np.diff(table, axis=j + 1)).reshape(len(table), -1) for j in range(dim)]
        leap = np.concatenate(leaps, axis=1).max(axis=1)
        w = np.exp(log_w)
        w *= weights * half[i : i + step, None] ** dim
        g = g.reshape(*w.shape, -1)
        value, size = (np.einsum("cn,cnk->ck", w, part) for part in (g, 1 + abs(g)))
        parts.append((value, size, leap, log_w.max(axis=1)))
    return map(np.concatenate, zip(*parts))


@lru_cache(maxsize=32)
def gauss_lobatto(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [−1, 1], both ends among the nodes, exact to degree 2·order − 3.

    Nodes ±1 and the zeros of P′_{n−1}; weights 2/(n (n − 1) P_{n−1}²). With nodes at the ends a
    kink cannot hide between the last node and the edge, from panel and halves alike.
    """
    P = np.polynomial.Legendre.basis(order - 1)
    nodes = np.concatenate([[-1.0], np.sort(P.deriv().roots().real), [1.0]])
    return nodes, 2 / (order * (order - 1) * P(nodes) ** 2)
