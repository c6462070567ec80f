"""Run folders: whole after any kill, one run at a time, resumed to the bit, and repeated."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numpyvae
from numpyvae import VAE, History, plotting
from numpyvae.command import jobs, runs, settings
from numpyvae.command.cli import main
from numpyvae.command.plan import Job
from numpyvae.command.usage import UsageError
from numpyvae.support import checkpoints, locks
from numpyvae.support.checkpoints import Checkpoints
from numpyvae.support.streams import Purpose, stream
from numpyvae.support.terminal import Terminated

RESULTS = ["settings.json", "model.npz", "history.csv", "summary.json"]


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Leave out the pictures, which take most of the time, where they are not the matter."""
    if "draws" not in request.keywords:
        monkeypatch.setattr(jobs, "pictures", lambda *_: None)


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 2, (50, 3, 2)))
    return tmp_path / "x.npy"


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def train(data, run, *more):
    small = ["--hidden", "3", "--latent-dim", "1", "--epochs", "4", "--eval-importance", "2"]
    return main(["train", "--dataset", str(data), "--output", str(run), *small, *more])


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def read(run):
    return json.loads((run / "summary.json").read_text(), parse_constant=pytest.fail)


def results(run):
    """The results of a run without what differs between equal runs."""
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    for row in rows:
        del row["seconds"]
    summary = {k: v for k, v in read(run).items() if "seconds" not in k}
    files = [(run / name).read_bytes() for name in ("model.npz", "settings.json")]
    return rows, summary, files


def error(capsys):
    """The one line on standard error."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def stop_in_epoch(monkeypatch, epoch, failure=KeyboardInterrupt):
    """Let the training fail after the work of an epoch, before it is kept."""
    real = Checkpoints.__call__

    def call(self, vae, history):
        if len(history) == epoch:
            raise failure
        real(self, vae, history)

    monkeypatch.setattr(Checkpoints, "__call__", call)


# Stop and go on.


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["on disk", "in memory"])
@pytest.mark.parametrize(
    "more", [[], ["--validation", "0.3", "--patience", "1", "--learning-rate", "0.1"]]
)
def test_a_run_that_is_interrupted_again_and_again_ends_with_the_same_bytes(
    more, seconds, data, run, tmp_path, capsys, monkeypatch
):
    """Kills an epoch that is lost or done twice, a patience or a best model that is forgotten."""
    more = [*more, "--epochs", "12", "--batch-size", "7"]
    assert train(data, tmp_path / "whole", *more) == 0
    expected = results(tmp_path / "whole")
    assert (len(expected[0]) < 12) == bool(more[:-4])
    capsys.readouterr()
    monkeypatch.setattr(checkpoints, "_SECONDS", seconds)
    arguments = []
    for epoch in (2, 3, 5, 5):
        with monkeypatch.context() as patch:
            stop_in_epoch(patch, epoch)
            code = main(["train", "--resume", str(run)]) if arguments else train(data, run, *more)
        if code == 0:
            break  # it has stopped early
        arguments = ["--resume", str(run)]
        assert code == 130
        kept = f"{epoch - 1} of 12 epochs are kept; go on with: numpyvae train --resume {run}"
        assert error(capsys) == f"numpyvae: interrupted; {kept}\n"
        assert names(run) == {
            "unfinished",
            "unfinished/settings.json",
            "unfinished/checkpoint.npz",
        }
    else:
        assert main(["train", "--resume", str(run)]) == 0
    assert results(run) == expected
    assert names(run) == set(RESULTS)
    out = capsys.readouterr().out
    assert f"Written to {run}: {', '.join(RESULTS)}\n" in out
    rows = csv.DictReader((run / "history.csv").read_text().splitlines())
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)  # kills: a clock that starts anew
    assert read(run)["seconds"] >= read(run)["training_seconds"] == seconds[-1]


def test_sigterm_keeps_what_ctrl_c_keeps(data, run, capsys, monkeypatch):
    """Kills the training that a cluster ends when its time is over."""
    stop_in_epoch(monkeypatch, 3, Terminated)
    assert train(data, run) == 143
    kept = f"2 of 4 epochs are kept; go on with: numpyvae train --resume {run}"
    assert error(capsys) == f"numpyvae: terminated; {kept}\n"


def test_an_interrupt_before_the_first_epoch_leaves_nothing(data, run, capsys, monkeypatch):
    stop_in_epoch(monkeypatch, 1)
    assert train(data, run) == 130
    assert error(capsys) == "numpyvae: interrupted\n"
    assert not run.exists()


@pytest.mark.parametrize("where", ["evaluate", "pictures"])
def test_a_run_that_is_stopped_after_its_training_only_does_the_rest(
    where, data, run, tmp_path, monkeypatch
):
    """Kills a training that is done again, and best parameters that are lost with it."""
    more = ["--validation", "0.3", "--patience", "5"]
    assert train(data, tmp_path / "whole", *more) == 0

    def interrupted(*_, **__):
        assert len(History.load(run / "unfinished" / "checkpoint.npz")) == 4
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_SECONDS", 1e9)
    with monkeypatch.context() as patch:
        patch.setattr(jobs, where, interrupted)
        assert train(data, run, *more) == 130
    monkeypatch.setattr(Checkpoints, "__call__", lambda *_: pytest.fail("another epoch"))
    assert main(["train", "--resume", str(run)]) == 0
    assert results(run) == results(tmp_path / "whole")


def test_a_second_interrupt_ends_at_once(data, run, capsys, monkeypatch):
    """Kills a process that cannot be stopped while it writes."""

    def stopped_too(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_SECONDS", 1e9)
    stop_in_epoch(monkeypatch, 3)
    first = runs.RunFolder.save_checkpoint
    calls = []

    def save(self, history):
        calls.append(1)
        (first if len(calls) == 1 else stopped_too)(self, history)

    monkeypatch.setattr(runs.RunFolder, "save_checkpoint", save)
    assert train(data, run) == 130
    assert error(capsys) == "numpyvae: interrupted\n"
    assert len(History.load(run / "unfinished" / "checkpoint.npz")) == 1


def test_a_finished_run_says_so_and_stays(data, run, capsys):
    assert train(data, run) == 0
    before = {p: p.read_bytes() for p in run.iterdir()}
    (run / "unfinished").mkdir()  # of a run that was killed at its first step
    (run / "unfinished" / "elbo.png").touch()
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0
    assert error(capsys) == f"numpyvae: {run}: the run is finished; there is nothing to do\n"
    assert {p: p.read_bytes() for p in run.iterdir()} == before
    assert main(["train", "--resume", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read(run)


@pytest.fixture
def stopped(data, run, monkeypatch, capsys):
    """A run that was stopped after two of four epochs."""
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 3)
        assert train(data, run) == 130
    capsys.readouterr()
    return run


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "9"], "--epochs: expected none, since the run in"),
        (["--seed", "1"], "begin another run with --settings"),
        (["--overwrite"], "--overwrite: expected it without --resume"),
        (["--output", "other"], "--output: expected it without --resume"),
        (["--settings", "other"], "--settings: expected it without --resume"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(more, words, stopped, capsys):
    """Kills a setting that is dropped, and one that makes another run of it."""
    before = names(stopped)
    assert main(["train", "--resume", str(stopped), *more]) == 2
    assert words in error(capsys)
    assert names(stopped) == before
    assert main(["train", "--resume", str(stopped), "--epochs", "4", "--hidden", "3"]) == 0


def test_data_that_have_changed_are_refused_and_those_that_moved_are_found(
    stopped, data, tmp_path, monkeypatch, capsys
):
    """Kills a run that goes on with other rows, and a path that is valid in one folder alone."""
    x = np.load(data)
    os.rename(data, tmp_path / "moved.npy")
    assert main(["train", "--resume", str(stopped)]) == 1
    assert "no such file" in error(capsys)
    other = x.copy()
    other[7, 1, 1] ^= 1
    np.save(data, other)
    assert main(["train", "--resume", str(stopped)]) == 1
    assert "got others; restore them, or give their place with --dataset" in error(capsys)
    np.save(data, x.astype(np.int16))  # the same numbers are not the same bytes
    assert main(["train", "--resume", str(stopped)]) == 1
    capsys.readouterr()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    os.rename(stopped, "run")
    assert main(["train", "--resume", "run", "--dataset", "../moved.npy"]) == 0
    assert read(Path("run"))["epochs"] == 4


def test_another_version_is_a_warning(stopped, monkeypatch):
    """Kills silence about bits that cannot be promised."""
    record = json.loads((stopped / "unfinished" / "settings.json").read_text())
    record["versions"]["numpy"] = "1.0"
    record["blas_threads"] = 77
    (stopped / "unfinished" / "settings.json").write_text(json.dumps(record))
    changed = (
        rf"\(numpy 1\.0 then, {np.__version__} now, blas_threads 77 then, 1 now\); it goes on"
    )
    with pytest.warns(UserWarning, match=f"the run was begun elsewhere {changed}"):
        jobs.resume(stopped, {})


@pytest.mark.parametrize("file", ["checkpoint.npz", "settings.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_run_is_refused_in_one_line(file, damage, stopped, data, capsys):
    """Kills a run that goes on from half a file, and one that cannot be begun again."""
    path = stopped / "unfinished" / file
    whole = bytearray(path.read_bytes())
    if damage == "flip":
        whole[len(whole) // 2] ^= 255
    path.write_bytes({"cut": whole[:-50], "flip": whole, "other": b"[1, 2]"}[damage])
    assert main(["train", "--resume", str(stopped)]) == 1
    assert str(path) in error(capsys)
    assert train(data, stopped) in (1, 2)  # in use, whatever its state
    capsys.readouterr()
    assert train(data, stopped, "--overwrite") == 0
    assert names(stopped) == set(RESULTS)


@pytest.mark.parametrize("place", ["none", "empty", "file"])
def test_a_run_that_was_never_begun_cannot_go_on(place, run, capsys):
    if place == "empty":
        run.mkdir()
    elif place == "file":
        run.write_text("")
    assert main(["train", "--resume", str(run)]) == 1
    assert "expected a run" in error(capsys)
    assert run.exists() == (place != "none")


# One run in a folder, and none of another.


def test_a_second_run_is_refused_unless_it_may_overwrite(data, run, capsys):
    """Kills two runs mixed in one folder: here the picture of the second latent plane."""
    assert train(data, run, "--latent-dim", "2") == 0
    (run / "manifold.png").write_text("of the first run")
    (run / "notes.txt").write_text("mine")
    first = results(run)
    capsys.readouterr()
    assert train(data, run) == 2
    line = error(capsys)
    assert "expected a folder without a run, got one with settings.json" in line
    assert "--overwrite" in line
    assert results(run) == first
    assert train(data, run, "--overwrite") == 0
    assert "manifold.png" not in capsys.readouterr().out
    assert names(run) == {*RESULTS, "notes.txt"}
    assert read(run)["latent_dim"] == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "full"), FloatingPointError()])
@pytest.mark.parametrize("epoch", [1, 3])
def test_the_results_of_an_earlier_run_stay_until_the_new_ones_are_complete(
    epoch, failure, data, run, capsys, monkeypatch
):
    """Kills an earlier run that is gone when the new one fails."""
    assert train(data, run, "--latent-dim", "2") == 0
    first = results(run)
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, epoch, failure)
        assert train(data, run, "--overwrite") in (1, 130)
    assert results(run) == first
    kept = epoch == 3 and not isinstance(failure, FloatingPointError)
    assert ("unfinished" in names(run)) == kept
    capsys.readouterr()
    if kept:
        assert train(data, run) == 2
        assert "got an unfinished one (2 of 4 epochs)" in error(capsys)
        assert main(["train", "--resume", str(run)]) == 0
    else:
        assert train(data, run, "--overwrite") == 0
    assert names(run) == set(RESULTS)
    assert read(run)["latent_dim"] == 1


def test_a_second_process_in_the_folder_gets_one_line(data, run, capsys):
    """Kills two processes that write to one folder, and a lock that outlives its process."""
    with runs.claimed(run):
        program = "import sys; from numpyvae.command.cli import main; sys.exit(main(sys.argv[1:]))"
        environment = os.environ | {"PYTHONPATH": str(Path(numpyvae.__file__).parents[1])}
        for options in (["--overwrite", "--output"], ["--resume"]):
            done = subprocess.run(
                [sys.executable, "-c", program, "train", *options, str(run)],
                capture_output=True,
                text=True,
                timeout=60,
                env=environment,
            )
            assert done.returncode == 1
            assert "expected a run folder that no other process writes to" in done.stderr
            assert done.stderr.count("\n") == 1
    assert not run.exists()
    run.mkdir()
    (run / ".lock").touch()  # of a killed process
    assert train(data, run) == 0
    assert names(run) == set(RESULTS)


def test_a_lock_that_another_process_removes_is_taken_anew(run, monkeypatch):
    """Kills a lock on a file that is no longer there, beside that of another process."""
    run.mkdir()
    real, calls = locks.try_lock, []

    def lock(handle):
        calls.append(1)
        if len(calls) == 1:
            os.unlink(run / ".lock")  # between its opening and its locking
        return real(handle)

    monkeypatch.setattr(locks, "try_lock", lock)
    with runs.claimed(run):
        assert (run / ".lock").exists()
        with pytest.raises(BlockingIOError), runs.claimed(run):
            pass
    assert len(calls) == 3
    assert names(run) == set()


def test_files_of_others_are_left_alone(data, run, capsys):
    """Kills a cleaning that takes more than a run has written."""
    (run / "unfinished").mkdir(parents=True)
    mine = {"unfinished/thesis.tex", "unfinished/.writing-notes", "other.png", "writing-"}
    for name in mine:
        (run / name).write_text("mine")
    mine -= {"unfinished/.writing-notes"}  # the name of a temporary file
    assert train(data, run) == 0
    assert {p.name for p in run.rglob("*") if p.is_file()} == {
        *RESULTS,
        *(Path(name).name for name in mine),
    }


def test_a_folder_with_the_name_of_a_result_is_found_before_the_training(
    data, run, capsys, monkeypatch
):
    monkeypatch.setattr(jobs, "fit", lambda *_, **__: pytest.fail("the work was begun"))
    (run / "summary.json").mkdir(parents=True)
    assert train(data, run) == 1
    assert "expected no folder with the name of a result" in error(capsys)


# A failing picture.


@pytest.mark.draws
@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), TypeError("odd labels")]
)
def test_a_picture_that_fails_costs_itself_and_a_warning(failure, data, run, capsys, monkeypatch):
    """Kills an hour's figures that are lost to a picture."""
    real = plotting.save_figure

    def save(figure, path):
        if path.name == "latent_space.png":
            raise failure
        real(figure, path)

    monkeypatch.setattr(plotting, "save_figure", save)
    with pytest.warns(
        UserWarning, match=r"^latent_space\.png: this picture is left out \(.*(No|odd)"
    ):
        jobs.train(settings.make_settings({"dataset": str(data), "epochs": 1}), run)
    pictures = {"elbo.png", "reconstructions.png", "samples.png"}
    assert names(run) == {*RESULTS, *pictures}
    assert set(runs.RunFolder(run).written()) == names(run)


# Settings.


def test_a_run_is_repeated_from_its_settings(data, run, tmp_path, capsys, monkeypatch):
    """Kills a setting that is not kept, and one that the command line cannot change."""
    more = ["--likelihood", "binomial", "--maximum", "3", "--estimator", "iwae"]
    monkeypatch.chdir(data.parent)
    assert train(data.name, run, *more, "--train-importance", "2", "--hidden", "4", "3") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for number, file in enumerate((run, run / "settings.json", run / "summary.json")):
        other = tmp_path / f"other{number}"
        assert main(["train", "--settings", str(file), "--output", str(other)]) == 0
        assert results(other)[:2] == results(run)[:2]
        assert (other / "model.npz").read_bytes() == (run / "model.npz").read_bytes()
    args = ["--settings", str(run), "--estimator", "sgvb-b"]
    capsys.readouterr()
    assert main(["train", *args, "--output", "third"]) == 2
    assert "--train-importance: expected an --estimator" in error(capsys)
    args = ["--settings", str(run), "--dataset", "digits", "--epochs", "1", "--output", "third"]
    assert main(["train", *args, "--maximum", "16", "--test-rows", "5"]) == 0
    found = read(tmp_path / "elsewhere" / "third")["settings"]
    assert (found["likelihood"], found["maximum"], found["batch_size"]) == ("binomial:16", 16, 100)
    assert (found["hidden"], found["estimator"]) == ([4, 3], "iwae")


def test_the_settings_are_written_first_and_are_all_there(stopped, data):
    """Kills a run without a record of what it was, and one that other data would fit."""
    record = json.loads((stopped / "unfinished" / "settings.json").read_text())
    assert record["settings"].keys() == settings.OPTIONS.keys()
    assert record["settings"]["batch_size"] == 45
    assert record["as_given"] == {"batch_size": None, "maximum": None, "n_samples": None}
    assert record["settings"]["dataset"] == str(data)
    assert record["data"]["x_train"]["shape"] == [45, 6]
    assert record["data"]["image_shape"] == [3, 2]
    assert record["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "expected the settings of a run"),
        ('{"settings": {"epoch": 3}}', "did you mean epochs?"),
        ('{"settings": {"epochs": 2.5}}', "epochs: expected a whole number"),
        ('{"settings": {"epochs": null}}', "epochs: expected a value, got null"),
        ('{"settings": {"hidden": 5}}', "settings.json: "),
        ('{"settings": {"schedule": "cosin"}}', "did you mean cosine?"),
    ],
)
def test_settings_that_a_person_has_changed_are_checked(text, words, tmp_path, run, capsys):
    """Kills a traceback, or a training with 2 epochs in place of 2.5."""
    (tmp_path / "settings.json").write_text(text)
    args = ["--settings", str(tmp_path / "settings.json"), "--output", str(run)]
    assert main(["train", *args]) == 1
    assert words in error(capsys)
    assert not run.exists()


# The validation set.


def test_the_validation_set_is_held_out_and_reported(data, run, capsys):
    """Kills a validation set that is trained on, or that the report is silent about."""
    x = np.load(data).reshape(50, -1) + np.arange(50)[:, None] / 100  # no two rows alike
    np.savez(data.with_suffix(".npz"), train=x, test=x[:5])
    given = {"dataset": str(data.with_suffix(".npz")), "likelihood": "gaussian:learned"}
    job = Job.of(settings.make_settings(given | {"validation": 0.3}))
    assert (len(job.data.x_train), len(job.x_valid)) == (35, 15)
    both = np.concatenate([job.data.x_train, job.x_valid])
    assert sorted(map(bytes, both)) == sorted(map(bytes, np.asarray(x, both.dtype)))
    held = stream(0, Purpose.VALIDATION).permutation(50)[:15]
    assert job.x_valid.tobytes() == np.asarray(x[np.sort(held)], both.dtype).tobytes()
    again = Job.of(settings.make_settings(given | {"validation": 0.3, "seed": 5}))
    assert again.x_valid.tobytes() == job.x_valid.tobytes()
    more = ["--validation", "0.3", "--patience", "2", "--learning-rate", "0.1", "--epochs", "99"]
    assert train(data, run, *more) == 0
    out = capsys.readouterr().out
    summary = read(run)
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    values = [float(row["valid_elbo"]) for row in rows]
    best = int(np.argmax(values))
    assert summary["epochs"] == len(values) == best + 1 + 2 < 99
    assert summary["best_epoch"] == best + 1
    assert summary["validation_elbo"] == values[best]
    assert summary["train_elbo"] == float(rows[best]["elbo"])
    assert f"stopped early; the model is that of epoch {best + 1}." in out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"patience": 3}, "--patience: expected it together with --validation"),
        ({"validation": 0.001}, "--validation: expected a fraction that leaves rows in both"),
        ({"validation": 0.999}, "--validation: expected a fraction that leaves rows in both"),
    ],
)
def test_a_validation_set_without_rows_is_refused(given, words, data, run):
    with pytest.raises(UsageError, match=words):
        jobs.train(settings.make_settings({"dataset": str(data)} | given), run)
    assert not run.exists()


# What other commands find in a run folder.


def test_evaluate_and_sample_find_data_and_settings_in_the_run(data, run, tmp_path, capsys):
    """Kills a model of a file that is measured on the digits, or sampled as a square."""
    x = np.random.default_rng(0).integers(0, 4, (60, 2, 5))
    np.save(data, x)
    more = ["--likelihood", "binomial", "--maximum", "3", "--seed", "4", "--test-rows", "5"]
    assert train(data, run, *more) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    trained = read(run)
    assert {name: trained[name] for name in found} == found
    assert (found["seed"], found["test_rows"], found["n_importance"]) == (4, 5, 2)
    assert main(["evaluate", str(run), "--json", "--n-importance", "3", "--test-rows", "6"]) == 0
    changed = json.loads(capsys.readouterr().out)
    assert (changed["n_importance"], changed["test_rows"], changed["seed"]) == (3, 6, 4)
    assert main(["sample", str(run), "-n", "2", "--output", str(tmp_path / "s.png")]) == 0
    other = x.copy()
    other[:] = 3 - other
    np.save(tmp_path / "other.npy", other)
    args = ["--dataset", str(tmp_path / "other.npy"), "--maximum", "3"]
    capsys.readouterr()
    assert main(["evaluate", str(run), *args]) == 0
    assert capsys.readouterr().err == ""
    np.save(data, other)
    assert main(["evaluate", str(run)]) == 0
    assert "the data have changed" in capsys.readouterr().err
    (run / "settings.json").unlink()  # as of an earlier version
    assert main(["evaluate", str(run), *args, "--n-importance", "2"]) == 0


@pytest.mark.parametrize("midway", [".finished", ".moving"])
def test_results_that_are_being_moved_are_not_taken_for_a_run(midway, data, run, capsys):
    """Kills the figures of one model under the settings of another."""
    assert train(data, run, "--latent-dim", "2") == 0
    old = results(run)
    assert train(data, run, "--overwrite") == 0
    new = results(run)
    assert old[1] != new[1]
    (run / midway).mkdir()
    os.rename(run / "summary.json", run / midway / "summary.json")
    os.rename(run / "history.csv", run / midway / "history.csv")
    if midway == ".finished":  # the new results have not begun to be moved
        for name in ("model.npz", "settings.json"):
            os.rename(run / name, run / midway / name)
        VAE(6, 3, (2,)).save(run / "model.npz")
        (run / "samples.png").touch()
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 1
    assert f"train --resume {run} finishes it" in error(capsys)
    assert main(["train", "--resume", str(run)]) == 0
    assert names(run) == set(RESULTS)
    assert results(run) == new


def test_a_damaged_checkpoint_does_not_hide_an_earlier_run(data, run, capsys, monkeypatch):
    assert train(data, run) == 0
    stop_in_epoch(monkeypatch, 3)
    assert train(data, run, "--overwrite") == 130
    (run / "unfinished" / "checkpoint.npz").write_bytes(b"damaged")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_elbo"] == read(run)["test_elbo"]


def test_evaluate_of_an_unfinished_run_says_how_to_finish_it(stopped, capsys):
    assert main(["evaluate", str(stopped)]) == 1
    line = error(capsys)
    assert f"got an unfinished run (2 of 4 epochs); train --resume {stopped} finishes it" in line


def test_what_is_printed_and_written_is_strict_json(data, run, capsys, monkeypatch):
    """Kills NaN and Infinity, at which other readers of JSON stop."""
    real = jobs.evaluate
    odd = {"kl": float("nan"), "test_elbo": -np.inf, "bounds": [(np.float64("inf"), 1)]}
    monkeypatch.setattr(jobs, "evaluate", lambda *a: real(*a) | odd)
    assert train(data, run, "--json") == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == read(run)
    assert (printed["kl"], printed["test_elbo"], printed["bounds"]) == (None, None, [[None, 1]])


def test_train_and_evaluate_print_their_progress_without_a_terminal(
    data, run, capsys, monkeypatch
):
    """Kills an hour of silence in a log file."""
    monkeypatch.setattr("numpyvae.support.progress._SECONDS", 0.0)
    assert train(data, run) == 0
    err = capsys.readouterr().err
    assert "epoch 4/4  ELBO -" in err
    assert "piece 1/1  2 of 2 draws" in err
    assert main(["evaluate", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["test_rows"] == 5
    assert "piece 1/1  2 of 2 draws" in err
    assert main(["evaluate", str(run), "--bounds", "ais", "--n-temperatures", "2"]) == 0
    assert "move 1/" in capsys.readouterr().err


# Kills and full disks: the short form of `python -m benchmarks.kills`.


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    if not (Path(numpyvae.__file__).parents[1] / "benchmarks").exists():
        pytest.skip("needs the repository, which has the benchmarks")
    from benchmarks.kills import Trials

    return Trials(tmp_path_factory.mktemp("kills"), draw=False)


forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # BLAS has threads


@forks
def test_a_run_that_is_killed_anywhere_is_whole_and_goes_on(trials):
    """Kills a torn file, results of two runs, an epoch lost or done twice, and litter."""
    from benchmarks.kills import KINDS

    for i in range(8):
        trials.run(KINDS[i % len(KINDS)])
    assert trials.counts["killed"] > 0


@forks
@pytest.mark.parametrize("over_old", [False, True], ids=["new", "overwrite"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(over_old, trials):
    """Kills an earlier run that a full disk destroys, a traceback, and a run that cannot go on."""
    for number in range(1 + over_old, trials.operations, trials.operations // 6):
        trials.fail(over_old, number)
