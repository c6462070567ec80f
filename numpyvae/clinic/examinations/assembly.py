"""The whole loss against −ELBO: weights, sign, reduction over rows, and formulas.

    E[loss](x) = c_rec E_q[−log p(x|z)] + c_KL KL(q(z|x) ‖ p(z)) + b

With the user's own encoder and decoder the two terms are known, by quadrature, for each row. Only
the ratio c_KL : c_rec is judged. Every formula with one known bug predicts the losses of all rows
up to one factor; the bug is named whose formula fits. If none fits, pairs of bugs are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from ..expected import COPIES, SAMPLED, Measured, measure, probe_rows
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, UNUSUAL, WRONG, Finding
from ..hypotheses import kl_forms, laws, reconstruction_forms
from ..names import bug, wrong
from ..statistics import SIGMAS, Fit, fit
from ..subject import SCALES, SubjectError
from . import importance

__all__ = ["examine"]

_TITLE, _ROWS_TITLE = "assembly: loss = −ELBO", "assembly: rows of a batch"
_EQUATION = "Eq. (11)"
_FLOOR = 0.02  # of the size of a term: what a deviation must exceed
_CHI = 2.2  # of 20 normal residuals the root mean square exceeds this with a chance of 1e-11
_NEUTRAL = ("right", "right, without its coefficient", SAMPLED)


class Hypothesis(NamedTuple):
    """One way in which the loss may be put together."""

    law: str
    reconstruction: str
    kl: str
    weight: str
    ratio: float

    @property
    def names(self) -> list[str]:
        """The bugs in it."""
        return [n for n in self[:4] if n not in _NEUTRAL]


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the loss is −ELBO up to a factor, and how it goes over the rows."""
    calls = facts.calls
    reason = _why_not(facts)
    if reason:
        yield skipped(_TITLE, reason)
        yield from _pieces(facts)
        if calls.has("loss") and facts.x is not None and not facts.batch_statistics:
            yield from _black_box(facts)
        return
    x = probe_rows(facts)
    first = measure(facts, x, COPIES, 0)
    single = measure(facts, x, 1, 0)
    _settle_scale(facts, first)
    if calls.subject.n_samples > 1 and _explain(facts, first, most=0)[0] is None:
        bound = list(_weighted_bound(facts, first, single))
        if bound:
            yield from bound
            return
    found, free = _explain(facts, first)
    if found is None and calls.subject.family == "bernoulli":
        found, free, first, single = _with_greys(facts, x) or (found, free, first, single)
    if (found is None or found.names) and calls.subject.noise != "eps":
        again, fresh = _explain(facts, measure(facts, first.x, COPIES, 1))
        if again is not None and (found is None or not again.names):
            found, free = again, fresh
    if found is None and calls.subject.n_samples == 1 and calls.subject.noise != "eps":
        bound = list(_weighted_bound(facts, first, single))
        if bound:
            yield from bound
            return
    yield from _verdict(facts, first, found, free)
    yield from _reduction(facts, first, single, found)
    if not calls.has("sample_z"):
        yield from _one_noise(facts, first, single)


def _weighted_bound(facts: Facts, first: Measured, single: Measured) -> Iterator[Finding]:
    """Yield the findings of a loss that is −L_K, or nothing."""
    if not _identified(facts):
        if facts.calls.subject.n_samples > 1:
            advice = "L_K and −ELBO cannot be told apart while σ of the decoder is not declared"
            yield Finding(_TITLE, UNDECIDED, advice=advice)
        return
    for k, result in importance.fits(facts, first):
        if _holds(facts, first, result):
            yield importance.finding(_TITLE, k, result)
            yield from _sign(facts, result, f"factor {result.coefficients[0]:.4g}")
            alone = next(f for n, f in importance.fits(facts, single) if n == k)
            ratio = result.coefficients[0] / alone.coefficients[0]
            kind, text = _kind(ratio), f"c({COPIES})/c(1) = {ratio:.3g}"
            verdict = RIGHT if kind in ("mean", "sum") else UNDECIDED
            yield Finding(_ROWS_TITLE, verdict, "", "", "mean or sum", text, _EQUATION)
            return


def _settle_scale(facts: Facts, m: Measured) -> None:
    """Without a declared scale, take the one under which the loss is right."""
    if facts.calls.subject.scale or facts.calls.has("sample_z") or facts.calls.has("kl"):
        return
    kept = facts.scale
    for scale in (kept, *SCALES):
        facts.scale = scale
        trial = Measured(facts, m.x, m.values, m.errors, m.spread, m.eps, m.weights, m.draws)
        found, _ = _explain(facts, trial, most=0)
        if found is not None:
            facts.guesses.append(f"second output of encode: {SCALES[scale]} (explains the loss)")
            break
    else:
        facts.scale = kept
    m.forget()


def _with_greys(facts: Facts, x: np.ndarray) -> tuple | None:
    """The same for pixels 0.02 and 0.98: exchanged arguments take the logarithm of the pixels."""
    greys = 0.02 + 0.96 * x
    try:
        first, single = measure(facts, greys, COPIES, 0), measure(facts, greys, 1, 0)
    except SubjectError:
        return None
    found, free = _explain(facts, first)
    return None if found is None or not found.names else (found, free, first, single)


def _why_not(facts: Facts) -> str:
    """The reason why the loss cannot be compared, or nothing."""
    calls = facts.calls
    missing = [n for n in ("loss", "encode", "decode") if not calls.has(n)]
    if missing or facts.x is None:
        return f"{', '.join(missing) or 'x'} not given"
    if facts.batch_statistics:
        return "the rows of a batch influence each other"
    return "free bits: the KL has a floor" if calls.subject.free_bits else ""


def _weights(facts: Facts) -> dict[str, float]:
    """The ratios c_KL : c_rec, right and with each known bug."""
    beta = facts.calls.subject.beta
    table = {
        "right": beta,
        "sign of the KL": -beta,
        "KL without ½": 2 * beta,
        "KL averaged over latents": beta / facts.latent_dim,
        "reconstruction averaged over pixels": beta * facts.data_dim,
        "KL missing": 0.0,
        "many times": COPIES * beta,
        "few times": beta / COPIES,
    }
    if facts.latent_dim == 1:
        del table["KL averaged over latents"]
    if beta != 1:
        table["declared β ignored"] = 1.0
    return table


def _candidates(facts: Facts) -> Iterator[Hypothesis]:
    """Yield the formulas of the pieces, then those with one more bug, then with two more."""
    base = [facts.law, facts.reconstruction_form, facts.kl_form]
    tables = [
        laws(facts.scale),
        reconstruction_forms(facts.calls.subject, facts.output),
        kl_forms(facts.scale),
    ]
    base = [b if b in table else "right" for b, table in zip(base, tables)]
    weights = _weights(facts)
    if facts.calls.subject.noise == "eps":  # with the mean over ε both forms are the same
        tables[2] = tables[2] | {SAMPLED: None}
    start = (*base, "right")
    options = [[n for n in t if n != b] for b, t in zip(start, [*tables, weights])]
    for changes in range(3):
        for places in combinations(range(4), changes):
            for names in product(*(options[p] for p in places)):
                parts = list(start)
                for place, name in zip(places, names):
                    parts[place] = name
                yield Hypothesis(*parts, weights[parts[3]])


def _identified(facts: Facts) -> bool:
    """Whether the ratio of the terms is known: not for a squared error whose σ is not declared."""
    subject = facts.calls.subject
    declared = subject.declared_sigma or facts.output in ("mean_logvar", "mean_sigma")
    return subject.family != "gaussian" or bool(declared)


def _columns(facts: Facts, m: Measured, h: Hypothesis, *, free: bool) -> np.ndarray:
    """The columns whose combination the loss is under a hypothesis; `free`: both terms and 1."""
    rec, kl = m.reconstruction(h.law, h.reconstruction), m.kl(h.kl)
    one = np.ones(len(rec))
    if free or not _identified(facts):
        return np.stack([rec, kl, one], 1)
    whole = rec + h.ratio * kl
    constant = facts.calls.subject.family == "gaussian"
    return np.stack([whole, one], 1) if constant else whole[:, None]


def _fit(facts: Facts, m: Measured, columns: np.ndarray) -> Fit | None:
    """The fit, or None if the hypothesis does not give finite numbers."""
    if not np.isfinite(columns).all():
        return None
    errors = m.errors
    if m.draws:  # in units of the first column, whose factor is not known yet
        size = np.std(m.values) / max(float(np.std(columns[:, 0])), 1e-300)
        errors = np.maximum(errors, size * m.uncertainty())
    return fit(columns, m.values, errors)


def _explain(facts: Facts, m: Measured, most: int = 4) -> tuple[Hypothesis | None, Fit | None]:
    """The hypothesis with the fewest bugs that fits, and the free fit of its terms."""
    best: tuple[float, Hypothesis] | None = None
    level = -1
    for h in _candidates(facts):
        changed = len(h.names)
        if changed > most or (best is not None and changed > level):
            break
        if _excluded(facts, h):
            continue
        if not _identified(facts) and h.weight != "right":
            continue
        result = _fit(facts, m, _columns(facts, m, h, free=False))
        if result is None or not _holds(facts, m, result):
            continue
        if best is None or (changed, result.worst) < (level, best[0]):
            best, level = (result.worst, h), changed
        if not h.names:
            break
    found = best[1] if best else None
    if found is None:
        found_free = _free(facts, m, next(iter(_candidates(facts))))
        return None, found_free
    return found, _free(facts, m, found)


def _excluded(facts: Facts, h: Hypothesis) -> bool:
    """Whether a law without noise is proposed for a loss with noise, or the reverse."""
    if facts.varies is None or facts.calls.subject.noise == "eps":
        return False
    return facts.varies == (h.law in ("mean decoded", "μ + σ decoded, without noise"))


def _free(facts: Facts, m: Measured, h: Hypothesis) -> Fit | None:
    return _fit(facts, m, _columns(facts, m, h, free=True))


def _holds(facts: Facts, m: Measured, result: Fit) -> bool:
    """Whether the residuals are within their errors, or too small to matter."""
    if result.worst <= SIGMAS and result.chi <= _CHI:
        return True
    exact = facts.calls.subject.noise == "eps"
    floor = 1e-6 if exact else 0.3 * _FLOOR
    return result.residual <= floor * np.std(m.values)


def _verdict(
    facts: Facts, m: Measured, found: Hypothesis | None, free: Fit | None
) -> Iterator[Finding]:
    """Yield what the loss is."""
    text, c = _figures(free)
    probe = facts.probe(f"{len(m.x)} batches of {COPIES} copies of a row")
    expected = f"c (1, {facts.calls.subject.beta:g}, 0)"
    if free is not None and free.condition > 300 and (found is None or found.names):
        advice = "the two terms vary together over the rows: give rows x that differ more"
        yield Finding(_TITLE, UNDECIDED, "", "", expected, text, _EQUATION, advice, probe)
        return
    if found is None:
        fixed = facts.varies is False and facts.calls.subject.noise != "eps"
        name = "same ε in every call" if fixed else _unnamed(facts, free)
        yield wrong(_TITLE, name, expected, text, probe)
        return
    names = [n for n in found.names if n not in ("many times", "few times")]
    for name in names:
        yield wrong(_TITLE, name, expected, text, probe)
    if not names and len(found.names) == 0:
        yield from _right(facts, c, expected, text, probe)
    whole = _fit(facts, m, _columns(facts, m, found, free=False))
    if whole is not None:
        yield from _sign(facts, whole, text)


def _figures(free: Fit | None) -> tuple[str, np.ndarray]:
    if free is None:
        return "not finite", np.full(3, np.nan)
    c = free.coefficients
    pairs = ", ".join(f"{a:.3g} ± {e:.1g}" for a, e in zip(c, free.errors))
    return f"(c_rec, c_KL, b) = ({pairs}), residual {free.residual:.2g}", c


def _unnamed(facts: Facts, free: Fit | None) -> str:
    """The name of what no hypothesis explains: a weight, if the two terms are right."""
    if free is not None and free.worst <= SIGMAS and _identified(facts):
        c, e = free.coefficients, free.errors
        constant = facts.calls.subject.family == "gaussian" or abs(c[2]) <= SIGMAS * e[2]
        if constant:
            return "weight of the KL"
    return "reconstruction and KL are not of one ELBO"


def _right(facts: Facts, c: np.ndarray, expected: str, text: str, probe: str) -> Iterator[Finding]:
    """Yield a loss that is −ELBO; of a squared error without σ, with which σ it is."""
    if _identified(facts):
        yield Finding(_TITLE, RIGHT, "", "", expected, text, _EQUATION, "", probe)
        return
    beta = facts.calls.subject.beta
    with np.errstate(all="ignore"):
        variance = c[1] / (beta * c[0])
    said = f"equals the −ELBO with σ² = {variance:.3g}; with σ² = 1, β = {variance * beta:.3g}"
    facts.guesses.append(f"squared error: {said}")
    if variance < 0:
        yield wrong(_TITLE, "sign of the KL", expected, text, probe)
    elif variance < 1e-9:
        yield wrong(_TITLE, "KL missing", expected, text, probe)
    else:
        yield Finding(_TITLE, RIGHT, "", "", expected, said, _EQUATION, "", probe)


def _sign(facts: Facts, whole: Fit, text: str) -> Iterator[Finding]:
    """Yield the sign, if it is declared and the factor of the loss is known well enough."""
    declared = facts.calls.subject.sign
    factor, error = whole.coefficients[0], whole.errors[0]
    if abs(factor) <= SIGMAS * error:
        return
    is_loss = factor > 0
    if declared is None:
        facts.guesses.append(f"sign: {'a loss' if is_loss else 'an ELBO'} (found)")
    elif (declared == "loss") != is_loss:
        yield wrong("assembly: sign", "sign of the loss", f"a {declared}", text)


_KINDS = {1: "mean", COPIES: "sum", 1 / COPIES: "twice"}


def _kind(ratio: float) -> str:
    """How a term goes over the rows, from its factor for many copies against that for one."""
    for value, kind in _KINDS.items():
        if 0.6 < ratio / value < 1.6:
            return kind
    return ""


def _reduction(
    facts: Facts, many: Measured, one: Measured, found: Hypothesis | None
) -> Iterator[Finding]:
    """Yield how both terms go over the rows of a batch."""
    base = found or next(iter(_candidates(facts)))
    fits = [_free(facts, m, base) for m in (many, one)]
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
        yield wrong(_ROWS_TITLE, uneven[kinds], "the same for both", figures, probe)
        return
    kind = kinds[0] or kinds[1]
    if not kind or kinds not in ((kind, kind), (kind, ""), ("", kind)):
        yield Finding(_ROWS_TITLE, UNDECIDED, found=figures, probe=probe)
        return
    per_row = facts.factor = float(abs(fits[1].coefficients[0]))
    facts.guesses.append(f"reduction over rows: {kind}, factor {per_row:.3g} for one row")
    nominal = facts.calls.subject.batch_size
    if kind == "sum" and nominal and nominal > 1 and 0.85 < per_row * nominal < 1.15:
        name = "nominal batch size in the divisor"
        yield wrong(_ROWS_TITLE, name, f"1/{COPIES}", f"1/{nominal}", probe)
        return
    declared = facts.calls.subject.reduction
    if declared not in (None, kind):
        yield Finding(_ROWS_TITLE, UNUSUAL, "choice", "", declared, f"{kind}, {figures}")
    else:
        yield Finding(_ROWS_TITLE, RIGHT, "", "", "mean or sum", figures, _EQUATION, "", probe)


def _one_noise(facts: Facts, many: Measured, one: Measured) -> Iterator[Finding]:
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


def _pieces(facts: Facts) -> Iterator[Finding]:
    """Yield whether `kl` and `reconstruction` are of one scale, where there is no loss."""
    a, k = facts.reconstruction_factor, facts.kl_factor
    if facts.calls.has("loss") or k is None or not k:
        return
    title, beta = "pieces: scale", facts.calls.subject.beta
    if a is None:
        names = {1.0: "", 2.0: "KL without ½", -1.0: ""}
        names |= {1 / facts.latent_dim: "KL averaged over latents"} if facts.kl_mean else {}
        ratio, known = k, names
        if facts.calls.has("reconstruction"):
            return
    else:
        free = not _identified(facts)
        ratio = k / a / beta
        known = {v / beta: n for n, v in _weights(facts).items() if "times" not in n}
        known[1.0] = ""
        if free and ratio > 0:
            return
    near = [n for v, n in known.items() if abs(ratio - v) <= 1e-3 * max(abs(v), 1e-3)]
    if near == [""]:
        yield Finding(title, RIGHT, "", "", f"{beta:g}", f"{ratio:.6g}", _EQUATION)
    elif near:
        yield wrong(title, near[0], "1", f"{ratio:.6g}")
    else:
        yield wrong(title, "weight of the KL", "1", f"{ratio:.6g}")


def _black_box(facts: Facts) -> Iterator[Finding]:
    """Yield how the loss alone goes over the rows: the mean loss of copies against that of one."""
    x = facts.x[:8]
    many, one = measure(facts, x, COPIES, 0), measure(facts, x, 1, 0)
    ratio = float(many.values.sum() / one.values.sum())
    error = float(one.errors.sum() / max(abs(one.values.sum()), 1e-12))
    figures = f"loss({COPIES} copies)/loss(1) = {ratio:.3g} ± {error * abs(ratio):.1g}"
    if _kind(ratio) in ("mean", "sum"):
        yield Finding(_ROWS_TITLE, RIGHT, "", "", f"1 or {COPIES}", figures, _EQUATION)
    elif error > 0.1:
        yield Finding(_ROWS_TITLE, UNDECIDED, found=figures)
    else:
        advice = "the two terms do not go over the rows of a batch alike"
        yield Finding(_ROWS_TITLE, WRONG, "bug", "", f"1 or {COPIES}", figures, _EQUATION, advice)
    if not facts.calls.has("sample_z"):
        yield from _one_noise(facts, many, one)
