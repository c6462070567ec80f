"""What the chains share: a random stream for each datapoint, and how many fit into memory."""

from __future__ import annotations

import math

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_positive
from ..support.streams import stream

__all__ = [
    "RowStreams",
    "decoder_megabytes",
    "how_many",
    "mean_and_error",
    "row_slices",
    "rows_in_cache",
]

_CACHE = 1 << 19  # bytes of the widest layer at a time
_JITTER = 0.2  # each move's step is within ±20 % of the tuned one; see `RowStreams.jitter`


class RowStreams:
    """Draws for C chains on each of B datapoints, from one random stream per datapoint.

    A datapoint's draws depend on the seed, the purpose and its place in the data alone: not on
    its company, and not on how many datapoints the memory holds at a time.

    Parameters
    ----------
    seed, purpose : int
    rows : slice
        Which datapoints.
    n_chains, latent_dim : int
        C and J.
    dtype : numpy.dtype
        Of the draws; the model's.
    """

    def __init__(
        self,
        seed: int,
        purpose: int,
        rows: slice,
        n_chains: int,
        latent_dim: int,
        dtype: np.dtype,
    ) -> None:
        self._generators = [stream(seed, purpose, row) for row in range(rows.start, rows.stop)]
        self._shape = n_chains, latent_dim
        self._dtype = dtype

    def normal(self) -> np.ndarray:
        """Return standard normal noise, (C, B, J)."""
        draws = [g.standard_normal(self._shape, self._dtype) for g in self._generators]
        return np.stack(draws, axis=1)

    def log_uniform(self) -> np.ndarray:
        """Return logarithms of uniform draws, (C, B): the negatives of exponential ones."""
        draws = [g.standard_exponential(self._shape[0], self._dtype) for g in self._generators]
        return -np.stack(draws, axis=1)

    def jitter(self) -> np.ndarray:
        """Return factors for the step, uniform in 1 ± 0.2, (C, B, 1).

        Without it a trajectory whose length is near a period of the motion goes nowhere, again
        and again (Neal 2011, §3.2). Drawn without regard to the state, it keeps p invariant.
        """
        draws = [g.random(self._shape[0], self._dtype) for g in self._generators]
        return (1 - _JITTER + 2 * _JITTER * np.stack(draws, axis=1))[..., None]


def decoder_megabytes(vae: VAE) -> float:
    """Return what one row of z needs on its way through the decoder and back, in 10⁶ bytes.

    An upper estimate: eight arrays as wide as the outputs, seven of each hidden layer (softplus;
    tanh makes three), and what the chain itself holds.
    """
    a = vae.architecture
    values = 8 * vae.likelihood.heads * a.data_dim + 7 * sum(a.hidden) + 30 * a.latent_dim
    return values * vae.dtype.itemsize / 1e6


def how_many(memory: float, needed: float, what: str) -> int:
    """Return how often `needed` megabytes go into the budget `memory`, at least once.

    Raises
    ------
    TypeError, ValueError
        If `memory` is not a number above 0, or less than `needed`.
    """
    most = int(check_positive("memory", memory) / needed)
    if most == 0:
        raise ValueError(
            f"memory: expected at least {needed:.2g} megabytes, for {what}, got {memory:g}; "
            "allow more, or ask for less at a time"
        )
    return most


def rows_in_cache(vae: VAE) -> int:
    """Return how many rows of z go through the decoder fastest at a time.

    Larger arrays leave the second-level cache; with smaller ones the matrix products slow down.
    """
    a = vae.architecture
    widest = max(vae.likelihood.heads * a.data_dim, *a.hidden, a.latent_dim)
    return max(1, _CACHE // (widest * vae.dtype.itemsize))


def row_slices(
    vae: VAE, n_rows: int, n_chains: int, memory: float | None, kept: int = 0
) -> list[slice]:
    """Cut the datapoints into runs whose chains fit into the memory.

    Parameters
    ----------
    n_rows, n_chains : int
        N, and the chains or samples that each datapoint has at a time.
    memory : float, optional
        Megabytes, 10⁶ bytes; without it, what the cache holds.
    kept : int
        Numbers of float64 that each datapoint keeps beside.
    """
    if memory is None:
        most = max(1, rows_in_cache(vae) // n_chains)
    else:
        needed = n_chains * decoder_megabytes(vae) + kept * 8e-6
        most = how_many(memory, needed, f"one datapoint and its {n_chains} draws or chains")
    return [slice(i, min(i + most, n_rows)) for i in range(0, n_rows, most)]


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean over the datapoints and its standard error, NaN for a single value."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(values.mean()), error
