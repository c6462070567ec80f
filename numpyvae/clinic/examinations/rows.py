"""How a loss goes over the rows of a batch: a mean, a sum, or each term in its own way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...support.statistics import mean_and_error
from ..expected import COPIES, Measured, measure
from ..facts import Facts
from ..findings import RIGHT, UNDECIDED, UNUSUAL, WRONG, Finding
from ..names import bug, wrong
from ..statistics import SIGMAS, Fit, two_stages
from .formulas import Hypothesis, candidates, fit_of, free_fit, identified

__all__ = ["black_box", "one_noise", "reduction", "whole_reduction"]

_TITLE = "assembly: rows of a batch"
_PARTIAL = "assembly: batch of different rows"
_EQUATION = "Eq. (11)"
# copies of the rows, calls, and the least effect, of the differences between the rows
_BATCHES = (1, 60, 0.03), (50, 16, 0.01)
_KINDS = {1: "mean", COPIES: "sum", 1 / COPIES: "twice"}

_OF_BOTH = {  # how the reconstruction goes, and whether the KL counts more: how both go
    ("mean", True): ("mean", "sum"),
    ("twice", True): ("twice", "mean"),
    ("mean", False): ("mean", "twice"),
    ("sum", False): ("sum", "mean"),
}


def _kind(ratio: float) -> str:
    """How a term goes over the rows, from its factor for many copies against that for one."""
    for value, kind in _KINDS.items():
        if 0.6 < ratio / value < 1.6:
            return kind
    return ""


def whole_reduction(ratio: float) -> Finding:
    """Return how a loss that is not a sum of two terms goes over the rows."""
    verdict = RIGHT if _kind(ratio) in ("mean", "sum") else UNDECIDED
    text = f"c({COPIES})/c(1) = {ratio:.3g}"
    return Finding(_TITLE, verdict, "", "", "mean or sum", text, _EQUATION)


def reduction(
    facts: Facts, many: Measured, one: Measured, found: Hypothesis | None
) -> Iterator[Finding]:
    """Yield how both terms go over the rows of a batch."""
    base = found or next(iter(candidates(facts)))
    of_many, of_one = (free_fit(facts, m, base) for m in (many, one))
    if of_many is None or of_one is None:
        return
    with np.errstate(all="ignore"):
        c = of_many.coefficients / of_one.coefficients
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
    if found is not None and found.uneven:
        # of the KL's own factor, which may be small, the factor of the losses knows more
        kinds = _OF_BOTH.get((kinds[0], "many times" in found.names), kinds)
        if kinds in uneven:
            yield wrong(_TITLE, uneven[kinds], "the same for both", figures, probe)
        else:
            yield Finding(_TITLE, UNDECIDED, found=figures, probe=probe)
        return
    if "" in kinds and found is not None:
        # the factors of the terms are not known apart, but the losses have one factor
        all_, single = (fit_of(facts, m, found) for m in (many, one))
        if all_ is not None and single is not None:
            kind = _kind(float(all_.coefficients[0] / single.coefficients[0]))
            kinds = kind, kind
    kind = kinds[0] or kinds[1]
    if not kind or kinds not in ((kind, kind), (kind, ""), ("", kind)):
        yield Finding(_TITLE, UNDECIDED, found=figures, probe=probe)
        return
    per_row = facts.factor = float(abs(of_one.coefficients[0]))
    facts.guesses.append(f"reduction over rows: {kind}, factor {per_row:.3g} for one row")
    nominal = facts.calls.subject.batch_size
    if kind == "sum" and nominal and nominal > 1 and _divides(facts, of_many, nominal):
        name = "nominal batch size in the divisor"
        yield wrong(_TITLE, name, f"1/{COPIES}", f"1/{nominal}", probe)
        return
    declared = facts.calls.subject.reduction
    if declared not in (None, kind):
        yield Finding(_TITLE, UNUSUAL, "choice", "", declared, f"{kind}, {figures}")
    else:
        yield Finding(_TITLE, RIGHT, "", "", "mean or sum", figures, _EQUATION, "", probe)
    # a floor of the KL may be of its mean over the batch
    whole = found is not None and not found.names and not facts.calls.subject.free_bits
    if whole and len(many.x) >= 5:
        yield from _partial(facts, many, kind)


def _partial(facts: Facts, m: Measured, kind: str) -> Iterator[Finding]:
    """Yield whether a batch of different rows has the mean or the sum of their values.

    The value of each row is that of its copies: no formula is needed. A row that is left out is
    missed in a small batch only; rows that are mixed are so in a large batch too.
    """
    order = np.argsort(m.values)
    order = order[[0, -2, 1, -3, -1]]  # far apart, the least first and the greatest last
    tests = [_different(facts, m, order, kind, batch) for batch in _BATCHES]
    verdicts = [t[0] for t in tests]
    expected, probe = tests[0][1], facts.probe(f"{len(order)} different rows")
    text = "; ".join(f"{_BATCHES[i][0]} copies: {t[2]}" for i, t in enumerate(tests))
    if "wrong" in verdicts:
        mixed = verdicts[1] == "wrong"
        name = "rows of a batch are mixed" if mixed else "rows of a batch left out"
        yield wrong(_PARTIAL, name, expected, text, probe)
    elif "undecided" not in verdicts:
        yield Finding(_PARTIAL, RIGHT, "", "", expected, text, _EQUATION, "", probe)


def _different(
    facts: Facts, m: Measured, order: np.ndarray, kind: str, batch: tuple[int, int, float]
) -> tuple[str, str, str]:
    """The verdict on a batch of copies of different rows, and the figures for one row."""
    tiles, calls, floor = batch
    x = np.concatenate([m.x[order]] * tiles)
    one = COPIES if kind == "sum" else 1
    f = m.values[order] / one
    size = max(float(np.ptp(f)), 1e-12)
    means = []

    def stage(number: int) -> tuple[float, float]:
        first = 50_000 * (number + 1)
        values = [facts.calls.loss(x, first + s, facts.latent_dim) for s in range(calls)]
        per_row = np.array(values) / (len(x) if kind == "sum" else 1)
        mean, error = mean_and_error(per_row)
        means.append(mean)
        # the copies have noise too: it is known, or that of one call of as many different draws
        one_call = error * np.sqrt(calls * len(x) / m.different_draws)
        own = m.errors[order].mean() / one if m.draws else one_call
        error = np.hypot(error, own / np.sqrt(len(f)))
        return (mean - float(f.mean())) / size, float(error / size)

    verdict = two_stages(stage, floor)
    return verdict, f"{f.mean():.4g}", ", ".join(f"{v:.4g}" for v in means)


def _divides(facts: Facts, many: Fit, nominal: int) -> bool:
    """Whether a sum over rows is divided by the nominal batch size, and not by D or J."""
    factor, error = abs(many.coefficients[0]) / COPIES, many.errors[0] / COPIES
    others = {1, facts.data_dim, facts.latent_dim}
    known = identified(facts) and nominal not in others
    return known and abs(factor * nominal - 1) <= max(0.02, SIGMAS * error * nominal)


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
    if 0.4 < ratio < 2.5 and many.heavy().any():
        advice = "the loss has heavy tails: the variance of few draws says nothing"
        yield Finding(title, UNDECIDED, "", "", expected, found, advice=advice)
    elif 0.4 < ratio < 2.5:
        name = "one ε for the whole batch"
        yield wrong(title, name, expected, found, facts.probe(f"B = 1 and {COPIES}"))
    elif ratio < 6 / COPIES:
        yield Finding(title, RIGHT, "", "", expected, found, bug("mean decoded").equation)


def black_box(facts: Facts) -> Iterator[Finding]:
    """Yield how the loss alone goes over the rows: the mean loss of copies against that of one."""
    x = facts.rows[:8]
    if facts.calls.subject.noise == "eps":
        ratio, error = _of_equal_copies(facts, x), 0.0
    else:
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
    if not facts.calls.has("sample_z") and facts.calls.subject.noise != "eps":
        yield from one_noise(facts, many, one)


def _of_equal_copies(facts: Facts, x: np.ndarray) -> float:
    """The loss of copies of a row with the same ε, over that of one: no noise is left."""
    calls, sums = facts.calls, np.zeros(2)
    for i, row in enumerate(x):
        eps = calls.eps(1, facts.latent_dim, i)
        for j, n in enumerate((COPIES, 1)):
            result = calls.call("loss", np.repeat(row[None], n, 0), np.repeat(eps, n, -2))
            sums[j] += calls.one_loss(result, n)
    return float(sums[0] / sums[1])
