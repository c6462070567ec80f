"""The training step that is compiled whole: it is the step of NumPy, and a planted bug is seen."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import LIKELIHOODS, data_for, needs_numba, noise, small_vae
from ranks import alone
from test_planted_bugs import plant

from numpyvae import VAE, Adam, fit
from numpyvae.clinic.gradcheck import complex_step, relative_error
from numpyvae.core.elbo import Estimator
from numpyvae.core.likelihoods import Binomial
from numpyvae.estimators import IWAE, SGVBA, SGVBB, STL, DataParallel, DReG, WithWeightPrior
from numpyvae.fast import (
    CompiledAdam,
    CompiledDReG,
    CompiledIWAE,
    CompiledSGVB,
    compiled,
    compiled_estimator,
)
from numpyvae.fast.step import _whole

MODULES = ("networks", "densities", "posterior", "decoding", "evaluation", "whole")


def pairs(L=2, K=3):
    """Estimators of NumPy, each with its compiled counterpart."""
    return [
        (Estimator(n_samples=L), CompiledSGVB(n_samples=L)),
        (IWAE(K, n_samples=L), CompiledIWAE(K, n_samples=L)),
        (DReG(K, n_samples=L), CompiledDReG(K, n_samples=L)),
    ]


def cases(likelihood, activation):
    """Random models of float64 with data: four depths, and random widths below a limit."""
    rng = np.random.default_rng([len(likelihood), len(activation)])
    for seed, (depth, limit) in enumerate(((0, 9), (1, 9), (3, 9), (2, 260))):
        D, J, B, *hidden, L, K = (
            int(n)
            for n in (
                *rng.integers(limit // 2, limit, 1),
                *rng.integers(1, limit, depth + 2),
                *rng.integers(1, 4, 2),
            )
        )
        settings = {"activation": activation, "scale": 4.5 / limit, "seed": seed}
        vae = small_vae(likelihood, data_dim=D, latent_dim=J, hidden=tuple(hidden), **settings)
        for pair in pairs(L, K):
            yield vae, data_for(likelihood, B, D, seed), *pair


def estimates(vae, x, update, seed, *estimators):
    """Estimates with the same noise; one row of terms and one gradient for each."""
    eps = noise(estimators[0].n_draws, len(x), vae.latent_dim, seed)
    found = [e(vae, x, eps.astype(vae.dtype), update) for e in estimators]
    return [(np.array(e[:3]), e.gradient.flat) for e in found]


def check_same(vae, x, plain, fast_one, update="both", seed=0):
    """Terms and gradient are those of NumPy; the part that is not updated is zero."""
    found = estimates(vae, x, update, seed, plain, fast_one)
    for expected, value in zip(*found):
        assert relative_error(value, expected) <= 1e-12
    if update != "both":
        eps = noise(plain.n_draws, len(x), vae.latent_dim, seed)
        gradient = fast_one(vae, x, eps, update).gradient
        assert not gradient.part("theta" if update == "phi" else "phi").any()


@needs_numba
def test_a_compiled_estimator_works_in_shards():
    # kills: shards that the compiled step refuses, or whose noise it reads from another place
    vae, x = small_vae(), data_for("bernoulli", 11)
    for plain, fast_one in pairs():
        check_same(vae, x, plain, DataParallel(fast_one, alone()))


@needs_numba
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_compiled_step_is_the_step_of_numpy(likelihood, activation):
    """Kills a wrong offset at some depth, a draw for another row, a lost term."""
    for case in cases(likelihood, activation):
        for update in ("both", "phi", "theta"):
            check_same(*case, update)


def rounding_errors(vae, x, *estimators):
    """Errors of float32 against the first estimator in float64: of the terms and the gradient."""
    single = vae.with_flat(vae.parameters.flat.astype("float32"))
    double = vae.with_flat(single.parameters.flat.astype("float64"))
    x = x.astype("float32")
    (exact,) = estimates(double, x, "both", 0, estimators[0])
    for found in estimates(single, x, "both", 0, *estimators):
        assert found[1].dtype == np.float32
        yield [relative_error(value.astype(float), e) for value, e in zip(found, exact)]


@needs_numba
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_in_float32_the_compiled_step_is_as_accurate_as_that_of_numpy(likelihood):
    """Kills a polynomial with a wrong digit, a difference that loses digits, a short float sum."""
    errors = [
        list(rounding_errors(*case))
        for activation in ("tanh", "relu", "softplus")
        for case in cases(likelihood, activation)
    ]
    numpy, compiled = np.square(errors).mean(axis=0) ** 0.5  # (cases, estimators, 2) → (2,) each
    assert (compiled <= 3 * numpy).all()


def check_gradient(likelihood="gaussian:learned", activation="softplus"):
    """The compiled gradient is the complex step's derivative of the value of NumPy."""
    for plain, fast_one in pairs(L=2, K=3)[:2]:
        vae = small_vae(likelihood, activation=activation, hidden=(4, 3))
        x, eps = data_for(likelihood), noise(plain.n_draws)
        found = fast_one(vae, x, eps)

        value = partial(objective, vae, x, eps, plain)
        exact = complex_step(value, vae.parameters.flat)
        assert relative_error(found.gradient.flat, exact) <= 1e-11
        np.testing.assert_allclose(found.objective, value(vae.parameters.flat), rtol=1e-12)


def objective(vae, x, eps, estimator, flat):
    """The objective from the public pieces, for a complex parameter vector too."""
    vae = vae.with_flat(flat)
    (mu, logvar), _ = vae.encoder(x)
    z = mu + np.exp(0.5 * logvar) * eps
    log_px, _ = vae.log_likelihood(x, z)
    if type(estimator) is Estimator:
        kl = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(axis=-1)
        return (log_px.mean(axis=0) - kl).mean()
    log_w = log_px - 0.5 * (z * z - eps * eps - logvar).sum(axis=-1)
    log_w = log_w.reshape(estimator.n_samples, estimator.n_importance, len(x))
    return np.log(np.exp(log_w).mean(axis=1)).mean()


def check_estimates(likelihood="bernoulli", activation="tanh"):
    """All three estimators on one small model of float64."""
    vae = small_vae(likelihood, activation=activation, hidden=(4, 3))
    for plain, fast_one in pairs():
        for update in ("both", "phi"):
            check_same(vae, data_for(likelihood), plain, fast_one, update)


# Module, function, and (old, new) of its source; likelihood and activation that show the bug.
PLANTED = [
    ("networks.activate", "+ b[i])", "+ b[0])", "bernoulli", "tanh"),
    ("networks.pull_activation", "y[r, i] * y[r, i]", "y[r, i]", "bernoulli", "tanh"),
    ("networks.pull_activation", "db[:] = zero", "db[:] = one", "bernoulli", "tanh"),
    ("networks.pull_activation", "one_minus_exp(y[r, i])", "one", "bernoulli", "softplus"),
    ("networks.activate", "y[r, i] = zero if a < 0 else a", "y[r, i] = a", "bernoulli", "relu"),
    ("networks.add_bias", "+= b[i]", "+= 0", "bernoulli", "tanh"),
    ("networks.mlp", "if i < last", "if i <= last", "bernoulli", "tanh"),
    ("networks.pull_mlp", "gradient[p - n : p]", "gradient[p : p + n]", "bernoulli", "tanh"),
    ("networks.pull_mlp", "dx.size > 0", "False", "bernoulli", "tanh"),
    ("networks.pull_mlp", "if for_weights:", "if True:", "bernoulli", "tanh"),
    ("densities.binomial", "x[r % B, start", "x[0, start", "bernoulli", "tanh"),
    ("densities.binomial", "n * log_one_plus(t)", "log_one_plus(t)", "binomial:16", "tanh"),
    ("densities.binomial", "one if l > 0 else t", "t", "bernoulli", "tanh"),
    ("densities.gaussian", "LOG_2PI + logvar[d]", "logvar[d]", "gaussian:0.3", "tanh"),
    ("densities.gaussian", "deviation * inverse[d]", "deviation", "gaussian:0.3", "tanh"),
    ("densities.gaussian_head", "half * (square", "(square", "gaussian:head", "tanh"),
    ("densities.pull_variance", "variance[d] - one", "variance[d]", "gaussian:learned", "tanh"),
    ("densities.weigh_rows", "dy[r, i] *= a[r]", "dy[r, i] *= a[0]", "bernoulli", "tanh"),
    ("posterior.spread", "half * logvar", "logvar", "bernoulli", "tanh"),
    ("posterior.spread", "else exp_minus_one(logvar)", "else logvar", "bernoulli", "tanh"),
    ("posterior.draw", "eps[r, j] * eps[r, j]", "eps[r, j]", "bernoulli", "tanh"),
    ("posterior.divergence", "- logvar)", ")", "bernoulli", "tanh"),
    ("posterior.weights", "np.log(total / K)", "np.log(total)", "bernoulli", "tanh"),
    ("posterior.weights", "first = l * K * B + b", "first = l * B + b", "bernoulli", "tanh"),
    ("posterior.pull_draw", "dz[n, j] - a[n] * z[n, j]", "dz[n, j]", "bernoulli", "tanh"),
    ("posterior.pull_draw", "else -e[i, j] / B", "else 0", "bernoulli", "tanh"),
    ("posterior.pull_draw", "+= half * g", "+= g", "bernoulli", "tanh"),
    ("posterior.pull_draw", "- s[n])", ")", "bernoulli", "tanh"),
    ("decoding.last_bias", "D if kind == LEARNED", "D if kind", "gaussian:0.3", "tanh"),
    ("whole.coefficients", "r[i] = a[i] if squared else 1", "r[i] = 1", "bernoulli", "tanh"),
    ("whole.coefficients", "-a[i] if scored else 0", "0", "bernoulli", "tanh"),
    ("decoding.decode", "+= constant[r % B]", "+= 0", "binomial:16", "tanh"),
    ("networks.add_rows", "+= dy[r, i]", "+= dy[0, i]", "bernoulli", "tanh"),
]


def in_python(patch):
    """Take away the compiler: all loops run as the Python functions that they are."""
    modules = [importlib.import_module(f"numpyvae.fast.{name}") for name in MODULES]
    for module in modules:
        for name, held in list(vars(module).items()):
            if hasattr(held, "py_func"):
                patch.setattr(module, name, held.py_func)


@needs_numba
@pytest.mark.parametrize(
    ("where", "old", "new", "likelihood", "activation"), PLANTED, ids=[row[1] for row in PLANTED]
)
def test_a_planted_bug_is_seen(where, old, new, likelihood, activation, monkeypatch):
    parts = likelihood, activation
    in_python(monkeypatch)
    check_estimates(*parts)
    plant(monkeypatch, f"fast.{where}", [(old, new)])
    with pytest.raises(AssertionError):
        check_estimates(*parts)


@needs_numba
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_compiled_gradient_is_the_complex_step(likelihood):
    """Kills an error that the pullbacks of NumPy share."""
    check_gradient(likelihood)


@needs_numba
def test_sigma_and_its_square_keep_all_digits_in_float32():
    """Kills σ² − 1 by subtraction near 0, a polynomial out of its range, a finite e^89."""
    from numpyvae.fast.posterior import spread

    small = np.geomspace(1e-12, 1, 2001)
    logvar = np.concatenate([small, -small, np.linspace(1, 88.6, 5001), np.linspace(-80, -1, 999)])
    logvar = logvar.astype("float32")
    sigma, excess = spread(np.stack([0 * logvar, logvar], axis=1))
    for found, exact in ((sigma, np.exp(0.5 * logvar.astype(float))),
                         (excess, np.expm1(logvar.astype(float)))):  # fmt: skip
        np.testing.assert_allclose(found[:, 0], exact, rtol=3e-7, atol=0)
    sigma, excess = spread(np.array([[0, 89], [0, np.inf], [0, np.nan]], "float32"))
    assert excess[0] == excess[1] == np.inf
    assert np.isnan([sigma[2], excess[2]]).all()


# What is not compiled, and what does not fit.


class Inflated(Binomial):
    def log_prob(self, x, out, parameters):
        logp, pull = super().log_prob(x, out, parameters)
        return logp - 1, pull


class Silent(VAE):
    def decoder(self, z):
        out, pull = super().decoder(z)
        return 0 * out, pull


def doubled(x):
    return 2 * x, lambda dy: 2 * dy


NOT_COMPILED = {
    "sigmoid": (VAE(4, 2, (3,), activation="sigmoid"), "relu or softplus to compile, got sigmoid"),
    "poisson": (VAE(4, 2, (3,), likelihood="poisson"), "likelihood to compile, got poisson"),
    "likelihood": (VAE(4, 2, (3,), likelihood=Inflated(1)), "to compile, got binomial:1"),
    "activation": (VAE(4, 2, (3,), activation=doubled), "softplus to compile, got doubled"),
    "VAE": (Silent(4, 2), "methods of VAE to compile, got those of Silent"),
}


@needs_numba
@pytest.mark.parametrize(("vae", "got"), NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_numpy_computes_parts_of_the_readers_own_and_a_line_says_so(vae, got):
    """Kills compiled code in place of the reader's own part; the bits are those of NumPy."""
    x = data_for("bernoulli", 5, 4).astype("float32")
    for plain, fast_one in pairs():
        eps = noise(plain.n_draws, 5).astype("float32")
        expected = plain(vae, x, eps)
        with pytest.warns(UserWarning, match=rf"^{type(fast_one).__name__}: .*{got}; NumPy"):
            found = fast_one(vae, x, eps)
        assert found[:3] == expected[:3]
        assert np.array_equal(found.gradient.flat, expected.gradient.flat)


@needs_numba
def test_what_does_not_fit_is_refused_before_any_loop():
    """Kills a loop that reads beyond the end of an array."""
    vae, x, eps = VAE(4, 2, (3,)), np.ones((5, 4), "float32"), np.ones((1, 5, 2), "float32")
    step = CompiledSGVB()
    for wrong in (x[:, :3], x.astype(float), x[0]):
        with pytest.raises(ValueError, match=r"^x: expected float32 of shape \(\d, 4\), got"):
            step.estimate(vae, wrong, eps)
    for wrong in (eps[:, :3], eps.astype(float), eps[..., :1], np.ones((2, 5, 2), "float32")):
        with pytest.raises(ValueError, match=r"^eps: expected float32 of shape \(1, 5, 2\), got"):
            step.estimate(vae, x, wrong)
    with pytest.raises(ValueError, match=r"^x: expected"):
        step(vae, x[:, :3], eps)


@needs_numba
def test_any_layout_of_x_is_taken():
    """Kills a product of rows that lie apart, and an error for read-only data."""
    vae, x = VAE(4, 2, (3,)), data_for("bernoulli", 5, 4).astype("float32")
    eps, step = noise(1, 5).astype("float32"), CompiledSGVB()
    expected = step.estimate(vae, x, eps)
    fixed = x.copy()
    fixed.flags.writeable = False
    for view in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], fixed):
        found = step.estimate(vae, view, eps)
        assert np.array_equal(found.gradient.flat, expected.gradient.flat)


@needs_numba
def test_what_is_not_finite_stays_not_finite():
    """Kills a NaN that relu or the polynomials turn into a number: `fit` must see it."""
    for activation in ("tanh", "relu", "softplus"):
        vae = VAE(4, 2, (3,), activation=activation)
        vae.parameters["encoder.b0"][:] = np.nan
        found = CompiledSGVB()(vae, np.ones((5, 4)), np.ones((1, 5, 2)))
        assert np.isnan(found.objective)
        assert np.isnan(found.gradient.flat).any()


@needs_numba
def test_training_with_the_compiled_step_is_training():
    """Kills a gradient that `fit` does not get, and an estimator that knows no twin."""
    x = np.random.default_rng(0).integers(0, 2, (40, 6)).astype("float32")
    for plain, fast_one in ((SGVBB(), CompiledSGVB()), (IWAE(3), CompiledIWAE(3))):
        for update in ("both", "phi", "theta"):
            settings = {"epochs": 3, "batch_size": 7, "update": update}
            vaes = [VAE(6, 2, (5,), seed=1) for _ in range(2)]
            one = fit(vaes[0], x, optimizer=Adam(1e-2), estimator=plain, **settings)
            other = fit(
                compiled(vaes[1]), x, optimizer=CompiledAdam(1e-2), estimator=fast_one, **settings
            )
            np.testing.assert_allclose(*(v.parameters.flat for v in vaes), atol=1e-4)
            np.testing.assert_allclose(one["objective"], other["objective"], rtol=1e-5)


@needs_numba
def test_the_twin_is_computed_by_the_compiled_step(monkeypatch):
    """Kills a twin whose parts are taken for the reader's own, so that nothing is compiled."""
    called, whole = [], _whole("CompiledSGVB")
    step = whole.step
    monkeypatch.setattr(whole, "step", lambda *args: called.append(1) or step(*args))
    for likelihood in LIKELIHOODS:
        vae = compiled(VAE(4, 2, (3,), likelihood=likelihood))
        CompiledSGVB()(vae, data_for(likelihood, 5, 4), noise(1, 5))
    assert len(called) == len(LIKELIHOODS)


@needs_numba
def test_the_compiled_estimator_of_each():
    """Kills a weight of the KL, a K or an L that is lost."""
    assert compiled_estimator(SGVBB(n_samples=4)) == CompiledSGVB(n_samples=4)
    assert compiled_estimator(Estimator(n_samples=2)) == CompiledSGVB(n_samples=2)
    assert compiled_estimator(IWAE(7, n_samples=2)) == CompiledIWAE(7, n_samples=2)
    assert compiled_estimator(DReG(7)) == CompiledDReG(7)
    with_prior = WithWeightPrior(Estimator(n_samples=2), 50, variance=3.0)
    assert compiled_estimator(with_prior) == replace(
        with_prior, estimator=CompiledSGVB(n_samples=2)
    )
    others = SGVBB(beta=2.0), SGVBB(free_bits=0.1), SGVBB(kl_warmup=3), SGVBA(), STL()
    for other in others:
        with pytest.warns(
            UserWarning, match=r"^compiled_estimator: expected .*, got S[^;]*; NumPy"
        ):
            assert compiled_estimator(other) is other
    for other in (CompiledSGVB(), replace(CompiledIWAE(3), n_samples=2)):
        assert compiled_estimator(other) is other
