"""Which part of a wrong gradient is wrong: the factors of its parts name the bug.

The gradient is split into its parts (`differences`), from the output down: the last layer of the
decoder, its other layers, the two heads of the encoder, the layers below them.
"""

from __future__ import annotations

import numpy as np

from ..differences import Parts, differences, encoder_parts, step
from ..hypotheses import reconstruction_forms, sigmoid
from .gradient_case import SEED, Case, known_z, parts_of
from .unbiased import unbiased

__all__ = ["NOT", "UNBIASED", "name_of"]

UNBIASED = "another unbiased estimator"
NOT = "gradient is not that of the value"


def name_of(case: Case) -> str:
    """Return the name of what is wrong, "" if it cannot be told."""
    everywhere = np.ones(len(case.found), bool)
    r = case.ratio(everywhere)
    b = len(case.x)
    factors = {
        -1.0: "sign of the gradient",
        float(b): "gradient summed, value averaged",
        1 / b: "gradient averaged, value summed",
    }
    right = set(case.blocks.names) - {*case.wrong, *case.unseen}
    if r is not None and not case.near(r, 1) and not right:
        return next((n for v, n in factors.items() if case.near(r, v)), "gradient off by a factor")
    if len(case.wrong) <= len(case.blocks.names) // 2 and all(
        case.near(case.ratio(case.of(n)), 1 / b) for n in case.wrong
    ):
        return "bias averaged over the batch"
    p = parts_of(case)
    if p is None:
        detached = _detached(case)
        if detached:
            return detached
        return {"right": UNBIASED, "wrong": NOT}.get(unbiased(case, None), "")
    name = _decoder(case, p) or _encoder(case, p)
    if name == NOT:  # no known bug: the mean decides
        return {"right": UNBIASED, "undecided": ""}.get(unbiased(case, p), NOT)
    return name


def _detached(case: Case) -> str:
    """The path of z that is missing, from heads whose gradient is the same for all seeds."""
    facts, calls = case.facts, case.facts.calls
    if not calls.has("encode") or not facts.varies:
        return ""
    *_, d_mu, d_second = encoder_parts(facts, case.x, case.blocks.index)
    of_mu, of_sigma = (_active(case, [np.abs(d).max((1, 2))]) for d in (d_mu, d_second))
    draws = [calls.gradient(case.x, seed, facts.latent_dim) for seed in range(8)]
    flat = np.array([np.concatenate(list(g.values()))[case.blocks.index] for g in draws])
    still = np.ptp(flat, axis=0) <= facts.tolerance * np.abs(flat).max()
    heads = {"mu": of_mu & ~of_sigma, "sigma": of_sigma & ~of_mu}
    detached = {n: bool(still[w].all()) for n, w in heads.items() if w.any()}
    if still[of_mu | of_sigma].all():
        return "z detached"
    if detached == {"mu": False, "sigma": True}:
        return "path through σ detached"
    return "path through μ detached" if detached == {"mu": True, "sigma": False} else ""


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
    first = facts.calls.decode(known_z(case, SEED))[0]
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
        if np.linalg.norm(case.found[where] - expected) <= 10 * case.loose * np.linalg.norm(
            expected
        ):
            return name
    return default


def _updated(case: Case, p: Parts, c: float, last: list[str], inner: np.ndarray) -> bool:
    """Whether the backward pass went through a last layer that was already updated.

    The other gradients are linear in the weights of the last layer: found = right + r · change.
    """
    calls, z = case.facts.calls, known_z(case, SEED)
    gradient = calls.gradient(case.x, SEED, case.facts.latent_dim)
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
    return bool(
        r > 0 and np.linalg.norm(rest - r * change) <= 10 * case.loose * np.linalg.norm(rest)
    )


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
    fits = np.linalg.norm(y - a @ factors) <= case.loose * np.maximum(np.linalg.norm(y), 1e-12)
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
        verdict = unbiased(case, known)
        if verdict != "wrong":
            return UNBIASED if verdict == "right" else ""
        if mu is not None and case.near(mu, 1) and sigma is None:
            return "noise drawn again in the backward pass"
        return "updated weights in the backward pass" if mu is None and sigma is None else NOT
    if case.near(mu, 1) and case.near(sigma, 1):
        return _trunk(case, of_mu, of_sigma, has_mu & has_sigma)
    if form == "sampled":
        detached = case.near(mu[1], 0) and case.near(sigma[1], 0) and case.near(sigma[2], 1)
        return "path of log p(z) missing" if detached else NOT
    return _heads(case, (*mu, *sigma))


def _active(case: Case, columns: list[np.ndarray]) -> np.ndarray:
    """The coordinates of the blocks in which a part is not zero."""
    size = np.abs(np.stack(columns)).max(0)
    on = [case.blocks.names[b] for b in set(case.blocks.block[size > 1e-7 * size.max()])]
    return np.isin(case.blocks.block, [case.blocks.names.index(n) for n in on])


def _heads(case: Case, factors: tuple[float, ...]) -> str:
    """The name for the factors (path, KL) at the head of μ and at that of σ."""
    rows = len(case.x)
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
        if case.near(factors, target):
            return name
    paths = case.near(factors[::2], (1, 1))
    return "gradient of the KL off by a factor" if paths else NOT


def _trunk(case: Case, of_mu: list, of_sigma: list, where: np.ndarray) -> str:
    """The name of what is wrong below heads that are right."""
    whole_mu, whole_sigma = np.sum(of_mu, 0), np.sum(of_sigma, 0)
    factors = _factors(case, [whole_mu, whole_sigma], where)
    if factors is not None:
        if case.near(factors[0], 1) and case.near(factors[1], 0):
            return "only the branch of μ sent back"
        if case.near(factors[0], 0) and case.near(factors[1], 1):
            return "only the branch of log σ² sent back"
    return "derivative of an activation in the encoder"
