"""What an examination says: findings, and the report that collects them."""

from __future__ import annotations

import html
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["VERDICTS", "ClinicError", "Finding", "Report"]

RIGHT, WRONG, UNUSUAL = "right", "wrong", "unusual but legitimate"
SKIPPED, UNDECIDED = "not examined", "undecided"
VERDICTS = (RIGHT, WRONG, UNUSUAL, SKIPPED, UNDECIDED)
_COLUMNS = ("examination", "verdict", "name", "expected", "found", "advice")


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
    >>> Finding("KL", "wrong", "bug", "KL without ½").is_bug
    True
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


@dataclass(frozen=True)
class Report:
    """The findings of an examination, and what was assumed of the subject.

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

    def __str__(self) -> str:
        lines = [f"{self.name}: {'no bug found' if self.ok else 'bugs found'}", *self.guesses, ""]
        for f in self.findings:
            title = f"{f.examination:<42} {f.verdict}" + (f": {f.name}" if f.name else "")
            if f.verdict == WRONG:
                title += f" [{f.severity}]"
            lines.append(title)
            figures = f"expected {f.expected}, found {f.found}" if f.expected else f.found
            details = [figures, f.advice, f.equation, f.reference and f"seen in {f.reference}"]
            if f.verdict != RIGHT:
                text = "; ".join(d for d in details if d)
                lines += textwrap.wrap(text, 90, initial_indent="    ", subsequent_indent="    ")
        counts = ", ".join(f"{n} {v}" for v, n in self.counts.items())
        return "\n".join([*lines, "", counts])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that can be written as JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "guesses": list(self.guesses),
            "counts": self.counts,
            "findings": [asdict(f) for f in self.findings],
        }

    def to_markdown(self) -> str:
        """Return the report as a table in Markdown."""
        rows = [[str(getattr(f, c)).replace("|", r"\|") for c in _COLUMNS] for f in self.findings]
        table = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
        lines = [f"# {self.name}", "", *(f"- {g}" for g in self.guesses), ""]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in table]) + "\n"

    def to_html(self) -> str:
        """Return the report as one page of HTML."""

        def row(cells: Any, tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = [row([getattr(f, c) for c in _COLUMNS], "td") for f in self.findings]
        guesses = "".join(f"<li>{html.escape(g)}</li>" for g in self.guesses)
        name = html.escape(self.name)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
            f"<h1>{name}</h1><ul>{guesses}</ul><table>{row(_COLUMNS, 'th')}{''.join(body)}"
            "</table></html>\n"
        )
