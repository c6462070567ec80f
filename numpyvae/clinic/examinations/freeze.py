"""Is the noise the same after the same seed, and another after another seed?"""

from __future__ import annotations

from collections.abc import Iterator

from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding

__all__ = ["examine"]

_TITLE = "noise: frozen by the seed"


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the loss is a function of x and the seed."""
    calls = facts.calls
    missing = facts.missing("loss")
    if missing:
        facts.frozen = calls.has("sample_z") and calls.has("seed")
        yield skipped(_TITLE, missing)
        return
    values = [calls.loss(facts.rows[:8], seed, facts.latent_dim) for seed in (1, 1, 2, 3, 4)]
    scale = facts.tolerance * (1 + abs(values[0]))
    same = abs(values[0] - values[1]) <= scale
    facts.varies = max(abs(v - values[0]) for v in values[1:]) > scale
    controlled = calls.subject.noise is not None or calls.has("seed")
    facts.frozen = same and controlled
    found = ", ".join(f"{v:.6g}" for v in values)
    if same:
        text = "depends on the seed" if facts.varies else "the same for all seeds"
        facts.guesses.append(f"loss: {text}")
        yield Finding(_TITLE, RIGHT, found=found, probe=facts.probe("seeds 1, 1, 2, 3, 4"))
    elif controlled:
        advice = "two calls with the same seed differ: the seed does not reach all random numbers"
        yield Finding(_TITLE, UNDECIDED, found=found, advice=advice)
    else:
        yield skipped(_TITLE, "seed is not given: tests that need frozen noise are not run")
