"""A report of the clinic as text for the terminal, as Markdown and as a page of HTML."""

from __future__ import annotations

import html
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .findings import Finding, Report

__all__ = ["headline", "label", "summary", "tally", "to_html", "to_markdown", "to_text"]

_NARROW = 72  # below this a table of three columns has no room
_MOST_TESTS = 6  # named in one line of what was not examined


def label(finding: Finding) -> str:
    """Return the verdict in one or two words.

    Parameters
    ----------
    finding : Finding

    Returns
    -------
    label : str

    Examples
    --------
    >>> from .findings import Finding
    >>> label(Finding("KL", "wrong", "bug")), label(Finding("KL", "right"))
    ('BUG', 'right')
    """
    if finding.verdict == "wrong":
        return {"bug": "BUG", "report": "wrong figure"}.get(finding.severity, "wrong")
    return "unusual" if finding.verdict.startswith("unusual") else finding.verdict


def headline(report: Report) -> str:
    """Return the result in a sentence or two.

    Parameters
    ----------
    report : Report

    Returns
    -------
    text : str

    Examples
    --------
    >>> from .findings import Finding, Report
    >>> headline(Report("mine", (), (Finding("KL", "wrong", "bug", "KL without ½"),)))
    'mine: 1 bug found: KL without ½.'
    """
    bugs = [f for f in report.wrong if f.is_bug]
    others = [f for f in report.wrong if not f.is_bug]
    if not report.run:
        return f"{report.name}: nothing could be examined."
    text = f"{report.name}: no bug found."
    if bugs:
        noun = "bug" if len(bugs) == 1 else "bugs"
        text = f"{report.name}: {len(bugs)} {noun} found: {_named(bugs)}."
    if others:
        text += f" Not right in what is reported: {_named(others)}."
    unusual = [f for f in report.run if label(f) == "unusual"]
    if unusual:
        text += f" Unusual but legitimate: {_named(unusual)}."
    return text


def _named(findings: Iterable[Finding]) -> str:
    return "; ".join(dict.fromkeys(f.name or f"{f.examination}, without a name" for f in findings))


def tally(report: Report) -> str:
    """Return how many tests were run, passed, and not run.

    Parameters
    ----------
    report : Report

    Returns
    -------
    text : str

    Examples
    --------
    >>> from .findings import Finding, Report
    >>> tally(Report("mine", (), (Finding("KL", "right"), Finding("loss", "not examined"))))
    '1 test run, 1 passed; 1 not examined.'
    """
    counts = report.counts
    parts = [f"{counts['right']} passed"]
    parts += [f"{counts[v]} {v}" for v in counts if v not in ("right", "not examined")]
    shown = [p for p in parts if not p.startswith("0 ") or p.endswith("passed")]
    n = len(report.run)
    tests = "1 test run" if n == 1 else f"{n} tests run"
    return f"{', '.join([tests, *shown])}; {counts['not examined']} not examined."


def summary(report: Report) -> str:
    """Return the result in words, with how many tests were run, passed and not run.

    Parameters
    ----------
    report : Report

    Returns
    -------
    text : str

    Examples
    --------
    >>> from .findings import Report
    >>> summary(Report("mine", (), ()))
    'mine: nothing could be examined. 0 tests run, 0 passed; 0 not examined.'
    """
    return f"{headline(report)} {tally(report)}"


def _details(f: Finding) -> list[tuple[str, str]]:
    """What is shown of a test that was not passed: what it is, and the text."""
    if label(f) == "right":
        return [("", f.figures)]
    pairs = [
        ("", f.name),
        ("expected", f.expected),
        ("found", f.found),
        ("how to mend it" if f.verdict == "wrong" else "note", f.advice),
        ("see", "; ".join(t for t in (f.equation, f.page) if t)),
        ("seen in", f.reference),
        ("repeat with", f.probe),
    ]
    return [(title, text) for title, text in pairs if text]


def _not_examined(report: Report, most: int | None = None) -> list[str]:
    """What was not examined: a line for each reason."""
    lines = []
    for reason, tests in report.not_examined.items():
        named = list(tests) if most is None else list(tests[:most])
        more = len(tests) - len(named)
        named += [f"{more} more"] if more else []
        lines.append(f"{reason} ({', '.join(named)})")
    return lines


def to_text(report: Report, width: int | None = None) -> str:
    """Return a report as a table for the terminal; the figures of what is right are cut to a line.

    Parameters
    ----------
    report : Report
    width : int, optional
        In columns. By default that of the terminal, at least 40 and at most 100.

    Returns
    -------
    text : str

    Examples
    --------
    >>> from .findings import Finding, Report
    >>> print(to_text(Report("mine", (), (Finding("KL: value", "right", found="1 × KL"),)), 80))
    mine: no bug found.
    <BLANKLINE>
    examination   verdict   name, or figures
    ----------------------------------------
    KL: value     right     1 × KL
    <BLANKLINE>
    1 test run, 1 passed; 0 not examined.
    """
    width = max(40, min(width or shutil.get_terminal_size((100, 24)).columns, 100))
    lines = _wrapped(headline(report), width)
    if report.guesses:
        lines += ["", *_wrapped("Taken from what was declared, or found out:", width)]
        for guess in report.guesses:
            lines += _wrapped(guess, width, "  ", "    ")
    if report.run:
        lines += ["", *_table(report.run, width)]
    skipped = _not_examined(report, _MOST_TESTS)
    if skipped:
        lines += ["", "Not examined:"]
        for line in skipped:
            lines += _wrapped(line, width, "  ", "    ")
    return "\n".join([*lines, "", *_wrapped(tally(report), width)])


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    ) or [first.rstrip()]


def _table(findings: Sequence[Finding], width: int) -> list[str]:
    """The tests that were run, as three columns, or one below the other if there is no room."""
    if width < _NARROW:
        lines = []
        for f in findings:
            lines += _wrapped(f"{f.examination}: {label(f)}", width)
            lines += _cell(f, width - 4, " " * 4)
        return lines
    longest = max(len(f.examination) for f in findings)
    first = min(max(longest, len("examination")), width * 11 // 20) + 3
    second = max(len("verdict"), *(len(label(f)) for f in findings)) + 3
    body = []
    for f in findings:
        right = label(f) == "right"
        room = width - first - second
        figures = [textwrap.shorten(f.found or f.expected, room, placeholder=" …")]
        last = figures if right else _wrapped(f.name, room)
        cells = _wrapped(f.examination, first - 3), [label(f)], last
        height = max(map(len, cells))
        a, b, c = ([*cell, *[""] * (height - len(cell))] for cell in cells)
        body += [f"{x:{first}}{y:{second}}{z}".rstrip() for x, y, z in zip(a, b, c)]
        body += [] if right else _cell(f, width - 4, " " * 4, named=False)
    head = f"{'examination':{first}}{'verdict':{second}}name, or figures"
    return [head, "-" * max(map(len, [head, *body])), *body]


def _cell(f: Finding, width: int, indent: str, *, named: bool = True) -> list[str]:
    """The details of one test, one below the other."""
    lines = []
    for title, text in _details(f):
        if title or named:
            lines += _wrapped(f"{title}: {text}" if title else text, width, "", "  ")
    return [indent + line for line in lines]


def to_markdown(report: Report) -> str:
    """Return a report as tables in Markdown.

    Parameters
    ----------
    report : Report

    Returns
    -------
    text : str

    Examples
    --------
    >>> from .findings import Finding, Report
    >>> print(to_markdown(Report("mine", (), (Finding("E|x|", "right", found="1"),))))
    # mine
    <BLANKLINE>
    mine: no bug found. 1 test run, 1 passed; 0 not examined.
    <BLANKLINE>
    | examination | verdict | name | expected | found | advice | see |
    | --- | --- | --- | --- | --- | --- | --- |
    | E\\|x\\| | right |  |  | 1 |  |  |
    <BLANKLINE>
    """
    columns = ("examination", "verdict", "name", "expected", "found", "advice", "see")
    rows = [columns, ["---"] * len(columns)]
    for f in report.run:
        see = "; ".join(t for t in (f.equation, f.page) if t)
        cells = (f.examination, label(f), f.name, f.expected, f.found, f.advice, see)
        rows.append([_plain(cell) for cell in cells])
    lines = [f"# {_plain(report.name)}", "", _plain(summary(report)), ""]
    if report.guesses:
        lines += [*(f"- {_plain(g)}" for g in report.guesses), ""]
    if report.run:
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    skipped = [f"- {_plain(line)}" for line in _not_examined(report)]
    if skipped:
        lines += ["", "## Not examined", "", *skipped]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*\[\]|<>])", r"\\\1", " ".join(text.split()))


_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --page: #fff; --soft: #59636e; --line: #d1d9e0;
  --bug: #b3261e; --note: #8a5a00; --right: #1a6b35; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --page: #14181d; --soft: #9aa6b2;
  --line: #3a434d; --bug: #ff8f85; --note: #e6b450; --right: #6fd08c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 0; }
.soft, dt { color: var(--soft); }
article { border: 1px solid var(--line); border-left: .3rem solid var(--note);
  border-radius: .3rem; padding: .7rem 1rem; margin: .8rem 0; }
article.bug { border-left-color: var(--bug); }
.verdict { font-weight: 600; color: var(--note); white-space: nowrap; }
.bug .verdict { color: var(--bug); } .right { color: var(--right); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem;
  margin: .5rem 0 0; }
dd { margin: 0; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line); } th { font-weight: 600; } tbody th { font-weight: 400; }
@media (max-width: 38rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .4rem; }
  thead { display: none; } tbody th, tbody td { display: block; border: 0; padding: .1rem 0; }
  tbody tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; } }
"""


def to_html(report: Report) -> str:
    """Return a report as one page of HTML that needs no other file.

    Parameters
    ----------
    report : Report

    Returns
    -------
    page : str

    Examples
    --------
    >>> from .findings import Finding, Report
    >>> page = to_html(Report("a < b", (), (Finding("KL", "wrong", "bug", "KL missing"),)))
    >>> "<h1>a &lt; b</h1>" in page, "<h3>KL missing</h3>" in page
    (True, True)
    """
    other = [f for f in report.run if label(f) != "right"]
    right = [f for f in report.run if label(f) == "right"]
    result = headline(report).removeprefix(f"{report.name}: ")
    parts = [
        f"<h1>{html.escape(report.name)}</h1>",
        f"<p>{html.escape(result[:1].upper() + result[1:])}<br>",
        f'<span class="soft">{html.escape(tally(report))}</span></p>',
        *(["<h2>What is not as expected</h2>", *map(_article, other)] if other else []),
        *(["<h2>What is right</h2>", _rows(right)] if right else []),
        *_list("Not examined", _not_examined(report)),
        *_list("Taken from what was declared, or found out", report.guesses),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(report.name)}: examination of a VAE</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _article(f: Finding) -> str:
    """A test that was not passed."""
    kind = ' class="bug"' if f.is_bug else ""
    title = html.escape(f.name or f.examination)
    pairs = [(t, text) for t, text in _details(f) if t]
    rows = "".join(f"<dt>{t}</dt><dd>{html.escape(text)}</dd>" for t, text in pairs)
    return (
        f'<article{kind}>\n<h3>{title}</h3>\n<span class="verdict">{html.escape(label(f))}</span> '
        f'<span class="soft">in {html.escape(f.examination)}</span>\n<dl>{rows}</dl>\n</article>'
    )


def _rows(findings: Iterable[Finding]) -> str:
    """The tests that were passed, as a table."""
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(f.examination)}</th><td class="right">right</td>'
        f"<td>{html.escape(f.figures)}</td></tr>"
        for f in findings
    )
    head = "".join(f'<th scope="col">{t}</th>' for t in ("examination", "verdict", "figures"))
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _list(title: str, lines: Iterable[str]) -> list[str]:
    items = "\n".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return [f"<h2>{title}</h2>", f"<ul>\n{items}\n</ul>"] if items else []
