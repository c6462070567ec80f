"""The notebooks that the site offers for download: they are the tutorials, and they run alone.

Every notebook has the code of its tutorial, which is run as a script elsewhere; two of them are
run here, cell by cell, in a folder of their own.
"""

import ast
import configparser
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs import ROOT, SITE, needs_site

pytestmark = needs_site

TUTORIALS = sorted((ROOT / "tutorials").glob("plot_*.py"))
RUN = ("plot_04_the_elbo_and_its_gap", "plot_06_the_reparameterization_trick")  # the quickest
INSTALL = "%pip install -q numpyvae"


def cells(name):
    """The source of the code cells of a downloaded notebook."""
    (path,) = Path(SITE, "_downloads").rglob(f"{name}.ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def statements(source):
    """The statements of a source text, without comments, layout and texts between them."""
    body = ast.parse(source).body
    return [
        ast.dump(node)
        for node in body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


def imported(source):
    """The packages that a source text imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found


def outside(code):
    """The names in a code that only the repository, or a script, has."""
    return re.findall(r"__file__|__name__|sys\.path|sys\.argv|\.\./|\btutorials/|\bdocs/", code)


def test_every_tutorial_has_one_notebook():
    # kills: a tutorial that cannot be downloaded
    found = sorted(p.stem for p in Path(SITE, "_downloads").rglob("plot_*.ipynb"))
    assert found == [p.stem for p in TUTORIALS]
    assert len(found) >= 13


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_notebook_has_the_code_of_its_tutorial(path):
    # kills: a cell that is lost, twice there, or in another order; and a name that a notebook in
    # another folder, without the repository, does not have
    first, *code = cells(path.stem)
    whole = "\n".join(code)
    assert INSTALL in first
    assert statements(whole) == statements(path.read_text(encoding="utf-8"))
    assert len(code) > 1
    assert outside(whole) == []
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    needed = re.findall(r"^[\w-]+", settings["options"]["install_requires"], re.MULTILINE)
    assert imported(whole) - sys.stdlib_module_names <= {"numpyvae", *needed}


@pytest.mark.parametrize(
    "code", ["Path(__file__).parent", "open('../data.csv')", "sys.path.insert(0, '.')"]
)
def test_what_only_the_repository_has_is_found(code):
    # kills: a search that finds nothing
    assert outside(code)


def test_two_cells_in_another_order_are_found():
    # kills: a comparison that takes any code for equal
    assert statements("a = 1\nb = 2") != statements("b = 2\na = 1")
    assert statements("'text'\na = 1  # one") == statements("a  =  1")


def test_the_first_cell_installs_only_what_is_missing(monkeypatch):
    # kills: a first cell that asks a registry in each run, or never
    first = cells(RUN[0])[0].replace(INSTALL, "raise LookupError")
    exec(first, {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LookupError):
        exec(first, {})


PROGRAM = """
import json, sys
import matplotlib.pyplot as plt
names = {"__name__": "__main__"}
for source in json.load(sys.stdin):
    exec(compile(source, "cell", "exec"), names)
print(len(plt.get_fignums()))
"""


@pytest.mark.parametrize("name", RUN)
def test_a_notebook_runs_as_downloaded(name, tmp_path):
    # kills: a notebook that needs a file, a folder or a name that only the repository has
    sources = [cell.replace(INSTALL, "raise LookupError") for cell in cells(name)]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        input=json.dumps(sources),
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert int(run.stdout.split()[-1]) > 0
    assert list(tmp_path.iterdir()) == []
