"""A callback of `fit` that keeps the last finished epoch of a training.

The state within an epoch is not kept: a training that goes on begins the next epoch with the draws
that it would have had without the stop, so that it ends with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .history import History

__all__ = ["Checkpoints"]

# A write follows the last one after so many seconds, and after so many times what that one took.
_SECONDS, _SHARE = 1.0, 20.0


class Checkpoints:
    """A callback of `fit` that keeps the last finished epoch, in memory and on disk.

    The file is written after the first epoch, and then when it is a second old, and 20 times as
    old as the last write took.

    Parameters
    ----------
    save : callable
        `save(history)` writes a history with its `last_parameters`.
    before : History
        What the training had when this process began.

    Attributes
    ----------
    kept : History or None
        The last finished epoch, if the file has an older one.
    seconds : float
        The seconds of training before this process began.

    Examples
    --------
    >>> from numpyvae import VAE, fit
    >>> saved = []
    >>> checkpoints = Checkpoints(saved.append, History())
    >>> history = fit(VAE(4, 2, (3,)), [[0, 1, 1, 0]], epochs=2, callbacks=[checkpoints])
    >>> checkpoints.write()
    >>> [len(history) for history in saved]
    [1, 2]
    """

    def __init__(self, save: Callable[[History], Any], before: History) -> None:
        self.save = save
        self.kept: History | None = None  # newer than the file
        self.seconds = before.rows[-1]["seconds"] if before.rows else 0.0
        self._next = 0.0

    def __call__(self, vae: Any, history: History) -> None:
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
        self.save(self.kept)
        self.kept = None
        now = time.monotonic()
        self._next = now + max(_SECONDS, _SHARE * (now - start))
