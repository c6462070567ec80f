"""Data-parallel training: the same bits for any number of ranks, and one voice.

The ranks of these tests are threads; `test_mpi.py` starts processes where there is an MPI.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from ranks import alone, on_ranks, results_of, rows

from numpyvae import VAE, Adam, EarlyStopping, Estimator, fit
from numpyvae.command import jobs, ranks
from numpyvae.command.cli import main
from numpyvae.command.settings import Settings
from numpyvae.estimators import (
    IWAE,
    SGVBB,
    STL,
    DataParallel,
    DReG,
    ScoreFunction,
    WakeSleep,
    WithWeightPrior,
)


@dataclass(frozen=True)
class Halved(Estimator):
    """An estimator of a user: half of the gradient."""

    def estimate(self, vae, x, eps, update="both"):
        estimate = super().estimate(vae, x, eps, update)
        estimate.gradient.flat[:] *= 0.5
        return estimate


ESTIMATORS = {
    "elbo": Estimator(n_samples=2),
    "beta": SGVBB(beta=0.5, kl_warmup=2),
    "iwae": IWAE(3),
    "dreg": DReG(3, n_samples=2),
    "stl": STL(),
    "leave-one-out": ScoreFunction("leave-one-out", n_samples=3),
    "prior": WithWeightPrior(DReG(2), n_data=21),
    "own": Halved(),
}
ONLY_BITS = {"free bits": SGVBB(free_bits=0.2), "wake-sleep": WakeSleep()}  # other objectives


def model(dtype="float32", seed=0):
    return VAE(6, 2, (5,), dtype=dtype, seed=seed)


def trained(estimator, comm, **more):
    """Train on 21 rows in batches of 8, 8 and 5, which is less than the number of shards."""
    vae = model()
    settings = {"epochs": 3, "batch_size": 8, "seed": 4} | more
    history = fit(vae, rows(21), estimator=DataParallel(estimator, comm), **settings)
    figures = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return vae.parameters.flat.tobytes(), figures, comm.sent


# The sum.


@pytest.mark.parametrize("name", [*ESTIMATORS, *ONLY_BITS])
def test_any_number_of_ranks_gives_the_same_bits(name):
    # kills: a sum in the order of the ranks, and floats that are left out of it
    estimator = (ESTIMATORS | ONLY_BITS)[name]
    more = {"x_valid": rows(5, seed=1)}
    found = [on_ranks(n, lambda comm: trained(estimator, comm, **more)) for n in (1, 2, 8)]
    expected = found[0][0][:2]
    assert all(result[:2] == expected for results in found for result in results)


@pytest.mark.parametrize("rows_of_batch", [23, 5])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_shards_add_up_to_the_estimate_of_the_batch(name, rows_of_batch):
    # kills: shards of equal weight, a shard that is left out, and a prior counted once per shard
    vae, estimator = model("float64"), ESTIMATORS[name].at(1)
    x = rows(rows_of_batch)
    eps = np.random.default_rng(0).standard_normal((estimator.n_draws, len(x), 2))
    expected = estimator(vae, x, eps)
    found = DataParallel(estimator, alone())(vae, x, eps)
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-12)
    scale = np.linalg.norm(expected.gradient.flat)
    np.testing.assert_allclose(
        found.gradient.flat, expected.gradient.flat, rtol=0, atol=1e-12 * scale
    )


@pytest.mark.parametrize("update", ["phi", "theta"])
def test_only_the_slice_that_moves_is_sent(update):
    # kills: the other slice, which moves or is not zero, and the gradients of all shards sent
    (_, _, sent), (flat, *_), *_ = on_ranks(
        4, lambda comm: trained(Estimator(), comm, update=update, epochs=1)
    )
    before, after = model().parameters, model().parameters
    after.flat[:] = np.frombuffer(flat, np.float32)
    other = "theta" if update == "phi" else "phi"
    np.testing.assert_array_equal(after.part(other), before.part(other))
    assert (after.part(update) != before.part(update)).any()
    assert sent == [32 + after.part(update).nbytes] * 2 * 3  # log2 4 messages in each of 3 steps


def test_a_warm_up_and_early_stopping_are_those_of_the_estimator():
    # kills: a warm-up that the wrapper hides, and ranks that stop at different epochs
    def stopped(comm):
        warm = SGVBB(kl_warmup=2)
        stops = [EarlyStopping(1)]
        more = {"callbacks": stops, "x_valid": rows(3, seed=2), "epochs": 30}
        more["optimizer"] = Adam(0.1)
        return trained(warm, comm, **more)[1]

    one, two = on_ranks(2, stopped)
    assert one == two
    assert [row["warm_up"] for row in one][:3] == [True, True, False]
    assert 3 < len(one) < 30


def test_settings_of_the_wrapped_estimator():
    # kills: noise of another shape than the estimator takes
    wrapped = DataParallel(DReG(5, n_samples=2), alone(), 4)
    assert (wrapped.n_samples, wrapped.n_importance, wrapped.n_draws) == (2, 5, 10)
    assert repr(wrapped) == "DataParallel(estimator=DReG(n_samples=2, n_importance=5), n_shards=4)"
    with pytest.raises(ValueError, match="multiple of K = 5"):
        wrapped(model(), rows(2), np.zeros((4, 2, 2)))


# Ranks that do not do the same.


def last_bit(vae, history, comm):
    if comm.rank == 1:
        flat = vae.parameters.flat
        flat[7] = np.nextafter(flat[7], np.float32(np.inf))


@pytest.mark.parametrize("what", ["seed", "noise", "rows", "last bit"])
def test_ranks_that_drift_apart_are_found(what):
    # kills: a rank with other parameters, noise or rows, whose gradient would be added up
    def work(comm):
        x = rows(24)
        more = {"seed": comm.rank if what in ("seed", "noise") else 0, "callbacks": []}
        more["batch_size"] = 24 if what == "noise" else 6  # all rows, in order
        if what == "rows":  # as other packages want it
            x = x[comm.rank :: 2]
        if what == "last bit":
            more["callbacks"] = [lambda vae, history: last_bit(vae, history, comm)]
        fit(model(), x, epochs=2, estimator=DataParallel(Estimator(), comm), **more)

    with pytest.raises(ValueError, match="same parameters and minibatch on all ranks, got others"):
        on_ranks(2, work)


def test_a_rank_that_mpi_has_lost_is_one_line():
    # kills: a traceback of the exception of mpi4py
    comm = alone(size=2)
    comm.world.failed.set()

    def lost(self):
        raise RuntimeError("MPI_ERR_PROC_FAILED:\n process failed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ranks.Request.Test", lost)
        with pytest.raises(ConnectionError, match=r"rank 1, got .*FAILED: process failed\)"):
            trained(Estimator(), comm)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((Estimator, alone()), TypeError, "estimator: expected"),
        ((Estimator(), 2), TypeError, "comm: expected a communicator of mpi4py, got 2"),
        ((Estimator(), alone(), 6), ValueError, "n_shards: expected a power of two, as 8, got 6"),
        ((Estimator(), alone(), 0), ValueError, "n_shards"),
        ((Estimator(), alone(size=3)), ValueError, "expected 1, 2, 4, … ranks, .* got 3"),
        ((Estimator(), alone(size=4), 2), ValueError, "at most the 2 shards, got 4"),
    ],
)
def test_bad_arguments_are_one_line(arguments, error, message):
    # kills: a shard that no rank computes
    with pytest.raises(error, match=message):
        DataParallel(*arguments)


def test_without_mpi4py_the_remedy_is_named(monkeypatch, capsys, tmp_path):
    # kills: a traceback of an import
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'pip install "numpyvae\[mpi\]"'):
        DataParallel(Estimator())
    assert main(["train", "--data-parallel", "--output", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("numpyvae: error: --data-parallel: DataParallel: expected mpi4py")
    assert list(tmp_path.iterdir()) == []


# The command.


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "pictures", lambda *_: None)
    np.save(tmp_path / "x.npy", rows(60))
    small = {"hidden": (3,), "latent_dim": 1, "eval_importance": 2, "batch_size": 20}
    data = {"dataset": str(tmp_path / "x.npy"), "validation": 0.1, "patience": 50}
    return Settings(**small, **data, epochs=4, data_parallel=8)


def run_of(settings, folder, comm):
    """Train as rank 0 or as another one."""
    if comm.rank == 0:
        return jobs.train(settings, folder, comm=comm)
    return jobs.follow(comm)


def test_a_run_has_the_same_files_on_any_number_of_ranks(settings, tmp_path):
    # kills: a file that depends on the number of ranks, and a second rank that writes
    for n in (1, 2):
        results = on_ranks(n, lambda comm: run_of(settings, tmp_path / f"{comm.world.size}", comm))
        assert results[1:] == [None] * (n - 1)
    assert results_of(tmp_path / "1") == results_of(tmp_path / "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "x.npy"]


def test_a_run_goes_on_with_another_number_of_ranks(settings, tmp_path, monkeypatch):
    # kills: a history that rank 0 alone has, and bits that depend on the number of ranks
    on_ranks(1, lambda comm: run_of(settings, tmp_path / "whole", comm))

    def stop(self, epochs):
        if 2 <= epochs < np.inf:
            raise KeyboardInterrupt
        return self

    with monkeypatch.context() as patch:
        patch.setattr(DataParallel, "at", stop)
        with pytest.raises(KeyboardInterrupt, match=r"2 of 4 epochs .*--resume"):
            on_ranks(1, lambda comm: run_of(settings, tmp_path / "run", comm))

    def go_on(comm):
        if comm.rank == 0:
            return jobs.resume(tmp_path / "run", {"data_parallel": 8}, comm=comm)
        return jobs.follow(comm)

    on_ranks(4, go_on)
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


def test_a_rank_with_other_data_is_found(settings, tmp_path, monkeypatch):
    # kills: a file that is another one on another machine
    received = ranks.received
    monkeypatch.setattr(ranks, "received", lambda comm: (received(comm)[0], "other", None))
    with pytest.raises(ValueError, match="the data of rank 0, got others on rank 1"):
        on_ranks(2, lambda comm: run_of(settings, tmp_path / "run", comm))


def test_ranks_without_the_option_are_refused(settings, tmp_path):
    # kills: ranks that wait for a rank 0 that trains alone
    plain = Settings(dataset=settings.dataset)
    with pytest.raises(ValueError, match="--data-parallel: expected it with 2 ranks, got none"):
        on_ranks(2, lambda comm: run_of(plain, tmp_path / "run", comm))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(ranks, "_GRACE", 0.0)


@pytest.mark.parametrize(
    ("rank", "says"), [(0, "numpyvae: error"), (1, "numpyvae: rank 1: error")]
)
def test_a_failure_ends_all_ranks_and_names_its_own(rank, says, quick, capsys):
    # kills: ranks that wait for one that has ended, and a silent rank that alone fails
    def work():
        print("numpyvae: error: no memory", file=sys.stderr)
        return 1

    comm = alone(rank, 2)
    assert ranks.together(comm, work) == comm.aborted == 1
    assert capsys.readouterr().err == f"{says}: no memory\n"


def test_a_bug_on_a_rank_ends_all_of_them(quick, capsys):
    # kills: a traceback that is lost, and ranks that wait forever
    comm = alone(1, 2)
    assert ranks.together(comm, lambda: 1 // 0) == comm.aborted == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_only_rank_0_prints(capsys):
    # kills: each line once for every rank
    def work(comm):
        return ranks.together(comm, lambda: print(f"rank {comm.rank}") or 0)

    comm = alone(1, 1)
    assert work(comm) == 0
    assert capsys.readouterr().out == ""
    assert work(alone()) == 0
    assert capsys.readouterr().out == "rank 0\n"


def test_separate_processes_are_found(monkeypatch, capsys):
    # kills: two runs in one folder where mpi4py has another MPI than mpiexec
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    comm = alone()
    assert ranks.together(comm, lambda: pytest.fail("it works")) == 1
    assert comm.aborted is None  # kills: an abort of the process that has called `main`
    assert "expected 2 ranks, as it was told" in capsys.readouterr().err


def test_a_finished_run_dismisses_the_other_ranks(settings, tmp_path, monkeypatch, capsys):
    # kills: ranks that wait for a run that does not come
    jobs.train(settings, tmp_path / "run", comm=alone())
    comms = []

    def work(comm):
        comms.append(comm)
        if comm.rank == 1:
            return jobs.follow(comm)
        with monkeypatch.context() as patch:
            patch.setattr(ranks, "world", lambda: comm)
            words = ["train", "--data-parallel", "--resume", str(tmp_path / "run")]
            comm.Ibarrier()
            return main(words)

    assert sorted(on_ranks(2, work), key=str) == [0, None]
    assert "there is nothing to do" in capsys.readouterr().err
