"""The two forms of the bound, its distance from the evidence, and the bound of K samples.

    Eq. (7):   E_q[log p(x|z) + log p(z) − log q(z|x)]
    Eq. (11):  E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))

Both have the same mean. At equal noise their difference is KL − (log q(z|x) − log p(z)), whose
mean is 0. No bound exceeds log p(x) = log ∫ p(x|z) p(z) dz, an integral over a grid for J ≤ 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...support.special import log_mean_exp
from ...support.statistics import mean_and_error, means_and_errors
from ..expected import COPIES, Measured, measure
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, Finding
from ..hypotheses import gaussian_kl_terms, laws, reconstruction_forms
from ..names import wrong
from ..statistics import SIGMAS, fit, two_stages
from ..subject import log_variance
from .formulas import identified
from .log_p import estimates, importance_terms, spread_rows

__all__ = ["examine", "log_evidence"]

_FORMS, _EVIDENCE = "forms: Eq. (7) and Eq. (11)", "forms: bound and evidence"
_SAMPLES = "forms: bound of K samples"
_ROWS, _TILES, _SEEDS = 8, 8, 200
_TAU = float(np.log(2 * np.pi))


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether both forms have one mean, and how far the bound is below log p(x)."""
    calls = facts.calls
    right = facts.formula is not None and not facts.formula.names
    if facts.missing("loss", "loss_sampled"):
        yield skipped(_FORMS, facts.missing("loss", "loss_sampled"))
    elif not facts.frozen:
        yield skipped(_FORMS, "the noise is not frozen by a seed")
    elif calls.has("encode", "decode") and not right:
        yield skipped(_FORMS, "the loss is not −ELBO, or this is not known")
    else:
        yield from _two_forms(facts)
    if facts.unknown:
        yield skipped(_EVIDENCE, facts.unknown)
    elif calls.subject.n_importance > 1 and calls.has("loss", "encode", "decode"):
        yield from _samples(facts)
    elif right and facts.measured is not None and facts.weights and facts.latent_dim <= 2:
        yield from _evidence(facts, facts.weights[0])
    else:
        yield skipped(_EVIDENCE, "the loss is not −ELBO, or J > 2, or this is not known")


def _constant(facts: Facts) -> bool:
    """Whether the loss may leave out a constant."""
    return facts.calls.subject.family in ("gaussian", "custom")


def _two_forms(facts: Facts) -> Iterator[Finding]:
    """Yield whether the difference at equal noise has the mean 0."""
    calls, j = facts.calls, facts.latent_dim
    x = np.concatenate([facts.rows[:_ROWS]] * _TILES)
    size = 1 + abs(calls.loss(x, 1, j))
    found = []

    def stage(number: int) -> tuple[float, float]:
        seeds = range(40_000 * (number + 1), 40_000 * (number + 1) + _SEEDS)
        d = np.array([calls.loss(x, s, j) - calls.loss(x, s, j, "loss_sampled") for s in seeds])
        mean, error = mean_and_error(d)
        found.append(f"{mean:.3g} ± {error:.1g}")
        return mean / max(d.std(ddof=1), facts.tolerance * size), len(d) ** -0.5

    verdict = two_stages(stage, 0.1)
    probe = facts.probe(f"x {x.shape}, {_SEEDS} seeds")
    text = "mean difference " + ", ".join(found)
    if verdict == "wrong":
        yield wrong(_FORMS, _difference(facts, x), "0", text, probe)
    else:
        verdict = RIGHT if verdict == "right" else UNDECIDED
        yield Finding(_FORMS, verdict, "", "", "0", text, "Eq. (7)", "", probe)


def _difference(facts: Facts, x: np.ndarray) -> str:
    """The name of what is wrong in Eq. (7), where the noise is known."""
    default = "Eq. (7) and Eq. (11) differ in their mean"
    calls, j = facts.calls, facts.latent_dim
    if not calls.has("encode") or calls.draws > 1 or facts.unknown:
        return default
    mu, second = calls.encode(x)
    logvar = log_variance(second, facts.scale)
    kl, rows = gaussian_kl_terms(mu, logvar), []
    d = []
    for seed in range(6):
        if calls.subject.noise == "eps":
            z = laws(facts.scale)["right"](mu, second, calls.eps(len(mu), mu.shape[1], seed))
        elif calls.has("sample_z", "seed"):
            z = calls.sample_z(mu, second, seed)
        else:
            return default
        q = -0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar + _TAU).sum(1)
        p = -0.5 * (z**2 + _TAU).sum(1)
        forms = {
            "log q(z|x) missing in Eq. (7)": -p,
            "log p(z) missing in Eq. (7)": q,
            "sign of log q(z|x) in Eq. (7)": -q - p,
            "log 2π in one density of Eq. (7)": q - p + 0.5 * j * _TAU,
            "log 2π in one density of Eq. (7), the other": q - p - 0.5 * j * _TAU,
        }
        rows.append({n: float((kl - f).mean()) for n, f in forms.items()})
        d.append(calls.loss(x, seed, j) - calls.loss(x, seed, j, "loss_sampled"))
    for name in rows[0]:
        column = np.array([r[name] for r in rows])
        c = column @ d / (column @ column)
        if np.abs(d - c * column).max() <= max(1e-6, facts.tolerance) * np.abs(d).max():
            return name.partition(",")[0]
    return default


def _evidence(facts: Facts, c: np.ndarray) -> Iterator[Finding]:
    """Yield how far the bound of each row is below log p(x), by a grid over z."""
    m = facts.measured
    x = m.x[:5]
    fine, coarse = (log_evidence(facts, x, n) for n in (61, 43))
    error = np.abs(fine - coarse).max()
    bound = -(m.values[:5] - (c[2] if _constant(facts) else 0)) / c[0]
    gap = fine - bound
    text = f"log p(x) − bound from {gap.min():.3g} to {gap.max():.3g} nats"
    slack = 0.02 + error + SIGMAS * float((m.errors[:5] / abs(c[0])).max())
    if facts.calls.subject.beta != 1 or facts.calls.subject.free_bits:
        yield skipped(_EVIDENCE, "the loss is no bound: β ≠ 1 or free bits")
    elif error > 0.05 or gap.min() < -slack:
        advice = f"the integral over z is known to {error:.2g} nats only"
        yield Finding(_EVIDENCE, UNDECIDED, "", "", "≥ 0", text, "Eq. (5)", advice)
    else:
        yield Finding(_EVIDENCE, RIGHT, "", "", "≥ 0", text, "Eq. (5)", "", facts.probe("5 rows"))


def log_evidence(facts: Facts, x: np.ndarray, order: int) -> np.ndarray:
    """Return log ∫ p(x|z) p(z) dz over a grid on [−6, 6]^J, without a Gaussian's constant."""
    points = np.linspace(-6, 6, order)
    z = np.stack(np.meshgrid(*[points] * facts.latent_dim, indexing="ij"), -1)
    z = z.reshape(-1, facts.latent_dim)
    prior = -0.5 * (z**2 + _TAU).sum(1) + facts.latent_dim * np.log(points[1] - points[0])
    out = facts.calls.decode(z)
    form = reconstruction_forms(facts.calls.subject, facts.output)["right"]
    rows = x.reshape(len(x), -1)
    return np.array([log_mean_exp(prior - form(row[None], *out)) for row in rows]) + np.log(len(z))


def _samples(facts: Facts) -> Iterator[Finding]:
    """Yield whether the loss of K samples is −L_K up to a factor, or another function of w."""
    k = facts.calls.subject.n_importance
    if not identified(facts):
        yield skipped(_SAMPLES, "σ of the decoder is not declared")
        return
    x = spread_rows(facts, 8)
    held: list[str] = []
    for stage in range(2):
        m = measure(facts, x, COPIES, 4 + stage)
        eps = None if m.draws else m.eps.reshape(len(x), k, COPIES, -1).transpose(2, 1, 0, 3)
        table = estimates(facts, importance_terms(facts, x, k, max(20_000 // k, 500), eps))
        del table["rows mixed among the weights"]  # all rows of a batch are the same
        fits = {n: _fit(facts, m, -v) for n, v in table.items()}
        held = sorted((n for n in fits if fits[n] <= 1), key=lambda n: (n != "right", fits[n]))
        if held[:1] == ["right"]:
            break
    text = ", ".join(f"{n} {f:.2g}" for n, f in fits.items() if f < 3) or "no formula fits"
    probe = facts.probe(f"K = {k}, {len(x)} batches of {COPIES} copies of a row")
    if held[:1] == ["right"]:
        yield Finding(_SAMPLES, RIGHT, "", "", "−c L_K", text, "Eq. (9)", "", probe)
    elif len(held) == 1:
        yield wrong(_SAMPLES, held[0], "−c L_K", text, probe)
    elif held:
        yield Finding(_SAMPLES, UNDECIDED, "", "", "−c L_K", text, "Eq. (9)", "", probe)
    elif facts.output == "probabilities" and not facts.calls.subject.output:
        advice = "declare output: these values in [0, 1] may be logits"
        yield Finding(_SAMPLES, UNDECIDED, "", "", "−c L_K", text, "Eq. (9)", advice, probe)
    else:
        yield wrong(_SAMPLES, "loss is not the bound of K samples", "−c L_K", text, probe)


def _fit(facts: Facts, m: Measured, table: np.ndarray) -> float:
    """The misfit of values = c · mean of the table (+ b for a Gaussian), 1 where it is allowed."""
    mean, own = means_and_errors(table)
    size = np.std(m.values) / max(float(np.std(mean)), 1e-300)
    columns = [mean, *([np.ones(len(mean))] if _constant(facts) else [])]
    if m.draws:
        error = np.hypot(np.maximum(m.errors, 1e-3 * np.std(m.values)), size * own)
    else:  # the table is of the very draws that the loss was given
        error = np.maximum(m.errors, 1e-6 * np.std(m.values))
    result = fit(np.stack(columns, 1), m.values, error)
    return max(result.worst / SIGMAS, result.chi / 2.2)
