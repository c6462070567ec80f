"""Kingma & Welling 2013, Figures 4 and 5: what the models of Figure 2 generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np

from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained
from .kingma_welling import DIGITS, FREY, MNIST, PAPER, final_bounds, training

__all__ = ["FIGURE_4", "FIGURE_5"]


def _of_figure_2(data: str, latents: Sequence[int], **settings: Any) -> list[Training]:
    rows = {"mnist-fixed": 50_000, "frey": 1765, "digits": 3823}[data]
    settings = {"data": data, **settings}
    return [
        training(f"{data}-aevb-{J}", "aevb", rows, latent_dim=J, curve=1000, **settings)
        for J in latents
    ]


def _manifold(trained: Trained) -> dict[str, Any]:
    """Return the bound, and images decoded from z = Φ⁻¹(u), for u on a grid of the unit square."""
    axis = [NormalDist().inv_cdf((i + 0.5) / _TILES) for i in range(_TILES)]
    across, up = np.meshgrid(axis, axis[::-1])
    z = np.column_stack([across.ravel(), up.ravel()])
    return final_bounds(trained) | _images(trained, lambda: trained.vae.decode(z))


def _samples(trained: Trained) -> dict[str, Any]:
    """Return the bound, and the means of p(x|z) for draws z ~ p(z)."""
    sample = partial(trained.vae.sample, (_TILES // 2) ** 2, trained.seed, mean=True)
    return final_bounds(trained) | _images(trained, sample)


_TILES = 12  # along each side of the manifold


def _images(trained: Trained, make: Callable[[], np.ndarray]) -> dict[str, Any]:
    """Return images as text, in 16 grays, a hexadecimal digit for each pixel.

    None of the first stage, and none of the faces: those, and what is decoded from their models,
    must not be passed on.
    """
    if trained.training.data == "frey" or trained.epoch in trained.training.keep[:1]:
        return {}
    grays = np.rint(15 * np.clip(make(), 0, 1)).astype(int)
    return {"images": ["".join(f"{v:x}" for v in row) for row in grays]}


def _draw_manifolds(found: list[Found]) -> Any:
    from .. import plotting

    def drawing(f):
        return lambda ax: plotting.plot_manifold(f.vae, f.data.image_shape, ax=ax)

    return plotting.plot_panels({f.training.data: drawing(f) for f in found if f.last})


def _draw_samples(found: list[Found]) -> Any:
    from .. import plotting

    def drawing(f):
        return lambda ax: plotting.plot_samples(f.vae, f.data.image_shape, n=100, ax=ax)

    return plotting.plot_panels(
        {f"J = {f.training.latent_dim}": drawing(f) for f in found if f.last}
    )


def _better_with_latents(found: list[Found]) -> list[Claim]:
    first, *_, last = (f.figures["test bound"][0] for f in found if f.last)
    return [Claim("the bound is higher with the most latents than with the fewest", last > first)]


def _far_above_start(found: list[Found]) -> list[Claim]:
    return [
        Claim(
            f"{f.training.data}: the bound has risen since the first pass",
            f.figures["test bound"][0] > f.history["valid_elbo"][0],
        )
        for f in found
        if f.last
    ]


FIGURE_4 = Experiment(
    "kingma-welling-fig4",
    "With two latents the decoder maps the unit square to a manifold of images.",
    PAPER.format(4),
    Plan(
        _of_figure_2("mnist-fixed", (2,), **MNIST) + _of_figure_2("frey", (2,), **FREY),
        effort={},
        duration="a quarter of an hour, with --accelerator numba",
    ),
    Plan(_of_figure_2("digits", (2,), **DIGITS), effort={}, duration="ten seconds"),
    _manifold,
    _far_above_start,
    _draw_manifolds,
)

FIGURE_5 = Experiment(
    "kingma-welling-fig5",
    "Samples of models with 2, 5, 10 and 20 latents.",
    PAPER.format(5),
    Plan(
        _of_figure_2("mnist-fixed", (2, 5, 10, 20), **MNIST),
        effort={},
        duration="half an hour, with --accelerator numba",
    ),
    Plan(_of_figure_2("digits", (2, 5, 10, 20), **DIGITS), effort={}, duration="half a minute"),
    _samples,
    _better_with_latents,
    _draw_samples,
)
