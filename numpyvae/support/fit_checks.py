"""Checks of what `fit` is given, and of what functions of the caller return to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .checks import check_count, check_data, check_rows, check_vae, shown
from .stopping import EarlyStopping

__all__ = [
    "check_batch_size",
    "check_callbacks",
    "check_factor",
    "check_fit_data",
    "check_functions",
    "check_transformed",
]


def check_batch_size(batch_size: Any, rows: int) -> int:
    """Return the number of rows in a batch: 100, or `rows` if they are fewer, unless given."""
    batch_size = min(100, rows) if batch_size is None else check_count("batch_size", batch_size)
    if batch_size > rows:
        raise ValueError(f"batch_size: expected at most the {rows} rows of x, got {batch_size}")
    return batch_size


def check_fit_data(vae: Any, x: Any, x_valid: Any, transform: Any) -> tuple:
    """Return the rows to train on and those to validate on, if there are any.

    What a transform takes need not be data of the model; what it returns is checked later. The
    training rows are contiguous, unless they stay on disk: a batch takes single rows, and from an
    array in Fortran order, as pandas makes it, this takes 10 to 20 times longer.
    """
    check_vae(vae)
    x = check_data(vae, x) if transform is None else check_rows(x, vae.data_dim)
    if x.strides[1] != x.itemsize and not _on_disk(x):
        x = np.ascontiguousarray(x)
    return x, None if x_valid is None else check_data(vae, x_valid, "x_valid")


def _on_disk(x: Any) -> bool:
    """Whether an array, or one of those that it is a view of, is a `numpy.memmap`."""
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return isinstance(x, np.memmap)


def check_functions(**functions: Any) -> None:
    """Raise TypeError unless each is None or can be called."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function, got {shown(function)}")


def check_callbacks(callbacks: Any, x_valid: Any) -> list[Callable]:
    """Return the callbacks as a list; early stopping needs a validation set."""
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks: expected a list of functions, got {shown(callbacks)}; put it in a list"
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks: expected functions, got {shown(callback)}")
        if x_valid is None and isinstance(callback, EarlyStopping):
            raise ValueError("patience: expected a validation set in fit, got none; pass x_valid")
    return callbacks


def check_factor(factor: Any) -> float:
    """Return what a schedule gave, if it is a finite number of at least 0."""
    if isinstance(factor, (bool, str)) or not isinstance(factor, (int, float, np.number)):
        raise TypeError(f"schedule: expected a number from it, got {shown(factor)}")
    if not (math.isfinite(factor) and factor >= 0):
        raise ValueError(f"schedule: expected a finite factor of at least 0, got {factor}")
    return float(factor)


def check_transformed(batch: Any, rows: int, vae: Any, first: bool) -> np.ndarray:
    """Return what a transform made, if the model can take it.

    The first batch of an epoch is checked in full; of the others only the shape and the range,
    unless the data must be whole numbers.
    """
    name, likelihood = "the result of transform", vae.likelihood
    alike = type(batch) is np.ndarray and batch.shape == (rows, vae.data_dim)
    whole = likelihood.integers and likelihood.reading != "outcomes"
    if not first and alike and not whole and batch.dtype.kind in "buif":
        (low, high), least, most = likelihood.support, batch.min(), batch.max()
        if low <= least <= most <= high and math.isfinite(least) and math.isfinite(most):
            return batch
    batch = check_rows(batch, vae.data_dim, name, vae.dtype, rows=rows)
    likelihood.check(batch, name)
    return batch
