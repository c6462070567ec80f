"""Full variational Bayes: a q over the decoder's parameters too (K&W 2013, appendix F).

θ has a prior p(θ) = N(0, v I), and an approximate posterior q(θ) = N(μ_θ, diag σ_θ²), beside the
q_φ(z|x) of each datapoint. For N datapoints, in nats per datapoint,

    (1/N) log p(X) ≥ E_{q(θ)}[(1/N) Σ_n ELBO_n(φ, θ)] − (1/N) KL(q(θ) ‖ p(θ))

since each log p_θ(x_n) is at least ELBO_n, Eq. (10). The KL is divided by the size of the *data
set*: a minibatch estimates the first term, and the second is the same for all minibatches. Both
expectations are reparameterized, z = μ + σ ε and θ = μ_θ + σ_θ ζ, and both KLs are in closed
form.

Symbols: ζ (S, P_θ), S draws of θ, which all rows of a minibatch share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..core.distributions import gaussian_kl, reparameterize
from ..core.elbo import evidence_lower_bound
from ..core.vae import VAE
from ..support.streams import Purpose, Seed, generator

__all__ = ["FullBound", "FullGradient", "WeightPosterior", "full_bound", "weight_kl"]


class WeightPosterior(NamedTuple):
    """A Gaussian over the decoder's parameters, q(θ) = N(μ, diag σ²) (K&W 2013, appendix F).

    Attributes
    ----------
    mu, logvar : (P_θ,) arrays
        μ and log σ², laid out as `vae.parameters.theta`.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=1, hidden=(3,))
    >>> q = WeightPosterior(vae.parameters.theta.copy(), np.full(vae.parameters.theta.size, -8.0))
    >>> a, b = q.draw(vae, 2)
    >>> bool((a.parameters.phi == b.parameters.phi).all()), bool((a.decode([[0]]) == 0.5).any())
    (True, False)
    """

    mu: np.ndarray
    logvar: np.ndarray

    def draw(self, vae: VAE, n: int, seed: Seed = 0) -> list[VAE]:
        """Return models with the encoder of `vae`, and with decoders drawn from q(θ).

        Parameters
        ----------
        vae : VAE
        n : int
        seed : int, numpy.random.Generator or None

        Returns
        -------
        models : list of n VAE
        """
        shape = n, 1, self.mu.size
        zeta = generator(seed, Purpose.WEIGHT_SAMPLE).standard_normal(shape, vae.dtype)
        theta, _ = reparameterize(self.mu[None], self.logvar[None], zeta)
        return [_with_theta(vae, row) for row in theta[:, 0]]


class FullBound(NamedTuple):
    """The three terms of the bound of appendix F, in nats per datapoint.

    Attributes
    ----------
    reconstruction, kl : float
        The terms of Eq. (11), averaged over the minibatch and over draws of θ.
    kl_theta : float
        (1/N) KL(q(θ) ‖ p(θ)).

    Examples
    --------
    >>> FullBound(reconstruction=-20.0, kl=5.0, kl_theta=0.5).value
    -25.5
    """

    reconstruction: float
    kl: float
    kl_theta: float

    @property
    def value(self) -> float:
        """The bound: reconstruction − kl − kl_theta."""
        return self.reconstruction - self.kl - self.kl_theta


class FullGradient(NamedTuple):
    """The gradient of the bound of appendix F (Kingma & Welling 2013).

    Attributes
    ----------
    phi : (P_φ,) array
    mu, logvar : (P_θ,) arrays
        In the parameters of q(θ).

    Examples
    --------
    >>> FullGradient(np.zeros(2), np.ones(1), np.ones(1)).flat
    array([0., 0., 1., 1.])
    """

    phi: np.ndarray
    mu: np.ndarray
    logvar: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """One vector: φ, μ_θ and log σ_θ²."""
        return np.concatenate(self)


def weight_kl(
    mu: np.ndarray, logvar: np.ndarray, variance: float = 1.0
) -> tuple[np.ndarray, Callable]:
    """Kullback–Leibler divergence from q(θ) to the prior of the weights, in closed form.

    KL(N(μ, σ²) ‖ N(0, v)) = ½ Σ_i (μ_i²/v + σ_i²/v − 1 − log (σ_i²/v))

    that is, the KL of θ/√v to N(0, I): a KL does not depend on the unit of θ.

    Parameters
    ----------
    mu, logvar : (P_θ,) array
    variance : float
        The variance v of the prior.

    Returns
    -------
    kl : () array
        Nats, for all parameters together.
    pull : callable
        `pull(dkl) -> (dmu, dlogvar)`.

    Examples
    --------
    >>> kl, pull = weight_kl(np.array([2.0]), np.log([4.0]), 4.0)
    >>> kl, pull(1.0)[0]                      # ½ μ²/v, and μ/v
    (np.float64(0.5), array([0.5]))
    """
    scale = math.sqrt(variance)
    kl, pull_kl = gaussian_kl(mu / scale, logvar - math.log(variance))

    def pull(dkl: float) -> tuple[np.ndarray, np.ndarray]:
        dmu, dlogvar = pull_kl(logvar.real.dtype.type(dkl))
        return dmu / scale, dlogvar

    return kl, pull


def full_bound(
    vae: VAE,
    q: WeightPosterior,
    x: np.ndarray,
    eps: np.ndarray,
    zeta: np.ndarray,
    n_data: int,
    variance: float = 1.0,
) -> tuple[FullBound, Callable]:
    """The bound of Kingma & Welling 2013, appendix F, and its pullback.

    (1/S B) Σ_s Σ_b ELBO_b(φ, θ_s) − (1/N) KL(q(θ) ‖ p(θ)),  θ_s = μ_θ + σ_θ ζ_s

    Nothing is checked, as in `core.elbo.evidence_lower_bound`.

    Parameters
    ----------
    vae : VAE
        The model, and the encoder's φ; its θ is not used.
    q : WeightPosterior
    x : (B, D) array
    eps : (L, B, J) array
        Noise of z.
    zeta : (S, P_θ) array
        Noise of θ.
    n_data : int
        N, the number of rows of the data set.
    variance : float
        v, of the prior of θ.

    Returns
    -------
    bound : FullBound
    pull : callable
        `pull(update="both") -> FullGradient`; the slice that `update` leaves out is zero.

    Examples
    --------
    >>> vae, x = VAE(data_dim=4, latent_dim=1, hidden=(3,), dtype="float64"), np.eye(4)
    >>> theta = vae.parameters.theta
    >>> q, zeta = WeightPosterior(theta, np.zeros_like(theta)), np.zeros((1, theta.size))
    >>> bound, pull = full_bound(vae, q, x, np.zeros((1, 4, 1)), zeta, n_data=4)
    >>> pull().mu.shape == theta.shape
    True
    """
    S, B = len(zeta), len(x)
    # θ_s = μ_θ + σ_θ ζ_s, as z = μ + σ ε, with one row
    theta, pull_theta = reparameterize(q.mu[None], q.logvar[None], zeta[:, None])
    runs = [evidence_lower_bound(_with_theta(vae, row), x, eps) for row in theta[:, 0]]
    kl, pull_kl = weight_kl(q.mu, q.logvar, variance)
    reconstruction, kl_z = np.mean([[term.mean() for term in terms] for terms, _ in runs], axis=0)
    bound = FullBound(reconstruction, kl_z, float(kl / n_data))

    def pull(update: str = "both") -> FullGradient:
        shares = np.full(B, 1 / (S * B), zeta.dtype)
        gradients = [pull_elbo(shares, update) for _, pull_elbo in runs]
        dphi = sum(gradient.phi for gradient in gradients)
        if update == "phi":
            return FullGradient(dphi, np.zeros_like(q.mu), np.zeros_like(q.logvar))
        dtheta = np.stack([gradient.theta for gradient in gradients])[:, None]  # (S, 1, P_θ)
        dmu, dlogvar = (d[0] for d in pull_theta(dtheta))
        dmu_kl, dlogvar_kl = pull_kl(-1 / n_data)
        return FullGradient(dphi, dmu + dmu_kl, dlogvar + dlogvar_kl)

    return bound, pull


def _with_theta(vae: VAE, theta: np.ndarray) -> VAE:
    """Return the model with another θ."""
    return vae.with_flat(np.concatenate([vae.parameters.phi, theta]))
