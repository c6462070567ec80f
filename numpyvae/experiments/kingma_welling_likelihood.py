"""Kingma & Welling 2013, Figure 3: the marginal likelihood, of three methods.

    log p(x) ≥ E[log (1/C) Σ_c w_c]        w_c: the weight of an annealed chain (Neal 2001)

The paper estimates it by its appendix D instead, 1/p(x) = E_{p(z|x)}[q̂(z) / p(x, z)], where q̂ is
fitted to draws from the posterior; see `bounds.appendix_d`.
"""

from __future__ import annotations

from typing import Any

from ..bounds.ais import annealed_log_likelihood
from ..bounds.appendix_d import fitted_log_likelihood
from ..core.optimizers import Adagrad
from ..support.statistics import mean_and_error
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained
from .kingma_welling import PAPER, above, training
from .measuring import in_parts

__all__ = ["FIGURE_3"]


def _three(
    data: str, rows: int, epochs: int, H: int, rates: dict[str, float], **more: Any
) -> list[Training]:
    settings = {"data": data, "latent_dim": 3, "hidden": (H,), "epochs": epochs} | more
    return [
        training(f"{method}-{rows}", method, rows, optimizer=Adagrad(rate), **settings)
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
    claims = above(found, "log p(x), training")
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
    PAPER.format(3),
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
