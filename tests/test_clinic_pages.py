"""The pages about the clinic: the exercises, the catalog of bugs, and the measured costs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from numpyvae.clinic import Subject, examine

DOCS = Path(__file__).parents[1] / "docs"
EXERCISES = DOCS / "clinic-exercises"
if not EXERCISES.exists():
    pytest.skip("needs the repository, which contains the pages", allow_module_level=True)

FUNCTIONS = ("encode", "decode", "sample_z", "kl", "reconstruction", "loss", "log_p", "seed", "x")
SCALE = {2: "log_sigma", 4: "sigma"}


def subject_of(source: str, number: int) -> Subject:
    """Run a file of the exercises, and hand over its functions."""
    ns: dict = {}
    exec(source, ns)
    fields = {name: ns[name] for name in FUNCTIONS if name in ns}
    if "gradient" in ns:
        p = ns["p"]

        def replace(flat):
            parts = np.split(flat, np.cumsum([a.size for a in p.values()]))
            for array, part in zip(p.values(), parts):
                array[...] = part.reshape(array.shape)

        get = lambda: np.concatenate([a.ravel() for a in p.values()])  # noqa: E731
        fields |= {"gradient": ns["gradient"], "parameters": (get, replace)}
    return Subject(scale=SCALE.get(number, "logvar"), **fields)


def solutions() -> dict[int, tuple[list[str], list[tuple[str, str]]]]:
    """The names of the bugs, and the lines to change, of each exercise on the page."""
    text = (DOCS / "clinic-exercises.md").read_text("utf-8")
    found = {}
    for number, part in re.findall(r"^:::\{dropdown\} Solution (\d+)\n(.*?)^:::", text, re.M | re.S):
        names = re.findall(r"\{bug\}`([^`]+)`", part)
        changes = []
        for diff in re.findall(r"^```diff\n(.*?)^```", part, re.M | re.S):
            old, new = (
                "".join(line[1:] for line in diff.splitlines(True) if line[0] == sign)
                for sign in "-+"
            )
            changes.append((old, new))
        found[int(number)] = names, changes
    return found


SOLUTIONS = solutions()


def test_each_exercise_has_its_file_and_its_solution():
    # Kills: an exercise without a solution, or a file that no exercise shows.
    files = sorted(path.name for path in EXERCISES.glob("*.py"))
    assert files == [f"broken_{n:02d}.py" for n in range(1, 11)]
    assert sorted(SOLUTIONS) == list(range(1, 11))


@pytest.mark.parametrize("number", range(1, 11))
def test_the_clinic_names_the_bug_of_an_exercise_and_acquits_the_mended_file(number):
    # Kills: a solution that names another bug, and lines to change that do not mend the file.
    names, changes = SOLUTIONS[number]
    source = (EXERCISES / f"broken_{number:02d}.py").read_text("utf-8")
    report = examine(subject_of(source, number))
    assert sorted(report.names) == sorted(names), str(report)
    assert not report.ok
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    report = examine(subject_of(source, number))
    assert report.names == (), str(report)
    assert report.counts["undecided"] == 0
