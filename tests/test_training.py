"""`fit`: parameters, counts, random draws, and the state after a failure."""

import csv
import math
import re
import sys
import tracemalloc
import types
from itertools import chain, pairwise

import numpy as np
import pytest

from numpyvae import (
    VAE,
    EarlyStopping,
    History,
    NonFiniteError,
    Progress,
    cosine_schedule,
    elbo,
    fit,
    mean_terms,
)
from numpyvae.core import training
from numpyvae.core.optimizers import OPTIMIZERS, SGD, Adam
from numpyvae.datasets import binarize
from numpyvae.estimators import ESTIMATORS, SGVBA, SGVBB, DReG, make_estimator
from numpyvae.support.fit_checks import check_fit_data
from numpyvae.support.streams import Purpose

STILL = SGD(1e-30)  # a learning rate so small that nothing changes


def grays(n=60, d=6, seed=0):
    """Probabilities in (0, 1), (n, d), no two rows alike."""
    return np.random.default_rng(seed).random((n, d))


def bits(n=60, d=6, seed=0):
    """Zeros and ones, (n, d)."""
    return np.where(grays(n, d, seed) < 0.4, 1.0, 0.0)


def small(dtype="float64", **settings):
    return VAE(6, 2, (5,), dtype=dtype, seed=3, **settings)


def noiseless(vae):
    """Let σ be e^−40 for every x, so that z = μ to the last bit and ε plays no part."""
    J = vae.latent_dim
    last = vae.parameters.encoder[-1]
    last[0][:, J:] = 0.0
    last[1][J:] = -80.0
    return vae


def but_times(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def test_one_step_worked_by_hand():
    """Kills a wrong sign, a wrong factor and a gradient added to the wrong place.

    D = J = 1, no hidden layer, p(x|z) = N(x; 2z + 1, 1), x = 2:

        μ = ½·2 = 1,  log σ² = −80, so z = μ = 1,  decoded mean 2·1 + 1 = 3
        log p(x|z) = −½ log 2π − ½ (2 − 3)²,  KL = ½ (1² + e^−80 − 1 + 80) = 40

        ∂/∂mean = 2 − 3 = −1     ∂/∂W = z·(−1) = −1        ∂/∂b = −1
        ∂/∂z = 2·(−1) = −2       ∂/∂μ = −2 − μ = −3        ∂/∂log σ² = −½ (e^−80 − 1) = ½
        ∂/∂W_μ = x·(−3) = −6     ∂/∂W_log σ² = x·½ = 1     and −3, ½ for their biases

    With the step 0.1 times the gradient:
    """
    vae = VAE(1, 1, (), likelihood="gaussian:1", dtype="float64")
    p = vae.parameters
    p["encoder.W0"][:], p["encoder.b0"][:] = [[0.5, 0.0]], [0.0, -80.0]
    p["decoder.W0"][:], p["decoder.b0"][:] = [[2.0]], [1.0]

    history = fit(vae, [[2.0]], epochs=1, optimizer=SGD(0.1))

    np.testing.assert_allclose(p["encoder.W0"], [[0.5 - 0.6, 0.0 + 0.1]], rtol=1e-14)
    np.testing.assert_allclose(p["encoder.b0"], [0.0 - 0.3, -80.0 + 0.05], rtol=1e-14)
    np.testing.assert_allclose(p["decoder.W0"], [[2.0 - 0.1]], rtol=1e-14)
    np.testing.assert_allclose(p["decoder.b0"], [1.0 - 0.1], rtol=1e-14)
    (row,) = history.rows
    assert row["reconstruction"] == pytest.approx(-0.5 * math.log(2 * math.pi) - 0.5, rel=1e-14)
    assert row["kl"] == pytest.approx(40.0, rel=1e-14)
    assert row["elbo"] == pytest.approx(row["reconstruction"] - 40.0, rel=1e-14)
    norm = math.sqrt(6**2 + 1**2 + 3**2 + 0.5**2 + 1**2 + 1**2)
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-14)


@pytest.mark.parametrize("estimator", [SGVBB(n_samples=3), SGVBA(n_samples=3)], ids=repr)
def test_a_step_is_the_gradient_at_the_documented_noise(estimator):
    """Kills `n_samples` or `estimator` that is ignored, and noise of another stream."""
    vae, x = small(), bits(9)
    before = vae.parameters.flat.copy()
    eps = noise_of_epoch(1, 3, 9)
    expected = estimator(vae, x, eps)
    history = fit(vae, x, epochs=1, optimizer=SGD(1.0), estimator=estimator, seed=5)
    moved = vae.parameters.flat - before
    np.testing.assert_allclose(moved, expected.gradient.flat, rtol=1e-10, atol=1e-13)
    assert history["objective"][0] == pytest.approx(expected.objective, rel=1e-12)


def noise_of_epoch(epoch, draws, rows):
    stream = np.random.SeedSequence([5, Purpose.NOISE, epoch])
    return np.random.default_rng(stream).standard_normal((draws, rows, 2))


@pytest.mark.parametrize("update", ["both", "phi", "theta"])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_step_is_that_of_the_estimator(name, update):
    """Kills an estimator, K, L, β or λ that is ignored, and terms that are exchanged."""
    vae, x, L = small(), bits(9), 2
    settings = {"sgvb-b": {"beta": 2.0, "free_bits": 0.1}}
    settings |= {key: {"n_importance": 3} for key in ("iwae", "stl-iwae", "dreg")}
    estimator = make_estimator(name, n_samples=L, **settings.get(name, {}))
    expected = estimator(vae, x, noise_of_epoch(1, estimator.n_draws, 9), update)
    before = vae.parameters.flat.copy()
    history = fit(vae, x, epochs=1, optimizer=SGD(1.0), seed=5, update=update, estimator=estimator)
    moved = vae.parameters.flat - before
    np.testing.assert_allclose(moved, expected.gradient.flat, rtol=1e-9, atol=1e-12)
    for column in ("objective", "reconstruction", "kl", "elbo"):
        assert history[column][0] == pytest.approx(getattr(expected, column), rel=1e-12)


def test_an_estimator_made_by_name_is_the_object():
    """Kills a setting that `make_estimator` loses."""
    by_name, by_object = small(), small()
    fit(by_name, bits(9), epochs=2, estimator=make_estimator("dreg", n_importance=4))
    fit(by_object, bits(9), epochs=2, estimator=DReG(4))
    assert np.array_equal(by_name.parameters.flat, by_object.parameters.flat)


@pytest.mark.parametrize("wrong", ["dreg", DReG, ESTIMATORS], ids=["text", "class", "dict"])
def test_the_error_for_an_estimator_name_gives_the_remedy(wrong):
    """Kills a name that is accepted as an estimator, and a class used as its object."""
    with pytest.raises(TypeError, match=r"^estimator: expected an Estimator.*make_estimator"):
        fit(small(), bits(9), epochs=1, estimator=wrong)


def test_warm_up_raises_beta_step_by_step_and_history_keeps_the_true_elbo():
    """Kills a warm-up by whole epochs, one that overshoots or starts anew when resumed."""
    vae, x = small(), np.repeat(bits(1), 10, axis=0)  # rows with one and the same KL

    def weights(history):
        return (history["reconstruction"] - history["objective"]) / history["kl"]

    estimator = SGVBB(beta=4.0, kl_warmup=2.0)
    settings = {"batch_size": 5, "optimizer": SGD(1e-9), "estimator": estimator, "seed": 5}
    history = fit(vae, x, epochs=2, **settings)
    history = fit(vae, x, epochs=2, resume=history, **settings)
    # Two steps an epoch, at 0 and ½, 1 and 1½ epochs done; from 2 on β is 4.
    np.testing.assert_allclose(weights(history), [0.5 * (0 + 1), 0.5 * (2 + 3), 4, 4], rtol=1e-6)
    np.testing.assert_allclose(history["elbo"], history["reconstruction"] - history["kl"])
    assert history["warm_up"].tolist() == [True, True, False, False]


def test_warm_up_needs_an_estimator_with_a_weight():
    with pytest.raises(ValueError, match=r"kl_warmup: expected .*sgvb-b.*got dreg"):
        make_estimator("dreg", kl_warmup=2)


# The parameters that change.


@pytest.mark.parametrize("update", ["both", "phi", "theta"])
def test_update_changes_only_its_slice(update):
    """Kills a step on the wrong slice, and a slice that gets another gradient than in `both`."""
    vae, reference, start = small(), small(), small()
    fit(vae, bits(), epochs=1, batch_size=60, optimizer=SGD(0.1), update=update)
    fit(reference, bits(), epochs=1, batch_size=60, optimizer=SGD(0.1))
    for name in ("phi", "theta"):
        moves = update in ("both", name)
        expected = getattr((reference if moves else start).parameters, name)
        assert getattr(vae.parameters, name).tobytes() == expected.tobytes()
    assert not np.any(reference.parameters.phi == start.parameters.phi)
    assert not np.any(reference.parameters.theta == start.parameters.theta)


def test_many_steps_in_one_slice_leave_the_other_untouched():
    """Kills optimizer state of one slice that changes the other."""
    for update, other in (("phi", "theta"), ("theta", "phi")):
        vae, start = small(), small()
        history = fit(vae, bits(), epochs=3, batch_size=7, update=update)
        unmoved = getattr(vae.parameters, other)
        assert unmoved.tobytes() == getattr(start.parameters, other).tobytes()
        moved = getattr(vae.parameters, update)
        assert np.all(moved != getattr(start.parameters, update))
        assert history.optimizer_state["m"].shape == moved.shape


# Averages and counts.


def test_short_last_batch_counts_by_its_size():
    """Kills the mean over batches: 3 + 3 + 1 rows are not three equal thirds."""
    vae, x = noiseless(small()), bits(7)
    vae.parameters["decoder.b1"][:] = np.linspace(-4, 4, 6)  # rows of very different ELBO
    rows = elbo(vae, x, np.zeros((1, 7, 2)))
    history = fit(vae, x, epochs=1, batch_size=3, optimizer=STILL)
    assert history["elbo"][0] == pytest.approx(rows.mean(), rel=1e-12)
    assert history["reconstruction"][0] - history["kl"][0] == pytest.approx(rows.mean(), rel=1e-12)


def test_each_epoch_uses_each_row_once_in_a_new_order():
    """Kills draws with replacement, a dropped last batch and one order for all epochs."""
    x = np.arange(23.0)[:, None] * np.ones(6)
    seen = []

    def watch(rows, rng):
        seen.append(rows[:, 0].astype(int).tolist())
        return rows

    fit(small(likelihood="gaussian"), x, epochs=2, batch_size=5, transform=watch, optimizer=STILL)
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 3] * 2
    for epoch in (seen[:5], seen[5:]):
        assert sorted(chain.from_iterable(epoch)) == list(range(23))
    assert seen[:5] != seen[5:]


# Random draws: a run is determined by its seed.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_seed_same_bytes(dtype, tmp_path):
    """Kills any draw or order that is not determined by the seed."""

    def run(name, seed):
        vae = small(dtype)
        history = fit(
            vae, grays(), epochs=3, batch_size=25, transform=binarize, x_valid=bits(8), seed=seed
        )
        vae.save(tmp_path / f"{name}.npz")
        history.to_csv(tmp_path / f"{name}.csv")
        with open(tmp_path / f"{name}.csv", newline="") as file:
            columns = [row[:-1] for row in csv.reader(file)]
        return vae, history, (tmp_path / f"{name}.npz").read_bytes(), columns

    vae, history, model, columns = run("a", 7)
    twin, again, same_model, same_columns = run("b", 7)
    assert vae.parameters.flat.tobytes() == twin.parameters.flat.tobytes()
    assert but_times(history) == but_times(again)
    assert model == same_model
    assert columns == same_columns
    assert columns[0][0] == "epoch"
    other, different, *_ = run("c", 8)
    assert not np.array_equal(vae.parameters.flat, other.parameters.flat)
    assert not np.any(history["elbo"] == different["elbo"])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_resumed_run_is_the_uninterrupted_run(name, tmp_path):
    """Kills lost optimizer state, a restarted epoch count and a schedule that starts again."""
    settings = {
        "batch_size": 25,
        "optimizer": OPTIMIZERS[name](1e-3),
        "schedule": cosine_schedule(5),
        "transform": binarize,
        "x_valid": bits(8),
        "seed": 11,
    }
    whole = small("float32")
    expected = fit(whole, grays(), epochs=5, **settings)

    half = small("float32")
    first = fit(half, grays(), epochs=2, **settings)
    half.save(tmp_path / "model.npz")
    np.savez(tmp_path / "state.npz", **first.optimizer_state)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        state = dict(file)
    restored = VAE.load(tmp_path / "model.npz")
    history = fit(restored, grays(), epochs=3, resume=History(first.rows, state), **settings)

    assert restored.parameters.flat.tobytes() == whole.parameters.flat.tobytes()
    assert but_times(history) == but_times(expected)
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history.optimizer_state.keys() == expected.optimizer_state.keys()
    for slot, array in expected.optimizer_state.items():
        assert history.optimizer_state[slot].tobytes() == array.tobytes()
        assert history.optimizer_state[slot].dtype == array.dtype


def test_resume_leaves_the_earlier_history_as_it_was():
    """Kills an appended list or a moved state shared by two histories."""
    vae = small()
    first = fit(vae, bits(), epochs=2)
    rows, state = but_times(first), {k: v.copy() for k, v in first.optimizer_state.items()}
    fit(vae, bits(), epochs=1, resume=first)
    assert but_times(first) == rows
    assert all(np.array_equal(first.optimizer_state[k], v) for k, v in state.items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"optimizer": "adam"}, {"optimizer": "momentum"}),
        ({"optimizer": "adagrad"}, {"optimizer": "rmsprop"}),
        ({"update": "phi"}, {"update": "both"}),
    ],
)
def test_resume_refuses_the_state_of_another_optimizer(before, after):
    """Kills a state read under another meaning: Adagrad's sum is not RMSProp's mean."""
    vae = small()
    history = fit(vae, bits(), epochs=1, **before)
    flat = vae.parameters.flat.copy()
    with pytest.raises(ValueError, match=r"^resume: expected .* got "):
        fit(vae, bits(), epochs=1, resume=history, **after)
    assert np.array_equal(vae.parameters.flat, flat)


def test_transform_draws_afresh_in_each_epoch_and_reproducibly():
    """Kills a binarization drawn once, drawn without the seed, or tied to the noise."""
    x = grays(50)

    def run(seed):
        draws = []

        def keep(rows, rng):
            draws.append(binarize(rows, rng))
            return draws[-1]

        fit(small(), x, epochs=40, batch_size=50, transform=keep, optimizer=STILL, seed=seed)
        return np.array(draws)  # (epochs, N, D); one batch contains all rows, in their order

    draws = run(0)
    assert all(not np.array_equal(a, b) for a, b in pairwise(draws))
    assert np.array_equal(draws, run(0))
    assert not np.array_equal(draws, run(1))
    z = (draws.mean(axis=0) - x) / np.sqrt(x * (1 - x) / len(draws))
    assert abs(z.mean()) * math.sqrt(z.size) < 5  # the mean draw is the gray
    assert 0.8 < z.var() < 1.2  # and draws of different epochs are independent


def test_the_model_gets_what_transform_returns():
    """Kills a result that is thrown away, and a transform that shifts the other streams."""
    plain, transformed = small(), small()
    expected = fit(plain, np.ones((30, 6)), epochs=2, batch_size=12)
    history = fit(
        transformed, grays(30), epochs=2, batch_size=12, transform=lambda x, rng: np.ones_like(x)
    )
    assert plain.parameters.flat.tobytes() == transformed.parameters.flat.tobytes()
    assert but_times(history) == but_times(expected)


def test_transform_in_place_leaves_the_data_alone():
    """Kills batches that are views of `x`."""

    def overwrite(rows, rng):
        rows[:] = 1.0
        return rows

    for batch_size in (7, 30):
        x = grays(30)
        fit(small(), x, epochs=1, batch_size=batch_size, transform=overwrite)
        assert np.array_equal(x, grays(30))


# The validation set and early stopping.


def test_validation_uses_the_same_noise_in_each_epoch_and_changes_nothing():
    """Kills fresh validation noise, which hides progress, and validation that moves a stream."""
    still = small()
    history = fit(still, bits(), epochs=4, x_valid=bits(30, seed=1), optimizer=STILL, seed=2)
    assert len(set(history["valid_elbo"])) == 1
    assert len(set(history["elbo"])) == 4
    terms = mean_terms(still, bits(30, seed=1), seed=2)
    assert history["valid_elbo"][0] == terms.elbo
    assert history["valid_reconstruction"][0] == terms.reconstruction
    assert history["valid_kl"][0] == terms.kl

    with_set, without = small(), small()
    fit(with_set, bits(), epochs=2, x_valid=bits(30, seed=1))
    fit(without, bits(), epochs=2)
    assert with_set.parameters.flat.tobytes() == without.parameters.flat.tobytes()


def overfit(patience, **settings):
    """Train on eight rows until overfitting; return the model, the history and snapshots."""
    vae, snapshots = small(), []
    history = fit(
        vae,
        bits(8),
        x_valid=bits(40, seed=1),
        optimizer=Adam(0.02),
        callbacks=[
            EarlyStopping(patience),
            lambda vae, history: snapshots.append(vae.parameters.flat.copy()),
        ],
        **settings,
    )
    return vae, history, snapshots


def test_patience_stops_and_restores_the_best_parameters():
    """Kills the last parameters in place of the best, and patience that is off by one."""
    vae, history, snapshots = overfit(epochs=200, patience=6)
    best = int(np.argmax(history["valid_elbo"]))
    assert 3 < best < 190
    assert len(history) == len(snapshots) == best + 1 + 6
    assert history.stopped_early
    assert vae.parameters.flat.tobytes() == snapshots[best].tobytes()
    assert not np.array_equal(snapshots[best], snapshots[-1])


def test_patience_that_is_not_exhausted_still_restores_the_best():
    """Kills best parameters that come back only after an early stop."""
    _, full, _ = overfit(epochs=200, patience=6)
    best = int(np.argmax(full["valid_elbo"]))
    vae, history, snapshots = overfit(epochs=best + 3, patience=6)
    assert not history.stopped_early
    assert vae.parameters.flat.tobytes() == snapshots[best].tobytes()


# Clipping, schedules, callbacks.


@pytest.mark.parametrize("update", ["both", "phi", "theta"])
def test_clip_norm_bounds_the_step_and_keeps_its_direction(update):
    """Kills a clip by value, a clip of the other slice, and a norm recorded after clipping."""
    steps, norms = [], []
    for clip_norm in (None, 0.25, 1e6):
        vae = small()
        optimizer = SGD(1.0, clip_norm=clip_norm)
        history = fit(vae, bits(), epochs=1, optimizer=optimizer, update=update)
        steps.append(vae.parameters.flat - small().parameters.flat)
        norms.append(history["gradient_norm"][0])
    free, clipped, loose = steps
    norm = np.linalg.norm(free)
    assert norm > 2 * 0.25
    assert np.linalg.norm(clipped) == pytest.approx(0.25, rel=1e-12)
    np.testing.assert_allclose(clipped, free * (0.25 / norm), rtol=1e-9, atol=1e-15)
    assert np.array_equal(free, loose)
    assert norms == pytest.approx([norm] * 3, rel=1e-12)


def test_schedule_gets_the_epochs_done_and_scales_the_learning_rate():
    """Kills a schedule in steps, a count from 1 and a factor that is only recorded."""
    asked = []

    def factor(epoch):
        asked.append(epoch)
        return 1.0 - epoch / 4

    history = fit(small(), bits(8), epochs=2, batch_size=2, schedule=factor, optimizer=SGD(0.1))
    assert asked == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert history["learning_rate"] == pytest.approx([0.1 * (1 - 0.75 / 4), 0.1 * (1 - 1.75 / 4)])

    halved, half = small(), small()
    fit(halved, bits(), epochs=3, batch_size=20, schedule=lambda epoch: 0.5, optimizer=Adam(2e-3))
    fit(half, bits(), epochs=3, batch_size=20, optimizer=Adam(1e-3))
    np.testing.assert_allclose(halved.parameters.flat, half.parameters.flat, rtol=1e-14)


def test_callbacks_are_called_in_each_epoch_and_true_ends_training():
    """Kills a callback before its row exists, and a stop that skips the other callbacks."""
    vae, seen = small(), []

    def stop(model, history):
        assert model is vae
        return len(history) == 2

    def watch(model, history):
        seen.append((len(history), history.rows[-1]["epoch"], model.parameters.flat.copy()))

    history = fit(vae, bits(), epochs=5, callbacks=[stop, watch])
    assert [(n, epoch) for n, epoch, _ in seen] == [(1, 1), (2, 2)]
    assert len(history) == 2
    assert history.stopped_early
    assert np.array_equal(seen[-1][2], vae.parameters.flat)


def test_callback_may_return_a_comparison_of_columns():
    """Kills `is True`: history["elbo"][-1] > c is numpy's True."""
    history = fit(small(), bits(), epochs=5, callbacks=[lambda vae, h: h["elbo"][-1] > -1e9])
    assert len(history) == 1


def test_callback_that_returns_something_else_does_not_end_training():
    """Kills a stop by any truthy answer, such as the history itself."""
    history = fit(small(), bits(), epochs=3, callbacks=[lambda vae, history: "logged"])
    assert len(history) == 3
    assert not history.stopped_early


def test_callbacks_from_an_iterator_are_called_in_every_epoch():
    """Kills an iterator that is empty after the first epoch."""
    calls = []
    fit(small(), bits(), epochs=3, callbacks=iter([lambda vae, history: calls.append(1)]))
    assert len(calls) == 3


# Failures: the error names the step; the model gets the last parameters with a finite ELBO.


class Watch:
    """A transform that keeps the parameters as they are before each step."""

    def __init__(self, vae, spoil_at=None):
        self.vae, self.spoil_at, self.before = vae, spoil_at, []

    def __call__(self, rows, rng):
        self.before.append(self.vae.parameters.flat.copy())
        return rows * np.nan if len(self.before) == self.spoil_at else rows


def assert_stopped(caught, watch, start, steps_per_epoch=3):
    """The error names the step that failed; the parameters are those at the start of its epoch,
    or, where that start is what failed, of the epoch before."""
    error, vae = caught.value, watch.vae
    assert (error.epoch - 1) * steps_per_epoch + error.step == len(watch.before)
    assert 1 <= error.step <= steps_per_epoch
    assert error.parameter in vae.parameters
    for part in (f"epoch {error.epoch}", f"step {error.step}", error.parameter):
        assert part in str(error)
    assert "\n" not in str(error)
    assert np.isfinite(vae.parameters.flat).all()
    first = (error.epoch - 1) * steps_per_epoch - (steps_per_epoch if error.step == 1 else 0)
    assert vae.parameters.flat.tobytes() == watch.before[max(first, 0)].tobytes()
    assert np.array_equal(vae.parameters.flat, start) == (first <= 0)


@pytest.mark.parametrize("name", ["adam", "sgd", "momentum"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_absurd_learning_rate_stops_with_the_place_and_finite_parameters(name, dtype):
    """Kills training that goes on with NaN, and a failing step that is still taken."""
    vae = small(dtype)
    start, watch = vae.parameters.flat.copy(), Watch(vae)
    with pytest.raises(NonFiniteError) as caught:
        fit(
            vae,
            bits(),
            epochs=50,
            batch_size=20,
            optimizer=OPTIMIZERS[name](1e6),
            transform=watch,
        )
    assert len(watch.before) > 1
    assert_stopped(caught, watch, start)


@pytest.mark.parametrize(
    ("update", "parameter"),
    [("both", "encoder.W0"), ("phi", "encoder.W0"), ("theta", "decoder.W0")],
)
@pytest.mark.parametrize("spoil_at", [3, 5])
def test_nan_in_a_batch_stops_at_that_step(update, parameter, spoil_at):
    """Kills a wrong count of epoch and step, and a parameter that was not even moving."""
    vae = small()
    start, watch = vae.parameters.flat.copy(), Watch(vae, spoil_at)
    with pytest.raises((NonFiniteError, ValueError)) as caught:
        fit(vae, bits(), epochs=4, batch_size=20, transform=watch, update=update)
    assert len(watch.before) == spoil_at
    assert vae.parameters.flat.tobytes() == watch.before[-1].tobytes()
    if isinstance(caught.value, NonFiniteError):  # a transform checked in each batch says it first
        assert_stopped(caught, watch, start)
        assert caught.value.parameter == parameter


def test_a_step_that_overflows_is_not_taken():
    """Kills a check of gradients alone: here the gradient is finite and the step is not."""
    vae = small("float32")
    start, watch = vae.parameters.flat.copy(), Watch(vae)
    with pytest.raises(NonFiniteError, match="step") as caught:
        fit(vae, bits(), epochs=2, batch_size=20, optimizer=SGD(1e39), transform=watch)
    assert_stopped(caught, watch, start)
    assert len(watch.before) == 1


def test_an_infinite_elbo_stops_although_its_gradient_is_finite():
    """Kills a check of gradients alone: (x − μ)²/σ² overflows and (x − μ)/σ² does not."""
    vae = small("float32", likelihood="gaussian:1e10")
    x = 1e30 * (1 + grays(9))
    start, watch = vae.parameters.flat.copy(), Watch(vae)
    with pytest.raises(NonFiniteError, match="ELBO") as caught:
        fit(vae, x, epochs=1, batch_size=3, optimizer=SGD(1e-20), transform=watch)
    assert_stopped(caught, watch, start)
    assert len(watch.before) == 1


def run_of(vae, update):
    """The settings of a call of `fit` in which only the model and `update` matter."""
    return training._Run(vae, None, 1, None, None, None, update, None, 0)


@pytest.mark.parametrize("bad", ["encoder.b0", "decoder.W1", "decoder.logvar"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_error_names_a_parameter_that_is_broken(value, bad):
    """Kills a name taken from the wrong slice, and NaN that loses a comparison."""
    vae = small(likelihood="gaussian")
    views = vae.parameters.zeros_like()
    views[bad].flat[0] = value
    for update in ("both", "phi" if bad.startswith("encoder") else "theta"):
        error = run_of(vae, update).failure("step", History(), 0, views.part(update))
        assert error.parameter == bad
        assert isinstance(error, FloatingPointError)


@pytest.mark.parametrize("update", ["phi", "theta"])
def test_where_no_gradient_is_left_the_error_names_the_largest_parameter(update):
    """Kills the first name of all, which may not even move."""
    vae = small()
    moving = {"phi": "encoder.b0", "theta": "decoder.b0"}[update]
    vae.parameters["encoder.b0"][:] = vae.parameters["decoder.b0"][:] = 1e30
    nothing = vae.parameters.zeros_like().part(update)
    for vector in (nothing, np.zeros(0)):
        error = run_of(vae, update).failure("ELBO", History(), 0, vector)
        assert error.parameter == moving


def test_the_step_of_a_users_optimizer_is_called():
    """Kills an `ascend` that does not call a `step` of a subclass."""

    class Still(SGD):
        def step(self, gradient, state, scale=1.0):
            return np.zeros_like(gradient)

    vae = small()
    start = vae.parameters.flat.copy()
    fit(vae, bits(), epochs=1, optimizer=Still())
    assert np.array_equal(vae.parameters.flat, start)


# All valid forms of data work, with the memory of one batch.


def legitimate():
    """The same zeros and ones in every form that an array of real numbers takes."""
    x = bits(40)
    wide = np.zeros((80, 12))
    wide[::2, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "list": x.tolist(),
        "bool": x.astype(bool),
        "uint8": x.astype(np.uint8),
        "int64": x.astype(np.int64),
        "float16": x.astype(np.float16),
        "big-endian": x.astype(">f4"),
        "strided": wide[::2, ::2],
        "reversed": np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        "Fortran": np.asfortranarray(x),
        "read-only": read_only,
    }


@pytest.mark.parametrize("form", sorted(legitimate()))
@pytest.mark.parametrize("likelihood", ["bernoulli", "binomial:3", "gaussian:0.5"])
def test_every_form_of_array_trains_to_the_same_model(form, likelihood):
    """Kills a dtype, stride or byte order that is read as something else."""
    plain, vae = small(likelihood=likelihood), small(likelihood=likelihood)
    x = legitimate()[form]
    expected = fit(plain, bits(40), epochs=2, batch_size=16, x_valid=bits(40))
    history = fit(vae, x, epochs=2, batch_size=16, x_valid=x)
    assert np.array_equal(vae.parameters.flat, plain.parameters.flat)
    # A Fortran-ordered block takes another path through BLAS, so not to the last bit.
    np.testing.assert_allclose(history["valid_elbo"], expected["valid_elbo"], rtol=1e-10)
    assert vae.dtype == np.float64


def test_rows_to_train_on_are_contiguous_unless_on_disk(tmp_path):
    """Kills batches from Fortran order, 10 to 20 times slower to take, and a memmap in memory."""
    for form, x in legitimate().items():
        rows, _ = check_fit_data(small(), x, None, None)
        assert rows.strides[1] == rows.itemsize, form
    every_second = np.repeat(bits(40), 2, axis=0)[::2]
    assert check_fit_data(small(), every_second, None, None)[0] is every_second
    np.save(tmp_path / "x.npy", np.asfortranarray(bits(40)))
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(check_fit_data(small(), on_disk, None, None)[0], on_disk)


def test_a_single_row_and_a_constant_column_train():
    """Kills a batch size above N by default, and a division by a column's spread."""
    for likelihood in ("bernoulli", "gaussian", "gaussian:head"):
        vae = small(likelihood=likelihood)
        start = vae.parameters.flat.copy()
        history = fit(vae, np.ones((1, 6)), epochs=3, x_valid=np.ones((1, 6)))
        assert np.isfinite(history["elbo"]).all()
        assert not np.array_equal(vae.parameters.flat, start)


def memmap(path, n, d):
    """A read-only memmap of zeros and ones, written a piece at a time."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for _ in range(n // 1000):
            file.write((rng.random((1000, d), np.float32) < 0.3).astype(np.float32).tobytes())
    return np.memmap(path, np.float32, mode="r", shape=(n, d))


def test_memory_does_not_grow_with_a_memmap(tmp_path):
    """Kills a copy, a cast or a mask of the whole of x: 40000 rows here are 32 MB."""
    d, peaks = 200, {}
    vae = VAE(d, 2, (8,))
    for n in (2000, 40000):
        x = memmap(tmp_path / f"{n}", n, d)
        tracemalloc.start()
        try:
            fit(vae, x, epochs=1, batch_size=200, x_valid=x)
            peaks[n] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # 8 bytes for each row's place in the order, and checks that read a few megabytes at a time.
    assert peaks[40000] - peaks[2000] < 5e6 < 38000 * d * 4 / 4


def test_a_memmap_trains_as_the_array_does(tmp_path):
    """Kills a reading order on disk that differs from the one in memory."""
    x = memmap(tmp_path / "x", 1000, 6)
    from_disk, from_memory = small("float32"), small("float32")
    fit(from_disk, x, epochs=1)
    fit(from_memory, np.array(x), epochs=1)
    assert from_disk.parameters.flat.tobytes() == from_memory.parameters.flat.tobytes()


# Output: progress and CSV.


def test_silent_by_default(capfd):
    """Kills a stray print."""
    fit(small(), bits(), epochs=2)
    assert capfd.readouterr() == ("", "")


class FakeBar:
    """Replaces the progress bar of tqdm, and writes a line for each update."""

    def __init__(self, total, file, **_):
        self.total, self.file, self.updates = total, file, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.write(f"{self.updates} of {self.total}\n")

    def set_postfix_str(self, note, **_):
        self.note = note

    def update(self, steps):
        self.updates += steps


@pytest.mark.parametrize("bar", ["none", "fake", "real"])
def test_progress_goes_to_standard_error_alone(bar, capfd, monkeypatch):
    """Kills progress on standard output, where `--json` prints, and a hard need of tqdm."""
    if bar == "none":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    elif bar == "fake":
        monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=FakeBar))
    else:
        tqdm = pytest.importorskip("tqdm").tqdm
        monkeypatch.setattr(
            tqdm, "monitor_interval", 0
        )  # no thread that runs longer than the test
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(3) as progress:
        fit(small(), bits(), epochs=3, callbacks=[progress])
    out, err = capfd.readouterr()
    assert out == ""
    assert {"none": "epoch 3/3  ELBO -", "fake": "3 of 3", "real": "3/3"}[bar] in err


def test_progress_line_ends_when_training_fails(capfd, monkeypatch):
    """Kills an error message on the same line as the progress line."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(NonFiniteError), Progress(50) as progress:
        fit(small(), bits(), epochs=50, optimizer=Adam(1e6), callbacks=[progress])
    assert capfd.readouterr().err.endswith("\n")


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(capfd, monkeypatch):
    """Kills a log file full of bars, one without a word for an hour, and a count from nothing."""
    clock = iter(range(0, 1000, 4))  # each look at it is 4 seconds later
    monkeypatch.setattr("numpyvae.support.progress.time.monotonic", lambda: next(clock))
    first = fit(small(), bits(), epochs=2)
    with Progress(9, len(first)) as progress:
        fit(small(), bits(), epochs=7, resume=first, callbacks=[progress])
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.split("  ")[0] for line in lines] == ["epoch 5/9", "epoch 8/9"]
    assert all(re.fullmatch(r"epoch ./9  ELBO -\d+\.\d\d nats", line) for line in lines)


def test_grays_with_bernoulli_warn_the_caller():
    """Kills a missing warning for grays, and one that names a line of the package."""
    vae, x, eps = small(), grays(), np.zeros((1, 60, 2))
    functions = [
        lambda: fit(vae, x, epochs=1),
        lambda: elbo(vae, x, eps),
        lambda: mean_terms(vae, x),
    ]
    for function in functions:
        with pytest.warns(UserWarning, match="binarize") as caught:
            function()
        assert [(w.filename, w.lineno) for w in caught] == [
            (__file__, function.__code__.co_firstlineno)
        ]
    fit(small(), grays(), epochs=1, transform=binarize)  # warnings are errors here


def test_history_in_csv_reads_back_exactly(tmp_path):
    """Kills rounded numbers, a column that is lost, and True for a number."""
    history = fit(small(), bits(), epochs=3, x_valid=bits(8))
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [{k: float(v) for k, v in r.items()} for r in rows]
    assert found == history.rows
    assert list(rows[0])[:2] == ["epoch", "elbo"]
    assert list(rows[0])[-1] == "seconds"
    assert [p.name for p in tmp_path.iterdir()] == ["history.csv"]


def test_history_that_gained_a_validation_set_can_be_written(tmp_path):
    """Kills columns taken from the first row alone."""
    vae = small()
    first = fit(vae, bits(), epochs=1)
    history = fit(vae, bits(), epochs=1, resume=first, x_valid=bits(8))
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["valid_elbo"] == ""
    assert float(rows[1]["valid_elbo"]) == history.rows[1]["valid_elbo"]
