"""The compiled functions against NumPy: optimizers to the bit, functions within rounding."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_numba
from test_imports import WITH_NUMBA

from numpyvae import SGD, VAE, Adam, NonFiniteError, cosine_schedule, fast, fit
from numpyvae.core.distributions import binomial_logpmf
from numpyvae.core.layers import sigmoid
from numpyvae.core.optimizers import Adagrad
from numpyvae.fast import (
    CompiledAdagrad,
    CompiledAdam,
    CompiledDReG,
    CompiledIWAE,
    CompiledSGVB,
    compiled,
    compiled_optimizer,
)
from numpyvae.fast.model import _loops
from numpyvae.fast.one_pass import loop
from numpyvae.fast.parts import RELU, SOFTPLUS, TANH
from numpyvae.fast.step import _whole
from numpyvae.support.special import log_binomial_coefficient

EPS = np.finfo("float32").eps
networks, densities = (
    importlib.import_module(f"numpyvae.fast.{name}") if importlib.util.find_spec("numba") else None
    for name in ("networks", "densities")
)


def test_without_numba_there_is_one_clear_line(monkeypatch):
    """Kills a bare ModuleNotFoundError, and one that is raised only during training."""
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in WITH_NUMBA:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(fast, name.rpartition(".")[2], raising=False)
    for load in (loop, _loops, _whole):
        load.cache_clear()
    calls = [CompiledAdagrad, CompiledAdam, CompiledSGVB, CompiledIWAE, CompiledDReG]
    for name, call in (
        *((kind.__name__, kind) for kind in calls),
        ("compiled", lambda: compiled(VAE(4, 2))),
    ):
        with pytest.raises(ImportError, match=rf"^{name}: expected Numba, .*numpyvae\[fast\]"):
            call()


def test_what_is_not_a_model_gets_one_clear_line():
    with pytest.raises(TypeError, match=r"^vae: expected .* to compile, got str$"):
        compiled("model.npz")


# Adam and Adagrad.


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "plain",
    [Adam(2e-3, beta1=0.8, beta2=0.95, eps=1e-4), Adagrad(2e-2, eps=1e-2, clip_norm=20.0)],
    ids=repr,
)
def test_a_compiled_optimizer_takes_the_same_steps_to_the_bit(plain, dtype):
    """Kills an uncorrected moment, ε inside the root, contracted or float64 arithmetic."""
    ours = compiled_optimizer(plain)
    assert type(ours) is {Adam: CompiledAdam, Adagrad: CompiledAdagrad}[type(plain)]
    g = np.random.default_rng(0).standard_normal((5, 1001)).astype(dtype)
    states, flats = [plain.init(g[0]), ours.init(g[0])], [g[0].copy(), g[0].copy()]
    for t, gradient in enumerate(g):
        one, other = (o.step(gradient, s, 1 / (t + 1)) for o, s in zip((plain, ours), states))
        assert one.dtype == other.dtype == dtype
        assert np.array_equal(one, other)
        for o, flat, state in zip((plain, ours), flats, states):
            assert o.ascend(flat, gradient, state, 0.5) is None
        assert np.array_equal(*flats)
    assert all(np.array_equal(states[0][k], states[1][k]) for k in states[0])


@needs_numba
@pytest.mark.parametrize("kind", [CompiledAdam, CompiledAdagrad])
def test_a_compiled_optimizer_refuses_a_setting_that_is_not_valid(kind):
    """Kills a compiled class that does not check its settings."""
    with pytest.raises(ValueError, match=r"^learning_rate: expected .* got -1"):
        kind(-1.0)
    with pytest.raises(TypeError, match=r"^eps: expected "):
        kind(eps="small")


@needs_numba
def test_what_has_no_loop_is_left_as_it_is():
    """Kills a class of a user's that is replaced by its base, and an optimizer compiled twice."""

    class Own(Adam):
        pass

    for optimizer in (SGD(0.1), Own(0.1), CompiledAdam(0.1)):
        assert compiled_optimizer(optimizer) is optimizer


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_falls_below_the_normal_numbers_becomes_zero(dtype):
    """Kills a state with subnormal numbers, slow to compute with, and a step that this changes."""
    tiny, subnormal = np.finfo(dtype).tiny, set()
    adams = Adam(beta1=0.7, beta2=0.6), CompiledAdam(beta1=0.7, beta2=0.6)
    flats = [np.linspace(-1, 1, 40, dtype=dtype) for _ in adams]
    states = [adam.init(flats[0]) for adam in adams]
    gradient = np.geomspace(1e-3, 1, 40, dtype=dtype)
    while states[0]["m"].max() > tiny or not states[0]["t"]:
        for adam, flat, state in zip(adams, flats, states):
            adam.ascend(flat, gradient, state)
        gradient = np.zeros_like(gradient)
        for name in ("m", "v"):
            plain, ours = (state[name] for state in states)
            subnormal |= {name} if ((plain > 0) & (plain < tiny)).any() else set()
            assert (ours[ours != 0] >= tiny).all()
            kept = plain >= 16 * tiny
            assert np.array_equal(ours[kept], plain[kept])
    assert subnormal == {"m", "v"}
    assert np.array_equal(*flats)


@needs_numba
@pytest.mark.parametrize("kind", [CompiledAdam, CompiledAdagrad])
def test_a_step_that_is_not_finite_is_returned_and_not_added(kind):
    """Kills NaN in the parameters, and a step lost or not noticed."""
    flat, g = np.zeros(3, "float32"), np.array([1, 0, -1], "float32")
    adam = kind(1e-2, eps=1e-60)  # 0 in float32, so that a gradient of 0 makes 0/0
    with np.errstate(invalid="ignore"):
        failed = adam.ascend(flat, g, adam.init(flat))
        np.testing.assert_array_equal(adam.step(g, adam.init(flat)), failed)
    np.testing.assert_allclose(failed, [1e-2, np.nan, -1e-2], rtol=1e-6)
    np.testing.assert_allclose(flat, [1e-2, 0, -1e-2], rtol=1e-6)
    assert adam.ascend(flat, np.ones_like(g), adam.init(flat)) is None


@needs_numba
@pytest.mark.parametrize("kind", [CompiledAdam, CompiledAdagrad])
def test_a_step_to_a_value_that_is_not_finite_is_not_added(kind):
    """Kills parameters that overflow in a sum of finite steps."""
    flat, g = np.array([0, 2e38, -2e38], "float32"), np.array([1, 1, -1], "float32")
    adam = kind(3e38)
    failed = adam.ascend(flat, g, adam.init(flat))
    np.testing.assert_allclose(failed, [3e38, 3e38, -3e38], rtol=1e-6)
    np.testing.assert_allclose(flat, [3e38, 2e38, -2e38], rtol=1e-6)


@needs_numba
@pytest.mark.parametrize(
    ("g", "flat", "name"),
    [
        (np.ones(6), np.zeros(6), "gradient"),
        (np.ones(2), np.zeros(3), "gradient"),
        (np.ones((3, 1)), np.zeros(3), "gradient"),
        (np.ones(3, int), np.zeros(3), "gradient"),
        (np.ones(3), np.zeros(2), "parameters"),
        (np.ones(3), np.zeros(3, int), "parameters"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "slot", "error"),
    [(CompiledAdam, "v", "v: .* 3 floats"), (CompiledAdagrad, "sum", "gradient: .* 2 floats")],
)
def test_a_compiled_optimizer_refuses_what_does_not_fit(kind, slot, error, g, flat, name):
    """Kills access beyond the end of an array, and a rate rounded to the integer 0."""
    optimizer = kind()
    with pytest.raises(ValueError, match=rf"^{name}: expected a vector of 3 floats, .* got "):
        optimizer.ascend(flat, g, optimizer.init(np.zeros(3)))
    with pytest.raises(ValueError, match=rf"^{error}, as in the state of {kind.__name__}, got "):
        optimizer.step(np.ones(3), optimizer.init(np.zeros(3)) | {slot: np.zeros(2)})


@needs_numba
def test_training_stops_at_a_step_that_is_not_finite():
    """Kills a failure that `fit` does not notice, or half a step that is not undone."""
    vae, x = VAE(4, 2, (3,)), np.zeros((6, 4), "float32")
    start = vae.parameters.flat.copy()
    with pytest.raises(NonFiniteError, match=r"step 1: .*encoder\.W0"):  # x = 0: no gradient
        fit(compiled(vae), x, epochs=1, optimizer=CompiledAdam(1e-2, eps=1e-60))
    assert np.array_equal(vae.parameters.flat, start)  # the finite steps too are undone


@needs_numba
def test_training_with_compiled_adam_gives_the_same_bits():
    """Kills a step that ignores a slice (update="theta") or the factor of a schedule."""
    settings = {"epochs": 2, "batch_size": 7, "schedule": cosine_schedule(3)}
    x = np.random.default_rng(0).integers(0, 2, (20, 6))
    for update in ("both", "phi", "theta"):
        runs = [VAE(6, 2, (5,), seed=1) for _ in range(2)]
        for vae, kind in zip(runs, (Adam, CompiledAdam)):
            fit(vae, x, optimizer=kind(1e-2), update=update, **settings)
        assert np.array_equal(runs[0].parameters.flat, runs[1].parameters.flat)


@needs_numba
def test_without_a_writable_folder_the_loops_are_compiled_again(monkeypatch):
    """Kills an error of Numba's if the installation and the home folder are read-only."""
    compiling = importlib.import_module("numpyvae.fast.compiling")

    def double(x):
        return 2 * x

    def fails(error):
        def fail(*args):
            raise error

        return fail

    no_folder = RuntimeError("cannot cache function: no locator available")
    with monkeypatch.context() as patch:
        patch.setattr("numba.core.caching.CacheImpl.__init__", fails(no_folder))
        assert compiling.compile_with()(double)(3) == 6
    for name, error in (("load", EOFError), ("flush", PermissionError), ("save", EOFError)):
        monkeypatch.setattr(f"numba.core.caching.IndexDataCacheFile.{name}", fails(error))
        assert compiling.compile_with()(double)(3) == 6


@needs_numba
def test_compiled_code_on_disk_is_used_until_it_is_damaged_or_a_file_changes(tmp_path):
    """Kills an error that ends every command, compilation in each process, and stale code."""
    code = """if True:
        import numpy as np
        from numpyvae.fast.densities import add_up
        print(add_up(np.ones(3, "f4"), 3), sum(add_up.stats.cache_hits.values()))
        """
    package = Path(fast.__file__).parents[1]
    shutil.copytree(
        package, tmp_path / "numpyvae", ignore=shutil.ignore_patterns("*.np?", "__py*")
    )
    places = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    settings = {"cwd": tmp_path, "env": os.environ | places, "capture_output": True, "text": True}

    def run():
        result = subprocess.run([sys.executable, "-c", code], **settings)
        assert result.stderr == ""
        return result.stdout.split()

    compiled_now, from_disk = ["3.0", "0"], ["3.0", "1"]
    assert [run(), run()] == [compiled_now, from_disk]
    for suffix in (".nbi", ".nbc"):
        (path,) = (tmp_path / "cache").rglob(f"*add_up*{suffix}")
        path.write_bytes(b"damaged")
        assert run() == compiled_now
    with (tmp_path / "numpyvae/fast/whole.py").open("a") as file:
        file.write("# changed\n")
    assert [run(), run()] == [compiled_now, from_disk]


# Activations and log p, in units of the last place of float32.


def activated(x, kind=TANH):
    """f(x) without a bias, with its pullback; x is a vector."""
    y, b = np.array(x)[:, None], np.full(1, -0.0, "float32")  # x + (−0) is x, for x = −0 too
    networks.activate(y, b, kind)

    def pull(dy):
        dx = np.array(dy)[:, None]
        networks.pull_activation(y, dx, np.empty_like(b), kind)
        return dx[:, 0]

    return y[:, 0], pull


def log_prob(x, l, n=1):
    """log p(x|z) of logits (R, D), and its derivative in them."""
    logp, dl = np.empty(len(l), "float32"), l.copy()
    densities.binomial(x, dl, np.zeros_like(l[0]), np.float32(n), logp, True)
    same, value = l.copy(), np.empty_like(logp)
    densities.binomial(x, same, np.zeros_like(l[0]), np.float32(n), value, False)
    assert np.array_equal(same, l, equal_nan=True)
    assert np.array_equal(value, logp, equal_nan=True)
    return logp, dl


def ulps(found, exact):
    """Largest error in units in the last place of the exact value."""
    assert found.dtype == np.float32
    return np.max(np.abs(found.astype(float) - exact) / np.spacing(np.abs(exact).astype("f4")))


def grid():
    """Numbers at which a polynomial, a power of two or a difference may go wrong."""
    magnitude = np.concatenate([np.geomspace(1e-30, 1e-3, 3000), np.linspace(1e-3, 86, 200_001)])
    halves = np.log(2) * np.arange(0.25, 100, 0.25)  # where k changes, and half-way between
    halves = halves[halves < 86, None] * (1 + EPS * np.arange(-3, 4))
    x = np.concatenate([magnitude, halves.ravel()])
    return np.concatenate([x, -x]).astype("float32")


@needs_numba
def test_tanh_is_right_to_three_units_in_the_last_place():
    """Kills 1 − e^−2|x| with its digits lost near 0, a ln 2 of one part, a lost sign."""
    x = grid()
    y, pull = activated(x)
    assert ulps(y, np.tanh(x.astype(float))) <= 3
    dy = np.random.default_rng(0).standard_normal(x.shape).astype("float32")
    np.testing.assert_allclose(pull(dy), (1 - y.astype(float) ** 2) * dy, atol=EPS, rtol=2 * EPS)


@needs_numba
def test_softplus_is_right_to_three_units_in_the_last_place():
    """Kills log(1 + t) with the digits of t lost, and a derivative 1 − e^−y that cancels."""
    x = grid()
    y, pull = activated(x, SOFTPLUS)
    assert ulps(y, np.logaddexp(0, x.astype(float))) <= 3
    assert ulps(pull(np.ones_like(x)), sigmoid(x.astype(float))[0]) <= 6


@needs_numba
def test_values_without_a_number():
    """Kills e^−87 for a NaN: the NaN must remain, so that training stops."""
    x = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 200, -200], "float32")
    y, _ = activated(x)
    assert np.array_equal(y, np.float32([1, -1, np.nan, 0, 0, 1, -1]), equal_nan=True)
    assert np.signbit(y[4])
    for kind, end in ((RELU, np.inf), (SOFTPLUS, np.inf)):
        y, _ = activated(x[:3], kind)
        assert np.array_equal(y[[0, 2]], [end, np.nan], equal_nan=True)
    logp, dl = log_prob(np.ones((1, 1), "float32"), np.full((1, 1), np.nan, "float32"))
    assert np.isnan(logp).all()
    assert np.isnan(dl).all()
    infinite = np.float32([[np.inf], [-np.inf]])
    for value in (0, 1):  # kills: a log p of +∞
        logp, _ = log_prob(np.full((2, 1), value, "float32"), infinite)
        assert not (logp > -np.inf).any()


@needs_numba
def test_log_p_of_one_pixel_is_right_to_three_units_in_the_last_place():
    """Kills 1 + t before its logarithm, max for min, and a sigmoid of the wrong side."""
    l = grid()[:, None]
    l64 = l.astype(float)
    for value in (0, 1):
        logp, dl = log_prob(np.full(l.shape, value, "float32"), l)
        sign = 2 * value - 1
        assert ulps(logp, -np.logaddexp(0, -sign * l64)[:, 0]) <= 3
        np.testing.assert_allclose(dl, value - sigmoid(l64)[0], rtol=0, atol=2 * EPS)
        if value == 0:  # −sigmoid(l) keeps its digits down to the smallest
            assert ulps(dl, -sigmoid(l64)[0]) <= 3


@needs_numba
def test_far_out_log_p_is_small_and_finite():
    """Kills an exponent that wraps round below e^−87, which is the smallest there is here."""
    l = np.float32([[88], [1000], [3e38]])
    logp, dl = log_prob(np.ones((3, 1), "float32"), l)
    assert (np.abs(logp) <= 2e-38).all()
    assert np.array_equal(dl, np.zeros((3, 1)))
    logp, _ = log_prob(np.zeros((3, 1), "float32"), l)
    assert np.array_equal(logp, -l[:, 0])


@needs_numba
@pytest.mark.parametrize("n", [1, 16])
@pytest.mark.parametrize("D", [1, 127, 128, 129, 300])
def test_log_p_sums_over_the_pixels_of_its_own_row(n, D):
    """Kills the wrong row of x, a last run left out, float32 sums."""
    rng = np.random.default_rng(D)
    x = rng.integers(0, n + 1, (5, D)).astype("float32")
    l = 3 * rng.standard_normal((15, D)).astype("float32")
    exact, pull = binomial_logpmf(x.astype(float), l.astype(float).reshape(3, 5, D), n)
    exact -= log_binomial_coefficient(x.astype(float), n)
    logp, dl = log_prob(x, l, n)
    np.testing.assert_allclose(logp, exact.ravel(), rtol=4 * EPS)
    dl_exact = pull(np.ones((3, 5))).reshape(15, D)
    np.testing.assert_allclose(dl, dl_exact, rtol=8 * EPS, atol=4 * n * EPS)


@needs_numba
def test_log_p_of_many_pixels():
    """Kills a sum over the row in float32 alone."""
    l = np.random.default_rng(0).standard_normal((3, 200_000)).astype("float32")
    exact, _ = binomial_logpmf(np.zeros(l.shape), l.astype(float)[None], 1)
    np.testing.assert_allclose(log_prob(np.zeros_like(l), l)[0], exact[0], rtol=2 * EPS)
