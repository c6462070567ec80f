"""SGVB-B: the KL of Eq. (11) in closed form, and its weighted kin.

With KL_bj the divergence of latent j at datapoint b, the weighted objective is

    (1/B) Σ_b E_q[log p_θ(x_b|z)] − β Σ_j max(λ, (1/B) Σ_b KL_bj)

β weighs the KL (Higgins et al. 2017). λ nats of each latent are free (Kingma et al. 2016, each
latent a group of its own): one whose KL, averaged over the minibatch, is below λ feels no pull
towards the prior. β = 1, λ = 0 is the ELBO. For β ≥ 1 the objective is a lower bound on log p(x),
looser than the ELBO; for β < 1 it is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.distributions import gaussian_kl
from ..core.elbo import terms_and_grad
from ..core.vae import VAE
from ..support.checks import check_weight
from .base import Estimate, Estimator, Pass

__all__ = ["SGVBB"]


@dataclass(frozen=True)
class SGVBB(Estimator):
    """Closed-form KL, Eq. (11): estimator B of Kingma & Welling 2013, §2.3. Pathwise, unbiased.

    With `free_bits` the maximum is of a minibatch mean: the gradient is that of the minibatch's
    objective, whose mean over minibatches is not quite the objective of the whole data set.

    Parameters
    ----------
    beta : float
        β ≥ 0. A warm-up changes it step by step: `dataclasses.replace(estimator, beta=…)`.
    free_bits : float
        λ ≥ 0, nats per latent.

    Raises
    ------
    TypeError, ValueError
        If a setting is not a finite number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numpyvae import VAE
    >>> vae, estimator = VAE(data_dim=4, latent_dim=2, hidden=(3,)), SGVBB(beta=0.5)
    >>> eps = np.random.default_rng(0).standard_normal((estimator.draws(), 1, 2))
    >>> estimator(vae, [[0, 1, 1, 0]], eps).gradient.flat.shape == vae.parameters.flat.shape
    True
    """

    beta: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        for name in ("beta", "free_bits"):
            object.__setattr__(self, name, check_weight(name, getattr(self, name)))

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, wrt: str = "both") -> Estimate:
        if self.beta == 1 and self.free_bits == 0:  # the ELBO itself
            terms, gradient = terms_and_grad(vae, x, eps, wrt=wrt)
            return Estimate(terms.elbo, *terms, gradient)
        run = Pass(vae, x, eps)
        # A last axis of length 1 keeps the latents apart: KL_bj, (B, J).
        kl, pull_kl = gaussian_kl(run.mu[..., None], run.logvar[..., None])
        kl_latent = kl.mean(axis=0)  # (1/B) Σ_b KL_bj
        charged = kl_latent >= self.free_bits  # where max(λ, ·) moves with the KL
        dkl = np.broadcast_to(charged * kl.dtype.type(-self.beta / len(kl)), kl.shape)

        def direct():
            dmu, dlogvar = pull_kl(dkl)
            return 0, dmu[..., 0], dlogvar[..., 0]

        log_px = run.log_px
        dlog_px = np.full(log_px.shape, 1 / log_px.size, log_px.dtype)  # of a mean over L and B
        gradient = run.pull(wrt, dlog_px, direct)
        reconstruction = float(log_px.mean())
        penalty = self.beta * float(np.maximum(kl_latent, self.free_bits).sum())
        kl_mean = float(kl.sum(axis=-1).mean())
        return Estimate(reconstruction - penalty, reconstruction, kl_mean, gradient)
