"""What a release has: one version, the files of the two distributions, and reports of a bug."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import numpyvae
from numpyvae.command.cli import main
from numpyvae.command.completion import SHELLS
from numpyvae.support import versions

ROOT = Path(numpyvae.__file__).parent.parent
DIST = os.environ.get("NUMPYVAE_DIST")

if not (ROOT / "setup.cfg").exists():
    pytest.skip("needs the repository", allow_module_level=True)

needs_dist = pytest.mark.skipif(
    not DIST, reason="no distributions: set NUMPYVAE_DIST to the folder of `python -m build`"
)


def text(name):
    return (ROOT / name).read_text("utf-8")


# One version.


def test_the_version_is_in_one_place():
    # kills: a release whose citation, or whose metadata, names another version
    assert "version = attr: numpyvae.__version__" in text("setup.cfg")
    assert "version" not in text("pyproject.toml").replace("target-version", "")
    assert re.search(r"^version: (.*)$", text("CITATION.cff"), re.M)[1] == numpyvae.__version__
    assert f"\n## {numpyvae.__version__} " in text("CHANGELOG.md")
    cited = " ".join(text("docs/bibliography.md").split())
    assert f"Version {numpyvae.__version__}, " in cited
    assert re.search(r'^title: "(.*)"$', text("CITATION.cff"), re.M)[1] in cited


def test_the_public_checks_are_those_of_the_repository():
    # kills: a second list of checks, and a Python that is promised and not tried
    workflow = text(".github/workflows/ci.yml")
    assert "- run: bash .ci/run\n" in workflow
    pythons = re.findall(r"Python :: (3\.\d+)\n", text("setup.cfg"))
    assert f"python: {json.dumps(pythons)}\n" in workflow
    assert f"python_requires = >={pythons[0]}\n" in text("setup.cfg")


# The report of a bug.


REQUIRES = [
    "numpy>=2.0",
    'numba>=0.59; extra == "fast"',
    'no-such-package; extra == "data"',
    'pytest>=7.4; extra == "test"',
]


def test_versions_name_what_extras_bring(monkeypatch, capsys):
    # kills: a package of an extra that is left out, and tools of contributors that are named
    monkeypatch.setattr(metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(versions, "_version", lambda name: {"numba": "0.60"}.get(name, "unknown"))
    assert numpyvae.show_versions() is None
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"numpyvae {numpyvae.__version__}" in lines
    assert lines[lines.index("Extras") + 1 :][:2] == [
        "no-such-package not installed",
        "numba 0.60",
    ]
    assert not any(line.startswith("pytest") for line in lines)


def test_versions_of_a_checkout(monkeypatch, capsys):
    # kills: a report that fails where the package is on the path and not installed
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert main(["versions", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["extras"] == {}
    assert found["versions"]["threadpoolctl"]
    assert found["blas"]
    assert found["system"]["executable"] == sys.executable


# The command.


@pytest.mark.parametrize("words", [["trian"], ["equations", "--model", "discrete"]])
def test_the_module_is_the_command(words):
    # kills: `python -m numpyvae` with another name, output or exit code than `numpyvae`
    script = re.search(r"numpyvae = ([\w.]+):(\w+)\n", text("setup.cfg"))
    start = f"import sys; from {script[1]} import {script[2]}; sys.exit({script[2]}())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "90"}
    runs = [
        subprocess.run([sys.executable, *how, *words], capture_output=True, env=environment)
        for how in (["-m", "numpyvae"], ["-c", start])
    ]
    first, second = ((run.returncode, run.stdout, run.stderr) for run in runs)
    assert first == second
    assert b"__main__" not in first[1] + first[2]
    assert first[1] + first[2] != b""


def test_completion_without_shtab_is_one_line(monkeypatch, capsys):
    # kills: a traceback in every new shell
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert 'pip install "numpyvae[completion]"' in err


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_gets_a_script(shell, capsys):
    # kills: an option with a help text that the script cannot have
    pytest.importorskip("shtab", reason='pip install "numpyvae[completion]"')
    assert main(["completion", shell]) == 0
    assert "--kl-warmup" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["enc"], ["encode"]),
        (["train", "--kl"], ["--kl-warmup"]),
        (["train", "--optimizer", "ada"], ["adagrad", "adam"]),
        (["evaluate", "runs/tw"], ["runs/two"]),
    ],
)
def test_bash_completes(typed, found, capsys, tmp_path):
    # kills: values and files that are not completed
    pytest.importorskip("shtab", reason='pip install "numpyvae[completion]"')
    (tmp_path / "runs" / "two").mkdir(parents=True)
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    words = f"COMP_WORDS=(numpyvae {' '.join(typed)}); COMP_CWORD={len(typed)}"
    more = f"\n{words}; _shtab_numpyvae; echo ${{COMPREPLY[@]}}"
    run = subprocess.run(
        ["bash", "-c", script + more], capture_output=True, text=True, cwd=tmp_path
    )
    assert sorted(run.stdout.split()) == found


# The distributions.


def tracked(*folders):
    """The files of these folders that a release has."""
    skipped = {"__pycache__", "_build", ".ipynb_checkpoints"}
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not skipped & set(path.parts) and path.suffix != ".pyc"
        if path.relative_to(ROOT).parts[:2] != ("docs", "tutorials")
    }


@needs_dist
def test_the_sdist_has_all_that_tests_and_site_need():
    # kills: a source from which nobody can run the tests or build the site
    (file,) = Path(DIST).glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = tracked("numpyvae", "tests", "docs", "tutorials", "benchmarks", ".ci", ".github")
    assert {n for n in wanted if not n.endswith("sg_execution_times.rst")} - names == set()
    top = {"README.md", "LICENSE", "CITATION.cff", "SECURITY.md", "CHANGELOG.md", "setup.cfg"}
    assert {*top, "pyproject.toml", "CONTRIBUTING.md"} <= names


@needs_dist
def test_the_wheel_has_the_package_and_nothing_else():
    # kills: data that are left out, and tests that are installed beside the package
    (file,) = Path(DIST).glob("*.whl")
    assert file.name == f"numpyvae-{numpyvae.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(file).namelist())
    ours = {name for name in names if name.startswith("numpyvae/")}
    assert ours == tracked("numpyvae")
    assert {name.split("/")[0] for name in names - ours} == {
        f"numpyvae-{numpyvae.__version__}.dist-info"
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
