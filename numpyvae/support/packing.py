"""What other processes need for the work: packed once, and unpacked once by each worker."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blas import blas_threads
from .memory import keep_freed_memory

__all__ = ["pack", "pack_blocks", "run_packed"]


def pack(work: Callable[..., Any]) -> bytes:
    """Return `work`, with the model in it, as bytes; what `__main__` defines is sent as code.

    Raises
    ------
    TypeError
        If a part of it cannot be pickled.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(work)
    except Exception as error:  # whatever a class of the user raises in its __reduce__
        reason = " ".join(str(error).split())
        raise TypeError(
            "n_jobs: expected a model that can be pickled, to send it to other processes, got "
            f"{type(error).__name__} ({reason}); use threads, the default backend"
        ) from error


_unpacked: tuple[str, Any] = ("", None)  # the work that this process has unpacked last


def _unpack(name: str, packed: Any) -> Callable[..., Any]:
    """Return the work on the side of the worker, which unpacks it at its first task alone.

    All values are in the bytes themselves, so that the arrays begin at addresses that suit their
    dtype. Arrays that do not, such as those that Dask makes of what it receives, are multiplied
    by another loop of NumPy, with other last bits.
    """
    global _unpacked
    if _unpacked[0] == name:
        return _unpacked[1]
    try:
        work = pickle.loads(packed)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"expected a worker that can import all parts of the model, got {error}; install "
            "their module where the workers run, or use threads, the default backend"
        ) from None
    _unpacked = name, work
    return work


def pack_blocks(blocks: Sequence[np.ndarray]) -> bytes:
    """Return the blocks of a task, and the caller's settings for floating-point errors."""
    return pickle.dumps((list(blocks), np.geterr()), protocol=5)


class _Steps:
    """Counts the calls of `advance`, and keeps the last note."""

    def __init__(self) -> None:
        self.note, self.count = "", 0

    def __call__(self, note: str, steps: int = 1) -> None:
        self.note, self.count = note, self.count + steps


def run_packed(name: str, packed: Any, packed_blocks: bytes) -> tuple[Any, str, int]:
    """Do one task, and return its result, the last note of its progress and its steps.

    `name` belongs to the packed work alone.
    """
    work = _unpack(name, packed)
    blocks, errors = pickle.loads(packed_blocks)
    steps = _Steps()
    keep_freed_memory()
    with blas_threads(1), np.errstate(**errors):
        result = work(*blocks, advance=steps)
    return result, steps.note, steps.count
