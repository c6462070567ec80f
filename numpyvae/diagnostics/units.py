"""Which latent variables are used at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_data, check_weight

__all__ = ["active_units"]


def active_units(vae: VAE, x: Any, threshold: float = 0.01) -> np.ndarray:
    """Tell which latents carry information: Var_x(E_q[z_j|x]) > 0.01 (Burda et al. 2015, §5.2).

    A latent whose posterior mean does not move with x has collapsed onto the prior. The variance
    over the rows divides by N − 1.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
        At least two rows.
    threshold : float
        Not below 0.

    Returns
    -------
    active : (J,) array of bool

    Raises
    ------
    TypeError, ValueError
        If `x` or `threshold` is not what the model can take, or there is one row alone.

    Examples
    --------
    >>> import numpy as np
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=())
    >>> vae.parameters["encoder.W0"][:, 1] = 0  # μ of the second latent ignores x
    >>> active_units(vae, np.eye(4))
    array([ True, False])
    """
    threshold = check_weight("threshold", threshold)
    x = check_data(vae, x)
    if len(x) < 2:
        raise ValueError(
            "x: expected at least two rows, got 1, which does not tell how much a latent moves "
            "with x; give more rows"
        )
    mu, _ = vae.encode(x)
    return mu.var(axis=0, ddof=1) > threshold
