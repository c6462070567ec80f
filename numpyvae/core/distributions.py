"""Densities, the Gaussian KL and the reparameterization, each with its pullback.

Every log density is *summed over the last axis*, with every normalizing constant, in nats: the
log-likelihood of an image is the sum over its pixels. Leading axes broadcast, so that x (B, D)
goes with decoder outputs (L, B, D); `gaussian_logpdf` returns each gradient in the shape of its
argument.

- `x : (..., D) array`
- `mu : (..., D) array`; of q_φ(z|x), (B, J)
- `logvar : (..., D) array`, log σ²
- `eps : (L, B, J) array`, standard normal noise
- `z : (..., J) array`
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..support.special import exp_minus_abs, log_binomial_coefficient, log_factorial, sum_log1p

__all__ = [
    "binomial_logpmf",
    "gaussian_kl",
    "gaussian_logpdf",
    "log_prior",
    "poisson_logpmf",
    "reparameterize",
]

_LOG_2PI = math.log(2 * math.pi)


def _sum_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which its argument was broadcast."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and gradient.shape[lead + i] != 1
    )
    return gradient.sum(axis=axes).reshape(shape)


def reparameterize(
    mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray
) -> tuple[np.ndarray, Callable]:
    """Write a draw from q_φ(z|x) = N(μ, σ²) as a function of its parameters.

    z = μ + σ ε,  σ = exp(½ log σ²),  ε ~ N(0, I)   (Kingma & Welling 2013, §2.4)

    The randomness is in ε, so z can be differentiated: ∂z/∂μ = 1, ∂z/∂log σ² = ½ σ ε.

    Returns
    -------
    z : (L, B, J) array
    pull : callable
        `pull(dz) -> (dmu, dlogvar)`, summed over the L samples.

    Examples
    --------
    >>> mu, logvar, eps = np.array([[1.0]]), np.log([[4.0]]), np.array([[[0.5]]])
    >>> z, pull = reparameterize(mu, logvar, eps)
    >>> z, pull(np.ones_like(z))              # 1 + 2 · 0.5; and 1, ½ · 2 · 0.5
    (array([[[2.]]]), (array([[1.]]), array([[0.5]])))
    """
    scaled = np.exp(0.5 * logvar) * eps  # σ ε
    z = mu + scaled

    def pull(dz):
        return dz.sum(axis=0), 0.5 * (dz * scaled).sum(axis=0)

    return z, pull


def gaussian_kl(mu: np.ndarray, logvar: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Kullback–Leibler divergence from N(μ, σ²) to the prior N(0, I), in closed form.

    KL(q_φ(z|x) ‖ N(0, I)) = ½ Σ_j (μ_j² + σ_j² − 1 − log σ_j²)   (K&W 2013, appendix B)

    σ² − 1 is computed as expm1(log σ²), without cancellation, so that the KL is zero at the prior
    and accurate near it.

    Returns
    -------
    kl : (...) array
        Nats per datapoint.
    pull : callable
        `pull(dkl) -> (dmu, dlogvar)`.

    Examples
    --------
    >>> kl, pull = gaussian_kl(np.array([[0.0, 1.0]]), np.zeros((1, 2)))
    >>> kl, pull([1.0])[0]                    # ½ μ², and μ
    (array([0.5]), array([[0., 1.]]))
    """
    excess = np.expm1(logvar)  # σ² − 1
    kl = 0.5 * (mu * mu + (excess - logvar)).sum(axis=-1)

    def pull(dkl):
        dkl = np.asarray(dkl)[..., None]
        return dkl * mu, dkl * (0.5 * excess)

    return kl, pull


def gaussian_logpdf(
    x: np.ndarray, mu: np.ndarray, logvar: np.ndarray
) -> tuple[np.ndarray, Callable]:
    """Log density of a Gaussian with diagonal covariance.

    log N(x; μ, σ²) = −½ Σ_d (log 2π + log σ_d² + (x_d − μ_d)²/σ_d²)

    The density of q_φ(z|x), and of the Gaussian decoder (Kingma & Welling 2013, appendix C.2).

    Returns
    -------
    logp : (...) array
        Nats.
    pull : callable
        `pull(dlogp) -> (dx, dmu, dlogvar)`.

    Examples
    --------
    >>> logp, _ = gaussian_logpdf(np.zeros((1, 2)), np.zeros(2), np.zeros(2))
    >>> logp                                  # −log 2π
    array([-1.83787707])
    """
    deviation = x - mu
    scaled = deviation * np.exp(-logvar)  # (x − μ)/σ²
    square = deviation * scaled  # (x − μ)²/σ²
    logp = -0.5 * (square + (logvar + _LOG_2PI)).sum(axis=-1)

    def pull(dlogp):
        dlogp = np.asarray(dlogp)[..., None]
        dmu = dlogp * scaled
        dlogvar = dlogp * (0.5 * (square - 1))
        return (
            _sum_to(-dmu, np.shape(x)),
            _sum_to(dmu, np.shape(mu)),
            _sum_to(dlogvar, np.shape(logvar)),
        )

    return logp, pull


def log_prior(z: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Log density of the prior p(z) = N(0, I): log p(z) = −½ Σ_j (z_j² + log 2π).

    The prior of Kingma & Welling 2013, appendix B; the notes leave it open.

    Returns
    -------
    log_pz : (...) array
        Nats.
    pull : callable
        `pull(dlog_pz) -> dz`.

    Examples
    --------
    >>> log_pz, pull = log_prior(np.array([[1.0, 0.0]]))
    >>> log_pz, pull([1.0])                   # −½ − log 2π, and −z
    (array([-2.33787707]), array([[-1., -0.]]))
    """
    log_pz = -0.5 * (z * z + _LOG_2PI).sum(axis=-1)
    return log_pz, lambda dlog_pz: -np.asarray(dlog_pz)[..., None] * z


def binomial_logpmf(x: np.ndarray, logits: np.ndarray, n: int) -> tuple[np.ndarray, Callable]:
    """Log probability of counts x out of n, from logits l; n = 1 is the Bernoulli.

    log p(x|l) = Σ_d x_d l_d − n softplus(l_d) + log C(n, x_d),  p = sigmoid(l)
               = Σ_d min(x_d l_d, (x_d − n) l_d) − n log(1 + e^−|l_d|) + log C(n, x_d)
    ∂ log p/∂l = x − n sigmoid(l)

    The second line is computed: it has no difference of two large terms, and no probability is
    clipped. With n = 1: Kingma & Welling 2013, appendix C.1; grays then give the negative
    cross-entropy, not a log probability.

    Parameters
    ----------
    x : (B, D) array
        Whole numbers in 0 … n.
    logits : (..., B, D) array
    n : int

    Returns
    -------
    logp : (..., B) array
    pull : callable
        `pull(dlogp) -> dlogits`.

    Examples
    --------
    >>> logp, pull = binomial_logpmf(np.array([[1.0, 0.0]]), np.array([[0.0, -800.0]]), 1)
    >>> logp, pull([1.0])                     # −log 2 − 0, and x − sigmoid(l)
    (array([-0.69314718]), array([[0.5, 0. ]]))
    """
    terms = x * logits
    np.minimum(terms, (x - n) * logits, out=terms)
    logp = terms.sum(axis=-1)
    t = exp_minus_abs(logits)
    logp -= n * sum_log1p(t)
    if n != 1:
        logp += log_binomial_coefficient(x, n)

    def pull(dlogp):
        right = (logits > 0).astype(t.dtype)
        dlogits = np.maximum(t, right)
        dlogits /= 1 + t  # sigmoid(l)
        if n != 1:
            dlogits *= n
        np.subtract(x, dlogits, out=dlogits)
        dlogits *= np.asarray(dlogp)[..., None]
        return dlogits

    return logp, pull


def poisson_logpmf(x: np.ndarray, log_rate: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Log probability of counts x = 0, 1, 2, …, from log rates l.

    log p(x|l) = Σ_d x_d l_d − e^l_d − log x_d!;   ∂ log p/∂l = x − e^l

    Parameters
    ----------
    x : (B, D) array
    log_rate : (..., B, D) array

    Returns
    -------
    logp : (..., B) array
    pull : callable
        `pull(dlogp) -> dlog_rate`.

    Examples
    --------
    >>> logp, pull = poisson_logpmf(np.array([[2.0]]), np.log([[3.0]]))
    >>> np.exp(logp), pull([1.0])             # 3² e^−3 / 2!, and 2 − 3
    (array([0.22404181]), array([[-1.]]))
    """
    rate = np.exp(log_rate)
    logp = (x * log_rate - rate).sum(axis=-1)
    logp -= log_factorial(x).sum(axis=-1).astype(logp.real.dtype)

    def pull(dlogp):
        return np.asarray(dlogp)[..., None] * (x - rate)

    return logp, pull
