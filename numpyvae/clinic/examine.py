"""Examine a VAE: run all examinations that its functions allow, and collect the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..support.checks import check_kind, check_seed
from .examinations import (
    assembly,
    company,
    draws,
    evaluation,
    freeze,
    gradient,
    kl,
    numbers,
    reconstruction,
)
from .facts import Facts, establish, skipped
from .findings import WRONG, ClinicError, Finding, Report
from .names import wrong
from .subject import Calls, Subject, SubjectError

__all__ = ["EXAMINATIONS", "check", "examine", "parametrize"]

EXAMINATIONS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "freeze": freeze.examine,
    "company": company.examine,
    "draws": draws.examine,
    "kl": kl.examine,
    "reconstruction": reconstruction.examine,
    "numbers": numbers.examine,
    "assembly": assembly.examine,
    "evaluation": evaluation.examine,
    "gradient": gradient.examine,
}


def examine(subject: Subject, seed: int = 0) -> Report:
    """Examine a VAE and name its bugs.

    Parameters
    ----------
    subject : Subject
    seed : int
        Of all probes. The report is the same for the same seed.

    Returns
    -------
    report : Report

    Raises
    ------
    TypeError
        If `subject` is not a `Subject`.

    Examples
    --------
    >>> import numpy as np
    >>> subject = Subject(kl=lambda mu, s: (mu**2 + np.exp(s) - s - 1).sum(-1), scale="logvar")
    >>> examine(subject).names
    ('KL without ½',)
    """
    check_kind("subject", subject, Subject, "make one with clinic.Subject(...)")
    facts, found = _run(subject, check_seed(seed))
    findings = [f for group in found.values() for f in group]
    return Report(subject.name, tuple(facts.guesses), tuple(_without_repeats(findings)))


def _run(subject: Subject, seed: int) -> tuple[Facts, dict[str, list[Finding]]]:
    """Run the examinations in their order; one that fails costs only itself."""
    calls = Calls(subject)
    facts = establish(calls, seed)
    found: dict[str, list[Finding]] = {}
    for name, examination in EXAMINATIONS.items():
        group = found[name] = []
        try:
            for finding in examination(facts):
                group.append(finding)
        except SubjectError as error:
            group.append(skipped(name, str(error)))
    title, bug = "arguments", "argument changed in place"
    for name in sorted(calls.changed):
        group.append(wrong(f"{name}: {title}", bug, "unchanged", f"{name} writes into x"))
    return facts, found


def _without_repeats(findings: list[Finding]) -> Iterator[Finding]:
    """A bug that a piece and the whole loss both show is listed once, where it was seen first."""
    seen = set()
    for finding in findings:
        key = finding.name
        if finding.verdict == WRONG and key and key in seen:
            continue
        seen.add(key)
        yield finding


def check(subject: Subject, seed: int = 0) -> None:
    """Raise an error that lists the bugs, if there are any.

    Parameters
    ----------
    subject : Subject
    seed : int

    Raises
    ------
    ClinicError
        If a bug was found.

    Examples
    --------
    >>> import numpy as np
    >>> check(Subject(kl=lambda mu, s: 0.5 * (mu**2 + np.exp(s) - s - 1).sum(-1)))
    """
    report = examine(subject, seed)
    bugs = [f for f in report.wrong if f.is_bug]
    if bugs:
        lines = [
            f"{f.examination}: {f.name or 'wrong'}: expected {f.expected}, found {f.found}. "
            f"{f.advice}"
            for f in bugs
        ]
        raise ClinicError("\n".join([f"{subject.name}: {len(bugs)} found", *lines]))


def parametrize(subjects: Iterable[Subject], seed: int = 0) -> Any:
    """Return a pytest decorator that gives a test for each subject and each finding.

    The test takes one argument, `check_vae`, a function without arguments that raises
    `ClinicError` for a bug and skips what could not be examined.

    Parameters
    ----------
    subjects : iterable of Subject
    seed : int

    Returns
    -------
    decorator : pytest.MarkDecorator

    Raises
    ------
    ClinicError
        In a test whose examination finds a bug.

    Examples
    --------
    >>> len(parametrize([Subject(kl=len)]).args[1]) == len(EXAMINATIONS)
    True
    """
    import functools

    import pytest

    @functools.cache
    def report_of(index: int) -> dict[str, list[Finding]]:
        return _run(listed[index], seed)[1]

    def one(index: int, name: str) -> None:
        found = report_of(index)[name]
        bugs = [f for f in found if f.is_bug]
        if bugs:
            raise ClinicError("\n".join(f"{f.name or 'wrong'}: {f.advice}" for f in bugs))
        if all(f.verdict == "not examined" for f in found):
            pytest.skip("; ".join(f.advice for f in found) or "nothing to examine")

    listed = list(subjects)
    cases = [
        pytest.param(functools.partial(one, i, name), id=f"{subject.name}-{name}")
        for i, subject in enumerate(listed)
        for name in EXAMINATIONS
    ]
    return pytest.mark.parametrize("check_vae", cases)
