"""Read tables: text files with a delimiter, and data frames. The columns become numbers.

Delimiter and header are recognized from the first lines. Only the chosen columns are converted,
block by block, so that a file of text costs little more memory than its numbers.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..support.files import open_file
from .columns import Cells, as_labels, choose, column_name, is_missing, is_number

__all__ = ["Table", "is_frame", "read_csv", "read_frame"]

_BLOCK = 4096  # rows that are text at a time
_DELIMITERS = ",;\t|"
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " "}


@dataclass(frozen=True)
class Table:
    """Chosen columns of a table.

    Attributes
    ----------
    x : (N, D) array
    labels : (N,) array or None
    names : tuple of str, or None
        The names of the D columns, if the table has a header.
    columns : tuple of int
        Their positions in the table, counted from 0.
    notes : tuple of str
        What was left out.
    """

    x: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...] | None
    columns: tuple[int, ...]
    notes: tuple[str, ...] = ()


def read_csv(
    path: str | os.PathLike[str],
    columns: Any = None,
    label_column: Any = None,
    delimiter: str | None = None,
) -> Table:
    """Read a text file with one row a line.

    Parameters
    ----------
    path : path
    columns : str or sequence, optional
        The columns to use, see `choose`; all but the label column if left out.
    label_column : str or int, optional
    delimiter : str, optional
        One character, or "tab" or "space"; recognized from the first lines if left out.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read as text, has no rows, rows of different lengths, or a cell that
        is not a number.
    """
    rows = _rows(path, delimiter)
    first = list(itertools.islice(rows, 50))
    if not first:
        raise ValueError(f"{path}: expected rows of numbers, got an empty file")
    names = _header(first)
    body = itertools.chain(first[1:] if names else first, rows)
    width = len(first[0])
    used, label, notes = _used(path, names, width, columns, label_column, first)
    blocks, labels, count = [], [], 2 if names else 1
    wanted = None if names is None else [names[i] for i in used]
    reader = Cells(str(path), names, used, "line")
    while block := list(itertools.islice(body, _BLOCK)):
        for r, row in enumerate(block):
            if len(row) != width:
                raise ValueError(
                    f"{path}: expected {width} cells in each row, got {len(row)} in line "
                    f"{count + r}; mend that line, or give the right --delimiter"
                )
        blocks.append(reader.numbers([[row[i] for i in used] for row in block], count))
        labels += [row[label] for row in block] if label is not None else []
        count += len(block)
    reader.check()
    if not blocks:
        raise ValueError(f"{path}: expected rows of numbers, got a header alone")
    x = np.concatenate(blocks)
    y = None if label is None else _labels(labels, f"{path} ({column_name(names, label)})")
    return Table(x, y, None if wanted is None else tuple(wanted), tuple(used), tuple(notes))


def _labels(labels: list[Any], name: str) -> np.ndarray:
    """Return labels as whole numbers if all of them are, else as texts."""
    values: Any = [None if is_missing(v) else v for v in labels]
    if all(v is not None and is_number(v) and float(v) == int(float(v)) for v in values):
        values = [int(float(v)) for v in values]
    array = np.array(values) if None not in values else np.array(values, object)
    return as_labels(array, len(values), name)


def _rows(path: str | os.PathLike[str], delimiter: str | None) -> Iterator[list[str]]:
    """Yield the cells of each line that is not empty."""
    with open_file(path) as file:
        head = file.read(1 << 16)
    if head[:2] == b"\x1f\x8b":
        raise ValueError(f"{path}: expected text, got a gzip file; unpack it with gunzip")
    if b"\0" in head:
        raise ValueError(f"{path}: expected a text file, got null bytes; save it as CSV in UTF-8")
    try:
        head.decode("utf-8-sig")
        encoding = "utf-8-sig"
    except UnicodeDecodeError as error:  # a letter may be cut at the end of the piece
        encoding = "utf-8-sig" if error.start > len(head) - 4 else "latin-1"
    lines = head.decode(encoding, "ignore").splitlines()[:20]
    delimiter = _delimiter(path, lines, delimiter)
    with open(path, encoding=encoding, newline="") as text:
        try:
            if delimiter == " ":
                yield from (line.split() for line in text if line.strip())
                return
            for row in csv.reader(text, delimiter=delimiter):
                if row and not (len(row) == 1 and not row[0].strip()):
                    yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: expected rows of cells in UTF-8, got {error}; save it as CSV again"
            ) from None


def _delimiter(path: object, lines: list[str], given: str | None) -> str:
    """Return the delimiter: as given, or the character that cuts the first lines alike."""
    if given is not None:
        found = _NAMES.get(given, given)
        if len(found) != 1:
            raise ValueError(
                f"{path}: expected one character, tab or space as delimiter, got {given!r}; leave "
                "it out to have it recognized"
            )
        return found
    lines = [line for line in lines if line.strip()][:-1] or lines  # the last may be cut
    best, most = ",", 0
    for candidate in _DELIMITERS:
        counts = [line.count(candidate) for line in lines]
        if counts and min(counts) == max(counts) > most:
            best, most = candidate, counts[0]
    spaced = bool(lines) and all(len(line.split()) > 1 for line in lines)
    return " " if most == 0 and spaced and not any("," in line for line in lines) else best


def _header(rows: list[list[str]]) -> list[str] | None:
    """Return the names of the columns if the first row has them.

    It has if none of its cells is a number, or a text stands above numbers alone.
    """
    first, rest = rows[0], rows[1:]
    texts = [i for i, cell in enumerate(first) if not is_missing(cell) and not is_number(cell)]
    above = any(
        all(is_missing(row[i]) or is_number(row[i]) for row in rest if i < len(row)) for i in texts
    )
    is_header = bool(texts) and bool(rest) and (above or len(texts) == len(first))
    # A data frame of numbered columns: 0, 1, 2, … after an empty cell.
    counted = first[0].strip() == "" and first[1:] == [str(i) for i in range(len(first) - 1)]
    if not is_header and not (counted and len(first) > 2):
        return None
    names = [cell.strip() or f"unnamed {i + 1}" for i, cell in enumerate(first)]
    if len(set(names)) < len(names):
        names = [f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return names


def _used(
    path: object,
    names: list[str] | None,
    width: int,
    columns: Any,
    label_column: Any,
    first: list[list[str]],
) -> tuple[list[int], int | None, list[str]]:
    """Return the positions of the columns to use, that of the labels or None, and notes."""
    label = None
    if label_column is not None:
        spec = [label_column] if isinstance(label_column, (int, np.integer)) else label_column
        label = choose(spec, names, width, str(path))[0]
    if columns is not None and columns != "varying":
        used = choose(columns, names, width, str(path))
        if label in used:
            raise ValueError(
                f"{path}: expected a label column that is not among the columns, got "
                f"{column_name(names, label)} in both; leave it out of --columns"
            )
        return used, label, []
    used, notes = [i for i in range(width) if i != label], []
    if names and names[0] == "unnamed 1" and label != 0 and _counts(first[1:]):
        used, notes = used[1:], ["the first column, which numbers the rows, is left out"]
    if not used:
        raise ValueError(f"{path}: expected a column beside the labels, got none")
    return used, label, notes


def _counts(rows: list[list[str]]) -> bool:
    """Tell whether the first cells count up by one, as the index of a data frame does."""
    cells = [row[0] for row in rows if row]
    if not all(cell.strip().isdecimal() for cell in cells) or not cells:
        return False
    return all(int(b) - int(a) == 1 for a, b in itertools.pairwise(cells))


def is_frame(source: Any) -> bool:
    """Tell whether `source` is a data frame: it has `columns` and `to_numpy`.

    Examples
    --------
    >>> is_frame(np.zeros(3))
    False
    """
    return hasattr(source, "to_numpy") and hasattr(source, "columns")


def read_frame(frame: Any, columns: Any = None, label_column: Any = None) -> Table:
    """Read the columns of a data frame, whatever library made it.

    Parameters
    ----------
    frame : data frame
        It has `columns`, `to_numpy()`, and its columns by `frame[name]`.
    columns : str or sequence, optional
        The columns to use; all but the label column if left out.
    label_column : str or int, optional

    Raises
    ------
    ValueError
        If a value is missing or is not a number.
    """
    keys = list(frame.columns)
    names = [str(key) for key in keys]
    used, label, notes = _used("data frame", names, len(names), columns, label_column, [])
    values = [np.asarray(frame[keys[i]]) for i in used]
    if any(len(v) == 0 for v in values):
        raise ValueError("data frame: expected rows, got none")
    wanted = [names[i] for i in used]
    numeric = all(v.dtype.kind in "buif" for v in values)
    if numeric and all(np.isfinite(v).all() for v in values):
        x = np.column_stack(values)
    else:
        reader = Cells("data frame", names, used)
        x = reader.numbers(list(zip(*(v.tolist() for v in values))))
        reader.check()
    y = None
    if label is not None:
        y = _labels(list(np.asarray(frame[keys[label]]).tolist()), f"data frame ({names[label]})")
    return Table(x, y, tuple(wanted), tuple(used), tuple(notes))


def is_text(path: Path) -> bool:
    """Tell whether the suffix of a file is one of tables of text."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt", ".dat")
