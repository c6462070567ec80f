"""Cremer, Li & Duvenaud 2018: the two causes of the gap between the ELBO and log p(x).

log p(x) − ELBO is the approximation gap (no diagonal Gaussian is the posterior) and the
amortization gap (the encoder does not give the best one for each x). The paper finds the second
one the larger for a mean-field q. The network and the training are those of Burda et al. 2015, at
several stages.
"""

from __future__ import annotations

from typing import Any

from ..core.optimizers import Adam
from ..diagnostics.gap import decompose_gap
from ..support.schedules import burda_schedule, cosine_schedule
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained
from .measuring import test_rows

__all__ = ["CREMER"]


def _measure(trained: Trained) -> dict[str, Any]:
    gaps = decompose_gap(
        trained.vae,
        test_rows(trained),
        seed=trained.seed,
        progress=trained.progress,
        **trained.effort["gap"],
    )
    return {
        "log p(x), annealed": (float(gaps.log_likelihood.mean()), None),
        "approximation gap": gaps.approximation,
        "amortization gap": gaps.amortization,
        "gap": gaps.total,
    }


def _claims(found: list[Found]) -> list[Claim]:
    claims = []
    for f in found:
        if f.last:
            approximation, amortization = (
                f.figures[name][0] for name in ("approximation gap", "amortization gap")
            )
            text = f"{f.training.name}, seed {f.seed}: amortization is the larger part of the gap"
            claims.append(Claim(text, amortization > approximation))
    return claims


def _draw(found: list[Found]) -> Any:
    from .. import plotting

    curves: dict[str, tuple[list, list]] = {}
    for f in found:
        for name in ("gap", "amortization gap", "approximation gap"):
            x, y = curves.setdefault(f"{f.training.name}: {name}", ([], []))
            x.append(f.epoch)
            y.append(f.figures[name][0])
    axes: dict[str, Any] = {"x": "passes over the data", "y": "nats", "title": "Causes of the gap"}
    return plotting.plot_curves(curves, log="x", **axes)


_COMMON: dict[str, Any] = {
    "schedule": burda_schedule,
    "optimizer": Adam(1e-3, eps=1e-4),
    "batch_size": 20,
}

CREMER = Experiment(
    "cremer-gaps",
    "For a mean-field q the amortization gap is larger than the approximation gap.",
    "Cremer, Li & Duvenaud 2018 (arXiv 1801.03558), section 5",
    Plan(
        [Training("mnist", "mnist", 50, (200, 200), 121, keep=(4, 13, 40), **_COMMON)],
        effort={
            "rows": 100,
            "stage_rows": 100,
            "gap": {"n_temperatures": 1000, "n_chains": 16},
        },
        duration="half an hour with --accelerator numba",
    ),
    Plan(
        [
            Training(
                "digits",
                "digits",
                10,
                (50, 50),
                100,
                keep=(10, 30),
                rows=1000,
                optimizer=Adam(3e-3),
                schedule=cosine_schedule(100),
            )
        ],
        effort={
            "rows": 60,
            "stage_rows": 60,
            "gap": {"n_temperatures": 200, "n_chains": 8, "n_samples": 200},
        },
        duration="a minute",
    ),
    _measure,
    _claims,
    _draw,
)
