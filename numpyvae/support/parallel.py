"""Parallel work on several cores, with results that do not depend on the number of cores.

The workers are threads, not processes: NumPy releases the interpreter's lock while it computes,
so that tasks of a few milliseconds run in parallel, and no data are copied. Each worker has one
BLAS thread, because a matrix product on several BLAS threads is summed in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blas import blas_threads
from .checks import check_count
from .memory import keep_freed_memory

__all__ = ["check_jobs", "over_cores"]


def check_jobs(n_jobs: Any) -> int | None:
    """Return `n_jobs` if it is None or a whole number of at least 1."""
    return None if n_jobs is None else check_count("n_jobs", n_jobs)


def over_cores(
    work: Callable[[Any, Callable[[str], None]], None],
    tasks: Sequence[Any],
    n_jobs: int | None,
    advance: Callable[[str], None],
) -> None:
    """Call work(task, advance) for each task, on `n_jobs` threads with one BLAS thread each.

    No task may read what another one writes. After an exception, or Ctrl-C, every worker stops at
    its next call of `advance`, and the exception is raised here.

    Parameters
    ----------
    work : callable
    tasks : sequence
    n_jobs : int, optional
        By default the number of BLAS threads, so that a limit on those limits the workers too.
    advance : callable
        The function that `progress_line` yields. Two threads never call it at the same time.
    """
    from threadpoolctl import threadpool_info

    if n_jobs is None:
        threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        n_jobs = min(threads, default=1)
    n_jobs = min(n_jobs, len(tasks))
    keep_freed_memory()
    with blas_threads(1):
        if n_jobs > 1:
            _on_threads(work, tasks, n_jobs, advance)
        else:
            for task in tasks:
                work(task, advance)


def _on_threads(work, tasks, n_jobs, advance) -> None:
    """Do the work of `over_cores` on more than one thread."""
    import threading
    from concurrent.futures import ThreadPoolExecutor, as_completed

    lock, ended = threading.Lock(), threading.Event()
    errors = np.geterr()  # a new thread starts with NumPy's default settings

    def advance_if_wanted(note: str) -> None:
        if ended.is_set():
            raise InterruptedError
        with lock:
            advance(note)

    def run(task):
        with np.errstate(**errors):
            work(task, advance_if_wanted)

    with ThreadPoolExecutor(n_jobs) as pool:
        futures = [pool.submit(run, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            ended.set()
            pool.shutdown(cancel_futures=True)
            raise
