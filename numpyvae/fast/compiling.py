"""How the loops are compiled, and what Numba saves of them on disk. This module imports Numba.

Numba saves an index and machine code for each function, and compiles the function again if its
source file changes. A change in a file with a function that it calls is not noticed. Here a change
in any file of this folder compiles again. A damaged file on disk is replaced, and where no file
can be written, each process compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

__all__ = ["compile_with"]


def compile_with(*fastmath: str, **options: Any) -> Callable[[Callable], Any]:
    """Return the decorator that compiles a function and saves the result on disk if possible."""
    options |= {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}

    def decorate(function: Callable) -> Any:
        compiled = njit(**options)(function)
        with suppress(RuntimeError):  # no folder is writable
            compiled._cache = Cache(function)  # cache=True takes no other class than Numba's
        return compiled

    return decorate


def _stamp() -> tuple:
    """Name, date and size of each file whose code may be part of a compiled function."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


class Cache(FunctionCache):
    """The files of one function. No failure to read or to write them stops a computation."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle can raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):  # OSError; anything, where a damaged index cannot be replaced
            super().save_overload(sig, data)
