"""Draws from a q and their importance weights: log w = log p_θ(x, z) − log q(z|x).

The mean of log w over z ~ q is the ELBO of Eq. (7); the log of the mean of w is the
importance-weighted bound (Burda et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..core.distributions import reparameterize
from ..core.vae import VAE

__all__ = ["Weights", "sampled_kl", "weigh"]


def sampled_kl(z: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Return log q_φ(z|x) − log p(z) at z = μ + σ ε; its mean under q is the KL, Eq. (21).

    log q_φ(z|x) − log p(z) = ½ Σ_j (z_j² − ε_j² − log σ_j²),  since (z − μ)/σ = ε

    If σ is much smaller than μ, rounding errors make the difference z − μ inaccurate; ε is exact.
    For fixed ε, log q depends on φ only through −½ Σ log σ².

    Parameters
    ----------
    z : (L, B, J) array
    logvar : (B, J) array
    eps : (L, B, J) array
        The noise from which `reparameterize` computed z.

    Returns
    -------
    log_ratio : (L, B) array
        Nats.
    pull : callable
        `pull(dlog_ratio) -> (dz, dlogvar)`.

    Examples
    --------
    >>> eps = np.array([[[1.0]]])
    >>> log_ratio, pull = sampled_kl(0.5 + eps, np.zeros((1, 1)), eps)
    >>> log_ratio, pull(np.ones((1, 1)))[0]        # ½ (1.5² − 1²), and z
    (array([[0.625]]), array([[[1.5]]]))
    """
    log_ratio = 0.5 * (z * z - eps * eps - logvar).sum(axis=-1)

    def pull(dlog_ratio):
        dlogvar = np.broadcast_to(-0.5 * dlog_ratio.sum(axis=0)[:, None], logvar.shape)
        return dlog_ratio[..., None] * z, dlogvar

    return log_ratio, pull


class Weights(NamedTuple):
    """The result of `weigh`: draws z from q and their log importance weights, Eq. (7).

    Attributes
    ----------
    log_w : (L, B) array
        log w = log p_θ(x, z) − log q(z|x), nats.
    z : (L, B, J) array
    log_px : (L, B) array
        log p_θ(x|z).
    pull_z, pull_decoder : callable
        The pullbacks of `reparameterize` and of `VAE.log_likelihood`.

    Examples
    --------
    >>> vae, zeros = VAE(data_dim=4, latent_dim=2, hidden=(3,)), np.zeros((1, 2))
    >>> weigh(vae, np.ones((1, 4)), zeros, zeros, np.zeros((5, 1, 2))).log_w.shape
    (5, 1)
    """

    log_w: np.ndarray
    z: np.ndarray
    log_px: np.ndarray
    pull_z: Callable
    pull_decoder: Callable


def weigh(vae: VAE, x: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> Weights:
    """Return z = μ + σ ε for any q, and log w = log p_θ(x|z) + log p(z) − log q(z|x).

    The mean of log w is the ELBO of Eq. (7); the log of the mean of w is the importance-weighted
    bound (Burda et al. 2015). The arguments are not checked.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    mu, logvar : (B, J) array
        The parameters of q.
    eps : (L, B, J) array
        Standard normal noise.

    Returns
    -------
    weights : Weights

    Examples
    --------
    >>> vae, zeros = VAE(data_dim=4, latent_dim=2, hidden=(3,)), np.zeros((1, 2))
    >>> weights = weigh(vae, np.ones((1, 4)), zeros, zeros, np.ones((5, 1, 2)))
    >>> bool((weights.log_w == weights.log_px).all())        # q is the prior
    True
    """
    z, pull_z = reparameterize(mu, logvar, eps)
    log_px, pull_decoder = vae.log_likelihood(x, z)
    log_ratio, _ = sampled_kl(z, logvar, eps)  # log q(z|x) − log p(z)
    return Weights(log_px - log_ratio, z, log_px, pull_z, pull_decoder)
