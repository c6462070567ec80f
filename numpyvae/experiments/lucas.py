"""Lucas, Tucker, Grosse & Norouzi 2019: why latents collapse, on a linear VAE.

A linear VAE has no maxima of the ELBO other than those of probabilistic PCA, and a latent
collapses if the variance of the data in its direction is not above σ². So the number of active
latents, and the maximum of log p(x), are known before the training. The settings are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.optimizers import Adam
from ..diagnostics.units import active_units
from ..exact import LinearGaussian
from ..support.schedules import cosine_schedule
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Trained

__all__ = ["LUCAS"]


def _measure(trained: Trained) -> dict[str, Any]:
    x = np.asarray(trained.data.first(trained.training.rows).x_train, float)
    s2 = float(trained.training.likelihood.partition(":")[2]) ** 2
    eigenvalues, directions = np.linalg.eigh(x.T @ x / len(x))
    J = trained.training.latent_dim
    above, W = eigenvalues[::-1][:J], directions[:, ::-1][:, :J]
    best = LinearGaussian(W * np.sqrt(np.maximum(above - s2, 0)), x.mean(axis=0), s2)
    maximum = best.log_evidence(x).mean()
    ours = LinearGaussian.from_vae(trained.vae).log_evidence(x).mean()
    return {
        "log p(x)": float(ours),
        "below its maximum": float(maximum - ours),
        "active units": int(active_units(trained.vae, x, _ACTIVE).sum()),
        "predicted units": int((1 - s2 / np.maximum(above, 1e-12) > _ACTIVE).sum()),
        "eigenvalues": above.tolist(),
        "posterior means": np.sort(trained.vae.encode(x)[0].var(axis=0))[::-1].tolist(),
    }


_ACTIVE = 0.1  # the variance of the posterior mean, which is 1 − σ²/λ at the maximum


def _claims(found: list[Found]) -> list[Claim]:
    claims = []
    for f in found:
        units, above = f.figures["active units"], f.figures["predicted units"]
        name = f"{f.training.name}, seed {f.seed}"
        claims.append(
            Claim(
                f"{name}: {units} latents are active, {above} predicted", abs(units - above) <= 1
            )
        )
        below = f.figures["below its maximum"]
        claims.append(Claim(f"{name}: log p(x) is at its maximum, within 1 nat", 0 <= below < 1))
    return claims


def _draw(found: list[Found]) -> Any:
    from .. import plotting

    curves = {}
    for f in (f for f in found if f.seed == found[0].seed):
        s2 = float(f.training.likelihood.partition(":")[2]) ** 2
        predicted = np.maximum(1 - s2 / np.maximum(f.figures["eigenvalues"], 1e-12), 0)
        place = range(1, len(predicted) + 1)
        curves[f"{f.training.name}, predicted"] = place, predicted
        curves[f"{f.training.name}, trained"] = place, f.figures["posterior means"]
    axes: dict[str, Any] = {"x": "latent, sorted", "y": "variance of the posterior mean"}
    return plotting.plot_curves(curves, title="Which latents a linear VAE uses", **axes)


def _trainings(data: str, sigmas: Sequence[float], **settings: Any) -> list[Training]:
    return [
        Training(
            f"sigma-{sigma}",
            data,
            hidden=(),
            likelihood=f"gaussian:{sigma}",
            schedule=cosine_schedule(settings["epochs"]),
            **settings,
        )
        for sigma in sigmas
    ]


LUCAS = Experiment(
    "lucas-collapse",
    "A linear VAE reaches the maximum of probabilistic PCA; sigma^2 sets which latents collapse.",
    "Lucas, Tucker, Grosse & Norouzi 2019 (arXiv 1911.02469)",
    Plan(
        _trainings(
            "mnist-centered",
            (0.5, 1.0, 1.5),
            latent_dim=50,
            epochs=3000,
            batch_size=1000,
            rows=10_000,
            optimizer=Adam(0.01),
        ),
        effort={},
        duration="twenty minutes for each of two seeds",
        seeds=(0, 1),
    ),
    Plan(
        _trainings(
            "digits-centered",
            (0.25, 0.4, 0.6),
            latent_dim=12,
            epochs=60,
            batch_size=200,
            optimizer=Adam(0.03),
        ),
        effort={},
        duration="half a minute",
    ),
    _measure,
    _claims,
    _draw,
)
