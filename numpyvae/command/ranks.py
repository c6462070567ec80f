"""`train --data-parallel`: several processes, the ranks of MPI, that work as one command.

Rank 0 alone reads the run folder, writes and prints. It sends the settings and the history to the
others, which read the data themselves, train with it, and wait until it has evaluated the model.
If a rank fails, it ends all of them.
"""

from __future__ import annotations

import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from ..estimators.data_parallel import world
from ..support.history import History
from .usage import UsageError

__all__ = ["dismiss", "joined", "lead", "received", "together"]

_STARTED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")  # what mpiexec tells a process
_GRACE = 2.0  # seconds in which rank 0 says why all of them fail


def joined(argv: Sequence[str]) -> Any:
    """Return the communicator of the ranks that share this command, or None.

    Parameters
    ----------
    argv : sequence of str
        `train` with `--data-parallel`, or started by `python -m mpi4py`.

    Examples
    --------
    >>> joined(["train"]) is None
    True
    """
    asked = any(word.partition("=")[0] == "--data-parallel" for word in argv)
    if list(argv[:1]) != ["train"] or not (asked or "mpi4py" in sys.modules):
        return None
    try:
        return world()
    except ImportError:  # the plan of the job says it in one line
        return None


def together(comm: Any, work: Callable[[], int]) -> int:
    """Run `work` on this rank, and return its exit code; if that is not 0, end all ranks.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    work : callable
        `work() -> code`; what it prints is printed by rank 0 alone.
    """
    rank, said = comm.Get_rank(), io.StringIO()
    try:
        if rank == 0:
            code = _finished(comm, _checked(comm, work))
        else:
            with redirect_stdout(io.StringIO()), redirect_stderr(said):
                code = _finished(comm, work())
    except SystemExit as stop:  # of argparse: the same on all ranks
        code = int(stop.code or 0)
    except BaseException:
        if comm.Get_size() == 1:
            raise
        traceback.print_exc(file=sys.stderr if rank == 0 else said)
        code = 1
    if code and comm.Get_size() > 1:  # one process ends by itself
        if rank > 0:
            time.sleep(_GRACE)  # if all of them fail, rank 0 ends this one here
            if code not in (130, 143):  # it was not this rank that was stopped
                print(
                    said.getvalue().replace("numpyvae: ", f"numpyvae: rank {rank}: "),
                    end="",
                    file=sys.stderr,
                )
        sys.stdout.flush()
        sys.stderr.flush()
        comm.Abort(code)
    return code


def _checked(comm: Any, work: Callable[[], int]) -> int:
    started = max(int(os.environ.get(name, 1)) for name in _STARTED)
    if comm.Get_size() == 1 < started:
        print(
            f"numpyvae: error: mpiexec: expected {started} ranks, as it was told, got separate "
            "processes: mpi4py uses another MPI than this mpiexec; install mpi4py for this MPI, "
            "or start with the mpiexec of the other",
            file=sys.stderr,
        )
        return 1
    return work()


def _finished(comm: Any, code: int) -> int:
    """Wait for the other ranks, without using a core."""
    if code == 0:
        request = comm.Ibarrier()
        while not request.Test():
            time.sleep(0.02)
    return code


def lead(comm: Any, job: Any, history: History | None) -> None:
    """Send what the other ranks need to train with this one.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or None
    job : Job
    history : History or None
        Where a run goes on.

    Raises
    ------
    UsageError
        If there are several ranks, and nothing for them to do.
    """
    if comm is None:
        return
    if job.settings.data_parallel is None and comm.Get_size() > 1:
        raise UsageError(
            f"--data-parallel: expected it with {comm.Get_size()} ranks, got none; add it"
        )
    comm.bcast((job.given(), job.traits, history))


def received(comm: Any) -> tuple | None:
    """Return what rank 0 sends: settings, fingerprint of the data and history, or None."""
    return comm.bcast(None)


def dismiss(comm: Any) -> None:
    """Tell the other ranks, if there are any, that there is nothing to do."""
    if comm is not None:
        comm.bcast(None)
