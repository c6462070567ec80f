"""The ELBO of a whole data set."""

from __future__ import annotations

from typing import Any

from ..core.elbo import Terms
from ..core.training import mean_elbo_terms
from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed

__all__ = ["mean_terms"]


def mean_terms(vae: VAE, x: Any, *, n_samples: int = 1, seed: int = 0) -> Terms:
    """Average the two terms of Eq. (11) over a data set, in blocks of rows.

    The noise of a row depends only on `seed` and its values, so two models are compared with the
    same draws.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    n_samples : int
        L, the number of draws of z for each datapoint.
    seed : int

    Returns
    -------
    reconstruction, kl : float
        Nats per datapoint.

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not valid for the model.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> terms = mean_terms(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], n_samples=100)
    >>> terms.elbo == terms.reconstruction - terms.kl
    True
    """
    x = check_data(vae, x)
    return mean_elbo_terms(vae, x, check_count("n_samples", n_samples), check_seed(seed))
