"""What every loader returns, and the one draw that turns grays into outcomes.

A pixel is stored as it was measured: a count of ink, 0 ... maximum. A likelihood needs an
outcome, so the count is read either as Binomial(maximum, p) data, unchanged, or as the
probability of a Bernoulli outcome, drawn by `binarize`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..support.checks import check_choice, check_positive, check_rows

__all__ = ["Dataset", "binarize"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, cut into a training and a test part. The arrays are read-only.

    Parameters
    ----------
    name : str
    x_train : (N, D) array of uint8
        One image a row, row by row from the top, values 0 ... maximum.
    y_train : (N,) array of uint8
        Class labels.
    x_test : (N_test, D) array of uint8
    y_test : (N_test,) array of uint8
    maximum : int
        The value of full ink: 16 for the digits, 255 for MNIST and its kin.
    image_shape : (h, w)
        D = h * w.

    Examples
    --------
    >>> from numpyvae import datasets
    >>> datasets.load_digits()
    Dataset(digits: 3823 training and 1797 test images of 8x8, values 0..16)
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    maximum: int
    image_shape: tuple[int, int]

    def __post_init__(self) -> None:
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            array.flags.writeable = False

    def __repr__(self) -> str:
        h, w = self.image_shape
        return (
            f"Dataset({self.name}: {len(self.x_train)} training and {len(self.x_test)} test "
            f"images of {h}x{w}, values 0..{self.maximum})"
        )

    def grays(self, split: str = "train", dtype: Any = "float32") -> np.ndarray:
        """Return x / maximum, the images as grays in [0, 1].

        Parameters
        ----------
        split : {"train", "test"}
        dtype : floating dtype

        Returns
        -------
        grays : (N, D) array
        """
        check_choice("split", split, ("train", "test"))
        if np.dtype(dtype).kind != "f":
            raise TypeError(
                f"dtype: expected a floating dtype for grays in [0, 1], got {np.dtype(dtype)}; "
                f"the counts themselves are x_{split}"
            )
        x = self.x_train if split == "train" else self.x_test
        return np.divide(x, self.maximum, dtype=dtype)


def binarize(
    x: np.ndarray, rng: np.random.Generator, maximum: float = 1, dtype: Any = "float32"
) -> np.ndarray:
    """Draw each pixel: 1 with probability x / maximum, else 0.

    A pixel of 0 always gives 0 and a pixel of `maximum` always gives 1. As a `transform` for
    `fit`, `functools.partial(binarize, maximum=16)` draws the digits afresh in every epoch.

    Parameters
    ----------
    x : (B, D) array of real numbers in [0, maximum]
    rng : numpy.random.Generator
        Gives one uniform number for each pixel.
    maximum : float
        The value of full ink.
    dtype : dtype
        The dtype of the result.

    Returns
    -------
    binary : (B, D) array of 0 and 1

    Raises
    ------
    ValueError
        If a value lies outside [0, maximum], or is NaN.
    TypeError
        If x is not an array of real numbers, or `rng` is not a Generator.

    Examples
    --------
    >>> binarize(np.array([[0, 16, 16]]), np.random.default_rng(0), maximum=16)
    array([[0., 1., 1.]], dtype=float32)
    """
    x = check_rows(x)
    maximum = check_positive("maximum", maximum)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng: expected a numpy Generator, got {type(rng).__name__}; "
            "make one with numpy.random.default_rng(seed)"
        )
    low, high = x.min(), x.max()
    if low < 0 or high > maximum:
        raise ValueError(
            f"x: expected values in [0, {maximum:g}], got values from {low} to {high}; "
            "pass the value of full ink as maximum (16 for the digits, 255 for MNIST)"
        )
    # u lies in [0, 1), so that u < 0 never holds and u < 1 always does: both ends are exact.
    # Integers need no more than float32: its uniform numbers have 24 bits.
    work = np.float64 if x.dtype.kind == "f" and x.itemsize > 4 else np.float32
    p = np.divide(x, maximum, dtype=work)
    return (rng.random(x.shape, dtype=work) < p).astype(dtype)
