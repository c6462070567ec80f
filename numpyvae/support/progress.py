"""A progress line on standard error, since training and annealing can take minutes.

On a terminal it is a bar that moves. Elsewhere, in a log file say, it is a line of its own every
ten seconds, so that a short job prints nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "progress_line"]

_SECONDS = 10.0  # between two lines where there is no terminal


@contextmanager
def progress_line(total: int, unit: str, shown: bool, done: int = 0) -> Iterator:
    """Yield a function `advance(note, steps=1)`, which counts steps and shows count and note.

    On a terminal the line is the progress bar of tqdm if that is installed, else plain text.

    Parameters
    ----------
    total : int
        The number of steps.
    unit : str
        The name of a step, as in "epoch".
    shown : bool
        If False, the function does nothing.
    done : int
        The number of steps that were made before.
    """
    if not shown or sys.stderr is None:
        yield lambda note, steps=1: None
        return
    if not sys.stderr.isatty():
        yield _counter(total, unit, done, "{}\n", _SECONDS)
        return
    try:
        from tqdm import tqdm
    except ImportError:
        try:
            yield _counter(total, unit, done, "\r{}\033[K", 0.0)
        finally:
            sys.stderr.write("\n")
    else:
        with tqdm(
            total=total, initial=done, unit=unit, file=sys.stderr, dynamic_ncols=True
        ) as bar:

            def advance(note: str, steps: int = 1) -> None:
                bar.set_postfix_str(note, refresh=False)
                bar.update(steps)

            yield advance


def _counter(total: int, unit: str, done: int, line: str, seconds: float) -> Callable[..., None]:
    """Return a function `advance(note, steps=1)` that writes a line, if the last one is old."""
    last = time.monotonic()

    def advance(note: str, steps: int = 1) -> None:
        nonlocal done, last
        done, now = done + steps, time.monotonic()
        if now - last >= seconds:
            last = now
            sys.stderr.write(line.format(f"{unit} {done}/{total}  {note}"))
            sys.stderr.flush()

    return advance


class Progress:
    """A callback of `fit` that shows the epoch and the ELBO on standard error.

    Use it in a `with` block, which ends the line.

    Parameters
    ----------
    epochs : int
        The number of epochs in all.
    done : int
        The number of epochs of the history that `fit` resumes.

    Examples
    --------
    >>> from numpyvae import VAE, fit
    >>> with Progress(2) as progress:                                    # doctest: +SKIP
    ...     history = fit(VAE(4, 2, (3,)), x, epochs=2, callbacks=[progress])
    """

    def __init__(self, epochs: int, done: int = 0) -> None:
        self._line = progress_line(epochs, "epoch", True, done)

    def __enter__(self) -> Progress:
        self._advance = self._line.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._line.__exit__(*error)

    def __call__(self, vae: Any, history: Any) -> None:
        row = history.rows[-1]
        if "elbo" in row:
            self._advance(f"ELBO {row.get('valid_elbo', row['elbo']):.2f} nats")
        else:  # Monte-Carlo EM has no q
            self._advance(f"log p(x, z) {row['log_joint']:.2f} nats")
