"""The importance-weighted bound: a loss that is −L_K is no −ELBO, and right all the same.

L_K = E[log (1/K) Σ_k w_k],    w = p(x|z) p(z)/q(z|x)                             Eq. (9)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...support.special import log_mean_exp
from ..expected import Measured
from ..facts import Facts
from ..findings import UNUSUAL, Finding
from ..names import bug
from ..statistics import Fit, fit

__all__ = ["bounds", "finding", "fits"]

NAME = "importance-weighted bound"
_DRAWS = 4096  # for each row, in groups of K
_USUAL = (*range(2, 21), 25, 30, 32, 40, 50, 64, 100)  # K, where it is not declared


def bounds(facts: Facts, m: Measured) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield K, L_K of each row of `m` (N,), and its standard errors: of both means, in nats."""
    declared = facts.calls.draws
    rows = len(m.x)
    if facts.calls.subject.noise == "eps" and declared == 1:
        return
    if facts.calls.subject.noise == "eps":  # the very draws: (L, copies) of each row
        log_w = m.log_weights().reshape(rows, declared, -1)
        yield declared, log_mean_exp(np.moveaxis(log_w, 1, 0)).mean(1), np.zeros(rows)
        return
    eps = facts.rng(32).standard_normal((rows, _DRAWS, facts.latent_dim))
    weights = np.full(_DRAWS, 1 / _DRAWS)
    own = Measured(facts, m.x, m.values, m.errors, m.spread, eps, weights)
    log_w = own.log_weights()
    for k in (declared,) if declared > 1 else _USUAL:
        groups = log_w[:, : _DRAWS // k * k].reshape(rows, -1, k)
        values = log_mean_exp(np.moveaxis(groups, 2, 0))
        spread = values.std(1, ddof=1)
        yield k, values.mean(1), spread * np.sqrt(1 / values.shape[1] + 1 / m.draws)


def fits(facts: Facts, m: Measured) -> Iterator[tuple[int, Fit]]:
    """Yield K and the fit of the losses by −L_K, with a constant for a Gaussian."""
    for k, value, error in bounds(facts, m):
        columns = -value[:, None]
        if facts.calls.subject.family in ("gaussian", "custom"):
            columns = np.stack([-value, np.ones(len(value))], 1)
        if np.isfinite(columns).all():
            size = np.std(m.values) / max(float(np.std(value)), 1e-300)
            yield k, fit(columns, m.values, np.hypot(m.errors, size * error))


def finding(title: str, k: int, result: Fit) -> Finding:
    """Return the finding of a loss that is −L_K."""
    known = bug(NAME)
    text = f"{result.coefficients[0]:.4g} × (−L_K), K = {k}, residual {result.residual:.2g}"
    return Finding(
        title, UNUSUAL, known.severity, NAME, "c (1, 1, 0)", text, known.equation, known.cure
    )
