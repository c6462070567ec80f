"""The command: files, summaries, exit codes, one-line errors, and the same bytes for a seed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from numpyvae import VAE, datasets
from numpyvae.command import jobs
from numpyvae.command.cli import main
from numpyvae.core import layers

SMALL = ["--epochs", "2", "--hidden", "16", "--n-importance", "5", "--test-rows", "40"]


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


def test_accelerator_without_numba_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "CompiledAdam", raising(ImportError("expected Numba")))
    monkeypatch.setattr(jobs, "compiled", raising(ImportError("expected Numba")))
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
    last = {key: float(value) for key, value in rows[-1].items()}
    assert summary["train_elbo"] == last["reconstruction"] - last["kl"] == last["elbo"]
    assert summary["train_objective"] == last["objective"]
    # In the second epoch β = 4, and max(λ, ·) can only add to the penalty.
    assert last["objective"] <= last["reconstruction"] - 4 * last["kl"] + 1e-5
    assert "SGVBB(beta=4.0, free_bits=0.1), KL warm-up over 1 epochs" in text
    assert f"the objective was {last['objective']:.2f}, the ELBO {last['elbo']:.2f}" in text


def test_training_with_importance_samples(tmp_path, capsys):
    """Kills a K of training that is mixed up with that of the evaluation."""
    assert train(tmp_path, "--estimator", "dreg", "--train-importance", "3", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["estimator"] == "DReG(n_importance=3)"
    assert summary["n_importance"] == 5


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--estimator", "dreg", "--beta", "2"], "beta: expected an estimator"),
        (["--estimator", "dreg", "--kl-warmup", "2"], "kl_warmup: expected an estimator"),
        (["--train-importance", "2"], ": train_importance: expected an estimator"),
        (["--estimator", "score-loo"], "n_samples: expected at least 2"),
        (["--estimator", "vimco"], "invalid choice"),
        (["--beta", "-1"], "beta: expected a finite number of at least 0"),
        (["--kl-warmup", "0"], "kl_warmup: expected a finite number above 0"),
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
        ("gaussian:learned", -9, 9),
        ("gaussian:0.2", -9, 9),
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
    assert not (tmp_path / "b" / "samples.png").exists()  # rows: no pictures of them


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
    assert "lower bound alone" in simulated
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
    assert s["test"]["rows"] == s["simulated"]["rows"] == jobs.SLOW_ROWS == 100
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
    ["train", "--n-importance", "0"],
    ["train", "--hidden", "0"],
    ["train", "--likelihood", "poisson"],
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
    monkeypatch.setattr(jobs, "compare", lambda *_, **__: pytest.fail("the work was begun"))
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


def test_gradcheck_prints_all_and_fails_on_a_wrong_gradient(capsys, monkeypatch):
    assert main(["gradcheck"]) == 0
    out = capsys.readouterr().out
    for name in ("layer tanh", "layer dense", "gaussian_kl", "ELBO Eq. (7) gaussian:head"):
        assert name in out
    assert main(["gradcheck", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert len(checks) >= 25

    def wrong_tanh(x):
        y, pull = layers.tanh(x)
        return y, lambda dy: pull(dy) * (1 + 1e-9)

    monkeypatch.setitem(layers.ACTIVATIONS, "tanh", wrong_tanh)
    assert main(["gradcheck"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_interrupt_is_130(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "fit", interrupted)
    assert train(tmp_path) == 130
    assert one_line(capsys) == "numpyvae: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_real_interrupt_leaves_nothing(tmp_path):
    output = tmp_path / "run"
    # A shell starts background jobs with the interrupt ignored; the command must hear it.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from numpyvae.command.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "train", "--epochs", "100000"]
    with subprocess.Popen([*command, "--output", output], stderr=subprocess.PIPE) as process:
        while not output.exists() and process.poll() is None:  # made before the training begins
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not output.exists()


def test_a_failed_run_leaves_what_it_did_not_make(tmp_path, monkeypatch):
    # kills: a folder of the user's that goes, and one that goes with a file in it
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(jobs, "fit", raising(FloatingPointError("diverged")))
    assert train(tmp_path / "mine" / "new" / "run") == 1
    assert list((tmp_path / "mine").iterdir()) == []
    assert train(tmp_path / "mine") == 1
    assert (tmp_path / "mine").is_dir()
    monkeypatch.undo()
    monkeypatch.setattr(jobs, "pictures", raising(OSError("the disk is full")))
    assert train(tmp_path / "run") == 1
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"model.npz", "history.csv"}


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m numpyvae gradcheck | head -1"
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
    args += ["--n-importance", "2", "--test-rows", "50", "--output", str(tmp_path), "--json"]
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "mnist"
