"""Functions of many rows, computed in blocks of rows: the memory beside the data is small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .contract import row_size

__all__ = ["in_blocks", "in_decoder_blocks"]

_LAYER_BYTES = 1 << 21  # bytes of the widest layer in a block


def in_blocks(
    vae: Any, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
) -> np.ndarray:
    """Apply a function of the model to blocks of rows, and join the results.

    Memory beside the rows and the result is that of one block: some 20 MB, or one row of a larger
    network. Results of blocks of other sizes differ by rounding.

    Parameters
    ----------
    vae : Model
    function : callable
        Takes (B, …) rows in the dtype of the model to a (B, …) array.
    rows : (N, …) array
        May be a `numpy.memmap`, of any dtype.

    Returns
    -------
    result : (N, …) array

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(30,))
    >>> in_blocks(vae, lambda x: x.sum(axis=1), np.ones((3, 4), "uint8"))
    array([4., 4., 4.], dtype=float32)
    """
    most = max(1, _LAYER_BYTES // (row_size(vae).widest * vae.dtype.itemsize))
    part = function(rows[:most].astype(vae.dtype, copy=False))
    if len(rows) <= most:
        return part
    result = np.empty((len(rows), *part.shape[1:]), part.dtype)
    result[:most] = part
    for start in range(most, len(rows), most):
        result[start : start + most] = function(
            rows[start : start + most].astype(vae.dtype, copy=False)
        )
    return result


def in_decoder_blocks(
    vae: Any, function: Callable[[np.ndarray], np.ndarray], z: np.ndarray
) -> np.ndarray:
    """Apply a function of the decoder's outputs to blocks of rows of z, and join the results.

    Parameters
    ----------
    vae : Model
    function : callable
        Takes outputs (B, heads·D) to a (B, …) array. If it draws random numbers in the order of
        the rows, blocks of another size draw the same.
    z : (N, J) array

    Returns
    -------
    result : (N, …) array

    Examples
    --------
    >>> from numpyvae import VAE
    >>> vae = VAE(4, 2, (3,), likelihood="gaussian:head")
    >>> in_decoder_blocks(vae, lambda out: out, np.zeros((5, 2))).shape
    (5, 8)
    """
    return in_blocks(vae, lambda rows: function(vae.decoder(rows[None])[0][0]), z)
