"""From the name of a data set, or a file, to arrays that suit a likelihood.

The data are images or rows with values from 0 to `maximum`. What each likelihood uses:

    bernoulli    x/maximum is a probability: drawn afresh in each epoch, the test set once
    binomial     the counts themselves, N = maximum
    poisson      the counts themselves
    gaussian:…   x/maximum, as grays in [0, 1]
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from .. import datasets
from ..core.likelihoods import Likelihood, parse_likelihood
from ..support.checks import check_labels, check_positive, check_rows, row_blocks, shown
from ..support.streams import Purpose, stream
from .usage import UsageError, check_likelihood, suggest

__all__ = ["DATASETS", "Prepared", "check_source", "prepare"]

DATASETS: dict[str, Callable[..., datasets.Dataset]] = {
    "digits": lambda folder: datasets.load_digits(),
    "mnist": datasets.load_mnist,
    "fashion": datasets.load_fashion_mnist,
}


@dataclass(frozen=True)
class Prepared:
    """Data ready for `fit` and for evaluation.

    Attributes
    ----------
    name : str
        The name of the data set, or the path of the file.
    likelihood : Likelihood
        The likelihood that the data suit.
    maximum : float
        The maximum value of the data before they were prepared.
    x_train : (N, D) array
        As `fit` reads it, to be passed through `transform` if that is not None.
    x_test : (M, D) array
        In the support of the likelihood; binarized once, with a fixed seed.
    labels_test : (M,) array or None
    image_shape : (h, w) or None
    transform : callable or None
    """

    name: str
    likelihood: Likelihood
    maximum: float
    x_train: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray | None
    image_shape: tuple[int, int] | None
    transform: Callable | None


def check_source(name: str, source: Any) -> str:
    """Return the name of a data set or the path of an array file, if `source` is one.

    Examples
    --------
    >>> check_source("--dataset", "digits")
    'digits'
    """
    text = os.fspath(source) if isinstance(source, os.PathLike) else source
    if isinstance(text, str) and (text in DATASETS or Path(text).suffix in (".npy", ".npz")):
        return text
    raise ValueError(
        f"{name}: expected {', '.join(DATASETS)} or the path of a .npy or .npz file, "
        f"got {shown(source)}{suggest(source, DATASETS)}"
    )


def prepare(
    source: str | os.PathLike[str],
    likelihood: str | Likelihood,
    maximum: float | None = None,
    folder: str | None = None,
) -> Prepared:
    """Load `source`, and turn it into data for `likelihood`.

    Parameters
    ----------
    source : str or path
        A key of `DATASETS`, or the path of an .npy or .npz file. An .npz file may contain `train`
        or `x_train`, `test` or `x_test` and `y_test`; where there is no test part, a tenth of
        the rows is held out, always the same. Images (N, h, w) are flattened.
    likelihood : str or Likelihood
        "binomial" alone is completed with the maximum.
    maximum : float, optional
        The largest possible value in a file; 1 if left out. A named data set has its own.
    folder : str, optional
        The folder with IDX files.

    Returns
    -------
    data : Prepared

    Raises
    ------
    UsageError
        If `maximum` is not that of the named data set, or not a whole number for "binomial".
    OSError, ValueError, TypeError
        If an argument is not valid, the data cannot be read, or do not suit the likelihood.

    Examples
    --------
    >>> prepare("digits", "binomial").likelihood
    Binomial(n=16)
    """
    source = check_source("source", source)
    likelihood = check_likelihood("likelihood", likelihood)
    if maximum is not None:
        maximum = check_positive("maximum", maximum)
    if source in DATASETS:
        data = DATASETS[source](folder)
        train, test, labels, shape = data.x_train, data.x_test, data.y_test, data.image_shape
        if maximum not in (None, data.maximum):
            raise UsageError(
                f"--maximum: expected {data.maximum:g}, the maximum value of {source}, "
                f"got {maximum:g}; leave it out: it is for the data of a FILE"
            )
        maximum = data.maximum
    else:
        train, test, labels, shape = _read_file(Path(source))
        maximum = 1.0 if maximum is None else maximum
    likelihood = _completed(likelihood, maximum)
    found = partial(Prepared, source, likelihood, maximum)
    if likelihood.reading == "fractions":
        train, test = (np.divide(part, maximum, dtype=np.float32) for part in (train, test))
    if likelihood.reading != "outcomes" or _is_binary(train, test):
        likelihood.check(train, source)
        likelihood.check(test, f"{source} (test)")
        return found(train, test, labels, shape, None)
    _check_range(source, train, maximum)
    _check_range(f"{source} (test)", test, maximum)
    test = datasets.binarize(test, stream(0, Purpose.BINARIZE_TEST), maximum)
    return found(train, test, labels, shape, partial(datasets.binarize, maximum=maximum))


def _completed(likelihood: str | Likelihood, maximum: float) -> Likelihood:
    """Return the likelihood; the number of trials of "binomial" alone is the maximum."""
    if likelihood != "binomial":
        return parse_likelihood(likelihood)
    if maximum != int(maximum):
        raise UsageError(
            f"--maximum: expected a whole number for --likelihood binomial, got {maximum:g}; "
            "give the largest count that the data can have"
        )
    return parse_likelihood(f"binomial:{int(maximum)}")


def _check_range(name: str, x: np.ndarray, maximum: float) -> None:
    """Raise ValueError unless value/maximum is a probability for every value of `x`."""
    low, high = x.min(), x.max()
    if low < 0 or high > maximum:
        remedy = "choose another --likelihood, as gaussian:learned"
        if low >= 0:
            remedy = f"give the largest possible value with --maximum, as --maximum {high:g}"
        raise ValueError(
            f"{name}: expected values in [0, {maximum:g}], got values from {low:g} to {high:g}; "
            + remedy
        )


def _is_binary(*parts: np.ndarray) -> bool:
    """Tell whether all values are 0 or 1."""
    return all(
        bool(((block == 0) | (block == 1)).all()) for part in parts for block in row_blocks(part)
    )


def _read_file(path: Path):
    """Read training rows, test rows, test labels or None, and image shape or None."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"  # the first bytes tell, whatever the suffix is
            file.seek(0)
            if zipped:
                with np.load(file, allow_pickle=False) as archive:
                    arrays = dict(archive)
        if not zipped:
            arrays = {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected arrays of numbers without pickle, got another or a damaged file "
            f"({error})"
        ) from None
    train = arrays.get("x_train", arrays.get("train", arrays.get("x")))
    if train is None and len(arrays) == 1:
        train = next(iter(arrays.values()))
    if train is None:
        raise ValueError(
            f"{path}: expected an array train, x_train or x, got {sorted(arrays)}; rename one"
        )
    test, labels = arrays.get("x_test", arrays.get("test")), arrays.get("y_test")
    shape = train.shape[1:] if train.ndim == 3 else None
    train = _as_rows(train, str(path))
    if test is None:
        order = stream(0, Purpose.SPLIT).permutation(len(train))
        held = max(1, len(train) // 10)
        if len(train) < 2:
            raise ValueError(f"{path}: expected at least two rows, one to test on, got 1")
        train, test, labels = train[np.sort(order[held:])], train[np.sort(order[:held])], None
    test = check_rows(_as_rows(test, f"{path} (test)"), train.shape[1], f"{path} (test)")
    if labels is not None:
        labels = check_labels(labels, len(test), f"{path} (y_test)")
    return train, test, labels, shape


def _as_rows(x: np.ndarray, name: str) -> np.ndarray:
    """Flatten images to rows, and check."""
    if x.ndim == 3:
        x = x.reshape(len(x), -1)
    return check_rows(x, name=name)
