"""Random streams for each datapoint, and the number of datapoints that fit into memory.

A bound processes the datapoints in blocks. A result must not depend on the size of a block, so
each datapoint has random streams of its own, identified by its values (see
`support.streams.row_streams`), and the block is as large as the memory allows.
"""

from __future__ import annotations

import numpy as np

from ..support.checks import check_positive
from ..support.contract import Model, row_size
from ..support.streams import row_normals, row_streams

__all__ = [
    "RowStreams",
    "decoder_megabytes",
    "how_many",
    "row_slices",
    "rows_in_cache",
    "step_factors",
]

_CACHE = 1 << 21  # bytes of the widest layer in a block
_JITTER = 0.2  # each move's step is within ±20 % of the tuned one; see `step_factors`


class RowStreams:
    """Draws for C chains on each of B datapoints, from one random stream per datapoint.

    The draws of a datapoint depend only on the seed, the purpose and its values, not on the other
    datapoints or its place among them.

    Parameters
    ----------
    seed, purpose : int
    x : (B, D) array
        The datapoints, in the dtype of the model.
    n_chains, latent_dim : int
        C and J.
    dtype : numpy.dtype
        The dtype of the draws.
    """

    def __init__(
        self,
        seed: int,
        purpose: int,
        x: np.ndarray,
        n_chains: int,
        latent_dim: int,
        dtype: np.dtype,
    ) -> None:
        self._generators = row_streams(seed, purpose, x)
        self._shape = n_chains, latent_dim
        self._dtype = dtype

    def normal(self) -> np.ndarray:
        """Return standard normal noise, (C, B, J)."""
        return row_normals(self._generators, *self._shape, self._dtype)

    def log_uniform(self) -> np.ndarray:
        """Return logarithms of uniform draws, (C, B), as negative exponential draws."""
        draws = [g.standard_exponential(self._shape[0], self._dtype) for g in self._generators]
        return -np.stack(draws, axis=1)

    def jitter(self) -> np.ndarray:
        """Return factors for the step, uniform in 1 ± 0.2, (C, B, 1); see `step_factors`."""
        draws = [g.random(self._shape[0], self._dtype) for g in self._generators]
        return step_factors(np.stack(draws, axis=1))


def step_factors(u: np.ndarray) -> np.ndarray:
    """Return factors for the step in 1 ± 0.2, (C, B, 1), from uniform draws (C, B).

    With a constant step, a trajectory whose length is near a period of the motion returns to its
    start in every move (Neal 2011, §3.2). The factors do not depend on the state of the chain, so
    that the moves leave p invariant.
    """
    return (1 - _JITTER + 2 * _JITTER * u)[..., None]


def decoder_megabytes(vae: Model) -> float:
    """Return the memory for one row of z in the decoder and its gradient, in 10⁶ bytes.

    It is an upper estimate; see `row_size`.
    """
    return row_size(vae).total * vae.dtype.itemsize / 1e6


def how_many(memory: float, needed: float, what: str) -> int:
    """Return how many parts of `needed` megabytes fit into `memory`, which must be at least 1.

    The error message names `what` as the part that does not fit.

    Raises
    ------
    TypeError, ValueError
        If `memory` is not a number above 0, or less than `needed`.
    """
    most = int(check_positive("memory", memory) / needed)
    if most == 0:
        raise ValueError(
            f"memory: expected at least {needed:.2g} megabytes, for {what}, got {memory:g}; "
            "increase memory"
        )
    return most


def rows_in_cache(vae: Model) -> int:
    """Return the number of rows of z for which the decoder is fastest, per row.

    Larger arrays do not fit into the second-level cache; smaller matrix products are slower.
    """
    return max(1, _CACHE // (row_size(vae).widest * vae.dtype.itemsize))


def row_slices(
    vae: Model, n_rows: int, n_chains: int, memory: float | None, kept: int = 0
) -> list[slice]:
    """Split the datapoints into blocks whose chains fit into the memory.

    Parameters
    ----------
    n_rows, n_chains : int
        N, and the number of chains or draws of each datapoint.
    memory : float, optional
        Megabytes (10⁶ bytes); by default a block fits into the processor's cache.
    kept : int
        How many float64 results are kept for each datapoint.
    """
    if memory is None:
        most = max(1, rows_in_cache(vae) // n_chains)
    else:
        needed = n_chains * decoder_megabytes(vae) + kept * 8e-6
        most = how_many(memory, needed, f"one datapoint and its {n_chains} draws or chains")
    return [slice(i, min(i + most, n_rows)) for i in range(0, n_rows, most)]
