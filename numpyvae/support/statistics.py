"""Means with their standard errors, as numbers and as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["mean_and_error", "means_and_errors", "plus_minus"]


def mean_and_error(values: Any) -> tuple[float, float]:
    """Return the mean and its standard error, s/√n with s² = Σ (x − x̄)²/(n − 1).

    Parameters
    ----------
    values : (N,) array_like
        Independent values, such as one for each datapoint.

    Returns
    -------
    mean, error : float
        The error of a single value is NaN, since one value does not tell how much values differ.

    Examples
    --------
    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_error([1.0])
    (1.0, nan)
    """
    mean, error = means_and_errors(np.asarray(values))
    return float(mean), float(error)


def means_and_errors(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `mean_and_error` of each column.

    Parameters
    ----------
    values : (N, ...) array
        Each row is independent of the others.

    Returns
    -------
    means, errors : (...) array

    Examples
    --------
    >>> means_and_errors(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    n, means = len(values), values.mean(axis=0)
    errors = values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(means.shape, math.nan)
    return means, errors


def plus_minus(mean: float, error: float | None, digits: int) -> str:
    """Return a mean with its standard error as text; a mean of one row has none, and says so.

    Parameters
    ----------
    mean : float
    error : float or None
        NaN and None mean that there is no standard error.
    digits : int
        The number of decimals.

    Returns
    -------
    text : str

    Examples
    --------
    >>> plus_minus(-81.904, 0.126, 2), plus_minus(-81.904, math.nan, 2)
    ('-81.90 ± 0.13', '-81.90 (one row: no standard error)')
    """
    if error is None or math.isnan(error):
        return f"{mean:.{digits}f} (one row: no standard error)"
    return f"{mean:.{digits}f} ± {error:.{digits}f}"
