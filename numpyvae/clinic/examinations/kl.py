"""The KL term: its value on random (μ, log σ²) against the closed form and its known bugs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding
from ..hypotheses import kl_forms
from ..names import bug, unusual, wrong
from ..statistics import GAP, decide, misfit
from ..subject import SCALES, SubjectError, log_variance

__all__ = ["above_floor", "examine", "kl_fits", "kl_probe"]

_TITLE = "KL: value"
_PROBES = 24


def kl_probe(facts: Facts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random mu, second (N, J) and the KL of the subject for each row (N,)."""
    rng = facts.rng(10)
    shape = (_PROBES, facts.latent_dim)
    mu, second = above_floor(facts, rng.standard_normal(shape)), rng.uniform(0.3, 1.8, shape)
    return mu, second, facts.calls.row_terms("kl", mu, second)


def above_floor(facts: Facts, mu: np.ndarray) -> np.ndarray:
    """Return mu so far from 0 that the KL of each latent exceeds its free bits."""
    floor = facts.calls.subject.free_bits
    # ½ μ²/v alone exceeds it, also with a prior variance v = e²
    return mu + np.sign(mu) * (4 + 3 * np.sqrt(2 * floor)) if floor else mu


def kl_fits(
    mu: np.ndarray, second: np.ndarray, values: np.ndarray, scale: str
) -> dict[str, tuple[float, float]]:
    """Return for each form of the KL its factor in the values, and the misfit."""
    fits = {}
    for name, form in kl_forms(scale).items():
        expected = form(mu, second)
        if np.isfinite(expected).all():
            factor = float(values @ expected / (expected @ expected))
            fits[name] = factor, misfit(values, factor * expected) if factor else np.inf
    return fits


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether `kl` is a multiple of the KL, and of which formula if it is not."""
    if not facts.calls.has("kl"):
        yield skipped(_TITLE, "kl is not given")
        return
    if facts.own_scale:
        yield skipped(_TITLE, "it is that of the draws, whose σ has no known form")
        return
    mu, second, values = kl_probe(facts)
    if facts.calls.subject.scale is None and not facts.calls.has("sample_z"):
        _guess_scale(facts, mu, second, values)
    fits = kl_fits(mu, second, values, facts.scale)
    held = decide({n: m for n, (_, m) in fits.items()}, facts.tolerance)
    found = _coefficients(facts, mu, second, values)
    expected = "multiples of (½, ½, −½, −½)"
    name = "right" if "right" in held else held[0] if held else _prior(facts, mu, second, values)
    facts.kl_form = name if name in fits else "KL of another distribution"
    facts.kl_factor = fits[name][0] if name in fits else None
    _doubled_latents(facts, mu, second)
    if name == "right":
        text = f"{facts.kl_factor:.6g} × KL"
        yield Finding(_TITLE, RIGHT, "", "", "c × KL", text, bug("KL without ½").equation)
    elif fits["right"][1] > GAP * facts.tolerance:
        yield wrong(_TITLE, name, expected, found, facts.probe(f"mu, second {mu.shape}"))
    else:
        yield Finding(_TITLE, UNDECIDED, "", "", "c × KL", f"misfit {fits['right'][1]:.2g}")
    if facts.calls.subject.free_bits and facts.kl_factor and facts.kl_form == "right":
        yield _floor(facts)


def _floor(facts: Facts) -> Finding:
    """The value at the prior, where the KL is 0: the floor of each latent, or of the whole."""
    title, j, declared = "KL: free bits", facts.latent_dim, facts.calls.subject.free_bits
    second = np.full((1, j), 0.0 if facts.scale in ("logvar", "log_sigma") else 1.0)
    if facts.scale == "softplus":
        second[:] = np.log(np.expm1(1))
    value = facts.calls.row_terms("kl", 0 * second, second)[0] / facts.kl_factor
    found, expected = f"{value:.4g} at the prior", f"{declared:g} for each of {j} latents"
    if abs(value) <= GAP * facts.tolerance:
        return wrong(title, "declared free bits ignored", expected, found)
    if abs(value - declared) <= GAP * facts.tolerance * (1 + declared) < abs(value - j * declared):
        facts.floor = "total"
    elif abs(value - j * declared) > GAP * facts.tolerance * (1 + declared):
        return unusual(title, "free bits of another size", expected, found)
    return Finding(title, RIGHT, "", "", expected, found, bug("KL without ½").equation)


def _guess_scale(facts: Facts, mu: np.ndarray, second: np.ndarray, values: np.ndarray) -> None:
    """Take the scale under which the KL is right, if there is one."""
    for scale in (facts.scale, *SCALES):
        if kl_fits(mu, second, values, scale)["right"][1] <= facts.tolerance:
            facts.scale = scale
            facts.guesses.append(f"second output of encode: {SCALES[scale]} (explains the KL)")
            return


def _coefficients(facts: Facts, mu: np.ndarray, second: np.ndarray, values: np.ndarray) -> str:
    """The coefficients of Σμ², Σσ², Σlog σ² and J in the values, as text."""
    logvar = log_variance(second, facts.scale)
    parts = [(mu**2).sum(1), np.exp(logvar).sum(1), logvar.sum(1), np.full(len(mu), mu.shape[1])]
    a = np.stack(parts, 1)
    c, *_ = np.linalg.lstsq(a, values, rcond=None)
    rest = np.abs(values - a @ c).max()
    return "(" + ", ".join(f"{v:.3g}" for v in c) + f"), residual {rest:.2g}"


def _prior(facts: Facts, mu: np.ndarray, second: np.ndarray, values: np.ndarray) -> str:
    """The KL to N(0, v) with any v has the coefficients 1/v, 1/v, −1, log v − 1, times a/2."""
    logvar = log_variance(second, facts.scale)
    parts = [(mu**2).sum(1), np.exp(logvar).sum(1), logvar.sum(1), np.full(len(mu), mu.shape[1])]
    a = np.stack(parts, 1)
    c, *_ = np.linalg.lstsq(a, values, rcond=None)
    fits = misfit(values, a @ c) <= facts.tolerance and c[0] * c[2] < 0
    if fits and misfit(c[:1], c[1:2]) <= 100 * facts.tolerance:
        v = -c[2] / c[0]
        if abs(c[3] + c[2] * (np.log(v) - 1)) <= 1e-3 * abs(c[2]):
            return "prior of another variance"
    return "KL of another distribution"


def _doubled_latents(facts: Facts, mu: np.ndarray, second: np.ndarray) -> None:
    """Twice the latents: a sum doubles, a mean stays."""
    try:
        once = facts.calls.row_terms("kl", mu[:3], second[:3])
        twice = facts.calls.row_terms("kl", np.tile(mu[:3], 2), np.tile(second[:3], 2))
    except SubjectError:
        return
    facts.kl_mean = bool(np.allclose(twice, once, rtol=1e-3))
