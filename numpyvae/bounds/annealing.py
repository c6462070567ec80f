"""Chains that are annealed along a path, and the weights that they collect.

The bounds of `ais` need chains in both directions with the same temperatures and step sizes. This
module has all three: the temperatures, the step sizes, and the annealed chain itself.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..support.checks import check_count, check_positive, shown
from .hmc import Point, adapted, transition
from .path import Path
from .streams import RowStreams

__all__ = [
    "PILOT_CHAINS",
    "Steps",
    "anneal",
    "check_temperatures",
    "n_moves",
    "sigmoid_temperatures",
    "tune",
]

PILOT_CHAINS = 8
_PILOT_TEMPERATURES = 100
_WARM_UP = 30  # moves at the pilot's first temperature, to adapt its first step
_SMOOTHED = 5  # neighboring temperatures whose log steps are averaged after the pilot


def sigmoid_temperatures(n: int, steepness: float = 4.0) -> np.ndarray:
    """Return inverse temperatures 0 = β₀ < … < β_{n+1} = 1, dense at both ends.

    β_t ∝ s(δ (2t/(n + 1) − 1)) − s(−δ),  s the sigmoid, δ = 4   (Wu et al. 2016, §4)

    Parameters
    ----------
    n : int
        The number of intermediate distributions.
    steepness : float
        δ.

    Returns
    -------
    temperatures : (n + 2,) array

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number above 0, or `steepness` not a number above 0.

    Examples
    --------
    >>> sigmoid_temperatures(3).round(2)
    array([0. , 0.1, 0.5, 0.9, 1. ])
    """
    n = check_count("n", n)
    steepness = check_positive("steepness", steepness)
    s = 0.5 * np.tanh(0.5 * steepness * np.linspace(-1, 1, n + 2))
    return (s - s[0]) / (s[-1] - s[0])


def check_temperatures(temperatures: Any) -> np.ndarray:
    """Return inverse temperatures as an array.

    Raises
    ------
    TypeError, ValueError
        If they are not numbers that increase from 0 to 1.
    """
    try:
        betas = np.asarray(temperatures, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(
            f"temperatures: expected a sequence of numbers, got {shown(temperatures)}"
        ) from None
    if betas.ndim == 0:
        raise TypeError(
            f"temperatures: expected a sequence from 0 to 1, got {shown(temperatures)}; "
            "to give their number, use n_temperatures"
        )
    if betas.ndim != 1 or betas.size < 2 or betas[0] != 0 or betas[-1] != 1:
        ends = f"from {betas[0]:g} to {betas[-1]:g}" if betas.ndim == 1 and betas.size else "none"
        raise ValueError(
            "temperatures: expected a sequence from 0 to 1 as [0, 0.2, 1], "
            f"got shape {betas.shape}, {ends}"
        )
    falls = np.flatnonzero(~(np.diff(betas) > 0))
    if falls.size:
        i = falls[0]
        raise ValueError(
            "temperatures: expected increasing numbers, "
            f"got {betas[i]} and then {betas[i + 1]} at index {i + 1}"
        )
    return betas


class Steps(NamedTuple):
    """The leapfrog step as a function of β, one for each datapoint: tuned once, then constant.

    Attributes
    ----------
    betas : (P,) array
    log_step : (P, B) array
    """

    betas: np.ndarray
    log_step: np.ndarray

    def at(self, beta: float) -> np.ndarray:
        """Return the step at β, (B, 1): its logarithm is interpolated linearly in β."""
        above = int(np.clip(np.searchsorted(self.betas, beta), 0, len(self.betas) - 1))
        below = max(above - 1, 0)
        span = self.betas[above] - self.betas[below]
        share = (beta - self.betas[below]) / span if span > 0 else 0.0
        log_step = (1 - share) * self.log_step[below] + share * self.log_step[above]
        return np.exp(log_step)[:, None]


def pilot_betas(betas: np.ndarray) -> np.ndarray:
    """Return the temperatures of the pilot run: 100 of the intermediate ones, or all."""
    n = len(betas) - 2
    chosen = np.unique(np.linspace(1, n, min(n, _PILOT_TEMPERATURES)).round().astype(int))
    return betas[chosen]


def n_moves(betas: np.ndarray) -> tuple[int, int]:
    """Return the number of moves of the pilot run, and of an annealed chain."""
    n = len(betas) - 2
    return (len(pilot_betas(betas)) - 1 + _WARM_UP if n else 0), n


def tune(
    path: Path, betas: np.ndarray, n_leapfrog: int, draws: RowStreams, advance: Callable
) -> Steps:
    """Find the steps by a pilot run, whose chains are then discarded.

    The pilot run anneals separate chains along the path, and adapts log step after each move to
    the acceptance of that move, as Wu et al. 2016 do. They adapt it within the run that gives the
    weights. But then the step depends on where the chains have been, the moves no longer leave f_β
    invariant, E[w] is no longer p(x), and the bounds are not valid. A pilot run with other noise
    gives steps that are constants for the chains that give the weights, in both directions.
    """
    chosen = pilot_betas(betas)
    point = path.start(0.0, path.draw(draws.normal()))
    log_step = 0.5 * path.logvar.min(axis=1).astype(float)
    found = np.empty((len(chosen), len(log_step)))
    for k, beta in enumerate(chosen):
        point = path.at(beta, point)
        for _ in range(1 if k else _WARM_UP):
            step = np.exp(log_step)[:, None].astype(point.z.dtype)
            point, acceptance = _move(path, beta, point, step, n_leapfrog, draws)
            log_step = adapted(log_step, acceptance)
            advance(f"tuning, acceptance {acceptance.mean():.2f}")
        found[k] = log_step
    return Steps(chosen, _smooth(found))


def anneal(
    path: Path,
    point: Point,
    betas: np.ndarray,
    steps: Steps | None,
    n_leapfrog: int,
    draws: RowStreams,
    advance: Callable,
) -> tuple[np.ndarray, np.ndarray]:
    """Anneal chains along the path and collect their log weights (Neal 2001, §2).

    log w = Σ_t log f_{β_t}(z_{t−1}) − log f_{β_{t−1}}(z_{t−1}) = Σ_t (β_t − β_{t−1}) r(z_{t−1})

    where z_t comes from z_{t−1} by a move that leaves f_{β_t} invariant. If z₀ ~ p₀ and β
    increases, E[w] = p(x). If z₀ ~ p(z|x) and β decreases, the same formula gives E[w] = 1/p(x),
    because a Hamiltonian move is reversible.

    Parameters
    ----------
    path : Path
    point : Point
        Draws from the distribution at `betas[0]`.
    betas : (T,) array
        Increasing from 0 to 1, or decreasing from 1 to 0.
    steps : Steps, optional
        None if there is no temperature between 0 and 1.
    n_leapfrog : int
    draws : RowStreams
    advance : callable

    Returns
    -------
    log_w : (C, B) array of float64
    acceptance : (B,) array
        Mean over temperatures and chains; NaN if there is no move.
    """
    C, B = point.log_p.shape
    log_w, total = np.zeros((C, B)), np.zeros(B)
    for before, after in pairwise(betas):
        log_w += (after - before) * point.kept[0].astype(float)
        if steps is not None and 0 < after < 1:
            step = steps.at(after).astype(point.z.dtype)
            point = path.at(after, point)
            point, acceptance = _move(path, after, point, step, n_leapfrog, draws)
            total += acceptance.mean(axis=0)
            advance(f"acceptance {acceptance.mean():.2f}")
    n = len(betas) - 2
    return log_w, (total / n if n else np.full_like(total, np.nan))


def _move(
    path: Path, beta: float, point: Point, step: np.ndarray, n_leapfrog: int, draws: RowStreams
) -> tuple[Point, np.ndarray]:
    """Make one Hamiltonian move at temperature β."""
    return transition(
        path.density(beta),
        point,
        step * draws.jitter(),
        n_leapfrog,
        draws.normal(),
        draws.log_uniform(),
    )


def _smooth(rows: np.ndarray) -> np.ndarray:
    """Average each row (P, B) with its neighbors."""
    width = min(_SMOOTHED, len(rows))
    padded = np.pad(rows, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    return np.mean([padded[i : i + len(rows)] for i in range(width)], axis=0)
