"""Examine a VAE of the user, which a Python file describes, or the package's own VAE."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from ..clinic import Report, Subject, examine
from ..clinic.own import complex_steps, own_subjects
from ..support.checks import shown
from ..support.files import atomic_write
from ..support.strict_json import to_json
from .usage import UsageError, suggest

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "WITHOUT_FILE",
    "examined",
    "format_of",
    "load_subject",
    "rendered",
    "write_report",
]

SUFFIXES = {".txt": "text", ".json": "json", ".md": "markdown", ".html": "html"}
WITHOUT_FILE = "complex-step"  # the examination that is for the package's own VAE alone


def _json(report: Report) -> str:
    return to_json(report.to_dict(), indent=1)


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": str,
    "json": _json,
    "markdown": Report.to_markdown,
    "html": Report.to_html,
}


def format_of(name: str | None, output: Path | None) -> str:
    """Return the format of a report: the one that is named, or that of the file's suffix.

    Raises
    ------
    UsageError
        If the suffix is not that of a format.

    Examples
    --------
    >>> format_of(None, Path("report.md")), format_of("json", None)
    ('markdown', 'json')
    """
    if name is not None or output is None:
        return name or "text"
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--output: expected a file FILE{', '.join(SUFFIXES)}, got {str(output)!r}; choose "
            "another, or name the format with --format"
        )
    return SUFFIXES[output.suffix.lower()]


def rendered(report: Report, name: str) -> str:
    """Return a report in one of the formats."""
    return FORMATS[name](report).rstrip("\n")


def write_report(text: str, output: Path) -> None:
    """Write a report into a file, completely or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with atomic_write(output) as file:
        file.write(f"{text}\n".encode())


def examined(where: str | None, seed: int, only: Sequence[str] | None) -> Report:
    """Examine the subject of a file, or without a file the package's own VAE.

    Parameters
    ----------
    where : str or None
        FILE.py or FILE.py:NAME.
    seed : int
    only : sequence of str, or None
        The names of the examinations that are wanted; None for all.

    Raises
    ------
    UsageError
        If the file cannot be run, has no such subject, or its functions cannot be called at all.

    Examples
    --------
    >>> examined(None, 0, ["kl"]).ok
    True
    """
    if where is None:
        return _own(seed, only)
    if only is not None and WITHOUT_FILE in only:
        raise UsageError(
            f"--only: expected {WITHOUT_FILE} without a file, since it examines the gradients of "
            f"this package, got {where!r}; leave one of them out"
        )
    with redirect_stdout(sys.stderr), load_subject(where) as subject:
        return examine(subject, seed, only)


def _own(seed: int, only: Sequence[str] | None) -> Report:
    """The report of the package's own VAE with every likelihood, and of its gradients."""
    names = None if only is None else [n for n in only if n != WITHOUT_FILE]
    parts = []
    if names is None or names:
        parts = [examine(subject, seed, names) for subject in own_subjects(seed)]
    report = Report.joined("the VAE of numpyvae", parts)
    if only is not None and WITHOUT_FILE not in only:
        return report
    steps = tuple(complex_steps(seed))
    return Report(report.name, report.guesses, report.findings + steps)


@contextmanager
def load_subject(where: str) -> Iterator[Subject]:
    """Run a file as a module, and hand out its subject while its folder is on the search path.

    Parameters
    ----------
    where : str
        FILE.py or FILE.py:NAME. NAME is a `Subject`, or a function without arguments that
        returns one; without it the file has one `Subject`.

    Yields
    ------
    subject : Subject

    Raises
    ------
    UsageError
        One line, with the line of the file in which it fails.
    """
    path, name = _parts(where)
    if not path.is_file():
        raise UsageError(f"{path}: expected a Python file, got none; check the path")
    before = list(sys.path)
    sys.path.insert(0, str(path.resolve().parent))
    module: Any = _module(path)
    known = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    try:
        with _one_line(path):
            module.__spec__.loader.exec_module(module)
        yield _chosen(path, module, name)
    finally:
        sys.path[:] = before
        sys.modules.pop(module.__name__)
        if known is not None:
            sys.modules[module.__name__] = known


def _parts(where: str) -> tuple[Path, str | None]:
    """The file and the name; a path may have colons itself."""
    head, colon, name = where.rpartition(":")
    if colon and head.endswith(".py"):
        if not name.isidentifier():
            raise UsageError(
                f"FILE.py:NAME: expected a name of the file after the colon, got {name!r}"
            )
        return Path(head), name
    if not where.endswith(".py"):
        raise UsageError(
            f"FILE.py:NAME: expected a Python file with the suffix .py, got {where!r}"
        )
    return Path(where), None


def _module(path: Path) -> ModuleType:
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else "__vae__"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    return importlib.util.module_from_spec(spec)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Make a UsageError, with the line of the file, of whatever the file raises."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line, text = error.lineno, error.msg
        else:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f.lineno for f in frames if f.filename == str(path)]
            line, text = (lines or [None])[-1], " ".join(str(error).split())
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        place = f"{path}, line {line}" if line else str(path)
        raise UsageError(
            f"{place}: expected a file that runs, got {what}; mend it, or try it with python"
        ) from error


def _chosen(path: Path, module: ModuleType, name: str | None) -> Subject:
    """The subject with this name, or the only one of the module."""
    things = {n: v for n, v in vars(module).items() if not n.startswith("_") or n == name}
    subjects = {n: v for n, v in things.items() if isinstance(v, Subject)}
    makers = [n for n, v in things.items() if _makes_one(v, module)]
    if name is None:
        if len({id(s) for s in subjects.values()}) == 1:
            return next(iter(subjects.values()))
        got = f"several ({', '.join(subjects)})" if subjects else "none"
        names = ", ".join(f"{path}:{n}" for n in (subjects or makers))
        remedy = f"name it: {names}" if names else "make one with numpyvae.clinic.Subject(...)"
        raise UsageError(f"{path}: expected one Subject in the file, got {got}; {remedy}")
    if name not in things:
        hint = suggest(name, [*subjects, *makers])
        known = ", ".join([*subjects, *makers]) or "no Subject and no function without arguments"
        raise UsageError(f"{path}: expected a name of the file ({known}), got {name!r}{hint}")
    value = things[name]
    if name in makers:
        with _one_line(path):
            value = value()
        if isinstance(value, Subject):
            return value
        raise UsageError(
            f"{path}:{name}: expected a function that returns a Subject, got one that returns "
            f"{shown(value)}; return numpyvae.clinic.Subject(...)"
        )
    if not isinstance(value, Subject):
        raise UsageError(
            f"{path}:{name}: expected a Subject, or a function without arguments that returns "
            f"one, got {shown(value)}; make one with numpyvae.clinic.Subject(...)"
        )
    return value


def _makes_one(value: Any, module: ModuleType) -> bool:
    """Whether it is a function of the module that can be called without arguments."""
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    parameters = inspect.signature(value).parameters.values()
    empty = inspect.Parameter.empty
    return all(
        p.default is not empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )
