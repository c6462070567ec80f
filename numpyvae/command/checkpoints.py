"""What is kept of a run that is stopped: the last finished epoch.

The state within an epoch is not kept: a run that goes on begins the next epoch with the draws that
it would have had without the stop, so that it ends with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..core.vae import VAE
from ..support.history import History
from .runs import RunFolder

__all__ = ["Checkpoints", "kept_if_stopped"]

# A write follows the last one after so many seconds, and after so many times what that one took.
_SECONDS, _SHARE = 1.0, 20.0


class Checkpoints:
    """A callback of `fit` that keeps the last finished epoch, in memory and on disk.

    The file is written after the first epoch, and then when it is a second old, and 20 times as
    old as the last write took.

    Parameters
    ----------
    run : RunFolder
    before : History
        What the run had when this process began.

    Attributes
    ----------
    kept : History or None
        The last finished epoch, if the file has an older one.
    seconds : float
        The seconds of training before this process began.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from numpyvae import fit
    >>> vae, x = VAE(4, 2, (3,)), [[0, 1, 1, 0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = RunFolder(pathlib.Path(folder))
    ...     run.begin({})
    ...     history = fit(vae, x, epochs=2, callbacks=[Checkpoints(run, History())])
    ...     len(run.load_checkpoint())
    1
    """

    def __init__(self, run: RunFolder, before: History) -> None:
        self.run = run
        self.kept: History | None = None  # newer than the file
        self.seconds = before.rows[-1]["seconds"] if before.rows else 0.0
        self._next = 0.0

    def __call__(self, vae: VAE, history: History) -> None:
        history.rows[-1]["seconds"] += self.seconds  # those of the run, before this process too
        kept = history.copy()
        kept.last_parameters = vae.parameters.flat.copy()
        self.kept = kept
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write the last finished epoch, if the file has an older one."""
        if self.kept is None:
            return
        start = time.monotonic()
        self.run.save_checkpoint(self.kept)
        self.kept = None
        now = time.monotonic()
        self._next = now + max(_SECONDS, _SHARE * (now - start))


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
