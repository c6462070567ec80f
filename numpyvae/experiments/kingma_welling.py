"""Kingma & Welling 2013, section 5: Figures 2 to 5.

Settings of the paper: one hidden layer, 500 units for MNIST and 200 for the Frey faces,
minibatches of 100, L = 1, weights from N(0, 0.01), Adagrad with a step from {0.01, 0.02, 0.1}, and
a prior N(0, I) of the weights. Figure 3 has 100 units and three latents.

The step of Adagrad is, as in the paper, that of {0.01, 0.02, 0.1} with the best objective on the
training rows in the first iterations, for each data set and method. It is 0.01 for Figures 2, 4
and 5 (0.02 for wake-sleep on the faces), and 0.02 for Figure 3 (0.1 for Monte-Carlo EM). Each
model is also measured after a tenth and a hundredth of the samples.

What differs: the digits are those of the fixed binarization, the prior is that of the decoder's
weights alone (Monte-Carlo EM has none), and the mean of p(x|z) of the faces is not limited to
(0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np

from ..bounds.ais import annealed_log_likelihood
from ..bounds.appendix_d import fitted_log_likelihood
from ..core.elbo import Estimator
from ..core.optimizers import Adagrad
from ..estimators.wake_sleep import WakeSleep
from ..estimators.weight_prior import WithWeightPrior
from ..support.statistics import mean_and_error
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained
from .measuring import elbo, in_parts

__all__ = ["FIGURE_2", "FIGURE_3", "FIGURE_4", "FIGURE_5"]

_PAPER = "Kingma & Welling 2013 (arXiv 1312.6114), Figure {}"
_METHODS = {"aevb": Estimator(), "wake-sleep": WakeSleep()}
_SIGMA = 0.1  # the weights start from N(0, 0.01)
_FREY_RATES = {"aevb": 0.01, "wake-sleep": 0.02}


def _training(name: str, method: str, rows: int, **settings: Any) -> Training:
    rate = _FREY_RATES[method] if settings["data"] == "frey" else 0.01
    given: dict[str, Any] = {"batch_size": 100, "init": _SIGMA, "rows": rows}
    given |= {"optimizer": Adagrad(rate)}
    given |= settings
    if method == "mcem":
        return Training(name, method="monte-carlo-em", **given)
    return Training(name, estimator=WithWeightPrior(_METHODS[method], rows), **given)


# The passes of 1e5, 1e6 and 1e7 samples
_MNIST = {"hidden": (500,), "epochs": 200, "keep": (2, 20)}
_DIGITS = {"hidden": (50,), "epochs": 40, "optimizer": Adagrad(0.1)}
_FREY = {"hidden": (200,), "epochs": 5666, "keep": (57, 567), "likelihood": "gaussian:head"}


# Figure 2: the bound against the number of training samples evaluated


def _pairs(data: str, rows: int, latents: Sequence[int], **settings: Any) -> list[Training]:
    """Return AEVB and wake-sleep for each number of latents."""
    return [
        _training(
            f"{data}-{method}-{J}", method, rows, data=data, latent_dim=J, curve=1000, **settings
        )
        for J in latents
        for method in _METHODS
    ]


def _final_bounds(trained: Trained) -> dict[str, Any]:
    return {"test bound": elbo(trained)}


def _above(found: list[Found], quantity: str) -> list[Claim]:
    """Return, for each model and number of samples, whether AEVB is above wake-sleep."""
    values = {(f.training.name, f.seed, f.epoch): f.figures[quantity][0] for f in found}
    return [
        Claim(
            f"{quantity}: {name} is above wake-sleep after {epoch} passes (seed {seed})",
            value > values[name.replace("aevb", "wake-sleep"), seed, epoch],
        )
        for (name, seed, epoch), value in values.items()
        if "aevb" in name
    ]


def _no_overfitting(found: list[Found]) -> list[Claim]:
    """Return whether the largest model is as good as smaller ones on the test rows."""
    by_data: dict[tuple[str, int], list[Found]] = {}
    for f in found:
        if f.last and "aevb" in f.training.name:
            by_data.setdefault((f.training.data, f.seed), []).append(f)
    claims = []
    for (data, seed), group in by_data.items():
        *smaller, largest = sorted(group, key=lambda f: f.training.latent_dim)
        best = max(f.figures["test bound"][0] for f in smaller)
        text = f"{data}, seed {seed}: more latents do not overfit (within 1 nat of the best)"
        claims.append(Claim(text, largest.figures["test bound"][0] > best - 1))
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
    _PAPER.format(2),
    Plan(
        _pairs("mnist-fixed", 50_000, (3, 5, 10, 20, 200), **_MNIST)
        + _pairs("frey", 1765, (2, 5, 10, 20), **_FREY),
        effort={},
        duration="four hours for each of two seeds; MNIST with --until 20: 20 minutes",
        seeds=(0, 1),
    ),
    Plan(
        _pairs("digits", 3823, (3, 10), **_DIGITS),
        effort={},
        duration="a minute",
    ),
    _final_bounds,
    lambda found: _above(found, "test bound") + _no_overfitting(found),
    _draw_bounds,
)


# Figure 3: the marginal likelihood


def _three(
    data: str, rows: int, epochs: int, H: int, rates: dict[str, float], **more: Any
) -> list[Training]:
    settings = {"data": data, "latent_dim": 3, "hidden": (H,), "epochs": epochs} | more
    return [
        _training(f"{method}-{rows}", method, rows, optimizer=Adagrad(rate), **settings)
        for method, rate in rates.items()
    ]


_RATES = {"aevb": 0.02, "wake-sleep": 0.02, "mcem": 0.1}


def _marginal(trained: Trained) -> dict[str, Any]:
    """Return the lower bound of annealing on log p(x), and the estimator of appendix D minus it.

    Both for the first training rows and for some test rows, the second for fewer of them. The
    estimator of appendix D has chains that start at draws from q. Monte-Carlo EM trains no q, and
    its chains do not find the posterior. Those of annealing start at draws from the prior.
    """
    rows, few = trained.effort["rows"], trained.effort["appendix_d_rows"]
    data, vae = trained.data.first(trained.training.rows), trained.vae
    settings: dict[str, Any] = {"seed": trained.seed, "progress": trained.progress}

    def fitted(x):
        found = fitted_log_likelihood(vae, x, 50, n_leapfrog=4, **settings)
        return found.log_likelihood

    def annealed(x):
        found = annealed_log_likelihood(vae, x, 200, 8, initial="prior", **settings)
        return found.log_lower

    figures = {}
    for part, x in (("training", data.x_train[:rows]), ("test", data.some_test_rows(rows))):
        lower = in_parts(trained, f"annealing-200-8-{part}", annealed, x)
        some = slice(None, None, -(-len(x) // few))
        appendix_d = in_parts(trained, f"appendix-d-{part}", fitted, x[some])
        figures[f"log p(x), {part}"] = mean_and_error(lower)
        figures[f"appendix D - log p(x), {part}"] = mean_and_error(appendix_d - lower[some])
    return figures


def _marginal_claims(found: list[Found]) -> list[Claim]:
    """Return the order of the methods, and whether appendix D agrees with annealing."""
    claims = _above(found, "log p(x), training")
    for f in found:
        if f.last and f.training.method == "fit":
            mean, error = f.figures["appendix D - log p(x), test"]
            text = f"{f.training.name}, seed {f.seed}: appendix D is within 0.5 nats of annealing"
            claims.append(Claim(text, abs(mean) + error < 0.5))
    return claims


def _draw_marginal(found: list[Found]) -> Any:
    from .. import plotting

    curves: dict[str, tuple[list, list]] = {}
    for f in found:
        rows = f.training.rows
        if f.seed == found[0].seed and rows is not None:
            for part in ("training", "test"):
                x, y = curves.setdefault(f"{f.training.name}, {part}", ([], []))
                x.append(f.epoch * rows)
                y.append(f.figures[f"log p(x), {part}"][0])
    names: dict[str, Any] = {
        "x": "training samples",
        "y": "log p(x) (nats)",
        "title": "Marginal likelihood, by annealing",
    }
    return plotting.plot_curves(curves, log="x", **names)


FIGURE_3 = Experiment(
    "kingma-welling-fig3",
    "AEVB reaches a better marginal likelihood than wake-sleep; Monte-Carlo EM is beside them.",
    _PAPER.format(3),
    Plan(
        _three("mnist-fixed", 1000, 10_000, 100, _RATES, keep=(100, 1000))
        + _three("mnist-fixed", 50_000, 200, 100, _RATES, keep=(2, 20)),
        effort={"rows": 1000, "appendix_d_rows": 100},
        duration="two and a half hours for each of two seeds",
        seeds=(0, 1),
    ),
    Plan(
        _three("digits-fixed", 1000, 200, 30, dict.fromkeys(_RATES, 0.1), keep=(50,)),
        effort={"rows": 100, "appendix_d_rows": 50},
        duration="a minute",
    ),
    _marginal,
    _marginal_claims,
    _draw_marginal,
)


# Figures 4 and 5: what the models of Figure 2 generate


def _of_figure_2(data: str, latents: Sequence[int], **settings: Any) -> list[Training]:
    rows = {"mnist-fixed": 50_000, "frey": 1765, "digits": 3823}[data]
    settings = {"data": data, **settings}
    return [
        _training(f"{data}-aevb-{J}", "aevb", rows, latent_dim=J, curve=1000, **settings)
        for J in latents
    ]


def _manifold(trained: Trained) -> dict[str, Any]:
    """Return the bound, and images decoded from z = Φ⁻¹(u), for u on a grid of the unit square."""
    axis = [NormalDist().inv_cdf((i + 0.5) / _TILES) for i in range(_TILES)]
    across, up = np.meshgrid(axis, axis[::-1])
    z = np.column_stack([across.ravel(), up.ravel()])
    return _final_bounds(trained) | _images(trained, lambda: trained.vae.decode(z))


def _samples(trained: Trained) -> dict[str, Any]:
    """Return the bound, and the means of p(x|z) for draws z ~ p(z)."""
    sample = partial(trained.vae.sample, (_TILES // 2) ** 2, trained.seed, mean=True)
    return _final_bounds(trained) | _images(trained, sample)


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
    _PAPER.format(4),
    Plan(
        _of_figure_2("mnist-fixed", (2,), **_MNIST) + _of_figure_2("frey", (2,), **_FREY),
        effort={},
        duration="twenty minutes",
    ),
    Plan(_of_figure_2("digits", (2,), **_DIGITS), effort={}, duration="ten seconds"),
    _manifold,
    _far_above_start,
    _draw_manifolds,
)

FIGURE_5 = Experiment(
    "kingma-welling-fig5",
    "Samples of models with 2, 5, 10 and 20 latents.",
    _PAPER.format(5),
    Plan(_of_figure_2("mnist-fixed", (2, 5, 10, 20), **_MNIST), effort={}, duration="an hour"),
    Plan(_of_figure_2("digits", (2, 5, 10, 20), **_DIGITS), effort={}, duration="half a minute"),
    _samples,
    _better_with_latents,
    _draw_samples,
)
