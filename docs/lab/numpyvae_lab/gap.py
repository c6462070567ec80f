"""The page *The gap*: a q that the reader moves, its ELBO, and its KL to the exact posterior."""

from __future__ import annotations

from typing import Any

import numpy as np

from numpyvae import VAE
from numpyvae.exact import ExactModel, Gaussian, exact_model

__all__ = ["best", "curve", "move", "restart"]

Z = np.linspace(-4, 4, 241)[:, None, None]  # (L, 1, 1): where densities are drawn
MU = np.linspace(-3, 3, 61)  # the values of the sliders
LOG_SIGMA = np.linspace(-3, 0.8, 39)

model: ExactModel | None = None
x: np.ndarray | None = None


def restart(name: str, seed: int) -> dict[str, Any]:
    """Draw a model with one latent and a datapoint from it; return the densities to draw.

    Parameters
    ----------
    name : {"linear-gaussian", "tanh"}
        Probabilistic PCA, whose posterior is a Gaussian; or a Bernoulli decoder with a tanh layer,
        whose posterior is not, and is found by quadrature.
    seed : int
    """
    global model, x
    if name == "linear-gaussian":
        vae = VAE(2, 1, (), likelihood="gaussian:0.8", dtype="float64", seed=seed, init=0.8)
    else:
        vae = VAE(4, 1, (3,), dtype="float64", seed=seed, init=2.5)
    model, x = exact_model(vae), vae.sample(1, seed)
    return {
        "model": repr(model),
        "x": x[0],
        "z": Z[:, 0, 0],
        "posterior": np.exp(model.log_posterior(x, Z))[:, 0],
        "prior": np.exp(model.log_prior(Z))[:, 0],
        "log_px": model.log_evidence(x)[0],
    }


def normal(mu: Any, log_sigma: Any) -> Gaussian:
    """Return q = N(μ, σ²) for each pair of numbers."""
    mu, log_sigma = np.broadcast_arrays(mu, log_sigma)
    return Gaussian.diagonal(mu.reshape(-1, 1), 2 * log_sigma.reshape(-1, 1))


def move(mu: float, log_sigma: float) -> dict[str, Any]:
    """Return the density of this q, its ELBO by Eq. (11), and its KL of Eq. (5), in nats.

    The two are computed independently, and neither from log p(x).
    """
    q = normal(mu, log_sigma)
    return {
        "q": np.exp(q.log_pdf(Z))[:, 0],
        "elbo": model.elbo_kl_form(x, q)[0],
        "kl": model.kl_to_posterior(x, q)[0],
        "log_px": model.log_evidence(x)[0],
        "reconstruction": model.expected_log_likelihood(x, q)[0],
        "kl_prior": model.kl_to_prior(q)[0],
    }


def curve(log_sigma: float) -> dict[str, np.ndarray]:
    """Return the ELBO for all means μ at this width."""
    q = normal(MU, log_sigma)
    return {"mu": MU, "elbo": model.elbo_kl_form(np.repeat(x, len(MU), axis=0), q)}


def best() -> dict[str, float]:
    """Return mean and width with the largest ELBO, first among every sixth value of the sliders.

    Then among all values that are less than six steps away from these.
    """
    i, j = highest(range(0, len(MU), 6), range(0, len(LOG_SIGMA), 6))
    i, j = highest(range(i - 5, i + 6), range(j - 5, j + 6))
    return {"mu": MU[i], "log_sigma": LOG_SIGMA[j]}


def highest(means: range, widths: range) -> tuple[int, int]:
    """Return the places in MU and LOG_SIGMA with the largest ELBO, among some of them."""
    pairs = [(i, j) for i in means for j in widths if 0 <= i < len(MU) and 0 <= j < len(LOG_SIGMA)]
    i, j = np.array(pairs).T
    elbo = model.elbo_kl_form(np.repeat(x, len(pairs), axis=0), normal(MU[i], LOG_SIGMA[j]))
    return pairs[int(elbo.argmax())]
