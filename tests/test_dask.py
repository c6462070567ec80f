"""Work on a Dask cluster of this machine: the same bits, workers that die, the command."""

import json
import os
import signal
import sys
import time

import numpy as np
import pytest

from numpyvae import VAE
from numpyvae.bounds import annealed_log_likelihood
from numpyvae.command import workers
from numpyvae.command.cli import main
from numpyvae.support import cluster
from numpyvae.support.parallel import map_rows

distributed = pytest.importorskip("distributed", reason="needs the extra dask")
joblib = pytest.importorskip("joblib")

pytestmark = pytest.mark.filterwarnings("default")  # those of Dask are not ours


SETTINGS = {
    "host": "127.0.0.1",
    "dashboard_address": ":0",
    "silence_logs": 50,
    "threads_per_worker": 1,
}


def _client(local):
    """A client that is not the default one: several may be open at the same time."""
    return distributed.Client(local, set_as_default=False)


@pytest.fixture(scope="module")
def two_workers():
    """A client of two worker processes on the loopback interface."""
    with (
        distributed.LocalCluster(n_workers=2, **SETTINGS) as local,
        _client(local) as c,
    ):
        c.cluster_of_test = local
        yield c


@pytest.fixture
def on_dask(two_workers):
    with joblib.parallel_config(backend="dask", client=two_workers):
        yield two_workers


def annealed(vae, x, **settings):
    return annealed_log_likelihood(vae, x, 20, 4, memory=0.2, **settings).log_lower


def case():
    vae = VAE(64, 3, (40,))
    return vae, np.random.default_rng(0).integers(0, 2, (60, 64)).astype("float32")


@pytest.mark.parametrize("n_jobs", [None, 1, -1])
def test_a_cluster_finds_the_same_bits(on_dask, n_jobs):
    # kills: results in the order of arrival, rows that are lost between two submissions, and
    # arrays at odd addresses, as Dask makes them of what one worker sends to another
    vae, x = case()
    with joblib.parallel_config(backend="threading", n_jobs=1):
        alone = annealed(vae, x)
    assert np.array_equal(annealed(vae, x, n_jobs=n_jobs), alone)


def slow(rows, *, advance):
    """A task that takes a while, so that a worker can be killed in it."""
    time.sleep(0.05)
    advance(str(os.getpid()))
    return 2 * rows


def over_rows(work, advance=lambda note, steps=1: None):
    blocks = [slice(i, i + 1) for i in range(12)]
    return map_rows(work, blocks, [np.arange(12)], None, advance)


def test_a_killed_worker_changes_no_result(on_dask):
    # kills: a model that is lost with the worker that has it, and an endless wait for its tasks
    shown = []

    def advance(note, steps=1):
        if not shown:  # the first worker that is done has the model
            os.kill(int(note), signal.SIGKILL)
        shown.append(steps)

    assert over_rows(slow, advance) == [2 * i for i in range(12)]
    assert shown == [1] * 12


def test_a_cluster_without_workers_gets_one_line(monkeypatch):
    # kills: an endless wait for the first worker
    monkeypatch.setattr(cluster, "_PATIENCE", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, **SETTINGS) as local,
        _client(local) as client,
        joblib.parallel_config(backend="dask", client=client),
        pytest.raises(
            ChildProcessError, match=r"expected a Dask worker, got none for 0.2 seconds"
        ),
    ):
        over_rows(slow)


def nested(rows, *, advance):
    """A parallel map inside a task, in the context that joblib's own tasks have."""
    with joblib.parallel_config(backend="dask"):
        return over_rows(slow)[int(rows[0])]


def test_a_map_inside_a_task_does_not_wait_for_the_cluster(on_dask):
    # kills: tasks that fill all workers and wait for tasks of their own
    assert over_rows(nested) == [2 * i for i in range(12)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    small = ["--epochs", "1", "--hidden", "16", "--eval-importance", "5", "--test-rows", "40"]
    assert main(["train", "--output", str(folder), *small]) == 0
    return folder


def evaluated(run, capsys, *options):
    code = main(["evaluate", str(run), "--json", "--n-importance", "30", *options])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_finds_the_same_figures_on_each_backend(run, two_workers, capsys):
    # kills: a backend that the command does not pass on, and bits that depend on it
    address = two_workers.scheduler.address
    alone = evaluated(run, capsys, "--n-jobs", "1")
    assert (alone[0], json.loads(alone[1])["test_rows"]) == (0, 40)
    for options in (
        ["--n-jobs", "2"],
        ["--n-jobs", "2", "--backend", "processes"],
        ["--backend", "dask", "--scheduler", address],
        ["--backend", "dask", "--scheduler", address, "--n-jobs", "1"],
    ):
        assert evaluated(run, capsys, *options) == alone


def test_errors_of_the_cluster_are_one_line(run, two_workers, capsys, monkeypatch):
    # kills: tracebacks, endless waits, and figures from workers with other versions
    address = two_workers.scheduler.address
    monkeypatch.setattr(workers, "_PATIENCE", 1)
    dask = "--backend", "dask", "--scheduler"
    for options, code, words in (
        (dask[:2], 2, "--backend dask: expected together with --scheduler ADDRESS, got none"),
        ((dask[2], address), 2, "--scheduler: expected --backend dask, got none"),
        ((*dask, "no-port"), 1, "expected an address as tcp://127.0.0.1:8786, got 'no-port'"),
        ((*dask, "tcp://127.0.0.1:1"), 1, "where none answers within 1 seconds"),
    ):
        found, _, err = evaluated(run, capsys, *options)
        assert (found, err.count("\n")) == (code, 1), err
        assert words in err
    monkeypatch.setattr(workers, "__version__", "0.0.1")  # here, not in the workers
    code, _, err = evaluated(run, capsys, *dask, address)
    assert (code, err.count("\n")) == (1, 1)
    assert "numpyvae 0.0.1 on each worker, got Python" in err


def test_without_dask_the_command_says_what_to_install(run, capsys, monkeypatch):
    # kills: a ModuleNotFoundError that does not name the extra
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = evaluated(run, capsys, "--backend", "dask", "--scheduler", "tcp://127.0.0.1:1")
    assert (code, err.count("\n")) == (1, 1)
    assert "pip install 'numpyvae[dask]'" in err


def deadly(rows, *, advance):
    """A task that ends its worker, as the lack of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_ends_every_worker_gets_one_line(on_dask, monkeypatch):
    # kills: the endless wait of joblib's own backend for such a task
    monkeypatch.setattr(on_dask.cluster_of_test.scheduler, "allowed_failures", 0)
    with pytest.raises(ChildProcessError, match=r"^expected workers that finish their work, got"):
        over_rows(deadly)
