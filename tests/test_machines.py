"""Other terminals, encodings, threads and signals: none of them may cost a result."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from threadpoolctl import threadpool_info

import numpyvae
from numpyvae import VAE, importance_log_likelihood
from numpyvae.command.cli import main
from numpyvae.plotting import save_figure
from numpyvae.support.blas import blas_threads
from numpyvae.support.terminal import prepare_streams, sigterm_interrupts

ROOT = Path(numpyvae.__file__).parent.parent
SMALL = ["--epochs", "1", "--hidden", "4", "--eval-importance", "2", "--test-rows", "5"]


def command(*arguments, python=(), close="", cwd=None, **environment):
    """Run the command in a process of its own, as a shell does."""
    words = [sys.executable, *python, "-m", "numpyvae", *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f'"$@" {close}', "sh", *words],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", **environment},
        timeout=120,
    )


def blas_now():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


# Threads.


@pytest.mark.parametrize("first_out", [0, 1])
def test_blocks_that_overlap_leave_blas_as_it_was(first_out):
    """Kills a block that restores what another block had set, in whatever order they end."""
    with blas_threads(2):
        before = blas_now()
        blocks = [blas_threads(1), blas_threads(1)]
        for block in blocks:
            block.__enter__()
        assert set(blas_now()) == {1}
        blocks[first_out].__exit__(None, None, None)
        assert set(blas_now()) == {1}
        blocks[1 - first_out].__exit__(None, None, None)
        assert blas_now() == before


def in_threads(work, n=8, times=15):
    """Call `work()` often, on `n` threads at once; raise what it raises."""
    errors = []

    def repeat():
        try:
            for _ in range(times):
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_evaluation_in_two_threads_leaves_blas_as_it_was():
    """Kills a limit that two calls of `importance_log_likelihood` leave behind."""
    vae, x = VAE(4, 2, (3,)), np.eye(4)
    before = blas_now()
    in_threads(lambda: importance_log_likelihood(vae, x, n_importance=3, n_jobs=1), n=4, times=5)
    assert blas_now() == before


def test_loading_in_threads_leaves_the_warning_filters_as_they_were(tmp_path):
    """Kills `warnings.catch_warnings`, which is not made for threads, in a reader of files."""
    VAE(4, 2, (3,)).save(tmp_path / "model.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = warnings.filters, list(warnings.filters)
        in_threads(lambda: VAE.load(tmp_path / "model.npz"))
        assert warnings.filters is before[0]
        assert warnings.filters == before[1]


def test_saving_in_threads_leaves_the_umask_as_it_was(tmp_path):
    """Kills a umask that is read by setting it: other threads then write with the wrong one."""
    vae, places, mask = VAE(4, 2, (3,)), iter(range(1000)), os.umask(0o027)
    try:
        in_threads(lambda: vae.save(tmp_path / f"{next(places)}.npz"))
        assert os.umask(0o027) == 0o027
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(mask)


def test_drawing_in_threads_leaves_the_settings_of_matplotlib_as_they_were(tmp_path):
    """Kills settings of the process that a thread changes and another one restores."""
    before, places = dict(matplotlib.rcParams), iter(range(1000))

    def draw():
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1])
        save_figure(figure, tmp_path / f"{next(places)}.svg")

    in_threads(draw, n=6, times=4)
    assert dict(matplotlib.rcParams) == before


# Streams.


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "-1 +/- 2 ok sigma^2 mu log p(x|z) e L_k 1/2 ?"),
        ("cp1252", "-1 ± 2 ok sigma² µ log p(x|z) é L_k ½ ?"),
        ("utf-8", "−1 ± 2 ✓ σ² µ log p(x|z) é Lₖ ½ 漢"),
    ],
)
def test_what_an_encoding_lacks_is_written_in_ascii(monkeypatch, encoding, expected):
    """Kills a report that is lost on one of its signs, and a sign that becomes a question mark."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    prepare_streams()
    print("−1 ± 2 ✓ σ² µ log p(x|z) é Lₖ ½ 漢", end="", flush=True)
    assert raw.getvalue().decode(encoding) == expected


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_table_is_printed_in_any_encoding(encoding):
    """Kills exit 1 after the work is done, because of "−" or "✓"."""
    run = command("equations", "--model", "discrete", PYTHONIOENCODING=encoding)
    assert run.returncode == 0, run.stderr
    assert b"Eq." in run.stdout
    assert run.stderr == b""


@pytest.mark.parametrize("close", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_train_without_standard_streams_writes_its_results(tmp_path, close):
    """Kills a traceback at the end of a training, or a run without its summary."""
    run = command("train", "--output", tmp_path / "run", *SMALL, close=close)
    assert run.returncode == 0
    assert {"model.npz", "summary.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert b"Traceback" not in run.stderr


def test_a_closed_pipe_ends_the_command_without_a_traceback():
    """Kills a traceback, or a warning at exit, where `head` has read enough."""
    run = command("equations", close="| head -n 1")
    assert run.stderr == b""
    assert run.stdout.count(b"\n") == 1


def test_a_bare_machine(tmp_path):
    """Kills a need for HOME, a writable cache, a wide terminal, plain paths or assertions."""
    folder = tmp_path / "Läufe mit Leerzeichen"
    folder.mkdir()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    bare = {"HOME": "/nonexistent", "XDG_CACHE_HOME": str(locked), "MPLCONFIGDIR": str(locked)}
    run = command(
        "train", "--output", "Übung 1", *SMALL, python=["-O"], cwd=folder, COLUMNS="40", **bare
    )
    assert run.returncode == 0, run.stderr
    assert (folder / "Übung 1" / "summary.json").exists()
    assert "Written to Übung 1" in run.stdout.decode()


def test_a_missing_matplotlib_is_found_before_the_training(tmp_path, monkeypatch, capsys):
    """Kills an hour of training that ends with "No module named 'matplotlib'"."""
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "numpyvae.plot"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(numpyvae, "plotting", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["train", "--output", str(tmp_path / "run"), *SMALL]) == 1
    assert "matplotlib: expected it for the pictures" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# Signals.


def test_sigterm_raises_in_the_main_thread_and_is_set_back():
    """Kills a process that a cluster's signal ends at once, and a handler left behind."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
    in_threads(lambda: sigterm_interrupts().__enter__(), n=1, times=1)  # no error in a thread
