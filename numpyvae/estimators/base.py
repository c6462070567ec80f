"""The way back that all estimators with sampled terms share.

Symbols: L averages over K draws each; ε (L·K, B, J), whose entry l·K + k is draw k of average l.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.parameters import Parameters
from ..core.vae import VAE
from .weights import weigh

__all__ = ["Pass"]


class Pass:
    """x → (μ, log σ²) → z → log w, with what the way back needs.

    All L·K draws go through the decoder as rows of one matrix product per layer.

    Attributes
    ----------
    eps, z : (L·K, B, J) array
    mu, logvar : (B, J) array
    log_px, log_w : (L·K, B) array
        log p_θ(x|z), and log p_θ(x, z) − log q_φ(z|x).
    """

    def __init__(self, vae: VAE, x: np.ndarray, eps: np.ndarray) -> None:
        self.eps, self._parameters = eps, vae.parameters
        (self.mu, self.logvar), self._pull_encoder = vae.encoder(x)
        weights = weigh(vae, x, self.mu, self.logvar, eps)
        self.log_w, self.z, self.log_px, self._pull_z, self._pull_decoder = weights

    def pull(
        self,
        update: str,
        dlog_px: np.ndarray,
        direct: Callable[[], tuple],
        path: np.ndarray | float | None = 1.0,
    ) -> Parameters:
        """Take ∂objective/∂log p_θ(x|z) back to the parameters.

        Each draw is a row of its own, and a pullback is linear in it: dz scaled row by row is
        what scaled `dlog_px` would have given. So θ and φ may weight the draws differently, and
        one pass back through the decoder serves both.

        Parameters
        ----------
        update : {"both", "phi", "theta"}
        dlog_px : (L·K, B) array
            For θ.
        direct : callable
            `direct() -> (dz, dmu, dlogvar)`: the derivatives in z, μ and log σ² that do not come
            through log p_θ(x|z). Called only if φ is wanted.
        path : (L·K, B, 1) array or float, optional
            For φ, dz is multiplied by this; with None no gradient goes through z.

        Returns
        -------
        gradient : Parameters
        """
        gradient = self._parameters.empty_gradient(update)
        for_theta = update != "phi"
        through_z = update != "theta" and path is not None
        if for_theta or through_z:
            dz = self._pull_decoder(dlog_px, gradient if for_theta else None, through_z)
        if update != "theta":
            dz_direct, dmu, dlogvar = direct()
            if through_z:
                dmu_z, dlogvar_z = self._pull_z(path * (dz + dz_direct))
                dmu, dlogvar = dmu + dmu_z, dlogvar + dlogvar_z
            self._pull_encoder(dmu, dlogvar, gradient)
        return gradient
