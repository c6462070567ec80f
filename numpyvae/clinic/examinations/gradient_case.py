"""The gradient at chosen coordinates beside the derivative of the loss, and the parts of both."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..differences import Blocks, Parts, choose, parts, sides, step
from ..facts import Facts
from ..hypotheses import laws
from ..subject import SubjectError

__all__ = ["SEED", "Case", "compare", "factor_of", "parts_of", "z_of"]

_ROWS, SEED = 4, 11


class Case(NamedTuple):
    """What is compared: the gradient at chosen coordinates, by the subject and by differences."""

    facts: Facts
    x: np.ndarray
    blocks: Blocks
    found: np.ndarray
    expected: np.ndarray
    tolerance: float
    rounding: float = 0.0  # of a derivative, from that of the loss

    def of(self, name: str) -> np.ndarray:
        """Where the coordinates of a block are."""
        return self.blocks.block == self.blocks.names.index(name)

    def error(self, where: np.ndarray) -> float:
        """The relative error of the coordinates, against the size that such a part has.

        What rounding errors of the loss explain does not count.
        """
        difference = np.linalg.norm((self.found - self.expected)[where])
        difference = np.maximum(difference - self.rounding * np.sqrt(where.sum()), 0.0)
        size = np.sqrt(where.sum() / len(where)) * np.linalg.norm(self.expected)
        return float(difference / max(np.linalg.norm(self.expected[where]), 1e-3 * size, 1e-300))

    @property
    def wrong(self) -> list[str]:
        """The blocks that are wrong."""
        return [n for n in self.blocks.names if self.error(self.of(n)) > self.tolerance]

    @property
    def unseen(self) -> list[str]:
        """The blocks whose gradient is no larger than the rounding errors of the differences."""
        places = {n: self.of(n) for n in self.blocks.names}
        least = 3 * self.rounding
        return [
            n
            for n, where in places.items()
            if np.linalg.norm(self.expected[where]) <= least * np.sqrt(where.sum())
        ]

    def ratio(self, where: np.ndarray) -> float | None:
        """The factor of the coordinates against what was expected, None if there is none."""
        a, b = self.found[where], self.expected[where]
        factor = float(a @ b / max(b @ b, 1e-300))
        fits = np.linalg.norm(a - factor * b) <= self.loose * np.linalg.norm(b)
        return factor if fits else None

    @property
    def loose(self) -> float:
        """The relative misfit at which a hypothesis still holds."""
        return max(1e-4, 2 * self.tolerance)

    def near(self, values: float | tuple | np.ndarray | None, target: float | tuple) -> bool:
        """Whether factors have these values."""
        if values is None:
            return False
        size = np.maximum(1, np.abs(target))
        return bool((np.abs(np.subtract(values, target)) <= max(2e-3, self.loose) * size).all())


def compare(facts: Facts) -> Case:
    """Return both gradients; coordinates at a kink, where two steps disagree, are left out."""
    calls, h = facts.calls, step(facts)
    x = facts.rows[:_ROWS]
    gradient = calls.gradient(x, SEED, facts.latent_dim)
    again = calls.gradient(x, SEED, facts.latent_dim)
    for one, other in zip(gradient.values(), again.values()):
        calls.refuse_random("gradient", one, other)
    sizes = {n: g.size for n, g in gradient.items()}
    size = calls.vector().size
    if sum(sizes.values()) != size:
        raise SubjectError(f"gradient: expected {size} numbers, got {sum(sizes.values())}")
    blocks = choose(sizes, facts.rng(60))

    def value() -> float:
        return calls.loss(x, SEED, facts.latent_dim)

    pairs = [sides(calls, blocks.index, value, s) for s in (h, 0.5 * h)]
    first, second = ((p[:, 0] - p[:, 1]) / (2 * s) for p, s in zip(pairs, (h, 0.5 * h)))
    # f′ from the right minus f′ from the left is h f″ of a smooth f, and constant at a kink
    bends = [(p.sum(1) - 2 * value()) / s for p, s in zip(pairs, (h, 0.5 * h))]
    kinks = np.abs(2 * bends[1] - bends[0])
    if not first.any() and any(g.any() for g in gradient.values()):
        raise SubjectError(
            "parameters: the loss does not change with the vector that set() was given; set must "
            "replace what loss computes with"
        )
    scale = np.abs(first).max(initial=0)
    single = facts.tolerance > 1e-6
    # a loss is known to some units in its last place, and its differences to those over h
    rounding = 16 * float(np.finfo("float32" if single else "float64").eps) * abs(value()) / h
    tolerance = 1e-5
    if single:  # what the two steps differ by shows the rounding errors
        change = np.linalg.norm(first - second) / np.maximum(np.linalg.norm(second), 1e-300)
        tolerance = float(np.clip(20 * change, 2e-3, 3e-2))
    limit = tolerance * (np.abs(first) + 0.1 * scale) + (rounding if single else 0)
    smooth = np.maximum(np.abs(first - second), kinks) <= limit
    if smooth.sum() < 0.5 * smooth.size:
        raise SubjectError(
            "loss: expected one that has a derivative, got other differences for another step; "
            'compute in float64, or declare dtype="float32"'
        )
    blocks = replace(blocks, index=blocks.index[smooth], block=blocks.block[smooth])
    found = np.concatenate(list(gradient.values()))[blocks.index]
    expected = second[smooth]
    if single:
        keep = ~_kinks(found, expected, blocks.block, tolerance, rounding)
        blocks = replace(blocks, index=blocks.index[keep], block=blocks.block[keep])
        found, expected = found[keep], expected[keep]
    return Case(facts, x, blocks, found, expected, tolerance, rounding)


def _kinks(
    found: np.ndarray, expected: np.ndarray, block: np.ndarray, tolerance: float, rounding: float
) -> np.ndarray:
    """Whether a coordinate alone is wrong in a block that is right.

    The long steps of float32 cross many kinks of a rectifier, some of them both steps.
    """
    alone = np.zeros(len(found), bool)
    for number in np.unique(block):
        here = block == number
        size = np.sqrt(np.mean(expected[here] ** 2))
        error = np.abs(found - expected)[here]
        if np.median(error) <= tolerance * size + rounding:
            alone[here] = error > tolerance * size + rounding
    return alone


def factor_of(case: Case) -> tuple[float, str] | None:
    """Return the factor of the loss against −ELBO and the form of its KL, if they are known.

    The noise is that of `sample_z` after the same seed. This is right if −ELBO with this noise, in
    one of its forms, is proportional to the loss for several seeds.
    """
    facts, calls = case.facts, case.facts.calls
    if not calls.has("encode", "decode") or calls.draws > 1 or facts.unknown:
        return None
    none = np.empty(0, int)
    losses: list[float] = []
    values: dict[str, list[float]] = {"analytic": [], "sampled": []}
    for seed in (SEED, SEED + 1, SEED + 2):
        z = z_of(case, seed)
        if z is None:
            return None
        p = parts(facts, case.x, z, none)
        losses.append(calls.loss(case.x, seed, facts.latent_dim))
        values["analytic"].append(p.value)
        values["sampled"].append(p.sampled)
    constant = calls.subject.family in ("gaussian", "custom")
    for form, v in values.items():
        columns = np.stack([v, np.full(3, float(constant))], 1)
        c, *_ = np.linalg.lstsq(columns, np.array(losses), rcond=None)
        misfit = np.abs(columns @ c - losses).max()
        if misfit <= max(1e-5, facts.tolerance) * np.abs(losses).max():
            return float(c[0]), form
    return None


def parts_of(case: Case) -> tuple[Parts, float, str] | None:
    """Return the parts of the gradient, and what `factor_of` returns, if they are known."""
    known = factor_of(case)
    if known is None:
        return None
    return parts(case.facts, case.x, known_z(case, SEED), case.blocks.index), *known


def known_z(case: Case, seed: int) -> np.ndarray:
    """Return the z of `z_of`; raise SubjectError if it is not known."""
    z = z_of(case, seed)
    if z is None:
        raise SubjectError("sample_z: expected the noise of the loss, got none that is known")
    return z


def z_of(case: Case, seed: int) -> np.ndarray | None:
    """Return the z of the loss for a seed, None if it is not known."""
    facts, calls = case.facts, case.facts.calls
    mu, second = calls.encode(case.x)
    if calls.subject.noise == "eps":
        return laws(facts.scale)["right"](mu, second, calls.eps(len(mu), mu.shape[1], seed))
    return calls.sample_z(mu, second, seed) if calls.has("sample_z", "seed") else None
