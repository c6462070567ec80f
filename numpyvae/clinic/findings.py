"""What an examination says: findings, and the report that collects them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from . import reports

__all__ = ["VERDICTS", "ClinicError", "Finding", "Report"]

RIGHT, WRONG, UNUSUAL = "right", "wrong", "unusual but legitimate"
SKIPPED, UNDECIDED = "not examined", "undecided"
VERDICTS = (RIGHT, WRONG, UNUSUAL, SKIPPED, UNDECIDED)
_MISSING = re.compile(r"([\w, ]+?)(?: is)? not given")
CATALOG = "docs/clinic-catalog.md"  # a section for each name


class ClinicError(AssertionError):
    """An examined subject has at least one bug; the message lists the findings.

    Examples
    --------
    >>> issubclass(ClinicError, AssertionError)
    True
    """


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Parameters
    ----------
    examination : str
        What was examined.
    verdict : str
        "right", "wrong", "unusual but legitimate", "not examined" or "undecided".
    severity : str
        Of what is wrong: "bug" (the value or the gradient is not what it is said to be), "report"
        (a reported figure is not), "choice" (a setting that the user should know of).
    name : str
        The name of the bug; "" if it has none.
    expected, found : str
        The figures.
    equation : str
        The equation of the notes, or the place in Kingma & Welling 2013.
    advice : str
        How to mend it, or why it was not examined.
    probe : str
        The seed and the shapes that reproduce it.
    reference : str
        A public code that had the bug.

    Examples
    --------
    >>> found = Finding("KL", "wrong", "bug", "KL without ½")
    >>> found.is_bug, found.page
    (True, 'docs/clinic-catalog.md#kl-without-½')
    """

    examination: str
    verdict: str
    severity: str = ""
    name: str = ""
    expected: str = ""
    found: str = ""
    equation: str = ""
    advice: str = ""
    probe: str = ""
    reference: str = ""

    @property
    def is_bug(self) -> bool:
        """Whether it sets the exit code."""
        return self.verdict == WRONG and self.severity == "bug"

    @property
    def page(self) -> str:
        """The section of the catalog that explains it, "" for what has no name."""
        if not self.name:
            return ""
        # as Sphinx makes the anchor of a heading: letters, digits and hyphens
        anchor = re.sub(r"[^\w-]", "", self.name.lower().replace(" ", "-"))
        return f"{CATALOG}#{anchor}"

    @property
    def figures(self) -> str:
        """What was expected and what was found, in one line."""
        if self.expected and self.found:
            return f"expected {self.expected}; found {self.found}"
        return self.found or self.expected


@dataclass(frozen=True)
class Report:
    """The findings of an examination, and what was assumed of the subject.

    ``print(report)`` shows a table as wide as the terminal, of at most 100 columns.

    Parameters
    ----------
    name : str
        The name of the subject.
    guesses : tuple of str
        What was found out about the subject, or declared by it.
    findings : tuple of Finding

    Examples
    --------
    >>> report = Report("mine", ("log σ² (declared)",), (Finding("KL", "right"),))
    >>> report.ok, report.counts["right"]
    (True, 1)
    >>> print(report.summary)
    mine: no bug found. 1 test run, 1 passed; 0 not examined.
    """

    name: str
    guesses: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no bug was found."""
        return not any(f.is_bug for f in self.findings)

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What is wrong, bugs first, and those with a name before those without."""
        found = [f for f in self.findings if f.verdict == WRONG]
        return tuple(sorted(found, key=lambda f: (not f.is_bug, not f.name)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all that is wrong or unusual, each once, the most certain first."""
        unusual = [f for f in self.findings if f.verdict == UNUSUAL]
        return tuple(dict.fromkeys(f.name for f in (*self.wrong, *unusual) if f.name))

    @property
    def counts(self) -> dict[str, int]:
        """How many findings have each verdict."""
        return {v: sum(f.verdict == v for f in self.findings) for v in VERDICTS}

    @property
    def exit_code(self) -> int:
        """0 if there is no bug, else 1."""
        return 0 if self.ok else 1

    @property
    def run(self) -> tuple[Finding, ...]:
        """The findings of the tests that were run: wrong, unusual, undecided, right."""
        rest = [f for v in (UNUSUAL, UNDECIDED, RIGHT) for f in self.findings if f.verdict == v]
        return (*self.wrong, *rest)

    @property
    def not_examined(self) -> dict[str, tuple[str, ...]]:
        """The tests that were not run, by the reason; what is not given is one reason."""
        reasons: dict[str, list[str]] = {}
        missing: dict[str, None] = {}
        for f in self.findings:
            if f.verdict == SKIPPED:
                names = _MISSING.fullmatch(f.advice)
                missing |= dict.fromkeys(names[1].split(", ") if names else [])
                reason = "" if names else f.advice or "no reason is given"
                reasons.setdefault(reason, []).append(f.examination)
        if "" in reasons:
            reasons = {f"not given: {', '.join(missing)}": reasons.pop("")} | reasons
        return {reason: tuple(dict.fromkeys(tests)) for reason, tests in reasons.items()}

    @property
    def summary(self) -> str:
        """The result in words, with how many tests were run, passed and not run."""
        return reports.summary(self)

    def __str__(self) -> str:
        return reports.to_text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that can be written as JSON.

        Returns
        -------
        report : dict
            ``name``; ``ok``, whether there is no bug; ``names`` of what is wrong or unusual;
            ``guesses``; ``counts``, a number for each verdict; ``findings``, a dictionary for each
            with the fields of `Finding`, all texts, and its ``page`` of the catalog.
        """
        return {
            "name": self.name,
            "ok": self.ok,
            "names": list(self.names),
            "guesses": list(self.guesses),
            "counts": self.counts,
            "findings": [asdict(f) | {"page": f.page} for f in self.findings],
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Report:
        """Return the report that `to_dict` has written.

        Parameters
        ----------
        saved : dict

        Returns
        -------
        report : Report
        """
        names = [f.name for f in fields(Finding)]
        found = (Finding(**{name: f[name] for name in names}) for f in saved["findings"])
        return cls(saved["name"], tuple(saved["guesses"]), tuple(found))

    @classmethod
    def joined(cls, name: str, parts: Iterable[Report]) -> Report:
        """Return one report of several; each test and assumption names those that it is of.

        Parameters
        ----------
        name : str
        parts : iterable of Report

        Returns
        -------
        report : Report
        """
        guesses: dict[str, list[str]] = {}
        findings: list[Finding] = []
        for part in parts:
            for guess in part.guesses:
                guesses.setdefault(guess, []).append(part.name)
            for f in part.findings:
                findings.append(replace(f, examination=f"{part.name}: {f.examination}"))
        lines = tuple(f"{guess} ({', '.join(names)})" for guess, names in guesses.items())
        return cls(name, lines, tuple(findings))

    def to_text(self, width: int | None = None) -> str:
        """Return the report as a table for the terminal.

        Parameters
        ----------
        width : int, optional
            In columns. By default that of the terminal, at least 40 and at most 100.

        Returns
        -------
        text : str
        """
        return reports.to_text(self, width)

    def to_markdown(self) -> str:
        """Return the report as tables in Markdown."""
        return reports.to_markdown(self)

    def to_html(self) -> str:
        """Return the report as one page of HTML that needs no other file."""
        return reports.to_html(self)
