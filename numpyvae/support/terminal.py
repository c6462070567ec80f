"""What the command needs of its surroundings: streams that take any text, and a signal to stop.

A report has characters such as − and ✓, which not every encoding has, and a process may be
started without a standard output at all. Neither may cost a finished result.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Terminated", "prepare_streams", "sigterm_interrupts"]

_PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+/-",
    "✓": "ok",
    "✗": "NO",
    "·": "*",
    "×": "x",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "‖": "||",
    "∞": "inf",
    "∫": "int",
    "∂": "d",
    "½": "1/2",
    "“": '"',
    "”": '"',
    "’": "'",
}


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding does not have in ASCII: − as -, σ as sigma, ² as ^2, é as e."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    name = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "")
    if name.startswith("GREEK ") and " LETTER " in name:  # GREEK SMALL LETTER SIGMA
        letter = name.split()[3]
        return letter.lower() if "SMALL" in name else letter.capitalize()
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    signs = {"<super>": "^", "<sub>": "_"}  # how Unicode marks ² and ₖ
    sign = signs.get(unicodedata.decomposition(character).partition(" ")[0], "")
    return sign + base if base else "?"


codecs.register_error("numpyvae.plain", _substitute)


def prepare_streams() -> None:
    """Give the process the standard streams that it lacks, and let each write any character.

    A stream that the caller has closed becomes one that nobody reads, so that no file which is
    opened later gets its number. In an encoding such as cp1252 or ASCII, the characters that it
    does not have are written in ASCII.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="numpyvae.plain")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send before they kill: it ends a run as Ctrl-C does."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise `Terminated` in the main thread if SIGTERM comes inside the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set what a signal does
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
