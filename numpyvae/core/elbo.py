"""The evidence lower bound: value and gradient. The file to read.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → ELBO

and the gradient comes back through the same lines in reverse order. Two forms of one number:

    ELBO = E_q[log p_θ(x, z)] − E_q[log q_φ(z|x)]              Eq. (7)
         = E_q[log p_θ(x|z)] − KL(q_φ(z|x) ‖ p(z))             Eq. (11)

The expectation over q is an average over L samples z = μ + σ ε. With the KL of Eq. (11) in closed
form that is estimator B of Kingma & Welling 2013, §2.3; with every term sampled, as in Eq. (7),
it is their estimator A. Both are unbiased; B has less noise as a rule.

Symbols: x (B, D), ε (L, B, J), μ and log σ² (B, J), z (L, B, J). Unit: nats per datapoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..support.checks import check_choice, check_count, check_data, check_seed, check_vae
from .distributions import gaussian_kl, gaussian_logpdf, reparameterize, sampled_kl

if TYPE_CHECKING:
    from .parameters import Parameters
    from .vae import VAE

__all__ = [
    "Terms",
    "elbo",
    "elbo_and_grad",
    "elbo_terms",
    "log_joint",
    "mean_terms",
    "sampled_elbo",
]


class Terms(NamedTuple):
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

    reconstruction: np.ndarray | float
    kl: np.ndarray | float

    @property
    def elbo(self):
        """ELBO = reconstruction − KL, Eq. (11)."""
        return self.reconstruction - self.kl


def log_joint(vae: VAE, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Log joint density log p_θ(x, z) = log p_θ(x|z) + log p(z), Eq. (1).

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    z : (L, B, J) array

    Returns
    -------
    log_p : (L, B) array
        Nats.

    Raises
    ------
    TypeError, ValueError
        If `x` or `z` is not what the model can take.

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, eps = np.array([[0, 1, 1, 0], [1, 1, 0, 0]]), np.zeros((5, 2, 2))
    >>> log_joint(vae, x, eps).shape                # z = 0
    (5, 2)
    """
    check_vae(vae)
    if np.iscomplexobj(z):  # the complex step in z
        return _log_joint(vae, x, z)
    return _log_joint(vae, *vae.check_batch(x, z, "z"))


def _log_joint(vae: VAE, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Eq. (1) on clean arrays."""
    log_px, _ = vae.log_likelihood(x, z)
    log_pz, _ = gaussian_logpdf(z, *standard_normal(z))
    return log_px + log_pz


def sampled_elbo(vae: VAE, x: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """ELBO as the mean of log p_θ(x, z) − log q_φ(z|x) over samples of z, Eq. (7).

    Nothing is taken in closed form, which makes it the independent check on `elbo`. It is
    estimator A of Kingma & Welling 2013, §2.3.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    eps : (L, B, J) array
        Standard normal noise.

    Returns
    -------
    elbo : (B,) array
        Nats per datapoint.

    Raises
    ------
    TypeError, ValueError
        If `x` or `eps` is not what the model can take.

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, eps = np.array([[0, 1, 1, 0], [1, 1, 0, 0]]), np.zeros((5, 2, 2))
    >>> sampled_elbo(vae, x, eps).shape
    (2,)
    """
    check_vae(vae)
    x, eps = vae.check_batch(x, eps)
    (mu, logvar), _ = vae.encoder(x)
    z, _ = reparameterize(mu, logvar, eps)
    deviation = np.exp(0.5 * logvar) * eps  # z − μ, whose digits z has not kept if μ is large
    log_q, _ = gaussian_logpdf(deviation, np.zeros_like(mu), logvar)
    return (_log_joint(vae, x, z) - log_q).mean(axis=0)


def elbo_terms(vae: VAE, x: np.ndarray, eps: np.ndarray) -> Terms:
    """Reconstruction E_q[log p_θ(x|z)] and KL(q_φ(z|x) ‖ p(z)), the two terms of Eq. (11).

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    eps : (L, B, J) array
        Standard normal noise.

    Returns
    -------
    reconstruction, kl : (B,) arrays
        Nats per datapoint.

    Raises
    ------
    TypeError, ValueError
        If `x` or `eps` is not what the model can take.

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, eps = np.array([[0, 1, 1, 0], [1, 1, 0, 0]]), np.zeros((5, 2, 2))
    >>> reconstruction, kl = elbo_terms(vae, x, eps)
    >>> reconstruction.shape, bool((kl >= 0).all())
    ((2,), True)
    """
    check_vae(vae)
    return _terms(vae, *vae.check_batch(x, eps))


def _terms(vae: VAE, x: np.ndarray, eps: np.ndarray) -> Terms:
    """Both terms of Eq. (11) on clean arrays."""
    (mu, logvar), _ = vae.encoder(x)
    z, _ = reparameterize(mu, logvar, eps)
    log_px, _ = vae.log_likelihood(x, z)
    kl, _ = gaussian_kl(mu, logvar)
    return Terms(log_px.mean(axis=0), kl)


def elbo(vae: VAE, x: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """Evidence lower bound of each datapoint, Eq. (11): E_q[log p_θ(x|z)] − KL(q_φ ‖ p).

    A bound in expectation over `eps`: a single draw can exceed log p(x). With the KL in closed
    form it is estimator B of Kingma & Welling 2013, §2.3.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    eps : (L, B, J) array
        Standard normal noise.

    Returns
    -------
    elbo : (B,) array
        Nats per datapoint.

    Raises
    ------
    TypeError, ValueError
        If `x` or `eps` is not what the model can take.

    Examples
    --------
    >>> import numpy as np, numpyvae
    >>> vae = numpyvae.VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x = np.array([[0, 1, 1, 0], [1, 1, 0, 0]])
    >>> numpyvae.elbo(vae, x, np.zeros((1, 2, 2))).shape
    (2,)
    """
    return elbo_terms(vae, x, eps).elbo


def elbo_and_grad(
    vae: VAE, x: np.ndarray, eps: np.ndarray, *, kl: str = "closed"
) -> tuple[float, np.ndarray]:
    """Mean ELBO of a batch, and its gradient in every parameter.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    eps : (L, B, J) array
        Standard normal noise; for given `eps` the ELBO is a deterministic function.
    kl : {"closed", "sampled"}
        Eq. (11) with the closed-form KL (estimator B), or Eq. (7) with all terms sampled
        (estimator A).

    Returns
    -------
    value : float
        Nats per datapoint, averaged over the batch.
    gradient : (P,) array
        ∂value/∂(φ, θ), laid out as `vae.parameters.flat`. Ascend it.

    Raises
    ------
    TypeError, ValueError
        If `x` or `eps` is not what the model can take.

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, eps = np.array([[0, 1, 1, 0], [1, 1, 0, 0]]), np.zeros((5, 2, 2))
    >>> value, gradient = elbo_and_grad(vae, x, eps)
    >>> gradient.shape == vae.parameters.flat.shape
    True
    """
    check_vae(vae)
    x, eps = vae.check_batch(x, eps)
    terms, gradient = terms_and_grad(vae, x, eps, check_choice("kl", kl, tuple(_KL)))
    return float(terms.elbo), gradient.flat


def terms_and_grad(
    vae: VAE, x: np.ndarray, eps: np.ndarray, kl: str = "closed", wrt: str = "both"
) -> tuple[Terms, Parameters]:
    """Batch means of the two terms of Eq. (11), and the gradient of the ELBO; unchecked input.

    `wrt` is "both", "phi" or "theta": only that slice of the gradient is computed, the other
    is zero (notes, §3.6).
    """
    (mu, logvar), pull_encoder = vae.encoder(x)
    terms, pull = terms_given_q(vae, x, mu, logvar, eps, kl)
    gradient = vae.parameters.room_for_gradient(wrt)
    if wrt == "theta":
        pull(gradient, into_q=False)
    else:
        pull_encoder(*pull(gradient if wrt == "both" else None), gradient)
    return terms, gradient


def terms_given_q(
    vae: VAE,
    x: np.ndarray,
    mu: np.ndarray,
    logvar: np.ndarray,
    eps: np.ndarray,
    kl: str = "closed",
    weights: np.ndarray | None = None,
) -> tuple[Terms, Callable]:
    """Batch means of the two terms of Eq. (11) for any q = N(μ, σ²), and their pullback.

    The encoder gives one such q for each x; variational inference per datapoint has others. With
    the nodes and `weights` (L,) of a quadrature rule for N(0, I) as `eps`, the expectation under
    q is that rule's; by default the L samples count equally.

    Returns
    -------
    terms : Terms
        Two floats.
    pull : callable
        `pull(gradient=None, into_q=True) -> (dmu, dlogvar)`; with a gradient given, that in θ
        is written into it; without `into_q` the rest is left out.
    """
    z, pull_z = reparameterize(mu, logvar, eps)
    log_px, pull_decoder = vae.log_likelihood(x, z)
    kl_term, pull_kl = _KL[kl](z, mu, logvar, eps)
    px_shares, kl_shares = _shares(log_px, weights), _shares(kl_term, weights)

    def pull(gradient=None, into_q=True):
        dz = pull_decoder(px_shares, gradient, input_gradient=into_q)
        if not into_q:
            return None
        dz_kl, dmu_kl, dlogvar_kl = pull_kl(-kl_shares)
        dmu, dlogvar = pull_z(dz + dz_kl)
        return dmu + dmu_kl, dlogvar + dlogvar_kl

    return Terms(float(np.vdot(px_shares, log_px)), float(np.vdot(kl_shares, kl_term))), pull


def _shares(term: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Share of each entry of a term, (L, B) or (B,), in its mean over samples and rows."""
    if weights is None or term.ndim == 1:
        return np.full(term.shape, 1 / term.size, term.dtype)
    return np.repeat(weights[:, None] / term.shape[1], term.shape[1], axis=1).astype(term.dtype)


def _closed_kl(z, mu, logvar, eps) -> tuple[np.ndarray, Callable]:
    """KL(q ‖ p) of Eq. (11) by `gaussian_kl`, (B,): no sample plays a part in it."""
    kl, pull_kl = gaussian_kl(mu, logvar)
    return kl, lambda dkl: (0, *pull_kl(dkl))


def _sampled_kl(z, mu, logvar, eps) -> tuple[np.ndarray, Callable]:
    """log q_φ(z|x) − log p(z) by `sampled_kl`, (L, B): μ acts through z alone."""
    log_ratio, pull_ratio = sampled_kl(z, logvar, eps)

    def pull(dkl):
        dz, dlogvar = pull_ratio(dkl)
        return dz, 0, dlogvar

    return log_ratio, pull


def mean_terms(vae: VAE, x: np.ndarray, *, n_samples: int = 1, seed: int = 0) -> Terms:
    """Average the two terms of Eq. (11) over a data set, in blocks of rows.

    The noise depends on `seed` alone, so two models are compared under the same draws.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    n_samples : int
        L, draws of z per datapoint.
    seed : int

    Returns
    -------
    reconstruction, kl : float
        Nats per datapoint.

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not what the model can take.

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> terms = mean_terms(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], n_samples=100)
    >>> terms.elbo == terms.reconstruction - terms.kl
    True
    """
    x = check_data(vae, x)
    n_samples = check_count("n_samples", n_samples)
    rng = np.random.default_rng(np.random.SeedSequence([check_seed(seed), _EVALUATION]))
    totals = np.zeros(2)
    for start in range(0, x.shape[0], _ROWS):
        block = x[start : start + _ROWS]
        eps = rng.standard_normal((n_samples, len(block), vae.latent_dim), vae.dtype)
        terms = _terms(vae, np.asarray(block, vae.dtype), eps)
        totals += [term.sum(dtype=float) for term in terms]
    return Terms(*map(float, totals / x.shape[0]))


_EVALUATION, _ROWS = 201, 500  # purpose of the random stream; rows in a block
_KL = {"closed": _closed_kl, "sampled": _sampled_kl}


def standard_normal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """μ = 0 and log σ² = 0: the parameters of the prior p(z) = N(0, I), in the dtype of z."""
    zeros = np.zeros(z.shape[-1], z.real.dtype)
    return zeros, zeros
