"""The problem sheets: the solutions pass every assertion, and a blank that is left fails one."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def load_sheets():
    """Return docs/sheets.py as a module."""
    spec = importlib.util.spec_from_file_location("sheets", DOCS / "sheets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sheets = load_sheets()


@pytest.mark.parametrize("number", sheets.SHEETS)
def test_solutions_pass_and_a_blank_that_is_left_fails(number):
    # Kills: a wrong solution, an assertion that passes for every answer, a blank that is no blank.
    pairs = zip(
        [cell for cell in sheets.cells(number, "student") if cell[0] == "code"],
        [cell for cell in sheets.cells(number, "teacher") if cell[0] == "code"],
        strict=True,
    )
    names, blanks = {}, 0
    for (_, asked), (_, solved) in pairs:
        if asked != solved:
            blanks += 1
            with pytest.raises((ArithmeticError, AssertionError, AttributeError, TypeError)):
                exec(asked, dict(names))
        exec(solved, names)
    assert blanks >= 5


def test_a_student_sees_no_solution_and_no_answer():
    for number in sheets.SHEETS:
        for reader in sheets.READERS:
            text = sheets.notebook(number, reader)
            assert ("Answer to" in text) == (reader == "teacher")
            assert ("Your code" in text) == (reader == "student")
            assert not re.search("# end|# blank|<!--", text)
            for cell in json.loads(text)["cells"]:
                if cell["cell_type"] == "code":
                    compile("".join(cell["source"]), "cell", "exec")


def test_the_points_of_a_sheet_are_those_that_the_page_says():
    # Kills: a problem that was added or dropped without a change of the page.
    page = (DOCS / "teaching.md").read_text("utf-8")
    for number in sheets.SHEETS:
        found = re.findall(r"\((\d+) points?\)", sheets.notebook(number, "student"))
        row = next(line for line in page.splitlines() if line.startswith(f"| {number} |"))
        assert row.split("|")[3:5] == [f" {len(found)} ", f" {sum(map(int, found))} "]
