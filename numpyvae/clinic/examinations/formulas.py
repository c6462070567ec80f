"""Which formula a mean loss follows: every combination of known bugs predicts the rows.

Every formula predicts the losses of all rows up to one factor. That with the fewest bugs that fits
is taken: none, then one, then pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from ..expected import COPIES, IGNORED, SAMPLED, WHOLE, Measured
from ..facts import Facts
from ..hypotheses import kl_forms, laws, reconstruction_forms
from ..statistics import SIGMAS, Fit, fit

__all__ = [
    "Hypothesis",
    "candidates",
    "explain",
    "fit_of",
    "free_fit",
    "holds",
    "identified",
    "weights_of",
]

_AND = " and "  # between two bugs of the weight
_FLOOR = 0.02  # of the size of a term: what a deviation must exceed
_CHI = 2.2  # of 20 normal residuals the root mean square exceeds this with a chance of 1e-11
_NEUTRAL = ("right", "right, without its coefficient", SAMPLED, WHOLE)


class Hypothesis(NamedTuple):
    """One way in which the loss may be put together."""

    law: str
    reconstruction: str
    kl: str
    weight: str
    ratio: float

    @property
    def names(self) -> list[str]:
        """The bugs in it."""
        parts = [*self[:3], *self.weight.split(_AND)]
        return [n for n in parts if n not in _NEUTRAL]

    @property
    def uneven(self) -> bool:
        """Whether the two terms go over the rows in different ways."""
        return bool({"many times", "few times"} & set(self.names))


def weights_of(facts: Facts) -> dict[str, float]:
    """Return the ratios c_KL : c_rec, right and with each known bug."""
    beta = facts.calls.subject.beta
    table = {
        "right": beta,
        "sign of the KL": -beta,
        "KL without ½": 2 * beta,
        "KL averaged over latents": beta / facts.latent_dim,
        "reconstruction averaged over pixels": beta * facts.data_dim,
        "KL missing": 0.0,
        "many times": COPIES * beta,
        "few times": beta / COPIES,
    }
    if facts.latent_dim == 1:
        del table["KL averaged over latents"]
    if beta != 1:
        table["declared β ignored"] = 1.0
    both = ["reconstruction averaged over pixels", "KL averaged over latents"]
    pairs = [*((n, t) for n in both for t in ("many times", "few times")), tuple(both)]
    for pair in pairs:
        if all(n in table for n in pair):
            table[_AND.join(pair)] = float(beta * np.prod([table[n] / beta for n in pair]))
    return table


def candidates(facts: Facts) -> Iterator[Hypothesis]:
    """Yield the formulas of the pieces, then those with one more bug, then with two more."""
    base = [facts.law, facts.reconstruction_form, facts.kl_form]
    tables: list[dict[str, Any]] = [
        laws(facts.scale),
        reconstruction_forms(facts.calls.subject, facts.output),
        kl_forms(facts.scale),
    ]
    base = [b if b in table else "right" for b, table in zip(base, tables)]
    weights = weights_of(facts)
    if facts.calls.subject.free_bits:
        tables[2] = tables[2] | {IGNORED: None, WHOLE: None}
    elif facts.calls.subject.noise == "eps":  # with the mean over ε both forms are the same
        tables[2] = tables[2] | {SAMPLED: None}
    start = (*base, "right")
    options = [[n for n in t if n != b] for b, t in zip(start, [*tables, weights])]
    for changes in range(3):
        for places in combinations(range(4), changes):
            for names in product(*(options[p] for p in places)):
                parts = list(start)
                for place, name in zip(places, names):
                    parts[place] = name
                law, reconstruction, kl, weight = parts
                yield Hypothesis(law, reconstruction, kl, weight, weights[weight])


def identified(facts: Facts) -> bool:
    """Return whether the ratio of the terms is known: not for a squared error without σ."""
    subject = facts.calls.subject
    declared = subject.declared_sigma or facts.output.startswith("mean_")
    return subject.family != "gaussian" or bool(declared)


def _columns(facts: Facts, m: Measured, h: Hypothesis, *, free: bool) -> np.ndarray:
    """The columns whose combination the loss is under a hypothesis; `free`: both terms and 1."""
    rec, kl = m.reconstruction(h.law, h.reconstruction), m.kl(h.kl)
    one = np.ones(len(rec))
    if free or not identified(facts):
        return np.stack([rec, kl, one], 1)
    whole = rec + h.ratio * kl
    constant = facts.calls.subject.family in ("gaussian", "custom")
    return np.stack([whole, one], 1) if constant else whole[:, None]


def _fit(facts: Facts, m: Measured, columns: np.ndarray) -> Fit | None:
    """The fit, or None if the hypothesis does not give finite numbers."""
    if not np.isfinite(columns).all():
        return None
    errors = m.errors
    if m.draws:  # in units of the first column, whose factor is not known yet
        size = np.std(m.values) / max(float(np.std(columns[:, 0])), 1e-300)
        errors = np.maximum(errors, size * m.uncertainty())
    return fit(columns, m.values, errors)


def fit_of(facts: Facts, m: Measured, h: Hypothesis) -> Fit | None:
    """Return the fit of the loss as a hypothesis has it: its first coefficient is the factor."""
    return _fit(facts, m, _columns(facts, m, h, free=False))


def explain(facts: Facts, m: Measured, most: int = 4) -> tuple[Hypothesis | None, Fit | None]:
    """Return the hypothesis with the fewest bugs that fits, and the free fit of its terms."""
    best: tuple[float, Hypothesis] | None = None
    level = -1
    for h in candidates(facts):
        changed = len(h.names)
        if best is not None and changed > level:
            break
        if changed > most:  # a later one may have none: the KL at the draw is no bug
            continue
        if _excluded(facts, m, h):
            continue
        if not identified(facts) and h.weight != "right":
            continue
        result = fit_of(facts, m, h)
        if result is None or not holds(facts, m, result):
            continue
        if best is None or (changed, result.worst) < (level, best[0]):
            best, level = (result.worst, h), changed
        if not h.names:
            break
    found = best[1] if best else None
    if found is None:
        found_free = free_fit(facts, m, next(iter(candidates(facts))))
        return None, found_free
    return found, free_fit(facts, m, found)


def _excluded(facts: Facts, m: Measured, h: Hypothesis) -> bool:
    """Whether a law without noise is proposed for a loss with noise, or the reverse.

    A loss may be the same for all seeds since σ is small: its noise must be above rounding errors.
    """
    if facts.varies is None or facts.calls.subject.noise == "eps":
        return False
    if h.law in ("mean decoded", "μ + σ decoded, without noise"):
        return facts.varies
    return not facts.varies and m.noise() > 10 * facts.tolerance


def free_fit(facts: Facts, m: Measured, h: Hypothesis) -> Fit | None:
    """Return the fit of c_rec, c_KL and b under the formulas of a hypothesis."""
    return _fit(facts, m, _columns(facts, m, h, free=True))


def holds(facts: Facts, m: Measured, result: Fit) -> bool:
    """Return whether the residuals are within their errors, or too small to matter."""
    if result.worst <= SIGMAS and result.chi <= _CHI:
        return True
    exact = facts.calls.subject.noise == "eps"
    floor = 1e-6 if exact else 0.3 * _FLOOR
    return result.residual <= floor * np.std(m.values)
