"""The pages about the clinic: the exercises, the catalog of bugs, and the measured costs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from numpyvae.clinic import Subject, examine
from numpyvae.clinic.names import BUGS

DOCS = Path(__file__).parents[1] / "docs"
EXERCISES = DOCS / "clinic-exercises"
if not EXERCISES.exists():
    pytest.skip("needs the repository, which contains the pages", allow_module_level=True)

from benchmarks import bug_costs, planted  # noqa: E402

NOT_NAMED = {"logits taken for probabilities"}  # it is: of another distribution

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
    for number, part in re.findall(
        r"^:::\{dropdown\} Solution (\d+)\n(.*?)^:::", text, re.M | re.S
    ):
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
def test_the_clinic_names_the_bug_of_an_exercise_and_acquits_the_corrected_file(number):
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


# The catalog


@pytest.fixture(scope="module")
def catalog():
    """The extension that makes the catalog."""
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))
        return importlib.import_module("catalog")


def test_every_name_of_the_clinic_has_one_anchor_in_the_catalog(catalog):
    # Kills: a new bug that the page leaves out, and two names with the same anchor.
    page = (DOCS / "clinic-catalog.md").read_text("utf-8")
    shown = re.findall(r"^```\{bug-catalog\} (\w+)$", page, re.M)
    groups = catalog.groups()
    assert sorted(shown) == sorted(groups)
    names = [name for group in groups.values() for name in group]
    assert set(BUGS) <= set(names)
    anchors = [catalog.anchor(name) for name in names]
    assert len(set(anchors)) == len(anchors) == len(set(names))
    assert catalog.anchor("KL without its −1") == "kl-without-its-1"


def test_signs_and_costs_are_of_names_that_exist(catalog):
    # Kills: a text or a figure under a name that was changed.
    names = {name for group in catalog.groups().values() for name in group}
    measured = catalog.measured()
    assert catalog.SIGNS.keys() <= names
    assert {key.split("|")[0] for key in measured["trained"]} - {"right"} <= names
    assert set().union(*measured["reported"].values()) <= names


def test_the_bugs_that_were_planted_for_the_costs_have_the_names_of_the_clinic(catalog):
    # Kills: costs under the name of a bug that the clinic does not find in the code.
    found = catalog.measured()["found"]
    assert {n for n in planted.BUGS if n not in found} <= NOT_NAMED


def test_the_gradient_of_a_planted_value_is_its_derivative():
    # Kills: a derivative of a bug that is not the derivative of its value.
    rng = np.random.default_rng(0)
    x, eps = rng.integers(0, 2, (5, 6)).astype(float), rng.standard_normal((5, 2))
    for bug in ("", *planted.BUGS):
        if bug in planted.SLIPS:
            continue
        vae = planted.Planted(bug, 6, 2, 5, seed=1, gain=2.0)
        gradient = np.concatenate([g.ravel() for g in vae.gradient(x, eps).values()])
        flat, index = vae.get(), rng.permutation(len(vae.get()))[:20]
        assert [*vae.gradient(x, eps)] == [*vae.p]
        slopes = []
        for i in index:
            sides = []
            for sign in (1, -1):
                moved = flat.copy()
                moved[i] += sign * 1e-6
                vae.set(moved)
                sides.append(vae.loss(x, eps))
            slopes.append((sides[0] - sides[1]) / 2e-6)
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            gradient[index], slopes, atol=2e-7 * scale, rtol=1e-5, err_msg=bug
        )


@pytest.mark.parametrize("bug", ["KL missing", "KL divided by the batch twice"])
def test_a_missing_kl_and_one_that_is_divided_by_the_batch_are_told_apart(bug):
    # Kills: a KL that is missing, of which nothing was said at all.
    assert examine(bug_costs.subject_of(bug)).names == (bug,)
