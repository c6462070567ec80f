"""The compiled model against that of NumPy: log p(x|z), its pullbacks, log weights, evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import LIKELIHOODS, data_for, needs_numba, noise, small_vae
from test_fast_step import NOT_COMPILED, Silent, in_python
from test_planted_bugs import plant

from numpyvae import VAE, Adam, elbo_and_grad, fit
from numpyvae.bounds import annealed_log_likelihood, importance_log_likelihood, log_weights
from numpyvae.clinic.gradcheck import relative_error
from numpyvae.core.likelihoods import Bernoulli
from numpyvae.estimators import IWAE, SGVBB, STL
from numpyvae.fast import CompiledAdam, compiled
from numpyvae.fast.model import CompiledVAE, _loops

EPS = np.finfo("float32").eps


def check_model(likelihood="bernoulli", activation="tanh", hidden=(4, 3), dtype="float64"):
    """Networks, log p(x|z), their pullbacks and log w of one model are those of NumPy."""
    vae = small_vae(likelihood, dtype, activation=activation, hidden=hidden)
    twin, x, eps = compiled(vae), data_for(likelihood, 5).astype(dtype), noise(3, 5).astype(dtype)
    assert type(twin) is CompiledVAE
    found = [list(values_of(model, x, eps)) for model in (vae, twin)]
    assert len(found[0]) > 10
    for expected, value in zip(*found):
        assert value.dtype == dtype
        assert value.shape == expected.shape
        assert relative_error(value.ravel(), expected.ravel()) <= 100 * np.finfo(dtype).eps


def values_of(model, x, eps):
    """Yield what a model computes, forward and backward."""
    (mu, logvar), pull = model.encoder(x)
    yield from (mu, logvar)
    gradient = model.parameters.zeros_like()
    pull(eps[0], eps[1], gradient)
    yield gradient.flat
    out, pull_decoder = model.decoder(eps)
    logp, pull_logp = model.log_likelihood(x, eps)
    yield from (out, logp, log_weights(model, x, mu, logvar, eps))
    for pull, dy in ((pull_decoder, out), (pull_logp, logp)):
        yield pull(dy)
        for input_gradient in (True, False):
            gradient = model.parameters.zeros_like()
            dz = pull(dy, gradient, input_gradient)
            yield from ([gradient.flat] if dz is None else [gradient.flat, dz])


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_compiled_model_computes_what_the_model_computes(likelihood, activation, dtype):
    """Kills a lost bias, a second call of a pullback with other results, a wrong part of θ."""
    for hidden in ((), (4,), (4, 3)):
        check_model(likelihood, activation, hidden, dtype)


PLANTED = [
    ("decoding.decode", "+= constant[r % B]", "+= constant[0]", "binomial:16"),
    ("decoding.pull_decode", "likelihood == LEARNED", "False", "gaussian:learned"),
    ("posterior.log_weights", "- log_ratio", "+ log_ratio", "bernoulli"),
    ("evaluation.weigh", "sigma, _ =", "_, sigma =", "bernoulli"),
    ("model.CompiledVAE.log_likelihood", "out.copy()", "out", "bernoulli"),
    ("model.CompiledVAE._network", "out += flat[-m:]", "pass", "bernoulli"),
    ("model.CompiledVAE._network", "dout.sum(axis=0, out=gradient[-m:])", "pass", "bernoulli"),
]


@needs_numba
@pytest.mark.parametrize(
    ("where", "old", "new", "likelihood"), PLANTED, ids=[row[1] for row in PLANTED]
)
def test_a_bug_planted_in_the_model_is_seen(where, old, new, likelihood, monkeypatch):
    in_python(monkeypatch)
    check_model(likelihood)
    plant(monkeypatch, f"fast.{where}", [(old, new)])
    with pytest.raises(AssertionError):
        check_model(likelihood)


@needs_numba
def test_the_model_and_the_compiled_model_share_parameters_and_file(tmp_path):
    """Kills parameters that are a copy, and a file that only Numba can read."""
    vae = small_vae("binomial:16", "float32")
    twin = compiled(vae)
    assert twin.parameters is vae.parameters
    assert twin.architecture is vae.architecture
    assert repr(twin) == repr(vae)
    twin.save(tmp_path / "twin.npz")
    vae.save(tmp_path / "plain.npz")
    assert (tmp_path / "twin.npz").read_bytes() == (tmp_path / "plain.npz").read_bytes()
    assert type(VAE.load(tmp_path / "twin.npz")) is VAE


@needs_numba
def test_derivatives_broadcast():
    """Kills access beyond the end of an array, and an imaginary part that is dropped."""
    vae, x = small_vae(dtype="float32"), data_for("bernoulli").astype("float32")
    for method in ("decoder", "log_likelihood"):
        args = (noise(3).astype("float32"),) if method == "decoder" else (x, noise(3).astype("f4"))
        (y, pull), (_, pull_twin) = (getattr(m, method)(*args) for m in (vae, compiled(vae)))
        for dy in (np.float64(2), np.arange(y.shape[-1]), np.asfortranarray(y)):
            dy = np.broadcast_to(dy, y.shape)  # read-only, of stride 0, of other dtypes
            assert relative_error(pull_twin(dy).ravel(), pull(dy).ravel()) <= 20 * EPS
        for wrong in (np.ones(7), np.ones((2, *y.shape))):
            with pytest.raises(ValueError, match=r"broadcast|reshape|more dimensions"):
                pull_twin(wrong)
        with pytest.raises(TypeError, match="complex128"):
            pull_twin(np.full(y.shape, 1j))


@needs_numba
def test_any_layout_of_data_and_latents_is_taken():
    """Kills a product of rows that are not contiguous, and an error for read-only data."""
    vae = compiled(small_vae(dtype="float32"))
    x, z = data_for("bernoulli").astype("float32"), noise(3).astype("float32")
    expected, _ = vae.log_likelihood(x, z)
    fixed = x.copy()
    fixed.flags.writeable = False
    for data in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], fixed):
        for latents in (np.asfortranarray(z), np.repeat(z, 2, axis=2)[..., ::2]):
            assert np.array_equal(vae.log_likelihood(data, latents)[0], expected)


@needs_numba
def test_what_does_not_fit_is_left_to_numpy():
    """Kills rows of x that are used repeatedly, and loops beyond the end of an array."""
    vae, x, z = small_vae(dtype="float32"), data_for("bernoulli"), noise(3)
    twin, single = compiled(vae), (x.astype("float32"), z.astype("float32"))
    for data, latents in ((x, z), (single[0], z), (x, single[1])):
        one, other = (model.log_likelihood(data, latents)[0] for model in (vae, twin))
        np.testing.assert_allclose(one, other, rtol=4 * EPS)
    for data, latents in ((single[0][:3], single[1]), (single[0][:, :2], single[1])):
        with pytest.raises(ValueError, match="broadcast"):
            twin.log_likelihood(data, latents)
    with pytest.raises(ValueError, match=r"mismatch|aligned"):
        twin.log_likelihood(single[0], single[1][..., :1])


@needs_numba
def test_complex_parameters_are_left_to_numpy():
    """Kills an imaginary part that is dropped: the complex step needs it."""
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(2)
    flat = vae.parameters.flat + 1e-3j
    mu, logvar = noise(2)
    found = []
    for model in (vae, compiled(vae)):
        logp, pull = model.with_flat(flat).log_likelihood(x, eps)
        found.append((logp, pull(logp), log_weights(model.with_flat(flat), x, mu, logvar, eps)))
    for one, other in zip(*found):
        assert one.dtype == complex
        assert np.array_equal(one, other)


@needs_numba
@pytest.mark.parametrize(("vae", "got"), NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_parts_of_the_readers_own_are_called_and_a_line_says_so(vae, got):
    """Kills compiled code in place of a part of the reader's own."""
    with pytest.warns(UserWarning, match=rf"^compiled: expected .*{got}; NumPy computes"):
        twin = compiled(vae)
    assert (twin is vae) == isinstance(vae, Silent)
    x, eps = data_for("bernoulli", 4, 4), noise(3)
    for one, other in zip(elbo_and_grad(vae, x, eps), elbo_and_grad(twin, x, eps)):
        assert relative_error(other, one) <= 20 * EPS
    found = [importance_log_likelihood(model, x, 5) for model in (vae, twin)]
    np.testing.assert_allclose(*found, rtol=20 * EPS)


@needs_numba
def test_a_subclass_that_changes_nothing_compiled_is_compiled(monkeypatch):
    """Kills a test of the type in place of the methods."""

    class Named(Bernoulli):
        def mean(self, out):
            return super().mean(out) / 2

    decoding, _, _ = _loops()
    called, decode = [], decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *args: called.append(1) or decode(*args))
    twin = compiled(VAE(4, 2, (3,), likelihood=Named()))
    twin.log_likelihood(np.ones((1, 4), "float32"), np.zeros((1, 1, 2), "float32"))
    assert called == [1]


@needs_numba
@pytest.mark.parametrize("estimator", [SGVBB(), IWAE(3), STL()])
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


# Evaluation.


@needs_numba
def test_evaluation_of_a_compiled_model_is_the_same_for_any_number_of_threads():
    """Kills a compiled function that stores something between its calls, and the wrong draws."""
    vae = small_vae(dtype="float32", data_dim=200)
    twin, x = compiled(vae), data_for("bernoulli", 60, 200)
    one, two = (importance_log_likelihood(twin, x, 30, n_jobs=n) for n in (1, 2))
    assert np.array_equal(one, two)
    np.testing.assert_allclose(one, importance_log_likelihood(vae, x, 30), rtol=1e-5)
    few = importance_log_likelihood(twin, x, 30, memory=1.0)  # other blocks
    np.testing.assert_allclose(few, one, rtol=1e-6)


@needs_numba
def test_a_compiled_model_works_in_other_processes():
    """Kills a model whose compiled functions go with it, which cannot be pickled."""
    from joblib import parallel_config
    from joblib.externals.loky import get_reusable_executor

    twin, x = compiled(small_vae(dtype="float32", data_dim=20)), data_for("bernoulli", 60, 20)
    alone = importance_log_likelihood(twin, x, 30, n_jobs=1)
    with parallel_config(backend="loky", n_jobs=2):
        assert np.array_equal(importance_log_likelihood(twin, x, 30), alone)
    get_reusable_executor().shutdown(wait=True)


@needs_numba
def test_annealing_of_a_compiled_model_is_that_of_the_model():
    """Kills a gradient in z that the Hamiltonian moves do not get."""
    vae, x = small_vae(), data_for("bernoulli", 5)
    one, other = (
        annealed_log_likelihood(model, x, n_temperatures=10, n_chains=3, n_jobs=jobs)
        for model, jobs in ((vae, 1), (compiled(vae), 2))
    )
    np.testing.assert_allclose(other.log_lower, one.log_lower, rtol=1e-6)
