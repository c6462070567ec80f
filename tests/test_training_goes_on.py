"""`fit` called again: after its end, an interruption, an early stop or a failure; user's parts."""

import copy
import math
import pickle
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from numpyvae import (
    SGD,
    VAE,
    Adam,
    EarlyStopping,
    Estimator,
    Momentum,
    NonFiniteError,
    Optimizer,
    elbo,
    fit,
)
from numpyvae.core import training
from numpyvae.datasets import binarize
from numpyvae.estimators import SGVBB

N, B = 60, 20  # three steps an epoch


def grays(n=N, d=6, seed=0):
    return np.random.default_rng(seed).random((n, d))


def bits(n=N, d=6, seed=0):
    return np.where(grays(n, d, seed) < 0.4, 1.0, 0.0)


def small(dtype="float64", **settings):
    return VAE(6, 2, (5,), dtype=dtype, seed=3, **settings)


def but_times(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_same_run(one, other, vae, twin):
    """Parameters to the bit, every row but its seconds, the state, and how the run ended."""
    assert vae.parameters.flat.tobytes() == twin.parameters.flat.tobytes()
    assert vae.parameters.epochs == twin.parameters.epochs
    assert but_times(one) == but_times(other)
    assert one.stopped_early == other.stopped_early
    assert one.optimizer_state.keys() == other.optimizer_state.keys()
    for slot, array in one.optimizer_state.items():
        assert other.optimizer_state[slot].tobytes() == array.tobytes()


# Another call goes on counting epochs.


@dataclass(frozen=True)
class Watched(Estimator):
    """The estimator of Eq. (11), which keeps the batches and the noise that it is given."""

    seen: list = field(default_factory=list)

    def estimate(self, vae, x, eps, update="both"):
        self.seen.append((x.tobytes(), eps.tobytes()))
        return super().estimate(vae, x, eps, update)


def through_a_file(vae, path):
    vae.save(path / "model.npz")
    return VAE.load(path / "model.npz")


@pytest.mark.parametrize(
    "between",
    [
        lambda vae, path: vae,
        through_a_file,
        lambda vae, path: copy.deepcopy(vae),
        lambda vae, path: pickle.loads(pickle.dumps(vae)),
    ],
    ids=["nothing", "a file", "a deep copy", "a pickle"],
)
def test_ten_calls_of_one_epoch_draw_what_one_call_of_ten_draws(between, tmp_path):
    """Kills a loop of calls that uses the same order, binarization and noise ten times."""
    settings = {"batch_size": B, "transform": binarize, "optimizer": SGD(0.01), "seed": 4}
    whole, vae = small("float32"), small("float32")
    once, often = Watched(), Watched()
    expected = fit(whole, grays(), epochs=10, estimator=once, **settings)
    rows = []
    for epoch in range(10):
        assert vae.parameters.epochs == epoch
        rows += but_times(fit(vae, grays(), epochs=1, estimator=often, **settings))
        vae = between(vae, tmp_path)
    assert often.seen == once.seen
    batches, noises = zip(*often.seen)
    assert len(set(batches)) == len(set(noises)) == 10 * N // B
    assert vae.parameters.flat.tobytes() == whole.parameters.flat.tobytes()
    assert rows == but_times(expected)
    assert [row["epoch"] for row in rows] == list(range(1, 11))


def test_a_new_model_counts_epochs_from_zero():
    """Kills a count that a gradient or a twin with another vector carries on."""
    vae = small()
    fit(vae, bits(), epochs=2)
    assert vae.parameters.epochs == 2
    assert vae.with_flat(vae.parameters.flat.copy()).parameters.epochs == 0
    assert vae.parameters.empty_gradient().epochs == 0
    assert small().parameters.epochs == 0


# Early stopping.


def one_bit(n, seed):
    """Rows that share one bit apart from noise, which a model with a too large β ignores."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, 1)) < 0.5) ^ (rng.random((n, 6)) < 0.1)


@pytest.mark.parametrize("beta", [1.0, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_patience_does_not_count_the_epochs_of_a_warm_up(seed, beta):
    """Kills a stop before β has its value, and best parameters of another objective."""
    vae, after = small(), []
    history = fit(
        vae,
        one_bit(300, seed=seed),
        epochs=200,
        batch_size=5,
        optimizer=Adam(0.02),
        estimator=SGVBB(beta=beta, kl_warmup=20),
        x_valid=one_bit(100, seed=seed + 50),
        callbacks=[
            EarlyStopping(3),
            lambda vae, history: after.append(vae.parameters.flat.copy()),
        ],
        seed=seed,
    )
    values = history["valid_elbo"]
    early = values[:20]
    stop = next(i for i in range(20) if i >= early[: i + 1].argmax() + 3)
    assert stop < 19  # if the warm-up counted, the run would end within it
    if beta > 1:
        assert values.argmax() < 20  # and would go back to parameters of another objective
    assert history["warm_up"].tolist() == [True] * 20 + [False] * (len(history) - 20)
    assert history.stopped_early
    best = 20 + int(np.argmax(values[20:]))
    assert len(history) == best + 1 + 3 >= 24
    assert vae.parameters.flat.tobytes() == after[best].tobytes()


def test_a_later_warm_up_discards_the_best_parameters():
    """Kills a best epoch that is still the last one to count, and so is taken anew."""
    vae, settings = small(), {"x_valid": bits(40, seed=1), "callbacks": [EarlyStopping(30)]}
    first = fit(vae, bits(), epochs=3, **settings)
    assert int(np.argmax(first["valid_elbo"])) == 2
    estimator = SGVBB(kl_warmup=50)
    history = fit(vae, bits(), epochs=3, estimator=estimator, resume=first, **settings)
    assert history["warm_up"].tolist() == [False] * 3 + [True] * 3
    assert history.best_parameters.tobytes() == first.best_parameters.tobytes()


@pytest.mark.parametrize("warmup", [0.0, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_run_with_early_stopping_can_be_interrupted_anywhere(seed, warmup, tmp_path):
    """Kills a resumed run that goes on from the best parameters, forgets them, counts patience
    anew, or trains on after the stop."""
    epochs = 40
    settings = {
        "batch_size": 4,
        "optimizer": Adam(0.02),
        "estimator": SGVBB(kl_warmup=warmup),
        "x_valid": bits(40, seed=seed + 1),
        "seed": seed,
    }

    def run(vae, epochs, **more):
        x = bits(8, seed=seed)
        return fit(vae, x, epochs=epochs, callbacks=[EarlyStopping(4)], **settings, **more)

    whole = small("float32")
    expected = run(whole, epochs)
    assert expected.stopped_early
    assert 6 < len(expected) < epochs
    for cut in range(1, len(expected) + 3):
        vae = small("float32")
        first = run(vae, cut)
        vae = through_a_file(vae, tmp_path)
        history = run(vae, epochs - cut, resume=pickle.loads(pickle.dumps(first)))
        assert vae.parameters.flat.tobytes() == whole.parameters.flat.tobytes()
        assert but_times(history) == but_times(expected)
        assert history.stopped_early
        assert history.best_parameters.tobytes() == expected.best_parameters.tobytes()
        assert history.last_parameters.tobytes() == expected.last_parameters.tobytes()


# After a failure.


@dataclass(frozen=True)
class Faulty(Estimator):
    """The estimator of Eq. (11), with NaN in its `fault`-th gradient, counted from 1."""

    fault: int = 0
    calls: list = field(default_factory=list)

    def estimate(self, vae, x, eps, update="both"):
        self.calls.append(1)
        estimate = super().estimate(vae, x, eps, update)
        if len(self.calls) == self.fault:
            estimate.gradient.flat[-1] = np.nan
        return estimate


def objective_is_finite(vae, x):
    eps = np.random.default_rng(0).standard_normal((5, len(x), vae.latent_dim))
    return np.isfinite(elbo(vae, x, eps)).all()


@pytest.mark.parametrize("optimizer", [Adam(0.01), Momentum(0.001)], ids=["adam", "momentum"])
@pytest.mark.parametrize("fault", range(1, 11))
def test_a_failed_run_continues_like_one_without_the_failure(fault, optimizer):
    """Kills a failure after which half an epoch remains: in parameters, state, rows or count."""
    settings = {"batch_size": B, "optimizer": optimizer, "x_valid": bits(9), "seed": 2}
    vae, safe, whole = small(), small(), small()
    with pytest.raises(NonFiniteError) as caught:
        fit(vae, bits(), epochs=5, estimator=Faulty(fault=fault), **settings)
    error = caught.value
    assert (error.epoch, error.step) == ((fault - 1) // 3 + 1, (fault - 1) % 3 + 1)
    assert error.parameter == "decoder.b1"
    # After a failure in the first step, the start of this epoch is not used either.
    done = error.epoch - (2 if error.step == 1 else 1)
    assert vae.parameters.epochs == len(error.history) == max(done, 0)
    if done > 0:
        assert_same_run(error.history, fit(safe, bits(), epochs=done, **settings), vae, safe)
    assert vae.parameters.flat.tobytes() == safe.parameters.flat.tobytes()
    history = fit(vae, bits(), epochs=5 - max(done, 0), resume=error.history, **settings)
    assert_same_run(history, fit(whole, bits(), epochs=5, **settings), vae, whole)


@pytest.mark.parametrize("batch_size", [B, N])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [Adam, SGD, Momentum])
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_training_continues_with_a_lower_rate_after_a_failure(rate, kind, dtype, batch_size):
    """Kills parameters that are finite and whose objective is not, and a state that is broken."""
    x, vae = bits(), small(dtype, likelihood="gaussian:learned")
    first = fit(vae, x, epochs=2, batch_size=batch_size, optimizer=kind(1e-4))
    with pytest.raises(NonFiniteError) as caught:
        fit(vae, x, epochs=50, batch_size=batch_size, optimizer=kind(rate), resume=first)
    error = caught.value
    assert objective_is_finite(vae, x)
    assert but_times(error.history)[:2] == but_times(first)
    assert vae.parameters.epochs == len(error.history) <= error.epoch - 1
    assert all(np.isfinite(a).all() for a in error.history.optimizer_state.values())
    rows = but_times(error.history)
    lower = kind(1e-4, clip_norm=1.0)
    history = fit(vae, x, epochs=3, batch_size=batch_size, optimizer=lower, resume=error.history)
    assert but_times(history)[:-3] == rows == but_times(error.history)
    assert history["epoch"].tolist() == list(range(1, len(rows) + 4))
    assert objective_is_finite(vae, x)


@pytest.mark.parametrize("fault", [1, 2, 4])
def test_a_validation_elbo_that_is_not_finite_is_a_failure(fault, monkeypatch):
    """Kills NaN in the history, which no later value is better than."""
    settings = {"batch_size": B, "x_valid": bits(9)}
    calls, mean_elbo_terms = [], training.mean_elbo_terms

    def faulty(*args):
        calls.append(1)
        terms = mean_elbo_terms(*args)
        return terms._replace(kl=math.inf) if len(calls) == fault else terms

    monkeypatch.setattr(training, "mean_elbo_terms", faulty)
    vae, whole = small(), small()
    with pytest.raises(NonFiniteError, match="validation ELBO") as caught:
        fit(vae, bits(), epochs=5, **settings)
    error = caught.value
    assert (error.epoch, error.step) == (fault, 3)
    assert len(error.history) == vae.parameters.epochs == fault - 1
    assert np.isfinite(error.history["valid_elbo"]).all()
    history = fit(vae, bits(), epochs=6 - fault, resume=error.history, **settings)
    assert_same_run(history, fit(whole, bits(), epochs=5, **settings), vae, whole)


def test_a_failure_keeps_the_best_parameters_found_before_it():
    """Kills a best that is lost, or that comes from the epoch that is undone."""
    settings = {"batch_size": B, "x_valid": bits(9)}
    vae, safe = small(), small()
    with pytest.raises(NonFiniteError) as caught:
        fit(
            vae, bits(), epochs=5, estimator=Faulty(fault=10), callbacks=[EarlyStopping(5)],
            **settings,
        )  # fmt: skip
    expected = fit(safe, bits(), epochs=2, callbacks=[EarlyStopping(5)], **settings)
    history = caught.value.history
    assert len(history) == 2
    assert history.best_parameters.tobytes() == expected.best_parameters.tobytes()
    assert vae.parameters.flat.tobytes() == expected.last_parameters.tobytes()


# User-defined parts.


class Signs(Optimizer):
    """The sign of an average gradient (Chen et al. 2023, without its decay)."""

    slots: ClassVar = ("m",)

    def compute_step(self, g, state, rate):
        m = state["m"]
        step = rate * np.sign(0.9 * m + 0.1 * g)
        m *= 0.99
        m += 0.01 * g
        return step


@dataclass(frozen=True)
class Antithetic(Estimator):
    """Eq. (11) with ε and −ε, and another weight."""

    weight: float = 1.0

    def at(self, epochs):
        return Antithetic(min(1.0, epochs / 2), n_samples=self.n_samples)

    def estimate(self, vae, x, eps, update="both"):
        estimate = super().estimate(vae, x, np.concatenate([eps, -eps]), update)
        estimate.gradient.flat[:] *= self.weight
        return estimate._replace(objective=self.weight * estimate.objective)


@pytest.mark.parametrize("update", ["both", "phi", "theta"])
def test_user_defined_parts_train_and_resume_to_the_bit(update):
    """Kills a list of known kinds: of optimizers, of slots, of estimators."""
    settings = {
        "batch_size": B,
        "optimizer": Signs(1e-3, clip_norm=0.5),
        "estimator": Antithetic(n_samples=2),
        "update": update,
        "transform": binarize,
    }
    whole, start = small(), small()
    expected = fit(whole, grays(), epochs=6, **settings)
    assert expected["elbo"][-1] > expected["elbo"][0]
    assert expected["warm_up"].tolist() == [True, True, False, False, False, False]
    assert expected.optimizer_state["m"].shape == whole.parameters.part(update).shape
    assert int(expected.optimizer_state["t"]) == 6 * N // B
    for other in {"phi": ("theta",), "theta": ("phi",)}.get(update, ()):
        assert np.array_equal(whole.parameters.part(other), start.parameters.part(other))
    for cut in range(1, 6):
        vae = small()
        first = fit(vae, grays(), epochs=cut, **settings)
        history = fit(vae, grays(), epochs=6 - cut, resume=first, **settings)
        assert_same_run(history, expected, vae, whole)


def test_a_user_defined_optimizer_is_not_resumed_as_another():
    """Kills a state read under another meaning."""
    vae = small()
    history = fit(vae, bits(), epochs=1, optimizer=Signs(1e-3))
    with pytest.raises(ValueError, match=r"^resume: expected an optimizer state with .*'v'"):
        fit(vae, bits(), epochs=1, optimizer=Adam(), resume=history)


def test_a_run_that_goes_on_for_no_epochs_ends_where_it_ended(tmp_path):
    """Kills a finished run that cannot be put back, and one that has its last parameters."""
    settings = {"x_valid": bits(40, seed=1), "callbacks": [EarlyStopping(3)]}
    whole, vae = small(), small()
    expected = fit(whole, bits(), epochs=40, optimizer=Adam(0.05), **settings)
    assert expected.stopped_early
    assert expected.best_parameters.tobytes() != expected.last_parameters.tobytes()
    history = fit(vae, bits(), epochs=0, optimizer=Adam(0.05), resume=expected, **settings)
    assert_same_run(history, expected, vae, whole)
    with pytest.raises(ValueError, match="epochs: expected a whole number of at least 1, got 0"):
        fit(vae, bits(), epochs=0)
