"""A progress line on standard error, since training and annealing can take minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "progress_line"]


@contextmanager
def progress_line(total: int, unit: str, shown: bool) -> Iterator:
    """Yield a function `advance(note)` that counts one step, and shows the count and the note.

    The line is the progress bar of tqdm if that is installed, else plain text.

    Parameters
    ----------
    total : int
        The number of steps.
    unit : str
        The name of a step, as in "epoch".
    shown : bool
        If False, the function does nothing.
    """
    if not shown:
        yield lambda note: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        done = 0

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            sys.stderr.write(f"\r{unit} {done}/{total}  {note}\033[K")
            sys.stderr.flush()

        try:
            yield advance
        finally:
            sys.stderr.write("\n")
    else:
        with tqdm(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True) as bar:

            def advance(note: str) -> None:
                bar.set_postfix_str(note, refresh=False)
                bar.update()

            yield advance


class Progress:
    """A callback of `fit` that shows the epoch and the ELBO on standard error.

    Use it in a `with` block, which ends the line.

    Parameters
    ----------
    epochs : int
        The number of epochs that `fit` will make.

    Examples
    --------
    >>> from numpyvae import VAE, fit
    >>> with Progress(2) as progress:                                    # doctest: +SKIP
    ...     history = fit(VAE(4, 2, (3,)), x, epochs=2, callbacks=[progress])
    """

    def __init__(self, epochs: int) -> None:
        self._line = progress_line(epochs, "epoch", True)

    def __enter__(self) -> Progress:
        self._advance = self._line.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._line.__exit__(*error)

    def __call__(self, vae: Any, history: Any) -> None:
        row = history.rows[-1]
        self._advance(f"ELBO {row.get('valid_elbo', row['elbo']):.2f} nats")
