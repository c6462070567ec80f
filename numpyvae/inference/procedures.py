"""The two procedures of section 3.6 of the notes: variational inference and variational EM.

*Variational inference* keeps θ fixed and computes argmax_φ ELBO(φ, θ). The same φ minimizes the KL
to the posterior, Eq. (5). *Variational EM* alternates variational inference with the M-step,
argmax_θ ELBO(φ, θ) with q fixed. (The notes call the M-step alone variational EM.) There are two
kinds of q:

    "free"       each datapoint has its own (μ, log σ²): the best diagonal Gaussian for it
    "amortized"  one encoder with parameters φ computes (μ, log σ²) for all datapoints

`fit(update="phi")` and `fit(update="theta")` do the same by stochastic gradients, for data of any
size. Here the expectation over ε is a weighted sum over a fixed set of nodes. So the ELBO is a
deterministic function, each half-step is a quasi-Newton search (L-BFGS), and no half-step can
decrease the ELBO.

The functions share these parameters:

- `vae : VAE`, whose parameters can change in place; each function says which
- `x : (N, D) array_like`, the datapoints
- `q : {"free", "amortized"}`, the kind of q
- `nodes : (eps, weights), optional`, arrays (L, J) and (L,); by default those of `noise_nodes`
- `max_iterations : int`, the largest number of iterations of each quasi-Newton search

They raise a TypeError or a ValueError if `x`, `nodes` or a setting is not valid for the model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_choice, check_count, check_data, check_seed, check_vae
from ..support.parallel import check_jobs, map_rows
from ..support.streams import Purpose, stream
from .given_q import terms_given_q

__all__ = [
    "EMStep",
    "Posterior",
    "m_step",
    "noise_nodes",
    "variational_em",
    "variational_inference",
]

_ROWS = 100  # the number of datapoints in one quasi-Newton search

Nodes = tuple[np.ndarray, np.ndarray]


class Posterior(NamedTuple):
    """The result of `variational_inference`: q(z|x) = N(μ, σ²) for each datapoint (notes, §3.6).

    Attributes
    ----------
    mu, logvar : (N, J) arrays
        μ and log σ².
    elbo : float
        The mean ELBO over the datapoints in nats, computed with the nodes of the search.

    Examples
    --------
    >>> q = variational_inference(VAE(4, 1, (3,)), np.eye(4))
    >>> q.mu.shape, q.logvar.shape
    ((4, 1), (4, 1))
    """

    mu: np.ndarray
    logvar: np.ndarray
    elbo: float


class EMStep(NamedTuple):
    """One half-step of `variational_em` (notes, §3.6).

    Attributes
    ----------
    half : {"phi", "theta"}
        "phi" for variational inference, "theta" for the M-step.
    elbo : float
        The ELBO after the half-step, in nats per datapoint.

    Examples
    --------
    >>> _, steps = variational_em(VAE(4, 1, (3,)), np.eye(4), rounds=1)
    >>> [step.half for step in steps]
    ['phi', 'theta']
    """

    half: str
    elbo: float


def noise_nodes(latent_dim: int, n: int = 16, *, seed: int = 0) -> Nodes:
    """Return the nodes ε_l and weights w_l of a rule for ε ~ N(0, I): E[f(ε)] ≈ Σ_l w_l f(ε_l).

    For J = 1 and 2 this is the Gauss-Hermite product rule with n nodes per axis. For larger J it
    consists of n·J pairs ±ε of random draws, transformed linearly so that Σ w ε εᵀ = I. This rule
    is exact for every quadratic f, and so for the ELBO of a linear-Gaussian model.

    Parameters
    ----------
    latent_dim : int
        The number J of latent variables.
    n : int
        The number of nodes per axis (J ≤ 2), or of pairs of draws per latent (J > 2).
    seed : int
        The seed of the draws for J > 2.

    Returns
    -------
    eps : (L, J) array
    weights : (L,) array
        They sum to 1.

    Raises
    ------
    TypeError, ValueError
        If `latent_dim` or `seed` is not a whole number in range, or `n` is below 2.

    Examples
    --------
    >>> eps, weights = noise_nodes(2)
    >>> (weights @ eps**4).round(6)                    # E[ε⁴] = 3
    array([3., 3.])
    """
    J, n = check_count("latent_dim", latent_dim), check_count("n", n, minimum=2)
    if J <= 2:
        t, w = np.polynomial.hermite_e.hermegauss(n)
        w = w / w.sum()
        if J == 1:
            return t[:, None], w
        eps = np.stack(np.meshgrid(t, t, indexing="ij"), axis=-1).reshape(-1, 2)  # (n, n) → (n²,)
        return eps, np.outer(w, w).ravel()
    rng = stream(check_seed(seed), Purpose.NOISE_NODES)
    half = rng.standard_normal((n * J, J))
    root = np.linalg.cholesky(half.T @ half / len(half))
    half = np.linalg.solve(root, half.T).T  # now Σ ε εᵀ / n = I
    return np.concatenate([half, -half]), np.full(2 * len(half), 0.5 / len(half))


def variational_inference(
    vae: VAE,
    x: Any,
    *,
    q: str = "free",
    start: Posterior | None = None,
    nodes: Nodes | None = None,
    max_iterations: int = 1000,
    n_jobs: int | None = None,
) -> Posterior:
    """Maximize the ELBO over q with the decoder fixed: argmin of KL(q ‖ p_θ(z|x)), Eq. (5).

    With `q="free"` the model is not changed; with `q="amortized"` its φ is changed in place.

    Parameters
    ----------
    start : Posterior, optional
        The start of the search for free q; by default the q of the encoder.
    n_jobs : int, optional
        The number of workers for free q, each with 100 datapoints at a time; as in
        `numpyvae.bounds`.

    Returns
    -------
    posterior : Posterior

    Examples
    --------
    >>> vae = VAE(4, 1, (3,))
    >>> amortized = variational_inference(vae, np.eye(4), q="amortized")
    >>> bool(variational_inference(vae, np.eye(4)).elbo > amortized.elbo - 1e-6)
    True
    """
    x, (eps, weights) = _inputs(vae, x, nodes)
    check_choice("q", q, ("free", "amortized"))
    n_jobs = check_jobs(n_jobs)
    max_iterations = check_count("max_iterations", max_iterations)
    if q == "amortized":
        _ascend(
            lambda: _amortized(vae, x, eps, weights), vae.parameters.phi, len(x), max_iterations
        )
        mu, logvar = vae.encode(x)
    else:
        mu, logvar = start[:2] if start is not None else vae.encode(x)
        work = partial(_free_block, vae, eps, weights, max_iterations)
        parts = map_rows(work, _blocks(x), [x, mu, logvar], n_jobs, lambda note, steps=1: None)
        mu, logvar = np.concatenate(parts, axis=1)
    return Posterior(mu, logvar, _elbo(vae, x, mu, logvar, eps, weights))


def _free_block(
    vae: VAE,
    eps: np.ndarray,
    weights: np.ndarray,
    max_iterations: int,
    x: np.ndarray,
    mu: np.ndarray,
    logvar: np.ndarray,
    *,
    advance: Callable[[str], None],
) -> np.ndarray:
    """Return the best μ and log σ² of each row of a block, (2, B, J)."""
    both = np.stack([mu, logvar]).astype(vae.dtype)  # (2, B, J)
    flat = both.reshape(-1)  # a view

    def value_and_gradient():
        terms, pull = terms_given_q(vae, x, both[0], both[1], eps, weights)
        return terms.elbo, np.stack(pull()).ravel()

    _ascend(value_and_gradient, flat, len(x), max_iterations)
    advance("")
    return both


def m_step(
    vae: VAE,
    x: Any,
    posterior: Posterior,
    *,
    nodes: Nodes | None = None,
    max_iterations: int = 1000,
) -> float:
    """Maximize the ELBO over θ with q fixed; θ is changed in place (notes, §3.6).

    Parameters
    ----------
    posterior : Posterior
        q, with one row for each row of x.

    Returns
    -------
    elbo : float
        The ELBO after the step, in nats per datapoint.

    Examples
    --------
    >>> vae = VAE(4, 1, (3,))
    >>> q = variational_inference(vae, np.eye(4))
    >>> m_step(vae, np.eye(4), q) >= q.elbo
    True
    """
    x, (eps, weights) = _inputs(vae, x, nodes)
    mu, logvar, _ = posterior

    def value_and_gradient():
        terms, pull = terms_given_q(vae, x, mu, logvar, eps, weights)
        gradient = vae.parameters.zeros_like()
        pull(gradient, into_q=False)
        return terms.elbo, gradient.theta

    _ascend(
        value_and_gradient,
        vae.parameters.theta,
        len(x),
        check_count("max_iterations", max_iterations),
    )
    return _elbo(vae, x, mu, logvar, eps, weights)


def variational_em(
    vae: VAE,
    x: Any,
    *,
    rounds: int,
    q: str = "free",
    nodes: Nodes | None = None,
    max_iterations: int = 1000,
    callback: Callable[[EMStep], Any] | None = None,
) -> tuple[Posterior, list[EMStep]]:
    """Alternate variational inference and the M-step; no half-step decreases the ELBO.

    The decoder is changed in place, and with `q="amortized"` the encoder, too.

    Parameters
    ----------
    rounds : int
        The number of pairs of half-steps.
    callback : callable, optional
        A function that is called with each `EMStep`.

    Returns
    -------
    posterior : Posterior
    steps : list of EMStep
        The half-steps in order: "phi", "theta", "phi", …

    Examples
    --------
    >>> _, steps = variational_em(VAE(4, 1, (3,)), np.eye(4), rounds=5)
    >>> len(steps), steps[-1].elbo > steps[0].elbo
    (10, True)
    """
    check_vae(vae)
    start, steps = None, []
    nodes = nodes or noise_nodes(vae.latent_dim)
    for _ in range(check_count("rounds", rounds)):
        posterior = variational_inference(
            vae, x, q=q, start=start, nodes=nodes, max_iterations=max_iterations
        )
        steps.append(EMStep("phi", posterior.elbo))
        elbo = m_step(vae, x, posterior, nodes=nodes, max_iterations=max_iterations)
        steps.append(EMStep("theta", elbo))
        start = posterior = posterior._replace(elbo=elbo)
        if callback is not None:
            callback(steps[-2])
            callback(steps[-1])
    return posterior, steps


def _inputs(vae: VAE, x: Any, nodes: Nodes | None) -> tuple[np.ndarray, Nodes]:
    """Return x in the dtype of the model, and the nodes as (L, 1, J), the same for every row."""
    x = check_data(vae, x)
    eps, weights = nodes or noise_nodes(vae.latent_dim)
    eps, weights = np.asarray(eps, vae.dtype), np.asarray(weights, vae.dtype)
    if eps.ndim != 2 or eps.shape != (len(weights), vae.latent_dim):
        raise ValueError(
            f"nodes: expected eps (L, {vae.latent_dim}) and weights (L,), got {eps.shape} and "
            f"{weights.shape}; make them with noise_nodes({vae.latent_dim})"
        )
    return x.astype(vae.dtype, copy=False), (eps[:, None, :], weights)


def _blocks(x: np.ndarray) -> list[slice]:
    """Return the rows of each quasi-Newton search."""
    return [slice(first, first + _ROWS) for first in range(0, len(x), _ROWS)]


def _elbo(
    vae: VAE,
    x: np.ndarray,
    mu: np.ndarray,
    logvar: np.ndarray,
    eps: np.ndarray,
    weights: np.ndarray,
) -> float:
    """Return the mean of the ELBO, Eq. (11), over the data, computed in blocks of rows."""
    total = 0.0
    for rows in _blocks(x):
        terms, _ = terms_given_q(vae, x[rows], mu[rows], logvar[rows], eps, weights)
        total += terms.elbo * len(x[rows])
    return total / len(x)


def _amortized(
    vae: VAE, x: np.ndarray, eps: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the ELBO and its gradient in φ."""
    (mu, logvar), pull_encoder = vae.encoder(x)
    terms, pull = terms_given_q(vae, x, mu, logvar, eps, weights)
    gradient = vae.parameters.zeros_like()
    pull_encoder(*pull(), gradient)
    return terms.elbo, gradient.phi


def _ascend(value_and_gradient: Callable, variables: np.ndarray, rows: int, steps: int) -> None:
    """Maximize the ELBO over `variables` in place by L-BFGS; never end at a lower value.

    L-BFGS gets the sum over the rows, so that its tolerances have the same effect for any number
    of rows.
    """

    from scipy.optimize import minimize  # late: nothing else here needs SciPy

    def loss(flat):
        variables[:] = flat
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = value_and_gradient()
        if not np.isfinite(value):
            return np.inf, np.zeros(len(flat))  # the line search then takes a shorter step
        return -rows * value, -rows * gradient.astype(float)

    start = variables.astype(float)
    before, _ = loss(start)
    options: Any = {
        "maxiter": steps,
        "maxfun": 3 * steps,
        "ftol": 1e-15,
        "gtol": 1e-9,
        "maxcor": 20,
    }
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    variables[:] = found.x if found.fun <= before else start
