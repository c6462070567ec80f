"""Cremer, Li & Duvenaud 2018: the two causes of the gap between the ELBO and log p(x).

log p(x) − ELBO is the approximation gap (no diagonal Gaussian is the posterior) and the
amortization gap (the encoder does not give the best one for each x). The paper finds the second
one the larger for a mean-field q. The models are those of Burda et al. 2015 with K = 1: with a
fresh binarization after five and six of the eight stages, and with the fixed one after all of
them, too. `--models` takes them from the folder of that experiment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..core.optimizers import Adam
from ..diagnostics.gap import decompose_gap
from ..support.schedules import cosine_schedule
from .burda import BURDA
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


_BURDA = {t.name: t for t in BURDA.full.trainings}

CREMER = Experiment(
    "cremer-gaps",
    "For a mean-field q the amortization gap is larger than the approximation gap.",
    "Cremer, Li & Duvenaud 2018 (arXiv 1801.03558), section 5",
    Plan(
        [
            replace(_BURDA["vae-1"], epochs=364, keep=(121,)),
            replace(_BURDA["vae-1-fixed"], keep=(121, 364)),
        ],
        effort={
            "rows": 100,
            "stage_rows": 50,
            "gap": {"n_temperatures": 500, "n_chains": 16},
        },
        duration="three hours with --accelerator numba; five minutes with --models",
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
