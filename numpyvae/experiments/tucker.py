"""Rainforth et al. 2018 and Tucker et al. 2019: the noise of the gradient of L_K, as K grows.

For the decoder the signal-to-noise ratio grows as √K. For the encoder it falls with the estimator
of IWAE (Rainforth et al.); the doubly reparameterized one, DReG, is far above it. That DReG grows
with K needs weights with light tails (tutorial 10), so it is not claimed here.
"""

from __future__ import annotations

from typing import Any

from ..core.optimizers import Adam
from ..diagnostics.signal import signal_to_noise
from ..estimators.sampled import IWAE, STLIWAE, DReG
from ..support.schedules import cosine_schedule
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained

__all__ = ["TUCKER"]

_RULES = {"IWAE": IWAE, "STL": STLIWAE, "DReG": DReG}


def _measure(trained: Trained) -> dict[str, Any]:
    effort, x = trained.effort, trained.data.some_test_rows(trained.effort["rows"])

    def ratio(rule, K, update):
        settings = {"update": update, "n": effort["n"], "seed": trained.seed}
        return signal_to_noise(rule(K), trained.vae, x, **settings)

    counts = effort["counts"]
    figures = {f"theta, K = {K}": ratio(IWAE, K, "theta") for K in counts}
    for name, rule in _RULES.items():
        figures |= {f"phi, {name}, K = {K}": ratio(rule, K, "phi") for K in counts}
    return figures


def _claims(found: list[Found]) -> list[Claim]:
    claims = []
    for f in found:
        values = f.figures
        first, *_, last = (int(n.partition("K = ")[2]) for n in values if n.startswith("theta"))
        growth = values[f"theta, K = {last}"] / values[f"theta, K = {first}"]
        fall = values[f"phi, IWAE, K = {last}"] / values[f"phi, IWAE, K = {first}"]
        above = values[f"phi, DReG, K = {last}"] / values[f"phi, IWAE, K = {last}"]
        root = (last / first) ** 0.5
        facts = {
            f"decoder: the ratio grows {growth:.1f} times, √K {root:.1f}": growth > root / 2,
            f"encoder, IWAE: it falls, to {fall:.2f} of that of K = {first}": fall < 0.7,
            f"encoder, DReG: it is {above:.1f} times that of IWAE": above > 3,
        }
        claims += [Claim(f"seed {f.seed}, {text}", holds) for text, holds in facts.items()]
    return claims


def _draw(found: list[Found]) -> Any:
    from .. import plotting

    curves: dict[str, tuple[list, list]] = {}
    for name, value in found[0].figures.items():
        which, _, K = name.partition(", K = ")
        x, y = curves.setdefault(which, ([], []))
        x.append(int(K))
        y.append(value)
    axes: dict[str, Any] = {
        "x": "importance samples K",
        "y": "signal-to-noise ratio",
        "title": "Gradients of L_K",
    }
    return plotting.plot_curves(curves, log="xy", **axes)


TUCKER = Experiment(
    "tucker-snr",
    "The gradient of L_K for the encoder gets noisier with K; DReG is far less noisy.",
    "Tucker, Lawson, Gu & Maddison 2019 (arXiv 1810.04152); Rainforth et al. 2018",
    Plan(
        [Training("mnist", "mnist", 50, (200, 200), 20, schedule=cosine_schedule(20))],
        effort={"rows": 20, "n": 400, "counts": (1, 4, 16, 64, 256)},
        duration="ten minutes for each of two seeds",
        seeds=(0, 1),
    ),
    Plan(
        [
            Training(
                "digits",
                "digits",
                8,
                (100,),
                20,
                optimizer=Adam(3e-3),
                schedule=cosine_schedule(20),
            )
        ],
        effort={"rows": 10, "n": 400, "counts": (1, 4, 16, 64, 256)},
        duration="half a minute",
    ),
    _measure,
    _claims,
    _draw,
)
