"""The forward pass and the backward pass that several estimators share.

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
    """The forward pass x → (μ, log σ²) → z → log w, with the pullbacks of its steps.

    All L·K draws are rows of one matrix, so each layer of the decoder is one matrix product.

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
        """Compute the gradient in the parameters from ∂objective/∂log p_θ(x|z): the backward pass.

        Each draw is a row, and the pullback of the decoder is linear in each row. So a row of dz
        multiplied by a factor is the dz of `dlog_px` multiplied by this factor. Therefore the
        draws can have different weights for θ and for φ with one backward pass of the decoder.

        Parameters
        ----------
        update : {"both", "phi", "theta"}
        dlog_px : (L·K, B) array
            The derivative for θ.
        direct : callable
            `direct() -> (dz, dmu, dlogvar)`: the derivatives in z, μ and log σ² of all terms
            except log p_θ(x|z). It is called only if the gradient in φ is needed.
        path : (L·K, B, 1) array or float, optional
            The factor of dz for φ; with None the gradient through z is left out.

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
