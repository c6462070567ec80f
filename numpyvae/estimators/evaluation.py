"""The ELBO of a whole data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core.elbo import Terms
from ..core.training import mean_elbo_terms
from ..core.vae import VAE
from ..support.checks import check_count, check_data, check_seed
from ..support.parallel import check_jobs, map_rows

__all__ = ["mean_terms"]

_ROWS = 500  # rows of a block


def mean_terms(
    vae: VAE, x: Any, *, n_samples: int = 1, seed: int = 0, n_jobs: int | None = None
) -> Terms:
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
    n_jobs : int, optional
        The number of workers, as in `numpyvae.bounds`.

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
    work = partial(_block, vae, check_count("n_samples", n_samples), check_seed(seed))
    blocks = [slice(i, min(i + _ROWS, len(x))) for i in range(0, len(x), _ROWS)]
    parts = map_rows(work, blocks, [x], check_jobs(n_jobs), lambda note, steps=1: None)
    shares = [(rows.stop - rows.start) / len(x) for rows in blocks]
    return Terms(*map(float, sum(share * part for share, part in zip(shares, parts))))


def _block(
    vae: VAE, n_samples: int, seed: int, x: np.ndarray, *, advance: Callable[[str], None]
) -> np.ndarray:
    """Return the means of both terms over a block of rows, (2,)."""
    return np.array(mean_elbo_terms(vae, x, n_samples, seed))
