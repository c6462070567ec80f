"""log p(x) by importance weights: which function of the weights is reported?

    L_K = E[log (1/K) Σ_k w_k],    w = p(x|z) p(z)/q(z|x)

The weights are drawn here, with the user's own encoder and decoder; every known bug is then
another function of the same weights. Its mean is compared with that of the user for several K.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...support.special import log_mean_exp
from ...support.statistics import means_and_errors
from ..expected import probe_rows
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, WRONG, Finding
from ..hypotheses import (
    gaussian_constant,
    gaussian_kl_terms,
    laws,
    reconstruction_forms,
    wrong_constants,
)
from ..names import wrong
from ..statistics import SIGMAS
from ..subject import SubjectError, log_variance

__all__ = ["estimates", "importance_terms", "log_p", "spread_rows"]

_TITLE = "evaluation: log p(x)"
_EQUATION = "Eq. (9)"
_DRAWS = {1: 3000, 2: 2000, 5: 1500, 50: 300}  # our own draws for each K, and a fifth by the user
_TILES = {1: 4, 2: 4, 5: 4, 50: 1}  # how often the rows stand in one call of the user's function
_CHUNKS = (2, 3, 4, 7, 8, 10, 16, 20, 25, 32, 50, 64, 100)
_FLOOR, _CHI = 0.03, 2.2
_LOGS = "weights averaged in log space"


class _Users(NamedTuple):
    """The mean estimates of the user, their errors, and the deviation of one, for each K."""

    mean: dict[int, np.ndarray]
    error: dict[int, np.ndarray]
    spread: dict[int, float]


def log_p(facts: Facts) -> Iterator[Finding]:
    """Yield whether log_p is L_K for several K, and which other function it is if not."""
    if gaussian_constant(facts.calls.subject, facts.output, facts.data_dim) is None:
        yield skipped(_TITLE, "a constant of log p(x|z) is not known")
        return
    x = spread_rows(facts, 5)
    finding = _stage(facts, x, 0)
    if finding.verdict == WRONG and _stage(facts, x, 1).verdict != WRONG:
        advice = "two sets of draws do not agree"
        finding = replace(finding, verdict=UNDECIDED, severity="", name="", advice=advice)
    yield finding


def _stage(facts: Facts, x: np.ndarray, stage: int) -> Finding:
    """The finding from the draws of one stage."""
    users, tables = _Users({}, {}, {}), {}
    for k, draws in _DRAWS.items():
        values = _users(facts, x, k, stage)
        if not np.isfinite(values).all():
            return wrong(_TITLE, "weights underflow", "finite", f"{values.min()}", facts.probe())
        eps = facts.rng(70 + 5 * stage, k).standard_normal((draws, k, len(x), facts.latent_dim))
        tables[k] = estimates(facts, importance_terms(facts, x, k, draws, eps))
        users.mean[k], users.error[k] = means_and_errors(values)
        users.spread[k] = float(np.sqrt(values.var(0, ddof=1).mean() * _TILES[k]))
    text = ", ".join(f"K = {k}: {v.mean():.3f}" for k, v in users.mean.items())
    expected = ", ".join(f"{tables[k]['right'].mean():.3f}" for k in users.mean)
    probe = facts.probe(f"x {x.shape}")
    name = _name(facts, x, users, tables)
    if name == "right":
        return Finding(_TITLE, RIGHT, "", "", expected, text, _EQUATION, "", probe)
    return wrong(_TITLE, name, expected, text, probe)


def _name(facts: Facts, x: np.ndarray, users: _Users, tables: dict) -> str:
    """The name of the function that the user reports."""
    fits = {
        (name, sign): _distance(users, {k: t[name] for k, t in tables.items()}, sign)
        for name in tables[1]
        for sign in (1, -1)
    }
    held = sorted((f for f in fits if fits[f] <= 1), key=lambda f: (f[0] != "right", fits[f]))
    # one weight and the mean of K logarithms have the same mean, but not the same variance
    if (_LOGS, 1) in held and held[0][0] != "right" and users.spread[50] > 0.5 * users.spread[1]:
        return "K ignored"
    if held:
        return held[0][0]
    if _other_draws(facts, x, users):
        return "draws are not the n of log n"
    return _offset(users, tables)


def _other_draws(facts: Facts, x: np.ndarray, users: _Users) -> bool:
    """Whether the draws are a multiple of a chunk, and log K is subtracted all the same.

    With chunks of p there are n = ⌈K/p⌉ p draws, and the value is L_n + log(n/K).
    """
    known: dict[int, np.ndarray] = {}
    for p in _CHUNKS:
        values = {}
        for k in users.mean:
            n = -(-k // p) * p
            if n not in known:
                weights = importance_terms(facts, x, n, max(2000 // n, 100))
                known[n] = estimates(facts, weights)["right"]
            values[k] = known[n] + np.log(n / k)
        if _distance(users, values, 1) <= 1:
            return True
    return False


def importance_terms(
    facts: Facts, x: np.ndarray, k: int, draws: int, eps: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return log p(x|z), log p(z), log q(z|x), each (draws, K, B), and the KL (B,).

    The noise is (draws, K, B, J), random if it is not given.
    """
    calls = facts.calls
    mu, second = calls.encode(x)
    logvar = log_variance(second, facts.scale)
    if eps is not None:
        draws = len(eps)
    else:
        eps = facts.rng(70, k).standard_normal((draws, k, *mu.shape))
    z = laws(facts.scale)["right"](mu, second, eps)
    form = reconstruction_forms(calls.subject, facts.output)["right"]
    flat = np.broadcast_to(x.reshape(len(x), -1), (draws, k, len(x), facts.data_dim))
    out = calls.decode(z.reshape(-1, mu.shape[1]))
    cost = form(flat.reshape(-1, facts.data_dim), *out).reshape(z.shape[:-1])
    tau = np.log(2 * np.pi)
    return {
        "x": -cost - gaussian_constant(calls.subject, facts.output, facts.data_dim),
        "z": -0.5 * (z**2 + tau).sum(-1),
        "q": -0.5 * (eps**2 + logvar + tau).sum(-1),
        "kl": gaussian_kl_terms(mu, logvar),
    }


def estimates(facts: Facts, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the estimates of log p(x) (draws, B), right and with each known bug."""
    log_w = w["x"] + w["z"] - w["q"]
    draws, k, rows = log_w.shape

    def mean(a: np.ndarray) -> np.ndarray:
        return log_mean_exp(np.moveaxis(a, 1, 0))

    normal = np.exp(log_w - mean(log_w)[:, None]) / k
    table = {
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
    subject, d = facts.calls.subject, facts.data_dim
    for name, constant in wrong_constants(subject, facts.output, d):
        shift = (gaussian_constant(subject, facts.output, d) or 0.0) - constant
        if abs(shift) > 3 * _FLOOR:
            table[name] = table["right"] + shift
    return table


def spread_rows(facts: Facts, n: int) -> np.ndarray:
    """Return rows whose log p(x) differ much, so that a mixture of rows has other values."""
    x = probe_rows(facts)
    w = importance_terms(facts, x, 1, 50)
    order = np.argsort((w["x"] + w["z"] - w["q"]).mean((0, 1)))
    return x[order[np.linspace(0, len(x) - 1, n).round().astype(int)]]


def _users(facts: Facts, x: np.ndarray, k: int, stage: int) -> np.ndarray:
    """The user's estimates (calls, B), or (calls, 1) if they are means over rows.

    Each is the mean over the copies of a row in its batch.
    """
    calls, values = facts.calls, []
    wide = np.concatenate([x] * _TILES[k])
    for i in range(_DRAWS[k] // 5 // _TILES[k]):
        calls.reseed(100_000 * stage + 5000 + 1000 * k + i)
        value = calls.array("log_p", calls.call("log_p", wide, k), finite=False)
        per_row = value.size == len(wide)
        if np.isnan(value).any() or not (per_row or value.size == 1):
            raise SubjectError(
                f"log_p: expected a number or {len(wide)} numbers, got NaN or shape {value.shape}"
            )
        values.append(value.reshape(-1, len(x)).mean(0) if per_row else value.reshape(1))
    return np.array(values)


def _means(table: np.ndarray, like: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over draws and its error, for each row or for the mean of the rows."""
    values = table if len(like) > 1 else table.mean(1, keepdims=True)
    return means_and_errors(values)


def _distance(users: _Users, values: dict[int, np.ndarray], sign: int) -> float:
    """The deviation from a hypothesis over K and rows, in units of what is allowed."""
    excess = []
    for k, value in users.mean.items():
        mean, error = _means(values[k], value)
        beyond = np.maximum(np.abs(sign * value - mean) - _FLOOR, 0)
        excess.append(beyond / np.maximum(np.hypot(users.error[k], error), 1e-9))
    z = np.concatenate(excess)
    return float(max(z.max() / SIGMAS, np.sqrt(np.mean(z**2)) / _CHI))


def _offset(users: _Users, tables: dict) -> str:
    """A deviation that is the same for all rows, and depends on K alone, is another log K."""
    for k, value in users.mean.items():
        mean, error = _means(tables[k]["right"], value)
        difference = value - mean
        if np.abs(difference - difference.mean()).max() > max(
            2 * _FLOOR, SIGMAS * float(np.hypot(users.error[k], error).max())
        ):
            return "log p(x) is another function"
    return "another K subtracted"
