"""The page on many machines: its figures are those of the measurement, its code runs."""

import json
from pathlib import Path

import numpy as np
import pytest

import numpyvae
from numpyvae import VAE

ROOT = Path(numpyvae.__file__).parents[1]
if not (ROOT / "benchmarks" / "many_machines.py").exists():
    pytest.skip("needs the repository, which contains the benchmarks", allow_module_level=True)

from benchmarks import many_machines as benchmark  # noqa: E402

MEASURED = json.loads((ROOT / "docs" / "measured" / "many_machines.json").read_text())
PAGE = (ROOT / "docs" / "many-machines.md").read_text(encoding="utf-8")


def test_the_page_has_the_measured_costs():
    # kills: a table that is older than its measurement
    for backend in benchmark.BACKENDS:
        m = MEASURED[backend]
        row = (
            f"| {backend} | {m['start_seconds']:.2f} s | {1000 * m['task_seconds']:.2f} ms | "
            f"{m['speedup']:.2f} ({m['lowest']:.2f} … {m['highest']:.2f}) |"
        )
        assert row in PAGE, row
    assert f"{MEASURED['packed_model_bytes'] / 1e6:.1f} MB" in PAGE
    assert f"c = {1e6 * MEASURED['chain_move_seconds']:.0f} µs" in PAGE


def test_the_page_has_the_estimate():
    # kills: an estimate by another formula than the one that the page states
    found = benchmark.estimate(MEASURED, 10_000, 1000, 16, 64)
    for text in (
        f"{found.tasks} tasks",
        f"{found.rounds} rounds",
        f"{found.task_seconds:.0f} s",
        f"**{found.seconds / 60:.1f} minutes**",
    ):
        assert text in PAGE, text


def test_the_estimate_on_round_figures():
    # kills: rounds that are not whole, the pilot run left out, overheads that are not added
    measured = {
        "chain_move_seconds": 1e-3,
        "dask": {"start_seconds": 5.0, "task_seconds": 0.01},
    }
    # 1000 temperatures: 129 moves of 8 pilot chains and 1000 moves of 16 chains: 17032
    assert benchmark.chain_moves(1000, 16) == 129 * 8 + 1000 * 16
    found = benchmark.estimate(measured, images=410, temperatures=1000, chains=16, cores=4)
    assert (found.tasks, found.rounds) == (10, 3)  # 41 rows in each task
    assert found.task_seconds == pytest.approx(41 * 17.032)
    assert found.seconds == pytest.approx(5 + 10 * 0.01 + 3 * 41 * 17.032)


def test_a_task_without_work_counts_one_step():
    # kills: a measurement of tasks that do not run
    steps = []
    x = np.zeros((20, 784), np.float32)
    assert benchmark.nothing(x, advance=steps.append) == 0.0
    assert steps == [""]
    assert repr(benchmark.model()) == repr(VAE(784, 20, (500,)))
