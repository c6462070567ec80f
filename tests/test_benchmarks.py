"""The benchmarks without timing: the same steps in each library, turns, tables."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import numpyvae
import numpyvae.estimators

if not (Path(numpyvae.__file__).parents[1] / "benchmarks" / "step.py").exists():
    pytest.skip("needs the repository, which contains the benchmarks", allow_module_level=True)

from benchmarks import clinic, data_parallel, evaluate, importance, instructions, kills, scale
from benchmarks import step as benchmark
from benchmarks.contestants import CONTESTANTS, Workload

SMALL = [Workload("ELBO", 64, (8,), 2, 5), Workload("L_3", 64, (8, 4), 2, 5, 3)]


@pytest.mark.parametrize("w", SMALL, ids=lambda w: w.name)
def test_workers_take_turns_and_the_table_names_them(w, tmp_path, monkeypatch, capsys):
    """Kills other weights or noise, and a worker that replies in the wrong order."""
    monkeypatch.setattr(benchmark, "BLOCK", 0.001)
    monkeypatch.setattr(benchmark, "PAUSE", 0)
    workers = [benchmark.Worker(name, 2, tmp_path) for name in ("numpyvae", "floor")]
    try:
        entry = benchmark.measure(w, workers, tmp_path, rounds=2)
    finally:
        for worker in workers:
            worker.close()
    with np.load(tmp_path / "data.npz") as data:
        vae = numpyvae.VAE(w.data_dim, w.latent_dim, w.hidden)
        assert np.array_equal(vae.parameters.flat, data["flat"])
        rule = numpyvae.estimators.IWAE(w.K) if w.K else numpyvae.estimators.SGVBB()
        first = rule(vae, data["x"][0], data["eps"][0]).objective
    objectives = entry["rows"]["numpyvae"]["objectives"]
    assert objectives[0] == pytest.approx(first, rel=1e-5)
    assert len(objectives) == 20
    assert entry["rows"]["numpyvae"]["to_ours"] == [1.0, 1.0, 1.0]
    text = benchmark.table(entry)
    assert w.name in text
    assert all(CONTESTANTS[name].label in text for name in ("numpyvae", "floor"))


@pytest.mark.parametrize("peer", ["autograd", "torch", "jax"])
def test_other_libraries_compute_the_same_steps(peer, tmp_path):
    """Kills another objective, gradient or Adam: the curves differ within ten steps."""
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"needs {peer}, of the extra bench")
    for w in SMALL:
        benchmark.data_for(w, tmp_path / "data.npz")
        with np.load(tmp_path / "data.npz") as data:
            batches = list(zip(data["x"].astype("float32"), data["eps"]))[:10]
            steps = [CONTESTANTS[n].build(w, data["flat"]) for n in ("numpyvae", peer)]
        curves = [[step(*batch) for batch in batches] for step in steps]
        np.testing.assert_allclose(*curves, rtol=1e-4)


def test_missing_libraries_are_named():
    """Kills a library that is left out without a message."""
    machine = {
        "processor": "x",
        "cores": 2,
        "blas_kernel": "y",
        "python": "3",
        "versions": {},
        "load": 0.0,
    }
    text = benchmark.heading({"machine": machine, "missing": {"jax": "jax"}})
    assert "not measured: JAX" in text


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        (evaluate, ["--rows", "0"], "--rows: expected a whole number of at least 1, got '0'"),
        (evaluate, ["--n-importance", "-1"], "whole number of at least 1, got '-1'"),
        (evaluate, ["--repeats", "1.5"], "whole number of at least 1, got '1.5'"),
        (evaluate, ["--memory", "nan"], "--memory: expected a finite number above 0, got 'nan'"),
        (evaluate, ["--memory", "lots"], "finite number above 0, got 'lots'"),
        (evaluate, ["--model", "none.npz"], "none.npz"),
        (evaluate, ["--model", __file__], "expected an npz archive"),
        (importance, ["--seeds", "0"], "--seeds: expected a whole number"),
        (importance, ["--epochs", "x"], "--epochs: expected a whole number"),
        (scale, ["--chart", "chart.gif"], "--chart: expected FILE.png, .svg or .pdf"),
        (benchmark, ["--chart", "none/chart.png"], "--chart: expected FILE.png, .svg or .pdf"),
        (data_parallel, ["--batch", "0"], "--batch: expected a whole number of at least 1"),
        (kills, ["--kills", "0"], "--kills: expected a whole number of at least 1, got '0'"),
        (benchmark, ["--rounds", "0"], "--rounds: expected a whole number"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_measured(command, args, words, capsys):
    # kills: a traceback, and a chart that fails to be written after minutes of measuring
    with pytest.raises(SystemExit, match="2"):
        command.main(args)
    assert words in capsys.readouterr().err


def test_a_process_is_started_again_until_every_library_is_limited(monkeypatch):
    """Kills a variable that the user has set taken for all of them, and an endless restart."""
    started = []
    monkeypatch.setattr(os, "execve", lambda *call: started.append(call))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    instructions.limit_to_avx2("benchmarks.step", ["--avx2", "--no-job"])
    ((_, command, environment),) = started
    assert command[1:] == ["-m", "benchmarks.step", "--avx2", "--no-job"]
    monkeypatch.setattr(os, "environ", environment)
    instructions.limit_to_avx2("benchmarks.step", ["--avx2"])
    assert len(started) == 1
    for cores in (1, 2):  # the processes of the libraries get them too
        passed = benchmark.environment(Path(), cores)
        assert instructions.LIMITS.items() <= passed.items()
        assert passed["OPENBLAS_NUM_THREADS"] == str(cores)


def test_speeds_are_ratios_of_the_same_round():
    # Kills: a slowdown reported as a speed-up, and the processor time in place of the time.
    way = {"1 process, 1 thread": [[2.0, 3.0], [4.0, 3.0], [8.0, 3.0]]}
    times = {name: [[1.0, 1.0], [2.0, 1.0], [4.0, 1.0]] for name in data_parallel.WAYS} | way
    for which, ratio in ((0, "2.00 (2.00–2.00)"), (1, "3.00 (3.00–3.00)")):
        row = data_parallel.table({8: times}, which).splitlines()[-1]
        assert row == f"| 8 | 1.00 (1.00–1.00) | {ratio} | {ratio} | {ratio} |"


def test_the_bound_of_a_rate_is_exact():
    # Kills: a normal approximation, and the bound of two sides.
    assert clinic.upper_bound(0, 1000) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert clinic.upper_bound(1, 50) == pytest.approx(0.0914, abs=1e-4)
    assert clinic.upper_bound(3, 3) == 1.0


def test_a_named_bug_is_graded_by_its_place():
    # Kills: a wrong name that counts as named, and a missed bug that counts as detected.
    names = {"first": ["a", "b"], "named": ["b", "a"], "detected": ["b"], "missed": []}
    for grade, found in names.items():
        assert clinic.grade({"expected": ["a"], "names": found}) == grade


def test_the_clinic_is_measured_once_and_goes_on(tmp_path, capsys):
    # Kills: results that are lost between two runs, and models that depend on the order.
    file, told = tmp_path / "results.jsonl", []
    for _ in range(2):
        clinic.main(["--right", "2", "--seed", "1", "--resume", str(file)])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert len(file.read_text().splitlines()) == 2
    assert "2 right models, 0 with an alarm: a rate below 77.64%" in told[0]
