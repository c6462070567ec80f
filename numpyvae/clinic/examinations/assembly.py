"""The whole loss against −ELBO: the weights of its terms, its sign, and its formulas.

    E[loss](x) = c_rec E_q[−log p(x|z)] + c_KL KL(q(z|x) ‖ p(z)) + b

With the user's own encoder and decoder the two terms are known, by quadrature, for each row. Only
the ratio c_KL : c_rec is judged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..expected import COPIES, Measured, measure, probe_rows
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding
from ..hypotheses import KL_READINGS
from ..names import wrong
from ..statistics import SIGMAS, Fit
from ..subject import SCALES, SubjectError
from . import importance
from .formulas import Hypothesis, explain, fit_of, free_fit, holds, identified, weights_of
from .rows import black_box, one_noise, reduction, whole_reduction

__all__ = ["examine"]

_TITLE = "assembly: loss = −ELBO"
_EQUATION = "Eq. (11)"


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the loss is −ELBO up to a factor, and how it goes over the rows."""
    calls = facts.calls
    reason = _why_not(facts)
    if reason:
        yield skipped(_TITLE, reason)
        if not calls.has("loss"):
            yield from _pieces(facts)
        if calls.has("loss") and facts.x is not None and not facts.batch_statistics:
            yield from black_box(facts)
        return
    x = probe_rows(facts)
    first = measure(facts, x, COPIES, 0)
    single, failure = _single(facts, x)
    _settle_scale(facts, first)
    _settle_output(facts, first)
    if calls.draws > 1 and explain(facts, first, most=0)[0] is None:
        bound = list(_weighted_bound(facts, first, single))
        if bound:
            yield from bound
            return
    found, free = explain(facts, first)
    if found is None and calls.subject.family == "bernoulli":
        found, free, first, single = _with_grays(facts, x) or (found, free, first, single)
    named = {facts.law, facts.reconstruction_form, facts.kl_form}  # by exact tests of the pieces
    if (found is None or set(found.names) - named) and calls.subject.noise != "eps":
        again, fresh = explain(facts, measure(facts, first.x, COPIES, 1))
        if again is not None and (found is None or not again.names):
            found, free = again, fresh
    if found is not None and found.weight == "few times" and not _has_kl(facts, single, found):
        found = found._replace(weight="KL missing", ratio=0.0)
    if calls.draws == 1 and (found is None or set(found.names) - named):
        # bugs may fit what is −L_K of a K that is not declared
        bound = list(_weighted_bound(facts, first, single))
        if bound:
            yield from bound
            return
    facts.formula, facts.measured = found, first
    if free is not None:
        facts.weights = free.coefficients, free.errors
    yield from _verdict(facts, first, found, free)
    if single is None:
        yield skipped("assembly: rows of a batch", failure)
        return
    yield from reduction(facts, first, single, found)
    if not calls.has("sample_z"):
        yield from one_noise(facts, first, single)


def _single(facts: Facts, x: np.ndarray) -> tuple[Measured | None, str]:
    """The losses of single rows, or why there are none: some losses need two rows."""
    try:
        return measure(facts, x, 1, 0), ""
    except SubjectError as error:
        return None, str(error)


def _settle_output(facts: Facts, m: Measured) -> None:
    """Without a declaration, take the output of the decoder as the loss takes it."""
    kept, bugs = facts.output, {}
    pairs = [f"mean_{r}" for r in KL_READINGS] if kept.startswith("mean_") else []
    others = ["logits"] if kept == "probabilities" else pairs
    if facts.calls.subject.output or not others:
        return
    for read in dict.fromkeys((kept, *others)):
        facts.output = read
        m.forget()
        found, _ = explain(facts, m)
        bugs[read] = np.inf if found is None else len(found.names)
        if bugs[read] == 0 or (found is not None and kept == "probabilities"):
            break
    facts.output = min(bugs, key=lambda read: bugs[read])
    m.forget()
    if facts.output != kept:
        facts.guesses.append(
            f"output of decode: {facts.output.removeprefix('mean_')} (explains the loss)"
        )


def _weighted_bound(facts: Facts, first: Measured, single: Measured | None) -> Iterator[Finding]:
    """Yield the findings of a loss that is −L_K without saying so, or nothing if it is not."""
    known = identified(facts)
    tried = importance.fits(facts, first) if known else ()
    held = [(result.chi, k, result) for k, result in tried if holds(facts, first, result)]
    if held:
        _, k, result = min(held)
        yield importance.finding(_TITLE, k, result)
        yield from _sign(facts, result, f"factor {result.coefficients[0]:.4g}")
        if single is None:
            return
        alone = next(f for n, f in importance.fits(facts, single) if n == k)
        yield whole_reduction(float(result.coefficients[0] / alone.coefficients[0]))
        return
    if facts.calls.draws > 1 and not known:
        advice = "L_K and −ELBO cannot be told apart while σ of the decoder is not declared"
        yield Finding(_TITLE, UNDECIDED, advice=advice)


def _settle_scale(facts: Facts, m: Measured) -> None:
    """Without a declared scale, take the one under which the loss is right."""
    if facts.calls.subject.scale or facts.calls.has("sample_z") or facts.calls.has("kl"):
        return
    kept = facts.scale
    for scale in (kept, *SCALES):
        facts.scale = scale
        trial = Measured(facts, m.x, m.values, m.errors, m.spread, m.eps, m.weights, m.draws)
        found, _ = explain(facts, trial, most=0)
        if found is not None:
            facts.guesses.append(f"second output of encode: {SCALES[scale]} (explains the loss)")
            break
    else:
        facts.scale = kept
    m.forget()


def _with_grays(facts: Facts, x: np.ndarray) -> tuple | None:
    """The same for pixels 0.02 and 0.98: exchanged arguments take the logarithm of the pixels."""
    grays = 0.02 + 0.96 * x
    try:
        first, single = measure(facts, grays, COPIES, 0), measure(facts, grays, 1, 0)
    except SubjectError:
        return None
    found, free = explain(facts, first)
    return None if found is None or not found.names else (found, free, first, single)


def _has_kl(facts: Facts, single: Measured | None, found: Hypothesis) -> bool:
    """Whether single rows show a KL: among many copies none looks like one over their number."""
    alone = None if single is None else free_fit(facts, single, found)
    if alone is None:
        return True
    c = alone.coefficients
    return abs(c[1]) > 0.5 * facts.calls.subject.beta * abs(c[0])


def _why_not(facts: Facts) -> str:
    """The reason why the loss cannot be compared, or nothing."""
    calls = facts.calls
    missing = [n for n in ("loss", "encode", "decode") if not calls.has(n)]
    if missing or facts.x is None:
        return f"{', '.join(missing) or 'x'} not given"
    if facts.batch_statistics:
        return "the rows of a batch influence each other"
    if facts.unknown:
        return facts.unknown
    return "the loss is an importance-weighted bound" if calls.subject.n_importance > 1 else ""


def _verdict(
    facts: Facts, m: Measured, found: Hypothesis | None, free: Fit | None
) -> Iterator[Finding]:
    """Yield what the loss is."""
    text = _figures(free)
    probe = facts.probe(f"{len(m.x)} batches of {COPIES} copies of a row")
    expected = f"c (1, {facts.calls.subject.beta:g}, 0)"
    most = 1e6 if facts.calls.subject.noise == "eps" else 300
    if free is not None and free.condition > most and (found is None or found.names):
        advice = "the two terms vary together over the rows: give rows x that differ more"
        yield Finding(_TITLE, UNDECIDED, "", "", expected, text, _EQUATION, advice, probe)
        if facts.reconstruction_factor:
            yield from _pieces(facts)
        return
    if found is None and facts.calls.subject.family == "custom":
        advice = "the loss, or the likelihood, leaves out a term of x, or the loss is not −ELBO"
        yield Finding(_TITLE, UNDECIDED, "", "", expected, text, _EQUATION, advice, probe)
        return
    if found is None and facts.clipped:
        advice = "the reconstruction is clipped: mend this first"
        yield Finding(_TITLE, UNDECIDED, "", "", expected, text, _EQUATION, advice, probe)
        return
    if found is None and facts.calls.subject.free_bits:
        advice = "the floor of the KL may be of another kind than that of each latent or the whole"
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
    if not found.names:
        yield from _right(facts, free, expected, text, probe)
    whole = fit_of(facts, m, found)
    if whole is not None:
        yield from _sign(facts, whole, text)


def _figures(free: Fit | None) -> str:
    if free is None:
        return "not finite"
    pairs = ", ".join(f"{a:.3g} ± {e:.1g}" for a, e in zip(free.coefficients, free.errors))
    return f"(c_rec, c_KL, b) = ({pairs}), residual {free.residual:.2g}"


def _unnamed(facts: Facts, free: Fit | None) -> str:
    """The name of what no hypothesis explains: a weight, if the two terms are right."""
    if free is not None and free.worst <= SIGMAS and identified(facts):
        c, e = free.coefficients, free.errors
        free_constant = facts.calls.subject.family in ("gaussian", "custom")
        constant = free_constant or abs(c[2]) <= SIGMAS * e[2]
        if constant:
            return "weight of the KL"
    return "reconstruction and KL are not of one ELBO"


def _right(
    facts: Facts, free: Fit | None, expected: str, text: str, probe: str
) -> Iterator[Finding]:
    """Yield a loss that is −ELBO; of a squared error without σ, with which σ it is."""
    if free is None or identified(facts):
        yield Finding(_TITLE, RIGHT, "", "", expected, text, _EQUATION, "", probe)
        return
    beta, size = facts.calls.subject.beta, free.coefficients[0]
    with np.errstate(all="ignore"):
        variance = free.coefficients[1] / (beta * size)
        error = abs(free.errors[1] / (beta * size))
    said = f"equals the −ELBO with σ² = {variance:.3g}; with σ² = 1, β = {variance * beta:.3g}"
    facts.guesses.append(f"squared error: {said}")
    if variance < -SIGMAS * error:
        yield wrong(_TITLE, "sign of the KL", expected, text, probe)
    elif variance < SIGMAS * error and error < 1e-4:
        yield wrong(_TITLE, "KL missing", expected, text, probe)
    elif variance < SIGMAS * error:
        advice = "the weight of the KL is not known well enough: give rows x that differ more"
        yield Finding(_TITLE, UNDECIDED, "", "", expected, said, _EQUATION, advice, probe)
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


def _pieces(facts: Facts) -> Iterator[Finding]:
    """Yield whether `kl` and `reconstruction` are of one scale, where the loss does not say it."""
    a, k = facts.reconstruction_factor, facts.kl_factor
    if k is None or not k:
        return
    title, beta = "pieces: scale", facts.calls.subject.beta
    if a is None:
        names = {1.0: "", 2.0: "KL without ½", -1.0: ""}
        names |= {1 / facts.latent_dim: "KL averaged over latents"} if facts.kl_mean else {}
        ratio, known = k, names
        if facts.calls.has("reconstruction"):
            return
    else:
        free = not identified(facts)
        ratio = k / a / beta
        known = {v / beta: n for n, v in weights_of(facts).items() if "times" not in n}
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
