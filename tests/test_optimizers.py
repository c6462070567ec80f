"""Optimizers against plain Python arithmetic on single numbers; state, pieces, schedules."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpyvae.core import optimizers
from numpyvae.core.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, Momentum, RMSProp
from numpyvae.support import schedules

NAMES = tuple(OPTIMIZERS)
SETTINGS = {
    "sgd": SGD(0.1),
    "momentum": Momentum(0.1, rho=0.8),
    "adagrad": Adagrad(0.1, eps=1e-3),
    "rmsprop": RMSProp(0.1, rho=0.7, eps=1e-3),
    "rmsprop-centered": RMSProp(0.1, rho=0.7, eps=1e-3, centered=True),
    "adam": Adam(0.1, beta1=0.8, beta2=0.95, eps=1e-3),
}


def scalar_steps(o, gradients, scales):
    """Return the steps for one parameter, as the papers write them, in Python floats."""
    m = v = 0.0
    steps = []
    for t, (g, scale) in enumerate(zip(gradients, scales), start=1):
        rate = o.learning_rate * scale
        if isinstance(o, SGD):
            steps.append(rate * g)
        elif isinstance(o, Momentum):
            v = o.rho * v + g
            steps.append(rate * v)
        elif isinstance(o, Adagrad):
            v = v + g**2
            steps.append(rate * g / (math.sqrt(v) + o.eps))
        elif isinstance(o, RMSProp):
            v = o.rho * v + (1 - o.rho) * g**2
            m = o.rho * m + (1 - o.rho) * g if o.centered else 0.0
            steps.append(rate * g / (math.sqrt(v - m**2) + o.eps))
        else:
            m = o.beta1 * m + (1 - o.beta1) * g
            v = o.beta2 * v + (1 - o.beta2) * g**2
            m_hat, v_hat = m / (1 - o.beta1**t), v / (1 - o.beta2**t)
            steps.append(rate * m_hat / (math.sqrt(v_hat) + o.eps))
    return steps


def gradients_for(size, n_steps=60):
    """Return gradients (n_steps, size) of very different sizes, with zeros among them."""
    rng = np.random.default_rng(size)
    g = rng.standard_normal((n_steps, size)) * 10.0 ** rng.integers(-6, 4, size)
    g[rng.random(g.shape) < 0.1] = 0
    return g


def run(o, gradients, scales=None, state=None):
    """Return the steps (n_steps, size) and the state after them."""
    state = o.init(gradients[0]) if state is None else state
    scales = np.ones(len(gradients)) if scales is None else scales
    return np.array([o.step(g, state, float(s)) for g, s in zip(gradients, scales)]), state


def check_against_scalar(name):
    """Kills ε inside the root, a missing root or bias correction, t from 0, β₁ and β₂ swapped.

    And RMSProp that is centered without its mean, or by the mean before or after its time.
    """
    gradients = gradients_for(7)
    scales = np.linspace(1.0, 0.2, len(gradients))
    for o in (SETTINGS[name], OPTIMIZERS[name]()):
        kept = gradients.copy()
        steps, _ = run(o, gradients, scales)
        exact = np.array([scalar_steps(o, g, scales) for g in gradients.T.tolist()]).T
        # Momentum can cancel: its steps are compared relative to the largest one before.
        size = np.maximum.accumulate(abs(exact))
        assert (abs(steps - exact) <= 1e-12 * size).all()
        assert np.array_equal(gradients, kept)


def check_pieces():
    """Kills, in Adam on long vectors, a piece that is left out or computed twice."""
    o, piece = SETTINGS["adam"], optimizers._PIECE
    for size in (piece - 1, piece, piece + 1, 2 * piece + 3):
        gradients = gradients_for(size, 3)
        steps, state = run(o, gradients)
        edges = [i for i in (0, piece - 1, piece, piece + 1, 2 * piece, size - 1) if i < size]
        exact = np.array([scalar_steps(o, g, np.ones(3)) for g in gradients.T[edges].tolist()]).T
        np.testing.assert_allclose(steps[:, edges], exact, rtol=1e-12, atol=0)
        short = [run(o, half)[0] for half in np.array_split(gradients, 7, axis=1)]
        assert np.array_equal(steps, np.concatenate(short, axis=1))
        assert state["t"] == 3


def check_resume(name="adam"):
    """Kills a state that is not all in the dict: the step count, a slot."""
    o, gradients = SETTINGS[name], gradients_for(5)
    whole, _ = run(o, gradients)
    first, state = run(o, gradients[:23])
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    loaded = dict(np.load(file))
    second, _ = run(o, gradients[23:], state=loaded)
    assert np.array_equal(np.concatenate([first, second]), whole)


@pytest.mark.parametrize("name", NAMES)
def test_steps_against_scalar_reference(name):
    check_against_scalar(name)


def check_clipped(name):
    """Kills a clip by value, of the step, after the moments, or against the norm of the state."""
    gradients = gradients_for(7)
    scales = np.linspace(1.0, 0.2, len(gradients))
    norms = [math.sqrt(math.fsum(v * v for v in g)) for g in gradients.tolist()]
    limit = float(np.median(norms))  # half of the gradients are longer
    shrunk = np.array(
        [
            [v * (limit / norm) if norm > limit else v for v in g]
            for g, norm in zip(gradients.tolist(), norms)
        ]
    )
    for o in (SETTINGS[name], OPTIMIZERS[name]()):
        kept = gradients.copy()
        clipped, state = run(replace(o, clip_norm=limit), gradients, scales)
        exact = np.array([scalar_steps(o, g, scales) for g in shrunk.T.tolist()]).T
        size = np.maximum.accumulate(abs(exact))
        assert (abs(clipped - exact) <= 1e-12 * size).all()
        assert np.array_equal(gradients, kept)
        assert int(state["t"]) == len(gradients)
        assert not np.allclose(clipped, run(o, gradients, scales)[0])
        loose, _ = run(replace(o, clip_norm=2 * max(norms)), gradients, scales)
        assert np.array_equal(loose, run(o, gradients, scales)[0])


@pytest.mark.parametrize("name", NAMES)
def test_clipped_steps_against_scalar_reference(name):
    check_clipped(name)


@pytest.mark.parametrize("clip_norm", [0, -1.0, math.nan, math.inf])
def test_clip_norm_is_a_finite_number_above_zero(clip_norm):
    with pytest.raises(ValueError, match="clip_norm: expected a finite number above 0"):
        Adam(clip_norm=clip_norm)


def test_a_gradient_of_zero_or_at_the_limit_is_not_clipped():
    """Kills 0/0, and float64 that clipping brings into float32."""
    o = SGD(1.0, clip_norm=5.0)
    for g in (np.zeros(2, "float32"), np.array([3, 4], "float32"), np.array([6, 8], "float32")):
        step = o.step(g, o.init(g))
        assert step.dtype == np.float32
        assert np.array_equal(step, g / 2 if g[0] == 6 else g)


def test_adam_in_pieces_is_adam():
    check_pieces()


@pytest.mark.parametrize("name", NAMES)
def test_state_through_npz_continues_identically(name):
    check_resume(name)


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_do_not_share_state(name):
    """Kills state kept on the optimizer or a slot shared between parameters."""
    o, gradients = SETTINGS[name], gradients_for(5)
    alone, _ = run(o, gradients)
    one, two = o.init(gradients[0]), o.init(gradients[0])
    steps = []
    for g in gradients:
        o.step(-g, one)
        steps.append(o.step(g, two))
    assert np.array_equal(steps, alone)
    assert {id(v) for v in one.values()}.isdisjoint(id(v) for v in two.values())


@pytest.mark.parametrize("name", NAMES)
def test_step_is_a_new_array(name):
    """Kills a step that is a view of the state or the gradient: `flat += step` would be safe,
    `step *= …` not."""
    o, g = SETTINGS[name], np.ones(3)
    state = o.init(g)
    step = o.step(g, state)
    assert not any(np.shares_memory(step, a) for a in (g, *state.values()))


@pytest.mark.parametrize("name", NAMES)
def test_first_step_increases_the_objective_and_is_zero_for_a_zero_gradient(name):
    """Kills descent, and 0/0 where a parameter has had no gradient yet."""
    o = OPTIMIZERS[name]()
    step = o.step(np.array([2.0, -3.0, 0.0]), o.init(np.zeros(3)))
    assert np.array_equal(np.sign(step), [1, -1, 0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.5, np.float64(0.5)], ids=["float", "numpy float64"])
def test_float32_stays_float32(name, scale):
    """Kills float64 slots, and a schedule's NumPy number that lifts the step to float64."""
    o, g = SETTINGS[name], gradients_for(5, 1)[0].astype("float32")
    state = o.init(g)
    assert o.step(g, state, scale).dtype == np.float32
    assert {a.dtype.name for key, a in state.items() if key != "t"} <= {"float32"}


def test_make_optimizer_by_name_with_its_own_rate_or_a_given_one():
    for name, kind in OPTIMIZERS.items():
        assert optimizers.make_optimizer(name) == kind()
        assert optimizers.make_optimizer(name, 0.25) == kind(0.25)
        assert optimizers.make_optimizer(SETTINGS[name]) is SETTINGS[name]
    with pytest.raises(ValueError, match="learning_rate: expected none beside SGD"):
        optimizers.make_optimizer(SGD(), 0.1)
    with pytest.raises(ValueError, match="optimizer: expected one of sgd, momentum"):
        optimizers.make_optimizer("Adam")


def test_settings_left_out_are_those_of_the_papers():
    """Kills a changed default: the published results of this package depend on the defaults."""
    defaults = {
        "sgd": SGD(1e-3),
        "momentum": Momentum(1e-3, rho=0.9),
        "adagrad": Adagrad(1e-2, eps=1e-8),
        "rmsprop": RMSProp(1e-3, rho=0.9, eps=1e-8),
        "rmsprop-centered": RMSProp(1e-3, rho=0.99, eps=1e-8, centered=True),
        "adam": Adam(1e-3, beta1=0.9, beta2=0.999, eps=1e-8),
    }
    assert {name: kind() for name, kind in OPTIMIZERS.items()} == defaults


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_is_a_finite_number_above_zero(name, rate):
    with pytest.raises(ValueError, match="learning_rate: expected a finite number above 0"):
        OPTIMIZERS[name](rate)


@pytest.mark.parametrize("memory", [1, 1.5, 0, -0.1, math.nan])
@pytest.mark.parametrize(
    ("kind", "name"), [(Momentum, "rho"), (RMSProp, "rho"), (Adam, "beta1"), (Adam, "beta2")]
)
def test_memory_of_one_or_more_is_refused(kind, name, memory):
    """At 1 a bias correction divides by 0; above it a mean of squares turns negative."""
    with pytest.raises(ValueError, match=f"{name}: expected a"):
        kind(**{name: memory})


@given(st.floats(0.1, 1e4), st.floats(0, 1), st.floats(0, 2))
def test_cosine_schedule(epochs, final, fraction):
    """Kills degrees for radians, a second half that rises, a fall below `final`."""
    factor = schedules.cosine_schedule(epochs, final)
    exact = final + (1 - final) * (1 + math.cos(math.pi * min(fraction, 1))) / 2
    assert abs(factor(fraction * epochs) - exact) <= 1e-12
    assert factor(0.0) == 1
    assert abs(factor(epochs) - final) <= 1e-15
    assert schedules.cosine_schedule(epochs)(epochs) == 0


def check_burda_schedule():
    """Kills a stage that ends an epoch early or late: 10^(−i/7) for 3^i passes, i = 0 … 7."""
    passes = [i for i in range(8) for _ in range(3**i)]
    assert len(passes) == 3280
    found = [schedules.burda_schedule(epoch) for epoch in range(3280)]
    np.testing.assert_allclose(found, [10 ** (-i / 7) for i in passes], rtol=1e-15)
    assert schedules.burda_schedule(0.99) == 1
    assert schedules.burda_schedule(5000) == 0.1


def test_burda_schedule():
    check_burda_schedule()
