"""Choose columns by name or number, and turn cells into numbers or say which are none.

In a text, as on the command line, columns are given by name or counted from 1, with ranges:
`age,height` or `1,3-5`. In Python a list has names, or positions that count from 0 as NumPy's do.
A message counts rows and columns from 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..support.checks import shown

__all__ = ["as_labels", "as_numbers", "choose", "column_name", "is_missing"]

MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-", "<na>", "nat"}


def is_missing(cell: Any) -> bool:
    """Tell whether a cell stands for a value that is not known: empty, NA, NaN, null, …

    Examples
    --------
    >>> is_missing(" NA "), is_missing("0")
    (True, False)
    """
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or cell != cell  # NaN and its kin differ from themselves


def column_name(names: Sequence[str] | None, i: int) -> str:
    """Return what a message calls the column with index `i`.

    Examples
    --------
    >>> column_name(["age"], 0), column_name(None, 0)
    ("column 'age'", 'column 1')
    """
    return f"column {i + 1}" if names is None else f"column {names[i]!r}"


def choose(spec: Any, names: Sequence[str] | None, width: int, source: str) -> list[int]:
    """Return the positions of the columns that `spec` names, counted from 0.

    Parameters
    ----------
    spec : str, or sequence of str and int
        See the head of this module.
    names : sequence of str or None
        The names of the columns of the source.
    width : int
        Their number.
    source : str
        What a message calls the source.

    Raises
    ------
    ValueError
        If a column does not exist, or is named twice.

    Examples
    --------
    >>> choose("1,3-4", None, 5, "x.csv")
    [0, 2, 3]
    >>> choose(["b"], ["a", "b"], 2, "x.csv")
    [1]
    """
    parts = [p.strip() for p in spec.split(",")] if isinstance(spec, str) else list(spec)
    found: list[int] = []
    for part in parts:
        found += _positions(part, isinstance(spec, str), names, width, source)
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"{source}: expected different columns, got {shown(spec)}; name each of them once"
        )
    return found


def _positions(
    part: Any, text: bool, names: Sequence[str] | None, width: int, source: str
) -> list[int]:
    if isinstance(part, str) and names is not None and part in names:
        return [list(names).index(part)]
    numbers = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) if isinstance(part, str) else None
    if text and numbers:
        first = int(numbers[1])
        last = int(numbers[2] or first)
        if 1 <= first <= last <= width:
            return list(range(first - 1, last))
    elif isinstance(part, (int, np.integer)) and not isinstance(part, bool) and 0 <= part < width:
        return [int(part)]
    known = f"1 to {width}" if names is None else f"{', '.join(map(str, names[:8]))}"
    more = ", …" if names is not None and len(names) > 8 else ""
    raise ValueError(
        f"{source}: expected columns among {known}{more}, got {shown(part)}; "
        "give names of the header, or numbers that count from 1, as in 1,3-5"
    )


def as_numbers(
    cells: Sequence[Sequence[Any]],
    names: Sequence[str] | None,
    source: str,
    first_row: int = 1,
) -> np.ndarray:
    """Return rows of texts as a float64 array.

    Parameters
    ----------
    cells : sequence of rows
    names : sequence of str or None
        The names of the columns.
    source : str
        What a message calls the source.
    first_row : int
        The number of the first row in the source.

    Returns
    -------
    x : (N, D) array

    Raises
    ------
    ValueError
        If a cell is missing, is not a number or is infinite: their numbers, and the first.
    """
    try:
        x = np.array(cells, dtype=float)
        if np.isfinite(x).all():
            return x
    except (ValueError, TypeError):
        pass
    raise _bad_cells(cells, names, source, first_row)


def _bad_cells(
    cells: Sequence[Sequence[Any]], names: Sequence[str] | None, source: str, first_row: int
) -> ValueError:
    """Return the error that counts the missing cells and the texts, and names the first."""
    missing, texts = [], []
    for r, row in enumerate(cells):
        for c, cell in enumerate(row):
            if is_missing(cell):
                missing.append((r, c))
            elif not _is_number(cell):
                texts.append((r, c))
    kind, found = ("text", texts) if texts else ("missing values", missing)
    r, c = found[0]
    columns = sorted({j for _, j in found})
    listed = ", ".join(column_name(names, j).removeprefix("column ") for j in columns[:5])
    many = f" of {len(columns)} columns ({listed}{', …' if len(columns) > 5 else ''})"
    hint = ""
    if kind == "text":
        cell = str(cells[r][c])
        if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
            hint = "write a decimal point in place of the comma, or "
        remedy = (
            f"{hint}leave the {'columns' if len(columns) > 1 else 'column'} out by naming the "
            "others with --columns; a column of classes is named with --label-column"
        )
    else:
        remedy = "remove those rows from the file, or name the complete columns with --columns"
    got = f"{shown(cells[r][c])} " if kind == "text" else ""
    return ValueError(
        f"{source}: expected numbers, got {kind} in {len(found)} cells{many}, the first {got}in "
        f"row {first_row + r}, {column_name(names, c)}; {remedy}"
    )


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(cell))
    except (ValueError, TypeError, OverflowError):
        return False


def as_labels(labels: Any, rows: int, name: str) -> np.ndarray:
    """Return labels as whole numbers or texts (rows,); rows of one 1 and zeros are numbered.

    Parameters
    ----------
    labels : (rows,) array_like, or (rows, C) of 0 and 1
    rows : int
    name : str
        What a message calls them.

    Raises
    ------
    ValueError
        If there are other than `rows` of them, one is missing, or they are not classes.

    Examples
    --------
    >>> as_labels([[0, 1], [1, 0]], 2, "y")
    array([1, 0])
    >>> as_labels(["cat", "dog"], 2, "y").tolist()
    ['cat', 'dog']
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    numbers = array.dtype.kind in "buif"
    if array.ndim == 2 and numbers and ((array == 0) | (array == 1)).all():
        array = array.argmax(axis=1) if (array.sum(axis=1) == 1).all() else array
    if array.shape != (rows,):
        raise ValueError(
            f"{name}: expected shape ({rows},), one label a row, got {array.shape}; "
            "save labels of the same rows, or leave them out of the file"
        )
    if array.dtype.kind == "O":
        array = np.array([None if is_missing(v) else v for v in array], object)
        gone = np.array([v is None for v in array])
        array = array if gone.any() else array.astype(str)
    else:
        gone = np.char.strip(array) == "" if array.dtype.kind in "U" else np.zeros(rows, bool)
        if array.dtype.kind == "f":
            gone = ~np.isfinite(array)
    if gone.any():
        raise ValueError(
            f"{name}: expected a class for each row, got {int(gone.sum())} missing ones, the "
            f"first in row {int(np.argmax(gone)) + 1}; give these rows a class of their own, or "
            "leave the labels out of the file"
        )
    if array.dtype.kind == "f":
        if (array != np.floor(array)).any() or np.abs(array).max() > 1 << 53:
            raise ValueError(
                f"{name}: expected class labels as whole numbers or texts, got "
                f"{array[array != np.floor(array)][:1]}; leave them out of the file"
            )
        array = array.astype(np.int64)
    if array.dtype.kind not in "buiUS":
        raise ValueError(f"{name}: expected class labels, got dtype {array.dtype}")
    return array.astype(str) if array.dtype.kind == "S" else array
