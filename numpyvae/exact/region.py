"""Where is the posterior? A search of all of z-space for the region that carries p(z|x).

An integration rule is only as good as the region it is given. One lattice over [−r, r]^J, the same
for all datapoints, so that each node is decoded once, shows where log p(x, z) comes within 40 nats
of its top. Two bounds make it safe:

- near the origin its spacing δ resolves the decoder's first layer, |w_k|·δ ≤ ½ for every hidden
  unit k: nothing that layer does is narrower. Far out it grows with |z|;
- r is so large that nothing beyond it matters: interval arithmetic through the decoder gives a
  ceiling on log p(x|z) within any distance, and the prior's −½ r² must bring it 40 nats below
  the top.

The box found is then framed again and again by finer lattices of its own, turned into the
region's principal axes, until it no longer shrinks: a posterior may be 1e-5 wide.

Symbols: x (B, D); z = c + A u with u in [−1, 1]^J, centre c (B, J), axes A (B, J, J).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..layers import ACTIVATIONS, softplus
from ..likelihoods import Binomial
from ..vae import VAE
from .cubature import NEGLIGIBLE, QuadratureError, lattice, leaps

__all__ = ["Frame", "ceiling", "locate", "spacing"]

_COARSEST = 0.25  # δ in standard deviations of the prior, at most
_RADIUS = 8.0  # r to begin with; beyond it the spacing grows
_REACH = 100.0  # r at most
_SHELLS = _RADIUS * 1.5 ** np.arange(30)  # distances, up to 1e6, at which ceilings are taken
_SCAN_NODES = 1 << 20  # more than this many would take minutes
_SCAN_ELEMENTS = 1 << 23  # log densities (datapoints × nodes) held at a time
_DECODED = 1 << 21  # decoder outputs held at a time
_ZOOM_POINTS, _ZOOMS = 25, 20

LogJoint = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (rows (C,), z (C, n, J)) -> (C, n)


class Frame(NamedTuple):
    """One parallelepiped for each datapoint: z = centre + axes u, u in [−1, 1]^J."""

    centre: np.ndarray  # (B, J)
    axes: np.ndarray  # (B, J, J), columns are half-axes

    def map(self, rows: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map u (C, n, J) to z (C, n, J)."""
        return self.centre[rows, None] + u @ np.swapaxes(self.axes[rows], 1, 2)

    def half_lengths(self) -> np.ndarray:
        """Euclidean lengths of the half-axes, (B, J)."""
        return np.sqrt((self.axes**2).sum(axis=1))

    def log_volume(self) -> np.ndarray:
        """log |det A|, the Jacobian of z in u, (B,)."""
        return np.linalg.slogdet(self.axes)[1]


def spacing(vae: VAE) -> float:
    """Return δ: half the width of the steepest hidden unit of the first layer, at most 0.25."""
    W, _ = vae.parameters.layers("decoder")[0]
    steepest = math.sqrt(np.square(W).sum(axis=0).max()) if vae.architecture.hidden else 0.0
    return min(_COARSEST, 0.5 / steepest) if steepest > 0 else _COARSEST


def locate(vae: VAE, x: np.ndarray, log_joint: LogJoint) -> Frame:
    """Frame, for each datapoint, the region that holds all of the posterior that matters.

    Parameters
    ----------
    vae : VAE
        In float64, J at most 2.
    x : (B, D) array
    log_joint : callable
        `log_joint(rows, z)`: log p(x, z) of rows of x at nodes of their own.

    Returns
    -------
    frame : Frame
        Wider than the region by a lattice spacing all round.

    Raises
    ------
    QuadratureError
        If the search would need too many nodes, or to go too far out.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        return _located(vae, x, log_joint)


def _located(vae: VAE, x: np.ndarray, log_joint: LogJoint) -> Frame:
    """`locate`, widening the search until all of it is known to be enough."""
    B, J, delta = len(x), vae.latent_dim, spacing(vae)
    ceilings = np.stack([ceiling(vae, x, distance) for distance in _SHELLS[1:]])
    result = Frame(np.empty((B, J)), np.empty((B, J, J)))
    open_, radius, margin = np.arange(B), _RADIUS, np.full(B, NEGLIGIBLE)
    while len(open_):
        axis = _axis(radius, delta)
        if len(axis) ** J > _SCAN_NODES:
            raise _out_of_reach(int(open_[0]), radius, delta)
        frame, gap, top = _scan(vae, x[open_], axis, delta, margin[open_])
        if not np.isfinite(top).all():
            row = int(open_[np.argmin(np.isfinite(top))])
            raise QuadratureError("expected finite log densities, got an overflow", row)
        frame, top = _zoom(_of_rows(log_joint, open_), frame, gap, top, margin[open_])
        for mine, found in zip(result, frame):
            mine[open_] = found
        needed = _needed_radius(ceilings[:, open_] - top + margin[open_])
        wanted = _needed_margin(frame)
        further, deeper = needed > radius, wanted > margin[open_] + 1
        if further.any():
            if radius == _REACH:
                raise _out_of_reach(int(open_[np.argmax(needed)]), needed.max(), delta)
            radius = min(needed.max(), 2 * radius, _REACH)
        margin[open_] = np.maximum(margin[open_], wanted)
        open_ = open_[further | deeper]
    return result


def _needed_margin(frame: Frame) -> np.ndarray:
    """Nats below the top that hold all but 1e-10 of the mass, (B,).

    What is left out has less than e^(top − margin) times the (2·8)^J that the prior leaves room
    for. The peak has e^top times its own volume, for which a Gaussian framed to 40 nats stands:
    (2π)^½ σ in each direction, where the frame is 9.5 σ long from its centre.
    """
    J = frame.centre.shape[1]
    log_peak = frame.log_volume() + J * math.log(math.sqrt(2 * math.pi) / 9.5)
    return J * math.log(2 * _RADIUS) + math.log(1e10) - log_peak


def _out_of_reach(row: int, radius: float, delta: float) -> QuadratureError:
    return QuadratureError(
        f"expected a posterior that can be searched for, got one that may lie anywhere within "
        f"|z| < {radius:.0f}, from a decoder with details {delta:.1g} wide; is x anything like "
        "what the decoder produces?",
        row,
    )


def _needed_radius(excess: np.ndarray) -> np.ndarray:
    """Smallest r beyond which log p(x, z) stays a margin below the top, (B,).

    In the shell between two distances log p(x, z) ≤ ceiling − ½ |z|², with the ceiling of the
    outer one; `excess` (shells, B) is that ceiling less (top − margin).
    """
    low, high = _SHELLS[:-1, None], _SHELLS[1:, None]
    reach = np.sqrt(2 * np.maximum(excess, 0))
    return np.where(reach > low, np.minimum(reach, high), 0).max(axis=0)


def _of_rows(log_joint: LogJoint, which: np.ndarray) -> LogJoint:
    return lambda rows, z: log_joint(which[rows], z)


def _axis(radius: float, delta: float) -> np.ndarray:
    """Nodes on [−r, r]: δ apart up to |z| = 8, from there on |z| δ/8 apart."""
    inner = delta * np.arange(1, math.ceil(_RADIUS / delta) + 1)
    steps = max(0, math.ceil(math.log(radius / inner[-1]) / math.log1p(delta / _RADIUS)))
    outer = inner[-1] * (1 + delta / _RADIUS) ** np.arange(1, steps + 1)
    half = np.concatenate([inner, outer])
    return np.concatenate([-half[::-1], [0.0], half])


def _scan(
    vae: VAE, x: np.ndarray, axis: np.ndarray, delta: float, margin: np.ndarray
) -> tuple[Frame, np.ndarray, np.ndarray]:
    """Find boxes by a lattice that all datapoints share.

    Returns the frames, the smallest spacing of the lattice within each, (B,), and the top of
    log p(x, z) over the lattice, (B,).
    """
    J, nodes = vae.latent_dim, len(axis) ** vae.latent_dim
    parts = []
    for some in np.array_split(np.arange(len(x)), -(-len(x) * nodes // _SCAN_ELEMENTS)):
        grid = _log_joint_table(vae, x[some], axis).reshape(-1, *[len(axis)] * J)
        top = grid.max(axis=tuple(range(1, J + 1)))
        near = grid + leaps(grid, J) > (top - margin[some]).reshape(-1, *[1] * J)
        parts.append((*_extent(near, axis), top))
    low, high, top = (np.concatenate(part) for part in zip(*parts))
    inside = np.where((low < 0) & (high > 0), 0, np.minimum(np.abs(low), np.abs(high)))
    gap = delta * np.maximum(1, inside.min(axis=1) / _RADIUS)
    return Frame((low + high) / 2, ((high - low) / 2)[:, :, None] * np.eye(J)), gap, top


def _extent(near: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (B, J) of the marked nodes, one node further out on each side."""
    low, high, last = [], [], len(axis) - 1
    for j in range(1, near.ndim):
        others = tuple(k for k in range(1, near.ndim) if k != j)
        shadow = near.any(axis=others)  # (B, points)
        low.append(axis[np.maximum(shadow.argmax(axis=1) - 1, 0)])
        high.append(axis[np.minimum(last - shadow[:, ::-1].argmax(axis=1) + 1, last)])
    return np.stack(low, axis=1), np.stack(high, axis=1)


def _log_joint_table(vae: VAE, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """log p(x, z) of every datapoint at every lattice node, (B, points^J).

    The log-likelihoods are linear in functions of x, so that each node is decoded once and met
    with all datapoints in one matrix product. Rounding is of no concern here.
    """
    J, points = vae.latent_dim, len(axis)
    z = np.stack(np.meshgrid(*[axis] * J, indexing="ij"), axis=-1).reshape(-1, J)
    table = np.empty((len(x), points**J))
    step = max(1, _DECODED // max(vae.data_dim, *vae.architecture.hidden, 1))
    for start in range(0, len(z), step):
        some = z[start : start + step]
        log_px = _log_likelihood_table(vae, x, vae.decoder(some[None])[0][0])
        log_pz = -0.5 * ((some * some).sum(axis=1) + J * math.log(2 * math.pi))
        table[:, start : start + step] = log_px + log_pz
    return table


def _log_likelihood_table(vae: VAE, x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """log p(x_b|z_g) for all pairs, (B, G), from decoder outputs (G, heads·D)."""
    if isinstance(vae.likelihood, Binomial):
        n = vae.likelihood.n
        at_zero, _ = vae.likelihood.log_prob(x, np.zeros_like(x), vae.parameters)
        constant = at_zero + n * x.shape[1] * math.log(2)  # Σ log C(n, x)
        return x @ out.T - n * softplus(out)[0].sum(axis=1) + constant[:, None]
    mu, logvar = vae.likelihood.moments(out, vae.parameters)
    middle = x.mean(axis=0)  # nearer to 0, the squares cancel less
    x, mu = x - middle, mu - middle
    logvar = np.broadcast_to(logvar, mu.shape)
    precision = np.exp(-logvar)
    constant = (mu * mu * precision + logvar + math.log(2 * math.pi)).sum(axis=1)
    return x @ (mu * precision).T - 0.5 * ((x * x) @ precision.T + constant)


def ceiling(vae: VAE, x: np.ndarray, reach: float) -> np.ndarray:
    """Upper bound on log p(x|z) over all |z_j| ≤ reach, by interval arithmetic.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    reach : float

    Returns
    -------
    bound : (B,) array
        Nats. Never below the maximum; not tight.
    """
    low, high = _output_range(vae, reach)
    if isinstance(vae.likelihood, Binomial):
        # x l − n softplus(l) + log C is largest at sigmoid(l) = x/n
        with np.errstate(divide="ignore"):
            best = np.log(x) - np.log(vae.likelihood.n - x)
        return vae.likelihood.log_prob(x, np.clip(best, low, high), vae.parameters)[0]
    low_mu, low_logvar = vae.likelihood.moments(low, vae.parameters)
    high_mu, high_logvar = vae.likelihood.moments(high, vae.parameters)
    distance = np.maximum(np.maximum(low_mu - x, x - high_mu), 0)
    # −½ (log σ² + d²/σ²) is largest at σ² = d²
    with np.errstate(divide="ignore"):
        log_square = 2 * np.log(distance)
    logvar = np.clip(log_square, low_logvar, high_logvar)
    density = logvar + np.exp(log_square - logvar) + math.log(2 * math.pi)
    return -0.5 * density.sum(axis=1)


def _output_range(vae: VAE, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on every decoder output over |z_j| ≤ reach: all activations are increasing."""
    activation = ACTIVATIONS[vae.architecture.activation]
    layers = vae.parameters.layers("decoder")
    low, high = np.full(vae.latent_dim, -reach), np.full(vae.latent_dim, reach)
    for i, (W, b) in enumerate(layers):
        middle, radius = (low + high) / 2 @ W + b, (high - low) / 2 @ np.abs(W)
        low, high = middle - radius, middle + radius
        if i < len(layers) - 1:
            low, high = activation(low)[0], activation(high)[0]
    return low, high


def _zoom(
    log_joint: LogJoint, frame: Frame, gap: np.ndarray, top: np.ndarray, margin: np.ndarray
) -> tuple[Frame, np.ndarray]:
    """Frame the region within `margin` of the top more closely, in its own principal axes.

    A frame so large that its lattice would be coarser than the one it was found with, `gap` (B,),
    is left as it is: that lattice could lose what the other saw. Returns the frames and the top
    of log p(x, z), (B,), both as known by then.
    """
    centre, axes, top = (part.copy() for part in (*frame, top))
    J = centre.shape[1]
    u, step = lattice(_ZOOM_POINTS, J), 2 / (_ZOOM_POINTS - 1)
    open_ = np.flatnonzero((frame.half_lengths() * step <= gap[:, None]).all(axis=1))
    for _ in range(_ZOOMS):
        if not len(open_):
            break
        old = Frame(centre[open_], axes[open_])
        z = old.map(np.arange(len(open_)), np.broadcast_to(u, (len(open_), *u.shape)))
        values = log_joint(open_, z)
        top[open_] = np.maximum(top[open_], values.max(axis=1))
        grid = values.reshape(-1, *[_ZOOM_POINTS] * J)
        reach = values + leaps(grid, J).reshape(values.shape)
        near = reach > values.max(axis=1, keepdims=True) - margin[open_, None]
        new = _principal_frame(z, near, old.axes * step)
        centre[open_], axes[open_] = new
        open_ = open_[new.log_volume() < old.log_volume() - math.log(2)]
    return Frame(centre, axes), top


def _principal_frame(z: np.ndarray, near: np.ndarray, margin: np.ndarray) -> Frame:
    """Box the marked nodes (B, n, J) in their principal axes, one lattice cell wider all round."""
    weight = near / near.sum(axis=1, keepdims=True)
    mean = np.einsum("bn,bnj->bj", weight, z)
    deviation = z - mean[:, None]
    cov = np.einsum("bn,bnj,bnk->bjk", weight, deviation, deviation)
    turn = np.linalg.eigh(cov)[1]  # columns: the principal axes
    along = deviation @ turn
    low = np.where(near[:, :, None], along, np.inf).min(axis=1)
    high = np.where(near[:, :, None], along, -np.inf).max(axis=1)
    wider = np.abs(np.swapaxes(turn, 1, 2) @ margin).sum(axis=2)
    centre = mean + np.einsum("bjk,bk->bj", turn, (low + high) / 2)
    return Frame(centre, turn * ((high - low) / 2 + wider)[:, None, :])
