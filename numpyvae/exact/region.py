"""Where is the posterior? A search of all of z-space for the region that carries p(z|x).

An integration rule is only as good as the region it is given. One lattice over [−r, r]^J, the same
for all datapoints, so that each node is decoded once, shows where log p(x, z) comes within 40 nats
of its top. Two bounds make it safe:

- the spacing δ resolves the decoder's first layer, |w_k·δ| ≤ ½ for every hidden unit k: nothing
  the decoder does is narrower than that, but for what the layers above make of its slopes;
- r is so large that the prior alone rules out everything beyond it: interval arithmetic through
  the decoder gives a ceiling on log p(x|z), and −½ r² must bring it 40 nats below the top.

The box found is then framed again and again by finer lattices of its own, turned into the
region's principal axes, until it no longer shrinks.

Symbols: x (B, D); z = c + A u with u in [−1, 1]^J, centre c (B, J), axes A (B, J, J).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..layers import ACTIVATIONS, softplus
from ..likelihoods import Binomial, Likelihood
from ..parameters import Parameters
from ..vae import VAE
from .cubature import NEGLIGIBLE, Integrand, QuadratureError, lattice, leaps

__all__ = ["Frame", "ceiling", "scan", "zoom"]

_COARSEST = 0.25  # spacing of the scan, in standard deviations of the prior, at most
_FIRST_RADIUS = 8.0
_REACH = 100.0  # the ceiling holds for |z_j| up to here; beyond, the prior is below e^−5000
_SCAN_NODES = 1 << 20  # more than this many would take minutes
_SCAN_ELEMENTS = 1 << 23  # log densities (datapoints × nodes) held at a time
_DECODED = 1 << 21  # decoder outputs held at a time
_ZOOM_POINTS, _ZOOMS = 25, 12


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
    if not vae.architecture.hidden:
        return _COARSEST
    steepest = math.sqrt(np.square(W).sum(axis=0).max())
    return min(_COARSEST, 0.5 / steepest) if steepest > 0 else _COARSEST


def scan(vae: VAE, x: np.ndarray) -> Frame:
    """Find, for each datapoint, a box that holds all of the posterior that matters.

    Parameters
    ----------
    vae : VAE
        In float64, J at most 2.
    x : (B, D) array

    Returns
    -------
    frame : Frame
        Boxes along the axes of z, one lattice spacing wider than the region on each side.

    Raises
    ------
    QuadratureError
        If the search would need too many nodes.
    """
    delta, J = spacing(vae), vae.latent_dim
    highest = ceiling(vae, x, _REACH)
    centre, axes = np.empty((len(x), J)), np.zeros((len(x), J, J))
    radius = np.full(len(x), _FIRST_RADIUS)
    open_ = np.arange(len(x))
    while len(open_):
        n = math.ceil(radius[open_].max() / delta)
        axis = delta * np.arange(-n, n + 1)
        if len(axis) ** J > _SCAN_NODES or n * delta > _REACH:
            raise _too_wide(int(open_[np.argmax(radius[open_])]), radius[open_].max(), delta)
        for some in np.array_split(open_, -(-len(open_) * len(axis) ** J // _SCAN_ELEMENTS)):
            log_joint = _log_joint_table(vae, x[some], axis)
            grid = log_joint.reshape(-1, *[len(axis)] * J)
            top = log_joint.max(axis=1)
            near = (grid + leaps(grid, J)).reshape(len(some), -1) > (top - NEGLIGIBLE)[:, None]
            low, high = _extent(near.reshape(grid.shape), axis)
            centre[some] = (low + high) / 2
            axes[some] = ((high - low) / 2 + delta)[:, :, None] * np.eye(J)
            # beyond r: log p(x, z) ≤ ceiling − ½ r², which must be below top − 40
            radius[some] = np.sqrt(2 * np.maximum(highest[some] - top + NEGLIGIBLE, 0))
        open_ = open_[radius[open_] > n * delta]
    return Frame(centre, axes)


def _too_wide(row: int, radius: float, delta: float) -> QuadratureError:
    return QuadratureError(
        f"expected a posterior that can be searched for, got one that may lie anywhere within "
        f"|z| < {radius:.0f} while the decoder has details {delta:.1g} wide; x may be far from "
        "anything the decoder produces",
        row,
    )


def _extent(near: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest coordinates of the marked nodes, (B, J) each."""
    low, high = [], []
    for j in range(1, near.ndim):
        others = tuple(k for k in range(1, near.ndim) if k != j)
        shadow = near.any(axis=others)  # (B, points)
        low.append(axis[shadow.argmax(axis=1)])
        high.append(axis[len(axis) - 1 - shadow[:, ::-1].argmax(axis=1)])
    return np.stack(low, axis=1), np.stack(high, axis=1)


def _log_joint_table(vae: VAE, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """log p(x, z) up to a constant per x for every datapoint and lattice node, (B, points^J).

    Both kinds of likelihood are linear in functions of x, so that each node is decoded once and
    met with all datapoints in one matrix product. Good to about 1e-10, which is plenty here.
    """
    J, points = vae.latent_dim, len(axis)
    z = np.stack(np.meshgrid(*[axis] * J, indexing="ij"), axis=-1).reshape(-1, J)
    table = np.empty((len(x), points**J))
    widest = max(vae.data_dim, *vae.architecture.hidden, 1)
    step = max(1, _DECODED // widest)
    for start in range(0, len(z), step):
        some = z[start : start + step]
        out = vae.decoder(some[None])[0][0]
        log_prior = -0.5 * ((some * some).sum(axis=1) + J * math.log(2 * math.pi))
        log_px = _log_likelihood_table(vae.likelihood, vae.parameters, x, out)
        table[:, start : start + step] = log_px + log_prior
    return table


def _log_likelihood_table(
    likelihood: Likelihood, parameters: Parameters, x: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """log p(x_b|z_g) for all pairs, (B, G), from decoder outputs (G, heads·D)."""
    if isinstance(likelihood, Binomial):
        n = likelihood.n
        constant, _ = likelihood.log_prob(x, np.zeros_like(x), parameters)
        constant = constant + n * x.shape[1] * math.log(2)  # Σ log C(n, x)
        return x @ out.T - n * softplus(out)[0].sum(axis=1) + constant[:, None]
    mu, logvar = likelihood.moments(out, parameters)
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
    likelihood = vae.likelihood
    if isinstance(likelihood, Binomial):
        # x l − n softplus(l) + log C is largest at sigmoid(l) = x/n
        with np.errstate(divide="ignore"):
            best = np.log(x) - np.log(likelihood.n - x)
        return likelihood.log_prob(x, np.clip(best, low, high), vae.parameters)[0]
    low_mu, low_logvar = likelihood.moments(low, vae.parameters)
    high_mu, high_logvar = likelihood.moments(high, vae.parameters)
    distance = np.maximum(np.maximum(low_mu - x, x - high_mu), 0)
    # −½ (log σ² + d²/σ²) is largest at σ² = d²
    with np.errstate(divide="ignore"):
        log_square = 2 * np.log(distance)
    logvar = np.clip(log_square, low_logvar, high_logvar)
    density = logvar + np.exp(log_square - logvar) + math.log(2 * math.pi)
    return -0.5 * np.broadcast_to(density, x.shape).sum(axis=1)


def _output_range(vae: VAE, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on every decoder output over |z_j| ≤ reach: all activations are increasing."""
    activation = ACTIVATIONS[vae.architecture.activation]
    layers = vae.parameters.layers("decoder")
    middle, radius = np.zeros(vae.latent_dim), np.full(vae.latent_dim, reach)
    for i, (W, b) in enumerate(layers):
        middle, radius = middle @ W + b, radius @ np.abs(W)
        if i < len(layers) - 1:
            low, high = activation(middle - radius)[0], activation(middle + radius)[0]
            middle, radius = (low + high) / 2, (high - low) / 2
    return middle - radius, middle + radius


def zoom(f: Integrand, frame: Frame, delta: float) -> Frame:
    """Frame the region within 40 nats of the top more closely, in its own principal axes.

    Parameters
    ----------
    f : callable
        `f(rows, z) -> log w` for z (C, n, J).
    frame : Frame
    delta : float
        Spacing at which `frame` was found: a coarser lattice could lose what that one saw, so
        larger frames are left as they are.

    Returns
    -------
    frame : Frame
    """
    centre, axes = frame.centre.copy(), frame.axes.copy()
    J = centre.shape[1]
    u = lattice(_ZOOM_POINTS, J)
    step = 2 / (_ZOOM_POINTS - 1)
    open_ = np.flatnonzero((frame.half_lengths() * step <= delta).all(axis=1))
    for _ in range(_ZOOMS):
        if not len(open_):
            break
        old = Frame(centre[open_], axes[open_])
        z = old.map(np.arange(len(open_)), np.broadcast_to(u, (len(open_), *u.shape)))
        log_w = f(open_, z)
        grid = log_w.reshape(-1, *[_ZOOM_POINTS] * J)
        reach = (grid + leaps(grid, J)).reshape(log_w.shape)
        near = reach > log_w.max(axis=1, keepdims=True) - NEGLIGIBLE
        new = _principal_frame(z, near, old.axes * step)
        centre[open_], axes[open_] = new
        open_ = open_[new.log_volume() < old.log_volume() - math.log(2)]
    return Frame(centre, axes)


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
