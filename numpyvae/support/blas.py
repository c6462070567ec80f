"""A limit on the threads of the matrix products, which belongs to the process and not to a thread.

Each block `with blas_threads(1)` has a limit, and the smallest of the limits that are in force
counts. When the last block ends, in whatever order, the setting from before the first one is back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["blas_threads"]

_lock = threading.Lock()
_limits: list[int] = []
_before: list[Any] = []  # what threadpoolctl needs to restore the setting before the first block


@contextmanager
def blas_threads(limit: int | None) -> Iterator[None]:
    """Use at most `limit` BLAS threads inside the block; None changes nothing.

    Examples
    --------
    >>> with blas_threads(1):
    ...     pass
    """
    if limit is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with _lock:
        _limits.append(limit)
        changed = threadpool_limits(min(_limits), "blas")
        if not _before:
            _before.append(changed)
    try:
        yield
    finally:
        with _lock:
            _limits.remove(limit)
            if _limits:
                threadpool_limits(min(_limits), "blas")
            else:
                _before.pop().restore_original_limits()
