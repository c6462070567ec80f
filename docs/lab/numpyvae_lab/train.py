"""The page *Train*: a VAE on the digits, one epoch at a call, and what it looks like."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from numpyvae import VAE, Adam, History, fit
from numpyvae.core.distributions import gaussian_kl
from numpyvae.datasets import Dataset, binarize, load_digits
from numpyvae.estimators import SGVBB

__all__ = ["Training", "epoch", "network", "restart"]

SHOWN = 600  # test digits on the latent plane
SIDE = 12  # decoded images along each side of the plane


@cache
def digits() -> Dataset:
    """Return the digits of the package, read once."""
    return load_digits()


def prepared(likelihood: str) -> tuple[np.ndarray, np.ndarray, Any]:
    """Return what a likelihood takes as x, (N, D) of both splits, and the transform for `fit`.

    Counts of ink for the binomial distribution; grays in [0, 1] otherwise, of which binary pixels
    are drawn anew in each epoch for the Bernoulli distribution.
    """
    data = digits()
    if likelihood.startswith("binomial"):
        return data.x_train, data.x_test, None
    transform = binarize if likelihood == "bernoulli" else None
    return data.grays("train"), data.grays("test"), transform


class Training:
    """One run: a VAE, and its history up to now.

    Parameters
    ----------
    latent_dim : int
    hidden : list of int
    likelihood : str
    seed : int
    """

    def __init__(self, latent_dim: int, hidden: list[int], likelihood: str, seed: int) -> None:
        self.x, self.x_test, self.transform = prepared(likelihood)
        D = self.x.shape[1]
        self.vae = VAE(D, latent_dim, tuple(hidden), likelihood=likelihood, seed=seed)
        self.seed = seed
        self.history: History | None = None

    def epoch(self, beta: float, learning_rate: float) -> dict[str, float]:
        """Train for one epoch more, and return its row of the history."""
        self.history = fit(
            self.vae,
            self.x,
            epochs=1,
            optimizer=Adam(learning_rate),
            estimator=SGVBB(beta=beta),
            transform=self.transform,
            seed=self.seed,
            resume=self.history,
        )
        return self.history.rows[-1]

    def picture(self) -> dict[str, Any]:
        """Return the latent plane of some test digits, and images decoded over the prior.

        The plane is that of the two latents with the largest KL. The images are decoded from its
        grid, whose other latents are 0; the grid has equal shares of the prior's mass. With one
        latent, they are decoded along it.
        """
        mu, logvar = self.vae.encode(self.x_test[:SHOWN])
        kl, _ = gaussian_kl(mu[..., None], logvar[..., None])  # of each latent
        kl = kl.mean(axis=0)
        axes = np.sort(np.argsort(-kl, kind="stable")[:2])
        z = np.zeros((SIDE * SIDE, self.vae.latent_dim), self.vae.dtype)
        z[:, axes] = grid()[:, : len(axes)] if len(axes) == 2 else line()
        return {
            "axes": axes,
            "kl": kl,
            "mu": mu[:, axes],
            "labels": digits().y_test[:SHOWN],
            "radii": circles(len(axes)),
            "images": self.vae.decode(z) / ink(self.vae.likelihood.name),
            "side": SIDE,
        }


def circles(J: int) -> np.ndarray:
    """Return the radii of the circles with 50 % and 95 % of the prior's mass, if J is 2, (2,)."""
    mass = np.array([0.5, 0.95] if J == 2 else [])
    return np.sqrt(-2 * np.log1p(-mass))  # |z|² is exponential with the mean 2


def ink(likelihood: str) -> int:
    """Return the mean of x that is drawn black."""
    return digits().maximum if likelihood.startswith("binomial") else 1


@cache
def quantiles(n: int) -> np.ndarray:
    """Return the middles of n intervals of equal mass under the standard normal, (n,)."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])


def grid() -> np.ndarray:
    """Return z over the plane, (SIDE², 2): rows from top to bottom, columns from left to right."""
    q = quantiles(SIDE)
    across, up = np.meshgrid(q, q[::-1])
    return np.stack([across, up], axis=-1).reshape(-1, 2)


def line() -> np.ndarray:
    """Return z along one latent, (SIDE², 1)."""
    return quantiles(SIDE * SIDE)[:, None]


run: Training | None = None


def restart(latent_dim: int, hidden: list[int], likelihood: str, seed: int) -> dict[str, Any]:
    """Begin a new run, and return its first picture."""
    global run
    run = Training(latent_dim, hidden, likelihood, seed)
    return {"model": repr(run.vae), "picture": run.picture()}


def network() -> VAE:
    """Return the VAE of this page's run, or raise RuntimeError if there is none yet."""
    if run is None:
        raise RuntimeError("expected a network: call restart first")
    return run.vae


def epoch(beta: float, learning_rate: float, picture: bool) -> dict[str, Any]:
    """Train for one epoch more: its row of the history, and on demand a picture."""
    network()
    row = run.epoch(beta, learning_rate)
    return {"row": row, "picture": run.picture() if picture else None}
