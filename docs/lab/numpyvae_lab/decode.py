"""The page *Decode*: an image for a z, and for an image q(z|x), its ELBO and log p(x)."""

from __future__ import annotations

from typing import Any

import numpy as np

from numpyvae.exact import Gaussian, Quadrature

from . import train

__all__ = ["at", "digit", "examine", "restart"]

LIKELIHOOD = "binomial:16"
CELLS = 61  # points of the drawn density along each side of the plane


def restart(seed: int) -> dict[str, Any]:
    """Begin a network for this page: two latents, counts of ink. `train.epoch` trains it."""
    return train.restart(2, [64, 32], LIKELIHOOD, seed)


def digit(number: int) -> dict[str, Any]:
    """Return one of the test digits: its 64 counts of ink, and its label."""
    data = train.digits()
    number %= len(data.x_test)
    return {"x": data.x_test[number], "label": data.y_test[number], "number": number}


def at(z: list[float]) -> dict[str, np.ndarray]:
    """Return the mean of p(x|z) as an image, (1, 64), from 0 to 1."""
    return {"image": train.network().decode([z]) / train.ink(LIKELIHOOD)}


def examine(x: list[float]) -> dict[str, Any]:
    """Return what the model knows of one x: q, both terms of the ELBO, and the exact posterior.

    Every expectation and log p(x) is computed by quadrature, so that log p(x) = ELBO + KL holds
    to many digits.

    Parameters
    ----------
    x : (64,) list of counts
    """
    vae, rows = train.network(), np.array([x], dtype=float)
    model, q = Quadrature(vae), Gaussian.from_encoder(vae, rows)
    center, reach = close_up(q, model.posterior(rows).gaussian())
    axis = np.linspace(-reach, reach, CELLS)
    z = center + np.stack(np.meshgrid(axis, axis[::-1]), axis=-1).reshape(-1, 1, 2)
    log_density = model.log_posterior(rows, z)[:, 0]
    angle = np.linspace(0, 2 * np.pi, 73)
    circle = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
    return {
        "log_px": model.log_evidence(rows)[0],
        "elbo": model.elbo_kl_form(rows, q)[0],
        "gap": model.kl_to_posterior(rows, q)[0],
        "reconstruction": model.expected_log_likelihood(rows, q)[0],
        "kl": model.kl_to_prior(q)[0],
        "mu": q.mean[0],
        "sigma": np.sqrt(np.diagonal(q.cov[0])),
        "center": center,
        "reach": reach,
        "ellipse": q.transform(circle)[:, 0],
        "density": np.exp(log_density - log_density.max()).reshape(CELLS, CELLS),
        "image": vae.reconstruct(rows) / train.ink(LIKELIHOOD),
    }


def close_up(*parts: Gaussian) -> tuple[np.ndarray, float]:
    """Return center (2,) and half the side of a square with 4 σ of each Gaussian."""
    sides = [4 * np.sqrt(np.diagonal(part.cov[0])) for part in parts]
    low = np.min([part.mean[0] - side for part, side in zip(parts, sides)], axis=0)
    high = np.max([part.mean[0] + side for part, side in zip(parts, sides)], axis=0)
    return (low + high) / 2, float((high - low).max() / 2)
