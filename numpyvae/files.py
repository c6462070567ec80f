"""Files that are whole or not there: written beside their place, flushed, then renamed.

Model files are plain npz archives without pickle. They are read with suspicion: names, shapes,
dtypes and declared sizes are compared with what they must be before anything is allocated.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

__all__ = ["ArrayFile", "atomic_write", "write_arrays"]


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the place of `path` when the block ends without an error.

    Until then the bytes go to a temporary neighbour, which is removed if anything fails, so a
    reader finds the old file or the new one and never a piece.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as an uncompressed npz; equal arrays give equal bytes.

    Parameters
    ----------
    path : path
        Written exactly as named: no suffix is added.
    arrays : mapping of str to array
    """
    with atomic_write(path) as file:
        np.savez(file, **arrays)


class ArrayFile:
    """An npz archive opened for careful reading; use it in a `with` block.

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
        self.path = Path(path)
        file = open(self.path, "rb")  # noqa: SIM115  (closed by __exit__)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            file.close()
            raise self._error("an npz archive", "something else or a truncated file") from None
        self._file = file

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()
        self._file.close()

    def names(self) -> set[str]:
        """Return the names of the arrays."""
        return {name.removesuffix(".npy") for name in self._zip.namelist()}

    def read(self, name: str, shape: tuple[int, ...] | None, kind: str) -> np.ndarray:
        """Read one array after its header and size have been found right.

        Parameters
        ----------
        name : str
        shape : tuple of int, or None
            The shape it must have; None takes a scalar.
        kind : str
            Letters of `dtype.kind` that are accepted.

        Raises
        ------
        ValueError
            If the array is missing, of another shape or dtype, damaged, or larger or smaller
            than its header says.
        """
        what = f"an array {name!r} of shape {shape or ()}"
        try:
            info = self._zip.getinfo(f"{name}.npy")
        except KeyError:
            raise self._error(what, f"only {sorted(self.names())}") from None
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise self._error(f"{what}, stored uncompressed", "a compressed or encrypted one")
        try:
            with self._zip.open(info) as member:
                found, fortran, dtype = _read_header(member)
                if found != (shape or ()) or dtype.kind not in kind or dtype.hasobject:
                    raise self._error(what, f"shape {found} and dtype {dtype}")
                size = int(np.prod(found, dtype=object)) * dtype.itemsize
                if size != info.file_size - member.tell():
                    raise self._error(
                        f"{size} bytes of {name!r}", f"{info.file_size - member.tell()}"
                    )
                data = member.read(size)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise self._error(what, f"a damaged archive ({error})") from None
        if len(data) != size:
            raise self._error(f"{size} bytes of {name!r}", f"{len(data)}")
        array = np.frombuffer(data, dtype).reshape(found, order="F" if fortran else "C")
        return array.astype(dtype.newbyteorder("="))

    def _error(self, expected: str, got: str) -> ValueError:
        return ValueError(
            f"{self.path}: expected {expected}, got {got}; "
            "save the model again or choose another file"
        )


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and dtype of a .npy stream, EOFError if there is no such header."""
    try:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(member)
        return np.lib.format.read_array_header_2_0(member)
    except ValueError as error:
        raise EOFError(str(error)) from None
