"""Read IDX files, the format of MNIST and its kin.

An IDX file is four bytes `0 0 type ndim`, then `ndim` sizes (unsigned, 32 bits), then the
values in row-major order, all big-endian. It mostly comes gzipped.

A header is a claim. The values are read piece by piece until the claim is met or the file
ends, so that memory grows with what the file contains, never with what its header says. A gzip
file that declares far more than its size is not unpacked.
"""

from __future__ import annotations

import math
import os
import struct
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..support.limits import allowed, refusal

if TYPE_CHECKING:
    from gzip import GzipFile

__all__ = ["read_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMS = 32  # NumPy before version 2 holds no more
_PIECE = 1 << 20  # bytes


def read_idx(path: str | os.PathLike[str], *, digest: Any = None) -> np.ndarray:
    """Return the array in an IDX file, plain or gzipped, in native byte order.

    Parameters
    ----------
    path : path
        Whether the file is gzipped is read from its first bytes, not from its name.
    digest : hashlib object, optional
        Is updated with the decompressed bytes of the whole file, so that a caller can verify
        what was read without reading it twice.

    Returns
    -------
    array of uint8, int8, int16, int32, float32 or float64

    Raises
    ------
    OSError
        If the file is missing (FileNotFoundError) or cannot be read.
    ValueError
        If it is empty, not an IDX file, cut short, damaged, or longer than its header says.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))     # uint8, 3 values
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    import gzip  # here, as is zlib: both are needed only where a file is read
    import zlib

    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            gzipped = file.peek(2)[:2] == b"\x1f\x8b"
            packed = os.fstat(file.fileno()).st_size if gzipped else None
            stream: IO[bytes] | GzipFile = gzip.GzipFile(fileobj=file) if gzipped else file
            data, dtype, shape = _read(stream, packed)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ValueError(
            f"{path}: expected a whole gzip file, got a cut or damaged one ({error}); "
            "fetch the file again"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError as error:
        raise type(error)(
            f"{path}: expected a readable IDX file, got '{error.strerror or error}'; "
            "check the path and its permissions"
        ) from None
    if digest is not None:
        digest.update(data)
    values = np.frombuffer(data, dtype, offset=4 + 4 * len(shape)).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read(
    stream: IO[bytes] | GzipFile, packed: int | None
) -> tuple[bytearray, np.dtype, tuple[int, ...]]:
    """Return the whole file, header and values, with the dtype and shape of its header.

    `packed` is the size of a gzip file; None for a plain file.
    """
    data = bytearray()
    _fill(data, stream, 4)
    if not data:
        raise ValueError("expected an IDX file, got an empty file; fetch the file again")
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise ValueError(
            "expected an IDX file, which starts with bytes 00 00, a type (08, 09, 0b ... 0e) "
            f"and a number of dimensions, got {data.hex(' ')}; check that this is the right file"
        )
    dtype, ndim = np.dtype(_TYPES[data[2]]), data[3]
    if not 1 <= ndim <= _MAX_DIMS:
        raise ValueError(
            f"expected 1 to {_MAX_DIMS} dimensions, got a header that declares {ndim}; "
            "check that this is the right file"
        )
    start = 4 + 4 * ndim
    _fill(data, stream, start)
    if len(data) < start:
        raise ValueError(
            f"expected a header of {start} bytes, got {len(data)}; fetch the file again"
        )
    shape = struct.unpack(f">{ndim}I", data[4:])
    if 0 in shape:
        raise ValueError(f"expected values, got a header that declares none: shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if packed is not None and size > allowed(packed):  # then no more than a piece is unpacked
        _fill(data, stream, start + _PIECE)
        if len(data) == start + _PIECE:
            raise ValueError(
                f"{refusal(packed, size)}; if you trust the file, unpack it with gunzip"
            )
    _fill(data, stream, start + size + 1)  # one more, to see whether the file ends there
    if len(data) != start + size:
        found = len(data) - start
        raise ValueError(
            f"expected {size} bytes of values for the declared shape {shape}, got "
            f"{found if found < size else 'more'}; fetch the file again"
        )
    return data, dtype, shape


def _fill(data: bytearray, stream: IO[bytes] | GzipFile, size: int) -> None:
    """Append to `data` until it holds `size` bytes or the stream ends."""
    while len(data) < size:
        piece = stream.read(min(size - len(data), _PIECE))
        if not piece:
            return
        data += piece
