"""One lattice over z-space for all datapoints: where is log p(x, z) near its top?

Each node is decoded once and met with every datapoint. Two bounds make the search safe:

- near the origin the spacing δ resolves the decoder: no unit of a saturating hidden layer moves by
  more than ½ between neighboring nodes. A wall is seen from both sides and from within, where
  data that the decoder contradicts have their posterior. Far out the spacing grows with |z|;
- interval arithmetic through the decoder gives a ceiling on log p(x|z) within any distance, from
  which `region` knows how far out to look.

Symbols: x (B, D); G lattice nodes z; decoder outputs (G, heads·D).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..core.layers import ACTIVATIONS, softplus
from ..core.likelihoods import Binomial
from ..core.vae import VAE
from .cubature import NEGLIGIBLE, QuadratureError, leaps

__all__ = ["RADIUS", "ceiling", "graded_axis", "scan", "spacing"]

RADIUS = 8.0  # up to here the spacing is δ, beyond it grows
_COARSEST = 0.25  # δ in standard deviations of the prior, at most
_SATURATING = ("tanh", "sigmoid")
_NODES = 1 << 22  # more than this many would take minutes
_ELEMENTS = 1 << 21  # numbers in one block


def spacing(vae: VAE) -> float:
    """Return δ, half the width of the steepest hidden unit, at most 0.25.

    The first layer's steepness is |w_k|. That of deeper units varies with z: it is looked up on a
    lattice which the layers before them do not need finer. Only tanh and sigmoid saturate and so
    hide what is between two nodes; behind the others a wall is a slope that is seen from afar.

    Raises
    ------
    QuadratureError
        If the lattice would have too many nodes.
    """
    layers = vae.parameters.layers("decoder")[:-1]
    if vae.architecture.activation not in _SATURATING:
        layers = layers[:1]
    delta = _COARSEST
    for depth in range(1, len(layers) + 1):
        axis = graded_axis(RADIUS, delta)
        blocks = (
            _nodes(axis, vae, vae.latent_dim) if depth > 1 else [np.zeros((1, vae.latent_dim))]
        )
        steepest = max(_steepness(vae, z, depth) for z in blocks)
        if steepest > 0:
            delta = min(delta, 0.5 / steepest)
        check_size(graded_axis(RADIUS, delta), delta, vae.latent_dim)
    return delta


def check_size(axis: np.ndarray, delta: float, latent_dim: int, row: int | None = None) -> None:
    """Raise if a lattice with this axis is out of the question."""
    if len(axis) ** latent_dim > _NODES:
        raise QuadratureError(
            f"expected a decoder whose details can be searched through, got some {delta:.1g} wide "
            f"and |z| up to {axis[-1]:.0f} to search; its weights may be too large",
            row,
        )


def _steepness(vae: VAE, z: np.ndarray, depth: int) -> float:
    """Largest |∂a_k/∂z| among the inputs a_k of a hidden layer's units, over nodes z (G, J)."""
    activation = ACTIVATIONS[vae.architecture.activation]
    layers = vae.parameters.layers("decoder")[:depth]
    W, b = layers[0]
    a, slope = z @ W + b, np.broadcast_to(W, (len(z), *W.shape))  # ∂a/∂z (G, J, H)
    for W, b in layers[1:]:
        h, pull = activation(a)
        slope = (slope * pull(np.ones_like(h))[:, None]) @ W
        a = h @ W + b
    return math.sqrt(np.square(slope).sum(axis=1).max())


def graded_axis(radius: float, delta: float) -> np.ndarray:
    """Nodes on [−r, r]: δ apart up to |z| = 8, from there on |z| δ/8 apart."""
    inner = delta * np.arange(1, math.ceil(RADIUS / delta) + 1)
    steps = max(0, math.ceil(math.log(radius / inner[-1]) / math.log1p(delta / RADIUS)))
    outer = inner[-1] * (1 + delta / RADIUS) ** np.arange(1, steps + 1)
    half = np.concatenate([inner, outer])
    return np.concatenate([-half[::-1], [0.0], half])


def _nodes(axis: np.ndarray, vae: VAE, dim: int, rows: slice = slice(None)) -> Iterator:
    """Walk over the lattice whose first axis is cut to `rows`, in blocks (G, J)."""
    axes = [axis[rows], *[axis] * (dim - 1)]
    z = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dim)
    step = max(1, _ELEMENTS // (dim * max(vae.data_dim, *vae.architecture.hidden, 1)))
    return (z[start : start + step] for start in range(0, len(z), step))


def scan(vae: VAE, x: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the box in which log p(x, z) comes within 40 nats of its top.

    Slab by slab along the first axis, and twice: the top must be known before what is near it.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    axis : (n,) array
        Nodes along every axis.

    Returns
    -------
    low, high : (B, J) array
        Bounds of the box.
    top : (B,) array
        Largest log p(x, z) at a node.
    """
    B, n, J = len(x), len(axis), vae.latent_dim
    step = max(1, _ELEMENTS // (B * n ** (J - 1)))
    top = np.full(B, -np.inf)
    for start in range(0, n, step):
        slab = _log_joint_table(vae, x, axis, slice(start, start + step))
        top = np.maximum(top, slab.reshape(B, -1).max(axis=1))
    shadows = np.zeros((J, B, n), bool)  # of the region on each axis
    for start in range(0, n, step):
        before = min(start, 1)  # a node more on either side, for the steps between nodes
        slab = _log_joint_table(vae, x, axis, slice(start - before, start + step + 1))
        near = slab + leaps(slab, J) > (top - NEGLIGIBLE).reshape(-1, *[1] * J)
        near = near[:, before : before + step]
        shadows[0, :, start : start + step] = near.reshape(*near.shape[:2], -1).any(axis=2)
        if J == 2:
            shadows[1] |= near.any(axis=1)
    first, last = shadows.argmax(axis=2), n - 1 - shadows[:, :, ::-1].argmax(axis=2)
    return axis[first].T, axis[last].T, top


def _log_joint_table(vae: VAE, x: np.ndarray, axis: np.ndarray, rows: slice) -> np.ndarray:
    """log p(x, z) of every datapoint at every node of a slab, (B, rows, n) or (B, rows).

    The log-likelihoods are linear in functions of x: the nodes meet the datapoints in one matrix
    product. Rounding is of no concern here.
    """
    J, parts = vae.latent_dim, []
    for z in _nodes(axis, vae, J, rows):
        log_px = _log_likelihood_table(vae, x, vae.decoder(z[None])[0][0])
        parts.append(log_px - 0.5 * ((z * z).sum(axis=1) + J * math.log(2 * math.pi)))
    return np.concatenate(parts, axis=1).reshape(len(x), -1, *[len(axis)] * (J - 1))


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
