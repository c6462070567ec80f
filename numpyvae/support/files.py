"""Atomic file writes, and safe reading of npz archives.

A run that is interrupted must not leave half a file: a file is written under a temporary name in
the same folder, flushed to disk, and then renamed. Model files are npz archives without pickle. A
file may be damaged or malicious, so names, shapes, dtypes and declared sizes are compared with
the expected ones before any memory is allocated.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from .checks import shown
from .locks import fcntl, remove_unlocked, try_lock

__all__ = ["TEMPORARY", "ArrayFile", "atomic_write", "open_file", "read_header", "write_arrays"]

TEMPORARY = ".writing-"  # how the names of temporary files begin
_LONGEST_HEADER = 10_000  # bytes, as NumPy allows
_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has another mode


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` when the block ends without an error.

    Until then the bytes go to a temporary file in the same folder, which is removed if anything
    fails. A reader finds either the complete old file or the complete new one. If the process is
    killed, the temporary file stays; the next write into this folder removes it.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    """
    path = Path(os.path.realpath(path))  # if it is a link, the file that it points to
    if path.exists() and not path.is_file() and not path.is_dir():
        with _open_device(path) as device:
            yield device
        return
    remove_unlocked(path.parent, TEMPORARY)
    try:
        handle, temporary, lock = _locked_temporary(path.parent)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _open_device(path: Path) -> IO[bytes]:
    """Open a pipe or a device, which is written to and not replaced; do not wait for a reader."""
    try:
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


def _locked_temporary(folder: Path) -> tuple[int, str, int | None]:
    """Return a new file's descriptor and name, and a descriptor that keeps its lock.

    The lock tells other processes that the file is in use. It lasts until the second descriptor
    is closed. Windows has none: there a file that is open cannot be removed, nor renamed.
    """
    while True:
        name = os.path.join(folder, f"{TEMPORARY}{os.urandom(8).hex()}")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        if fcntl is None:
            return handle, name, None
        try:
            locked = try_lock(handle)
        except OSError:  # no locks on this file system, so that nobody else can have one
            locked = True
        if locked and os.fstat(handle).st_nlink:
            return handle, name, os.dup(handle)
        os.close(handle)  # another process has just removed it


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading; the message of a failure is one line with its name."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise _not_a_file(path)
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        if "expected" in str(error):
            raise
        why = getattr(error, "strerror", None) or error
        raise OSError(
            f"{path}: expected a readable file, got '{why}'; check the path and its permissions"
        ) from None


def _not_a_file(path: Path) -> OSError:
    kind = "a folder" if path.is_dir() else "a pipe or a device"
    return OSError(f"{path}: expected a file, got {kind}; check the path")


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as an uncompressed npz; equal arrays give equal bytes.

    Parameters
    ----------
    path : path
        The name of the file as it is; no suffix is added.
    arrays : mapping of str to array
    """
    with atomic_write(path) as file:
        np.savez(file, **dict[str, Any](arrays))


class ArrayFile:
    """An npz archive whose arrays are checked before they are read; use it in a `with` block.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileNotFoundError, OSError
        If the file cannot be opened.
    ValueError
        If it is not an npz archive.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        import zipfile  # slow to load, and not needed for training

        self.path = Path(path)
        file = open_file(self.path)  # closed by __exit__
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception:  # a malicious directory can raise anything
            file.close()
            raise self._error("an npz archive", "something else or a truncated file") from None
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def expect(self, names: set[str]) -> None:
        """Raise ValueError unless the archive contains exactly the arrays `names`."""
        wanted, found = sorted(f"{name}.npy" for name in names), sorted(self._zip.namelist())
        if found != wanted:
            odd = sorted(set(found) ^ set(wanted)) or found
            raise self._error(f"the arrays {shown(wanted)}", f"a difference in {shown(odd)}")

    def read(self, name: str, shape: tuple[int, ...] | None, kind: str) -> np.ndarray:
        """Read one array, after a check of its header and size.

        Parameters
        ----------
        name : str
        shape : tuple of int, or None
            The shape that it must have; None for a scalar.
        kind : str
            The accepted values of `dtype.kind`, as in "fi".

        Raises
        ------
        ValueError
            If the array is missing or damaged, has another shape or dtype, or its size is not
            the one in its header.
        """
        from zipfile import ZIP_STORED

        what = f"an array {name!r} of shape {shape or ()}"
        try:
            info = self._zip.getinfo(f"{name}.npy")
        except KeyError:
            raise self._error(what, f"none among {shown(sorted(self._zip.namelist()))}") from None
        if info.compress_type != ZIP_STORED or info.flag_bits & 0x1:
            raise self._error(f"{what}, stored uncompressed", "a compressed or encrypted one")
        try:
            with self._zip.open(info) as member:
                found, fortran, dtype = read_header(member)
                size = math.prod(found) * dtype.itemsize
                left = min(info.file_size, self._size) - member.tell()
                if found == (shape or ()) and dtype.kind in kind and size == left:
                    data = member.read(size)
                    return _as_array(data, found, fortran, dtype)
        except Exception as error:  # zipfile and the parsers raise many kinds on a damaged file
            raise self._error(what, f"a damaged one ({type(error).__name__})") from None
        raise self._error(what, f"shape {found} and dtype {dtype} in {left} bytes")

    def _error(self, expected: str, got: str) -> ValueError:
        return ValueError(
            f"{self.path}: expected {expected}, got {got}; save it again or choose another file"
        )


def read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and dtype of a .npy stream; raise if its header is not a standard one.

    NumPy's reader repairs headers and warns, and a warning can only be caught by a change of
    settings that belong to the process.
    """
    size = {(1, 0): 2, (2, 0): 4, (3, 0): 4}[np.lib.format.read_magic(member)]
    length = int.from_bytes(member.read(size), "little")
    text = member.read(min(length, _LONGEST_HEADER + 1)).decode("latin-1")
    if not size < len(text) == length <= _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = ast.literal_eval(text)
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("a header with other entries")
    shape, fortran = header["shape"], header["fortran_order"]
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or type(fortran) is not bool:
        raise ValueError("a header with other values")
    return shape, fortran, np.lib.format.descr_to_dtype(header["descr"])


def _as_array(data: bytes, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> np.ndarray:
    """Return the bytes of a .npy stream as a new array in native byte order."""
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))
