"""The command: files, summaries, exit codes, one-line errors, and the same bytes for a seed."""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from numpyvae import VAE, datasets, plotting
from numpyvae.command import cli, jobs, measuring, plan, settings
from numpyvae.command.cli import main
from numpyvae.command.parser import parse
from numpyvae.command.preparation import prepare
from numpyvae.core import layers

SMALL = ["--epochs", "2", "--hidden", "16", "--eval-importance", "5", "--test-rows", "40"]


def train(output, *extra):
    return main(["train", "--output", str(output), *SMALL, *extra])


def one_line(capsys):
    """Return what came on standard error, which must be one line."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


def test_train_writes_what_it_says(tmp_path, capsys):
    assert train(tmp_path / "a", "--latent-dim", "2") == 0
    out, err = capsys.readouterr()
    assert err == ""  # no terminal, no progress
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {
        "settings.json",
        "model.npz",
        "history.csv",
        "summary.json",
        "elbo.png",
        "latent_space.png",
        "manifold.png",
        "reconstructions.png",
        "samples.png",
    }
    for name in names:
        assert name in out
    assert "log p(x)" in out
    assert "Trained by" not in out  # the objective was the ELBO
    rows = list(csv.DictReader((tmp_path / "a" / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_accelerator_is_chosen_and_reported(tmp_path, capsys):
    """Kills a setting that is read and not used, and a model that is another with it."""
    pytest.importorskip("numba")
    for name, extra in (("plain", []), ("fast", ["--accelerator", "numba"])):
        assert train(tmp_path / name, "--json", *extra) == 0
    fast, plain = (
        json.loads((tmp_path / n / "summary.json").read_text()) for n in ("fast", "plain")
    )
    assert (fast["accelerator"], plain["accelerator"]) == ("numba", None)
    assert "numba" in fast["versions"]
    assert "numba" not in plain["versions"]
    assert fast["test_elbo"] == pytest.approx(plain["test_elbo"], rel=1e-5)
    assert fast["test_elbo"] != plain["test_elbo"]  # other roundings
    model = str(tmp_path / "plain" / "model.npz")
    for extra in ([], ["--bounds", "elbo,iwae"]):
        command = ["evaluate", model, "--n-importance", "5", "--test-rows", "20", "--json", *extra]
        found = []
        for accelerator in ([], ["--accelerator", "numba"]):
            capsys.readouterr()
            assert main([*command, *accelerator]) == 0
            found.append(json.loads(capsys.readouterr().out))
        assert [f["accelerator"] for f in found] == [None, "numba"]
        assert all(f["likelihood"] == "bernoulli" for f in found)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", "CompiledAdam"), ("adagrad", "CompiledAdagrad")]
)
def test_the_accelerator_compiles_the_optimizer_with_its_settings(name, kind):
    """Kills an optimizer that is left as it is, or compiled with other settings."""
    pytest.importorskip("numba")
    chosen = {"optimizer": name, "learning_rate": 0.3, "clip_norm": 2.0}
    plain, fast = (
        plan.chosen_optimizer(SimpleNamespace(accelerator=a, **chosen)) for a in (None, "numba")
    )
    assert type(fast).__name__ == kind
    assert dataclasses.asdict(fast) == dataclasses.asdict(plain)
    assert (fast.learning_rate, fast.clip_norm) == (0.3, 2.0)


def test_accelerator_without_numba_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "compiled_optimizer", raising(ImportError("expected Numba")))
    monkeypatch.setattr(plan, "compiled", raising(ImportError("expected Numba")))
    for optimizer in ("adam", "sgd"):
        assert train(tmp_path, "--accelerator", "numba", "--optimizer", optimizer) == 2
        assert "expected Numba" in one_line(capsys)


def raising(error):
    def function(*_, **__):
        raise error

    return function


def test_summary_has_its_fields_and_they_agree(tmp_path, capsys):
    assert train(tmp_path, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert printed == summary
    for key in [
        "test_elbo",
        "test_log_likelihood",
        "n_importance",
        "reconstruction",
        "kl",
        "active_units",
        "gap_to_log_likelihood",
        "epochs",
        "seconds",
        "seed",
        "n_parameters",
        "versions",
        "blas_threads",
    ]:
        assert key in summary, key
    assert summary["test_elbo"] == pytest.approx(summary["reconstruction"] - summary["kl"])
    assert summary["gap_to_log_likelihood"] == pytest.approx(
        summary["test_log_likelihood"] - summary["test_elbo"]
    )
    assert summary["n_parameters"] == VAE.load(tmp_path / "model.npz").parameters.flat.size
    assert summary["versions"]["numpy"] == np.__version__


def test_a_weighted_objective_stands_beside_the_true_elbo(tmp_path, capsys):
    """Kills an option that does not reach `fit`, and a weighted objective called the ELBO."""
    weighted = ["--beta", "4", "--kl-warmup", "1", "--free-bits", "0.1"]
    assert train(tmp_path, *weighted) == 0
    text = capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    last = {key: float(value) for key, value in rows[-1].items()}  # also warm_up, as 0 or 1
    assert summary["train_elbo"] == last["reconstruction"] - last["kl"] == last["elbo"]
    assert summary["train_objective"] == last["objective"]
    # In the second epoch β = 4, and max(λ, ·) can only add to the penalty.
    assert last["objective"] <= last["reconstruction"] - 4 * last["kl"] + 1e-5
    assert "SGVBB(n_samples=1, beta=4.0, free_bits=0.1, kl_warmup=1.0): in the last epoch" in text
    assert f"the objective was {last['objective']:.2f}, the ELBO {last['elbo']:.2f}" in text


def test_training_with_importance_samples(tmp_path, capsys):
    """Kills a K of training that is mixed up with that of the evaluation."""
    assert train(tmp_path, "--estimator", "dreg", "--train-importance", "3", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["estimator"] == "DReG(n_samples=1, n_importance=3)"
    assert summary["n_importance"] == 5


def test_training_by_another_method_with_a_prior(tmp_path, capsys):
    """Kills a prior that does not reach `fit`, or is divided by another number of rows."""
    extra = ["--estimator", "wake-sleep", "--optimizer", "rmsprop-centered", "--weight-prior", "2"]
    assert train(tmp_path, *extra, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    expected = "WithWeightPrior(estimator=WakeSleep(n_samples=1), n_data=3823, variance=2.0)"
    assert summary["estimator"] == expected
    assert summary["train_objective"] < summary["train_elbo"]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--estimator", "dreg", "--beta", "2"], "--beta: expected an --estimator"),
        (["--estimator", "dreg", "--kl-warmup", "2"], "--kl-warmup: expected an --estimator"),
        (["--train-importance", "2"], "--train-importance: expected an --estimator"),
        (["--estimator", "score-loo", "--n-samples", "1"], "--n-samples: expected at least 2"),
        (["--estimator", "vimco"], "--estimator: expected one of sgvb-a"),
        (["--beta", "-1"], "--beta: expected a finite number of at least 0"),
        (["--kl-warmup", "0"], "--kl-warmup: expected a finite number above 0"),
    ],
)
def test_estimator_settings_that_do_not_fit_are_wrong_usage(tmp_path, capsys, extra, expected):
    """Kills a setting dropped in silence, a traceback, and a folder for what cannot be made."""
    try:
        code = train(tmp_path / "run", *extra)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert expected in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_same_seed_same_bytes(tmp_path, capsys):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert train(tmp_path / name, "--seed", seed) == 0

    def files(name):
        rows = list(csv.DictReader((tmp_path / name / "history.csv").read_text().splitlines()))
        for row in rows:
            del row["seconds"]
        return (tmp_path / name / "model.npz").read_bytes(), rows

    assert files("a") == files("b")
    assert files("a")[0] != files("c")[0]
    assert files("a")[1] != files("c")[1]


def test_evaluate_gives_the_figures_of_training(tmp_path, capsys):
    assert train(tmp_path, "--json") == 0
    trained = json.loads(capsys.readouterr().out)
    model = str(tmp_path / "model.npz")
    args = ["--json", "--n-importance", "5", "--test-rows", "40"]
    assert main(["evaluate", model, *args]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert {k: trained[k] for k in evaluated} == evaluated
    assert main(["evaluate", model, "--n-importance", "2", "--test-rows", "9"]) == 0
    assert "9 test rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("likelihood", "low", "high"),
    [
        ("binomial", 0, 16),
        ("gaussian:learned", -9 * 16, 9 * 16),  # in the unit of the raw data
        ("gaussian:0.2", -9 * 16, 9 * 16),
        ("bernoulli", 0, 1),
    ],
)
def test_likelihoods_and_sample(tmp_path, capsys, likelihood, low, high):
    assert train(tmp_path, "--likelihood", likelihood) == 0
    model, out = str(tmp_path / "model.npz"), tmp_path / "x.npy"
    assert main(["sample", model, "-n", "7", "--output", str(out)]) == 0
    x = np.load(out)
    assert x.shape == (7, 64)
    assert low <= x.min() <= x.max() <= high
    assert main(["sample", model, "-n", "7", "--output", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    if likelihood == "binomial":
        assert VAE.load(model).likelihood.name == "binomial:16"


def test_files_as_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    grays = rng.integers(0, 256, (300, 5, 4)).astype(np.uint8)
    np.save(tmp_path / "grays.npy", grays)
    assert train(tmp_path / "a", "--dataset", str(tmp_path / "grays.npy"), "--maximum", "255") == 0
    np.savez(tmp_path / "parts.npz", train=rng.integers(0, 2, (200, 6)), test=np.eye(6, dtype=int))
    assert train(tmp_path / "b", "--dataset", str(tmp_path / "parts.npz"), "--json") == 0
    assert '"test_rows": 6' in capsys.readouterr().out
    assert (tmp_path / "a" / "samples.png").exists()  # images: 5×4
    assert (tmp_path / "b" / "samples.png").exists()  # rows: bars, not images


EFFORT = ["--n-importance", "9", "--n-temperatures", "4", "--n-chains", "2", "--test-rows", "5"]


def trained(path, **architecture):
    """Write a model of the digits whose biases are not zero, as after training."""
    vae = VAE(64, **{"latent_dim": 3, "hidden": (4,)} | architecture)
    vae.parameters.flat[:] += 0.01
    vae.save(path)
    return str(path)


def test_bounds_say_which_is_which(tmp_path, capsys):
    # kills: an upper bound on test rows, a sandwich without its data, means of other rows
    model, picture = trained(tmp_path / "model.npz"), tmp_path / "bounds.png"
    args = ["evaluate", model, "--bounds", "elbo,iwae,ais", *EFFORT]
    assert main([*args, "--output", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert err == f"numpyvae: the bounds are drawn in {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    test, simulated = out.split("simulated from the model")
    assert "5 test rows" in test
    assert "reverse AIS" not in test
    assert "reverse AIS" in simulated
    assert "acceptance" in test
    assert "only a lower bound" in simulated
    assert main([*args, "--json"]) == 0
    s = json.loads(capsys.readouterr().out)
    assert list(s["test"]["bounds"]) == ["elbo", "iwae", "ais"]
    assert list(s["simulated"]["bounds"]) == ["elbo", "iwae", "ais", "reverse-ais"]
    assert (s["n_importance"], s["n_temperatures"], s["n_chains"]) == (9, 4, 2)
    assert "gap" not in s["test"]
    bounds = s["simulated"]["bounds"]
    gap = bounds["reverse-ais"]["mean"] - bounds["ais"]["mean"]
    assert s["simulated"]["gap"]["mean"] == pytest.approx(gap)
    rows = s["test"]["bounds"]
    assert rows["iwae"]["curve"]["k"] == [1, 2, 5, 9]
    assert rows["iwae"]["curve"]["mean"][-1] == pytest.approx(rows["iwae"]["mean"])
    assert rows["ais"]["above_elbo"]["mean"] == pytest.approx(
        rows["ais"]["mean"] - rows["elbo"]["mean"]
    )
    for row in (*rows.values(), *bounds.values()):
        assert row["seconds"] > 0
        assert row["se"] > 0


def test_bounds_of_test_rows_alone_and_of_one_row(tmp_path, capsys):
    # kills: simulated data that nobody asked for, and NaN, which JSON does not have
    model = trained(tmp_path / "model.npz")
    args = ["evaluate", model, "--bounds", "cubo,iwae", "--test-rows", "1", "--json"]
    assert main(args) == 0
    s = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert s["simulated"] is None
    assert s["test"]["bounds"]["iwae"]["se"] is None
    assert main(args[:-1]) == 0
    assert "nan" not in capsys.readouterr().out
    assert main(["evaluate", model, "--bounds", "eubo", *EFFORT, "--json"]) == 0
    s = json.loads(capsys.readouterr().out)
    assert s["test"] is None
    assert list(s["simulated"]["bounds"]) == ["eubo"]
    assert main(["evaluate", model, "--bounds", "eubo", *EFFORT]) == 0
    assert "EUBO" in capsys.readouterr().out


def test_slow_bounds_take_a_hundred_rows_and_exact_is_added_in_closed_form(tmp_path, capsys):
    # kills: AIS on the whole test set, quadrature that nobody asked for
    args = ["--n-temperatures", "1", "--n-chains", "1", "--json"]
    model = trained(tmp_path / "two.npz", latent_dim=2)
    assert main(["evaluate", model, "--bounds", "ais", *args]) == 0
    s = json.loads(capsys.readouterr().out)
    assert s["test"]["rows"] == s["simulated"]["rows"] == measuring.SLOW_ROWS == 100
    assert list(s["test"]["bounds"]) == ["ais"]
    model = trained(tmp_path / "linear.npz", hidden=(), likelihood="gaussian:0.3")
    assert main(["evaluate", model, "--bounds", "elbo", *args]) == 0
    s = json.loads(capsys.readouterr().out)
    assert s["test"]["rows"] == 1797
    assert list(s["test"]["bounds"]) == ["elbo", "exact"]


def test_a_model_that_was_never_trained_is_noted(tmp_path, capsys):
    # kills: figures of a model that was saved before fit, without a word
    VAE(64, 2, (3,)).save(tmp_path / "new.npz")
    assert main(["evaluate", str(tmp_path / "new.npz"), "--test-rows", "9"]) == 0
    out, err = capsys.readouterr()
    assert "before training" in err
    assert err.count("\n") == 1
    assert "9 test rows" in out


WRONG_USAGE = [
    ["train", "--latent-dim", "0"],
    ["train", "--latent-dim", "-1"],
    ["train", "--latent-dim", "2.5"],
    ["train", "--latent-dim", "True"],
    ["train", "--batch-size", "0"],
    ["train", "--batch-size", "4000"],
    ["train", "--learning-rate", "0"],
    ["train", "--learning-rate", "nan"],
    ["train", "--epochs", "0"],
    ["train", "--seed", "-1"],
    ["train", "--eval-importance", "0"],
    ["train", "--hidden", "0"],
    ["train", "--likelihood", "laplace"],
    ["train", "--activation", "swish"],
    ["sample", "MODEL", "--output", "x.jpg"],
    ["evaluate"],
    ["evaluate", "MODEL", "--bounds", "elbow"],
    ["evaluate", "MODEL", "--bounds", ""],
    ["evaluate", "MODEL", "--bounds", "elbo,exact"],
    ["evaluate", "MODEL", "--bounds", "iwae", "--n-importance", "0"],
    ["evaluate", "MODEL", "--bounds", "ais", "--n-chains", "0"],
    ["evaluate", "MODEL", "--bounds", "ais", "--n-temperatures", "0"],
    ["evaluate", "MODEL", "--bounds", "ais", "--memory", "0"],
    ["evaluate", "MODEL", "--bounds", "ais", "--memory", "0.001"],
    ["evaluate", "MODEL", "--bounds", "elbo", "--output", "x.jpg"],
    ["evaluate", "MODEL", "--output", "x.png"],
    ["evaluate", "MODEL", "--n-chains", "3"],
    ["frobnicate"],
    [],
]


@pytest.mark.parametrize("args", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_2_and_one_line(tmp_path, capsys, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    trained("MODEL")
    try:
        code = main(args)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert "numpyvae" in one_line(capsys)
    assert list(tmp_path.rglob("*")) == [tmp_path / "MODEL"]


def failing(tmp_path):
    """Arguments that fail at work, and a word of the message."""
    grays = tmp_path / "grays.npy"
    np.save(grays, np.full((20, 4), 200, np.uint8))
    np.save(tmp_path / "nan.npy", np.full((20, 4), np.nan))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "file").write_text("")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    VAE(5, 2, (3,)).save(tmp_path / "five.npz")
    yield ["train", "--dataset", str(grays)], "expected values in [0, 1]"
    yield ["train", "--dataset", str(tmp_path / "nan.npy")], "finite"
    yield ["train", "--dataset", str(tmp_path / "none.npy")], "no such file"
    yield ["train", "--dataset", str(tmp_path / "objects.npy")], "pickle"
    yield ["train", "--dataset", str(tmp_path / "text.npy")], "text.npy"
    yield ["train", "--dataset", str(tmp_path / "broken.npz")], "broken.npz"
    yield ["train", "--dataset", "mnist", "--folder", str(tmp_path)], "train-images"
    yield ["train", "--output", str(tmp_path / "file" / "under")], "--output"
    yield ["train", "--learning-rate", "1e6", "--epochs", "3"], "epoch 1, step"
    yield ["evaluate", str(tmp_path / "none.npz")], "none.npz"
    yield ["evaluate", str(tmp_path / "text.npy")], "text.npy"
    nowhere = str(tmp_path / "no" / "bounds.png")
    model = trained(tmp_path / "model.npz")
    yield ["evaluate", model, "--bounds", "elbo", "--output", nowhere], "bounds.png"
    yield (
        ["sample", str(tmp_path / "five.npz"), "--output", str(tmp_path / "no" / "x.npy")],
        "x.npy",
    )


@pytest.mark.parametrize("number", range(13))
def test_failure_at_work_is_1_and_one_line(tmp_path, capsys, monkeypatch, number):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    args, word = list(failing(tmp_path))[number]
    assert main(args) == 1
    assert word in one_line(capsys)
    assert list(work.rglob("*")) == []  # kills: an empty runs/vae after a run that diverged


def test_a_picture_that_cannot_be_written_is_refused_before_the_bounds(
    tmp_path, capsys, monkeypatch
):
    # kills: a folder that is only looked for, and minutes of AIS that end without the picture
    model = trained(tmp_path / "model.npz")
    monkeypatch.setattr(measuring, "compare", lambda *_, **__: pytest.fail("the work was begun"))
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr("tempfile.TemporaryFile", raising(denied))
    args = ["evaluate", model, "--bounds", "ais", "--output", str(tmp_path / "bounds.png")]
    assert main(args) == 1
    assert "folder that can be written, got Permission denied" in one_line(capsys)


def test_a_model_of_other_data_is_wrong_usage(tmp_path, capsys):
    VAE(5, 2, (3,)).save(tmp_path / "five.npz")
    assert main(["evaluate", str(tmp_path / "five.npz")]) == 2
    assert "expected rows of 5 values" in one_line(capsys)
    assert main(["sample", str(tmp_path / "five.npz"), "--output", str(tmp_path / "x.png")]) == 2
    assert "--image-shape" in one_line(capsys)


def test_interrupt_is_130(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "fit", interrupted)
    assert train(tmp_path) == 130
    assert one_line(capsys) == "numpyvae: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_real_interrupt_keeps_a_checkpoint_and_says_how_to_go_on(tmp_path):
    """Kills an hour's training that Ctrl-C throws away."""
    output = tmp_path / "run"
    # A shell starts background jobs with the interrupt ignored; the command must hear it.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from numpyvae.command.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "train", "--epochs", "100000"]
    with subprocess.Popen([*command, "--output", output], stderr=subprocess.PIPE) as process:
        checkpoint = output / "unfinished" / "checkpoint.npz"
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    line = rb"numpyvae: interrupted; \d+ of 100000 epochs are kept; go on with: numpyvae train "
    assert re.fullmatch(line + rb"--resume .*/run\n", err)
    files = {p.relative_to(output).as_posix() for p in output.rglob("*")}
    assert files == {"unfinished", "unfinished/settings.json", "unfinished/checkpoint.npz"}


def test_a_failed_run_leaves_what_it_did_not_make(tmp_path, monkeypatch):
    # kills: a folder of the user's that goes, and one that goes with a file in it
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(jobs, "fit", raising(FloatingPointError("diverged")))
    assert train(tmp_path / "mine" / "new" / "run") == 1
    assert list((tmp_path / "mine").iterdir()) == []
    assert train(tmp_path / "mine") == 1
    assert (tmp_path / "mine").is_dir()


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m numpyvae clinic --only complex-step | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=120)
    assert done.stderr == b""


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "numpyvae", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "numpyvae 0.1.0\n"


def test_mnist_from_the_folder_of_the_variable(tmp_path, capsys):
    if not os.environ.get("NUMPYVAE_DATA"):
        pytest.skip("NUMPYVAE_DATA names no folder with MNIST's IDX files")
    datasets.load_mnist(download=False)
    args = ["train", "--dataset", "mnist", "--epochs", "1", "--hidden", "8", "--latent-dim", "2"]
    args += ["--eval-importance", "2", "--test-rows", "50", "--output", str(tmp_path), "--json"]
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "mnist"


def refused(capsys, *args):
    """Return the one line of a command line that is wrong usage."""
    try:
        code = main(list(args))
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    return one_line(capsys)


OTHER_VALUES = {  # of each option, one that is not its default
    "dataset": ["FILE.npy"],
    "folder": ["somewhere"],
    "maximum": ["3"],
    "scale": ["standardize"],
    "columns": ["1,3-5"],
    "label_column": ["class"],
    "delimiter": ["tab"],
    "latent_dim": ["3"],
    "hidden": ["7", "5"],
    "activation": ["relu"],
    "likelihood": ["binomial:3"],
    "estimator": ["sgvb-a"],
    "n_samples": ["2"],
    "train_importance": ["3"],
    "beta": ["2"],
    "kl_warmup": ["1"],
    "free_bits": ["0.1"],
    "weight_prior": ["0.5"],
    "optimizer": ["sgd"],
    "learning_rate": ["0.001"],
    "schedule": ["constant"],
    "clip_norm": ["5"],
    "epochs": ["1"],
    "validation": ["0.2"],
    "patience": ["3"],
    "batch_size": ["7"],
    "seed": ["3"],
    "eval_importance": ["2"],
    "test_rows": ["4"],
    "accelerator": ["numba"],
    "data_parallel": [],
}


@pytest.mark.parametrize("name", settings.OPTIONS)
def test_every_option_reaches_the_settings_and_the_help(name, capsys):
    """Kills an option that the parser does not have, and a declaration without a phrase."""
    args = parse(["train", settings.flag(name), *OTHER_VALUES[name]])
    given = {key: value for key, value in vars(args).items() if key in settings.OPTIONS}
    assert list(given) == [name]  # kills: a parser's default that hides that of the data set
    made = settings.make_settings(given)
    assert getattr(made, name) != settings.OPTIONS[name].default
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    help = settings.OPTIONS[name].metadata["help"]
    assert len(help.split()) >= 3
    assert f"{help} (default: {settings.default_text(name)})" in words
    assert "None" not in words


def test_settings_of_a_run_are_all_in_its_summary(tmp_path, capsys):
    """Kills an option that changes the figures and leaves no trace, as --maximum did."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 3, (60, 4)))
    extra = ["--dataset", str(tmp_path / "x.npy"), "--maximum", "3", "--clip-norm", "5"]
    assert train(tmp_path / "run", *extra, "--likelihood", "binomial") == 0
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())["settings"]
    assert kept.keys() == settings.OPTIONS.keys()
    assert (kept["maximum"], kept["clip_norm"], kept["likelihood"]) == (3, 5, "binomial:3")
    assert (kept["batch_size"], kept["n_samples"], kept["eval_importance"]) == (54, 1, 5)


def test_options_table_of_the_readme_is_the_declared_one():
    """Kills a default or an option that is changed in the code alone."""
    readme = Path(__file__).parents[1] / "README.md"
    table = settings.options_table()
    assert table in readme.read_text("utf-8")
    cells = {len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}
    assert cells == {5}  # kills: p(x|z), whose bar ends a cell
    assert "| 100; mnist, fashion: 20 |" in settings.options_table()


def test_defaults_depend_on_the_data_set():
    """Kills defaults of MNIST that win over what was given."""
    made = settings.make_settings({"dataset": "mnist", "epochs": 3})
    assert (made.epochs, made.latent_dim, made.hidden, made.test_rows) == (3, 20, (500,), 1000)
    assert settings.make_settings({"epochs": 3}).latent_dim == 10


@pytest.mark.parametrize(
    ("args", "expected", "help"),
    [
        ("train --latentdim 3", "did you mean --latent-dim?", "train"),
        ("train --latentdim=3", "got --latentdim; did you mean --latent-dim?", "train"),
        ("train --epoch 3", "did you mean --epochs?", "train"),  # kills: abbreviations
        ("train --n-importance 3", "--eval-importance", "train"),
        ("train --n-chains 3", "it is an option of numpyvae evaluate", "train"),
        ("sample runs --outptu x.png", "did you mean --output?", "sample"),
        ("trian", "did you mean train?", None),
        ("--seed 3 train", "expected a command first", None),
        ("train digit", "did you mean --dataset digits?", "train"),
        ("train --dataset digit", "did you mean digits?", "train"),
        ("evaluate runs --dataset fashoin", "did you mean fashion?", "evaluate"),
        ("train --optimizer adma", "did you mean adam?", "train"),
        ("train --estimator score-lo", "did you mean score-loo?", "train"),
        ("train --likelihood bernouli", "did you mean bernoulli?", "train"),
        ("equations --model discret", "did you mean discrete?", "equations"),
        ("evaluate runs --bounds elbow", "did you mean elbo?", "evaluate"),
    ],
)
def test_a_misspelled_word_gets_the_nearest_one_and_its_help(capsys, args, expected, help):
    """Kills "unrecognized arguments" with the help of another command."""
    line = refused(capsys, *args.split())
    assert expected in line
    assert line.endswith(f"; see numpyvae {help} --help\n" if help else "; see numpyvae --help\n")


def test_options_that_do_not_fit_together_point_to_the_help_of_the_command(tmp_path, capsys):
    """Kills a refusal after the parser that leaves the reader without the list of options."""
    line = refused(capsys, "train", "--estimator", "dreg", "--beta", "2")
    assert line.endswith("; see numpyvae train --help\n")
    line = refused(capsys, "evaluate", trained(tmp_path / "model.npz"), "--memory", "3")
    assert line.endswith("; see numpyvae evaluate --help\n")


def test_a_number_out_of_range_is_not_taken_for_a_misspelling(capsys):
    """Kills "did you mean binomial:N?", which is a pattern, and "gaussian:head" for a σ of 0."""
    for name in ("gaussian:0", "binomial:0.5", "binomial:70000"):
        assert "did you mean" not in refused(capsys, "train", "--likelihood", name)


def test_a_folder_of_samples_that_does_not_exist_has_a_remedy(tmp_path, capsys):
    """Kills "[Errno 2] No such file or directory" after the draws are made."""
    model = trained(tmp_path / "model.npz")
    assert main(["sample", model, "--output", str(tmp_path / "no" / "x.npy")]) == 1
    assert "choose another with --output" in one_line(capsys)
    assert "expected FILE.npy or .png" in refused(capsys, "sample", model, "--output", "x.jpg")
    line = refused(capsys, "evaluate", model, "--bounds", "elbo", "--output", "x.jpg")
    assert "expected FILE.png, .svg or .pdf" in line


def test_a_word_unlike_all_others_gets_no_suggestion(capsys):
    """Negative control: a hint for any word would pass the tests above."""
    assert "did you mean" not in refused(capsys, "train", "--zzz", "3")
    assert "did you mean" not in refused(capsys, "qqqq")


def test_a_run_folder_stands_for_its_model(tmp_path, capsys):
    """Kills a folder that is opened as a file, and another model than that of the folder."""
    (tmp_path / "run").mkdir()
    model = trained(tmp_path / "run" / "model.npz")
    for command, extra in (("evaluate", ["--n-importance", "2", "--test-rows", "5", "--json"]),):
        found = []
        for path in (str(tmp_path / "run"), model):
            assert main([command, path, *extra]) == 0
            found.append(capsys.readouterr().out)
        assert found[0] == found[1] != ""
    assert main(["sample", str(tmp_path / "run"), "--output", str(tmp_path / "x.npy")]) == 0
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    for command in ("evaluate", "sample"):
        assert main([command, str(tmp_path / "empty")]) == 1
        assert "expected a run folder with model.npz" in one_line(capsys)


def test_score_loo_takes_two_draws(tmp_path, capsys):
    """Kills a default of one draw, which its baseline refuses."""
    assert train(tmp_path, "--estimator", "score-loo", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["n_samples"] == summary["settings"]["n_samples"] == 2
    assert "leave-one-out" in summary["estimator"]
    assert summary["settings"]["maximum"] == 16  # kills: None, where the data have their own


OWN_WORDS = re.compile(r"n_samples|n_importance|clip_norm|register_likelihood|baseline|maximum as")


@pytest.mark.parametrize(
    ("extra", "remedy"),
    [
        (["--estimator", "score-loo", "--n-samples", "1"], "--estimator score"),
        (["--train-importance", "2"], "leave --train-importance out"),
        (["--likelihood", "laplace"], "gaussian:SIGMA"),
        (["--likelihood", "binomial:70000"], "at most 65536"),
        (["--maximum", "255"], "leave it out"),
        (["--dataset", "grays.npy", "--likelihood", "binomial", "--maximum", "2.5"], "--maximum"),
        (["--dataset", "grays.npy"], "--maximum 200"),
        (["--dataset", "negative.npy"], "--likelihood, as gaussian:learned"),
        (["--learning-rate", "1e6"], "--clip-norm"),
        (["--dataset", "grays.npy", "--batch-size", "19"], "at most the 18 training rows"),
    ],
)
def test_remedies_name_options_of_the_command(tmp_path, capsys, monkeypatch, extra, remedy):
    """Kills a remedy that only a Python program could follow."""
    monkeypatch.chdir(tmp_path)
    np.save("grays.npy", np.full((20, 4), 200, np.uint8))
    np.save("negative.npy", np.full((20, 4), -0.5))
    if "--batch-size" in extra:
        extra = [*extra, "--maximum", "255"]
    try:
        code = train("run", *extra)
    except SystemExit as stop:
        code = stop.code
    assert code in (1, 2)
    line = one_line(capsys)
    assert remedy in line
    assert not OWN_WORDS.search(line)
    assert not (tmp_path / "run").exists()


def test_few_rows_are_one_batch(tmp_path):
    """Kills a default of 100 rows that a small file is refused for."""
    np.save(tmp_path / "x.npy", np.eye(20))
    assert train(tmp_path / "run", "--dataset", str(tmp_path / "x.npy")) == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("digit", "bernoulli"), "source: expected digits"),
        ((3, "bernoulli"), "source: expected digits"),
        (("digits", "bernouli"), r"^likelihood: expected .*; did you mean bernoulli\?$"),
        (("digits", None), "likelihood: expected"),
        (("digits", "bernoulli", 0), "maximum: expected a finite number above 0"),
        (("digits", "bernoulli", float("nan")), "maximum: expected a finite number above 0"),
        (("digits", "bernoulli", -1.0), "maximum: expected a finite number above 0"),
        (("digits", "bernoulli", "16"), "maximum: expected a number"),
        (("digits", "bernoulli", 255), "--maximum: expected 16"),
    ],
)
def test_prepare_refuses_what_is_not_its_own(args, expected):
    """Kills data divided by zero or by a negative number, and a maximum that is dropped."""
    with pytest.raises((ValueError, TypeError), match=expected):
        prepare(*args)


def test_prepare_takes_texts_and_paths_and_completes_the_binomial(tmp_path):
    np.savez(tmp_path / "x.npz", train=np.full((5, 4), 7), test=np.full((2, 4), 2))
    data = prepare(tmp_path / "x.npz", "binomial", 7)
    assert (data.likelihood.name, data.maximum, data.name) == (
        "binomial:7",
        7,
        str(tmp_path / "x.npz"),
    )
    assert prepare("digits", "bernoulli", 16).maximum == 16  # its own


def test_prepare_checks_the_range_of_both_parts(tmp_path):
    """Kills a check of one part, which leaves the other to fail in the middle of the training."""
    for high, name in (("train", "x.npz"), ("test", "x.npz (test)")):
        parts = {"train": np.full((5, 4), 0.5), "test": np.full((2, 4), 0.5)}
        parts[high] = parts[high] + 3
        np.savez(tmp_path / "x.npz", **parts)
        with pytest.raises(ValueError, match=re.escape(f"{name}: expected values in [0, 1]")):
            prepare(tmp_path / "x.npz", "bernoulli")


def test_prepare_reads_a_file_by_its_first_bytes_and_checks_its_labels(tmp_path):
    """Kills an AttributeError for a file with the wrong suffix, and labels of other rows."""
    np.save(tmp_path / "x.npy", np.eye(4))
    (tmp_path / "x.npy").rename(tmp_path / "rows.npz")
    assert prepare(tmp_path / "rows.npz", "bernoulli").x_train.shape == (3, 4)
    np.savez(tmp_path / "y.npz", train=np.eye(4), test=np.eye(4), y_test=np.arange(3))
    with pytest.raises(ValueError, match=r"y_test\): expected shape \(4,\)"):
        prepare(tmp_path / "y.npz", "bernoulli")
    (tmp_path / "y.npz").rename(tmp_path / "y.npy")
    with pytest.raises(ValueError, match="y_test"):
        prepare(tmp_path / "y.npy", "bernoulli")


def test_the_saved_model_of_an_accelerated_run_is_plain(tmp_path, capsys):
    """Kills a compiled model in model.npz, which needs Numba to be read."""
    pytest.importorskip("numba")
    assert train(tmp_path, "--accelerator", "numba") == 0
    vae = VAE.load(tmp_path / "model.npz")
    assert vae.activation is layers.tanh
    assert vae.parameters.epochs == 2
    assert any(view.any() for name, view in vae.parameters.items() if ".b" in name)  # trained


def test_functions_of_the_command_stay_small():
    """Kills a function that grows past 60 lines of code or 13 parameters."""
    for path in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                a = node.args
                assert lines <= 60, f"{path.name}: {node.name} has {lines} lines"
                n = len([*a.posonlyargs, *a.args, *a.kwonlyargs]) + (a.kwarg is not None)
                assert n <= 13, f"{path.name}: {node.name} has {n} parameters"


def test_sampled_counts_without_an_end_are_drawn_up_to_the_largest(tmp_path, monkeypatch):
    # kills: every count above 1 drawn as dark as the largest
    vae = VAE(4, 2, (3,), likelihood="poisson")
    vae.parameters["decoder.b1"][:] = 3.0
    vae.save(tmp_path / "model.npz")
    seen, real = [], plotting.image_grid

    def watched(x, shape, *, minimum, maximum):
        seen.append((x.max(), maximum))
        return real(x, shape, minimum=minimum, maximum=maximum)

    monkeypatch.setattr(plotting, "image_grid", watched)
    output = ["--output", str(tmp_path / "samples.png")]
    assert main(["sample", str(tmp_path / "model.npz"), "-n", "9", *output]) == 0
    ((largest, maximum),) = seen
    assert maximum == largest > 1
