"""Read one's own data, whatever holds them: arrays, IDX, text, images, data frames, matrices.

Every reader gives `RawData`: rows as they were stored, with what is known about them. Nothing is
scaled here; a `Preparation` does that.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..support.checks import check_rows, row_blocks, shown
from ..support.files import open_file
from .arrays import Archive, is_zip, read_npy
from .columns import as_labels, choose
from .idx import read_idx
from .pictures import read_pictures
from .tables import Table, is_frame, is_text, read_csv, read_frame

__all__ = ["RawData", "looks_like_data", "read_data", "with_columns"]

# Names that others give to the parts of an archive, in lower case; the first that is there counts.
_X = {
    "train": ("x_train", "train", "train_images", "train_x", "x", "data", "images"),
    "valid": ("x_val", "x_valid", "x_validation", "val", "valid", "val_images", "val_x"),
    "test": ("x_test", "test", "test_images", "test_x"),
}
_Y = {
    "train": ("y_train", "train_labels", "train_y", "y", "labels", "target", "targets"),
    "valid": ("y_val", "y_valid", "val_labels", "val_y"),
    "test": ("y_test", "test_labels", "test_y"),
}
_SPARSE = {"indices", "indptr", "format", "shape", "data"}  # what scipy.sparse.save_npz writes
_IDX = re.compile(r"[-.]idx\d")


@dataclass(frozen=True, eq=False)
class RawData:
    """Rows as they were stored, and what is known about them.

    Attributes
    ----------
    name : str
        Where they come from, as messages call it.
    x_train : (N, D) array
        The rows; a `numpy.memmap` if the file is a .npy file.
    y_train : (N,) array, or None
        Classes, whole numbers or texts.
    x_valid, x_test : (M, D) array, or None
        Other parts, if the source has them.
    y_valid, y_test : (M,) array, or None
        Their classes.
    names : tuple of str, or None
        The names of the D columns.
    columns : tuple of int, or None
        Their positions in the source, if not all are used.
    image_shape : (h, w), or None
        If a row is an image.
    maximum : float, or None
        The largest possible value, if the format declares it.
    notes : tuple of str
        What was ignored.

    Examples
    --------
    >>> read_data(np.arange(6).reshape(2, 3)).x_train.shape
    (2, 3)
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray | None = None
    x_valid: np.ndarray | None = None
    y_valid: np.ndarray | None = None
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    columns: tuple[int, ...] | None = None
    image_shape: tuple[int, int] | None = None
    maximum: float | None = None
    notes: tuple[str, ...] = ()


def looks_like_data(text: str) -> bool:
    """Tell whether a text names a file or folder that `read_data` might read.

    Examples
    --------
    >>> looks_like_data("rows.csv"), looks_like_data("digit")
    (True, False)
    """
    path = Path(text)
    suffixes = (".npy", ".npz", ".gz", ".idx", ".png")
    known = path.suffix.lower() in suffixes or is_text(path) or _IDX.search(path.name)
    return bool(known) or os.sep in text or path.is_dir() or path.is_file()


def read_data(
    source: Any, *, columns: Any = None, label_column: Any = None, delimiter: str | None = None
) -> RawData:
    """Read rows from a file, a folder of images, a data frame, a sparse matrix or an array.

    Parameters
    ----------
    source : path, data frame, sparse matrix or (N, D) array_like
        A file is .npy, .npz, IDX (plain or .gz) or text with one row a line; a folder has PNG
        files. Images (N, h, w), (N, h, w, 1) and (N, 1, h, w) become rows. An .npz file may have
        parts: `x_train` or `train`, `x_val`, `x_test` or `test`, labels `y_train`, `y_test` and
        the like; other arrays are ignored, and named in `notes`. Sparse matrices become dense,
        block by block.
    columns : str or sequence, optional
        The columns to use: names, or positions that count from 0. In a text, positions count
        from 1 and may be ranges, as in "1,3-5"; "varying" means all that are not constant.
    label_column : str or int, optional
        The column of a table that has the classes.
    delimiter : str, optional
        Of a text file: one character, or "tab" or "space"; recognized if left out.

    Returns
    -------
    data : RawData

    Raises
    ------
    OSError, ValueError
        If the source cannot be read, is damaged, has missing values or texts among its numbers,
        or declares more than its size can contain.
    TypeError
        If `source` is none of these.
    ImportError
        For a folder of images without Pillow.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "rows.csv")
    ...     _ = path.write_text("height,width,class\\n1.5,2,cat\\n2.5,3,dog\\n")
    ...     data = read_data(path, label_column="class")
    >>> data.names, data.x_train.tolist(), data.y_train.tolist()
    (('height', 'width'), [[1.5, 2.0], [2.5, 3.0]], ['cat', 'dog'])
    """
    if isinstance(source, (str, os.PathLike)):
        data = _read_path(Path(source), columns, label_column, delimiter)
    elif is_frame(source):
        data = _of_table("data frame", read_frame(source, columns, label_column))
    elif hasattr(source, "toarray"):
        data = RawData("sparse matrix", _dense(source))
    else:
        data = _of_rows("array", source)
    if data.columns is None:  # a table has chosen its columns already
        data = _chosen(data, columns, label_column)
    return _varying(data) if columns == "varying" else data


def _read_path(path: Path, columns: Any, label_column: Any, delimiter: str | None) -> RawData:
    name = str(path)
    if path.is_dir():
        x, labels, shape = read_pictures(path)
        return RawData(name, x, labels, image_shape=shape, maximum=255)
    if is_text(path):
        return _of_table(name, read_csv(path, columns, label_column, delimiter))
    if delimiter is not None:
        raise ValueError(
            f"{path}: expected no delimiter for a file that is not text, got {delimiter!r}; "
            "leave it out, or give the file the suffix .csv"
        )
    if is_zip(path):
        with Archive(path) as archive:
            return _of_archive(name, archive)
    with open_file(path) as file:
        head = file.read(6)
    if head[:2] == b"\x1f\x8b" or (head[:2] == b"\0\0" and path.suffix.lower() != ".npy"):
        return _of_idx(path)
    if head[:6] != b"\x93NUMPY" and path.suffix.lower() not in (".npy", ".npz"):
        if _IDX.search(path.name) or path.suffix.lower() == ".gz":
            return _of_idx(path)
        raise ValueError(
            f"{path}: expected a .npy, .npz, IDX or text file, got another; name a table of text "
            "FILE.csv, and put PNG files into a folder"
        )
    return _of_rows(name, read_npy(path))


def _of_table(name: str, table: Table) -> RawData:
    return RawData(
        name, table.x, table.labels, names=table.names, columns=table.columns, notes=table.notes
    )


def _of_rows(name: str, array: Any, **more: Any) -> RawData:
    x, shape = _flat(array, name)
    return RawData(name, x, image_shape=shape, **more)


def _flat(array: Any, name: str) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Return images as rows, with their height and width; rows as they are."""
    x = array if isinstance(array, np.ndarray) else np.asarray(array)
    if x.dtype.kind in "SU":
        raise ValueError(
            f"{name}: expected numbers, got an array of texts; convert it with x.astype(float)"
        )
    if x.ndim == 1 and x.dtype.kind in "buif":
        raise ValueError(
            f"{name}: expected rows, got one row of shape {x.shape}; a single row is x[None, :], "
            "a single column x[:, None]"
        )
    shape = None
    if x.ndim == 4 and 1 in (x.shape[3], x.shape[1]):  # one channel, last or first
        x = x[..., 0] if x.shape[3] == 1 else x[:, 0]
    if x.ndim == 3 and 0 not in x.shape:
        shape = (x.shape[1], x.shape[2])
    if x.ndim > 2 and 0 not in x.shape:
        x = x.reshape(len(x), -1)  # (N, h, w) → (N, h·w)
    return _finite(x, name), shape


def _finite(x: np.ndarray, name: str) -> np.ndarray:
    """Return the rows, or raise ValueError that counts what is missing and names the first."""
    if x.ndim != 2 or x.dtype.kind not in "buif" or 0 in x.shape:
        return check_rows(x, name=name)
    if x.dtype.kind != "f":
        return x
    bad, start, columns = 0, 0, set()
    first: tuple[int, int] | None = None
    for block in row_blocks(x):
        wrong = ~np.isfinite(block)
        if wrong.any():
            places = np.argwhere(wrong)
            bad += len(places)
            columns |= set(places[:, 1].tolist())
            first = first or (start + int(places[0, 0]), int(places[0, 1]))
        start += len(block)
    if first is not None:
        listed = ", ".join(str(c + 1) for c in sorted(columns)[:5])
        raise ValueError(
            f"{name}: expected finite values, got NaN or infinity in {bad} cells of "
            f"{len(columns)} columns ({listed}{', …' if len(columns) > 5 else ''}), the first in "
            f"row {first[0] + 1}, column {first[1] + 1}; remove those rows, or name the complete "
            "columns with --columns"
        )
    return x


def _dense(matrix: Any) -> np.ndarray:
    """Return a sparse matrix as a dense array; one block of rows at a time is made twice."""
    rows = matrix.tocsr()
    n, width = rows.shape
    x = np.empty((n, width), rows.dtype)
    step = max(1, (1 << 22) // max(1, width * x.itemsize))
    for start in range(0, n, step):
        x[start : start + step] = rows[start : start + step].toarray()
    return _finite(x, "sparse matrix")


def _of_idx(path: Path) -> RawData:
    """Read an IDX file, and beside it labels and test files with matching names."""

    def beside(old: str, new: str, of: Path) -> Path | None:
        name = of.name.replace(old, new)
        if new == "labels":
            name = re.sub(r"idx\d", "idx1", name)
        found = of.with_name(name)
        return found if found != of and found.is_file() else None

    x, shape = _flat(read_idx(path), str(path))
    test = beside("train", "t10k", path) or beside("train", "test", path)
    labels = beside("images", "labels", path)
    parts: dict[str, Any] = {}
    if test is not None:
        parts["x_test"], test_shape = _flat(read_idx(test), str(test))
        if test_shape != shape:
            raise ValueError(f"{test}: expected images of {shape}, as in {path}, got {test_shape}")
        named = beside("images", "labels", test)
        if named is not None:
            parts["y_test"] = as_labels(read_idx(named), len(parts["x_test"]), str(named))
    y = None if labels is None else as_labels(read_idx(labels), len(x), str(labels))
    return RawData(str(path), x, y, image_shape=shape, **parts)


def _of_archive(name: str, archive: Archive) -> RawData:
    """Choose the parts of an .npz file by their names, and read no other."""
    known = {key.lower(): key for key in archive.names}
    if set(known) >= _SPARSE:
        raise ValueError(
            f"{name}: expected dense arrays, got a sparse matrix; load it with "
            "scipy.sparse.load_npz, and save matrix.toarray() with numpy.save"
        )
    keys = {part: next((known[n] for n in ns if n in known), None) for part, ns in _X.items()}
    if keys["train"] is None and len(archive.names) == 1 and keys["test"] is None:
        keys["train"] = archive.names[0]
    if keys["train"] is None:
        raise ValueError(
            f"{name}: expected an array x_train, train or x, got "
            f"{shown(sorted(archive.names))}; rename one"
        )
    shape = None
    found: dict[str, Any] = {}
    for part, key in keys.items():
        if key is None:
            continue
        what = name if part == "train" else f"{name} ({part})"
        x, own = _flat(archive.read(key), what)
        found[f"x_{part}"] = check_rows(
            x, found["x_train"].shape[1] if part != "train" else None, what
        )
        shape = own if part == "train" else shape
        label = next((known[n] for n in _Y[part] if n in known), None)
        if label is not None:
            found[f"y_{part}"] = as_labels(archive.read(label), len(x), f"{name} ({label})")
            keys = keys | {f"y_{part}": label}
    ignored = sorted(set(archive.names) - set(keys.values())) + archive.others
    notes = (f"ignored in {name}: {', '.join(ignored[:8])}",) if ignored else ()
    return RawData(name, image_shape=shape, notes=notes, **found)


def _chosen(data: RawData, columns: Any, label_column: Any) -> RawData:
    """Keep the chosen columns of rows that have no header."""
    if label_column is None and (columns is None or columns == "varying"):
        return data
    width = data.x_train.shape[1]
    parts: dict[str, Any] = {}
    used = list(range(width))
    if columns not in (None, "varying"):
        used = choose(columns, None, width, data.name)
    if label_column is not None:
        spec = [label_column] if isinstance(label_column, (int, np.integer)) else label_column
        label = choose(spec, None, width, data.name)[0]
        used = [i for i in used if i != label]
        for part in ("train", "valid", "test"):
            x = getattr(data, f"x_{part}")
            if x is not None:
                what = f"{data.name} (column {label + 1})"
                parts[f"y_{part}"] = as_labels(x[:, label], len(x), what)
    return with_columns(replace(data, **parts), used)


def with_columns(data: RawData, used: list[int]) -> RawData:
    """Return the data with some of their columns, in the order of `used`."""
    parts = {
        name: getattr(data, name)[:, used]
        for name in ("x_train", "x_valid", "x_test")
        if getattr(data, name) is not None
    }
    columns = data.columns or range(data.x_train.shape[1])
    names = None if data.names is None else tuple(data.names[i] for i in used)
    columns = tuple(columns[i] for i in used)
    return replace(data, **parts, names=names, columns=columns, image_shape=None)


def _varying(data: RawData) -> RawData:
    """Leave out the columns that are constant in the training rows."""
    x = data.x_train
    varies = np.flatnonzero(x.min(axis=0) < x.max(axis=0))
    if not len(varies):
        raise ValueError(f"{data.name}: expected a column that varies, got constant ones alone")
    return data if len(varies) == x.shape[1] else with_columns(data, varies.tolist())
