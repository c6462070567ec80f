"""What Numba keeps on disk. This module needs Numba to be imported.

Numba keeps one index and some machine code for each function, and compares the date of its source
file alone. Here a change in any file of this folder compiles anew, since one loop calls another; a
file that cannot be read is replaced; a folder that cannot be written is left alone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from numba.core.caching import FunctionCache

__all__ = ["Cache"]


def _stamp() -> tuple:
    """Name, date and size of each file whose code may be part of a compiled function."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


class Cache(FunctionCache):
    """Numba's cache of one function, which no damage to its files can stop."""

    def __init__(self, function) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp()

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file can raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        with suppress(OSError):
            super().save_overload(sig, data)
