"""Kingma & Welling 2013, Figure 2: the bound against the number of training samples evaluated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from .declaring import Claim, Experiment, Plan, Training
from .found import Found
from .kingma_welling import DIGITS, FREY, METHODS, MNIST, PAPER, above, final_bounds, training

__all__ = ["FIGURE_2"]


def _pairs(data: str, rows: int, latents: Sequence[int], **settings: Any) -> list[Training]:
    """Return AEVB and wake-sleep for each number of latents."""
    return [
        training(
            f"{data}-{method}-{J}", method, rows, data=data, latent_dim=J, curve=1000, **settings
        )
        for J in latents
        for method in METHODS
    ]


def _no_overfitting(found: list[Found]) -> list[Claim]:
    """Return whether no AEVB model with more latents has a higher training, lower test bound.

    The test bound alone does not tell: with more latents both bounds can be lower, which is not
    overfitting.
    """
    bounds: dict[tuple[str, int], dict[int, tuple[float, float]]] = {}
    for f in found:
        if f.last and "aevb" in f.training.name:
            both = f.history["elbo"][-1], f.figures["test bound"][0]
            bounds.setdefault((f.training.data, f.seed), {})[f.training.latent_dim] = both
    claims = []
    for (data, seed), by_latents in bounds.items():
        ordered = [both for _, both in sorted(by_latents.items())]
        pairs = itertools.combinations(ordered, 2)
        fine = all(not (more[0] > few[0] and more[1] < few[1]) for few, more in pairs)
        text = "more latents never give a higher training and a lower test bound"
        claims.append(Claim(f"{data}, seed {seed}: {text}", fine))
    return claims


def _draw_bounds(found: list[Found]) -> Any:
    from .. import plotting

    panels: dict[str, dict[str, Any]] = {}
    for f in found:
        if not f.last:
            continue
        method = "wake-sleep" if "wake-sleep" in f.training.name else "AEVB"
        curves = panels.setdefault(f"{f.training.data}, J = {f.training.latent_dim}", {})
        if any(name.startswith(method) for name in curves):
            continue  # the first seed alone
        samples = f.history["epoch"] * len(f.data.first(f.training.rows).x_train)
        curves[f"{method}, test"] = samples, f.history["valid_elbo"]
        curves[f"{method}, training"] = samples, f.history["elbo"]

    def drawing(curves):
        labels = {"x": "training samples", "y": "bound (nats)", "log": "x"}
        return lambda ax: plotting.plot_curves(curves, ax=ax, **labels)

    return plotting.plot_panels({title: drawing(curves) for title, curves in panels.items()})


FIGURE_2 = Experiment(
    "kingma-welling-fig2",
    "AEVB reaches a better bound than wake-sleep for any number of latents, and does not overfit.",
    PAPER.format(2),
    Plan(
        _pairs("mnist-fixed", 50_000, (3, 5, 10, 20, 200), **MNIST)
        + _pairs("frey", 1765, (2, 5, 10, 20), **FREY),
        effort={},
        duration="two and a half hours for each of two seeds, with --accelerator numba",
        seeds=(0, 1),
    ),
    Plan(
        _pairs("digits", 3823, (3, 10), **DIGITS),
        effort={},
        duration="a minute",
    ),
    final_bounds,
    lambda found: above(found, "test bound") + _no_overfitting(found),
    _draw_bounds,
)
