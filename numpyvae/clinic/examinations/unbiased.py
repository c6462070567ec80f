"""Is a gradient that is not the derivative of the value right in its mean?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..differences import Parts, encoder_parts, slope, step
from ..statistics import two_stages
from .gradient_case import Case, factor_of, known_z

__all__ = ["unbiased"]

_SEEDS, _TILES = 150, 8  # the rows stand several times in the batch of each seed


def unbiased(case: Case, known: tuple[Parts, float, str] | None) -> str:
    """Return whether the mean gradient is that of the mean loss: "right", "wrong" or "undecided".

    With two halves of the seeds: the first gives the direction in which the difference is greatest
    in its standard errors, the second gives the difference along it.
    """
    wide = case._replace(x=np.concatenate([case.x] * _TILES))
    factor = factor_of(wide) if known else None
    draw = _exact_differences(wide, factor[0]) if factor else _directions(wide)
    first, second = draw(0), draw(1)
    # central differences have an error that no number of seeds removes
    wrong = np.isin(case.blocks.block, [case.blocks.names.index(n) for n in case.wrong])
    bias = case.tolerance * np.linalg.norm(case.expected[wrong])
    spread = np.maximum(first.std(0), np.maximum(bias, 1e-300))
    direction = first.mean(0) / spread**2
    direction /= max(np.linalg.norm(direction), 1e-300)

    def stage(number: int) -> tuple[float, float]:
        along = (second if number == 0 else draw(2)) @ direction
        mean = float(along.mean())
        beyond = mean - np.clip(mean, -bias, bias)
        return beyond / max(float(along.std(ddof=1)), 1e-300), len(along) ** -0.5

    return two_stages(stage, 0.1)


def _exact_differences(case: Case, c: float) -> Callable:
    """The gradient minus c ∂(−ELBO) for many seeds, at the coordinates that are wrong.

    The derivatives of μ and log σ² do not depend on the noise: they are computed once.
    """
    facts, x, beta = case.facts, case.x, case.facts.calls.subject.beta
    where = np.isin(case.blocks.block, [case.blocks.names.index(n) for n in case.wrong])
    index = case.blocks.index[where]
    mu, logvar, d_mu, d_logvar = encoder_parts(facts, x, index)
    sigma = np.exp(0.5 * logvar)

    def one(seed: int) -> np.ndarray:
        z = known_z(case, seed)
        g, eps = slope(facts, x, z), (z - mu) / sigma
        by_mu, by_logvar = g + beta * mu, 0.5 * (g * eps * sigma + beta * (sigma**2 - 1))
        exact = (by_mu * d_mu + by_logvar * d_logvar).sum((1, 2)) / len(x)
        gradient = facts.calls.gradient(x, seed, facts.latent_dim)
        return np.concatenate(list(gradient.values()))[index] - c * exact

    return lambda stage: np.array([one(20_000 * (stage + 1) + k) for k in range(_SEEDS)])


def _directions(case: Case) -> Callable:
    """The differences along three directions in the wrong blocks, by central differences."""
    flat = case.facts.calls.vector()
    where = np.isin(case.blocks.block, [case.blocks.names.index(n) for n in case.wrong])
    index, rng = case.blocks.index[where], case.facts.rng(61)
    directions = np.zeros((3, len(flat)))
    directions[:, index] = rng.standard_normal((3, len(index)))
    directions[0, index] = case.expected[where]
    directions[1, index] = (case.found - case.expected)[where]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def draw(stage: int) -> np.ndarray:
        seeds = range(20_000 * (stage + 1), 20_000 * (stage + 1) + _SEEDS)
        return np.array([_directional(case, flat, directions, s) for s in seeds])

    return draw


def _directional(case: Case, flat: np.ndarray, directions: np.ndarray, seed: int) -> list[float]:
    """The differences of both derivatives along some directions, for one seed."""
    calls, h, j = case.facts.calls, step(case.facts), case.facts.latent_dim
    gradient = np.concatenate(list(calls.gradient(case.x, seed, j).values()))
    found = []
    for v in directions:
        sides = []
        for sign in (1, -1):
            calls.replace(flat + sign * h * v)
            sides.append(calls.loss(case.x, seed, j))
        found.append(float(gradient @ v - (sides[0] - sides[1]) / (2 * h)))
    calls.replace(flat)
    return found
