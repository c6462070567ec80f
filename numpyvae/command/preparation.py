"""From the name of a data set, or a file, to arrays that suit a likelihood.

Every source is images or rows with values 0 … `maximum`. What a likelihood makes of them:

    bernoulli    x/maximum is a probability: drawn afresh in each epoch, the test set once
    binomial:N   the counts themselves, N = maximum
    gaussian:…   x/maximum, as grays in [0, 1]
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .. import datasets
from ..core.likelihoods import Binomial, Likelihood
from ..support.checks import check_rows, row_blocks
from ..support.streams import Purpose, stream

__all__ = ["DATASETS", "Prepared", "prepare"]

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
    x_train : (N, D) array
        As `fit` reads it, to be passed through `transform` if that is not None.
    x_test : (M, D) array
        In the support of the likelihood; binarized once, with a fixed seed.
    labels_test : (M,) array or None
    image_shape : (h, w) or None
    transform : callable or None
    """

    name: str
    x_train: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray | None
    image_shape: tuple[int, int] | None
    transform: Callable | None


def prepare(
    source: str, likelihood: Likelihood, maximum: float = 1.0, folder: str | None = None
) -> Prepared:
    """Load `source` and fit it to `likelihood`.

    Parameters
    ----------
    source : str
        A key of `DATASETS`, or the path of an .npy or .npz file. An .npz file may hold `train`
        or `x_train`, `test` or `x_test` and `y_test`; where there is no test part, a tenth of
        the rows is held out, always the same. Images (N, h, w) are flattened.
    likelihood : Likelihood
    maximum : float
        The largest possible value in a file; named data sets know theirs.
    folder : str, optional
        Where IDX files lie.

    Raises
    ------
    OSError, ValueError, TypeError
        If the data cannot be read, or do not suit the likelihood.
    """
    if source in DATASETS:
        data = DATASETS[source](folder)
        train, test, labels, shape = data.x_train, data.x_test, data.y_test, data.image_shape
        maximum = data.maximum
    else:
        train, test, labels, shape = _read_file(Path(source))
    if not isinstance(likelihood, Binomial):
        train, test = (np.divide(part, maximum, dtype=np.float32) for part in (train, test))
        return Prepared(source, train, test, labels, shape, None)
    if likelihood.name != "bernoulli" or _is_binary(train, test):
        likelihood.check(train)
        likelihood.check(test)
        return Prepared(source, train, test, labels, shape, None)
    rng = stream(0, Purpose.BINARIZE_TEST)
    test = datasets.binarize(test, rng, maximum)
    transform = partial(datasets.binarize, maximum=maximum)
    transform(train[:1], rng)  # a first draw, so that a wrong maximum is told here
    return Prepared(source, train, test, labels, shape, transform)


def _is_binary(*parts: np.ndarray) -> bool:
    """Tell whether all values are 0 or 1."""
    return all(
        bool(((block == 0) | (block == 1)).all()) for part in parts for block in row_blocks(part)
    )


def _read_file(path: Path):
    """Read training rows, test rows, test labels or None, and image shape or None."""
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(
            f"dataset: expected {', '.join(DATASETS)} or a .npy or .npz file, got {str(path)!r}"
        )
    try:
        if path.suffix == ".npy":
            arrays = {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
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
    test = check_rows(_as_rows(test, str(path)), train.shape[1], f"{path} (test)")
    return train, test, labels, shape


def _as_rows(x: np.ndarray, name: str) -> np.ndarray:
    """Flatten images to rows, and check."""
    if x.ndim == 3:
        x = x.reshape(len(x), -1)
    return check_rows(x, name=name)
