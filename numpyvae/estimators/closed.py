"""SGVB-B: the KL of Eq. (11) in closed form, and weighted versions of it.

With KL_bj the divergence of latent j at datapoint b, the weighted objective is

    (1/B) Σ_b E_q[log p_θ(x_b|z)] − β Σ_j max(λ, (1/B) Σ_b KL_bj)

β is the weight of the KL (Higgins et al. 2017). λ nats of each latent are free (Kingma et al.
2016, with one latent per group): if the KL of a latent, averaged over the minibatch, is below λ,
its gradient is zero. With β = 1 and λ = 0 the objective is the ELBO. For β ≥ 1 it is a lower bound
on log p(x), at most the ELBO; for β < 1 it is not a bound.

With a warm-up, β increases linearly from 0 (Bowman et al. 2016; Sønderby et al. 2016), so that the
decoder can learn to use a latent before the KL moves that latent to the prior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.distributions import gaussian_kl
from ..core.elbo import Estimate, Estimator
from ..core.vae import VAE
from ..support.checks import check_weight
from .base import Pass

__all__ = ["SGVBB"]


@dataclass(frozen=True)
class SGVBB(Estimator):
    """Closed-form KL, Eq. (11): estimator B of Kingma & Welling 2013, §2.3. Pathwise, unbiased.

    With `free_bits` the maximum is taken of a mean over the minibatch. The gradient is that of the
    objective of the minibatch, and the mean of this objective over minibatches differs slightly
    from the objective of the whole data set.

    Parameters
    ----------
    beta : float
        β ≥ 0, the weight of the KL.
    free_bits : float
        λ ≥ 0, the number of nats of KL that are free for each latent.
    kl_warmup : float
        The number of epochs in which the weight of the KL increases linearly from 0 to β.
    n_samples : int
        L, the number of averages over draws of z for each datapoint.

    Raises
    ------
    TypeError, ValueError
        If a setting is not a finite number of at least 0.

    Examples
    --------
    >>> [SGVBB(beta=2.0, kl_warmup=10).at(epochs).beta for epochs in (0, 2.5, 10, 30)]
    [0.0, 0.5, 2.0, 2.0]
    """

    beta: float = 1.0
    free_bits: float = 0.0
    kl_warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta", "free_bits", "kl_warmup"):
            object.__setattr__(self, name, check_weight(name, getattr(self, name)))

    def at(self, epochs: float) -> SGVBB:
        if self.kl_warmup == 0:
            return self
        share = min(1.0, epochs / self.kl_warmup)
        return replace(self, beta=self.beta * share, kl_warmup=0.0)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        if self.beta == 1 and self.free_bits == 0:  # the ELBO itself
            return super().estimate(vae, x, eps, update)
        run = Pass(vae, x, eps)
        # With a last axis of length 1 the KL is not summed over latents: KL_bj, (B, J).
        kl, pull_kl = gaussian_kl(run.mu[..., None], run.logvar[..., None])
        kl_latent = kl.mean(axis=0)  # (1/B) Σ_b KL_bj
        charged = kl_latent >= self.free_bits  # where the derivative of max(λ, ·) is 1
        dkl = np.broadcast_to(charged * kl.dtype.type(-self.beta / len(kl)), kl.shape)

        def direct():
            dmu, dlogvar = pull_kl(dkl)
            return 0, dmu[..., 0], dlogvar[..., 0]

        log_px = run.log_px
        dlog_px = np.full(log_px.shape, 1 / log_px.size, log_px.dtype)  # derivative of the mean
        gradient = run.pull(update, dlog_px, direct)
        reconstruction = float(log_px.mean())
        penalty = self.beta * float(np.maximum(kl_latent, self.free_bits).sum())
        kl_mean = float(kl.sum(axis=-1).mean())
        return Estimate(reconstruction - penalty, reconstruction, kl_mean, gradient)
