"""Results as text for a person: one function for the result of each command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..support.statistics import plus_minus

__all__ = [
    "comparison",
    "equation_rows",
    "equations_table",
    "report",
]


def report(s: dict[str, Any]) -> str:
    """Return a summary as sentences and a column of figures."""
    log_p, se = s["test_log_likelihood"], s["test_log_likelihood_se"]
    error = "" if se is None else f" ± {se:.2f}"
    return "\n".join(
        [
            f"{s['model']} on {s['dataset']}",
            f"{_rows(s['test_rows'], _TEST)}, {s['unit']}:",
            f"  log p(x)        {log_p:9.2f}{error}"
            f"   importance-weighted bound, K = {s['n_importance']}",
            f"  ELBO            {s['test_elbo']:9.2f}          reconstruction − KL, Eq. (11)",
            f"    reconstruction{s['reconstruction']:9.2f}",
            f"    KL            {s['kl']:9.2f}",
            f"  gap             {s['gap_to_log_likelihood']:9.2f}          log p(x) − ELBO",
            *_other_units(s),
            *_weighted(s),
            *_validated(s),
            f"{_active(s)}."
            + (f" {s['epochs']} epochs, {s['seconds']:.1f} s in all." if "epochs" in s else ""),
            *s.get("advice", []),
        ]
    )


_TEST = "{} test {}"
_SIMULATED = "{} {} simulated from the model, where exact posterior draws are known"


def _rows(n: int, what: str) -> str:
    """Return how many rows were measured, and that one row has no standard error."""
    if n == 1:
        return f"{what.format(1, 'row')} (one row: no standard error)"
    return what.format(n, "rows")


def _active(s: dict[str, Any]) -> str:
    """Return how many latents are active."""
    if s["active_units"] is None:
        return "Active latents: one row does not tell"
    return f"Active latents: {s['active_units']} of {s['latent_dim']}"


def _other_units(s: dict[str, Any]) -> list[str]:
    """Return log p in bits for each dimension, and the density of the raw data if it differs."""
    raw = s["raw_log_likelihood"]
    whose = "x" if raw is None else "the raw data"
    lines = [f"  bits/dimension  {s['bits_per_dimension']:9.3f}          of {whose}"]
    if raw is not None and raw != s["test_log_likelihood"]:
        note = "log p(x) + Σ log |dx/draw|"
        lines.insert(0, f"  log p(raw)      {raw:9.2f}          {note}")
    return lines


def _weighted(s: dict[str, Any]) -> list[str]:
    """Return a sentence about the objective of the training, where that was not the ELBO."""
    settings = s.get("settings")
    if settings is None:
        return []
    changed = [name for name, same in _NEUTRAL.items() if settings.get(name) not in (None, same)]
    if settings["estimator"] == "sgvb-b" and not changed:
        return []
    return [
        f"Trained by {s['estimator']}: in the last epoch the objective was "
        f"{s['train_objective']:.2f}, the ELBO {s['train_elbo']:.2f} (training set)."
    ]


def _validated(s: dict[str, Any]) -> list[str]:
    """Return a sentence about the validation set, if there was one."""
    if s.get("validation_elbo") is None:
        return []
    how = "stopped early; the model is that of" if s["stopped_early"] else "the model is that of"
    return [f"Validation ELBO {s['validation_elbo']:.2f}: {how} epoch {s['best_epoch']}."]


_NEUTRAL = {
    "beta": 1,
    "free_bits": 0,
    "kl_warmup": 0,
    "weight_prior": None,
}  # with these the objective is the ELBO


def comparison(s: dict[str, Any]) -> str:
    """Return a comparison of bounds as a table for each kind of data."""
    lines = [
        f"{s['model']} on {s['dataset']}",
        f"{s['unit'].replace('nats', 'Nats', 1)}, mean ± standard error:",
    ]
    title = {"test": _TEST, "simulated": _SIMULATED}
    for part in title:
        if s[part] is None:
            continue
        lines.append(_rows(s[part]["rows"], title[part]))
        bounds = s[part]["bounds"]
        lines += [_line(name, row, "elbo" in bounds, s) for name, row in bounds.items()]
    gap = (s["simulated"] or {}).get("gap")
    if gap is not None:
        lines += [
            "On simulated rows log p(x) lies between AIS and reverse AIS in expectation:",
            f"reverse AIS − AIS = {plus_minus(gap['mean'], gap['se'], 3)}.",
            "On test rows AIS is only a lower bound; this gap is its error there, as far as test",
            "rows resemble simulated ones.",
        ]
    return "\n".join([*lines, f"{s['seconds']:.1f} s in all."])


def _line(name: str, row: dict[str, Any], paired: bool, s: dict[str, Any]) -> str:
    """Return one row of the table."""
    what = {
        "elbo": "ELBO",
        "iwae": f"L_{s['n_importance']}",
        "ais": "AIS",
        "reverse-ais": "reverse AIS",
        "eubo": "EUBO",
        "cubo": f"CUBO, K = {s['n_importance']}",
        "appendix-d": "appendix D",
        "exact": "exact",
    }[name]
    above = f"ELBO + {_pair(row['above_elbo'], 3)}" if "above_elbo" in row else ""
    how = f"{row['seconds']:.1f} s"
    if name in ("ais", "reverse-ais"):
        how = f"{s['n_temperatures']} temperatures, {s['n_chains']} chains, {how}"
    if "acceptance" in row:
        how += f", acceptance {row['acceptance']:.2f}"
    columns = f"  {what:16}{_pair(row, 2):>17}   {row['kind']:14}"
    return f"{columns}{above:24}{how}" if paired else columns + how


def _pair(row: dict[str, Any], digits: int) -> str:
    """Return a mean with its standard error, which one row does not have: the title says so."""
    error = "" if row["se"] is None else f" ± {row['se']:.{digits}f}"
    return f"{row['mean']:.{digits}f}{error}"


def equations_table(outcomes: Sequence[Any], model: str) -> str:
    """Return each equation with its two sides, and how to read them."""
    lines = [f"{'':12}{'left side':>14}   {'right side':>14}   largest difference"]
    for o in outcomes:
        mark, e = "✓" if o.passed else "✗ WRONG", o.equation
        number = f"({e.number})" if e.number.isdecimal() else e.number
        largest = "0" if o.largest_difference == 0 else f"{o.largest_difference:.0e}"
        lines += [
            f"{number:12}{e.text}",
            f"{'':12}{o.left:14.8f} {e.relation} {o.right:14.8f}   {largest:>18} {mark}",
        ]
    first_z = "the first component" if model == "discrete" else "the mean of q"
    return "\n".join(
        [
            *lines,
            f"{sum(o.passed for o in outcomes)} of {len(outcomes)} hold on the model {model}.",
            "Both sides are those of the first datapoint, in nats, with q = q(z|x). Eq. (1) and",
            f"Eq. (3) are shown at z = {first_z}, Eq. (4) for the first component of E[z|x].",
            "The largest difference is over all datapoints and all values of z, relative to",
            "1 + |left side|. Lines (13)–(17) and (19)–(22) are compared with the line before "
            "them.",
        ]
    )


def equation_rows(outcomes: Sequence[Any]) -> list[dict[str, Any]]:
    """Return each equation and its two sides for JSON."""
    parts = ("number", "section", "latex", "text", "meaning", "relation")
    figures = ("left", "right", "difference", "largest_difference", "tolerance", "passed")
    return [
        {("formula" if p == "text" else p): getattr(o.equation, p) for p in parts}
        | {name: getattr(o, name) for name in figures}
        for o in outcomes
    ]
