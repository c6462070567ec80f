"""The quick versions of all experiments: each shows the effect of its paper.

They take some ten minutes together, and run only if the variable NUMPYVAE_QUICK is set.
"""

import json
import os

import pytest

from numpyvae.command.cli import main
from numpyvae.experiments import EXPERIMENTS

pytestmark = pytest.mark.skipif(
    "NUMPYVAE_QUICK" not in os.environ,
    reason="the quick versions of all experiments take minutes: set NUMPYVAE_QUICK=1 to run them",
)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_quick_version_shows_the_effect(name, tmp_path, capsys):
    """Kills an experiment that does not run, whose picture fails, or whose effect is absent."""
    assert main(["reproduce", name, "--quick", "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert results["complete"]
    assert results["claims"]
    assert [c["text"] for c in results["claims"] if not c["holds"]] == []
    assert (tmp_path / "picture.png").stat().st_size > 5000
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
