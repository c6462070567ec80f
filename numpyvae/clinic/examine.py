"""Examine a VAE: run all examinations that its functions allow, and collect the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..support.checks import check_choice, check_kind, check_seed
from .calls import Calls
from .examinations import (
    assembly,
    company,
    data,
    draws,
    evaluation,
    forms,
    freeze,
    gradient,
    kl,
    numbers,
    reconstruction,
)
from .facts import Facts, establish, skipped
from .findings import WRONG, ClinicError, Finding, Report
from .names import wrong
from .subject import Subject, SubjectError

__all__ = ["EXAMINATIONS", "check", "examine", "parametrize"]

EXAMINATIONS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "data": data.examine,
    "freeze": freeze.examine,
    "company": company.examine,
    "draws": draws.examine,
    "kl": kl.examine,
    "reconstruction": reconstruction.examine,
    "numbers": numbers.examine,
    "assembly": assembly.examine,
    "forms": forms.examine,
    "evaluation": evaluation.examine,
    "gradient": gradient.examine,
}


_ARGUMENTS = "arguments"  # whether functions leave them as they are: seen in all examinations
# What others take facts from: these are run before them, even if they are not to be reported.
_FIRST = ("freeze", "company", "draws", "kl", "reconstruction", "numbers")
_NEED: dict[str, tuple[str, ...]] = dict.fromkeys(("forms", "evaluation"), (*_FIRST, "assembly"))
_NEED |= dict.fromkeys(("data", "freeze", "company"), ())


def examine(subject: Subject, seed: int = 0, only: Iterable[str] | None = None) -> Report:
    """Examine a VAE and name its bugs.

    Parameters
    ----------
    subject : Subject
    seed : int
        Of all probes. The report is the same for the same seed.
    only : iterable of str, optional
        The names of the examinations that are reported, some of `EXAMINATIONS`; all by default.

    Returns
    -------
    report : Report

    Raises
    ------
    TypeError
        If `subject` is not a `Subject`.
    ValueError
        If an examination has another name.

    Examples
    --------
    >>> import numpy as np
    >>> subject = Subject(kl=lambda mu, s: (mu**2 + np.exp(s) - s - 1).sum(-1), scale="logvar")
    >>> examine(subject).names
    ('KL without ½',)
    """
    check_kind("subject", subject, Subject, "make one with clinic.Subject(...)")
    wanted = EXAMINATIONS if only is None else tuple(only)
    for name in wanted:
        check_choice("only", name, tuple(EXAMINATIONS))
    facts, found = _run(subject, check_seed(seed), wanted)
    wanted = (*wanted, _ARGUMENTS)
    findings = [f for name, group in found.items() if name in wanted for f in group]
    return Report(subject.name, tuple(facts.guesses), tuple(_without_repeats(findings)))


def _run(
    subject: Subject, seed: int, wanted: Iterable[str] = EXAMINATIONS
) -> tuple[Facts, dict[str, list[Finding]]]:
    """Run examinations, and those that they need, in order; one that fails costs only itself."""
    needed = {n for name in wanted for n in (name, *_NEED.get(name, _FIRST))}
    calls = Calls(subject)
    facts = establish(calls, seed)
    found: dict[str, list[Finding]] = {}
    for name in filter(needed.__contains__, EXAMINATIONS):
        found[name] = _findings(name, facts)
        if calls.single and facts.tolerance < 1e-4:  # a function of this examination is the first
            facts.tolerance = 1e-4
            found[name] = _findings(name, facts)
    bug = "argument changed in place"
    found[_ARGUMENTS] = [
        wrong(f"{name}: {_ARGUMENTS}", bug, "unchanged", f"{name} writes into its argument")
        for name in sorted(calls.changed)
    ]
    return facts, found


def _findings(name: str, facts: Facts) -> list[Finding]:
    """The findings of one examination."""
    group: list[Finding] = []
    try:
        for finding in EXAMINATIONS[name](facts):
            group.append(finding)
    except SubjectError as error:
        group.append(skipped(name, str(error)))
    except Exception as error:  # of the examination: what the functions raise is caught before
        text = " ".join(str(error).split())
        reason = f"failed with {type(error).__name__}: {text}; please report it"
        group.append(skipped(name, reason))
    return group


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
