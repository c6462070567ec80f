"""The random streams: each purpose has draws of its own, so that no two purposes share noise.

A stream is identified by a seed, a purpose, and where needed more integers, such as an epoch. The
same integers always give the same draws, whatever was drawn before, and streams that differ in any
of them are independent.

Figures of single rows of data, such as log p(x), must not depend on which other rows are measured
with them. There the stream is identified by the seed, the purpose and the values of the row; see
`row_streams`.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Any, Union

import numpy as np

from .checks import check_seed

__all__ = ["Purpose", "Seed", "generator", "row_noise", "row_normals", "row_streams", "stream"]


@unique
class Purpose(IntEnum):
    """What a stream draws. A member with another value would change all results drawn with it.

    Examples
    --------
    >>> int(Purpose.SHUFFLE)
    1
    """

    # Training: one stream for each epoch.
    SHUFFLE = 1  # the order of the rows
    NOISE = 2  # ε for the ELBO
    TRANSFORM = 3  # the numbers that `transform` draws, such as a fresh binarization
    DREAMS = 4  # x ~ p(x|z) in wake-sleep: one stream for each batch of noise; its seed is 0
    CHAINS = 5  # the moves of the chains of Monte-Carlo EM
    CHAIN_STARTS = 6  # z ~ p(z), where these chains start
    WEIGHT_NOISE = 7  # ζ for the weights in full variational Bayes

    # The model.
    INIT = 101  # initial weights
    SAMPLE = 102  # z ~ p(z), then x ~ p(x|z), in `VAE.sample`
    WEIGHT_SAMPLE = 103  # θ ~ q(θ), of full variational Bayes

    # Evaluation of the ELBO.
    EVALUATION = 201  # ε for the mean ELBO of a data set: one stream for each datapoint

    # Bounds on log p(x).
    IMPORTANCE = 301  # ε for the importance weights: one stream for each datapoint
    CUBO = 302  # ε for the CUBO: one stream for each datapoint
    ELBO = 303  # ε for the ELBO beside other bounds: one stream for each datapoint
    ANNEAL_PILOT = 311  # chains of the pilot run: one stream for each datapoint
    ANNEAL_FORWARD = 312  # chains of the lower bound: one stream for each datapoint
    ANNEAL_REVERSE = 313  # chains of the upper bound: one stream for each datapoint
    SIMULATE = 314  # z ~ p(z), then x ~ p(x|z), in `simulate`
    POSTERIOR_CHAINS = 321  # chains of appendix D: one stream for each datapoint

    # Data. The seed of these is always 0, so that all runs have the same test rows.
    SPLIT = 401  # which rows of a file are held out as its test part
    BINARIZE_TEST = 402  # the one binarization of the test part
    TEST_ROWS = 403  # the rows of the test part that a slow evaluation uses
    VALIDATION = 404  # which training rows are held out as the validation set
    BINARIZE_VALIDATION = 405  # the one binarization of the validation set

    # Exact models, variational inference and diagnostics.
    LINEAR_GAUSSIAN = 501  # data from `LinearGaussian.sample`
    FINITE_MIXTURE = 502  # data from `FiniteMixture.sample`
    CLIMBS = 503  # where the quadrature's search for modes starts; its seed is always 0
    NOISE_NODES = 511  # ε with exact first and second moments, for variational inference
    GAP = 521  # ε for the decomposition of the gap: one stream for each datapoint
    RATE = 522  # ε for rate and distortion: one stream for each datapoint
    SURGERY = 523  # ε for the aggregate posterior: one stream for each datapoint
    SIGNAL = 524  # ε for the mean and the noise of a gradient

    # Checks.
    EQUATIONS = 601  # parameters, data and q of the models that the equations are checked on
    GRADIENT_CASES = 701  # the small models and inputs whose gradients are checked
    GRADIENT_DIRECTIONS = 702  # the directions along which a pullback is checked
    CLINIC = 711  # probes and noise of the examination of a VAE of the user


def stream(seed: int, purpose: int, *more: int) -> np.random.Generator:
    """Return the random generator of the stream that all arguments together identify.

    Parameters
    ----------
    seed : int
    purpose : Purpose
    *more : int
        Further integers, such as an epoch.

    Returns
    -------
    rng : numpy.random.Generator

    Examples
    --------
    >>> a, b = (stream(0, Purpose.NOISE, epoch).random() for epoch in (1, 2))
    >>> a == stream(0, Purpose.NOISE, 1).random(), a == b
    (True, False)
    """
    return np.random.default_rng(np.random.SeedSequence([seed, purpose, *more]))


# What a function that samples from a model takes. In quotes, since `numpy.random` loads slowly.
Seed = Union[int, "np.random.Generator", None]


def generator(seed: Seed, purpose: int) -> np.random.Generator:
    """Return the generator of a function that samples from a model.

    Parameters
    ----------
    seed : int, numpy.random.Generator or None
        A number always gives the same draws. A generator goes on where it stands, so that a second
        call draws anew. None gives draws that cannot be repeated.
    purpose : Purpose

    Returns
    -------
    rng : numpy.random.Generator

    Examples
    --------
    >>> rng = generator(0, Purpose.SAMPLE)
    >>> generator(rng, Purpose.SAMPLE) is rng
    True
    """
    if seed is None:
        return np.random.default_rng()
    if isinstance(seed, np.random.Generator):
        return seed
    return stream(check_seed(seed), purpose)


def row_streams(seed: int, purpose: int, x: np.ndarray) -> list[np.random.Generator]:
    """Return one random generator for each row, identified by the values of that row.

    The state of a generator is a digest of the seed, the purpose and the values, so that the draws
    of a row depend neither on the other rows nor on its place among them. Rows that differ in any
    value have independent draws; equal rows have the same draws. A standard error over rows takes
    the errors of all rows as independent: where rows repeat, it is too small by the noise of the
    draws that they share, and another seed for each copy makes them independent.

    Parameters
    ----------
    seed : int
    purpose : Purpose
    x : (B, D) array
        In the dtype of the model. −0 counts as 0.

    Returns
    -------
    generators : list of B numpy.random.Generator

    Examples
    --------
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> a, b = (g.random() for g in row_streams(0, Purpose.IMPORTANCE, x))
    >>> a == row_streams(0, Purpose.IMPORTANCE, x[:1])[0].random(), a == b
    (True, False)
    """
    import hashlib  # with it and .words, the package would start more slowly

    from .words import Words

    zero, order = x.dtype.type(0), x.dtype.newbyteorder("<")
    start = hashlib.blake2b(f"{seed} {purpose}:".encode(), digest_size=24)
    digests = []
    for first in range(0, len(x), 64):  # copies of a few rows, whatever B
        for row in np.ascontiguousarray(x[first : first + 64] + zero, order):  # −0 + 0 = 0
            digest = start.copy()
            digest.update(row)
            digests.append(digest.digest())
    words = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 3).astype(np.uint64)
    seeds: list[Any] = [Words(w) for w in words]  # the stubs of SFC64 leave out ISeedSequence
    return [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]


def row_normals(
    generators: list[np.random.Generator], n: int, latent_dim: int, dtype: np.dtype
) -> np.ndarray:
    """Return the next n standard normal draws of J latents from each row's generator.

    Parameters
    ----------
    generators : list of B numpy.random.Generator
        As from `row_streams`.
    n, latent_dim : int
        L and J.
    dtype : {float32, float64}

    Returns
    -------
    eps : (L, B, J) array

    Examples
    --------
    >>> x = np.eye(4)
    >>> row_normals(row_streams(0, Purpose.ELBO, x), 10, 2, x.dtype).shape
    (10, 4, 2)
    """
    draws = np.empty((len(generators), n, latent_dim), dtype)
    for generator, out in zip(generators, draws):
        generator.standard_normal(out=out, dtype=dtype)
    return np.ascontiguousarray(draws.swapaxes(0, 1))  # (B, L, J) → (L, B, J)


def row_noise(seed: int, purpose: int, x: np.ndarray, n: int, latent_dim: int) -> np.ndarray:
    """Return ε for each row, (n, B, J), in the dtype of `x`; see `row_streams`.

    Parameters
    ----------
    seed : int
    purpose : Purpose
    x : (B, D) array
    n, latent_dim : int
        L and J.

    Returns
    -------
    eps : (L, B, J) array

    Examples
    --------
    >>> row_noise(0, Purpose.EVALUATION, np.eye(4), 10, 2).shape
    (10, 4, 2)
    """
    return row_normals(row_streams(seed, purpose, x), n, latent_dim, x.dtype)
