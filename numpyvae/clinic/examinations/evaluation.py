"""Reported figures: the mean over a data set, generated data, and the noise in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...support.statistics import mean_and_error
from ..expected import Measured, nodes
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, WRONG, Finding
from ..hypotheses import gaussian_constant, sigmoid, wrong_constants
from ..names import unusual, wrong
from ..statistics import SIGMAS
from ..subject import SubjectError
from .log_p import log_p
from .modes import NOISE, modes

__all__ = ["examine"]

_LOG_P, _MEAN, _GENERATED = "evaluation: log p(x)", "evaluation: data set", "evaluation: generated"
_GENERATOR = "evaluation: generator"
_EQUATION = "Eq. (9)"
_STILL = "evaluation without noise"
_RELATIVE = 0.002  # of the mean over a data set: what a deviation must exceed


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the reported figures are what they are said to be."""
    examinations = {
        "log_p": (_LOG_P, log_p),
        "evaluate": (_MEAN, _data_set),
        "generate": (_GENERATED, _generated),
        "eval": (NOISE, modes),
    }
    for name, (title, examination) in examinations.items():
        need = [
            name,
            *({"generate": ["decode"], "eval": ["loss"]}.get(name, ["encode", "decode"])),
        ]
        missing = [n for n in need if not facts.calls.has(n)]
        if missing or facts.x is None:
            yield skipped(title, f"{', '.join(missing) or 'x'} not given")
        elif facts.unknown and name in ("log_p", "evaluate"):
            yield skipped(title, facts.unknown)
        else:
            try:
                yield from examination(facts)
            except SubjectError as error:  # the other figures can still be examined
                yield skipped(title, str(error))


def _at_nodes(facts: Facts, x: np.ndarray) -> Measured:
    """Rows x and the nodes of their noise."""
    eps, weights = nodes(facts.latent_dim, facts.rng(71))
    return Measured(facts, x, np.zeros(len(x)), np.ones(len(x)), 0.0, eps[None], weights)


def _row_values(facts: Facts, x: np.ndarray, law: str) -> np.ndarray:
    """−ELBO of each row under a law of z, by quadrature."""
    m = _at_nodes(facts, x)
    return m.reconstruction(law, "right") + facts.calls.subject.beta * m.kl("right")


def _error_of_draw(facts: Facts, x: np.ndarray) -> float:
    """The standard deviation of the mean over rows with one draw for each, in either form."""
    m = _at_nodes(facts, x)
    log_w = m.log_weights()
    variances = []
    for value in (log_w, log_w + m.log_ratio()):  # Eq. (7), and −log p(x|z) alone, of Eq. (11)
        variances.append(((value - (value @ m.weights)[:, None]) ** 2 @ m.weights).sum())
    return float(np.sqrt(max(variances))) / len(x)


def _data_set(facts: Facts) -> Iterator[Finding]:
    """Yield whether the figure for a data set is the mean over its rows."""
    b = facts.calls.subject.batch_size or 4
    rows = np.arange(2 * b + max(b // 2, 1)) % len(facts.rows)
    x = facts.rows[rows]
    x = x[np.argsort(_row_values(facts, x, "right"))]
    finding = _figure(facts, x, b, 0)
    if finding.verdict == WRONG and _figure(facts, x, b, 1).verdict != WRONG:
        advice = "two sets of evaluations do not agree"
        finding = replace(finding, verdict=UNDECIDED, severity="", name="", advice=advice)
    yield finding
    yield from _shared_generator(facts, x)


def _figure(facts: Facts, x: np.ndarray, b: int, stage: int) -> Finding:
    """The finding from the evaluations of one stage."""
    subject, values = facts.calls.subject, _evaluations(facts, x, 10_000 * stage)
    found, error = mean_and_error(values)
    random, still = (_row_values(facts, x, law) for law in ("right", "mean decoded"))
    hypotheses = _divisors(random, b)
    if np.ptp(values) <= 1e-6 * abs(values[0]):  # the same draws each time, or none
        error = _error_of_draw(facts, x)
        mean_only = {"right": float(random.mean()), _STILL: float(still.mean())}
        of_mean = [(v, sign) for n, v, sign in _signed(facts, mean_only) if n == _STILL]
        if any(abs(found - sign * v) <= 1e-4 * abs(v) for v, sign in of_mean):
            hypotheses = mean_only
    if facts.latent_dim > 2:  # the nodes are 512 draws
        error = np.hypot(error, _error_of_draw(facts, x) / 16)
    distances: dict[str, float] = {}
    for name, v, sign in _signed(facts, hypotheses):
        size = abs(v) / max(abs(hypotheses["right"]), 1e-12)
        allowed = max(SIGMAS * error * size, _RELATIVE * abs(v))
        distances[name] = min(abs(found - sign * v) / allowed, distances.get(name, np.inf))
    probe = facts.probe(f"x {x.shape}, in the order of its values")
    text, expected = f"{found:.5g}", f"{abs(random.mean()):.5g}"
    best = min(distances, key=lambda n: distances[n])
    if best == _STILL or distances["right"] > 1 >= distances[best]:
        return wrong(_MEAN, best.partition(",")[0], expected, text, probe)
    if distances["right"] <= 1:
        return Finding(_MEAN, RIGHT, "", "", expected, text, _EQUATION, "", probe)
    if gaussian_constant(subject, facts.output, facts.data_dim) is None or subject.free_bits:
        floor = "the floor may not count in it"
        advice = floor if subject.free_bits else "a constant is not known"
        return Finding(_MEAN, UNDECIDED, "", "", expected, text, _EQUATION, advice)
    return wrong(_MEAN, "reported figure", expected, text, probe)


def _evaluations(facts: Facts, x: np.ndarray, start: int) -> list[float]:
    """The figures of 30 evaluations, or of up to 240 until their mean is known to 0.2 %."""
    calls = facts.calls
    values: list[float] = []
    while len(values) < 240:
        calls.reseed(start + 3000 + len(values))
        value = calls.array("evaluate", calls.call("evaluate", x))
        if value.size != 1:
            raise SubjectError(f"evaluate: expected one number, got shape {value.shape}")
        values.append(value.item())
        mean, error = mean_and_error(values)
        if len(values) >= 30 and error <= 0.002 * abs(mean):
            break
    return values


def _signed(facts: Facts, hypotheses: dict[str, float]) -> Iterator[tuple[str, float, int]]:
    """Yield the figures with a Gaussian's constants and the factor of the loss, and their sign."""
    subject, d = facts.calls.subject, facts.data_dim
    constant = gaussian_constant(subject, facts.output, d) or 0.0
    constants = {0.0, constant} if subject.constants is None else {subject.constants * constant}
    mean = hypotheses["right"]
    for name, v in hypotheses.items():
        size = v / mean if mean else 1.0  # a constant is summed and divided like the rows
        for factor in {1.0, facts.factor or 1.0}:
            for shift in constants:
                value = factor * (v + shift * size)
                for sign in (1, -1):
                    declared = {"loss": 1, "elbo": -1}.get(subject.figure or "", sign)
                    label = name if sign == declared else "sign of the reported figure"
                    if sign == declared or name == "right":
                        yield label, value, sign
    if subject.constants:
        for name, other in wrong_constants(subject, facts.output, d):
            if abs(other - constant) > 0.02 * abs(mean + constant):
                for sign in (1, -1):
                    yield name, mean + other, sign


def _divisors(v: np.ndarray, b: int) -> dict[str, float]:
    """The mean over rows, right and with each known bug, for batches of b rows."""
    batches = [v[i : i + b] for i in range(0, len(v), b)]
    means = [batch.mean() for batch in batches]
    return {
        "right": v.mean(),
        "first batch only": means[0],
        "first batch only, divided by the number of batches": means[0] / len(batches),
        "sum over rows reported": v.sum(),
        "divisor of the reported mean": v.sum() / (b * (len(batches) - 1)),
        "divisor of the reported mean, that of full batches": v.sum() / (b * len(batches)),
        "mean of batch means": float(np.mean(means)),
    }


def _shared_generator(facts: Facts, x: np.ndarray) -> Iterator[Finding]:
    """Yield whether an evaluation between two training steps changes the noise of the second."""
    calls = facts.calls
    own_noise = calls.subject.noise is not None  # an argument, which evaluation cannot change
    if own_noise or not calls.has("loss", "seed") or not facts.varies or not facts.frozen:
        return
    losses = []
    for evaluated in (False, True):
        calls.reseed(17)
        if evaluated:
            calls.call("evaluate", x)
        losses.append(float(calls.array("loss", calls.call("loss", facts.rows[:8])).mean()))
    found = ", ".join(f"{v:.6g}" for v in losses)
    if abs(losses[0] - losses[1]) > facts.tolerance * (1 + abs(losses[0])):
        yield unusual(_GENERATOR, "evaluation draws from the training generator", "equal", found)
    else:
        yield Finding(_GENERATOR, RIGHT, "", "", "equal", found)


def _generated(facts: Facts) -> Iterator[Finding]:
    """Yield whether generated data are the mean of the decoder, or draws with this mean."""
    calls = facts.calls
    if calls.subject.family == "custom":
        yield skipped(_GENERATED, "the mean of a likelihood of one's own is not known")
        return
    z = facts.rng(72).standard_normal((6, facts.latent_dim))
    first = calls.decode(z)[0]

    def draw(seed: int) -> np.ndarray:
        calls.reseed(seed)
        value = calls.array("generate", calls.call("generate", z))
        if value.size != first.size:
            raise SubjectError(
                f"generate: expected {first.size} numbers for z {z.shape}, got shape {value.shape}"
            )
        return value.reshape(len(z), -1)

    one = draw(1)
    random = not np.allclose(one, draw(2), atol=1e-12)
    values, tolerance, n = one, 1e4 * facts.tolerance, calls.subject.trials
    if random:
        drawn = np.array([draw(k) for k in range(400)])
        values, error = drawn.mean(0), float(drawn.std(0).max()) / 20
        tolerance = max(0.15, (SIGMAS + 1) * error / n)  # the greatest of many deviations
    pixels = facts.output == "logits"
    hypotheses = {"right": n * sigmoid(first) if pixels else first}
    if facts.output == "probabilities":
        hypotheses["right"] = n * first
    if pixels:
        hypotheses["softplus for sigmoid in generation"] = np.logaddexp(0, first)
    held = [h for h, v in hypotheses.items() if np.abs(values - v).max() <= tolerance * n]
    worst = np.abs(values - hypotheses["right"]).max()
    if "right" in held:
        yield Finding(_GENERATED, RIGHT, "", "", "mean of the decoder", f"deviation {worst:.2g}")
    else:
        name = held[0] if held else "generated pixels are not the mean of the decoder"
        yield wrong(_GENERATED, name, "mean of the decoder", f"deviation {worst:.2g}")
