"""What every estimator shares: its call, its result, and one pass through the model and back.

Symbols: L averages over K draws each; ε (L·K, B, J), whose entry l·K + k is draw k of average l.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core.distributions import reparameterize
from ..core.parameters import Parameters
from ..core.vae import VAE
from ..support.checks import check_choice, check_count, check_vae

__all__ = ["Estimate", "Estimator", "Pass"]


class Estimate(NamedTuple):
    """One estimate, averaged over the batch; every number in nats per datapoint.

    Attributes
    ----------
    objective : float
        What the gradient ascends: the ELBO, L_K, or a weighted objective.
    reconstruction, kl : float
        The two terms of Eq. (11), unweighted and with the KL in closed form, whatever the
        objective is: their difference is always an unbiased estimate of the ELBO.
    gradient : Parameters
        Estimate of ∂objective/∂(φ, θ). Ascend it.

    Examples
    --------
    >>> import numpy as np
    >>> from numpyvae import VAE, estimators
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> estimate = estimators.IWAE(5)(vae, [[0, 1, 1, 0]], np.zeros((5, 1, 2)))
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


class Estimator:
    """A rule that turns noise into a gradient: `estimator(vae, x, eps, wrt)`.

    Subclasses are frozen dataclasses: settings as fields, `estimate` as the work. Change a
    setting with `dataclasses.replace`.

    The gradient is an estimate of ∇ELBO, Eq. (11), or of ∇L_K (Burda et al. 2015).

    Attributes
    ----------
    n_importance : int
        K, the draws of z inside one logarithm; 1 for every estimator of the ELBO.

    Examples
    --------
    >>> from numpyvae import estimators
    >>> [estimators.ESTIMATORS[name].draws(2) for name in ("sgvb-b", "iwae")]     # L·K
    [2, 10]
    """

    n_importance: int = 1

    def draws(self, n_samples: int = 1) -> int:
        """Return L·K, the draws of z for each datapoint: the first axis of `eps`."""
        return check_count("n_samples", n_samples) * self.n_importance

    def __call__(self, vae: VAE, x: Any, eps: Any, wrt: str = "both") -> Estimate:
        """Estimate the objective and its gradient for one batch.

        Parameters
        ----------
        vae : VAE
        x : (B, D) array_like
        eps : (L·K, B, J) array_like
            Standard normal noise; each K draws in a row share a logarithm.
        wrt : {"both", "phi", "theta"}
            Compute only that slice of the gradient; the other is zero (notes, §3.6).

        Returns
        -------
        estimate : Estimate

        Raises
        ------
        TypeError, ValueError
            If `vae` is no model, or `x`, `eps` or `wrt` not what it and the estimator can take.
        """
        check_vae(vae)
        x, eps = vae.check_batch(x, eps)
        check_choice("wrt", wrt, ("both", "phi", "theta"))
        L, rest = divmod(eps.shape[0], self.n_importance)
        if rest:
            raise ValueError(
                f"eps: expected L·K draws for each datapoint, a multiple of K = "
                f"{self.n_importance}, got {eps.shape[0]}; draw "
                f"{self.draws(L + 1)} or change n_importance"
            )
        self.draws(L)  # raises where this L is too small
        return self.estimate(vae, x, eps, wrt)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, wrt: str = "both") -> Estimate:
        """Do the work on clean arrays of the model's dtype, as `fit` calls it: no checks."""
        raise NotImplementedError


class Pass:
    """x → (μ, log σ²) → z → log p_θ(x|z), kept with what the way back needs.

    All L·K draws go through the decoder as rows of one matrix product per layer.

    Attributes
    ----------
    eps, z : (L·K, B, J) array
    mu, logvar : (B, J) array
    log_px : (L·K, B) array
    """

    def __init__(self, vae: VAE, x: np.ndarray, eps: np.ndarray) -> None:
        self.eps, self._parameters = eps, vae.parameters
        (self.mu, self.logvar), self._pull_encoder = vae.encoder(x)
        self.z, self._pull_z = reparameterize(self.mu, self.logvar, eps)
        self.log_px, self._pull_decoder = vae.log_likelihood(x, self.z)

    def pull(
        self,
        wrt: str,
        dlog_px: np.ndarray,
        direct: Callable[[], tuple],
        path: np.ndarray | float | None = 1.0,
    ) -> Parameters:
        """Take ∂objective/∂log p_θ(x|z) back to the parameters.

        Each draw is a row of its own, and a pullback is linear in it: dz scaled row by row is
        what scaled `dlog_px` would have given. So θ and φ may weigh the draws differently, and
        the decoder is still walked once.

        Parameters
        ----------
        wrt : {"both", "phi", "theta"}
        dlog_px : (L·K, B) array
            For θ.
        direct : callable
            `direct() -> (dz, dmu, dlogvar)`: what reaches z, μ and log σ² on other ways than
            through log p_θ(x|z). Called only if φ is wanted.
        path : (L·K, B, 1) array or float, optional
            For φ, dz is multiplied by this; None cuts the way through z.

        Returns
        -------
        gradient : Parameters
        """
        gradient = self._parameters.room_for_gradient(wrt)
        for_theta = wrt != "phi"
        through_z = wrt != "theta" and path is not None
        if for_theta or through_z:
            dz = self._pull_decoder(dlog_px, gradient if for_theta else None, through_z)
        if wrt != "theta":
            dz_direct, dmu, dlogvar = direct()
            if through_z:
                dmu_z, dlogvar_z = self._pull_z(path * (dz + dz_direct))
                dmu, dlogvar = dmu + dmu_z, dlogvar + dlogvar_z
            self._pull_encoder(dmu, dlogvar, gradient)
        return gradient
