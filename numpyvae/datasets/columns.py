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

__all__ = ["Cells", "as_labels", "choose", "column_name", "is_missing", "is_number"]

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


_KINDS = ("text", "infinite values", "missing values")  # the first that is found is told


def _is_infinite(cell: Any) -> bool:
    try:
        return math.isinf(float(cell))
    except (ValueError, TypeError, OverflowError):
        return False


class Cells:
    """Turn blocks of cells into numbers; count those that are none, and remember the first.

    Parameters
    ----------
    source : str
        What a message calls the source.
    names : sequence of str or None
        The names of all columns of the source.
    positions : sequence of int
        The positions of the columns in the source, counted from 0.
    row : str
        What a message calls a row: "line" for a text file.
    """

    def __init__(
        self, source: str, names: Sequence[str] | None, positions: Sequence[int], row: str = "row"
    ) -> None:
        self._source, self._row = source, row
        self._names = [column_name(names, i) for i in positions]
        self._given = [str(i + 1) if names is None else names[i] for i in positions]
        self._counts: dict[str, dict[int, int]] = {kind: {} for kind in _KINDS}
        self._first: dict[str, tuple[int, int, Any]] = {}

    def numbers(self, cells: Sequence[Sequence[Any]], first_row: int = 1) -> np.ndarray:
        """Return a block as a float64 array (N, D); NaN where a cell is not a finite number."""
        try:
            x = np.array(cells, dtype=float)
            if np.isfinite(x).all():
                return x
        except (ValueError, TypeError):
            x = np.full((len(cells), len(cells[0])), np.nan)
        for r, row in enumerate(cells):
            for c, cell in enumerate(row):
                if is_missing(cell):
                    self._count("missing values", first_row + r, c, cell)
                elif not is_number(cell):
                    kind = "infinite values" if _is_infinite(cell) else "text"
                    self._count(kind, first_row + r, c, cell)
        return x

    def _count(self, kind: str, row: int, column: int, cell: Any) -> None:
        counts = self._counts[kind]
        counts[column] = counts.get(column, 0) + 1
        self._first.setdefault(kind, (row, column, cell))

    def check(self) -> None:
        """Raise ValueError if a cell was not a number: how many, where the first is, a remedy."""
        for kind, counts in self._counts.items():
            if not counts:
                continue
            row, column, cell = self._first[kind]
            named = [self._names[c] for c in sorted(counts)]
            where = named[0] if len(named) == 1 else f"{len(named)} columns ({_listed(named)})"
            got = f"{shown(cell)} " if kind == "text" else ""
            place = f"{self._row} {row}"
            if len(named) > 1:
                place += f", {self._names[column]}"
            raise ValueError(
                f"{self._source}: expected numbers, got {kind} in {sum(counts.values())} cells of "
                f"{where}, the first {got}in {place}; {self._remedy(kind, counts, cell)}"
            )

    def _remedy(self, kind: str, counts: dict[int, int], cell: Any) -> str:
        """Return what to do, with the words to type."""
        if kind != "text":
            return "remove those rows from the file, or name the complete columns with --columns"
        if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", str(cell)):
            return "write a decimal point in place of the comma"
        name = self._given[next(iter(counts))]
        name = f"'{name}'" if " " in name else name
        if len(counts) == 1:
            return f"if it has classes, --label-column {name}; else name the others with --columns"
        return "name the columns of numbers with --columns, and one of classes with --label-column"


def _listed(named: list[str]) -> str:
    """Return the first few of the columns."""
    words = [name.removeprefix("column ") for name in named[:5]]
    return ", ".join(words) + (", …" if len(named) > 5 else "")


def is_number(cell: Any) -> bool:
    """Tell whether a cell is a finite number.

    Examples
    --------
    >>> is_number("1e3"), is_number("1,5")
    (True, False)
    """
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
