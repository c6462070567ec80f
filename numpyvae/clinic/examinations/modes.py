"""Training against evaluation: does the loss keep its noise, and the weights of its terms?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..expected import COPIES, measure, probe_rows
from ..facts import Facts
from ..findings import RIGHT, Finding
from ..names import wrong
from ..statistics import two_stages
from .formulas import free_fit, identified

__all__ = ["NOISE", "modes"]

NOISE, _WEIGHTS = "evaluation: noise", "evaluation: weights of the terms"
_FLOOR = 0.05  # of the weight


def modes(facts: Facts) -> Iterator[Finding]:
    """Yield whether the loss of evaluation has the noise and the weights of that of training."""
    calls = facts.calls
    calls.call("eval")
    try:
        x = np.repeat(facts.rows[:4], COPIES, 0)
        values = [calls.loss(x, seed, facts.latent_dim) for seed in (1, 2, 3)]
        text = ", ".join(f"{v:.6g}" for v in values)
        if facts.varies and np.ptp(values) <= facts.tolerance:
            name = "evaluation without noise"
            yield wrong(NOISE, name, "varies with the seed", text)
        else:
            yield Finding(NOISE, RIGHT, "", "", "", text, "Eq. (11)")
            yield from _weights(facts)
    finally:
        if calls.has("train"):
            calls.call("train")


def _weights(facts: Facts) -> Iterator[Finding]:
    """Yield whether c_KL : c_rec is that of training."""
    if facts.formula is None or facts.weights is None or not identified(facts):
        return
    c, errors = facts.weights
    trained = c[1] / c[0]
    x = probe_rows(facts)
    found = []

    def stage(number: int) -> tuple[float, float]:
        fit = free_fit(facts, measure(facts, x, COPIES, 2 + number), facts.formula)
        if fit is None:
            return 0.0, np.inf
        ratio = fit.coefficients[1] / fit.coefficients[0]
        relative = np.hypot(fit.errors / fit.coefficients, errors / c)[:2]
        found.append(ratio)
        return float(ratio / trained - 1), float(np.linalg.norm(relative))

    verdict = two_stages(stage, _FLOOR)
    expected, text = f"c_KL/c_rec = {trained:.3g}", ", ".join(f"{r:.3g}" for r in found)
    if verdict == "wrong":
        name = "weights of the terms differ between training and evaluation"
        yield wrong(_WEIGHTS, name, expected, text, facts.probe(f"{len(x)} rows"))
    elif verdict == "right":
        yield Finding(_WEIGHTS, RIGHT, "", "", expected, text, "Eq. (11)")
