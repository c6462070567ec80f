"""The parallel map on processes of this machine, or on another backend that joblib has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any
from uuid import uuid4

import numpy as np

from .packing import pack, pack_blocks, run_packed

__all__ = ["on_processes"]

_ATTEMPTS = 3  # how often the rest of the work is begun again after a worker has died
_MAPPED = "16K"  # larger models are sent in shared memory


def on_processes(
    backend: Any,
    work: Callable[..., Any],
    tasks: Sequence,
    n_jobs: int,
    advance: Callable[..., None],
) -> list[Any]:
    """Do the work of `map_rows` on the processes of joblib's active backend.

    The packed model is one array, which joblib writes to shared memory once; a task has only its
    rows. If a worker dies, the tasks that have no result yet are begun again.
    """
    from joblib import Parallel, delayed

    name, packed = uuid4().hex, np.frombuffer(pack(work), np.uint8)
    results: list[Any] = []
    return_as = "generator" if backend.supports_return_generator else "list"
    for _ in range(_ATTEMPTS):
        parallel = Parallel(n_jobs, return_as=return_as, max_nbytes=_MAPPED)
        first = len(results)
        calls = (
            delayed(run_packed)(name, packed, pack_blocks(tasks[i]))
            for i in range(first, len(tasks))
        )
        try:
            for result, note, steps in parallel(calls):
                results.append(result)
                advance(note, steps)
            return results
        except BrokenExecutor:
            continue
    raise ChildProcessError(
        f"expected worker processes that finish their work, got {_ATTEMPTS} that died, as after a "
        "lack of memory; decrease n_jobs or memory"
    )
