"""The versions that are kept with a result."""

import configparser
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import threadpoolctl

import numpyvae
from numpyvae.command.cli import main
from numpyvae.support.versions import provenance


@pytest.fixture
def no_metadata(monkeypatch):
    """No package has metadata, as where all of them are checkouts on the path."""

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def test_versions_are_those_of_the_installed_packages():
    # kills: a package that is left out, and the version of another
    found = provenance("1.2.3", "pytest")["versions"]
    assert found["numpyvae"] == "1.2.3"
    assert found["numpy"] == np.__version__
    assert found["pytest"] == pytest.__version__
    assert found.keys() == {"python", "numpyvae", "numpy", "scipy", "matplotlib", "pytest"}


def test_without_metadata_a_module_says_its_version(no_metadata, monkeypatch):
    # kills: "No package metadata was found", and a module without __version__ that raises
    monkeypatch.setitem(sys.modules, "without_version", ModuleType("without_version"))
    found = provenance("1.2.3", "without_version", "not_loaded")["versions"]
    assert found["numpyvae"] == "1.2.3"
    assert found["numpy"] == np.__version__
    assert found["without_version"] == found["not_loaded"] == "unknown"


def test_train_from_a_checkout_that_is_not_installed(no_metadata, tmp_path, capsys):
    # kills: a training that is done, and then fails for want of metadata
    small = ["--epochs", "1", "--hidden", "4", "--eval-importance", "2", "--test-rows", "5"]
    assert main(["train", "--output", str(tmp_path), *small, "--json"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["versions"]["numpyvae"] == numpyvae.__version__


def test_the_oldest_versions_that_are_tried_are_those_that_are_promised():
    # kills: a minimum in setup.cfg that no run of .ci/run has tried
    root = Path(numpyvae.__file__).parent.parent
    if not (root / ".ci").exists():
        pytest.skip("needs the repository, which contains setup.cfg and .ci/minimum.txt")
    tried = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (root / ".ci/minimum.txt").read_text(), re.M))
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    installed = (extras[name] for name in ("test", "sklearn", "safetensors"))
    promised = "\n".join([config["options"]["install_requires"], *installed])
    least = dict(re.findall(r"([\w-]+)>=([\d.]+)", promised))
    assert {"numpy", "scipy", "matplotlib", "pytest"} <= least.keys()
    for name, version in least.items():
        assert f"{tried[name]}.".startswith(f"{version}."), name


def test_the_libraries_have_an_order_that_does_not_change(monkeypatch):
    # kills: equal runs whose records differ, since the system lists its libraries in any order
    pool = {"user_api": "blas", "internal_api": "openblas", "num_threads": 1, "architecture": "x"}
    pools, found = [pool | {"version": version} for version in ("0.3.30", "0.3.31")], []
    for order in (pools, pools[::-1]):
        monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda order=order: order)
        found.append(provenance("1.2.3")["blas"])
    assert found[0] == found[1]
