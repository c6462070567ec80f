"""The clinic on Keras 3 models, on the PyTorch and the JAX backend."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys

import numpy as np
import pytest

BACKENDS = [b for b in ("torch", "jax") if importlib.util.find_spec(b)]
if not BACKENDS or not importlib.util.find_spec("keras"):
    pytest.skip(
        'needs Keras and a backend: pip install "numpyvae[keras]"', allow_module_level=True
    )
os.environ.setdefault("KERAS_BACKEND", BACKENDS[0])

import keras  # noqa: E402
from keras import layers, ops  # noqa: E402

from numpyvae import bounds  # noqa: E402
from numpyvae.clinic import examine, from_keras, model_of  # noqa: E402
from numpyvae.clinic.calls import Calls  # noqa: E402
from numpyvae.clinic.examine import EXAMINATIONS  # noqa: E402
from numpyvae.clinic.facts import establish  # noqa: E402

D, J, H = 6, 2, 5
BACKEND = keras.backend.backend()
X = np.random.default_rng(7).integers(0, 2, (30, D)).astype("float32")


@keras.saving.register_keras_serializable()
class Sampling(layers.Layer):
    """z, with a generator of its own."""

    def __init__(self, bug="", **settings):
        super().__init__(**settings)
        self.bug = bug
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mu, s = inputs
        shape = (1, J) if self.bug == "one noise per batch" else ops.shape(mu)
        seed = 42 if self.bug == "fixed seed" else self.seed_generator
        eps = keras.random.normal(shape, seed=seed)
        if self.bug == "small noise":
            eps = 0.01 * eps
        return mu + ops.exp(s if self.bug == "std = exp(s)" else 0.5 * s) * eps


def networks(bug="", dropout=0.0):
    """A functional encoder of three outputs, and a decoder of probabilities."""
    x = keras.Input((D,))
    h = layers.Dense(H, activation="tanh")(x)
    h = layers.Dropout(dropout)(h) if dropout else h
    mu, s = layers.Dense(J)(h), layers.Dense(J, name="log_variance")(h)
    encoder = keras.Model(x, [mu, s, Sampling(bug)([mu, s])])
    z = keras.Input((J,))
    h = layers.Dense(H, activation="tanh")(z)
    decoder = keras.Model(z, layers.Dense(D, activation="sigmoid")(h))
    rng = np.random.default_rng(3)
    for variable in [*encoder.trainable_variables, *decoder.trainable_variables]:
        variable.assign(rng.normal(0, 0.8, variable.shape))
    encoder.get_layer("log_variance").bias.assign([-3.0, -2.0])  # little noise needs few calls
    return encoder, decoder


def kl_rows(mu, s, bug=""):
    kl = -0.5 * (1 + s - ops.square(mu) - ops.exp(s))
    if bug == "KL mean":
        return ops.mean(kl, axis=1)
    return (2 if bug == "KL without half" else 1) * ops.sum(kl, axis=1)


def cost_rows(x, p):
    return -ops.sum(x * ops.log(p) + (1 - x) * ops.log(1 - p), axis=1)


class Parts(keras.Model):
    """What the two models with an encoder and a decoder share."""

    def __init__(self, encoder, decoder, bug="", own=True):
        super().__init__()
        self.encoder, self.decoder, self.bug, self.own = encoder, decoder, bug, own

    def value(self, x):
        mu, s, z = self.encoder(x, training=True)
        if not self.own:  # with the global generator
            z = mu + ops.exp(0.5 * s) * keras.random.normal(ops.shape(mu))
        p = self.decoder(mu if self.bug == "mean decoded" else z)
        cost = cost_rows(x, p)
        if self.bug == "mean over pixels":
            cost = cost / D
        if self.bug == "detached":
            mu, s = ops.stop_gradient(mu), ops.stop_gradient(s)
        return ops.mean(cost + kl_rows(mu, s, self.bug))


class ByStep(Parts):
    """The shape of the Keras example: a train_step of its own, that reports a mean."""

    def __init__(self, *parts, **settings):
        super().__init__(*parts, **settings)
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def step_of_torch(self, x):
        import torch

        self.zero_grad()
        loss = self.value(x)
        loss.backward()
        variables = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in variables], variables)
        self.tracker.update_state(loss)
        return {m.name: m.result() for m in self.metrics}

    def step_of_jax(self, state, x):
        import jax

        trainable, others, optimizer, metrics = state

        def value(trainable, others):
            mapping = [*zip(self.trainable_variables, trainable)]
            mapping += [*zip(self.non_trainable_variables, others)]
            with keras.StatelessScope(mapping) as scope:
                loss = self.value(x)
            return loss, [scope.get_current_value(v) for v in self.non_trainable_variables]

        (loss, others), grads = jax.value_and_grad(value, has_aux=True)(trainable, others)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        metrics = self.tracker.stateless_update_state(metrics, loss)
        logs = {"loss": self.tracker.stateless_result(metrics)}
        return logs, (trainable, others, optimizer, metrics)

    train_step = step_of_jax if BACKEND == "jax" else step_of_torch


class ByLoss(Parts):
    """A compute_loss of its own."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.value(x)


class Divergence(layers.Layer):
    """Adds the KL to the loss."""

    def call(self, inputs):
        mu, s, z = inputs
        self.add_loss(ops.mean(kl_rows(mu, s)))
        return z


def by_step(bug="", own=True):
    model = ByStep(*networks(bug), bug, own=own)
    model.compile("adam")
    return model


def by_loss(bug="", own=True, dropout=0.0):
    return ByLoss(*networks(bug, dropout), bug, own=own)


def by_add_loss(bug=""):
    """One functional model; `compile` has the reconstruction, `add_loss` the KL."""
    encoder, decoder = networks(bug)
    x = keras.Input((D,))
    model = keras.Model(x, decoder(Divergence()(encoder(x))))
    loss = "binary_crossentropy" if bug == "mean over pixels" else lambda x, p: cost_rows(x, p)
    model.compile("adam", loss=loss)
    model.encoder, model.decoder = encoder, decoder
    return model


def array(variable):
    """A copy of the value of a variable."""
    value = variable.value
    return np.array(value.detach().numpy() if hasattr(value, "detach") else value)


def subject_of(model, **declared):
    return from_keras(model, **{"x": X, "scale": "logvar", "sign": "loss"} | declared)


def named(subject, *examinations):
    """The names that these examinations give."""
    facts = establish(Calls(subject), 0)
    return [f.name for name in examinations for f in EXAMINATIONS[name](facts) if f.name]


STYLES = {
    "train_step": by_step,
    "compute_loss, dropout": lambda: by_loss(dropout=0.5),
    "add_loss": by_add_loss,
}


@pytest.mark.parametrize("style", STYLES)
def test_right_models_raise_no_alarm(style):
    """Kills a loss with dropout, a metric that goes on, and noise that the seed does not reach."""
    report = examine(subject_of(STYLES[style]()))
    assert not report.names, report
    right = {f.examination for f in report.findings if f.verdict == "right"}
    needed = {"assembly: loss = −ELBO", "gradient: derivative of the loss", "draws: noise"}
    assert needed <= right, report


SAMPLERS = {
    "std = exp(s)": "log σ² read as log σ in the sampler",
    "fixed seed": "same ε in every call",
    "one noise per batch": "one ε for the whole batch",
    "small noise": "noise of the wrong size",
}


@pytest.mark.parametrize("bug", SAMPLERS)
def test_bugs_of_the_sampling_layer_are_named(bug):
    """Kills a layer that is not found, and generators that are not set to the seed."""
    encoder, _ = networks(bug)
    assert named(subject_of(None, encoder=encoder), "draws") == [SAMPLERS[bug]]


LOSSES = {
    ("KL mean", by_step): "KL averaged over latents",
    ("mean over pixels", by_add_loss): "reconstruction averaged over pixels",
}


@pytest.mark.parametrize(("bug", "made"), LOSSES)
def test_bugs_of_the_loss_are_named(bug, made):
    """Kills the loss of another place, as that of `compile` where `train_step` has its own."""
    assert named(subject_of(made(bug)), "freeze", "assembly")[:1] == [LOSSES[bug, made]]


def test_bug_of_a_given_piece_is_named():
    """Kills pieces that are called with arrays in place of tensors."""
    encoder, _ = networks()
    piece = lambda mu, s: kl_rows(mu, s, "KL without half")  # noqa: E731
    assert named(subject_of(None, encoder=encoder, kl=piece), "kl", "assembly") == ["KL without ½"]


def test_detached_path_is_named():
    """Kills a gradient of the parameters in another order."""
    assert named(subject_of(by_loss("detached")), "freeze", "gradient") == [
        "gradient of the KL missing"
    ]


# The adapter itself


@pytest.mark.parametrize("made", [by_step, by_loss, by_add_loss])
def test_nothing_changes(made):
    """Kills a step that trains, seeds that stay, and a random state that is not put back."""
    model = made()
    optimizer, trained = getattr(model, "optimizer", None), list(model.variables)
    before = [array(v) for v in trained]
    states = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    if made is by_step:
        model.tracker.update_state(1e6)  # by an earlier training
        before = [array(v) for v in trained]
    subject = subject_of(model)
    first = subject.loss(X)
    subject.gradient(X)
    subject.sample_z(*subject.encode(X)[:2])
    for variable, value in zip(trained, before):
        np.testing.assert_array_equal(array(variable), value)
    assert getattr(model, "optimizer", None) is optimizer
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert 0 < first < 1000


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("made", [by_step, by_loss])
def test_seed_freezes_the_noise(made, own):
    """Kills a global or an own generator that is not set, and a noise that never changes."""
    subject = subject_of(made(own=own))
    values = []
    for seed in (1, 1, 2):
        subject.seed(seed)
        values.append(float(subject.loss(X)))
    assert values[0] == values[1] != values[2]
    assert float(subject.loss(X)) != values[2]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("made", [by_step, by_loss])
def test_gradient_belongs_to_the_loss_of_the_same_seed(made, own):
    """Kills a gradient with other noise than the loss, or of other parameters."""
    subject = subject_of(made(own=own))
    get, replace = subject.parameters
    subject.seed(3)
    flat = np.concatenate([g.ravel() for g in subject.gradient(X).values()])
    before, v, h = get(), np.random.default_rng(0).standard_normal(flat.size), 1e-2
    sides = []
    for sign in (1, -1):
        replace(before + sign * h * v)
        subject.seed(3)
        sides.append(float(subject.loss(X)))
    replace(before)
    assert (sides[0] - sides[1]) / (2 * h) == pytest.approx(flat @ v, rel=5e-3, abs=1e-2)


def test_sampling_layer_with_other_inputs_is_not_taken():
    """Kills a layer that reads log σ, where the encoder returns σ, as a sampler of σ."""
    x = keras.Input((D,))
    mu, s = layers.Dense(J)(x), layers.Dense(J)(x)
    encoder = keras.Model(x, [mu, ops.exp(0.5 * s), Sampling()([mu, s])])
    assert from_keras(encoder=encoder).sample_z is None
    right = keras.Model(x, [mu, s, Sampling()([mu, s])])
    assert from_keras(encoder=right).sample_z is not None


def test_model_goes_into_bounds():
    """Kills a decoder whose gradient the backend does not give."""
    _, decoder = networks()
    model = model_of(from_keras(decoder=decoder, data_dim=D, latent_dim=J))
    x, z = bounds.simulate(model, 3, seed=0)
    annealed = bounds.annealed_log_likelihood(model, x, 10, 2, posterior=z, seed=0)
    assert np.isfinite(annealed.log_lower).all()


def test_bad_input_is_refused_in_one_line():
    """Kills an attribute error, and a tolerance of float32 for half precision."""
    with pytest.raises(TypeError, match="model: expected a Keras model, got 3"):
        from_keras(3)
    with pytest.raises(TypeError, match="sampling: expected a function"):
        from_keras(encoder=networks()[0], sampling=lambda pair: pair[0][:1])
    half = keras.Sequential([keras.Input((D,)), layers.Dense(2, dtype="float16")])
    with pytest.raises(ValueError, match="expected layers that all compute in float32"):
        from_keras(encoder=half)


@pytest.mark.skipif(len(BACKENDS) < 2 or "SECOND" in os.environ, reason="one backend only")
def test_other_backend():
    """Kills code that works on one backend alone."""
    other = next(b for b in BACKENDS if b != BACKEND)
    tests = "freezes or (belongs and True) or (nothing_changes and by_step) or fixed"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", tests]
    environment = {**os.environ, "KERAS_BACKEND": other, "SECOND": "1"}
    run = subprocess.run(
        [*command, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:]
