"""The reconstruction term: its value against −log p(x|z) and its known bugs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding
from ..hypotheses import reconstruction_forms, sigmoid, wrong_constants
from ..names import bug, unusual, wrong
from ..statistics import GAP, misfit
from ..subject import SubjectError
from .normalization import normalized

__all__ = ["as_decoded", "designed", "examine"]

_TITLE = "reconstruction: value"
_PROBES, _OWN_ROWS = 20, 5
_LOG_TAU = float(np.log(2 * np.pi))


def as_decoded(facts: Facts, first: np.ndarray, second: np.ndarray | None) -> object:
    """Return designed outputs in the form in which `decode` returns them."""
    shape = (-1, *(facts.calls.out_shape or first.shape[1:]))
    if np.prod(shape[1:]) != first.shape[1]:
        shape = (-1, first.shape[1])
    return (
        first.reshape(shape) if second is None else (first.reshape(shape), second.reshape(shape))
    )


def designed(facts: Facts, *, binary: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return random x (N, D) and outputs (N, D) of the decoder's kind."""
    subject, rng = facts.calls.subject, facts.rng(20)
    shape = _PROBES, facts.data_dim
    logits, second = 1.5 * rng.standard_normal(shape), None
    if subject.family == "custom":
        rows = facts.rows[:_OWN_ROWS].reshape(-1, facts.data_dim)
        x = np.repeat(rows, _PROBES // _OWN_ROWS, 0)
        return x, *facts.calls.decode(2 * rng.standard_normal((len(x), facts.latent_dim)))
    if subject.family == "gaussian":
        if facts.output.startswith("mean_"):
            second = rng.uniform(0.3, 1.8, shape)
        return rng.standard_normal(shape), logits, second
    x = rng.uniform(0.1, 0.9, shape)
    if binary or subject.trials > 1:
        x = rng.integers(0, subject.trials + 1, shape).astype(float)
    return x, sigmoid(logits) if facts.output == "probabilities" else logits, None


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether `reconstruction` is a multiple of −log p(x|z), and of what if it is not."""
    calls = facts.calls
    if not calls.has("reconstruction"):
        yield skipped(_TITLE, "reconstruction is not given")
        return
    if calls.subject.family == "custom" and (facts.x is None or not calls.has("decode")):
        yield skipped(_TITLE, "a likelihood of one's own needs x and decode")
        return
    try:
        x, first, second, values = _values(facts, binary=False)
    except SubjectError:  # many functions refuse gray pixels
        x, first, second, values = _values(facts, binary=True)
    fits = _fits(facts, x, first, second, values)
    if "right" not in fits:
        raise SubjectError("likelihood: expected finite log p(x|z), got NaN or inf")
    held = [n for n in fits if fits[n][2] <= facts.tolerance]
    right = [n for n in held if n.startswith("right")]
    name = (right or sorted(held, key=lambda n: fits[n][2]) or [""])[0]
    _doubled_pixels(facts, x, first, second)
    factor, constant, _ = fits[name or "right"]
    facts.reconstruction_factor = factor if name else None
    facts.reconstruction_form = name or "reconstruction of another distribution"
    found = f"{factor:.6g} × (−log p) + {constant:.6g}"
    probe = facts.probe(f"x, out {x.shape}")
    if right:
        yield from _constant(facts, factor, constant, found, probe)
        return
    # which values x can have is known for the clinic's own families alone
    density = None if calls.subject.family == "custom" else normalized(facts)
    if not name and density is not None and density[0]:
        facts.own_density = True
        yield unusual(_TITLE, "another density of x", "Σ_x p(x) = 1", density[1], probe)
    elif fits["right"][2] > GAP * facts.tolerance:
        if density is not None:
            found = f"{found}, {density[1]}"
        residual = f"{found}, misfit {fits['right'][2]:.2g}"
        yield wrong(_TITLE, facts.reconstruction_form, "c × (−log p)", residual, probe)
    else:
        yield Finding(_TITLE, UNDECIDED, "", "", "c × (−log p)", f"misfit {fits['right'][2]:.2g}")


def _values(facts: Facts, *, binary: bool) -> tuple:
    x, first, second = designed(facts, binary=binary)
    rows = x.reshape(len(x), *_shape_of_x(facts))
    out = as_decoded(facts, first, second)
    return x, first, second, facts.calls.row_terms("reconstruction", rows, out)


def _shape_of_x(facts: Facts) -> tuple[int, ...]:
    return (facts.data_dim,) if facts.x is None else facts.x.shape[1:]


def _fits(
    facts: Facts, x: np.ndarray, first: np.ndarray, second: np.ndarray | None, values: np.ndarray
) -> dict[str, tuple[float, float, float]]:
    """For each form its factor, its constant and the misfit.

    A Gaussian can have a constant, and a likelihood of the user's own one for each row of x.
    """
    fits = {}
    family = facts.calls.subject.family
    constants = np.full((len(x), 1), float(family == "gaussian"))
    if family == "custom":
        constants = (x[:, None] == np.unique(x, axis=0)).all(-1).astype(float)
    for name, form in reconstruction_forms(facts.calls.subject, facts.output).items():
        expected = form(x, first, second)
        if not np.isfinite(expected).all():
            continue
        columns = np.column_stack([expected, constants])
        c, *_ = np.linalg.lstsq(columns, values, rcond=None)
        fits[name] = float(c[0]), float(c[1]), misfit(values, columns @ c)
    return fits


def _constant(
    facts: Facts, factor: float, constant: float, found: str, probe: str
) -> Iterator[Finding]:
    """Yield the finding of a right term, with what its constant is."""
    subject, d = facts.calls.subject, facts.data_dim
    equation = bug("(1−x) term missing").equation
    plain = Finding(_TITLE, RIGHT, "", "", "c × (−log p)", found, equation)
    if subject.family != "gaussian" or not factor:
        yield plain
        return
    sigma = subject.declared_sigma
    variance = 1.0
    if facts.output == "mean":
        variance = (sigma or 1.0) ** 2 if sigma else 1 / factor if factor > 0 else 1.0
        facts.guesses.append(f"squared error: σ² = {1 / factor * (sigma or 1) ** 2:.4g} × c")
    scaled = constant / factor if sigma or facts.output != "mean" else constant
    known = [0.0, 0.5 * d * _LOG_TAU, 0.5 * d * np.log(variance)]
    known += [known[1] + known[2]]
    tolerance = 100 * facts.tolerance
    allowed = known[3:] if subject.constants else known
    if min(abs(scaled - k) for k in allowed) <= tolerance * (1 + abs(scaled)):
        yield plain
        return
    others = _other_constants(facts, variance)
    near = [n for n, v in others if abs(scaled - v) <= tolerance * (1 + abs(v))]
    name, title = (near or ["Gaussian constant"])[0], "reconstruction: constant"
    kind = wrong if subject.constants else unusual  # it does not change the gradient
    yield kind(title, name, f"{known[3]:.6g}", f"{scaled:.6g}", probe)


def _other_constants(facts: Facts, variance: float) -> Iterator[tuple[str, float]]:
    """Yield the constants that are wrong, for a σ² that is declared or found."""
    subject = facts.calls.subject
    if facts.output == "mean":
        subject = replace(subject, likelihood="gaussian", sigma=float(np.sqrt(variance)))
    yield from wrong_constants(subject, facts.output, facts.data_dim)


def _doubled_pixels(
    facts: Facts, x: np.ndarray, first: np.ndarray, second: np.ndarray | None
) -> None:
    """Twice the pixels: a sum doubles, a mean stays."""
    try:
        once = facts.calls.row_terms(
            "reconstruction", x[:3], first[:3] if second is None else (first[:3], second[:3])
        )
        wide = [None if a is None else np.tile(a[:3], 2) for a in (x, first, second)]
        out = wide[1] if second is None else (wide[1], wide[2])
        twice = facts.calls.row_terms("reconstruction", wide[0], out)
    except SubjectError:
        return
    facts.reconstruction_mean = bool(np.allclose(twice, once, rtol=1e-3))
