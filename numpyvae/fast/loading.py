"""The error of compiled functions where Numba is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needing_numba"]


@contextmanager
def needing_numba(who: str) -> Iterator[None]:
    """Import modules that import Numba inside the block; ImportError names `who` needs it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{who}: expected Numba, which cannot be imported ({error}); "
            'pip install "numpyvae[fast]", or use the version in NumPy'
        ) from error
