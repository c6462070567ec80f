"""The draw z = μ + σ ε: its dependence on μ and log σ², the size and form of ε, and who shares it.

With the noise frozen by the seed the dependence is exact: z at two values of the second output of
the encoder has the ratio of its standard deviations, whatever the noise is. The noise itself is
judged by its moments and correlations.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from ...support.statistics import mean_and_error
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding
from ..hypotheses import laws
from ..names import bug, unusual, wrong
from ..statistics import SIGMAS, misfit
from ..subject import SCALES
from .agreement import agreement
from .kl import kl_fits, kl_probe

__all__ = ["examine", "sampler_law"]

_TITLE, _NOISE, _SHARED = (
    "draws: z as a function of μ and σ",
    "draws: noise",
    "draws: independence",
)
_EQUATION = bug("mean decoded").equation
_AGREE = "draws: agreement with the KL"
_CALLS, _ROWS, _MANY = 32, 256, 8192


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether z has the mean μ, the standard deviation σ, and independent normal noise."""
    calls = facts.calls
    if not calls.has("sample_z"):
        yield skipped(_TITLE, "sample_z is not given")
        return
    frozen = calls.has("seed") and _repeats(facts)
    if calls.subject.scale is None:
        _guess_scale(facts, frozen)
    name, found = sampler_law(facts, frozen)
    if frozen and name not in ("", "right"):
        settled = yield from _agreement(facts, name)
        name, found = sampler_law(facts, frozen) if settled else (name, found)
    facts.law = name
    probe = facts.probe(f"mu, second (8, {facts.latent_dim})")
    if name == "right":
        yield Finding(_TITLE, RIGHT, "", "", "μ + σ ε", found, _EQUATION)
    elif facts.own_scale:
        facts.law = "right"
    elif not name:
        yield Finding(_TITLE, UNDECIDED, found=found, advice="z has no simple form")
    else:
        yield wrong(_TITLE, name, "μ + σ ε", found, probe)
    if name in ("mean decoded", "μ + σ decoded, without noise"):
        return
    noise = _noise(facts, name)
    findings = list(_sharing(facts, noise))
    if not findings:
        yield Finding(_SHARED, RIGHT, "", "", "correlation 0", "", _EQUATION)
        findings = list(_moments(facts, noise))
    yield from findings
    if facts.law == "right" and findings[0].name in laws(facts.scale):
        facts.law = findings[0].name


def _agreement(facts: Facts, name: str) -> Generator[Finding, None, bool]:
    """Yield what the agreement of draws and KL says of a law that is not right.

    Where both take the second output for the same thing, the VAE is right, and it is only not what
    was declared. Return whether the scale is now another one.
    """
    agreed = agreement(facts)
    if agreed is None or not agreed.holds:
        return False
    declared, kept = SCALES[facts.scale], facts.scale
    for scale in SCALES:
        facts.scale = scale
        if scale != kept and sampler_law(facts, True)[0] == "right":
            said = f"the draws and the KL take it for {SCALES[scale]}"
            yield wrong(_AGREE, "second output of encode is not what is declared", declared, said)
            return True
    facts.scale = kept
    if name == "standard deviation is another function":
        facts.own_scale = True
        yield unusual(_AGREE, "σ of a form of its own", declared, agreed.found)
    return False


def _repeats(facts: Facts) -> bool:
    """Whether the same seed gives the same z."""
    at = np.zeros((8, facts.latent_dim)), np.ones((8, facts.latent_dim))
    return np.array_equal(facts.calls.sample_z(*at, 1), facts.calls.sample_z(*at, 1))


def _at(facts: Facts, mu: float, second: float, frozen: bool) -> np.ndarray:
    """z at constant (mu, second): the same noise each time if frozen, else many rows."""
    rows = 8 if frozen else _MANY
    shape = rows, facts.latent_dim
    return facts.calls.sample_z(np.full(shape, mu), np.full(shape, second), 5)


def sampler_law(facts: Facts, frozen: bool) -> tuple[str, str]:
    """Return the name of the law of z, "" for none, and what was found.

    If the noise is not frozen, standard deviations of many rows take the place of exact ratios.
    """
    tolerance = 100 * facts.tolerance if frozen else 0.06
    base = _at(facts, 0.0, 1.0, frozen)
    shift = _at(facts, 1.0, 1.0, frozen) - base
    slope, error = mean_and_error(shift.ravel())
    if frozen and np.ptp(shift) > tolerance * (1 + abs(slope)):
        return "", "z − μ depends on μ"

    def size(z: np.ndarray) -> np.ndarray:
        return z if frozen else z.std(0)

    if np.abs(size(base)).max() <= 1e-12:
        return "mean decoded", "z does not depend on the seed or on σ"
    points = (0.4, 0.7, 1.3, 1.7)
    ratios = np.array([np.median(size(_at(facts, 0.0, s, frozen)) / size(base)) for s in points])
    fits = {}
    one = np.ones((1, 1))
    for name, law in laws(facts.scale).items():
        deviation = np.array([law(0 * one, s * one, one).item() for s in (*points, 1.0)])
        if deviation[-1] and np.isfinite(deviation).all():
            fits[name] = misfit(ratios, deviation[:-1] / deviation[-1])
    found = f"∂z/∂μ = {slope:.4g}, ratios of σ " + ", ".join(f"{r:.3g}" for r in ratios)
    held = [n for n in fits if fits[n] <= tolerance]
    if not held:
        return "standard deviation is another function", found
    if abs(slope - 1) > (max(tolerance, 0.02) if frozen else max(0.1, SIGMAS * error)):
        return "z scaled after the draw", found
    one_sigma = laws(facts.scale)["right"](0 * one, one, one).item()
    if frozen and held[0] == "right" and misfit(base, np.full_like(base, one_sigma)) < tolerance:
        return "μ + σ decoded, without noise", found
    return held[0], found


def _noise(facts: Facts, name: str) -> np.ndarray:
    """The noise (calls, rows, J) at μ = 0, divided by the standard deviation of the law found."""
    shape = _ROWS, facts.latent_dim
    zero, second = np.zeros(shape), np.ones(shape)
    draws = np.stack([facts.calls.sample_z(zero, second, 100 + k) for k in range(_CALLS)])
    law = laws(facts.scale).get(name) or laws(facts.scale)["right"]
    one = np.ones((1, 1))
    deviation = law(0 * one, one, one).item()
    if (
        facts.own_scale or name == "z scaled after the draw"
    ):  # its size is judged at the scale that was found
        return draws / draws.std()
    return draws / (deviation or 1.0)


def _sharing(facts: Facts, noise: np.ndarray) -> Iterator[Finding]:
    """Yield the axes along which the noise is correlated."""
    e = (noise - noise.mean()) / max(float(noise.std()), 1e-12)
    pairs = {
        "same ε in every call": (e[0::2], e[1::2]),
        "one ε for the whole batch": (e[:, 0::2], e[:, 1::2]),
        "one ε for all latents": (e[..., :-1], e[..., 1:]),
    }
    for name, (a, b) in pairs.items():
        if not a.size:
            continue
        correlation = float((a * b).mean())
        if abs(correlation) > 0.3 and abs(correlation) * np.sqrt(_CALLS / 2) > 1.5:
            found = f"correlation {correlation:.3f}"
            yield wrong(_SHARED, name, "0", found, facts.probe(f"noise {noise.shape}"))
            return


def _moments(facts: Facts, noise: np.ndarray) -> Iterator[Finding]:
    """Yield whether the noise has mean 0, standard deviation 1 and the kurtosis 3."""
    n, mean, std = noise.size, float(noise.mean()), float(noise.std())
    kurtosis = float((((noise - mean) / std) ** 4).mean())
    found = f"mean {mean:.3f}, standard deviation {std:.3g}, kurtosis {kurtosis:.2f}"
    expected = "0, 1, 3"
    probe = facts.probe(f"noise {noise.shape}")
    if abs(kurtosis - 3) > max(0.5, SIGMAS * np.sqrt(24 / n)):
        name = "uniform noise" if abs(kurtosis - 1.8) < 0.1 else "noise is not normal"
        yield wrong(_NOISE, name, expected, found, probe)
    elif abs(np.log(std)) > max(0.05, SIGMAS / np.sqrt(2 * n)) or abs(mean) > max(
        0.05, SIGMAS * std / np.sqrt(n)
    ):
        yield wrong(_NOISE, "noise of the wrong size", expected, found, probe)
    else:
        yield Finding(_NOISE, RIGHT, "", "", expected, found, _EQUATION)


def _guess_scale(facts: Facts, frozen: bool) -> None:
    """Take the scale under which both the KL and the sampler are right, or else one of them.

    If they disagree, that with the assumed scale is taken as right, then the KL.
    """
    kept = facts.scale
    right: dict[str, set[str]] = {}
    probe = kl_probe(facts) if facts.calls.has("kl") else None
    for facts.scale in dict.fromkeys((kept, *SCALES)):
        of_kl = probe and kl_fits(*probe, facts.scale)["right"][1] <= facts.tolerance
        of_draws = sampler_law(facts, frozen)[0] == "right"
        right[facts.scale] = {"the KL"} if of_kl else set()
        right[facts.scale] |= {"the draws"} if of_draws else set()
    best = max(right, key=lambda s: (len(right[s]), s == kept, "the KL" in right[s]))
    facts.scale = best if right[best] else kept
    if right[best]:
        how = f"explains {' and '.join(sorted(right[best], reverse=True))}"
        facts.guesses.append(f"second output of encode: {SCALES[best]} ({how})")
