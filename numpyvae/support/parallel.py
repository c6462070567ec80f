"""Work spread over the processor's cores, with results that do not depend on their number.

Threads, not processes: NumPy lets go of the interpreter's lock while it computes, so that pieces
of a few milliseconds run side by side, and nothing is copied or started anew. Each worker has one
BLAS thread: a product that BLAS itself shares out is summed in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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

    What one task writes must not be read by another. An exception, Ctrl-C among them, ends every
    worker where it next calls `advance`, and is raised here.

    Parameters
    ----------
    work : callable
    tasks : sequence
    n_jobs : int, optional
        As many as BLAS has threads if None, so that what limits the one limits the other.
    advance : callable
        Of a `progress_line`; it is never called twice at the same time.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    if n_jobs is None:
        threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        n_jobs = min(threads, default=1)
    n_jobs = min(n_jobs, len(tasks))
    keep_freed_memory()
    with threadpool_limits(1, "blas"):
        if n_jobs > 1:
            _on_threads(work, tasks, n_jobs, advance)
        else:
            for task in tasks:
                work(task, advance)


def _on_threads(work, tasks, n_jobs, advance) -> None:
    """Do what `over_cores` says on more than one thread."""
    import threading
    from concurrent.futures import ThreadPoolExecutor, as_completed

    lock, ended = threading.Lock(), threading.Event()
    errors = np.geterr()  # a new thread would begin with the default

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
