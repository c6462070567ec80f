"""Reported figures: log p(x) by importance weights, the mean over a data set, generated data.

    L_K = E[log (1/K) Σ_k w_k],    w = p(x|z) p(z)/q(z|x)

The weights are drawn here, with the user's own encoder and decoder; every known bug is then
another function of the same weights. Its mean is compared with that of the user for several K.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...support.special import log_mean_exp
from ..expected import COPIES, Measured, nodes, probe_rows
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding
from ..hypotheses import gaussian_kl_terms, reconstruction_forms, sigmoid
from ..names import wrong
from ..statistics import SIGMAS
from ..subject import log_variance

__all__ = ["examine"]

_LOG_P, _MEAN, _GENERATED = "evaluation: log p(x)", "evaluation: data set", "evaluation: generated"
_MODE = "evaluation: noise"
_EQUATION = "Eq. (9)"
_DRAWS = {1: 3000, 2: 2000, 5: 1500, 50: 300}  # our own draws for each K, and a fifth by the user
_TILES = {1: 4, 2: 4, 5: 4, 50: 1}  # how often the rows stand in one call of the user's function
_FLOOR, _CHI = 0.03, 2.2
_OTHER_K = "another K subtracted"


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the reported figures are what they are said to be."""
    examinations = {
        "log_p": (_LOG_P, _log_p),
        "evaluate": (_MEAN, _data_set),
        "generate": (_GENERATED, _generated),
        "eval": (_MODE, _mode),
    }
    for name, (title, examination) in examinations.items():
        need = [
            name,
            *({"generate": ["decode"], "eval": ["loss"]}.get(name, ["encode", "decode"])),
        ]
        missing = [n for n in need if not facts.calls.has(n)]
        if missing or facts.x is None:
            yield skipped(title, f"{', '.join(missing) or 'x'} not given")
        else:
            yield from examination(facts)


def _constant(facts: Facts) -> float | None:
    """What −log p(x|z) has beside its form; None if σ is not known."""
    subject, d = facts.calls.subject, facts.data_dim
    if subject.family != "gaussian":
        return 0.0
    if facts.output in ("mean_logvar", "mean_sigma"):
        return 0.5 * d * np.log(2 * np.pi)
    sigma = subject.declared_sigma
    return None if sigma is None else 0.5 * d * np.log(2 * np.pi * sigma**2)


def _weights(facts: Facts, x: np.ndarray, k: int, draws: int) -> dict[str, np.ndarray]:
    """log p(x|z), log p(z), log q(z|x), each (draws, K, B), and the KL (B,)."""
    calls = facts.calls
    mu, second = calls.encode(x)
    logvar = log_variance(second, facts.scale)
    eps = facts.rng(70, k).standard_normal((draws, k, *mu.shape))
    z = mu + np.exp(0.5 * logvar) * eps
    form = reconstruction_forms(calls.subject, facts.output)["right"]
    flat = np.broadcast_to(x.reshape(len(x), -1), (draws, k, len(x), facts.data_dim))
    out = calls.decode(z.reshape(-1, mu.shape[1]))
    cost = form(flat.reshape(-1, facts.data_dim), *out).reshape(z.shape[:-1])
    tau = np.log(2 * np.pi)
    return {
        "x": -cost - _constant(facts),
        "z": -0.5 * (z**2 + tau).sum(-1),
        "q": -0.5 * (eps**2 + logvar + tau).sum(-1),
        "kl": gaussian_kl_terms(mu, logvar),
    }


def _estimates(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The estimates of log p(x) (draws, B), right and with each known bug."""
    log_w = w["x"] + w["z"] - w["q"]
    draws, k, rows = log_w.shape

    def mean(a: np.ndarray) -> np.ndarray:
        return log_mean_exp(np.moveaxis(a, 1, 0))

    normal = np.exp(log_w - mean(log_w)[:, None]) / k
    return {
        "right": mean(log_w),
        "weights averaged in log space": log_w.mean(1),
        "log K not subtracted": mean(log_w) + np.log(k),
        "Σ w̃ log w reported as the value": (normal * log_w).sum(1),
        "greatest weight for the mean of weights": log_w.max(1),
        "sign in the weights": -mean(-log_w),
        "analytic KL in the weights": mean(w["x"] - w["kl"]),
        "rows mixed among the weights": mean(np.moveaxis(log_w.reshape(draws, rows, k), 2, 1)),
        "q missing in the weights": mean(w["x"] + w["z"]),
        "prior missing in the weights": mean(w["x"] - w["q"]),
    }


def _spread_rows(facts: Facts, n: int) -> np.ndarray:
    """Rows whose log p(x) differ much, so that a mixture of rows has other values."""
    x = probe_rows(facts)
    w = _weights(facts, x, 1, 50)
    order = np.argsort((w["x"] + w["z"] - w["q"]).mean((0, 1)))
    return x[order[np.linspace(0, len(x) - 1, n).round().astype(int)]]


def _users(facts: Facts, x: np.ndarray, k: int) -> np.ndarray:
    """The user's estimates (calls, B), or (calls, 1) if they are means over rows.

    Each is the mean over the copies of a row in its batch.
    """
    calls, values = facts.calls, []
    wide = np.concatenate([x] * _TILES[k])
    for i in range(_DRAWS[k] // 5 // _TILES[k]):
        calls.reseed(5000 + 1000 * k + i)
        value = calls.array("log_p", calls.call("log_p", wide, k), finite=False)
        per_row = value.size == len(wide)
        values.append(value.reshape(-1, len(x)).mean(0) if per_row else value.reshape(1))
    return np.array(values)


def _log_p(facts: Facts) -> Iterator[Finding]:
    """Yield whether log_p is L_K for several K, and which other function it is if not."""
    if _constant(facts) is None:
        yield skipped(_LOG_P, "σ of the decoder is not declared")
        return
    x = _spread_rows(facts, 5)
    found, errors = {}, {}
    tables: dict[int, dict[str, np.ndarray]] = {}
    for k, draws in _DRAWS.items():
        values = _users(facts, x, k)
        if not np.isfinite(values).all():
            yield wrong(_LOG_P, "weights underflow", "finite", f"{values.min()}", facts.probe())
            return
        tables[k] = _estimates(_weights(facts, x, k, draws))
        found[k] = values.mean(0)
        errors[k] = values.std(0, ddof=1) / np.sqrt(len(values))
    signs = (1, -1)
    fits = {
        (name, sign): _distance(found, errors, tables, name, sign)
        for name in tables[1]
        for sign in signs
    }
    held = sorted((f for f in fits if fits[f] <= 1), key=lambda f: (f[0] != "right", fits[f]))
    text = ", ".join(f"K = {k}: {v.mean():.3f}" for k, v in found.items())
    expected = ", ".join(f"{tables[k]['right'].mean():.3f}" for k in found)
    probe = facts.probe(f"x {x.shape}")
    if held and held[0][0] == "right":
        yield Finding(_LOG_P, RIGHT, "", "", expected, text, _EQUATION, "", probe)
    else:
        name = held[0][0] if held else _offset(found, errors, tables)
        yield wrong(_LOG_P, name, expected, text, probe)


def _means(table: np.ndarray, like: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over draws and its error, for each row or for the mean of the rows."""
    values = table if len(like) > 1 else table.mean(1, keepdims=True)
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def _distance(found: dict, errors: dict, tables: dict, name: str, sign: int) -> float:
    """The deviation from a hypothesis over K and rows, in units of what is allowed."""
    excess = []
    for k, value in found.items():
        mean, error = _means(tables[k][name], value)
        beyond = np.maximum(np.abs(sign * value - mean) - _FLOOR, 0)
        excess.append(beyond / np.maximum(np.hypot(errors[k], error), 1e-9))
    z = np.concatenate(excess)
    return float(max(z.max() / SIGMAS, np.sqrt(np.mean(z**2)) / _CHI))


def _offset(found: dict, errors: dict, tables: dict) -> str:
    """A deviation that is the same for all rows, and depends on K alone, is another log K."""
    for k, value in found.items():
        mean, error = _means(tables[k]["right"], value)
        difference = value - mean
        if np.abs(difference - difference.mean()).max() > max(
            2 * _FLOOR, SIGMAS * float(np.hypot(errors[k], error).max())
        ):
            return "log p(x) is another function"
    return _OTHER_K


def _row_values(facts: Facts, x: np.ndarray, law: str) -> np.ndarray:
    """−ELBO of each row under a law of z, by quadrature."""
    eps, weights = nodes(facts.latent_dim, facts.rng(71))
    m = Measured(facts, x, np.zeros(len(x)), np.ones(len(x)), 0.0, eps[None], weights)
    return m.reconstruction(law, "right") + facts.calls.subject.beta * m.kl("right")


def _data_set(facts: Facts) -> Iterator[Finding]:
    """Yield whether the figure for a data set is the mean over its rows."""
    subject, calls = facts.calls.subject, facts.calls
    b = subject.batch_size or 4
    x = facts.x[: 2 * b + max(b // 2, 1)]
    x = x[np.argsort(_row_values(facts, x, "right"))]
    values = []
    for seed in range(30):
        calls.reseed(3000 + seed)
        values.append(float(calls.array("evaluate", calls.call("evaluate", x)).mean()))
    found, error = abs(np.mean(values)), np.std(values) / np.sqrt(len(values))
    random, still = (_row_values(facts, x, law) for law in ("right", "mean decoded"))
    hypotheses = _divisors(random, b) | {"evaluation without noise": still.mean()}
    if np.ptp(values) > 1e-6 * abs(values[0]):
        del hypotheses["evaluation without noise"]
    scales = {1.0, facts.factor or 1.0}
    distances = {
        name: min(abs(found - s * abs(v)) / max(SIGMAS * error, 0.01 * s * abs(v)) for s in scales)
        for name, v in hypotheses.items()
    }
    probe = facts.probe(f"x {x.shape}, in the order of its values")
    text, expected = f"{found:.5g}", f"{abs(random.mean()):.5g}"
    best = min(distances, key=lambda n: distances[n])
    if distances["right"] <= 1 and distances["right"] <= 2 * distances[best] + 0.1:
        yield Finding(_MEAN, RIGHT, "", "", expected, text, _EQUATION, "", probe)
    elif distances[best] <= 1:
        yield wrong(_MEAN, best.partition(",")[0], expected, text, probe)
    elif subject.family == "gaussian" and _constant(facts) is None:
        yield Finding(_MEAN, UNDECIDED, "", "", expected, text, _EQUATION, "σ is not declared")
    else:
        yield wrong(_MEAN, "reported figure", expected, text, probe)


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


def _generated(facts: Facts) -> Iterator[Finding]:
    """Yield whether generated data are the mean of the decoder, or draws with this mean."""
    calls = facts.calls
    z = facts.rng(72).standard_normal((6, facts.latent_dim))
    first = calls.decode(z)[0]

    def draw(seed: int) -> np.ndarray:
        calls.reseed(seed)
        return calls.array("generate", calls.call("generate", z)).reshape(len(z), -1)

    one = draw(1)
    random = not np.allclose(one, draw(2), atol=1e-12)
    values = np.mean([draw(k) for k in range(400)], 0) if random else one
    tolerance = 0.15 if random else 1e4 * facts.tolerance
    n = calls.subject.trials
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


def _mode(facts: Facts) -> Iterator[Finding]:
    """Yield whether the loss still has its noise in evaluation."""
    calls = facts.calls
    calls.call("eval")
    try:
        x = np.repeat(facts.x[:4], COPIES, 0)
        values = [calls.loss(x, seed, facts.latent_dim) for seed in (1, 2, 3)]
    finally:
        if calls.has("train"):
            calls.call("train")
    text = ", ".join(f"{v:.6g}" for v in values)
    if facts.varies and np.ptp(values) <= facts.tolerance:
        yield wrong(_MODE, "evaluation without noise", "varies with the seed", text)
    else:
        yield Finding(_MODE, RIGHT, "", "", "", text, "Eq. (11)")
