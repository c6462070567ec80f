"""The page "Reproductions": its tables are what the commands beside them measured."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from numpyvae.command.parser import parse
from numpyvae.experiments import EXPERIMENTS
from numpyvae.experiments.results import rows

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "reproductions.md"
if not PAGE.exists():
    pytest.skip("needs the repository, which contains the pages", allow_module_level=True)

MEASURED = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((DOCS / "measured" / "reproduce").glob("*.json"))
}


def commands(text):
    """Return the experiments of the commands in a text, with their arguments."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    found = [parse(shlex.split(line)[1:]) for line in lines.splitlines() if "reproduce" in line]
    return [(args.name, args) for args in found]


def sections():
    """Return the text of the section of each experiment."""
    found = {}
    for text in re.split(r"^(?=## )", PAGE.read_text("utf-8"), flags=re.M)[1:]:
        for name, _ in commands(text):
            found[name] = text
    return found


def wanted(name, args):
    """Return what a command measures: training, seed and epoch."""
    plan = EXPERIMENTS[name].full
    return {
        (training.name, seed, epoch)
        for training in plan.trainings
        if args.only is None or training.name in args.only
        for seed in args.seed or plan.seeds
        for epoch in training.stages
        if args.until is None or epoch <= args.until
    }


def test_every_experiment_has_a_section():
    """Kills an experiment that the page does not mention."""
    assert sections().keys() == EXPERIMENTS.keys()
    assert MEASURED.keys() <= EXPERIMENTS.keys()


@pytest.mark.parametrize("name", MEASURED)
def test_a_table_is_what_the_commands_beside_it_measured(name):
    """Kills a figure of another run, and a table that was changed by hand."""
    results, experiment = MEASURED[name], EXPERIMENTS[name]
    assert not results["quick"]
    models = {(m["training"], m["seed"], m["epoch"]): m for m in results["models"]}
    text = sections()[name]
    sets = [wanted(name, args) for other, args in commands(text) if other == name]
    done = [each for each in sets if each <= models.keys()]
    assert set().union(*done) == models.keys()
    trainings = {t.name: t for t in experiment.full.trainings}
    found = [
        SimpleNamespace(
            training=trainings[name], seed=seed, epoch=epoch, figures=m["figures"],
            seconds=m["seconds"], last=epoch == trainings[name].epochs,
        )
        for (name, seed, epoch), m in models.items()
    ]  # fmt: skip
    table = [
        asdict(row) | {"difference": row.difference, "within": row.within}
        for row in rows(experiment, found, False)
    ]
    assert results["table"] == json.loads(json.dumps(table))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_missing_is_said_first(name):
    """Kills a section that begins with a claim, and says at its end that it was not reproduced."""
    text, results = sections()[name], MEASURED.get(name)
    first = text.split("\n\n")[1]
    if results is None:
        assert first.startswith("**Not run yet")
        assert f"}} {name}\n" not in text
        return
    assert re.search(rf"^```{{(reproduced|methods)}} {name}$", text, re.M)
    whole = wanted(name, SimpleNamespace(only=None, seed=None, until=None))
    if len(results["models"]) < len(whole):
        assert "**Not finished" in first
    if any(row["within"] is False for row in results["table"]):
        assert "**Not within the tolerance" in first
    if not all(claim["holds"] for claim in results["claims"]):
        assert "**Not reproduced" in first


def test_no_face_is_passed_on():
    """Kills images of the Frey faces, or decoded from their models, in the repository."""
    for results in MEASURED.values():
        for m in results["models"]:
            assert not m["training"].startswith("frey") or "images" not in m["figures"]
