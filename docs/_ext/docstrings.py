"""Convert docstrings to reStructuredText.

The docstrings are plain text, written to be read in the source: formulas are on separate lines,
and names are in single backticks. Sphinx reads docstrings as reStructuredText, in which the second
line of a formula can be an error and |x| is a substitution. This extension therefore turns
formulas into LaTeX, or into literal blocks if they contain code or words, Markdown tables into
tables, and public names into links.
"""

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path

from formulas import to_latex

import numpyvae

_SECTION = re.compile(r"^-{3,}\s*$")
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_EQUATES = re.compile(r"[=←≈≤≥]")
_SENTENCE = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{3,}")
_REFERENCE = re.compile(r"(.+?)\.?(?: {2,}(\(.*\)|Eq\. \(\d+\)))?$")

API = Path(__file__).parents[1] / "api"

# The command runs when it is imported, and the compiled loops need Numba.
_FAST = Path(numpyvae.__file__).parent / "fast"
NOT_READ = {"numpyvae.__main__"} | {
    f"numpyvae.fast.{file.stem}"
    for file in _FAST.glob("*.py")
    if re.search(r"^(from|import) numba|compile_with", file.read_text("utf-8"), re.M)
}


@cache
def public_names() -> dict[str, str]:
    """Map each public name to its full name; if it has several, to the shortest."""
    places: dict[str, set[str]] = {}
    for module in documented_modules():
        for name in importlib.import_module(module).__all__:
            places.setdefault(name, set()).add(f"{module}.{name}")
    # A name can be public in a package and in the module that defines it; the package is shorter.
    return {name: min(found, key=len) for name, found in places.items() if name != "elbo"}


def documented_modules() -> list[str]:
    """Return the modules that are on an API page: names of others have no place to link to."""
    pages = "".join(p.read_text("utf-8") for p in sorted(API.glob("*.md")))
    listed = set(re.findall(r"automodule:: (\S+)", pages))
    return [name for name in public_modules() if name in listed]


@cache
def public_modules() -> tuple[str, ...]:
    """Return the names of all modules with an `__all__`, a package before its modules."""
    names = [m.name for m in pkgutil.walk_packages(numpyvae.__path__, "numpyvae.")]
    return tuple(
        name
        for name in sorted(names)
        if name not in NOT_READ and hasattr(importlib.import_module(name), "__all__")
    )


def _inline(line: str) -> str:
    """Escape characters that are markup, and turn `name` into a link or into code."""

    def code(match):
        text = match.group(1)
        if text in public_names():
            return f":py:obj:`~{public_names()[text]}`"
        return f"``{text}``"

    parts = re.split(r"(``[^`]+``|`[^`]+`)", line)
    for i, part in enumerate(parts):
        if part.startswith("``"):
            continue
        if part.startswith("`"):
            parts[i] = _CODE.sub(code, part)
        else:
            part = part.replace("|", r"\|")
            parts[i] = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", part)
    return "".join(parts)


def _table(block: list[str]) -> list[str] | None:
    """Return a Markdown table as a list-table, or None if the block is not a table."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block]
    if not all(line.strip().startswith("|") for line in block) or len({*map(len, rows)}) != 1:
        return None
    ruled = len(rows) > 1 and set("".join(rows[1])) <= set("-: ")
    body = rows[:1] + rows[2:] if ruled else rows
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in body:
        lines += [f"   {'*' if i == 0 else ' '} - {_inline(cell)}" for i, cell in enumerate(row)]
    return lines


def _is_formula(block: list[str]) -> bool:
    """Tell whether a block is a displayed formula, and not a sentence or a list."""
    first = block[0]
    if re.match(r"\s*([-*•] |\d+\. |\.\. |:)", first):
        return False
    indents = {len(line) - len(line.lstrip()) for line in block}
    if indents != {0}:
        return True
    if any(_SENTENCE.search(line) for line in block):
        return False
    return len(block) > 1 and all(_EQUATES.search(line) for line in block)


def _formula(block: list[str]) -> list[str] | None:
    """Return a formula as LaTeX and its reference as text, None if the block is no formula."""
    if not any(_EQUATES.search(line) for line in block):
        return None
    parts = [_REFERENCE.match(line.strip()).groups() for line in block]
    lines = [to_latex(text) for text, _ in parts]
    if None in lines:
        return None
    if len(block) == 1:
        after = ["", _inline(parts[0][1])] if parts[0][1] else []
        pieces = lines[0].split(r"\qquad ") if len(block[0]) > 75 else lines
        broken = [f"   {'& ' * (len(pieces) > 1)}{piece}" for piece in pieces]
        return [".. math::", "", *(f"{line} \\\\" for line in broken[:-1]), broken[-1], *after]
    made = []
    for line, (_, reference) in zip(lines, parts):
        note = rf"\qquad\text{{{reference}}}" if reference else ""
        made.append(("& " if line[:1] != "=" else r"&\quad {}") + line + note)
    return [".. math::", "", *(f"   {line} \\\\" for line in made[:-1]), f"   {made[-1]}"]


def _prose(lines: list[str]) -> list[str]:
    """Convert running text, paragraph by paragraph."""
    out: list[str] = []
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
            continue
        if block:
            out += [*_paragraph(block), ""]
        block = []
    return out


def _paragraph(block: list[str]) -> list[str]:
    if block[0].lstrip().startswith(">>>"):
        return block
    if (table := _table(block)) is not None:
        return table
    if (formula := _formula(block)) is not None:
        return formula
    if _is_formula(block):
        margin = min(len(line) - len(line.lstrip()) for line in block)
        return [".. code-block:: none", "", *(f"   {line[margin:]}" for line in block)]
    return [_inline(line) for line in block]


def convert(lines: list[str]) -> list[str]:
    """Convert a docstring. Sections of numpydoc keep their layout; only markup is escaped."""
    heads = [i for i, line in enumerate(lines) if i and _SECTION.match(line)]
    cut = heads[0] - 1 if heads else len(lines)
    out = _prose(lines[:cut])
    doctest = False
    for line in lines[cut:]:
        doctest = line.lstrip().startswith(">>>") or (doctest and bool(line.strip()))
        out.append(line if doctest or _SECTION.match(line) else _inline(line))
    return out


def _process(app, what, name, obj, options, lines):
    lines[:] = convert(lines)


def _skip(app, what, name, obj, skip, options):
    # Python documents the fields of a NamedTuple as aliases. Their class describes them.
    doc = getattr(obj, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-process-docstring", _process, priority=100)  # before numpydoc
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
