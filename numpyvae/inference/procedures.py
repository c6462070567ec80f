"""Section 3.6 of the notes as two procedures: variational inference and variational EM.

*Variational inference* keeps θ and searches argmax_φ ELBO(φ, θ), which is argmin_φ of the KL to
the posterior, Eq. (5). *Variational EM* alternates it with the M-step, argmax_θ ELBO(φ, θ) at a
fixed q. (The notes give the name to the M-step alone.) Each has two kinds of q:

    "free"       every datapoint has its own (μ, log σ²): the best diagonal Gaussian there is
    "amortized"  one encoder, with parameters φ, gives them for all datapoints

`fit(update="phi")` and `fit(update="theta")` do the same stochastically, for data of any size.
Here the noise is a fixed set of nodes ε with weights, so the ELBO is a deterministic function,
each half-step is a quasi-Newton search (L-BFGS), and no half-step can lower the bound.

Symbols: x (N, D), μ and log σ² (N, J), nodes ε (L, J) with weights (L,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from ..core.vae import VAE
from ..support.checks import check_choice, check_count, check_data, check_seed, check_vae
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

_ROWS = 100  # datapoints in one quasi-Newton search

Nodes = tuple[np.ndarray, np.ndarray]


class Posterior(NamedTuple):
    """Diagonal Gaussians q(z|x) = N(μ, σ²), one for each datapoint, and the ELBO they give.

    What `variational_inference` returns (notes, §3.6).

    Attributes
    ----------
    mu, logvar : (N, J) arrays
        μ and log σ².
    elbo : float
        Nats per datapoint, averaged over the data, under the nodes in use.

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
    """One half-step of variational EM: "phi" or "theta", and the ELBO after it.

    `variational_em` returns a list of them (notes, §3.6).

    Attributes
    ----------
    half : {"phi", "theta"}
    elbo : float
        Nats per datapoint.

    Examples
    --------
    >>> _, steps = variational_em(VAE(4, 1, (3,)), np.eye(4), rounds=1)
    >>> [step.half for step in steps]
    ['phi', 'theta']
    """

    half: str
    elbo: float


def noise_nodes(latent_dim: int, n: int = 16, *, seed: int = 0) -> Nodes:
    """Nodes and weights that stand for ε ~ N(0, I) in E[f(ε)] ≈ Σ_l w_l f(ε_l).

    For J = 1 and 2 they are a Gauss-Hermite product rule with n nodes to an axis. For larger J
    they are n·J pairs ±ε of random draws, whitened so that Σ w ε εᵀ = I: the rule is then still
    exact for every quadratic f, which is all a linear-Gaussian model asks for.

    Parameters
    ----------
    latent_dim : int
        J.
    n : int
    seed : int
        Of the draws for J > 2.

    Returns
    -------
    eps : (L, J) array
    weights : (L,) array
        Sum to 1.

    Raises
    ------
    TypeError, ValueError
        If `latent_dim` or `seed` is no such whole number, or `n` is below 2.

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
) -> Posterior:
    """Maximize the ELBO over q with the decoder fixed: argmin of KL(q ‖ p_θ(z|x)), Eq. (5).

    Parameters
    ----------
    vae : VAE
        Left as it is for `q="free"`; for `q="amortized"` its φ is moved in place.
    x : (N, D) array_like
    q : {"free", "amortized"}
    start : Posterior, optional
        Where free q begin; the encoder's otherwise.
    nodes : (eps, weights), optional
        (L, J) and (L,); see `noise_nodes`.
    max_iterations : int
        Of each quasi-Newton search.

    Returns
    -------
    posterior : Posterior

    Raises
    ------
    TypeError, ValueError
        If `x`, `nodes` or a setting is not what the model can take.

    Examples
    --------
    >>> vae = VAE(4, 1, (3,))
    >>> amortized = variational_inference(vae, np.eye(4), q="amortized")
    >>> bool(variational_inference(vae, np.eye(4)).elbo > amortized.elbo - 1e-6)
    True
    """
    x, (eps, weights) = _inputs(vae, x, nodes)
    check_choice("q", q, ("free", "amortized"))
    max_iterations = check_count("max_iterations", max_iterations)
    if q == "amortized":
        _ascend(
            lambda: _amortized(vae, x, eps, weights), vae.parameters.phi, len(x), max_iterations
        )
        mu, logvar = vae.encode(x)
    else:
        mu, logvar = start[:2] if start is not None else vae.encode(x)
        both = np.stack([mu, logvar]).astype(vae.dtype)  # (2, N, J)
        for first in range(0, len(x), _ROWS):
            rows = slice(first, first + _ROWS)
            flat = np.ascontiguousarray(both[:, rows]).ravel()
            shape = (2, -1, vae.latent_dim)

            def value_and_gradient(flat=flat, shape=shape, rows=rows):
                terms, pull = terms_given_q(vae, x[rows], *flat.reshape(shape), eps, weights)
                return terms.elbo, np.stack(pull()).ravel()

            _ascend(value_and_gradient, flat, len(x[rows]), max_iterations)
            both[:, rows] = flat.reshape(shape)
        mu, logvar = both
    return Posterior(mu, logvar, _elbo(vae, x, mu, logvar, eps, weights))


def m_step(
    vae: VAE,
    x: Any,
    posterior: Posterior,
    *,
    nodes: Nodes | None = None,
    max_iterations: int = 1000,
) -> float:
    """Maximize the ELBO over θ with q fixed, moving the decoder in place (notes, §3.6).

    Parameters
    ----------
    vae : VAE
        Its θ is moved in place.
    x : (N, D) array_like
    posterior : Posterior
        q, one row for each of x.
    nodes : (eps, weights), optional
        (L, J) and (L,); see `noise_nodes`.
    max_iterations : int
        Of the quasi-Newton search.

    Returns
    -------
    elbo : float
        Nats per datapoint, after the step.

    Raises
    ------
    TypeError, ValueError
        If `x`, `nodes` or a setting is not what the model can take.

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
    """Alternate variational inference and the M-step; the bound never falls.

    Parameters
    ----------
    vae : VAE
        Its decoder is moved in place, and for `q="amortized"` its encoder too.
    x : (N, D) array_like
    rounds : int
        Pairs of half-steps.
    q : {"free", "amortized"}
    nodes : (eps, weights), optional
    max_iterations : int
        Of each half-step's search.
    callback : callable, optional
        Is handed each `EMStep`.

    Returns
    -------
    posterior : Posterior
    steps : list of EMStep
        The ELBO after each half-step, in order: "phi", "theta", "phi", …

    Raises
    ------
    TypeError, ValueError
        If `x`, `nodes` or a setting is not what the model can take.

    Examples
    --------
    >>> _, steps = variational_em(VAE(4, 1, (3,)), np.eye(4), rounds=5)
    >>> len(steps), steps[-1].elbo > steps[0].elbo
    (10, True)
    """
    check_vae(vae)
    posterior, steps = None, []
    nodes = nodes or noise_nodes(vae.latent_dim)
    for _ in range(check_count("rounds", rounds)):
        posterior = variational_inference(
            vae, x, q=q, start=posterior, nodes=nodes, max_iterations=max_iterations
        )
        steps.append(EMStep("phi", posterior.elbo))
        elbo = m_step(vae, x, posterior, nodes=nodes, max_iterations=max_iterations)
        steps.append(EMStep("theta", elbo))
        posterior = posterior._replace(elbo=elbo)
        if callback is not None:
            callback(steps[-2])
            callback(steps[-1])
    return posterior, steps


def _inputs(vae: VAE, x: Any, nodes: Nodes | None) -> tuple[np.ndarray, Nodes]:
    """Return x in the model's dtype, and the nodes as (L, 1, J) so that they serve every row."""
    x = check_data(vae, x)
    eps, weights = nodes or noise_nodes(vae.latent_dim)
    eps, weights = np.asarray(eps, vae.dtype), np.asarray(weights, vae.dtype)
    if eps.ndim != 2 or eps.shape != (len(weights), vae.latent_dim):
        raise ValueError(
            f"nodes: expected eps (L, {vae.latent_dim}) and weights (L,), got {eps.shape} and "
            f"{weights.shape}; make them with noise_nodes({vae.latent_dim})"
        )
    return x.astype(vae.dtype, copy=False), (eps[:, None, :], weights)


def _elbo(vae, x, mu, logvar, eps, weights) -> float:
    """ELBO, Eq. (11), averaged over the data in blocks of rows."""
    total = 0.0
    for first in range(0, len(x), _ROWS):
        rows = slice(first, first + _ROWS)
        terms, _ = terms_given_q(vae, x[rows], mu[rows], logvar[rows], eps, weights)
        total += terms.elbo * len(x[rows])
    return total / len(x)


def _amortized(vae: VAE, x: np.ndarray, eps: np.ndarray, weights: np.ndarray):
    """ELBO and its gradient in φ."""
    (mu, logvar), pull_encoder = vae.encoder(x)
    terms, pull = terms_given_q(vae, x, mu, logvar, eps, weights)
    gradient = vae.parameters.zeros_like()
    pull_encoder(*pull(), gradient)
    return terms.elbo, gradient.phi


def _ascend(value_and_gradient: Callable, variables: np.ndarray, rows: int, steps: int) -> None:
    """Move `variables` in place to a maximum of the ELBO by L-BFGS; never to a lower value.

    The objective handed over is the sum over rows, so that the tolerances mean the same for any
    number of rows.
    """

    def loss(flat):
        variables[:] = flat
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = value_and_gradient()
        if not np.isfinite(value):
            return np.inf, np.zeros(len(flat))  # a step too far: the line search comes back
        return -rows * value, -rows * gradient.astype(float)

    start = variables.astype(float)
    before, _ = loss(start)
    options = {"maxiter": steps, "maxfun": 3 * steps, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    variables[:] = found.x if found.fun <= before else start
