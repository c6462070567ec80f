"""How large a gradient is, beside its noise (Rainforth et al. 2018; Tucker et al. 2019)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.elbo import Estimator
from ..core.vae import VAE
from ..support.checks import check_choice, check_count, check_data, check_seed
from ..support.streams import Purpose, stream

__all__ = ["signal_to_noise"]


def signal_to_noise(
    estimator: Estimator,
    vae: VAE,
    x: Any,
    *,
    update: str = "phi",
    n: int = 100,
    seed: int = 0,
) -> float:
    """Return the length of the mean gradient, divided by the deviation of a single estimate.

    ratio = |E g| / √(E |g − E g|²), from n estimates g; |E g|² is corrected for its own noise
    (Rainforth et al. 2018, §3).

    Parameters
    ----------
    estimator : Estimator
    vae : VAE
    x : (N, D) array_like
        One minibatch.
    update : {"both", "phi", "theta"}
        Whose gradient.
    n : int
        The number of estimates, at least 2.
    seed : int

    Returns
    -------
    ratio : float
        NaN if the corrected |E g|² is not above 0: n estimates are too few to measure it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid for the model.

    Examples
    --------
    >>> import numpy as np
    >>> from numpyvae.estimators import IWAE
    >>> vae, x = VAE(data_dim=4, latent_dim=2, hidden=(3,)), np.eye(4)
    >>> theta = [signal_to_noise(IWAE(K), vae, x, update="theta") for K in (1, 16)]
    >>> theta[1] > theta[0]
    True
    """
    x, n = check_data(vae, x).astype(vae.dtype), check_count("n", n, minimum=2)
    check_choice("update", update, ("both", "phi", "theta"))
    rng = stream(check_seed(seed), Purpose.SIGNAL)
    shape = estimator.n_draws, len(x), vae.latent_dim
    total, square = np.zeros(()), 0.0
    for _ in range(n):
        estimate = estimator(vae, x, rng.standard_normal(shape, vae.dtype), update)
        g = estimate.gradient.part(update).astype(float)
        total, square = total + g, square + g @ g
    mean = total / n
    variance = (square / n - mean @ mean) * n / (n - 1)  # E |g − E g|²
    signal = mean @ mean - variance / n
    return math.sqrt(signal / variance) if signal > 0 else math.nan
