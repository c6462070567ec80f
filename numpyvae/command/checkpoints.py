"""What is kept of a run that is stopped: the last finished epoch, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..support.checkpoints import Checkpoints
from .runs import RunFolder

__all__ = ["kept_if_stopped"]


@contextmanager
def kept_if_stopped(run: RunFolder, checkpoints: Checkpoints, epochs: int) -> Iterator[None]:
    """If the block is stopped or fails, keep the last finished epoch, and say how to go on.

    Nothing is kept of a training that diverges, since it would diverge again.
    """
    try:
        yield
    except FloatingPointError:
        run.discard()
        raise
    except BaseException as error:
        try:
            with suppress(OSError):  # a full disk, say
                checkpoints.write()
        finally:
            if not (run.work / "checkpoint.npz").exists():
                run.discard()
        how = "nothing is kept"
        if run.is_unfinished():
            done = f"{len(run.load_checkpoint() or ())} of {epochs} epochs are kept"
            how = f"{done}; go on with: numpyvae train --resume {run.path}"
            if isinstance(error, KeyboardInterrupt):
                error.args = (how,)
        if isinstance(error, OSError):
            what = f"{error.filename or run.path}: {error.strerror or error}"
            raise OSError(f"{what}; {how}") from None
        raise
