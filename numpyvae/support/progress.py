"""A line on standard error that says how far training has come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["progress_line"]


@contextmanager
def progress_line(total: int, unit: str, shown: bool) -> Iterator:
    """Yield a function `advance(note)`: tqdm's bar if tqdm is installed, else one plain line.

    Parameters
    ----------
    total : int
        How many advances there will be.
    unit : str
        What is counted, as in "epoch".
    shown : bool
        False yields a function that does nothing.
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
