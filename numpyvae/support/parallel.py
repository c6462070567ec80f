"""Parallel work on blocks of rows: on threads, processes or a cluster, with the same bits on each.

`map_rows` is the one parallel map of the package. It works where `joblib.parallel_config` says: on
threads by default, which copy no data and run at the same time, since NumPy releases the
interpreter's lock while it computes; on processes; or on the workers of a Dask cluster. A block is
computed as a whole by one worker with one BLAS thread, because a matrix product on several BLAS
threads is summed in another order, and the results are returned in the order of the blocks. So
no bit depends on the backend, on the number of workers, or on which worker is the fastest.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blas import blas_threads
from .checks import check_count, shown
from .memory import keep_freed_memory

__all__ = ["check_jobs", "default_jobs", "map_rows"]


def check_jobs(n_jobs: Any) -> int | None:
    """Return `n_jobs` if it is None or a whole number other than 0; −1 stands for all cores."""
    if n_jobs is None:
        return None
    try:
        count = check_count("n_jobs", n_jobs, minimum=-sys.maxsize)
        if count == 0:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise type(error)(
            "n_jobs: expected a whole number of at least 1, or -1 for all cores, got "
            f"{shown(n_jobs)}"
        ) from None
    return count


def default_jobs() -> int:
    """Return the number of BLAS threads, so that a limit on those limits the workers too."""
    from threadpoolctl import threadpool_info

    threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(threads, default=1)


def map_rows(
    work: Callable[..., Any],
    slices: Sequence[slice],
    arrays: Sequence[np.ndarray],
    n_jobs: int | None,
    advance: Callable[..., None],
) -> list[Any]:
    """Return work(*blocks, advance=advance) for each slice, with that slice of each array.

    After an exception, or Ctrl-C, every thread stops at its next call of `advance`, and the
    exception is raised here. On processes and clusters the steps of a block are counted when it
    is done.

    Parameters
    ----------
    work : callable
        For processes and clusters it must be one that can be pickled: a function of a module, or
        a `functools.partial` of one.
    slices : sequence of slice
        The rows of each block.
    arrays : sequence of array
        They have the same number of rows.
    n_jobs : int, optional
        The number of workers; by default that of `joblib.parallel_config`, else `default_jobs`.
    advance : callable
        The function that `progress_line` yields. Two threads never call it at the same time.

    Returns
    -------
    results : list
        In the order of `slices`.

    Raises
    ------
    TypeError
        If `work` cannot be sent to another process.
    ChildProcessError
        If workers die again and again.
    """
    tasks = _Blocks(slices, arrays)
    backend, n_jobs = _chosen_backend(n_jobs, len(tasks))
    keep_freed_memory()
    if hasattr(backend, "client"):
        from .cluster import on_cluster

        return on_cluster(backend.client, work, tasks, n_jobs, advance)
    if backend is not None and not getattr(backend, "supports_sharedmem", False):
        from .processes import on_processes

        return on_processes(backend, work, tasks, n_jobs, advance)
    with blas_threads(1):
        if n_jobs > 1:
            return _on_threads(work, tasks, n_jobs, advance)
        return [work(*blocks, advance=advance) for blocks in tasks]


class _Blocks(Sequence):
    """The blocks of rows, each made when it is wanted: a memmap stays on disk."""

    def __init__(self, slices: Sequence[slice], arrays: Sequence[np.ndarray]) -> None:
        self._slices, self._arrays = slices, arrays

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, i):
        return [np.ascontiguousarray(array[self._slices[i]]) for array in self._arrays]


def _chosen_backend(n_jobs: int | None, n_tasks: int) -> tuple[Any, Any]:
    """Return joblib's backend and the number of workers; without a backend, one works here.

    A context of joblib can be active only if joblib has been imported, which takes longer than a
    small map; so it is not imported for one worker.
    """
    if "joblib" not in sys.modules:
        n_jobs = min(n_jobs or default_jobs(), n_tasks)
        if n_jobs in (0, 1):
            return None, 1
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend(prefer="threads")
    n_jobs = get_active_backend()[1] if n_jobs is None else n_jobs
    if hasattr(backend, "client"):  # Dask: the map itself counts the cores of the cluster
        from .cluster import inside_task

        return (None, 1) if inside_task() else (backend, n_jobs)
    n_jobs = min(backend.effective_n_jobs(n_jobs or default_jobs()), n_tasks)
    return (backend, n_jobs) if n_jobs > 1 else (None, 1)


def _on_threads(work, tasks, n_jobs, advance) -> list[Any]:
    """Do the work of `map_rows` on more than one thread."""
    from joblib import Parallel, delayed

    lock, ended, idle = threading.Lock(), threading.Event(), threading.Condition()
    running = 0
    errors = np.geterr()  # a new thread starts with NumPy's default settings

    def advance_if_wanted(note: str, steps: int = 1) -> None:
        if ended.is_set():
            raise InterruptedError
        with lock:
            advance(note, steps)

    def run(blocks):
        nonlocal running
        with idle:
            running += 1
        try:
            with np.errstate(**errors):
                return work(*blocks, advance=advance_if_wanted)
        finally:
            with idle:
                running -= 1
                idle.notify_all()

    try:
        return Parallel(n_jobs, prefer="threads")(delayed(run)(blocks) for blocks in tasks)
    except BaseException:
        ended.set()
        with idle:
            idle.wait_for(lambda: running == 0)
        raise
