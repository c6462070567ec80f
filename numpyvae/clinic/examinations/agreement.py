"""Are the draws and the KL of one distribution, whatever the second output of the encoder is?

With z = μ + f(s) ε, where f is not known, draws with the same ε at two values of s have the ratio
r = f(s)/f(s₀). With k = f(s₀),

    KL = ½ Σ_j (μ² + f² − log f² − 1) = ½ Σ μ² + k² ½ J r² − J log r − ½ J (1 + log k²)

is linear in known columns. The draws and the KL agree if the coefficients are c (1, k², 1, …) with
one factor c, and k² is the variance of the draws at s₀.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..facts import Facts
from ..statistics import SIGMAS, misfit
from .kl import above_floor

__all__ = ["Agreement", "agreement"]

_PROBES, _ROWS = 16, 2048


class Agreement(NamedTuple):
    """Whether draws and KL agree, and the figures."""

    holds: bool
    found: str


def agreement(facts: Facts) -> Agreement | None:
    """Return whether the KL is that of the draws, None if this cannot be told."""
    calls, j, rng = facts.calls, facts.latent_dim, facts.rng(12)
    if not calls.has("sample_z", "kl", "seed"):
        return None
    mu = above_floor(facts, rng.standard_normal((_PROBES, j)))
    s = np.repeat(rng.uniform(0.3, 1.8, (_PROBES, 1)), j, 1)
    noise = np.stack([_draws(facts, m, v) for m, v in zip(mu, s)])
    first = noise[0]
    size = max(float((first**2).sum()), 1e-300)
    r = (noise * first).sum((1, 2)) / size
    rest = np.abs(noise - r[:, None, None] * first).max() / (1 + np.abs(noise).max())
    if rest > 100 * facts.tolerance or r.min() <= 0 or np.ptp(r) < 0.01:
        return None
    values = calls.row_terms("kl", mu, s)
    columns = [0.5 * (mu**2).sum(1), 0.5 * j * r**2, -j * np.log(r), np.full(_PROBES, 0.5 * j)]
    a = np.stack(columns, 1)
    c, *_ = np.linalg.lstsq(a, values, rcond=None)
    with np.errstate(all="ignore"):
        variance, constant = c[1] / c[0], -c[0] * (1 + np.log(c[1] / c[0]))
    tolerance = max(1e-6, facts.tolerance)
    linear = misfit(values, a @ c) <= tolerance
    alike = misfit(c[[2, 3]], np.array([c[0], constant])) <= 10 * tolerance
    drawn = size / first.size
    near = abs(variance / drawn - 1) <= SIGMAS * np.sqrt(2 / first.size)
    found = f"σ² = {drawn:.4g} of the draws, {variance:.4g} in the KL"
    return Agreement(bool(linear and alike and near), found)


def _draws(facts: Facts, mu: np.ndarray, second: np.ndarray) -> np.ndarray:
    """z − μ (rows, J) at one μ and one second output."""
    shape = _ROWS, len(mu)
    z = facts.calls.sample_z(np.broadcast_to(mu, shape), np.broadcast_to(second, shape), 6)
    return z - mu
