"""How a loss goes over the rows of a batch: a mean, a sum, or each term in its own way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..expected import COPIES, Measured, measure
from ..facts import Facts
from ..findings import RIGHT, UNDECIDED, UNUSUAL, WRONG, Finding
from ..names import bug, wrong
from .formulas import Hypothesis, candidates, free_fit

__all__ = ["black_box", "one_noise", "reduction"]

_TITLE = "assembly: rows of a batch"
_EQUATION = "Eq. (11)"
_KINDS = {1: "mean", COPIES: "sum", 1 / COPIES: "twice"}


def _kind(ratio: float) -> str:
    """How a term goes over the rows, from its factor for many copies against that for one."""
    for value, kind in _KINDS.items():
        if 0.6 < ratio / value < 1.6:
            return kind
    return ""


def reduction(
    facts: Facts, many: Measured, one: Measured, found: Hypothesis | None
) -> Iterator[Finding]:
    """Yield how both terms go over the rows of a batch."""
    base = found or next(iter(candidates(facts)))
    fits = [free_fit(facts, m, base) for m in (many, one)]
    if any(f is None for f in fits):
        return
    with np.errstate(all="ignore"):
        c = fits[0].coefficients / fits[1].coefficients
    kinds = _kind(c[0]), _kind(c[1])
    figures = f"c({COPIES})/c(1) = {c[0]:.3g} (reconstruction), {c[1]:.3g} (KL)"
    probe = facts.probe(f"B = 1 and {COPIES}")
    uneven = {
        ("mean", "sum"): "KL summed over the batch, reconstruction averaged",
        ("sum", "mean"): "reconstruction summed over the batch, KL averaged",
        ("twice", "mean"): "reconstruction divided by the batch twice",
        ("mean", "twice"): "KL divided by the batch twice",
        ("sum", "twice"): "reconstruction summed over the batch, KL averaged",
        ("twice", "sum"): "reconstruction divided by the batch twice",
    }
    uneven_weight = found is not None and found.weight in ("many times", "few times")
    if kinds in uneven and uneven_weight:
        yield wrong(_TITLE, uneven[kinds], "the same for both", figures, probe)
        return
    kind = kinds[0] or kinds[1]
    if not kind or kinds not in ((kind, kind), (kind, ""), ("", kind)):
        yield Finding(_TITLE, UNDECIDED, found=figures, probe=probe)
        return
    per_row = facts.factor = float(abs(fits[1].coefficients[0]))
    facts.guesses.append(f"reduction over rows: {kind}, factor {per_row:.3g} for one row")
    nominal = facts.calls.subject.batch_size
    if kind == "sum" and nominal and nominal > 1 and 0.85 < per_row * nominal < 1.15:
        name = "nominal batch size in the divisor"
        yield wrong(_TITLE, name, f"1/{COPIES}", f"1/{nominal}", probe)
        return
    declared = facts.calls.subject.reduction
    if declared not in (None, kind):
        yield Finding(_TITLE, UNUSUAL, "choice", "", declared, f"{kind}, {figures}")
    else:
        yield Finding(_TITLE, RIGHT, "", "", "mean or sum", figures, _EQUATION, "", probe)


def one_noise(facts: Facts, many: Measured, one: Measured) -> Iterator[Finding]:
    """Yield whether the noise of a batch averages out over its rows, as independent noise does."""
    if facts.calls.subject.noise == "eps" or not one.spread or not facts.varies:
        return
    with np.errstate(all="ignore"):
        factor = np.std(many.values) / np.std(one.values)  # a sum over rows has a larger spread
        ratio = (many.spread / one.spread / factor) ** 2
    found = f"variance for {COPIES} copies of a row: {ratio:.3g} of that for one"
    expected = f"1/{COPIES} = {1 / COPIES:.2g}"
    title = "draws: independence"
    if 0.4 < ratio < 2.5:
        name = "one ε for the whole batch"
        yield wrong(title, name, expected, found, facts.probe(f"B = 1 and {COPIES}"))
    elif ratio < 6 / COPIES:
        yield Finding(title, RIGHT, "", "", expected, found, bug("mean decoded").equation)


def black_box(facts: Facts) -> Iterator[Finding]:
    """Yield how the loss alone goes over the rows: the mean loss of copies against that of one."""
    x = facts.x[:8]
    many, one = measure(facts, x, COPIES, 0), measure(facts, x, 1, 0)
    ratio = float(many.values.sum() / one.values.sum())
    error = float(one.errors.sum() / max(abs(one.values.sum()), 1e-12))
    figures = f"loss({COPIES} copies)/loss(1) = {ratio:.3g} ± {error * abs(ratio):.1g}"
    if _kind(ratio) in ("mean", "sum"):
        yield Finding(_TITLE, RIGHT, "", "", f"1 or {COPIES}", figures, _EQUATION)
    elif error > 0.1:
        yield Finding(_TITLE, UNDECIDED, found=figures)
    else:
        advice = "the two terms do not go over the rows of a batch alike"
        yield Finding(_TITLE, WRONG, "bug", "", f"1 or {COPIES}", figures, _EQUATION, advice)
    if not facts.calls.has("sample_z"):
        yield from one_noise(facts, many, one)
