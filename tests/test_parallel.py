"""Work on several cores: the same bits for any number of cores, errors, and interrupts."""

import os
import signal
import threading
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from threadpoolctl import threadpool_info, threadpool_limits

from numpyvae import VAE, mean_terms
from numpyvae.bounds import (
    annealed_log_likelihood,
    compare_bounds,
    cubo,
    eubo,
    fitted_log_likelihood,
    importance_curve,
)
from numpyvae.bounds import importance_log_likelihood as importance
from numpyvae.core.likelihoods import Bernoulli
from numpyvae.diagnostics import rate_distortion
from numpyvae.inference import variational_inference
from numpyvae.support.packing import pack, pack_blocks, run_packed
from numpyvae.support.parallel import map_rows

BOUNDS = {
    "importance": lambda vae, x, n: importance(vae, x, 30, n_jobs=n),
    "curve": lambda vae, x, n: importance_curve(vae, x, 30, n_jobs=n).values,
    "cubo": lambda vae, x, n: cubo(vae, x, 30, n_jobs=n),
    "annealed": lambda vae, x, n: annealed_log_likelihood(vae, x, 5, 20, n_jobs=n).log_lower,
    "eubo": lambda vae, x, n: eubo(vae, x, draws(x), memory=1, n_jobs=n),
    "appendix D": lambda vae, x, n: (
        fitted_log_likelihood(vae, x[:40], 4, 4, n_burn=5, memory=2, n_jobs=n).log_likelihood
    ),
    "mean ELBO": lambda vae, x, n: np.array(mean_terms(vae, np.tile(x, (9, 1)), n_jobs=n)),
    "rate": lambda vae, x, n: np.array(rate_distortion(vae, x, memory=2, n_jobs=n).rate),
    "own q": lambda vae, x, n: variational_inference(vae, x, max_iterations=2, n_jobs=n).logvar,
    "compared": lambda vae, x, n: (
        compare_bounds(vae, x, ["elbo"], memory=2, n_jobs=n).estimates["elbo"].values
    ),
}


def draws(x):
    """Draws of z (L, N, J), whose values are of no importance here."""
    return np.random.default_rng(1).standard_normal((3, len(x), 3))


def case(n=130, data_dim=300):
    vae = VAE(data_dim, 3, (40,))
    return vae, np.random.default_rng(0).integers(0, 2, (n, data_dim)).astype("float32")


def quiet(note, steps=1):
    """Show no progress."""


def over_numbers(work, n, n_jobs):
    """Call work(i, advance) for i = 0 … n − 1, each one a block of its own."""
    return map_rows(
        lambda rows, advance: work(int(rows[0]), advance),
        [slice(i, i + 1) for i in range(n)],
        [np.arange(n)],
        n_jobs,
        quiet,
    )


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_number_of_workers_changes_no_bit(bound):
    # kills: a stream shared by workers, pieces cut by n_jobs, results put in order of arrival
    vae, x = case()
    alone = BOUNDS[bound](vae, x, 1)
    for n_jobs in (2, 3, 50, None):
        assert np.array_equal(BOUNDS[bound](vae, x, n_jobs), alone)


def test_workers_run_at_the_same_time():
    # kills: a pool of one; here each task waits until the other has started
    meet = threading.Barrier(2, timeout=20)
    over_numbers(lambda task, advance: meet.wait(), 2, 2)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_each_worker_has_one_blas_thread(n_jobs):
    # kills: products that BLAS shares out, whose bits depend on its threads
    found = []
    with threadpool_limits(2, "blas"):
        before = threadpool_info()
        over_numbers(lambda task, advance: found.extend(threadpool_info()), 2, n_jobs)
        assert threadpool_info() == before
    assert {pool["num_threads"] for pool in found if pool["user_api"] == "blas"} == {1}


def test_settings_of_the_caller_apply_in_the_workers():
    # kills: a warning of overflow in a thread where the caller has silenced it
    with np.errstate(over="ignore"):
        over_numbers(lambda task, advance: np.float32(3e38) * np.float32(3e38), 2, 2)


@pytest.fixture
def endless():
    """Work until an exception is raised from outside, at most 20 s; say if none was raised."""
    forgotten, before = [], threading.active_count()

    def work(task, advance):
        for _ in range(2000):
            time.sleep(0.01)
            advance("")
        forgotten.append(task)

    yield work
    assert forgotten == []
    for _ in range(500):  # the threads of the pool end after their last task
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_an_error_ends_the_other_workers(endless):
    # kills: workers that run on to their end after one has failed, and an error that is lost
    def work(task, advance):
        if task == 0:
            raise FloatingPointError("first")
        endless(task, advance)

    with pytest.raises(FloatingPointError, match="first"):
        over_numbers(work, 9, 2)


def test_ctrl_c_ends_the_workers(endless):
    # kills: an interrupt that waits for the work, or leaves threads behind
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            over_numbers(endless, 4, 2)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("n_jobs", "error"), [(0, ValueError), (False, TypeError), (1.5, TypeError), ("2", TypeError)]
)
@pytest.mark.parametrize("bound", BOUNDS)
def test_n_jobs_that_is_not_a_count_gets_one_line(bound, n_jobs, error):
    # kills: n_jobs that reaches joblib, whose message names neither the argument nor a remedy
    line = r"^n_jobs: expected a whole number of at least 1, or -1 for all cores, got .*$"
    with pytest.raises(error, match=line):
        BOUNDS[bound](*case(2, 4), n_jobs)


def test_memory_is_that_of_the_workers_alone():
    # kills: pieces of all tasks kept until the end
    vae, x = case(400)
    importance(vae, x[:40], 50, n_jobs=2)
    peaks = []
    for n, n_jobs in ((100, 1), (400, 2)):  # two workers may or may not work at the same time
        tracemalloc.start()
        try:
            importance(vae, x[:n], 200, n_jobs=n_jobs)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 2 * 1.25 * peaks[0]


def one_task(vae, x):
    """A bound whose rows are split into several tasks."""
    return importance(vae, x, 4)


def test_joblib_says_how_many_work_where_n_jobs_does_not():
    # kills: a context of joblib that is ignored, and a worker that is shared out again
    x, found = case(60, 8)[1], []
    work = lambda rows, advance: found.append(threading.get_ident())  # noqa: E731
    with parallel_config(n_jobs=1):
        map_rows(work, [slice(0, 1), slice(1, 2)], [x], None, quiet)
    assert set(found) == {threading.get_ident()}
    meet = threading.Barrier(2, timeout=20)
    with parallel_config(n_jobs=2):
        over_numbers(lambda task, advance: meet.wait(), 2, None)


@pytest.fixture(scope="module")
def processes():
    """A context of two worker processes, which end after the tests."""
    from joblib.externals.loky import get_reusable_executor

    with parallel_config(backend="loky", n_jobs=2):
        yield
    get_reusable_executor().shutdown(wait=True)


def steep():
    """A likelihood of the user's own, which the workers cannot import."""

    class Steep(Bernoulli):
        def log_prob(self, x, out, parameters):
            return super().log_prob(x, 2 * out, parameters)

    return Steep()


@pytest.mark.parametrize("likelihood", ["bernoulli", "own"])
def test_processes_find_the_same_bits(processes, likelihood):
    # kills: a model that is rounded on the way, BLAS threads in the workers, and likelihoods of
    # the user's own that cannot be sent
    vae = VAE(64, 3, (40,), likelihood=steep() if likelihood == "own" else likelihood)
    x = case(70, 64)[1]
    with parallel_config(backend="threading", n_jobs=1):
        alone = one_task(vae, x)
    assert np.array_equal(one_task(vae, x), alone)
    assert np.array_equal(one_task(vae, np.asfortranarray(x)), alone)


def task_of_a_worker(folder, rows, *, advance):
    """End the worker at the first row, the first time or always, as the lack of memory does."""
    died = Path(folder, "died")
    if rows[0] == 0 and not died.exists():
        if Path(folder).name == "once":
            died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    advance("moves")
    advance("more moves")
    return int(rows.sum())


@pytest.mark.parametrize("how_often", ["once", "always"])
def test_a_worker_that_dies_loses_nothing(how_often, tmp_path, processes):
    # kills: an endless wait, results of the lost tasks that are missing or in another order, and
    # progress that is not counted
    folder, shown = tmp_path / how_often, []
    folder.mkdir()

    def run():
        return map_rows(
            partial(task_of_a_worker, folder),
            [slice(i, i + 1) for i in range(5)],
            [np.arange(5)],
            None,
            lambda note, steps=1: shown.append((note, steps)),
        )

    if how_often == "always":
        with pytest.raises(ChildProcessError, match=r"^expected worker processes .* memory$"):
            run()
    else:
        assert run() == list(range(5))
        assert shown == [("more moves", 2)] * 5


def test_what_cannot_be_sent_gets_one_line(processes):
    # kills: an error of pickle, which tells neither the cause nor the remedy
    vae, x = case(60, 8)
    vae.lock = threading.Lock()
    line = r"^n_jobs: expected a model that can be pickled.*_thread.lock.*; use threads, the .*$"
    with pytest.raises(TypeError, match=line):
        one_task(vae, x)


def test_errors_of_a_worker_arrive_as_they_are(processes):
    # kills: an error wrapped in one of joblib, which the command does not know
    vae, x = case(60, 8)
    with pytest.raises(FloatingPointError, match=r"^expected log importance weights"):
        one_task(vae.with_flat(vae.parameters.flat * np.nan), x)


def test_a_model_is_sent_once():
    # kills: the model in every task
    vae = VAE(64, 3, (400,))
    model, rows = len(pack(vae)), len(pack_blocks([np.zeros((20, 64), "float32")]))
    assert model > vae.parameters.flat.nbytes > 10 * rows


def surroundings(rows, *, advance):
    """What a task finds: the BLAS threads and the settings for floating-point errors."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {pool["num_threads"] for pool in pools}, np.geterr()["over"], rows.flags.aligned


def test_a_task_in_another_process_works_as_one_of_a_thread():
    # kills: BLAS threads in a worker, and settings of the caller that do not go with the task
    with np.errstate(over="raise"):
        blocks = pack_blocks([np.arange(3.0)])
    with threadpool_limits(2, "blas"):
        before = threadpool_info()
        found, note, steps = run_packed("one", pack(surroundings), blocks)
        assert threadpool_info() == before
    assert found == ({1}, "raise", True)
    assert (note, steps) == ("", 0)
    # kills: work of an earlier map that is taken for this one
    assert run_packed("two", pack(partial(one_row_of, 2)), blocks)[0] == 2.0


def one_row_of(i, rows, *, advance):
    return float(rows[i])
