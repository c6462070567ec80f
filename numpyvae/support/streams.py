"""The random streams: each purpose has draws of its own, so that no two purposes share noise.

A stream is identified by a seed, a purpose, and where needed more integers (an epoch, a block of
rows, a datapoint). The same integers always give the same draws, whatever was drawn before, and
streams that differ in any of them are independent.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np

__all__ = ["Purpose", "stream"]


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

    # The model.
    INIT = 101  # initial weights
    SAMPLE = 102  # z ~ p(z), then x ~ p(x|z), in `VAE.sample`

    # Evaluation of the ELBO.
    EVALUATION = 201  # ε for the mean ELBO of a data set

    # Bounds on log p(x).
    IMPORTANCE = 301  # ε for the importance weights: one stream for each block of datapoints
    CUBO = 302  # ε for the CUBO: one stream for each block of datapoints
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

    # Checks.
    EQUATIONS = 601  # parameters, data and q of the models that the equations are checked on
    GRADIENT_CASES = 701  # the small models and inputs whose gradients are checked
    GRADIENT_DIRECTIONS = 702  # the directions along which a pullback is checked


def stream(seed: int, purpose: int, *more: int) -> np.random.Generator:
    """Return the random generator of the stream that all arguments together identify.

    Parameters
    ----------
    seed : int
    purpose : Purpose
    *more : int
        Further integers, such as an epoch or a datapoint.

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
