"""The adaptive rule: Gauss-Lobatto cells, bisected where children and parent disagree.

It follows walls, kinks and separate modes, at a price: it is for integrands that the lattice rule
of `cubature` does not settle.

Symbols: R rows, C cells, n nodes in a cell, k components of g.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .cubature import (
    NEGLIGIBLE,
    Integral,
    Integrand,
    QuadratureError,
    blocks,
    lattice,
    leaps,
    weighted,
)

__all__ = ["adaptive_rule", "gauss_lobatto"]

_STEEP = 20.0  # nats between neighboring nodes: a cell this steep may hide a peak


class _Cells(NamedTuple):
    """Boxes center ± half in the u of a row, with the rule's result on each."""

    row: np.ndarray  # (C,)
    center: np.ndarray  # (C, J)
    half: np.ndarray  # (C, J)
    top: np.ndarray  # (C,)
    value: np.ndarray  # (C, k), relative to exp(top), as is size
    size: np.ndarray  # (C, k)
    leap: np.ndarray  # (C,), largest step of log w between neighboring nodes
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
    total = np.zeros((R, parents.value.shape[1]))
    size, spent = total.copy(), np.zeros(R)
    nodes = np.bincount(parents.row, minlength=R) * order**dim
    everything = _summed(parents.row, parents.size * _weight(parents, scale), total)
    parents = parents.take(_matters(parents, scale, everything))
    while len(parents.row):
        halves = _measure(f, *_bisected(parents, dim), order)
        nodes += np.bincount(halves.row, minlength=R) * order**dim
        higher = scale.copy()
        np.maximum.at(higher, halves.row, halves.top)
        rescale = np.exp(scale - higher)[:, None]
        total, size, scale = total * rescale, size * rescale, higher

        families = (len(parents.row), 2**dim, -1)  # halves of one parent stand together
        weight = _weight(halves, scale)
        refined = (halves.value * weight).reshape(families).sum(axis=1)
        sizes = (halves.size * weight).reshape(families).sum(axis=1)
        before = parents.value * _weight(parents, scale)
        everything = _summed(parents.row, sizes, size)
        change = (np.abs(refined - before) / everything[parents.row]).max(axis=1)
        error = np.maximum(change, parents.doubt) if kinks else change
        halves = halves._replace(doubt=np.repeat(change / 8, 2**dim))  # at a kink it falls by 4

        matters = _matters(halves, scale, everything)
        hidden = (matters & (halves.leap > _STEEP)).reshape(len(error), -1).any(axis=1)
        open_error = np.bincount(parents.row, error, minlength=R)
        allowed = np.where(
            open_error <= tolerance - spent, np.inf, np.maximum(tolerance / 2 - spent, 0) / 4
        )
        closed = ~hidden & _smallest(parents.row, error, allowed)
        total = _summed(parents.row[closed], refined[closed], total)
        size = _summed(parents.row[closed], sizes[closed], size)
        spent += np.bincount(parents.row[closed], error[closed], minlength=R)

        late = np.bincount(parents.row[~closed], minlength=R) > 0
        if (late & (nodes > max_nodes)).any():
            worst = int(np.argmax(np.where(late, nodes, 0)))
            left = error[parents.row == worst].sum()
            raise _not_converged(worst, left, nodes[worst], tolerance)
        parents = halves.take(matters & np.repeat(~closed, 2**dim))
    return Integral(scale, total)


def _not_converged(row: int, left: float, nodes: int, tolerance: float) -> QuadratureError:
    return QuadratureError(
        f"expected the quadrature to settle within {tolerance:.0e}, got an error of "
        f"about {left:.0e} after {nodes} nodes; raise tolerance or max_nodes (activations with a "
        "kink, such as relu, converge slowly with two latents)",
        row,
    )


def _weight(cells: _Cells, scale: np.ndarray) -> np.ndarray:
    """Factor that brings the cells' values to the scale of their rows, (C, 1)."""
    return np.exp(cells.top - scale[cells.row])[:, None]


def _summed(row: np.ndarray, values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return start (R, k) with the values (C, k) added to their rows."""
    result = start.copy()
    np.add.at(result, row, values)
    return result


def _matters(cells: _Cells, scale: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Tell which cells hold, or may hide, more than e^−40 of their row's ∫ w (1 + |g|)."""
    volume = np.log(2 * cells.half).sum(axis=1)
    floor = scale + np.log(everything.min(axis=1)) - NEGLIGIBLE
    return cells.top + cells.leap + volume > floor[cells.row]


def _first_cells(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each row's box into cells; return row (C,), center (C, J) and half (C, J)."""
    centers, halves = [], []
    for counts in cells:
        axes = [(np.arange(m) + 0.5) * 2 / m - 1 for m in counts]
        center = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(counts))
        centers.append(center)
        halves.append(np.broadcast_to(1 / counts, center.shape))
    row = np.repeat(np.arange(len(cells)), [len(center) for center in centers])
    return row, np.concatenate(centers), np.concatenate(halves)


def _bisected(cells: _Cells, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve each cell along every axis; the 2^J halves of one parent stand together."""
    corners = lattice(2, dim)
    half = cells.half / 2
    center = cells.center[:, None] + half[:, None] * corners  # (C, 2^J, J)
    return (
        np.repeat(cells.row, len(corners)),
        center.reshape(-1, dim),
        np.repeat(half, len(corners), axis=0),
    )


def _measure(
    f: Integrand, row: np.ndarray, center: np.ndarray, half: np.ndarray, order: int
) -> _Cells:
    """Apply the tensor Gauss-Lobatto rule to each cell."""
    dim = center.shape[1]
    axis, axis_weights = gauss_lobatto(order)
    nodes = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    weights = axis_weights
    for _ in range(dim - 1):
        weights = np.multiply.outer(weights, axis_weights)
    weights, parts = weights.ravel(), []
    for block in blocks(len(row), len(nodes)):
        u = center[block, None] + half[block, None] * nodes
        log_w, g = f(row[block], u)
        top, value, size = weighted(log_w, g, weights)
        leap = leaps(log_w.reshape(-1, *[order] * dim), dim).reshape(len(u), -1).max(axis=1)
        volume = half[block].prod(axis=1)[:, None]
        parts.append((top, value * volume, size * volume, leap))
    measured = (np.concatenate(part) for part in zip(*parts))
    return _Cells(row, center, half, *measured, doubt=np.ones(len(row)))


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
