"""The gradient at chosen coordinates beside the derivative of the loss, and the parts of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..differences import Blocks, Parts, choose, differences, parts, step
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

    def of(self, name: str) -> np.ndarray:
        """Where the coordinates of a block are."""
        return self.blocks.block == self.blocks.names.index(name)

    def error(self, where: np.ndarray) -> float:
        """The relative error of the coordinates, against the size that such a part has."""
        difference = np.linalg.norm((self.found - self.expected)[where])
        size = np.sqrt(where.sum() / len(where)) * np.linalg.norm(self.expected)
        return float(difference / max(np.linalg.norm(self.expected[where]), 1e-3 * size, 1e-300))

    @property
    def wrong(self) -> list[str]:
        """The blocks that are wrong."""
        return [n for n in self.blocks.names if self.error(self.of(n)) > self.tolerance]

    def ratio(self, where: np.ndarray) -> float | None:
        """The factor of the coordinates against what was expected, None if there is none."""
        a, b = self.found[where], self.expected[where]
        factor = float(a @ b / max(b @ b, 1e-300))
        fits = np.linalg.norm(a - factor * b) <= 10 * self.tolerance * np.linalg.norm(b)
        return factor if fits else None


def compare(facts: Facts) -> Case:
    """Return both gradients; coordinates at a kink, where two steps disagree, are left out."""
    calls, h = facts.calls, step(facts)
    x = facts.x[:_ROWS]
    gradient = calls.gradient(x, SEED, facts.latent_dim)
    sizes = {n: g.size for n, g in gradient.items()}
    size = calls.vector().size
    if sum(sizes.values()) != size:
        raise SubjectError(f"gradient: expected {size} numbers, got {sum(sizes.values())}")
    blocks = choose(sizes, facts.rng(60))

    def value() -> float:
        return calls.loss(x, SEED, facts.latent_dim)

    first = differences(calls, blocks.index, value, h)
    second = differences(calls, blocks.index, value, 0.5 * h)
    scale = np.abs(first).max()
    tolerance = 1e-5 if facts.tolerance < 1e-6 else 3e-2
    smooth = np.abs(first - second) <= tolerance * (np.abs(first) + 0.1 * scale)
    blocks = blocks._replace(index=blocks.index[smooth], block=blocks.block[smooth])
    found = np.concatenate(list(gradient.values()))[blocks.index]
    return Case(facts, x, blocks, found, second[smooth], tolerance)


def factor_of(case: Case) -> tuple[float, str] | None:
    """Return the factor of the loss against −ELBO and the form of its KL, if they are known.

    The noise is that of `sample_z` after the same seed. This is right if −ELBO with this noise, in
    one of its forms, is proportional to the loss for several seeds.
    """
    facts, calls = case.facts, case.facts.calls
    if not calls.has("encode", "decode") or calls.draws > 1:
        return None
    none = np.empty(0, int)
    losses, values = [], {"analytic": [], "sampled": []}
    for seed in (SEED, SEED + 1, SEED + 2):
        z = z_of(case, seed)
        if z is None:
            return None
        p = parts(facts, case.x, z, none)
        losses.append(calls.loss(case.x, seed, facts.latent_dim))
        values["analytic"].append(p.value)
        values["sampled"].append(p.sampled)
    constant = calls.subject.family == "gaussian"
    for form, v in values.items():
        columns = np.stack([v, np.full(3, float(constant))], 1)
        c, *_ = np.linalg.lstsq(columns, np.array(losses), rcond=None)
        misfit = np.abs(columns @ c - losses).max()
        if misfit <= 1e4 * facts.tolerance * np.abs(losses).max():
            return float(c[0]), form
    return None


def parts_of(case: Case) -> tuple[Parts, float, str] | None:
    """Return the parts of the gradient, and what `factor_of` returns, if they are known."""
    known = factor_of(case)
    if known is None:
        return None
    return parts(case.facts, case.x, z_of(case, SEED), case.blocks.index), *known


def z_of(case: Case, seed: int) -> np.ndarray | None:
    """Return the z of the loss for a seed, None if it is not known."""
    facts, calls = case.facts, case.facts.calls
    mu, second = calls.encode(case.x)
    if calls.subject.noise == "eps":
        return laws(facts.scale)["right"](mu, second, calls.eps(*mu.shape, seed))
    return calls.sample_z(mu, second, seed) if calls.has("sample_z", "seed") else None
