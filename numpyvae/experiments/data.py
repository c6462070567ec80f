"""The data sets of the experiments, as their papers use them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..datasets import Dataset, binarize, load_digits, load_mnist
from ..support.streams import Purpose, stream

__all__ = ["DATA", "Data", "load_data"]


class Data(NamedTuple):
    """What an experiment trains on, and what it measures on.

    Attributes
    ----------
    x_train : (N, D) array
    x_test : (M, D) array
        In the support of the likelihood.
    transform : callable or None
        The argument of `fit`: a fresh binarization in each epoch.
    mean : (D,) array
        The mean of the training rows after `transform`.
    image_shape : (h, w)
    x_valid : (V, D) array or None

    Examples
    --------
    >>> load_data("digits").x_train.shape
    (3823, 64)
    """

    x_train: np.ndarray
    x_test: np.ndarray
    transform: Callable | None
    mean: np.ndarray
    image_shape: tuple[int, int]
    x_valid: np.ndarray | None = None

    def first(self, rows: int | None) -> Data:
        """Return the same data with the first `rows` training rows alone; all if it is None."""
        return self if rows is None else self._replace(x_train=self.x_train[:rows])

    def some_test_rows(self, n: int | None) -> np.ndarray:
        """Return n test rows, always the same ones; all if n is None or larger.

        They are drawn: test sets are often sorted. The ELBO of a model of MNIST can be 16 nats
        lower on the first 1000 rows than on all.
        """
        if n is None or n >= len(self.x_test):
            return self.x_test
        order = stream(0, Purpose.TEST_ROWS).permutation(len(self.x_test))
        return self.x_test[np.sort(order[:n])]


def load_data(name: str, folder: str | os.PathLike[str] | None = None) -> Data:
    """Return the data set with this name.

    Parameters
    ----------
    name : str
        `digits` (the embedded ones) and `mnist` have a fresh binarization in each epoch;
        `digits-fixed` has one binarization; `digits-centered` and `mnist-centered` are grays in
        [0, 1] without their mean; `mnist-fixed` is the fixed binarization of Larochelle, with
        50000, 10000 and 10000 rows to train, to validate and to test; `frey` are the Frey faces as
        grays in [0, 1].
    folder : path, optional
        The folder with the files; by default that in the variable NUMPYVAE_DATA. The package has
        neither the fixed binarization nor the Frey faces, and does not download them.

    Returns
    -------
    data : Data

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or another one.

    Examples
    --------
    >>> float(load_data("digits").x_test.max())
    1.0
    """
    return DATA[name](folder)


def _fresh(load: Callable[[], Dataset]) -> Data:
    data = load()
    rng = stream(0, Purpose.BINARIZE_TEST)
    x_test = binarize(data.x_test, rng, maximum=data.maximum)
    mean = data.x_train.mean(axis=0) / data.maximum
    transform = partial(binarize, maximum=data.maximum)
    return Data(data.x_train, x_test, transform, mean, data.image_shape)


def _centered(load: Callable[[], Dataset]) -> Data:
    data = load()
    x_train, x_test = data.grays("train"), data.grays("test")
    mean = x_train.mean(axis=0)
    return Data(x_train - mean, x_test - mean, None, np.zeros_like(mean), data.image_shape)


def _fixed(folder: str | os.PathLike[str] | None) -> Data:
    path = _file("binarized_mnist_packed.npz", folder, "the fixed binarization of MNIST")
    sizes = {"train": 50_000, "valid": 10_000, "test": 10_000}
    with np.load(path) as file:
        if {name: file[name].shape for name in file} != {k: (n, 98) for k, n in sizes.items()}:
            raise ValueError(
                f"{path}: expected arrays train, valid and test of 50000, 10000 and 10000 rows "
                "with 98 bytes (784 packed bits), got others; choose another file"
            )
        # unpackbits returns its bits column by column in memory
        parts = [
            np.ascontiguousarray(np.unpackbits(file[name], axis=1, count=784)) for name in sizes
        ]
    x_train, x_valid, x_test = parts
    return Data(x_train, x_test, None, x_train.mean(axis=0), (28, 28), x_valid)


_FREY_TEST = 200  # the last faces are held out


def _frey(folder: str | os.PathLike[str] | None) -> Data:
    path = _file("freyfaces.npz", folder, "the Frey faces")
    try:
        with np.load(path) as file:
            faces = file["images"]
    except Exception as error:  # a damaged archive raises many kinds
        raise ValueError(
            f"{path}: expected an npz archive with the array images, got a damaged or another "
            f"file ({type(error).__name__}); choose another file"
        ) from None
    if faces.shape != (1965, 28, 20) or faces.dtype != np.uint8:
        raise ValueError(
            f"{path}: expected an array images of shape (1965, 28, 20) and dtype uint8, got shape "
            f"{faces.shape} and dtype {faces.dtype}; choose another file"
        )
    x = np.divide(faces.reshape(1965, 560), 255, dtype=np.float32)  # (N, h, w) → (N, D)
    order = stream(0, Purpose.SPLIT).permutation(len(x))
    x_train, x_test = x[np.sort(order[_FREY_TEST:])], x[np.sort(order[:_FREY_TEST])]
    return Data(x_train, x_test, None, x_train.mean(axis=0), (28, 20))


def _file(name: str, folder: str | os.PathLike[str] | None, what: str) -> Path:
    """Return the path of a file in the folder, or in that of NUMPYVAE_DATA."""
    place = folder or os.environ.get("NUMPYVAE_DATA")
    if place and (path := Path(place, name)).is_file():
        return path
    where = f"none in {place}" if place else "no folder"
    raise FileNotFoundError(
        f"{name}: expected {what} in the folder of --folder or of the variable NUMPYVAE_DATA, got "
        f"{where}; the package does not have this file, give the folder that has it"
    )


def _fixed_digits(_: Any) -> Data:
    data, rng = _fresh(load_digits), stream(0, Purpose.BINARIZE_VALIDATION)
    x_train = binarize(data.x_train, rng, maximum=load_digits().maximum)
    return data._replace(x_train=x_train, transform=None)


DATA: dict[str, Callable[[str | os.PathLike[str] | None], Data]] = {
    "digits": lambda _: _fresh(load_digits),
    "mnist": lambda folder: _fresh(lambda: load_mnist(folder)),
    "digits-fixed": _fixed_digits,
    "digits-centered": lambda _: _centered(load_digits),
    "mnist-centered": lambda folder: _centered(lambda: load_mnist(folder)),
    "mnist-fixed": _fixed,
    "frey": _frey,
}
