"""`numpyvae completion`: a script with which a shell completes what a user types.

shtab makes the script from the parser, once, so that a shell need not start Python at each press
of the key.
"""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SHELLS", "script"]

SHELLS = ("bash", "zsh")


def script(parser: ArgumentParser, shell: str) -> str:
    """Return the script of a shell.

    Parameters
    ----------
    parser : ArgumentParser
        Used for nothing else: its options get the values that are completed.
    shell : {"bash", "zsh"}

    Raises
    ------
    ImportError
        If shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise ImportError(
            f"completion: expected shtab, which cannot be imported ({error}); "
            'pip install "numpyvae[completion]"'
        ) from None
    for each in _all_of(parser):
        for action in each._actions:
            metavar = action.metavar
            if isinstance(metavar, str) and metavar.startswith("{"):
                action.choices = metavar.strip("{}").split(",")
            elif action.type is Path or action.dest == "dataset":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _all_of(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """Yield the parser, and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for command in action.choices.values():
                yield from _all_of(command)
