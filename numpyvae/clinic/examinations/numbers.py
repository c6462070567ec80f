"""Extreme numbers: saturated outputs, and the range that the encoder can reach."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..facts import Facts, skipped
from ..findings import RIGHT, UNUSUAL, Finding
from ..hypotheses import sigmoid
from ..names import bug, wrong
from ..subject import SubjectError, log_variance
from .reconstruction import as_decoded

__all__ = ["examine"]

_CLIP, _RANGE = "numbers: saturated pixels", "numbers: range of the encoder"
_LOGITS = (5.0, 8.0, 12.0, 16.0, 25.0)
_HARMFUL = 13.0  # nats: a clip at 1e-6 and below is a common choice, one above costs likelihood


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the reconstruction is right for saturated pixels, and what σ and μ can be."""
    subject = facts.calls.subject
    if not facts.calls.has("reconstruction"):
        yield skipped(_CLIP, "reconstruction is not given")
    elif (
        facts.reconstruction_form != "right"
        or subject.family != "bernoulli"
        or not facts.reconstruction_factor
    ):
        yield skipped(_CLIP, "the reconstruction is not a Bernoulli log-likelihood")
    else:
        yield from _saturated(facts)
    if facts.calls.has("encode") and facts.x is not None:
        yield from _range(facts)


def _cost(facts: Facts, logit: float, x: float) -> float:
    """The cost of one pixel at a logit, in nats: −log p = softplus((1 − 2x) l)."""
    d = facts.data_dim
    rows, out = np.full((2, d), 0.5), np.zeros((2, d))
    rows[:, 0], out[1, 0] = x, logit
    if facts.output == "probabilities":
        out = sigmoid(out)
    shape = rows.shape if facts.x is None else (2, *facts.rows.shape[1:])
    values = facts.calls.row_terms(
        "reconstruction", rows.reshape(shape), as_decoded(facts, out, None), finite=False
    )
    return float((values[1] - values[0]) / facts.reconstruction_factor + np.log(2))


def _saturated(facts: Facts) -> Iterator[Finding]:
    """Yield at what cost a wrong pixel is cut off, on each side."""
    single = facts.tolerance > 1e-6
    points = _LOGITS[:3] if single else _LOGITS
    sides = {x: [_cost(facts, (1 - 2 * x) * l, x) for l in points] for x in (0.0, 1.0)}
    costs = np.array(list(sides.values()))
    found = "; ".join(
        f"x = {x:g}: " + ", ".join(f"{v:.4g}" for v in values) for x, values in sides.items()
    )
    expected = ", ".join(f"{v:g}" for v in points)
    probe = facts.probe("logits " + expected)
    if not np.isfinite(costs).all():
        yield wrong(_CLIP, "infinite cross-entropy", expected, found, probe)
        return
    least = float(costs[:, -1].min())
    name, known = "clipped cross-entropy", bug("clipped cross-entropy")
    if least > 0.97 * points[-1]:
        yield Finding(_CLIP, RIGHT, "", "", expected, found, known.equation)
    elif least < _HARMFUL:
        facts.clipped = True
        yield wrong(_CLIP, name, expected, f"{found}: ε = {np.exp(-least):.1g}", probe)
    else:
        advice = "a clip this small costs likelihood only at saturated pixels"
        yield Finding(
            _CLIP, UNUSUAL, "choice", name, expected, found, known.equation, advice, probe
        )


def _range(facts: Facts) -> Iterator[Finding]:
    """Yield whether σ or μ has a bound on inputs of a wide range."""
    rng = facts.rng(50)
    shape = (400, *facts.rows.shape[1:])
    wide = np.concatenate([rng.normal(0, s, shape) for s in (1.0, 10.0)])
    try:
        mu, second = facts.calls.encode(wide)
    except SubjectError as error:
        yield skipped(_RANGE, f"wide inputs are refused: {error}")
        return
    logvar = log_variance(second, facts.scale)
    found = f"least log σ² = {logvar.min():.3g}, least μ = {mu.min():.3g}"
    names = []
    if (
        not facts.own_scale
        and (logvar.min(0) >= 0).all()
        and np.ptp(logvar) > 0
        and logvar.min() < 0.2
    ):
        names.append("σ ≥ 1 everywhere")
    if mu.min() == 0 and np.mean(mu == 0) > 0.05:
        names.append("μ ≥ 0 everywhere")
    for name in names:
        k = bug(name)
        yield Finding(
            _RANGE,
            UNUSUAL,
            k.severity,
            name,
            "no bound",
            found,
            k.equation,
            k.cure,
            facts.probe(f"x of scale 1 and 10, {wide.shape}"),
            k.reference,
        )
    if not names:
        yield Finding(_RANGE, RIGHT, "", "", "no bound", found)
