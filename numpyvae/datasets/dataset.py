"""The type that every loader returns, and the draw that turns gray values into binary ones.

A pixel is stored as it was measured: a whole number 0 ... maximum. It is used either as a count,
the outcome of a Binomial(maximum, p), or x / maximum is the probability of a Bernoulli outcome,
which `binarize` draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..support.checks import (
    check_choice,
    check_count,
    check_labels,
    check_positive,
    check_rows,
    shown,
)

__all__ = ["Dataset", "binarize"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, split into a training and a test part. The arrays are read-only.

    Parameters
    ----------
    name : str
    x_train : (N, D) array of int
        An image in each row, its pixels in row-major order, with values 0 ... maximum.
    y_train : (N,) array of int
        Class labels.
    x_test : (N_test, D) array of int
    y_test : (N_test,) array of int
    maximum : int
        The maximum value of a pixel: 16 for the digits, 255 for MNIST and similar data sets.
    image_shape : (h, w)
        D = h * w.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not agree, or values are not whole numbers from 0 to `maximum`.

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
        maximum = check_count("maximum", self.maximum)
        h, w = _check_image_shape(self.image_shape)
        for part in ("train", "test"):
            x = check_rows(getattr(self, f"x_{part}"), h * w, f"x_{part}")
            if x.dtype.kind == "f":
                raise TypeError(
                    f"x_{part}: expected whole numbers 0 ... maximum, got dtype {x.dtype}; "
                    "convert counts with x.astype('uint8')"
                )
            _check_range(x, maximum, f"x_{part}")
            y = check_labels(getattr(self, f"y_{part}"), len(x), f"y_{part}")
            for name, array in ((f"x_{part}", x), (f"y_{part}", y)):
                array.flags.writeable = False
                object.__setattr__(self, name, array)

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
    """Draw each pixel as 1 with probability x / maximum, else 0.

    A pixel of 0 always gives 0 and a pixel of `maximum` always gives 1. As a `transform` for
    `fit`, `functools.partial(binarize, maximum=16)` draws the digits anew in every epoch.

    Parameters
    ----------
    x : (B, D) array of real numbers in [0, maximum]
    rng : numpy.random.Generator
        It draws one uniform number for each pixel.
    maximum : float
        The maximum value of a pixel.
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
    _check_range(x, maximum, "x")
    # u lies in [0, 1), so that u < 0 never holds and u < 1 always does: both ends are exact.
    # Integers need no more than float32: its uniform numbers have 24 bits.
    work = np.float64 if x.dtype.kind == "f" and x.itemsize > 4 else np.float32
    p = np.divide(x, maximum, dtype=work)
    return (rng.random(x.shape, dtype=work) < p).astype(dtype)


def _check_range(x: np.ndarray, maximum: float, name: str) -> None:
    """Raise ValueError unless all values lie in [0, maximum]."""
    low, high = x.min(), x.max()
    if low < 0 or high > maximum:
        raise ValueError(
            f"{name}: expected values in [0, {maximum:g}], got values from {low} to {high}; "
            "pass the maximum value of a pixel as maximum (16 for the digits, 255 for MNIST)"
        )


def _check_image_shape(shape: Any) -> tuple[int, int]:
    """Return (h, w), two whole numbers above 0."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"image_shape: expected (height, width), got {shown(shape)}")
    h, w = (check_count("image_shape", side) for side in shape)
    return h, w
