"""Burda, Grosse & Salakhutdinov 2015, Table 1: one stochastic layer, on MNIST.

Settings of the paper, section 5: 784-200-200-50, tanh, minibatches of 20, Adam (β₁ 0.9, β₂ 0.999,
ε 1e-4), learning rate 1e-3 · 10^(−i/7) for 3^i passes, i = 0 … 7. From the authors' code: the
first 59600 images with a fresh binarization, or 50000 with the fixed one; the biases of the
decoder's output start at the logits of the mean image.

The KL of `vae-1` has its closed form, Eq. (11). The authors estimate it by the draw of z, and so
does `iwae-1`: its objective, L_K with K = 1, has the ELBO as its mean.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from ..core.elbo import Estimator
from ..core.optimizers import Adam
from ..estimators.sampled import IWAE
from ..support.schedules import burda_schedule
from .declaring import Claim, Experiment, Plan, Published, Training
from .found import Found, Trained
from .measuring import elbo, log_likelihood, units

__all__ = ["BURDA"]

_STAGES = tuple(accumulate(3**i for i in range(8)))  # 1, 4, 13, …, 3280
_ADAM = Adam(1e-3, beta1=0.9, beta2=0.999, eps=1e-4)


def _training(name: str, data: str, estimator: Estimator) -> Training:
    return Training(
        name,
        data,
        latent_dim=50,
        hidden=(200, 200),
        epochs=_STAGES[-1],
        keep=_STAGES[:-1],
        batch_size=20,
        estimator=estimator,
        optimizer=_ADAM,
        schedule=burda_schedule,
        rows={"mnist": 59_600, "mnist-fixed": None}[data],
        mean_bias=True,
    )


def _measure(trained: Trained) -> dict[str, Any]:
    bounds = {"-L_K": log_likelihood(trained), "-ELBO": elbo(trained)}
    figures: dict[str, Any] = {name: (-mean, error) for name, (mean, error) in bounds.items()}
    return figures | {"active units": units(trained)}


def _claims(found: list[Found]) -> list[Claim]:
    last = {f.training.name: f for f in found if f.last}
    first = {f.training.name: f for f in reversed(found)}
    return [
        Claim(
            f"{name}: -L_K falls from the first stage to the last",
            f.figures["-L_K"][0] < first[name].figures["-L_K"][0],
        )
        for name, f in last.items()
    ] + [
        Claim(
            "the importance-weighted objective gives a better bound than the ELBO",
            last["iwae-5"].figures["-L_K"][0] < last["vae-1"].figures["-L_K"][0],
        ),
        Claim(
            "and at least as many active units",
            last["iwae-5"].figures["active units"] >= last["vae-1"].figures["active units"],
        ),
    ]


def _draw(found: list[Found]) -> Any:
    from .. import plotting

    curves: dict[str, tuple[list[float], list[float]]] = {}
    for f in found:
        x, y = curves.setdefault(f"{f.training.name}, seed {f.seed}", ([], []))
        x.append(f.epoch)
        y.append(-f.figures["-L_K"][0])
    return plotting.plot_curves(
        curves, x="passes over the data", y="L_K (nats)", title="After each stage", log="x"
    )


def _published() -> list[Published]:
    table = {
        "vae-1": (86.76, 19),
        "iwae-1": (86.76, 19),
        "vae-5": (86.47, 20),
        "iwae-5": (85.54, 22),
        "iwae-50": (84.78, 25),
        "vae-1-fixed": (88.71, 19),
        "iwae-5-fixed": (87.63, 22),
        "iwae-50-fixed": (87.10, 24),
    }
    return [
        figure
        for name, (nll, active) in table.items()
        for figure in (
            Published(name, "-L_K", nll, 0.5),
            Published(name, "active units", active, 2),
        )
    ]


_FULL = Plan(
    [
        _training("vae-1", "mnist", Estimator()),
        _training("iwae-1", "mnist", IWAE(1)),
        _training("vae-1-fixed", "mnist-fixed", Estimator()),
        _training("iwae-5", "mnist", IWAE(5)),
        _training("vae-5", "mnist", Estimator(n_samples=5)),
        _training("iwae-50", "mnist", IWAE(50)),
        _training("iwae-5-fixed", "mnist-fixed", IWAE(5)),
        _training("iwae-50-fixed", "mnist-fixed", IWAE(50)),
    ],
    effort={"n_importance": 5000, "stage_rows": 1000},
    duration="K = 1: three hours with --accelerator numba; K = 5: a day; K = 50: a week",
)


def _quick(name: str, estimator: Estimator) -> Training:
    return Training(
        name,
        "digits",
        latent_dim=10,
        hidden=(50, 50),
        epochs=40,
        keep=(1, 4, 13),
        batch_size=20,
        estimator=estimator,
        optimizer=_ADAM,
        schedule=burda_schedule,
        mean_bias=True,
    )


_QUICK = Plan(
    [_quick("vae-1", Estimator()), _quick("iwae-5", IWAE(5))],
    effort={"n_importance": 500, "stage_rows": 500},
    duration="a minute",
)

BURDA = Experiment(
    "burda-table1",
    "With K samples in the objective the model is better, and uses more latent variables.",
    "Burda, Grosse & Salakhutdinov 2015 (arXiv 1509.00519), Table 1, one stochastic layer",
    _FULL,
    _QUICK,
    _measure,
    _claims,
    _draw,
    _published(),
)
