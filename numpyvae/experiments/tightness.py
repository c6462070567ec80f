"""How tight are the figures of the other experiments? A bracket of log p(x) for each final model.

L_5000 is a lower bound, and nothing in it tells by how much it is too low. Bidirectional Monte
Carlo (Grosse, Ghahramani & Adams 2015; Wu et al. 2017) bounds log p(x) from both sides, on data
that the model simulates, where an exact posterior draw is known. The bracket is proven for these
data; on test data the lower bound of annealing stands beside L_5000.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bounds.ais import annealed_log_likelihood, sandwich
from ..support.statistics import mean_and_error
from .altosaar import ALTOSAAR
from .burda import BURDA
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained
from .measuring import importance_bounds, in_parts, test_rows

__all__ = ["TIGHTNESS"]


def _measure(trained: Trained) -> dict[str, Any]:
    effort = trained.effort["sandwich"]

    def anneal(x):
        settings: dict[str, Any] = {"seed": trained.seed, "progress": trained.progress}
        found = annealed_log_likelihood(
            trained.vae, x, effort["n_temperatures"], effort["n_chains"], **settings
        )
        return found.log_lower

    name = f"annealed-{effort['n_temperatures']}-{effort['n_chains']}"
    importance = importance_bounds(trained)
    annealed = in_parts(trained, name, anneal, test_rows(trained))
    return {
        "test, L_K": mean_and_error(importance),
        "test, annealed": mean_and_error(annealed),
        "test, annealed - L_K": mean_and_error(annealed - importance),
    } | _bracket(trained)


def _bracket(trained: Trained) -> dict[str, tuple[float, float]]:
    """Return a lower and an upper bound on log p(x) of data that the model simulates.

    `effort["sandwich"]` are the arguments of `bounds.sandwich`.
    """
    effort = dict(trained.effort["sandwich"])

    def bounds() -> np.ndarray:
        found = sandwich(trained.vae, **effort, seed=trained.seed, progress=trained.progress)
        return np.array([found.log_lower, found.log_upper], dtype=float)

    name = "-".join([f"sandwich-{trained.epoch:05}", *map(str, effort.values())])
    lower, upper = trained.keeper.array(name, (2, effort["n"]), bounds)
    return {
        "simulated, lower": mean_and_error(lower),
        "simulated, upper": mean_and_error(upper),
        "simulated, upper - lower": mean_and_error(upper - lower),
    }


def _claims(found: list[Found]) -> list[Claim]:
    claims = []
    for f in found:
        mean, error = f.figures["simulated, upper - lower"]
        ordered = Claim(f"{f.training.name}: the bounds are in their order", mean > -3 * error)
        claims += [ordered, Claim(f"{f.training.name}: the bracket is under 1 nat", mean < 1)]
        mean, error = f.figures["test, annealed - L_K"]
        text = f"{f.training.name}: on the test rows annealing is not under L_K"
        claims.append(Claim(text, mean > -3 * error))
    return claims


def _draw(found: list[Found]) -> Any:
    from .. import plotting

    names = ("simulated, lower", "simulated, upper")
    curves = {
        f"{f.training.name}, seed {f.seed}": ((0, 1), [f.figures[name][0] for name in names])
        for f in found
    }
    axes: dict[str, Any] = {
        "x": "lower bound (0) and upper bound (1)",
        "y": "nats",
        "title": "Brackets of log p(x)",
    }
    return plotting.plot_curves(curves, **axes)


def _finals(experiment: Experiment, quick: bool) -> list[Training]:
    """Return the trainings of an experiment, of which only the final models are measured."""
    return [t.final() for t in experiment.plan(quick).trainings]


TIGHTNESS = Experiment(
    "tightness",
    "A bracket of log p(x) for each final model; for most decoders it is under 1 nat.",
    "Wu, Burda, Salakhutdinov & Grosse 2017 (arXiv 1611.04273)",
    Plan(
        _finals(ALTOSAAR, False) + _finals(BURDA, False),
        effort={
            "n_importance": 5000,
            "rows": 100,
            "sandwich": {"n": 100, "n_temperatures": 1000, "n_chains": 16},
        },
        duration="ten minutes for each model, after its training (take it with --models)",
    ),
    Plan(
        _finals(ALTOSAAR, True) + _finals(BURDA, True),
        effort={
            "n_importance": 1,  # on the digits L_20 leaves nothing to find
            "rows": 50,
            "sandwich": {"n": 50, "n_temperatures": 300, "n_chains": 8},
        },
        duration="a minute",
    ),
    _measure,
    _claims,
    _draw,
)
