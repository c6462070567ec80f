"""Which latent variables the model uses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_data, check_weight

__all__ = ["active_units"]


def active_units(vae: VAE, x: Any, threshold: float = 0.01) -> np.ndarray:
    """Return which latents depend on x: Var_x(E_q[z_j|x]) > 0.01 (Burda et al. 2015, §5.2).

    A latent whose posterior mean is the same for every x has collapsed to the prior. The variance
    over the rows divides by N − 1.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
        At least two rows.
    threshold : float
        The smallest variance of an active latent; at least 0.

    Returns
    -------
    active : (J,) array of bool

    Raises
    ------
    TypeError, ValueError
        If `x` does not fit the model or has one row alone, or `threshold` is not a number of at
        least 0.

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
