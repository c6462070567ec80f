"""Where is the posterior? A search of all of z-space for the region that carries p(z|x).

An integration rule is only as good as the region it is given. `scan` finds, on one lattice for all
datapoints, the box in which log p(x, z) comes within 40 nats of its top. The box is then framed
again and again by finer lattices of its own, turned into the region's principal axes, until it no
longer shrinks: a posterior may be 1e-5 wide. The search goes so far out that the prior rules out
everything beyond.

Symbols: x (B, D); z = c + A u with u in [−1, 1]^J, center c (B, J), axes A (B, J, J).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..core.vae import VAE
from .cubature import NEGLIGIBLE, QuadratureError, leaps
from .scan import RADIUS, ceiling, check_size, graded_axis, scan

__all__ = ["Frame", "locate"]

_REACH = 100.0  # |z| at most
_SHELLS = RADIUS * 1.5 ** np.arange(30)  # distances, up to 1e6, at which ceilings are taken
_ZOOM_POINTS, _ZOOM_NODES, _ZOOMS = 25, 40_000, 20

LogJoint = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (rows (C,), z (C, n, J)) -> (C, n)


class Frame(NamedTuple):
    """One parallelepiped for each datapoint: z = center + axes u, u in [−1, 1]^J."""

    center: np.ndarray  # (B, J)
    axes: np.ndarray  # (B, J, J), columns are half-axes

    def map(self, rows: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map u (C, n, J) to z (C, n, J)."""
        return self.center[rows, None] + u @ np.swapaxes(self.axes[rows], 1, 2)

    def half_lengths(self) -> np.ndarray:
        """Euclidean lengths of the half-axes, (B, J)."""
        return np.sqrt((self.axes**2).sum(axis=1))

    def log_volume(self) -> np.ndarray:
        """log |det A|, the Jacobian of z in u, (B,)."""
        return np.linalg.slogdet(self.axes)[1]


def locate(vae: VAE, x: np.ndarray, log_joint: LogJoint, delta: float) -> Frame:
    """Frame, for each datapoint, the region that holds all of the posterior that matters.

    Parameters
    ----------
    vae : VAE
        In float64, J at most 2.
    x : (B, D) array
    log_joint : callable
        `log_joint(rows, z)`: log p(x, z) of rows of x at nodes of their own.
    delta : float
        `spacing(vae)`.

    Returns
    -------
    frame : Frame
        They hold every node at which log p(x, z) is within 40 nats of the top, or would be if it
        rose once more as much as it does from there to a neighbor.

    Raises
    ------
    QuadratureError
        If the search would need too many nodes, or to go too far out.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        return _located(vae, x, log_joint, delta)


def _located(vae: VAE, x: np.ndarray, log_joint: LogJoint, delta: float) -> Frame:
    """`locate`, going further out until that is known to be enough."""
    B, J = len(x), vae.latent_dim
    ceilings = np.stack([ceiling(vae, x, distance) for distance in _SHELLS[1:]])
    result = Frame(np.empty((B, J)), np.empty((B, J, J)))
    open_, radius = np.arange(B), RADIUS
    while True:
        axis = graded_axis(radius, delta)
        check_size(axis, delta, J, int(open_[0]))
        low, high, top = scan(vae, x[open_], axis)
        if not np.isfinite(top).all():
            row = int(open_[np.argmin(np.isfinite(top))])
            raise QuadratureError("expected finite log densities, got an overflow", row)
        frame = Frame((low + high) / 2, ((high - low) / 2)[:, :, None] * np.eye(J))
        nearest = np.where((low < 0) & (high > 0), 0, np.minimum(np.abs(low), np.abs(high)))
        gap = delta * np.maximum(1, nearest.min(axis=1) / RADIUS)  # of the scan's nodes there
        frame, top = _zoom(_of_rows(log_joint, open_), frame, gap, top)
        for mine, found in zip(result, frame):
            mine[open_] = found
        needed = _needed_radius(ceilings[:, open_] - top + NEGLIGIBLE)
        open_, needed = open_[needed > radius], needed[needed > radius]
        if not len(open_):
            return result
        if radius == _REACH:
            raise QuadratureError(
                f"expected a posterior that can be searched for, got one that may lie anywhere "
                f"within |z| < {needed[0]:.0f}; is x anything like what the decoder produces?",
                int(open_[0]),
            )
        radius = min(needed.max(), 2 * radius, _REACH)


def _needed_radius(excess: np.ndarray) -> np.ndarray:
    """Smallest r beyond which log p(x, z) stays 40 nats below the top, (B,).

    In the shell between two distances log p(x, z) ≤ ceiling − ½ |z|², with the ceiling of the
    outer one; `excess` (shells, B) is that ceiling less (top − 40).
    """
    low, high = _SHELLS[:-1, None], _SHELLS[1:, None]
    reach = np.sqrt(2 * np.maximum(excess, 0))
    return np.where(reach > low, np.minimum(reach, high), 0).max(axis=0)


def _of_rows(log_joint: LogJoint, which: np.ndarray) -> LogJoint:
    return lambda rows, z: log_joint(which[rows], z)


def _zoom(
    log_joint: LogJoint, frame: Frame, gap: np.ndarray, top: np.ndarray
) -> tuple[Frame, np.ndarray]:
    """Frame the region within 40 nats of the top more closely, in its own principal axes.

    By lattices of at least 25 points along each axis of a frame and nowhere coarser than the one
    that found it, `gap` (B,), which they must not lose anything of; a frame too large for that is
    left as it is. Returns the frames and the top of log p(x, z), (B,), as known by then.
    """
    frame, top = Frame(*map(np.copy, frame)), top.copy()
    open_ = np.arange(len(top))
    for _ in range(_ZOOMS):
        points = np.ceil(2 * frame.half_lengths()[open_] / gap[open_, None]).astype(int) + 1
        points = np.maximum(points, _ZOOM_POINTS)
        small = points.prod(axis=1) <= _ZOOM_NODES
        open_, points = open_[small], points[small]
        shrunk = np.zeros(len(open_), bool)
        for counts in np.unique(points, axis=0):
            same = (points == counts).all(axis=1)
            rows = open_[same]
            new, highest = _closer(log_joint, rows, Frame(*(part[rows] for part in frame)), counts)
            top[rows] = np.maximum(top[rows], highest)
            shrunk[same] = new.log_volume() < frame.log_volume()[rows] - math.log(2)
            frame.center[rows], frame.axes[rows] = new
        open_ = open_[shrunk]
        if not len(open_):
            break
    return frame, top


def _closer(
    log_joint: LogJoint, rows: np.ndarray, frame: Frame, counts: np.ndarray
) -> tuple[Frame, np.ndarray]:
    """One step of the zoom for the given rows: their new frames, and the top they saw, (C,)."""
    axes = [np.linspace(-1, 1, points) for points in counts]
    u = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(counts))
    z = frame.map(np.arange(len(rows)), np.broadcast_to(u, (len(rows), *u.shape)))
    values = log_joint(rows, z)
    top = values.max(axis=1)
    reach = values + leaps(values.reshape(-1, *counts), len(counts)).reshape(values.shape)
    return _principal_frame(z, reach > (top - NEGLIGIBLE)[:, None]), top


def _principal_frame(z: np.ndarray, near: np.ndarray) -> Frame:
    """Box the marked nodes (B, n, J) in their principal axes."""
    weight = near / near.sum(axis=1, keepdims=True)
    mean = np.einsum("bn,bnj->bj", weight, z)
    deviation = z - mean[:, None]
    cov = np.einsum("bn,bnj,bnk->bjk", weight, deviation, deviation)
    turn = np.linalg.eigh(cov)[1]  # columns: the principal axes
    along = deviation @ turn
    low = np.where(near[:, :, None], along, np.inf).min(axis=1)
    high = np.where(near[:, :, None], along, -np.inf).max(axis=1)
    center = mean + np.einsum("bjk,bk->bj", turn, (low + high) / 2)
    return Frame(center, turn * ((high - low) / 2)[:, None, :])
