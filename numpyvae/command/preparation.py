"""From the name of a data set, or a file, to arrays that suit a likelihood.

The data are images or rows. What each likelihood uses:

    bernoulli    raw/maximum is a probability: drawn afresh in each epoch, the test set once
    binomial     the counts themselves, N = maximum
    poisson      the counts themselves
    gaussian:…   the raw values, divided by the maximum or standardized if `scale` says so

What was done is a `Preparation`, which the model file keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .. import datasets
from ..core.likelihoods import Likelihood, parse_likelihood
from ..datasets.columns import column_name
from ..datasets.reading import RawData, looks_like_data, read_data
from ..support.checks import check_choice, check_positive, row_blocks, shown, warn_caller
from ..support.preparation import SCALES, Preparation
from ..support.streams import Purpose, stream
from .advice import remarks
from .usage import UsageError, check_likelihood, suggest

__all__ = [
    "DATASETS",
    "Prepared",
    "check_maximum",
    "check_range",
    "check_source",
    "draw_outcomes",
    "is_binary",
    "load",
    "prepare",
    "with_classes",
]

DATASETS: dict[str, Callable[..., datasets.Dataset | RawData]] = {
    "digits": lambda folder: datasets.load_digits(),
    "wine": lambda folder: datasets.load_wine(),
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
    labels_test : (M,) array of int, or None
    image_shape : (h, w) or None
    transform : callable or None
    preparation : Preparation
        What was done to the raw data.
    x_valid : (V, D) array, or None
        The validation part of the file, if it has one.
    grays_test : (M, D) array, or None
        The test rows before they were binarized, in [0, 1].
    classes : tuple of str, or None
        The names of the classes 0, 1, …, if the file has texts.
    """

    name: str
    likelihood: Likelihood
    maximum: float
    x_train: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray | None
    image_shape: tuple[int, int] | None
    transform: Callable | None
    preparation: Preparation
    x_valid: np.ndarray | None = None
    grays_test: np.ndarray | None = None
    classes: tuple[str, ...] | None = None


def check_source(name: str, source: Any) -> str:
    """Return the name of a data set or the path of a file or folder, if `source` is one.

    Examples
    --------
    >>> check_source("--dataset", "digits")
    'digits'
    """
    text = os.fspath(source) if isinstance(source, os.PathLike) else source
    if isinstance(text, str) and (text in DATASETS or looks_like_data(text)):
        return text
    raise ValueError(
        f"{name}: expected {', '.join(DATASETS)} or the path of a .npy, .npz, .csv or IDX file or "
        f"of a folder with PNG images, got {shown(source)}{suggest(source, DATASETS)}"
    )


def prepare(
    source: str | os.PathLike[str],
    likelihood: str | Likelihood,
    maximum: float | None = None,
    folder: str | None = None,
    *,
    scale: str | None = None,
    columns: Any = None,
    label_column: Any = None,
    delimiter: str | None = None,
) -> Prepared:
    """Load `source`, and turn it into data for `likelihood`.

    Parameters
    ----------
    source : str or path
        A key of `DATASETS`, or the path of a file or folder that `read_data` can read. Where
        there is no test part, a tenth of the rows is held out, always the same.
    likelihood : str or Likelihood
        "binomial" alone is completed with the maximum.
    maximum : float, optional
        The largest possible value in a file; 1 if left out. A named data set has its own.
    folder : str, optional
        The folder with IDX files.
    scale : {"none", "maximum", "standardize"}, optional
        How real numbers are scaled; by default divided by the maximum, if one is known.
    columns, label_column, delimiter : optional
        See `read_data`.

    Returns
    -------
    data : Prepared

    Raises
    ------
    UsageError
        If `maximum` is not that of the named data set, or not a whole number for "binomial", or
        the scale does not suit the likelihood.
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
    options = {"columns": columns, "label_column": label_column, "delimiter": delimiter}
    raw = load(source, folder, **options)
    free = scale is None
    scale, maximum = _scale(source, raw, likelihood, scale, maximum)
    likelihood = _completed(likelihood, maximum)
    binary = likelihood.reading == "outcomes" and is_binary(raw)
    if likelihood.reading == "outcomes" and not binary:
        check_range(raw, maximum)
    raw, x_test = _split(raw)
    preparation = _preparation(raw, likelihood, scale, maximum, binary)
    for note in (*raw.notes, *remarks(raw.x_train, preparation, free)):
        warn_caller(note)
    data = with_classes(
        Prepared(
            name=source,
            likelihood=likelihood,
            maximum=maximum,
            x_train=raw.x_train,
            x_test=x_test,
            labels_test=raw.y_test,
            image_shape=raw.image_shape,
            transform=None,
            preparation=preparation,
            x_valid=raw.x_valid,
        )
    )
    return _drawn(data) if preparation.binarize else _applied(data)


def load(source: str, folder: str | None = None, **options: Any) -> RawData:
    """Return the rows of a named data set or of a file, as they were stored.

    Parameters
    ----------
    source : str
    folder : str, optional
    **options : Any
        For `read_data`.
    """
    if source not in DATASETS:
        return read_data(source, **options)
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"--{name.replace('_', '-')}: expected a FILE to read columns from, got the data "
                f"set {source}; leave it out"
            )
    data = DATASETS[source](folder)
    if isinstance(data, RawData):
        return data
    return RawData(
        source,
        data.x_train,
        data.y_train,
        x_test=data.x_test,
        y_test=data.y_test,
        image_shape=data.image_shape,
        maximum=float(data.maximum),
    )


def _split(raw: RawData) -> tuple[RawData, np.ndarray]:
    """Return the data with a test part: its own, or a tenth of the rows, always the same."""
    if raw.x_test is not None:
        return raw, raw.x_test
    N = len(raw.x_train)
    if N < 2:
        raise ValueError(f"{raw.name}: expected at least two rows, one to test on, got 1")
    held = max(1, N // 10)
    order = stream(0, Purpose.SPLIT).permutation(N)
    train, test = np.sort(order[held:]), np.sort(order[:held])
    x_test = raw.x_train[test]
    parts: dict[str, Any] = {"x_train": raw.x_train[train], "x_test": x_test}
    if raw.y_train is not None:
        parts |= {"y_train": raw.y_train[train], "y_test": raw.y_train[test]}
    return replace(raw, **parts), x_test


def check_maximum(source: str, raw: RawData, maximum: float | None) -> None:
    """Raise UsageError if `maximum` is given for a named data set that has another one."""
    if source in DATASETS and maximum not in (None, raw.maximum):
        raise UsageError(
            f"--maximum: expected {raw.maximum:g}, the maximum value of {source}, "
            f"got {maximum:g}; leave it out: it is for the data of a FILE"
        )


def _scale(
    source: str,
    raw: RawData,
    likelihood: str | Likelihood,
    scale: str | None,
    maximum: float | None,
) -> tuple[str, float]:
    """Return the rule and the maximum: as given, as the format declares, or the defaults."""
    check_maximum(source, raw, maximum)
    if scale is not None:
        check_choice("scale", scale, SCALES)
    if scale in ("none", "standardize") and maximum is not None:
        raise UsageError(
            f"--maximum: expected it with --scale maximum, got --scale {scale}; leave one out"
        )
    kind = "binomial" if likelihood == "binomial" else parse_likelihood(likelihood).reading
    if scale == "standardize" and kind != "fractions":
        raise UsageError(
            f"--scale: expected none or maximum for --likelihood {_name(likelihood)}, whose data "
            "are whole numbers, got standardize; choose --likelihood gaussian:learned"
        )
    known = raw.maximum if maximum is None else maximum
    if scale == "standardize" or (scale == "none" and kind == "fractions"):
        return scale, 1.0
    if scale == "maximum" and known is None:
        known = check_positive(
            f"the largest value in {source}",
            max(float(x.max()) for x in parts_of(raw).values()),
        )
    return ("none" if known is None else "maximum"), (1.0 if known is None else known)


def _name(likelihood: str | Likelihood) -> str:
    return likelihood if isinstance(likelihood, str) else likelihood.name


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


def _preparation(
    raw: RawData, likelihood: Likelihood, scale: str, maximum: float, binary: bool
) -> Preparation:
    """Return what is done to the raw rows, which the model file keeps."""
    plain = likelihood.reading == "values" or binary
    return Preparation.fitted(
        raw.x_train,
        "none" if plain else scale,
        maximum=1.0 if plain else maximum,
        reading=likelihood.reading,
        binarize=likelihood.reading == "outcomes" and not binary,
        columns=raw.columns,
        names=raw.names,
        image_shape=raw.image_shape,
    )


def with_classes(data: Prepared) -> Prepared:
    """Return the data with their classes as numbers, if they are texts."""
    if data.labels_test is None or data.labels_test.dtype.kind != "U":
        return data
    classes, numbers = np.unique(data.labels_test, return_inverse=True)
    return replace(data, labels_test=numbers.reshape(-1), classes=tuple(map(str, classes)))


def _applied(data: Prepared) -> Prepared:
    """Return the data in the unit of x, checked."""
    p = data.preparation
    parts: dict[str, Any] = {
        "x_train": data.x_train,
        "x_valid": data.x_valid,
        "x_test": data.x_test,
    }
    for name, part in parts.items():
        if part is None:
            continue
        if p.reading == "fractions":
            parts[name] = part = p.apply(part)
        what = data.name if name == "x_train" else f"{data.name} ({name[2:]})"
        _check(data.likelihood, part, what)
    return replace(data, **parts)


def _check(likelihood: Likelihood, x: np.ndarray, name: str) -> None:
    """Check that the likelihood can have the data; a count above its n has its own remedy."""
    high = float(x.max())
    if likelihood.name.startswith("binomial") and high > likelihood.support[1]:
        raise ValueError(
            f"{name}: expected counts from 0 to {likelihood.support[1]:g} for the likelihood "
            f"{likelihood.name}, got values up to {high:g}; give the largest possible count: "
            f"--likelihood binomial --maximum {high:g}"
        )
    likelihood.check(x, name)


def _drawn(data: Prepared) -> Prepared:
    """Return the data with outcomes drawn: the test set once, the training set in each epoch."""
    valid = None if data.x_valid is None else draw_outcomes(data.x_valid, data.maximum)
    return replace(
        data,
        x_test=draw_outcomes(data.x_test, data.maximum),
        x_valid=valid,
        grays_test=np.divide(data.x_test, data.maximum, dtype=np.float32),
        transform=partial(datasets.binarize, maximum=data.maximum),
    )


def draw_outcomes(x: np.ndarray, maximum: float) -> np.ndarray:
    """Return 0 or 1, drawn with probability x/maximum and always in the same way.

    Examples
    --------
    >>> draw_outcomes(np.array([[0, 255]]), 255)
    array([[0., 1.]], dtype=float32)
    """
    return datasets.binarize(x, stream(0, Purpose.BINARIZE_TEST), maximum)


def parts_of(raw: RawData) -> dict[str, np.ndarray]:
    """Return the parts that the data have, by what messages call them."""
    parts = {"": raw.x_train, " (valid)": raw.x_valid, " (test)": raw.x_test}
    return {raw.name + part: x for part, x in parts.items() if x is not None}


def check_range(raw: RawData, maximum: float) -> None:
    """Raise ValueError unless value/maximum is a probability for every value."""
    for name, x in parts_of(raw).items():
        low, high = x.min(), x.max()
        if low >= 0 and high <= maximum:
            continue
        remedy = "choose another --likelihood, as gaussian:learned"
        if low >= 0:
            remedy = f"give the largest possible value with --maximum, as --maximum {high:g}"
        outside = sum(int(((b < 0) | (b > maximum)).sum()) for b in row_blocks(x))
        row, column = _first_outside(x, maximum)
        raise ValueError(
            f"{name}: expected values in [0, {maximum:g}], got values from {low:g} to {high:g} "
            f"({outside} outside, the first in row {row + 1}, "
            f"{column_name(raw.names, column)}); {remedy}"
        )


def _first_outside(x: np.ndarray, maximum: float) -> tuple[int, int]:
    """Return row and column of the first value outside [0, maximum]."""
    start = 0
    for block in row_blocks(x):
        wrong = np.argwhere((block < 0) | (block > maximum))
        if len(wrong):
            return start + int(wrong[0, 0]), int(wrong[0, 1])
        start += len(block)
    raise AssertionError("no value lies outside")


def is_binary(raw: RawData) -> bool:
    """Tell whether all values are 0 or 1."""
    return all(
        bool(((block == 0) | (block == 1)).all())
        for x in parts_of(raw).values()
        for block in row_blocks(x)
    )
