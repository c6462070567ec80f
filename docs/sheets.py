"""The problem sheets as notebooks, for students and for teachers.

A sheet is a Python file in `docs/problems`, with cells in the percent format. The lines between
`# blank: HINT` and `# end` are a solution. In the student's notebook each name that they assign
is `...`, and each function that they define returns `...`; text after `<!-- teacher -->` is left
out.
"""

import ast
import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "problems"
SHEETS = sorted(path.stem.removeprefix("sheet_") for path in FOLDER.glob("sheet_*.py"))
READERS = ("student", "teacher")
_BLANK = re.compile(r"^( *)# blank: (.*?)\n(.*?)^ *# end\n", re.M | re.S)
_MARK = "<!-- teacher -->"


def blank(match: re.Match) -> str:
    """Return what a student sees in place of a solution: the hint, and the names to fill."""
    indent, hint, solution = match.groups()
    lines = [f"# Your code: {hint}"]
    body = "\n".join(line.removeprefix(indent) for line in solution.splitlines())
    more = re.match(r"(?:# .*\n)*", body)[0]  # a hint of several lines
    lines += more.splitlines()
    for node in ast.parse(body).body:
        if isinstance(node, ast.FunctionDef):
            lines += [
                "",
                "",
                f"def {node.name}({ast.unparse(node.args)}):",
                "    return ...",
                "",
                "",
            ]
        elif isinstance(node, ast.Assign):
            lines.append(f"{ast.unparse(node.targets[0]).strip('()')} = ...")
    text = "".join(f"{indent}{line}".rstrip() + "\n" for line in lines)
    return re.sub(r"\n{4,}", "\n\n\n", text)


def cells(number: str, reader: str) -> list[tuple[str, str]]:
    """Return the cells of a sheet: ("markdown" or "code", text)."""
    source = (FOLDER / f"sheet_{number}.py").read_text("utf-8")
    found = []
    for part in re.split(r"^# %%", source, flags=re.M)[1:]:
        head, _, text = part.partition("\n")
        if "[markdown]" in head:
            text = re.sub(r"^# ?", "", text.strip(), flags=re.M)
            if reader == "student":
                text = text.partition(_MARK)[0]
            kind, text = "markdown", text.replace(_MARK, "").strip()
        else:
            new = blank if reader == "student" else r"\1# \2\n\3"
            text = re.sub(r"\n{4,}", "\n\n\n", _BLANK.sub(new, text))
            kind, text = "code", text.strip()
        if text:
            found.append((kind, text))
    return found


def notebook(number: str, reader: str) -> str:
    """Return a sheet as a notebook in JSON."""
    made = []
    for i, (kind, text) in enumerate(cells(number, reader)):
        cell = {"cell_type": kind, "id": f"cell-{i}", "metadata": {}}
        cell["source"] = text.splitlines(keepends=True)
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def file_name(number: str, reader: str) -> str:
    return f"sheet-{number}-{reader}.ipynb"
