"""Argument checks: a bad argument gets one line with what was expected, what came, what to do.

Public functions (`VAE`, `elbo`, `fit`, …) validate their arguments with these checks. Private
functions rely on that, so that the mathematics is free of defensive code.
"""

from __future__ import annotations

import dataclasses
import operator
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from .precision import collapsed_columns

__all__ = [
    "check_batch",
    "check_choice",
    "check_count",
    "check_data",
    "check_dtype",
    "check_kind",
    "check_labels",
    "check_noise",
    "check_positive",
    "check_rows",
    "check_seed",
    "check_settings",
    "check_vae",
    "check_vector",
    "check_weight",
    "check_widths",
    "row_blocks",
    "shown",
    "warn_caller",
]

_BLOCK_BYTES = 1 << 22  # values are read in 4 MiB pieces, so that a memmap stays on disk


def shown(value: Any) -> str:
    """Return `repr(value)` on one line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def warn_caller(message: str) -> None:
    """Show a UserWarning at the line of the caller's code that called into this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("numpyvae."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)


def check_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`; True, 2.5 and "3" are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name}: expected a whole number of at least {minimum}, got {shown(value)}"
        ) from None
    if count < minimum:
        raise ValueError(f"{name}: expected a whole number of at least {minimum}, got {count}")
    return count


def check_positive(name: str, value: Any) -> float:
    """Return `value` as a finite float above zero."""
    return _check_real(name, value, "above 0", lambda number: number > 0)


def check_weight(name: str, value: Any) -> float:
    """Return `value` as a finite float of at least zero."""
    return _check_real(name, value, "of at least 0", lambda number: number >= 0)


def _check_real(name: str, value: Any, where: str, lies_there: Callable[[float], bool]) -> float:
    """Return `value` as a finite float for which `lies_there` is true."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)) or np.ndim(value) != 0:
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number {where}, got {shown(value)}") from None
    except OverflowError:
        number = np.inf
    if not (lies_there(number) and number < np.inf):
        raise ValueError(f"{name}: expected a finite number {where}, got {number}")
    return number


def check_seed(seed: Any) -> int:
    """Return `seed` as a non-negative int: the same seed always gives the same draws."""
    return check_count("seed", seed, minimum=0)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        import difflib  # slow to load, and needed only for this message

        close = difflib.get_close_matches(value, choices, 1) if isinstance(value, str) else []
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {shown(value)}{hint}")
    return value


def check_kind(name: str, value: Any, kind: type, remedy: str) -> Any:
    """Return `value` if it is an instance of `kind`."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(
            f"{name}: expected {article} {kind.__name__}, got {shown(value)}; {remedy}"
        )
    return value


def check_settings(settings: Any, fractions: tuple[str, ...] = ()) -> None:
    """Check that the fields of a frozen dataclass are numbers above 0, and make them floats.

    A field whose default is None may be None; one whose default is True or False must be one of
    them; those in `fractions` must lie below 1.
    """
    for setting in dataclasses.fields(settings):
        value = getattr(settings, setting.name)
        if value is None and setting.default is None:
            continue
        if isinstance(setting.default, bool):
            check_kind(setting.name, value, bool, "set True or False")
            continue
        value = check_positive(setting.name, value)
        if setting.name in fractions and value >= 1:
            raise ValueError(f"{setting.name}: expected a number in (0, 1), got {value}")
        # A Python float: a NumPy float64 would turn float32 arrays into float64.
        object.__setattr__(settings, setting.name, value)


def check_dtype(dtype: Any) -> str:
    """Return the name of `dtype` if it is float32 or float64."""
    with suppress(TypeError):  # what is not a dtype is refused below
        dtype = np.dtype(dtype).name
    return check_choice("dtype", dtype, ("float32", "float64"))


def check_widths(hidden: Any) -> tuple[int, ...]:
    """Return the hidden widths as a tuple; one number is one layer."""
    if isinstance(hidden, (int, np.integer)):
        hidden = (hidden,)
    if isinstance(hidden, np.ndarray) and hidden.ndim == 1:
        hidden = tuple(hidden)
    if not isinstance(hidden, (tuple, list)):
        raise TypeError(f"hidden: expected a tuple of whole numbers, got {shown(hidden)}")
    return tuple(check_count("hidden", width) for width in hidden)


def check_vector(name: str, vector: Any, size: int) -> np.ndarray:
    """Return `vector` if it is a contiguous array of shape (size,)."""
    proper = isinstance(vector, np.ndarray) and vector.flags.c_contiguous
    if not proper or vector.shape != (size,):
        raise ValueError(
            f"{name}: expected a contiguous vector of {size} parameters, got "
            f"{type(vector).__name__} of shape {np.shape(vector)}; "
            "pass numpy.ascontiguousarray(vector)"
        )
    return vector


def row_blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of `x` in blocks of about 4 megabytes.

    Parameters
    ----------
    x : (N, D) array
    """
    rows = max(1, _BLOCK_BYTES // max(1, x.shape[1] * x.itemsize))
    for start in range(0, x.shape[0], rows):
        yield x[start : start + rows]


def check_rows(
    x: Any,
    columns: int | None = None,
    name: str = "x",
    dtype: np.dtype | None = None,
    rows: int | None = None,
) -> np.ndarray:
    """Return `x` as a real, finite (rows, columns) array; nothing is copied if it is one.

    Parameters
    ----------
    x : (rows, columns) array_like of bool, int or float
        May be read-only, strided, in Fortran order, big-endian or a `numpy.memmap`.
    columns : int, optional
        The required number of columns.
    name : str
        Name of `x` in the error message.
    dtype : floating dtype, optional
        Values too large for it are refused; `x` itself is not converted.
    rows : int, optional
        The required number of rows, which is that of the data x.

    Raises
    ------
    TypeError
        If `x` is masked, or its values are not real numbers (complex, object, text, …).
    ValueError
        If `x` has another number of dimensions, columns or rows, no rows or no columns, or
        contains NaN or infinity.

    Warns
    -----
    UserWarning
        If distinct values of a column become equal in `dtype`, as time stamps do in float32.
    """
    if np.ma.isMaskedArray(x):
        raise TypeError(
            f"{name}: expected a plain array, got a masked array; "
            "fill the gaps or drop those rows first"
        )
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{name}: expected a 2-D array (rows, columns), got rows of different lengths"
        ) from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name}: expected real numbers, got {_kind(x, array)}; {_remedy(x)}")
    if array.ndim != 2:
        remedy = "; a single row is x[None, :]" if array.ndim == 1 else ""
        if array.ndim == 3:
            remedy = "; flatten images with x.reshape(len(x), -1)"
        raise ValueError(
            f"{name}: expected a 2-D array (rows, columns), got shape {array.shape}{remedy}"
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name}: expected at least one row and one column, got shape {array.shape}"
        )
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name}: expected {columns} columns, got {array.shape[1]}")
    if rows is not None and array.shape[0] != rows:
        raise ValueError(f"{name}: expected {rows} rows, as many as x, got {array.shape[0]}")
    if array.dtype.kind == "f":
        narrower = dtype is not None and np.dtype(dtype).itemsize < array.dtype.itemsize
        for block in row_blocks(array):
            if not np.isfinite(block).all():
                raise ValueError(
                    f"{name}: expected finite values, got NaN or infinity; "
                    "drop or repair those entries first"
                )
            if narrower and np.abs(block).max() > np.finfo(dtype).max:
                raise ValueError(
                    f"{name}: expected values within the range of {np.dtype(dtype)}, got "
                    f"{np.abs(block).max():g}; scale the data or use dtype='float64'"
                )
    if dtype is not None:
        for column, before, after in collapsed_columns(array, dtype)[:1]:
            warn_caller(
                f"{name}: only {after} of {before} distinct values in column {column} stay "
                f"distinct in {np.dtype(dtype)}; subtract the column's mean and divide by its "
                "standard deviation, or use dtype='float64'"
            )
    return array


def _kind(x: Any, array: np.ndarray) -> str:
    return "a sparse matrix" if hasattr(x, "toarray") else f"dtype {array.dtype}"


def _remedy(x: Any) -> str:
    """Return how to make numbers of what is not an array of them."""
    if hasattr(x, "toarray"):
        return "make it dense with x.toarray(), or numpyvae.datasets.read_data(x).x_train"
    if hasattr(x, "columns"):
        return "choose its columns of numbers with numpyvae.datasets.read_data(x, columns=[…])"
    return "convert it with numpy.asarray(x, dtype=float)"


def check_labels(labels: Any, rows: int, name: str = "labels") -> np.ndarray:
    """Return class labels as an array (rows,) of whole numbers."""
    try:
        array = np.asarray(labels)
    except ValueError:
        raise ValueError(f"{name}: expected shape ({rows},), got a ragged list") from None
    if array.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), one label a row, got {array.shape}")
    if array.dtype.kind not in "bui" or np.ma.isMaskedArray(labels):
        kind = "a masked array" if np.ma.isMaskedArray(labels) else f"dtype {array.dtype}"
        raise TypeError(f"{name}: expected class labels as whole numbers, got {kind}")
    return array


def check_vae(vae: Any) -> None:
    """Raise TypeError unless `vae` has the attributes of a `VAE`; its class does not matter."""
    if not all(hasattr(vae, name) for name in ("encoder", "decoder", "likelihood", "parameters")):
        raise TypeError(
            f"vae: expected a VAE, got {shown(vae)}; make one with VAE(data_dim, latent_dim), "
            "or read it from its file with VAE.load(path)"
        )


def check_data(vae: Any, x: Any, name: str = "x") -> np.ndarray:
    """Return `x` as `check_rows` does, after a check that it is data for the model `vae`.

    Raises
    ------
    TypeError, ValueError
        If `vae` is not a VAE, or `x` is not an array of `vae.data_dim` columns whose values are
        finite in its dtype and in the support of its likelihood.
    """
    check_vae(vae)
    x = check_rows(x, vae.data_dim, name, vae.dtype)
    vae.likelihood.check(x, name)
    return x


def check_batch(
    vae: Any, x: Any, eps: Any, name: str = "eps", K: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return x (B, D) and the noise (L, B, J) in the dtype of `vae`, after a check of all three.

    `name` is what a message calls the noise: "z" where latents are given in its place, which may
    be complex, for the complex step. The number of draws must be a multiple of K.
    """
    x = check_data(vae, x).astype(vae.dtype, copy=False)
    if name == "z" and np.iscomplexobj(eps):
        return x, eps
    eps = check_noise(eps, len(x), vae.latent_dim, name).astype(vae.dtype, copy=False)
    if len(eps) % K:
        raise ValueError(
            f"{name}: expected L·K draws for each datapoint, a multiple of K = {K}, got "
            f"{len(eps)}; draw {K} or change n_importance"
        )
    return x, eps


def check_noise(eps: Any, rows: int, latent_dim: int, name: str = "eps") -> np.ndarray:
    """Return the noise `eps`, or another array called `name`, if its shape is (L, rows, J)."""
    if np.ma.isMaskedArray(eps):
        raise TypeError(f"{name}: expected a plain array, got a masked array")
    try:
        array = np.asarray(eps)
    except ValueError:
        raise ValueError(
            f"{name}: expected shape (L, {rows}, {latent_dim}), got parts of different lengths"
        ) from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[1:] != (rows, latent_dim):
        raise ValueError(
            f"{name}: expected shape (L, {rows}, {latent_dim}), one standard normal draw for each "
            f"sample, row and latent, got {array.shape}; draw it with "
            f"rng.standard_normal((L, {rows}, {latent_dim}))"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return array
