"""The evidence lower bound: value and gradient.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → ELBO

and the gradient comes back through the same lines in reverse order. Two forms of one number:

    ELBO = E_q[log p_θ(x, z)] − E_q[log q_φ(z|x)]              Eq. (7)
         = E_q[log p_θ(x|z)] − KL(q_φ(z|x) ‖ p(z))             Eq. (11)

E_q is estimated by the mean over L samples z = μ + σ ε. Eq. (7) samples every term, Eq. (11) has
the KL in closed form, which usually reduces the variance; both are unbiased. The ELBO is a bound
in expectation over ε: a single draw can exceed log p(x).

The functions share these arguments, work in the dtype of the model, and return nats per
datapoint. `evidence_lower_bound` and `estimate` check nothing; the others raise TypeError or
ValueError if an argument is not what the model can take.

- `vae : VAE`
- `x : (B, D) array_like`
- `eps : (L, B, J) array_like`, standard normal noise
- `z : (L, B, J) array_like`, in place of noise
- `update : {"both", "phi", "theta"}`, the slice of the gradient that is computed (notes, §3.6)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..support.checks import check_batch, check_choice, check_count
from .distributions import gaussian_kl, gaussian_logpdf, log_prior, reparameterize
from .parameters import Parameters
from .vae import VAE

__all__ = [
    "Estimate",
    "Estimator",
    "Terms",
    "elbo",
    "elbo_and_grad",
    "elbo_terms",
    "evidence_lower_bound",
    "log_joint",
    "sampled_elbo",
]


Nats = TypeVar("Nats", float, np.ndarray)


class Terms(NamedTuple, Generic[Nats]):
    """The two terms of Eq. (11), in nats; their difference is the ELBO.

    Attributes
    ----------
    reconstruction : float or (B,) array
        E_q[log p_θ(x|z)].
    kl : float or (B,) array
        KL(q_φ(z|x) ‖ p(z)).

    Examples
    --------
    >>> Terms(reconstruction=-20.0, kl=5.0).elbo
    -25.0
    """

    reconstruction: Nats
    kl: Nats

    @property
    def elbo(self) -> Nats:
        """ELBO = reconstruction − KL, Eq. (11)."""
        return self.reconstruction - self.kl


def evidence_lower_bound(vae: VAE, x: np.ndarray, eps: np.ndarray) -> tuple[Terms, Callable]:
    """The ELBO of each datapoint, Eq. (11), and its pullback: estimator B of K&W 2013.

    Returns
    -------
    terms : Terms
        Two (B,) arrays.
    pull : callable
        `pull(delbo, update="both") -> gradient`: delbo is (B,), gradient is a `Parameters`.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,), dtype="float64")
    >>> terms, pull = evidence_lower_bound(vae, np.eye(4), np.zeros((1, 4, 2)))
    >>> terms.elbo.shape, pull(np.ones(4)).flat.shape == vae.parameters.flat.shape
    ((4,), True)
    """
    (mu, logvar), pull_encoder = vae.encoder(x)
    z, pull_z = reparameterize(mu, logvar, eps)  # z = μ + σ ε
    log_px, pull_log_px = vae.log_likelihood(x, z)
    kl, pull_kl = gaussian_kl(mu, logvar)

    # ELBO = E_q[log p_θ(x|z)] − KL(q_φ(z|x) ‖ p(z)), Eq. (11)
    terms = Terms(log_px.sum(axis=0) / len(eps), kl)

    def pull(delbo: np.ndarray, update: str = "both") -> Parameters:
        gradient = vae.parameters.empty_gradient(update)
        dlog_px = np.full(log_px.shape, delbo / len(eps))  # (B,) → (L, B)
        dmu_kl, dlogvar_kl = pull_kl(-delbo)
        into_theta = gradient if update != "phi" else None
        dz = pull_log_px(dlog_px, into_theta, input_gradient=update != "theta")
        if update != "theta":
            dmu, dlogvar = pull_z(dz)
            pull_encoder(dmu + dmu_kl, dlogvar + dlogvar_kl, gradient)
        return gradient

    return terms, pull


def elbo(vae: VAE, x: Any, eps: Any) -> np.ndarray:
    """Evidence lower bound of each datapoint, Eq. (11): E_q[log p_θ(x|z)] − KL(q_φ ‖ p).

    Estimator B of K&W 2013, §2.3.

    Returns
    -------
    elbo : (B,) array

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> elbo(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], np.zeros((1, 2, 2))).shape
    (2,)
    """
    return elbo_terms(vae, x, eps).elbo


def elbo_terms(vae: VAE, x: Any, eps: Any) -> Terms[np.ndarray]:
    """Reconstruction E_q[log p_θ(x|z)] and KL(q_φ(z|x) ‖ p(z)), the two terms of Eq. (11).

    Returns
    -------
    reconstruction, kl : (B,) arrays

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> reconstruction, kl = elbo_terms(vae, [[0, 1, 1, 0]], np.zeros((5, 1, 2)))
    >>> reconstruction.shape, bool((kl >= 0).all())
    ((1,), True)
    """
    return evidence_lower_bound(vae, *check_batch(vae, x, eps))[0]


def elbo_and_grad(vae: VAE, x: Any, eps: Any) -> tuple[float, np.ndarray]:
    """Mean ELBO of a batch, Eq. (11), and its gradient in every parameter.

    Returns
    -------
    value : float
        Averaged over the batch.
    gradient : (P,) array
        ∂value/∂(φ, θ), laid out as `vae.parameters.flat`.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> value, gradient = elbo_and_grad(vae, [[0, 1, 1, 0]], np.zeros((5, 1, 2)))
    >>> gradient.shape == vae.parameters.flat.shape
    True
    """
    x, eps = check_batch(vae, x, eps)
    terms, pull = evidence_lower_bound(vae, x, eps)
    shares = np.full(len(x), 1 / len(x), vae.dtype)  # of each datapoint in the mean
    return float(shares @ terms.elbo), pull(shares).flat


def log_joint(vae: VAE, x: Any, z: Any) -> np.ndarray:
    """Log joint density log p_θ(x, z) = log p_θ(x|z) + log p(z), Eq. (1).

    Returns
    -------
    log_p : (L, B) array

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> log_joint(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], np.zeros((5, 2, 2))).shape
    (5, 2)
    """
    x, z = check_batch(vae, x, z, "z")
    log_px, _ = vae.log_likelihood(x, z)
    log_pz, _ = log_prior(z)
    return log_px + log_pz


def sampled_elbo(vae: VAE, x: Any, eps: Any) -> np.ndarray:
    """ELBO as the mean of log p_θ(x, z) − log q_φ(z|x) over samples of z, Eq. (7).

    Estimator A of Kingma & Welling 2013, §2.3: no term is in closed form. It equals `elbo`
    only in expectation.

    Returns
    -------
    elbo : (B,) array

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> sampled_elbo(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], np.zeros((5, 2, 2))).shape
    (2,)
    """
    x, eps = check_batch(vae, x, eps)
    (mu, logvar), _ = vae.encoder(x)
    z, _ = reparameterize(mu, logvar, eps)
    log_px, _ = vae.log_likelihood(x, z)
    log_pz, _ = log_prior(z)
    deviation = np.exp(0.5 * logvar) * eps  # z − μ; that difference loses digits where μ is large
    log_q, _ = gaussian_logpdf(deviation, np.zeros_like(mu), logvar)
    return (log_px + log_pz - log_q).mean(axis=0)


class Estimate(NamedTuple):
    """One estimate of an objective, averaged over the batch.

    Attributes
    ----------
    objective : float
        What the gradient ascends: the ELBO, or a subclass's objective.
    reconstruction, kl : float
        The two terms of Eq. (11), whatever the objective is: their difference is an unbiased
        estimate of the ELBO.
    gradient : Parameters
        Estimate of ∂objective/∂(φ, θ).

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> estimate = Estimator()(vae, [[0, 1, 1, 0]], np.zeros((1, 1, 2)))
    >>> estimate.elbo == estimate.reconstruction - estimate.kl
    True
    """

    objective: float
    reconstruction: float
    kl: float
    gradient: Parameters

    @property
    def elbo(self) -> float:
        """ELBO = reconstruction − KL, Eq. (11)."""
        return self.reconstruction - self.kl


@dataclass(frozen=True)
class Estimator:
    """A rule that turns noise into an objective and its gradient. This one is Eq. (11).

    For another, inherit in a frozen dataclass, with its settings as fields, and override
    `estimate`.

    Parameters
    ----------
    n_samples : int
        L, the number of terms averaged for each datapoint.

    Raises
    ------
    TypeError, ValueError
        If a setting is not a number in its range.

    Examples
    --------
    >>> Estimator(n_samples=3).n_draws
    3
    """

    n_samples: int = field(default=1, kw_only=True)
    n_importance = 1  # K, the number of draws inside one logarithm

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_samples", check_count("n_samples", self.n_samples))

    @property
    def n_draws(self) -> int:
        """L·K, the number of draws of z for each datapoint: the first axis of `eps`."""
        return self.n_samples * self.n_importance

    def at(self, epochs: float) -> Estimator:
        """Return the estimator to use after `epochs` epochs; a warm-up overrides this."""
        return self

    def __call__(self, vae: VAE, x: Any, eps: Any, update: str = "both") -> Estimate:
        """Estimate for one batch. K consecutive draws of `eps` (L·K, B, J) share a logarithm."""
        x, eps = check_batch(vae, x, eps, K=self.n_importance)
        check_choice("update", update, ("both", "phi", "theta"))
        return self.estimate(vae, x, eps, update)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        """Do the work without checks, as `fit` calls it, on arrays of the model's dtype."""
        terms, pull = evidence_lower_bound(vae, x, eps)
        shares = np.full(len(x), 1 / len(x), vae.dtype)
        reconstruction, kl = (float(shares @ term) for term in terms)
        return Estimate(reconstruction - kl, reconstruction, kl, pull(shares, update))
