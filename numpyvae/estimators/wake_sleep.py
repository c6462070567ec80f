"""Wake-sleep (Hinton, Dayan, Frey & Neal 1995): two objectives in place of one bound.

Kingma & Welling 2013 compare AEVB with it in Figures 2 and 3. Each step has two phases:

    wake    θ ascends E_{q_φ(z|x)}[log p_θ(x, z)]       for x of the data, z from the encoder
    sleep   φ ascends E_{p_θ(x, z)}[log q_φ(z|x)]       for *dreams*: z ~ p(z), x ~ p_θ(x|z)

The wake phase is the gradient of the ELBO in θ, since the entropy of q does not depend on θ. The
sleep phase is not its gradient in φ. Up to a constant in φ its objective is

    E_{p_θ(x, z)}[log q_φ(z|x)] = −E_{p_θ(x)} KL(p_θ(z|x) ‖ q_φ(z|x)) + constant

Two things differ from Eq. (5), KL(q_φ(z|x) ‖ p_θ(z|x)) on the data: the divergence has its
arguments in the other order, and the mean is over x that the model generates. Both have the same
optimum if the family of q contains the posterior. If it does not, the sleep phase makes q as wide
as the posterior, and the ELBO is not at its maximum. It needs no reparameterization, so z could be
discrete, and no gradient passes through z or through the dreams.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.distributions import gaussian_kl, gaussian_logpdf, reparameterize
from ..core.elbo import Estimate, Estimator
from ..core.parameters import Parameters
from ..core.vae import VAE
from ..support.streams import Purpose, row_streams

__all__ = ["WakeSleep", "dream", "dream_log_q"]


def dream(vae: VAE, eps: np.ndarray) -> np.ndarray:
    """Draw x ~ p_θ(x|z) for z = ε ~ p(z) (Hinton et al. 1995).

    The stream of the draws is identified by the values of ε, so that the dreams are a function of
    ε and θ: an epoch that is repeated has the same dreams.

    Parameters
    ----------
    vae : VAE
    eps : (L, B, J) array
        Standard normal noise, in the dtype of the model.

    Returns
    -------
    x : (L, B, D) array
        NaN if the distribution of x has no finite parameters.

    Examples
    --------
    >>> vae, eps = VAE(data_dim=4, latent_dim=2, hidden=(3,), dtype="float64"), np.ones((5, 1, 2))
    >>> x = dream(vae, eps)
    >>> x.shape, bool((x == dream(vae, eps)).all())
    ((5, 1, 4), True)
    """
    out, _ = vae.decoder(eps)
    rng = row_streams(0, Purpose.DREAMS, eps.reshape(1, -1))[0]
    try:
        return vae.likelihood.draw(out, vae.parameters, rng).astype(vae.dtype, copy=False)
    except ValueError:  # NumPy draws no counts with a rate of NaN; `fit` reports NaN
        return np.full((*out.shape[:-1], vae.data_dim), np.nan, vae.dtype)


def dream_log_q(vae: VAE, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Log density log q_φ(z|x) of latents that are given, and its pullback to φ.

    Its mean over dreams is the objective of the sleep phase (Hinton et al. 1995).

    Parameters
    ----------
    vae : VAE
    x : (R, D) array
    z : (R, J) array

    Returns
    -------
    log_q : (R,) array
        Nats.
    pull : callable
        `pull(dlog_q, gradient)` writes the gradient in φ. x and z are constants.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,), dtype="float64")
    >>> log_q, pull = dream_log_q(vae, np.eye(4), np.zeros((4, 2)))
    >>> log_q.shape
    (4,)
    """
    (mu, logvar), pull_encoder = vae.encoder(x)
    log_q, pull_log_q = gaussian_logpdf(z, mu, logvar)

    def pull(dlog_q: np.ndarray, gradient: Parameters) -> None:
        _, dmu, dlogvar = pull_log_q(dlog_q)
        pull_encoder(dmu, dlogvar, gradient)

    return log_q, pull


@dataclass(frozen=True)
class WakeSleep(Estimator):
    """Wake-sleep (Hinton et al. 1995; Kingma & Welling 2013, Figures 2 and 3).

    The slices of the gradient have different objectives, see `numpyvae.estimators.wake_sleep`. The
    value that it reports is that of Eq. (11), an unbiased estimate of the ELBO, so that a history
    compares with those of other estimators; φ does not ascend it. With `update="theta"` a step is
    the wake phase alone, with "phi" the sleep phase alone. Half of the draws of ε are for z from
    the encoder, the other half for the dreams.

    Parameters
    ----------
    n_samples : int
        L, the number of draws of z, and of dreams, for each datapoint.

    Raises
    ------
    TypeError, ValueError
        If `n_samples` is not a whole number above 0.

    Examples
    --------
    >>> estimator, vae = WakeSleep(), VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> eps = np.random.default_rng(0).standard_normal((estimator.n_draws, 1, 2))
    >>> estimator(vae, [[0, 1, 1, 0]], eps).gradient.flat.shape == vae.parameters.flat.shape
    True
    """

    @property
    def n_draws(self) -> int:
        """2 L, the number of draws of ε for each datapoint: L for each phase."""
        return 2 * self.n_samples

    def __call__(self, vae: VAE, x: Any, eps: Any, update: str = "both") -> Estimate:
        if np.ndim(eps) == 3 and len(eps) % 2:
            raise ValueError(
                f"eps: expected 2 L draws for each datapoint, one half for each phase, got "
                f"{len(eps)}; draw one more"
            )
        return super().__call__(vae, x, eps, update)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        gradient = vae.parameters.empty_gradient(update)
        eps_wake, eps_sleep = np.split(eps, 2)  # (2 L, B, J) → 2 × (L, B, J)

        # Wake: ∂_θ E_q[log p_θ(x, z)] = E_q[∂_θ log p_θ(x|z)]; z is a constant
        (mu, logvar), _ = vae.encoder(x)
        z, _ = reparameterize(mu, logvar, eps_wake)
        log_px, pull_log_px = vae.log_likelihood(x, z)
        if update != "phi":
            pull_log_px(_shares(log_px), gradient, input_gradient=False)

        # Sleep: E_p[∂_φ log q_φ(z|x)], for z ~ p(z) and x ~ p_θ(x|z)
        if update != "theta":
            x_dream = dream(vae, eps_sleep).reshape(-1, vae.data_dim)  # (L, B, D) → (L·B, D)
            z_dream = eps_sleep.reshape(-1, vae.latent_dim)  # (L, B, J) → (L·B, J)
            log_q, pull_log_q = dream_log_q(vae, x_dream, z_dream)
            pull_log_q(_shares(log_q), gradient)

        reconstruction, kl = float(log_px.mean()), float(gaussian_kl(mu, logvar)[0].mean())
        return Estimate(reconstruction - kl, reconstruction, kl, gradient)


def _shares(values: np.ndarray) -> np.ndarray:
    """Return the derivative of the mean of `values`, in their dtype."""
    return np.full(values.shape, 1 / values.size, values.dtype)
