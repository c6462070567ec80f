"""Hamiltonian Monte Carlo for many chains and many datapoints at once (Neal 2011).

A transition moves z like a particle of unit mass in the potential −log p(z), by the leapfrog
rule, and then accepts or rejects the new z. It leaves p invariant exactly, for any step size. The
C chains of B datapoints are one array (C, B, J), without a loop over either. Annealing and the
estimator of appendix D both need such moves.

A density is a function of z (C, B, J)

    log_p, gradient, *kept = density(z)

that returns the log density (C, B), up to a constant, its gradient (C, B, J), and any further
arrays (C, B) or (C, B, J) that the caller needs at the current z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .streams import RowStreams

__all__ = [
    "TARGET_ACCEPTANCE",
    "Point",
    "Samples",
    "adapted",
    "decreasing_gain",
    "point_at",
    "sample",
    "transition",
]

TARGET_ACCEPTANCE = 0.65  # the best in many dimensions (Neal 2011, §4.4); Wu et al. 2016 use it
_GAIN = 1.0  # change of log step for each unit of acceptance above the target

Density = Callable[[np.ndarray], tuple[np.ndarray, ...]]


class Point(NamedTuple):
    """The current z of the chains, with the values of the density there."""

    z: np.ndarray
    log_p: np.ndarray
    gradient: np.ndarray
    kept: tuple[np.ndarray, ...]


def point_at(density: Density, z: np.ndarray) -> Point:
    """Evaluate the density at z, (C, B, J)."""
    log_p, gradient, *kept = density(z)
    return Point(z, log_p, gradient, tuple(kept))


def leapfrog(
    density: Density, point: Point, velocity: np.ndarray, step: np.ndarray, n_leapfrog: int
) -> tuple[Point, np.ndarray]:
    """Follow Hamilton's equations for a few steps h.

    v ← v + ½ h ∇log p(z),   z ← z + h v,   v ← v + ½ h ∇log p(z)

    The last half-step of v and the first one of the next step are added together, so that each
    step needs one gradient.

    Parameters
    ----------
    velocity : (C, B, J) array
    step : array that broadcasts to (C, B, J)
    n_leapfrog : int

    Returns
    -------
    point : Point
    velocity : (C, B, J) array
    """
    velocity = velocity + 0.5 * step * point.gradient
    for left in reversed(range(n_leapfrog)):
        point = point_at(density, point.z + step * velocity)
        velocity += (1.0 if left else 0.5) * step * point.gradient
    return point, velocity


def transition(
    density: Density,
    point: Point,
    step: np.ndarray,
    n_leapfrog: int,
    eps: np.ndarray,
    log_u: np.ndarray,
) -> tuple[Point, np.ndarray]:
    """Make one Hamiltonian move, which leaves the density invariant.

    accept z′ if log u < (log p(z′) − ½ |v′|²) − (log p(z) − ½ |v|²), else keep z

    If the difference is not finite, z′ is rejected, as if its density were zero.

    Parameters
    ----------
    density : callable
    point : Point
    step : array that broadcasts to (C, B, J)
        It must not depend on earlier states of these chains.
    n_leapfrog : int
    eps : (C, B, J) array
        The initial velocities, standard normal.
    log_u : (C, B) array
        Logarithms of uniform draws.

    Returns
    -------
    point : Point
    acceptance : (C, B) array
        The acceptance probability of the move.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        proposal, velocity = leapfrog(density, point, eps, step, n_leapfrog)
        kinetic = 0.5 * (velocity * velocity - eps * eps).sum(axis=-1)
        rise = proposal.log_p - point.log_p - kinetic
    rise[~np.isfinite(rise)] = -np.inf
    taken = log_u < rise

    def choose(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(taken.reshape(taken.shape + (1,) * (new.ndim - 2)), new, old)

    moved = Point(
        choose(proposal.z, point.z),
        choose(proposal.log_p, point.log_p),
        choose(proposal.gradient, point.gradient),
        tuple(map(choose, proposal.kept, point.kept)),
    )
    return moved, np.exp(np.minimum(rise, 0))


def adapted(
    log_step: np.ndarray,
    acceptance: np.ndarray,
    gain: float = _GAIN,
    target: float = TARGET_ACCEPTANCE,
) -> np.ndarray:
    """Return log step (B,), adapted to the mean over the chains of the acceptance, (C, B)."""
    return log_step + gain * (acceptance.mean(axis=0, dtype=float) - target)


def decreasing_gain(t: int) -> float:
    """Return the gain of `adapted` after t moves: it falls as 1/√t, so that the step settles."""
    return _GAIN / np.sqrt(1 + t / 10)


class Samples(NamedTuple):
    """The result of `sample`.

    Attributes
    ----------
    z : (S, C, B, J) array
    log_p : (S, C, B) array
        The log density at z.
    acceptance : (B,) array
        Mean acceptance probability after the burn-in.
    step : (B,) array
    """

    z: np.ndarray
    log_p: np.ndarray
    acceptance: np.ndarray
    step: np.ndarray


def sample(
    density: Density,
    z: np.ndarray,
    n_samples: int,
    draws: RowStreams,
    *,
    n_leapfrog: int = 10,
    n_burn: int = 200,
    step: float = 0.1,
    advance: Callable[[str], None] = lambda note: None,
) -> Samples:
    """Draw from a density by C chains on each of B datapoints.

    During the burn-in the step size of each datapoint is adapted to an acceptance of 0.65, by
    decreasing amounts. Its average over the second half of the burn-in is used for the draws: with
    a step that depends on the chain, the moves would not leave the density invariant.

    Parameters
    ----------
    density : callable
    z : (C, B, J) array
        The initial states of the chains.
    n_samples : int
        S, the number of moves after the burn-in; each gives a draw.
    draws : RowStreams
    n_leapfrog, n_burn : int
    step : float
        The initial step size.
    advance : callable
        Function called with a note after each move, to show progress.

    Returns
    -------
    samples : Samples
    """
    point = point_at(density, z)
    log_step = np.full(z.shape[1], np.log(step))
    averaged = np.zeros_like(log_step)
    late = n_burn - n_burn // 2  # moves of the second half, whose steps are averaged
    kept_z, kept_log_p = np.empty((n_samples, *z.shape), z.dtype), []
    total = np.zeros(z.shape[1])
    for t in range(n_burn + n_samples):
        if t == n_burn:
            log_step = averaged
        h = np.exp(log_step)[:, None].astype(z.dtype) * draws.jitter()
        point, acceptance = transition(
            density, point, h, n_leapfrog, draws.normal(), draws.log_uniform()
        )
        if t < n_burn:
            log_step = adapted(log_step, acceptance, decreasing_gain(t))
            averaged += log_step * (t >= n_burn - late) / late
        else:
            kept_z[t - n_burn] = point.z
            kept_log_p.append(point.log_p)
            total += acceptance.mean(axis=0)
        advance(f"acceptance {acceptance.mean():.2f}")
    return Samples(kept_z, np.array(kept_log_p), total / n_samples, np.exp(log_step))
