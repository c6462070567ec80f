"""What other processes need to do the work: it is packed once, and unpacked once by each worker."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blas import blas_threads
from .memory import keep_freed_memory

__all__ = ["pack", "pack_blocks", "run_packed", "unpack"]


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


def unpack(packed: bytes) -> Callable[..., Any]:
    """Return the work on the side of the worker.

    Raises
    ------
    ImportError
        If the worker cannot import what the model consists of.
    """
    try:
        return pickle.loads(packed)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"expected a worker that can import all parts of the model, got {error}; install "
            "their module where the workers run, or use threads, the default backend"
        ) from None


def pack_blocks(blocks: Sequence[np.ndarray]) -> bytes:
    """Return the blocks of a task, and the caller's settings for floating-point errors."""
    return pickle.dumps((list(blocks), np.geterr()), protocol=5)


class _Steps:
    """Counts the calls of `advance`, and keeps the last note."""

    def __init__(self) -> None:
        self.note, self.count = "", 0

    def __call__(self, note: str, steps: int = 1) -> None:
        self.note, self.count = note, self.count + steps


def run_packed(work: Callable[..., Any], packed: bytes) -> tuple[Any, str, int]:
    """Do one task, and return its result, the last note of its progress and its steps."""
    blocks, errors = pickle.loads(packed)
    steps = _Steps()
    keep_freed_memory()
    with blas_threads(1), np.errstate(**errors):
        result = work(*blocks, advance=steps)
    return result, steps.note, steps.count
