"""Does a row depend on the other rows of its batch, and are arguments left as they are?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..facts import Facts, skipped
from ..findings import RIGHT, UNUSUAL, WRONG, Finding
from ..names import bug
from ..statistics import misfit

__all__ = ["examine"]

_TITLE = "assembly: independence of the other rows"
_NAME = "batch statistics"
_LEAST = 10  # tolerances: rounding errors alone, by another order of the sums, are far below


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the outputs for a row stay when the other rows change."""
    calls = facts.calls
    missing = facts.missing("encode")
    if missing or len(facts.rows) < 4:
        yield skipped(_TITLE, missing or "x has fewer than 4 different rows")
        return
    effect = _effect(facts)
    facts.batch_statistics = effect > _LEAST * facts.tolerance
    known = bug(_NAME)
    if not facts.batch_statistics and calls.has("train_fully", "train"):
        effect = _fully(facts)
    if effect <= _LEAST * facts.tolerance:
        yield Finding(_TITLE, RIGHT, "", "", "0", f"{effect:.2g}", known.equation)
        return
    verdict, severity = UNUSUAL, known.severity
    if calls.has("eval"):
        calls.call("eval")
        if _effect(facts) > _LEAST * facts.tolerance:
            verdict, severity = WRONG, "report"
        if calls.has("train"):
            calls.call("train")
    probe = facts.probe("encode(x)[0] with other rows")
    yield Finding(
        _TITLE,
        verdict,
        severity,
        _NAME,
        "0",
        f"{effect:.2g}",
        known.equation,
        known.cure,
        probe,
        known.reference,
    )


def _fully(facts: Facts) -> float:
    """The effect of the layers that are off in the other examinations."""
    facts.calls.call("train_fully")
    try:
        return _effect(facts)
    finally:
        facts.calls.call("train")


def _effect(facts: Facts) -> float:
    """The change of the outputs for row 0 in another company."""
    x = facts.rows
    half = len(x) // 2
    one, other = np.concatenate([x[:1], x[1:half]]), np.concatenate([x[:1], x[half:]])
    both = facts.calls.encode(one)[0][0], facts.calls.encode(other)[0][0]
    effect = misfit(*both)
    if facts.calls.has("decode"):
        z = facts.rng(40).standard_normal((8, facts.latent_dim))
        alone = facts.calls.decode(z[:4])[0][0], facts.calls.decode(z[[0, 5, 6, 7]])[0][0]
        effect = max(effect, misfit(*alone))
    return effect
