"""The gradient against central differences of the loss, and which part of it is wrong.

A gradient that is not the derivative of the value may still be right in its mean, as that of STL
or DReG is: its mean difference from the derivative of the value, over seeds, is then 0, and it is
acquitted. Otherwise it is split into its parts (`differences`), whose factors name the bug.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..differences import Blocks, Parts, choose, differences, encoder_parts, parts, slope, step
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, UNUSUAL, Finding
from ..hypotheses import laws, reconstruction_forms, sigmoid
from ..names import bug, wrong
from ..statistics import two_stages
from ..subject import SubjectError

__all__ = ["examine"]

_TITLE = "gradient: derivative of the loss"
_EQUATION = "Eq. (11)"
_ROWS, _SEED, _SEEDS = 4, 11, 600
_UNBIASED = "another unbiased estimator"
_NOT = "gradient is not that of the value"


class Case(NamedTuple):
    """What is compared: the gradient at chosen coordinates, by the subject and by differences."""

    facts: Facts
    x: np.ndarray
    blocks: Blocks
    found: np.ndarray
    expected: np.ndarray
    tolerance: float

    def of(self, name: str) -> np.ndarray:
        """Where the coordinates of a block are."""
        return self.blocks.block == self.blocks.names.index(name)

    def error(self, where: np.ndarray) -> float:
        """The relative error of the coordinates, against the size that such a part has."""
        difference = np.linalg.norm((self.found - self.expected)[where])
        size = np.sqrt(where.sum() / len(where)) * np.linalg.norm(self.expected)
        return float(difference / max(np.linalg.norm(self.expected[where]), 1e-3 * size, 1e-300))

    @property
    def wrong(self) -> list[str]:
        """The blocks that are wrong."""
        return [n for n in self.blocks.names if self.error(self.of(n)) > self.tolerance]

    def ratio(self, where: np.ndarray) -> float | None:
        """The factor of the coordinates against what was expected, None if there is none."""
        a, b = self.found[where], self.expected[where]
        factor = float(a @ b / max(b @ b, 1e-300))
        fits = np.linalg.norm(a - factor * b) <= 10 * self.tolerance * np.linalg.norm(b)
        return factor if fits else None


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the gradient is that of the loss, and what is wrong with it if not."""
    calls = facts.calls
    missing = [n for n in ("gradient", "parameters", "loss") if not calls.has(n)]
    if missing or facts.x is None:
        yield skipped(_TITLE, f"{', '.join(missing) or 'x'} not given")
        return
    if not facts.frozen:
        yield skipped(_TITLE, "the noise is not frozen by a seed")
        return
    case = _compare(facts)
    worst = {n: case.error(case.of(n)) for n in case.blocks.names}
    text = ", ".join(f"{n} {e:.2g}" for n, e in worst.items())
    probe = facts.probe(f"x {case.x.shape}, {len(case.blocks.index)} coordinates, h {step(facts)}")
    if not case.wrong:
        found = f"greatest relative error {max(worst.values()):.2g}"
        yield Finding(_TITLE, RIGHT, "", "", "0", found, _EQUATION, "", probe)
        return
    name = _name(case)
    if not name:
        advice = "it is not the derivative of the loss; its mean is not known well enough"
        yield Finding(_TITLE, UNDECIDED, "", "", "0", text, _EQUATION, advice, probe)
    elif name == _UNBIASED:
        known = bug(name)
        yield Finding(
            _TITLE, UNUSUAL, known.severity, name, "0", text, _EQUATION, known.cure, probe
        )
    else:
        yield wrong(_TITLE, name, "relative errors 0", text, probe)


def _compare(facts: Facts) -> Case:
    """Compute both gradients; coordinates at a kink, where two steps disagree, are left out."""
    calls, h = facts.calls, step(facts)
    x = facts.x[:_ROWS]
    gradient = calls.gradient(x, _SEED, facts.latent_dim)
    sizes = {n: g.size for n, g in gradient.items()}
    size = calls.vector().size
    if sum(sizes.values()) != size:
        raise SubjectError(f"gradient: expected {size} numbers, got {sum(sizes.values())}")
    blocks = choose(sizes, facts.rng(60))

    def value() -> float:
        return calls.loss(x, _SEED, facts.latent_dim)

    first = differences(calls, blocks.index, value, h)
    second = differences(calls, blocks.index, value, 0.5 * h)
    scale = np.abs(first).max()
    tolerance = 1e-5 if facts.tolerance < 1e-6 else 3e-2
    smooth = np.abs(first - second) <= tolerance * (np.abs(first) + 0.1 * scale)
    blocks = blocks._replace(index=blocks.index[smooth], block=blocks.block[smooth])
    found = np.concatenate(list(gradient.values()))[blocks.index]
    return Case(facts, x, blocks, found, second[smooth], tolerance)


def _near(value: float | None, target: float) -> bool:
    return value is not None and abs(value - target) <= 2e-3 * max(1, abs(target))


def _name(case: Case) -> str:
    """The name of what is wrong."""
    everywhere = np.ones(len(case.found), bool)
    r = case.ratio(everywhere)
    b = len(case.x)
    factors = {
        -1.0: "sign of the gradient",
        float(b): "gradient summed, value averaged",
        1 / b: "gradient averaged, value summed",
    }
    if r is not None:
        return next((n for v, n in factors.items() if _near(r, v)), "gradient off by a factor")
    if len(case.wrong) <= len(case.blocks.names) // 2 and all(
        _near(case.ratio(case.of(n)), 1 / b) for n in case.wrong
    ):
        return "bias averaged over the batch"
    p = _parts(case)
    if p is None:
        return {"right": _UNBIASED, "wrong": _NOT}.get(_unbiased(case, None), "")
    return _decoder(case, p) or _encoder(case, p)


def _parts(case: Case) -> tuple[Parts, float, str] | None:
    """The parts of the gradient, the factor of the loss and the form of its KL, if known.

    The noise is that of `sample_z` after the same seed. This is right if −ELBO with this noise, in
    one of its forms, is proportional to the loss for several seeds.
    """
    facts, calls = case.facts, case.facts.calls
    if not calls.has("encode", "decode") or calls.subject.n_samples > 1:
        return None
    none = np.empty(0, int)
    losses, values = [], {"analytic": [], "sampled": []}
    for seed in (_SEED, _SEED + 1, _SEED + 2):
        z = _z(case, seed)
        if z is None:
            return None
        p = parts(facts, case.x, z, none)
        losses.append(calls.loss(case.x, seed, facts.latent_dim))
        values["analytic"].append(p.value)
        values["sampled"].append(p.sampled)
    constant = calls.subject.family in ("gaussian", "custom")
    for form, v in values.items():
        columns = np.stack([v, np.full(3, float(constant))], 1)
        c, *_ = np.linalg.lstsq(columns, np.array(losses), rcond=None)
        misfit = np.abs(columns @ c - losses).max()
        if misfit <= 1e4 * facts.tolerance * np.abs(losses).max():
            return parts(facts, case.x, _z(case, _SEED), case.blocks.index), float(c[0]), form
    return None


def _z(case: Case, seed: int) -> np.ndarray | None:
    """The z of the loss for a seed."""
    facts, calls = case.facts, case.facts.calls
    mu, second = calls.encode(case.x)
    if calls.subject.noise == "eps":
        return laws(facts.scale)["right"](mu, second, calls.eps(*mu.shape, seed))
    return calls.sample_z(mu, second, seed) if calls.has("sample_z", "seed") else None


def _decoder(case: Case, known: tuple[Parts, float, str]) -> str:
    """The name of what is wrong in the decoder, or nothing."""
    p, c, _ = known
    scale = np.abs(p.decoder).max()
    mine = [n for n in case.blocks.names if np.abs(p.decoder[case.of(n)]).max() > 1e-9 * scale]
    # a parameter of the last layer moves one output only
    moved = np.abs(p.out).max(1) > 1e-7 * max(np.abs(p.out).max(), 1e-300)
    last = [n for n in mine if (moved[case.of(n)].sum(1) <= 1).all()]
    if any(n in case.wrong for n in last):
        return _output(
            case, p, c, np.isin(case.blocks.block, [case.blocks.names.index(n) for n in last])
        )
    if any(n in case.wrong for n in mine):
        inner = np.isin(
            case.blocks.block, [case.blocks.names.index(n) for n in mine if n not in last]
        )
        if last and _updated(case, p, c, last, inner):
            return "updated weights in the backward pass"
        return "derivative of an activation in the decoder"
    return ""


def _output(case: Case, p: Parts, c: float, where: np.ndarray) -> str:
    """The name of a wrong derivative at the output, from the last layer of the decoder."""
    facts = case.facts
    default = "derivative of the output"
    if facts.calls.subject.family != "bernoulli":
        return default
    first = facts.calls.decode(_z(case, _SEED))[0]
    x = case.x.reshape(len(case.x), -1)
    q = sigmoid(first) if facts.output == "logits" else first
    jacobian = p.out if facts.output == "logits" else p.out / (q * (1 - q))
    deltas = {
        "half the derivative of the output": 0.5 * (q - x),
        "derivative of the sigmoid twice": (q - x) * q * (1 - q),
        "derivative of tanh at a sigmoid output": (q - x) * (1 - q**2),
    }
    for name, delta in deltas.items():
        expected = c * (jacobian * delta).sum((1, 2))[where] / len(x)
        if np.linalg.norm(case.found[where] - expected) <= 1e-3 * np.linalg.norm(expected):
            return name
    return default


def _updated(case: Case, p: Parts, c: float, last: list[str], inner: np.ndarray) -> bool:
    """Whether the backward pass went through a last layer that was already updated.

    The other gradients are linear in the weights of the last layer: found = right + r · change.
    """
    calls, z = case.facts.calls, _z(case, _SEED)
    gradient = calls.gradient(case.x, _SEED, case.facts.latent_dim)
    flat = calls.vector()
    moved = np.concatenate([g if n in last else 0 * g for n, g in gradient.items()])
    index = case.blocks.index[inner]
    h = step(case.facts)
    # −∂log p/∂out at the right weights, from the derivatives in the last layer's own outputs
    delta = _output_slope(case, z)
    try:
        calls.replace(flat - moved)
        jacobian = differences(calls, index, lambda: calls.decode(z)[0], h)
    finally:
        calls.replace(flat)
    right = c * (p.out[inner] * delta).sum((1, 2)) / len(z)
    change = c * (jacobian * delta).sum((1, 2)) / len(z) - right
    rest = case.found[inner] - right
    r = rest @ change / max(change @ change, 1e-300)
    return bool(r > 0 and np.linalg.norm(rest - r * change) <= 1e-3 * np.linalg.norm(rest))


def _output_slope(case: Case, z: np.ndarray) -> np.ndarray:
    """∂(−log p(x|z))/∂out (B, D), by central differences."""
    facts, h = case.facts, step(case.facts)
    form = reconstruction_forms(facts.calls.subject, facts.output)["right"]
    first, second = facts.calls.decode(z)
    x = case.x.reshape(len(z), -1)
    unit = np.eye(first.shape[1]) * h
    return np.stack(
        [(form(x, first + e, second) - form(x, first - e, second)) / (2 * h) for e in unit], 1
    )


def _factors(case: Case, columns: list[np.ndarray], where: np.ndarray) -> np.ndarray | None:
    """The factors of the parts in some coordinates, None if they do not explain them."""
    a = np.stack(columns, 1)[where]
    y = case.found[where]
    factors, *_ = np.linalg.lstsq(a, y, rcond=None)
    fits = np.linalg.norm(y - a @ factors) <= 10 * case.tolerance * max(np.linalg.norm(y), 1e-12)
    return factors if fits and len(y) > len(columns) else None


def _encoder(case: Case, known: tuple[Parts, float, str]) -> str:
    """The name of what is wrong in the encoder, from the factors of the parts in its heads."""
    p, c, form = known
    if form == "analytic":
        of_mu, of_sigma = [p.path_mu, p.kl_mu], [p.path_sigma, p.kl_sigma]
    else:
        of_mu = [p.path_mu, p.prior_mu]
        of_sigma = [p.path_sigma, p.prior_sigma, p.entropy]
    of_mu, of_sigma = [c * a for a in of_mu], [c * a for a in of_sigma]
    has_mu, has_sigma = _active(case, of_mu), _active(case, of_sigma)
    mu = _factors(case, of_mu, has_mu & ~has_sigma)
    sigma = _factors(case, of_sigma, has_sigma & ~has_mu)
    if mu is None or sigma is None:
        verdict = _unbiased(case, known)
        if verdict != "wrong":
            return _UNBIASED if verdict == "right" else ""
        if mu is not None and np.allclose(mu, 1, atol=2e-3) and sigma is None:
            return "noise drawn again in the backward pass"
        return "updated weights in the backward pass" if mu is None and sigma is None else _NOT
    if np.allclose(mu, 1, atol=2e-3) and np.allclose(sigma, 1, atol=2e-3):
        return _trunk(case, of_mu, of_sigma, has_mu & has_sigma)
    if form == "sampled":
        detached = _near(mu[1], 0) and _near(sigma[1], 0) and _near(sigma[2], 1)
        return "path of log p(z) missing" if detached else _NOT
    return _heads(*mu, *sigma, len(case.x))


def _active(case: Case, columns: list[np.ndarray]) -> np.ndarray:
    """The coordinates of the blocks in which a part is not zero."""
    size = np.abs(np.stack(columns)).max(0)
    on = [case.blocks.names[b] for b in set(case.blocks.block[size > 1e-7 * size.max()])]
    return np.isin(case.blocks.block, [case.blocks.names.index(n) for n in on])


def _heads(a: float, b: float, c: float, d: float, rows: int) -> str:
    """The name for the factors (path, KL) at the head of μ and at that of σ."""
    table = {
        (1, 1, 2, 1): "½ missing in ∂σ",
        (1, 1, 0, 1): "path through σ detached",
        (0, 1, 1, 1): "path through μ detached",
        (0, 1, 0, 1): "z detached",
        (1, 0, 1, 0): "gradient of the KL missing",
        (1, 1, 1, 0): "gradient of the KL in log σ² missing",
        (1, 0, 1, 1): "gradient of the KL in μ missing",
        (1, rows, 1, rows): "gradient of the KL not divided by the batch",
        (1, -1, 1, -1): "sign of the gradient of the KL",
        (1, 1, 1, 2): "½ missing in the gradient of the KL",
    }
    for target, name in table.items():
        if all(_near(v, t) for v, t in zip((a, b, c, d), target)):
            return name
    paths = _near(a, 1) and _near(c, 1)
    return "gradient of the KL off by a factor" if paths else _NOT


def _trunk(case: Case, of_mu: list, of_sigma: list, where: np.ndarray) -> str:
    """The name of what is wrong below heads that are right."""
    whole_mu, whole_sigma = np.sum(of_mu, 0), np.sum(of_sigma, 0)
    factors = _factors(case, [whole_mu, whole_sigma], where)
    if factors is not None:
        if _near(factors[0], 1) and _near(factors[1], 0):
            return "only the branch of μ sent back"
        if _near(factors[0], 0) and _near(factors[1], 1):
            return "only the branch of log σ² sent back"
    return "derivative of an activation in the encoder"


def _unbiased(case: Case, known: tuple[Parts, float, str] | None) -> str:
    """Whether the mean gradient is that of the mean loss: "right", "wrong" or "undecided".

    With two halves of the seeds: the first gives the direction in which the difference is greatest
    in its standard errors, the second gives the difference along it.
    """
    draw = _exact_differences(case, known) if known else _directions(case)
    first, second = draw(0), draw(1)
    size = np.linalg.norm(case.expected)
    spread = np.maximum(first.std(0), 1e-9 * size)
    direction = first.mean(0) / spread**2
    direction /= max(np.linalg.norm(direction), 1e-300)

    def stage(number: int) -> tuple[float, float]:
        along = (second if number == 0 else draw(2)) @ direction
        return float(along.mean() / along.std(ddof=1)), len(along) ** -0.5

    return two_stages(stage, 0.1)


def _exact_differences(case: Case, known: tuple[Parts, float, str]) -> Callable:
    """The gradient minus c ∂(−ELBO) for many seeds, at the coordinates that are wrong.

    The derivatives of μ and log σ² do not depend on the noise: they are computed once.
    """
    facts, x, beta, c = case.facts, case.x, case.facts.calls.subject.beta, known[1]
    where = np.isin(case.blocks.block, [case.blocks.names.index(n) for n in case.wrong])
    index = case.blocks.index[where]
    mu, logvar, d_mu, d_logvar = encoder_parts(facts, x, index)
    sigma = np.exp(0.5 * logvar)

    def one(seed: int) -> np.ndarray:
        z = _z(case, seed)
        g, eps = slope(facts, x, z), (z - mu) / sigma
        by_mu, by_logvar = g + beta * mu, 0.5 * (g * eps * sigma + beta * (sigma**2 - 1))
        exact = (by_mu * d_mu + by_logvar * d_logvar).sum((1, 2)) / len(x)
        gradient = facts.calls.gradient(x, seed, facts.latent_dim)
        return np.concatenate(list(gradient.values()))[index] - c * exact

    return lambda stage: np.array([one(20_000 * (stage + 1) + k) for k in range(_SEEDS)])


def _directions(case: Case) -> Callable:
    """The differences along four directions in the wrong blocks, by central differences."""
    flat = case.facts.calls.vector()
    where = np.isin(case.blocks.block, [case.blocks.names.index(n) for n in case.wrong])
    index, rng = case.blocks.index[where], case.facts.rng(61)
    directions = np.zeros((4, len(flat)))
    directions[:, index] = rng.standard_normal((4, len(index)))
    directions[0, index] = case.expected[where]
    directions[1, index] = (case.found - case.expected)[where]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def draw(stage: int) -> np.ndarray:
        seeds = range(20_000 * (stage + 1), 20_000 * (stage + 1) + _SEEDS)
        return np.array([[_directional(case, flat, v, s) for v in directions] for s in seeds])

    return draw


def _directional(case: Case, flat: np.ndarray, v: np.ndarray, seed: int) -> float:
    """The difference of both derivatives along v, for one seed."""
    calls, h, j = case.facts.calls, step(case.facts), case.facts.latent_dim
    gradient = np.concatenate(list(calls.gradient(case.x, seed, j).values()))
    sides = []
    for sign in (1, -1):
        calls.replace(flat + sign * h * v)
        sides.append(calls.loss(case.x, seed, j))
    calls.replace(flat)
    return float(gradient @ v - (sides[0] - sides[1]) / (2 * h))
