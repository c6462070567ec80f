"""The parallel map on the workers of a Dask cluster.

The client is that of joblib's backend, but the tasks are submitted here. joblib's own backend
waits without end if the same task ends its worker four times, and it holds the arguments of a
task on one worker, so that they are lost with it. Here the packed model is the result of a task:
each worker gets it once, and Dask makes it again if it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from .packing import pack, pack_blocks, run_packed

__all__ = ["inside_task", "on_cluster"]

_PATIENCE = 20.0  # seconds without any worker after which the map ends
_AHEAD = 2  # tasks on the way for each core, so that no core waits for the next


def inside_task() -> bool:
    """Tell whether this is a task of a Dask worker, which must not wait for other tasks."""
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def on_cluster(
    client: Any,
    work: Callable[..., Any],
    tasks: Sequence,
    n_jobs: int | None,
    advance: Callable[..., None],
) -> list[Any]:
    """Do the work of `map_rows` on a Dask cluster, at most `n_jobs` tasks at a time."""
    results: list[Any] = [None] * len(tasks)
    at_a_time = _tasks_at_a_time(client, n_jobs)
    rest = iter(range(len(tasks)))
    with client.as_current(), _large_models(), _plain_errors():  # `wait` takes the current one
        name = uuid4().hex
        model = client.submit(bytes, pack(work), pure=False)
        waiting: dict[Any, int] = {}
        try:
            while True:
                for _, i in zip(range(at_a_time - len(waiting)), rest):
                    blocks = pack_blocks(tasks[i])
                    waiting[client.submit(run_packed, name, model, blocks, pure=False)] = i
                if not waiting:
                    return results
                for future in _done(client, waiting):
                    i = waiting.pop(future)
                    results[i], note, steps = future.result()
                    advance(note, steps)
        finally:
            client.cancel(list(waiting))


def _tasks_at_a_time(client: Any, n_jobs: int | None) -> int:
    """Return how many tasks are submitted before the first result; a negative n_jobs is all."""
    from distributed import TimeoutError

    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        raise _no_worker(client) from None
    if n_jobs is None or n_jobs < 0:
        return _AHEAD * sum(client.ncores().values())
    return n_jobs


def _done(client: Any, waiting: dict[Any, int]) -> list[Any]:
    """Wait for a result, or for an error, and return the futures that have one."""
    from distributed import TimeoutError, wait

    while True:
        try:
            return list(wait(list(waiting), _PATIENCE, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            if not client.ncores():
                raise _no_worker(client) from None


def _no_worker(client: Any) -> ChildProcessError:
    address = client.scheduler.address if client.scheduler else "the scheduler"
    return ChildProcessError(
        f"{address}: expected a Dask worker, got none for {_PATIENCE:g} seconds; start one with "
        f"`dask worker {address}`"
    )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise one line where Dask gives up a task, or loses its scheduler."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise ChildProcessError(
            "expected workers that finish their work, got a task at which one died again and "
            f"again, the last one at {error.last_worker.address}, as after a lack of memory; "
            "decrease memory, or give the workers more"
        ) from None
    except CancelledError:
        raise ConnectionError(
            "expected a Dask scheduler until the work is done, got one that ended or dropped it; "
            "start it again, and repeat the command"
        ) from None


@contextmanager
def _large_models() -> Iterator[None]:
    """Keep Dask from a warning: the model is the one large argument, and is sent once."""
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "10GB"}):
        yield
