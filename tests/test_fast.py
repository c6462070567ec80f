"""The compiled functions against NumPy: Adam to the bit, tanh and log p within rounding."""

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
from conftest import LIKELIHOODS, data_for, noise, small_vae

from numpyvae import VAE, Adam, NonFiniteError, cosine_schedule, elbo_and_grad, fast, fit
from numpyvae.bounds import importance_log_likelihood
from numpyvae.clinic.gradcheck import relative_error
from numpyvae.core.distributions import binomial_logpmf
from numpyvae.core.layers import sigmoid, tanh
from numpyvae.core.likelihoods import Binomial
from numpyvae.estimators import IWAE, SGVBB
from numpyvae.fast import CompiledAdam, CompiledDReG, CompiledIWAE, CompiledSGVB, compiled
from numpyvae.fast.adam import kernels
from numpyvae.fast.model import CompiledTanh
from numpyvae.fast.step import _whole

EPS = np.finfo("float32").eps
missing = importlib.util.find_spec("numba") is None
needs_numba = pytest.mark.skipif(missing, reason='needs Numba: pip install "numpyvae[fast]"')


COMPILED = ("compiling", "kernels", "scalars", "networks", "densities", "posterior", "whole")


def test_without_numba_there_is_one_clear_line(monkeypatch):
    """Kills a bare ModuleNotFoundError, and one that is raised only during training."""
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in COMPILED:
        monkeypatch.delitem(sys.modules, f"numpyvae.fast.{name}", raising=False)
        monkeypatch.delattr(fast, name, raising=False)
    for load in (kernels, _whole):
        load.cache_clear()
    calls = [CompiledAdam, CompiledSGVB, CompiledIWAE, CompiledDReG]
    for name, call in (
        *((kind.__name__, kind) for kind in calls),
        ("compiled", lambda: compiled(VAE(4, 2))),
    ):
        with pytest.raises(ImportError, match=rf"^{name}: expected Numba, .*numpyvae\[fast\]"):
            call()


def test_a_model_that_is_not_float32_gets_one_clear_line():
    with pytest.raises(TypeError, match=r"^vae: expected .* to compile, got a VAE of float64$"):
        compiled(VAE(4, 2, dtype="float64"))
    with pytest.raises(TypeError, match=r"^vae: expected .* to compile, got str$"):
        compiled("model.npz")


# Adam.


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_takes_the_same_steps_to_the_bit(dtype):
    """Kills an uncorrected moment, ε inside the root, contracted or float64 arithmetic."""
    settings = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-4}
    adams = Adam(2e-3, **settings), CompiledAdam(2e-3, **settings)
    g = np.random.default_rng(0).standard_normal((5, 1001)).astype(dtype)
    states = [adam.init(g[0]) for adam in adams]
    for t, gradient in enumerate(g):
        one, other = (a.step(gradient, s, 1 / (t + 1)) for a, s in zip(adams, states))
        assert one.dtype == other.dtype == dtype
        assert np.array_equal(one, other)
    assert all(np.array_equal(states[0][k], states[1][k]) for k in states[0])


@needs_numba
def test_a_step_that_is_not_finite_is_returned_and_not_added():
    """Kills NaN in the parameters, and a step lost or not noticed."""
    flat, g = np.zeros(3, "float32"), np.array([1, 0, -1], "float32")
    adam = CompiledAdam(1e-2, eps=1e-60)  # 0 in float32, so that a gradient of 0 makes 0/0
    with np.errstate(invalid="ignore"):
        failed = adam.ascend(flat, g, adam.init(flat))
        np.testing.assert_array_equal(adam.step(g, adam.init(flat)), failed)
    np.testing.assert_allclose(failed, [1e-2, np.nan, -1e-2], rtol=1e-6)
    np.testing.assert_allclose(flat, [1e-2, 0, -1e-2], rtol=1e-6)
    assert adam.ascend(flat, np.ones_like(g), adam.init(flat)) is None


@needs_numba
def test_a_step_to_a_value_that_is_not_finite_is_not_added():
    """Kills parameters that overflow in a sum of finite steps."""
    flat, g = np.array([0, 2e38, -2e38], "float32"), np.array([1, 1, -1], "float32")
    adam = CompiledAdam(3e38)
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
def test_adam_refuses_what_does_not_fit(g, flat, name):
    """Kills access beyond the end of an array, and a rate rounded to the integer 0."""
    adam = CompiledAdam()
    with pytest.raises(ValueError, match=rf"^{name}: expected a vector of 3 floats, .* got "):
        adam.ascend(flat, g, adam.init(np.zeros(3)))
    with pytest.raises(ValueError, match=r"^v: expected a vector of 3 floats, .* got "):
        adam.step(np.ones(3), adam.init(np.zeros(3)) | {"v": np.zeros(2)})


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
        from numpyvae.fast.kernels import add_up
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


# tanh and log p, in units of the last place of float32.


def log_prob(vae, x, out):
    """log p(x|z) from the decoder's outputs, with its pullback."""
    return vae.likelihood.log_prob(x, out, vae.parameters)


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
    x = grid().reshape(2, -1)
    y, pull = compiled(VAE(4, 2)).activation(x)
    assert y.shape == x.shape
    assert ulps(y, np.tanh(x.astype(float))) <= 3
    dy = np.random.default_rng(0).standard_normal(x.shape).astype("float32")
    np.testing.assert_allclose(pull(dy), (1 - y.astype(float) ** 2) * dy, atol=EPS, rtol=2 * EPS)


@needs_numba
def test_pullbacks_broadcast():
    """Kills access beyond the end of an array, and an imaginary part that is dropped."""
    rng = np.random.default_rng(0)
    l = rng.standard_normal((3, 4, 50)).astype("float32")
    vae, x = compiled(VAE(50, 2)), rng.integers(0, 2, (4, 50)).astype("float32")
    for f, exact in (
        (vae.activation, tanh),
        (lambda l: log_prob(vae, x, l), lambda l: binomial_logpmf(x, l, 1)),
    ):
        y, pull = f(l)
        for dy in (2.0, rng.standard_normal(y.shape[-1])):
            np.testing.assert_allclose(pull(dy), exact(l)[1](dy), rtol=1e-5, atol=1e-6)
        for wrong in (np.ones(7), np.ones((2, *y.shape))):
            with pytest.raises(ValueError, match=r"could not be broadcast|more dimensions"):
                pull(wrong)
    with pytest.raises(TypeError, match="complex128"):
        pull(np.full(y.shape, 1j))


@needs_numba
@pytest.mark.parametrize("order", ["F", "strided"])
def test_tanh_of_any_layout(order):
    """Kills a result that is written into a copy."""
    x = np.random.default_rng(0).standard_normal((6, 10)).astype("float32")
    view = np.asfortranarray(x) if order == "F" else x[::2, ::2]
    y, pull = compiled(VAE(4, 2)).activation(view)
    np.testing.assert_allclose(y, np.tanh(view), rtol=4 * EPS)
    np.testing.assert_allclose(pull(view), view / np.cosh(view) ** 2, rtol=4e-6)


@needs_numba
def test_values_without_a_number():
    """Kills e^−87 for a NaN: the NaN must remain, so that training stops."""
    vae = compiled(VAE(1, 2))
    x = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 200, -200], "float32")
    y, _ = vae.activation(x)
    assert np.array_equal(y, np.float32([1, -1, np.nan, 0, 0, 1, -1]), equal_nan=True)
    assert np.signbit(y[4])
    logp, pull = log_prob(vae, np.ones((1, 1), "float32"), np.full((1, 1, 1), np.nan, "float32"))
    assert np.isnan(logp).all()
    assert np.isnan(pull(np.ones_like(logp))).all()
    infinite = np.float32([[np.inf], [-np.inf]])[None]
    for value in (0, 1):  # kills: a log p of +∞
        logp, _ = log_prob(vae, np.full((2, 1), value, "float32"), infinite)
        assert not (logp > -np.inf).any()


@needs_numba
def test_log_p_of_one_pixel_is_right_to_three_units_in_the_last_place():
    """Kills 1 + t before its logarithm, max for min, and a sigmoid of the wrong side."""
    l = grid()[:, None]
    vae, l64 = compiled(VAE(1, 2)), l.astype(float)
    for value in (0, 1):
        x = np.full(l.shape, value, "float32")
        logp, pull = log_prob(vae, x, l[None])
        sign = 2 * value - 1
        assert ulps(logp[0], -np.logaddexp(0, -sign * l64)[:, 0]) <= 3
        dl = pull(np.ones_like(logp))[0]
        np.testing.assert_allclose(dl, value - sigmoid(l64)[0], rtol=0, atol=2 * EPS)
        if value == 0:  # −sigmoid(l) keeps its digits down to the smallest
            assert ulps(dl, -sigmoid(l64)[0]) <= 3


@needs_numba
def test_far_out_log_p_is_small_and_finite():
    """Kills an exponent that wraps round below e^−87, which is the smallest there is here."""
    l = np.float32([[88], [1000], [3e38]])
    logp, pull = log_prob(compiled(VAE(1, 2)), np.ones((3, 1), "float32"), l[None])
    assert (np.abs(logp) <= 2e-38).all()
    assert np.array_equal(pull(np.ones_like(logp)), np.zeros((1, 3, 1)))
    logp, _ = log_prob(compiled(VAE(1, 2)), np.zeros((3, 1), "float32"), l[None])
    assert np.array_equal(logp[0], -l[:, 0])


@needs_numba
@pytest.mark.parametrize("likelihood", ["bernoulli", "binomial:16"])
@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("D", [1, 127, 128, 129, 300])
def test_log_p_sums_over_the_pixels_of_its_own_row(likelihood, D, L):
    """Kills the wrong row of x, a last run left out, log C(n, x) forgotten, float32 sums."""
    rng = np.random.default_rng(D)
    vae = compiled(VAE(D, 2, likelihood=likelihood))
    n = vae.likelihood.n
    x = rng.integers(0, n + 1, (5, D)).astype("float32")
    l = 3 * rng.standard_normal((L, 5, D)).astype("float32")
    logp, pull = log_prob(vae, x, l)
    exact, exact_pull = binomial_logpmf(x.astype(float), l.astype(float), n)
    np.testing.assert_allclose(logp, exact, rtol=4 * EPS)
    dlogp = rng.standard_normal((L, 5)).astype("float32")
    dl = pull(dlogp)
    np.testing.assert_allclose(dl, exact_pull(dlogp), rtol=8 * EPS, atol=4 * n * EPS)
    assert (logp.dtype, dl.dtype, dl.shape) == (np.float32, np.float32, l.shape)
    shares = np.broadcast_to(np.float32(0.2), (L, 5))  # read-only, and of stride 0
    np.testing.assert_allclose(pull(shares), exact_pull(shares), rtol=8 * EPS, atol=4 * n * EPS)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    assert np.array_equal(log_prob(vae, strided, l)[0], logp)


@needs_numba
def test_x_with_other_rows_is_left_to_numpy():
    """Kills rows of x that are used repeatedly."""
    vae, x = compiled(VAE(4, 2)), np.ones((2, 4), "float32")
    with pytest.raises(ValueError, match="broadcast"):
        log_prob(vae, x, np.zeros((1, 3, 4), "float32"))


@needs_numba
def test_log_p_of_many_pixels():
    """Kills a sum over the row in float32 alone."""
    l = np.random.default_rng(0).standard_normal((1, 3, 200_000)).astype("float32")
    x = np.zeros(l.shape[1:], "float32")
    exact, _ = binomial_logpmf(x.astype(float), l.astype(float), 1)
    np.testing.assert_allclose(
        log_prob(compiled(VAE(200_000, 1, ())), x, l)[0], exact, rtol=2 * EPS
    )


# The model.


@needs_numba
@pytest.mark.parametrize("activation", ["tanh", "softplus", "sigmoid"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_compiled_model_has_the_same_elbo_and_gradient(likelihood, activation):
    """Kills a compiled function with other values; without one, the bits must agree."""
    vae = small_vae(likelihood, "float32", activation=activation)
    x, eps = data_for(likelihood), noise(3)
    twin = compiled(vae)
    assert isinstance(twin.activation, CompiledTanh) == (activation == "tanh")
    assert type(twin.likelihood) is type(vae.likelihood) or likelihood[0] == "b"
    assert twin.parameters is vae.parameters
    assert twin.architecture == vae.architecture
    assert vae.architecture == twin.architecture
    for one, other in zip(elbo_and_grad(vae, x, eps), elbo_and_grad(twin, x, eps)):
        assert relative_error(other, one) <= 20 * EPS
        if activation != "tanh" and likelihood.startswith("gaussian"):
            assert np.array_equal(other, one)


@needs_numba
def test_a_users_model_keeps_its_methods():
    """Kills a compiled model of the class VAE itself, without the methods of a subclass."""

    class Silent(VAE):
        def decoder(self, z):
            out, pull = super().decoder(z)
            return 0 * out, pull

    vae = Silent(4, 2)
    twin = compiled(vae)
    assert type(twin) is Silent
    assert isinstance(twin.activation, CompiledTanh)
    assert not twin.decoder(np.ones((1, 2, 2), "float32"))[0].any()


@needs_numba
@pytest.mark.parametrize("likelihood", ["bernoulli", "binomial:16"])
def test_a_compiled_model_is_saved_as_the_plain_one(likelihood, tmp_path):
    """Kills a file that only Numba can read, and parts that compare or hash as others."""
    vae = VAE(4, 2, likelihood=likelihood)
    twin = compiled(vae)
    assert twin.likelihood == vae.likelihood
    assert hash(twin.architecture) == hash(vae.architecture)
    assert twin.likelihood != VAE(4, 2, likelihood="binomial:3").likelihood
    assert twin.activation != VAE(4, 2, activation="relu").activation
    twin.save(tmp_path / "twin.npz")
    vae.save(tmp_path / "plain.npz")
    assert (tmp_path / "twin.npz").read_bytes() == (tmp_path / "plain.npz").read_bytes()
    loaded = VAE.load(tmp_path / "twin.npz")
    assert type(loaded.likelihood) is type(vae.likelihood)
    assert loaded.activation is tanh


@needs_numba
def test_a_users_likelihood_is_called():
    """Kills the Binomial's log p in place of that of its subclass."""

    class Inflated(Binomial):
        def log_prob(self, x, out, parameters):
            logp, pull = super().log_prob(x, out, parameters)
            return logp - 1, pull

    vae = VAE(4, 2, likelihood=Inflated(3))
    x, z = np.full((2, 4), 3, "float32"), np.zeros((1, 2, 2), "float32")
    one, other = (model.log_likelihood(x, z)[0] for model in (vae, compiled(vae)))
    np.testing.assert_allclose(one, other, rtol=1e-6)


@needs_numba
def test_other_precisions_use_numpy():
    """Kills a kernel that rounds float64 to float32, or drops an imaginary part."""
    vae, x, eps = small_vae(dtype="float32"), data_for("bernoulli"), noise(2)
    for dtype in ("float64", "complex128"):
        flat = vae.parameters.flat.astype(dtype)
        flat += 1e-3j if dtype == "complex128" else 0
        found = []
        for model in (vae, compiled(vae)):
            logp, pull = model.with_flat(flat).log_likelihood(x, eps)
            found.append((logp, pull(logp)))
        for one, other in zip(*found):
            assert one.dtype == dtype
            assert np.array_equal(one, other)


@needs_numba
@pytest.mark.parametrize("estimator", [SGVBB(), IWAE(3)])
def test_training_a_compiled_model_trains_the_model(estimator):
    """Kills parameters that are a copy, and a run with other results."""
    x = np.random.default_rng(0).integers(0, 2, (40, 6)).astype("float32")
    plain, vae = (VAE(6, 2, (5,), seed=1) for _ in range(2))
    histories = [
        fit(v, x, epochs=5, optimizer=o(1e-2), batch_size=8, estimator=estimator)
        for v, o in ((plain, Adam), (compiled(vae), CompiledAdam))
    ]
    np.testing.assert_allclose(vae.parameters.flat, plain.parameters.flat, atol=1e-4)
    np.testing.assert_allclose(histories[0]["elbo"], histories[1]["elbo"], rtol=1e-5)


@needs_numba
def test_log_p_of_a_compiled_model_is_the_same_for_any_number_of_threads():
    """Kills a kernel that stores something between its calls."""
    vae = small_vae(dtype="float32", data_dim=200)
    x = data_for("bernoulli", 60, 200)
    one, two = (importance_log_likelihood(compiled(vae), x, 30, n_jobs=n) for n in (1, 2))
    assert np.array_equal(one, two)
    np.testing.assert_allclose(one, importance_log_likelihood(vae, x, 30), rtol=1e-5)
