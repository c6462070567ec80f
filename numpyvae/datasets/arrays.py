"""Read arrays from .npy and .npz files that others wrote, after a check of what they declare.

The header of each array is read first; its size is compared with that of the file before memory
is allocated or anything is unpacked. Each refusal is one ValueError or OSError that names the
file. Nothing is unpickled.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from contextlib import suppress
from typing import IO, Any, Literal

import numpy as np

from ..support.checks import shown
from ..support.files import open_file, read_header
from ..support.limits import allowed, refusal

__all__ = ["Archive", "is_zip", "read_npy"]

_KINDS = "buifUS"  # numbers and texts


def _error(path: object, expected: str, got: str, remedy: str) -> ValueError:
    return ValueError(f"{path}: expected {expected}, got {got}; {remedy}")


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins as a zip archive does; its name does not matter.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """
    with open_file(path) as file:
        return file.read(2) == b"PK"


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a .npy file as a read-only memory map.

    A .npy file has no checksum: values that were altered on disk are read as they are.

    Parameters
    ----------
    path : path

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is not a .npy file, or does not have the size that its header
        declares.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        shape, fortran, dtype = _header(file, path, "an array")
        start = file.tell()
    declared = math.prod(shape) * dtype.itemsize
    if declared != size - start:
        raise _error(
            path,
            f"{declared} bytes of values for shape {shape} and dtype {dtype}",
            f"{size - start}",
            "the file is cut or damaged: write it again",
        )
    if declared == 0:
        return np.empty(shape, dtype)
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape, order=order)


def _header(stream: IO[bytes], path: object, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and dtype of a .npy stream; only arrays of numbers or texts pass."""
    try:
        shape, fortran, dtype = read_header(stream)
        if math.prod(shape) * dtype.itemsize >= 1 << 62:
            raise ValueError(f"shape {shown(shape)}")
    except Exception as error:  # the parsers raise many kinds on a damaged header
        raise _error(
            path,
            f"{what} in NumPy's format",
            f"another or a damaged one ({' '.join(str(error).split())[:80] or 'no header'})",
            "write it again with numpy.save or numpy.savez",
        ) from None
    if dtype.hasobject:
        raise _error(
            path,
            f"{what} of numbers without pickle",
            "Python objects",
            "convert it with x.astype(float) and save it again",
        )
    if dtype.kind == "c":
        raise _error(
            path,
            f"{what} of real numbers",
            f"complex ones ({dtype})",
            "save its real and imaginary parts as columns",
        )
    if dtype.kind not in _KINDS:
        raise _error(
            path, f"{what} of numbers", f"dtype {dtype}", "convert it with x.astype(float)"
        )
    return shape, fortran, dtype


class Archive:
    """An .npz file whose arrays are checked before they are unpacked; use it in a `with` block.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    names : list of str
        The names of its arrays.
    others : list of str
        The names of members that are not arrays.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or is not a zip archive with distinct names.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._file = open_file(path)
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self._zip = zipfile.ZipFile(self._file)
            members = self._zip.namelist()
            self._compare_directory()
        except Exception:  # a damaged directory can raise anything
            self._file.close()
            raise _error(
                path, "an .npz archive", "a damaged one or a part of it", "copy or save it again"
            ) from None
        self.names = [name[:-4] for name in members if name.endswith(".npy")]
        self.others = [name for name in members if not name.endswith(".npy")]
        if len(set(members)) < len(members):
            self._file.close()
            raise _error(path, "distinct names", "an array twice", "save it again")

    def _compare_directory(self) -> None:
        """Raise BadZipFile unless the directory has all members, under the names they have.

        Each name stands in the archive twice, and the end of the directory has their number. A
        damaged directory could otherwise lose a member, or give it a name that is ignored.
        """
        for info in self._zip.infolist():
            with suppress(NotImplementedError, RuntimeError):  # unknown method, or encrypted
                self._zip.open(info).close()
        self._file.seek(max(0, self._size - (1 << 16) - 22))
        end = self._file.read()
        (declared,) = struct.unpack_from("<H", end, end.rindex(b"PK\x05\x06") + 10)
        if declared not in (len(self._zip.infolist()), 0xFFFF):  # which stands for more
            raise zipfile.BadZipFile("members are missing")

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """Return an array, in native byte order.

        Raises
        ------
        OSError, ValueError
            If it is damaged, encrypted, too large for its compressed size, or does not have the
            size that its header declares.
        """
        shape, fortran, dtype, member = self._open(name)
        try:
            with member:
                data = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
                view, done = data.data, 0
                while done < len(data):  # the last read compares the checksum
                    n = member.readinto(view[done : done + (1 << 20)])
                    if not n:
                        raise EOFError("the data end too early")
                    done += n
        except Exception as error:  # zipfile and zlib raise many kinds on damaged data
            raise self._damaged(name, error) from None
        array = data.view(dtype) if len(data) else np.empty(0, dtype)
        array = array.reshape(shape, order="F" if fortran else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _open(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype, zipfile.ZipExtFile]:
        """Return shape, order, dtype and the stream of an array, before it is unpacked.

        All that the directory and the header declare is compared first.
        """
        info = self._zip.getinfo(f"{name}.npy")
        what = f"an array {shown(name)}"
        again = "save it again with numpy.savez"
        if info.flag_bits & 0x1:
            raise _error(self.path, what, "an encrypted one", again)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            got = f"one packed by method {info.compress_type}"
            raise _error(self.path, f"{what}, stored or deflated", got, again)
        packed, size = info.compress_size, info.file_size
        if packed > self._size or (info.compress_type == zipfile.ZIP_STORED and packed != size):
            raise _error(self.path, what, f"{packed} bytes that the file does not have", again)
        if info.compress_type == zipfile.ZIP_DEFLATED and size > allowed(packed):
            raise ValueError(
                f"{self.path}: {name}: {refusal(packed, size)}; if you trust the file, load it "
                "with numpy and save it again with numpy.savez, which does not compress"
            )
        try:
            member: Any = self._zip.open(info)  # a ZipExtFile
        except Exception as error:  # a damaged local header
            raise self._damaged(name, error) from None
        try:
            shape, fortran, dtype = _header(member, self.path, what)
            if math.prod(shape) * dtype.itemsize != size - member.tell():
                got = f"{size - member.tell()} bytes for shape {shape} and dtype {dtype}"
                raise _error(self.path, what, got, "the file is damaged: " + again)
        except BaseException:
            member.close()
            raise
        return shape, fortran, dtype, member

    def _damaged(self, name: str, error: Exception) -> ValueError:
        why = " ".join(str(error).split())[:80] or type(error).__name__
        return _error(
            self.path,
            f"an array {shown(name)}",
            f"a damaged one ({why})",
            "copy or save the file again",
        )
