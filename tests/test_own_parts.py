"""User-defined parts do everything that built-in parts do: one suite tests both.

The foreign activations and likelihoods below use nothing of the package but the base class and
the form `y, pull = f(x)`. Every test runs over them and over all that the registries hold.
"""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import matplotlib
import numpy as np
import pytest
from conftest import noise
from scipy import special, stats

import numpyvae
from numpyvae import (
    VAE,
    Adam,
    Likelihood,
    bounds,
    fit,
    importance_log_likelihood,
    mean_terms,
    register_activation,
    register_likelihood,
)
from numpyvae.clinic.gradcheck import check_pullback, complex_step, relative_error
from numpyvae.core import likelihoods
from numpyvae.core.distributions import poisson_logpmf
from numpyvae.core.elbo import Estimator, elbo, elbo_and_grad
from numpyvae.core.layers import sigmoid, softplus
from numpyvae.core.likelihoods import parse_likelihood
from numpyvae.estimators import ESTIMATORS
from numpyvae.exact import FiniteMixture, Gaussian, Quadrature, exact_model
from numpyvae.inference import m_step, variational_inference
from numpyvae.support.registry import ACTIVATIONS, LIKELIHOODS, name_of

matplotlib.use("Agg")

from numpyvae import plotting

D = 4

# Foreign activations. They carry no attributes: the package must not take any for granted.


def gaussian_bump(x):
    """y = exp(−x²), which rises and falls."""
    y = np.exp(-x * x)
    return y, lambda dy: dy * -2 * x * y


def leaky(x):
    """y = x for x > 0 and x/10 elsewhere, with a kink."""
    slope = np.where(x > 0, 1.0, 0.1).astype(x.real.dtype)
    return slope * x, lambda dy: slope * dy


# Foreign likelihoods.


class Geometric(Likelihood):
    """Counts 0, 1, … from logits l: p(x) = (1 − p)^x p, p = sigmoid(l)."""

    name, support, integers = "geometric", (0, math.inf), True

    def log_prob(self, x, out, parameters):
        down, pull_down = softplus(out)
        up, pull_up = softplus(-out)

        def pull(dlogp, gradient=None):
            d = -dlogp[..., None]
            return pull_down(d * x) - pull_up(np.broadcast_to(d, out.shape))

        return -(x * down + up).sum(axis=-1), pull

    def mean(self, out):
        return np.exp(-out)

    def variance(self, out, parameters):
        return np.exp(-out) * (1 + np.exp(-out))

    def draw(self, out, parameters, rng):
        return (rng.geometric(sigmoid(out)[0]) - 1).astype(out.dtype)


class Logistic(Likelihood):
    """Real numbers around the output, with a scale e^s for each dimension, learned with θ."""

    name = "logistic"
    _scale = "decoder.logscale"

    def parameter_shapes(self, data_dim):
        return {self._scale: (data_dim,)}

    def log_prob(self, x, out, parameters):
        s = parameters[self._scale]
        t = (x - out) * np.exp(-s)
        right, pull_right = softplus(-t)

        def pull(dlogp, gradient=None):
            d = np.broadcast_to(dlogp[..., None], t.shape)
            dt = 2 * pull_right(d) - d
            if gradient is not None:
                ds = -dt * t - d
                gradient[self._scale][:] = ds.sum(axis=tuple(range(ds.ndim - 1)))
            return -dt * np.exp(-s)

        return (-t - s - 2 * right).sum(axis=-1), pull

    def mean(self, out):
        return out

    def variance(self, out, parameters):
        s = parameters[self._scale]
        return np.broadcast_to(math.pi**2 / 3 * np.exp(2 * s), out.shape)

    def draw(self, out, parameters, rng):
        scale = np.exp(parameters[self._scale])
        return (out + scale * rng.logistic(size=out.shape)).astype(out.dtype)


@dataclass(frozen=True)
class TwoBumps(Likelihood):
    """π N(a, σ²) + (1 − π) N(b, σ²) in each dimension: three outputs a, b and logit π."""

    sigma: float
    heads = 3

    @property
    def name(self):
        return f"two-bumps:{self.sigma}"

    def log_prob(self, x, out, parameters):
        a, b, logit = np.split(out, 3, axis=-1)
        s2 = self.sigma**2
        u = -softplus(-logit)[0] - 0.5 * (x - a) ** 2 / s2
        v = -softplus(logit)[0] - 0.5 * (x - b) ** 2 / s2
        constant = math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        logp = (v + softplus(u - v)[0] - constant).sum(axis=-1)

        def pull(dlogp, gradient=None):
            d, r = dlogp[..., None], sigmoid(u - v)[0]
            da, db = d * r * (x - a) / s2, d * (1 - r) * (x - b) / s2
            dlogit = d * (r * sigmoid(-logit)[0] - (1 - r) * sigmoid(logit)[0])
            return np.concatenate([da, db, dlogit], axis=-1)

        return logp, pull

    def mean(self, out):
        a, b, logit = np.split(out, 3, axis=-1)
        pi = sigmoid(logit)[0]
        return pi * a + (1 - pi) * b

    def variance(self, out, parameters):
        a, b, logit = np.split(out, 3, axis=-1)
        return self.sigma**2 + sigmoid(logit)[0] * sigmoid(-logit)[0] * (a - b) ** 2

    def draw(self, out, parameters, rng):
        a, b, logit = np.split(out, 3, axis=-1)
        center = np.where(rng.random(a.shape, a.dtype) < sigmoid(logit)[0], a, b)
        return center + self.sigma * rng.standard_normal(a.shape, a.dtype)


# The suite runs over these. A registered name with a number needs an example of it here.

_NUMBERS = {"binomial:N": "binomial:16", "gaussian:SIGMA": "gaussian:0.3"}
BUILT_IN = {name: parse_likelihood(_NUMBERS.get(name, name)) for name in LIKELIHOODS}
FOREIGN = {"geometric": Geometric(), "logistic": Logistic(), "two-bumps:SIGMA": TwoBumps(0.5)}
ALL = BUILT_IN | FOREIGN
FOREIGN_ACTIVATIONS = (gaussian_bump, leaky)
SMOOTH = {f: f.smooth for f in ACTIVATIONS.values()} | {gaussian_bump: True, leaky: False}

every_likelihood = pytest.mark.parametrize("likelihood", ALL.values(), ids=ALL)
every_activation = pytest.mark.parametrize("activation", SMOOTH, ids=name_of)
PAIRS = [(likelihood, ACTIVATIONS["tanh"]) for likelihood in ALL.values()]
PAIRS += [(BUILT_IN["bernoulli"], f) for f in SMOOTH if f is not ACTIVATIONS["tanh"]]
PAIRS += [(FOREIGN["geometric"], gaussian_bump), (FOREIGN["logistic"], leaky)]
every_pair = pytest.mark.parametrize(
    ("likelihood", "activation"), PAIRS, ids=lambda part: getattr(part, "name", name_of(part))
)


@pytest.fixture
def registered():
    """Register the foreign parts for one test."""
    with mock.patch.dict(LIKELIHOODS), mock.patch.dict(ACTIVATIONS):
        for pattern, likelihood in FOREIGN.items():
            register_likelihood(pattern)(type(likelihood))
        register_activation(smooth=True, increasing=False)(gaussian_bump)
        register_activation(smooth=False, increasing=True)(leaky)
        yield
    for f in FOREIGN_ACTIVATIONS:
        del f.smooth, f.increasing


def model(likelihood, activation="tanh", dtype="float64", *, J=2, D=D, seed=0, scale=0.4):
    """Return a model whose parameters, biases and a likelihood's own too, are N(0, scale²)."""
    vae = VAE(D, J, (5,), activation, likelihood, dtype)
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng([seed, 21]).normal(0, scale, flat.size)
    return vae


def data(likelihood, n=6, D=D, seed=1):
    """Return draws (n, D) of a model with this likelihood: values that x can have."""
    return model(likelihood, D=D, seed=seed, scale=0.7).sample(n, seed)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# Training.


@every_pair
def test_training_raises_the_elbo(likelihood, activation):
    """Kills a pullback of the wrong sign, and the use of a member that a part does not have."""
    x = data(likelihood, 200)
    vae = VAE(D, 2, (5,), activation, likelihood, seed=3)
    vae.parameters.flat[:] += np.random.default_rng(0).normal(0, 0.3, vae.parameters.flat.size)
    before = mean_terms(vae, x, n_samples=20).elbo
    history = fit(vae, x, epochs=30, optimizer=Adam(0.01), x_valid=x[:50])
    after = mean_terms(vae, x, n_samples=20).elbo
    assert after > before + 0.1
    assert np.isfinite(history["valid_elbo"]).all()
    assert history["elbo"][-1] > history["elbo"][0]


@pytest.mark.parametrize("own", ["decoder.beta", "decoder.W", "noise.b"])
def test_a_parameter_of_a_likelihood_may_have_any_name(own):
    """Kills a search for layers that takes `decoder.beta` for a bias."""
    x, named = data(Logistic(), 50), Logistic()
    named._scale = own
    trained = [VAE(D, 2, (5,), likelihood=likelihood) for likelihood in (named, Logistic())]
    for vae in trained:
        fit(vae, x, epochs=2)
    assert [W.shape for W, _ in trained[0].parameters.decoder] == [(2, 5), (5, D)]
    assert trained[0].parameters[own].all()
    assert np.array_equal(trained[0].parameters.flat, trained[1].parameters.flat)


def test_a_parameter_with_the_name_of_a_layer_is_refused():
    """Kills a parameter of a likelihood that takes the place of a layer's bias."""
    named = Logistic()
    named._scale = "decoder.b1"
    with pytest.raises(ValueError, match=r"names no layer has, got 'decoder\.b1'"):
        VAE(D, 2, (5,), likelihood=named)


@every_pair
def test_gradient_of_every_parameter(likelihood, activation):
    """Kills a wrong pullback, and a parameter of a likelihood that no gradient reaches."""
    vae, x, eps = model(likelihood, activation), data(likelihood), noise(3, 6)
    _, gradient = elbo_and_grad(vae, x, eps)

    def f(flat):
        return elbo(vae.with_flat(flat), x, eps).mean()

    exact = complex_step(f, vae.parameters.flat)
    assert relative_error(gradient, exact) <= 1e-12
    for name, part in vae.parameters.like(exact).items():
        assert part.any(), name
        assert relative_error(vae.parameters.like(gradient)[name], part) <= 1e-11, name


@every_likelihood
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_accepts_the_part(likelihood, name):
    """Kills an estimator that ignores a parameter of the likelihood, or depends on its name."""
    vae, x, rule = model(likelihood), data(likelihood), ESTIMATORS[name]
    gradient = rule(vae, x, noise(rule.n_draws, 6)).gradient
    assert np.isfinite(gradient.flat).all()
    assert all(gradient[key].any() for key in vae.likelihood.parameter_shapes(D))
    assert not rule(vae, x, noise(rule.n_draws, 6), "phi").gradient.theta.any()


@every_likelihood
def test_float32_stays_float32(likelihood):
    """Kills a draw, a mean or a gradient in another dtype than the model's."""
    vae, x = model(likelihood, dtype="float32"), data(likelihood).astype("float32")
    z = noise(1, 6)[0]
    arrays = [*vae.encode(x), vae.decode(z), vae.reconstruct(x), vae.sample(3)]
    arrays += [vae.sample(3, mean=True), Estimator()(vae, x, noise(2, 6)).gradient.flat]
    assert {a.dtype.name for a in arrays} == {"float32"}


@every_likelihood
def test_inference_and_the_m_step_raise_the_elbo(likelihood):
    """Kills an M-step that does not change the parameters of a likelihood."""
    vae, x = model(likelihood), data(likelihood, 20)
    q = variational_inference(vae, x)
    before = vae.parameters.theta.copy()
    (mu, logvar), _ = vae.encoder(x)
    eps = np.repeat(noise(400, 1), 20, axis=1)
    weighed = bounds.log_weights(vae, x, q.mu, q.logvar, eps).mean()
    assert weighed > bounds.log_weights(vae, x, mu, logvar, eps).mean()
    m_step(vae, x, q, max_iterations=20)
    assert bounds.log_weights(vae, x, q.mu, q.logvar, eps).mean() > weighed
    moved = vae.parameters.like(np.append(vae.parameters.phi * 0, vae.parameters.theta - before))
    assert all(moved[name].any() for name in vae.likelihood.parameter_shapes(D))


# In and out.


@every_likelihood
def test_encode_decode_sample_reconstruct(likelihood):
    """Kills outputs of all heads in place of the mean, and draws outside the support."""
    vae, x = model(likelihood), data(likelihood)
    mu, logvar = vae.encode(x)
    assert mu.shape == logvar.shape == (6, 2)
    out, _ = vae.decoder(mu[None])
    assert out.shape == (1, 6, likelihood.heads * D)
    assert vae.decode(mu).shape == (6, D)
    np.testing.assert_array_equal(vae.decode(mu), likelihood.mean(out[0]))
    np.testing.assert_array_equal(vae.reconstruct(x), vae.decode(mu))
    drawn = vae.sample(50, seed=1)
    assert drawn.shape == (50, D)
    likelihood.check(drawn)
    assert np.array_equal(drawn, vae.sample(50, seed=1))
    assert not np.array_equal(drawn, vae.sample(50, seed=1, mean=True))


@every_pair
def test_saved_and_loaded(likelihood, activation, tmp_path, registered):
    """Kills a setting that is not in the name, and a parameter that is not in the file."""
    vae, x = model(likelihood, activation), data(likelihood)
    vae.save(tmp_path / "model.npz")
    again = VAE.load(tmp_path / "model.npz")
    assert again.architecture == vae.architecture
    assert again.parameters.flat.tobytes() == vae.parameters.flat.tobytes()
    assert np.array_equal(elbo(again, x, noise(2, 6)), elbo(vae, x, noise(2, 6)))
    assert np.array_equal(again.sample(5), vae.sample(5))


@pytest.mark.parametrize(
    "part", [*FOREIGN.values(), *FOREIGN_ACTIVATIONS], ids=lambda part: type(part).__name__
)
def test_without_registration_nothing_is_saved(part, tmp_path):
    """Kills a file that cannot be loaded, and the loss of the old file."""
    kind = "likelihood" if isinstance(part, Likelihood) else "activation"
    vae = VAE(D, 2, (5,), **{kind: part})
    (tmp_path / "old.npz").write_bytes(b"old")
    for name in ("old.npz", "new.npz"):
        with pytest.raises(ValueError, match=f"numpyvae.register_{kind}") as error:
            vae.save(tmp_path / name)
        assert one_line(error).startswith(f"{kind}: expected")
    assert [p.name for p in tmp_path.iterdir()] == ["old.npz"]
    assert (tmp_path / "old.npz").read_bytes() == b"old"


def test_a_part_is_saved_only_under_a_name_that_leads_back_to_it(tmp_path, registered):
    """Kills a file with a user's `tanh` that is loaded as the built-in one."""

    def tanh(x):
        return gaussian_bump(x)

    class Bernoulli(Geometric):
        name = "bernoulli"

    for settings in ({"activation": tanh}, {"likelihood": Bernoulli()}):
        with pytest.raises(ValueError, match="register") as error:
            VAE(D, 2, **settings).save(tmp_path / "model.npz")
        one_line(error)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="rename yours"):
        register_activation(smooth=True, increasing=True)(tanh)
    with pytest.raises(ValueError, match="rename yours"):
        register_likelihood("bernoulli")(Bernoulli)


def test_a_file_whose_part_is_not_registered_is_refused_by_its_name(tmp_path, registered):
    """Kills a bare KeyError, and a model with another part."""
    VAE(D, 2, (5,), gaussian_bump, Geometric()).save(tmp_path / "model.npz")
    for registry, name in ((LIKELIHOODS, "geometric"), (ACTIVATIONS, "gaussian_bump")):
        with mock.patch.dict(registry):
            del registry[name]
            with pytest.raises(ValueError, match=f"expected a model.*got '?{name}") as error:
                VAE.load(tmp_path / "model.npz")
            one_line(error)


def test_equal_likelihoods_are_those_with_equal_settings():
    """Kills equality by identity, by which a registered class could not be saved."""
    assert Geometric() == Geometric()
    assert Geometric() != Logistic()
    assert TwoBumps(0.5) == TwoBumps(0.5) != TwoBumps(0.25)
    assert len({Geometric(), Geometric(), Logistic(), *BUILT_IN.values()}) == 2 + len(BUILT_IN)


# The evidence, and bounds on it.


@every_likelihood
def test_bounds_and_the_exact_evidence(likelihood):
    """One latent: ELBO ≤ annealed and importance-weighted bounds ≈ log p(x) by quadrature.

    Kills a bound that leaves a likelihood's own parameter out, and a node that is not decoded.
    """
    vae, x = model(likelihood, J=1), data(likelihood, 4)
    vae.parameters.phi[:] *= 0.1  # q is near the prior, so that no weight is extreme
    exact = Quadrature(vae)
    log_px = exact.log_evidence(x)
    q = Gaussian.from_encoder(vae, x)
    exact_elbo = exact.elbo_kl_form(x, q)
    assert (exact_elbo <= log_px + 1e-9).all()
    np.testing.assert_allclose(log_px - exact_elbo, exact.kl_to_posterior(x, q), atol=1e-7)
    log_w = bounds.log_weights(vae, x, *vae.encode(x), noise(20_000, 4, 1))
    error = log_w.std(axis=0) / math.sqrt(20_000)
    assert (abs(log_w.mean(axis=0) - exact_elbo) < 5 * error).all()
    w = np.exp(log_w - log_px)
    error = w.std(axis=0) / math.sqrt(20_000)
    assert (abs(w.mean(axis=0) - 1) < 5 * error).all()
    found = importance_log_likelihood(vae, x, 20_000, seed=1)
    assert (abs(np.exp(found - log_px) - 1) < 5 * error).all()
    annealed = bounds.annealed_log_likelihood(vae, x, 100, 8)
    np.testing.assert_allclose(annealed.log_lower, log_px, atol=0.25)


@every_activation
def test_quadrature_against_a_grid(activation):
    """Kills kinks that are taken for smooth, and an activation without attributes refused."""
    vae = model("bernoulli", activation, J=1, scale=1.5)
    x = data(BUILT_IN["bernoulli"], 3)
    z = np.linspace(-10, 10, 200_001)
    log_px, _ = vae.log_likelihood(x, np.tile(z[:, None, None], (1, 3, 1)))
    log_joint = log_px + stats.norm.logpdf(z)[:, None]
    expected = special.logsumexp(log_joint, axis=0) + math.log(z[1] - z[0])
    exact = Quadrature(vae)
    np.testing.assert_allclose(exact.log_evidence(x), expected, atol=1e-7)
    assert exact._has_kinks is not getattr(activation, "smooth", False)  # unknown: may have kinks


@every_likelihood
def test_quadrature_of_narrow_likelihoods(likelihood):
    """Kills a search for the posterior that leaves a likelihood's own parameters out."""
    vae = model(likelihood, J=1, scale=1.0)
    for name in likelihood.parameter_shapes(D):
        vae.parameters[name][:] = -7
    x = vae.sample(4, seed=2)
    z = np.linspace(-8, 8, 400_001)
    parts = [vae.log_likelihood(x[[i]], z[:, None, None])[0][:, 0] for i in range(4)]
    log_joint = np.stack(parts, axis=1) + stats.norm.logpdf(z)[:, None]
    expected = special.logsumexp(log_joint, axis=0) + math.log(z[1] - z[0])
    np.testing.assert_allclose(Quadrature(vae).log_evidence(x), expected, atol=1e-6)


@every_likelihood
def test_the_exact_model_of_a_linear_decoder(likelihood):
    """Kills a closed form for another likelihood than a Gaussian with one variance."""
    vae = VAE(3, 1, (), likelihood=likelihood, dtype="float64")
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 0.5, vae.parameters.flat.size)
    x = model(likelihood, D=3).sample(3)
    found, by_quadrature = exact_model(vae), Quadrature(vae)
    closed = likelihood.noise_variance(vae.parameters) is not None
    assert isinstance(found, Quadrature) is not closed
    np.testing.assert_allclose(found.log_evidence(x), by_quadrature.log_evidence(x), atol=1e-8)


@every_likelihood
def test_a_finite_mixture_of_it(likelihood):
    """Kills a table with a wrong number of heads, and parameters that a mixture cannot have."""
    outputs = np.random.default_rng(2).normal(0, 0.5, (3, likelihood.heads * D))
    if likelihood.parameter_shapes(D):
        with pytest.raises(ValueError, match="without parameters of its own") as error:
            FiniteMixture([0.2, 0.3, 0.5], outputs, likelihood)
        one_line(error)
        return
    mixture = FiniteMixture([0.2, 0.3, 0.5], outputs, likelihood)
    x = mixture.sample(5, seed=1)
    logp, _ = likelihood.log_prob(x, outputs[:, None], {})
    expected = special.logsumexp(logp, axis=0, b=np.array([[0.2], [0.3], [0.5]]))
    np.testing.assert_allclose(mixture.log_evidence(x), expected, rtol=1e-12)
    if likelihood.heads > 1:
        with pytest.raises(ValueError, match=f"a multiple of {likelihood.heads} columns"):
            FiniteMixture([0.2, 0.3, 0.5], outputs[:, 1:], likelihood)


@every_likelihood
def test_bounds_do_not_depend_on_the_memory(likelihood):
    """Kills blocks that leave the heads out of account, or rows with the outputs of other rows."""
    vae, x = model(likelihood), data(likelihood, 30)
    least = bounds.streams.decoder_megabytes(vae)
    wide = bounds.streams.decoder_megabytes(model(TwoBumps(1.0)))
    assert least * (8 * 3 * D + 95) == pytest.approx(wide * (8 * likelihood.heads * D + 95))
    few, many = (importance_log_likelihood(vae, x, 200, memory=m) for m in (250 * least, 64))
    np.testing.assert_allclose(few, many, rtol=1e-12)


# Pictures.


@every_likelihood
def test_figures(likelihood):
    """Kills counts without an upper end drawn all black, and means of all heads in a tile."""
    vae, x = model(likelihood), data(likelihood)
    for ax in (
        plotting.plot_reconstructions(vae, x, (2, 2)),
        plotting.plot_samples(vae, (2, 2), n=9),
        plotting.plot_manifold(vae, (2, 2), n=3),
    ):
        (image,) = ax.images
        low, high = image.get_clim()
        assert low < high < math.inf
        if likelihood.integers or math.isfinite(likelihood.support[1]):
            assert low == 0
            assert image.get_array().max() <= high
        else:  # real numbers: the unit interval, or the range of what is drawn
            assert (low, high) == (0, 1) or ax.get_title(loc="left").endswith(")")


# The distribution: support, draws, moments, total probability.


@every_likelihood
def test_values_outside_the_support_are_refused(likelihood):
    """Kills a check that is not called, or that does not say whose support it is."""
    low, high = likelihood.support
    wrong = [v for v in (low - 1, high + 1, low - 1e-9, high + 1e-9) if math.isfinite(v)]
    grays = likelihood.reading == "outcomes"  # half an outcome gives a warning
    wrong += [low + 0.5] if likelihood.integers and not grays else []
    vae, good = model(likelihood), data(likelihood)
    likelihood.check(good)
    for value in wrong:
        x = good.copy()
        x[-1, -1] = value
        for call in (
            lambda x=x: likelihood.check(x),
            lambda x=x: elbo(vae, x, noise(1, 6)),
            lambda x=x: fit(vae, x, epochs=1),
            lambda x=x: fit(vae, good, epochs=1, transform=lambda rows, rng: x),
            lambda x=x: importance_log_likelihood(vae, x, 2),
            lambda x=x: Quadrature(vae).log_evidence(x),
        ):
            with pytest.raises(ValueError, match=r"expected .*got ") as error:
                call()
            assert likelihood.name in one_line(error)
    if not wrong:
        likelihood.check(np.array([[-1e30, 0.5, 1e30, 0]]))


def settings_of(likelihood, n=1, seed=4):
    """Return outputs (n, heads·D), all rows the same, and parameters of the likelihood."""
    vae = model(likelihood, seed=seed)
    row = np.random.default_rng(seed).normal(0, 0.8, (1, likelihood.heads * D))
    return np.repeat(row, n, axis=0), vae.parameters


@every_likelihood
def test_draws_against_mean_and_variance(likelihood):
    """Kills σ² for σ, p for n p, one random number for all dimensions."""
    n = 100_000
    out, parameters = settings_of(likelihood, n)
    x = likelihood.draw(out, parameters, np.random.default_rng(5))
    mean = likelihood.mean(out[0])
    variance = likelihood.variance(out[:1], parameters)[0]
    assert mean.shape == variance.shape == (D,)
    squares = (x - mean) ** 2
    assert (abs(x.mean(axis=0) - mean) < 5 * x.std(axis=0) / math.sqrt(n)).all()
    assert (abs(squares.mean(axis=0) - variance) < 5 * squares.std(axis=0) / math.sqrt(n)).all()
    between = np.corrcoef(x.T)[np.triu_indices(D, 1)]
    assert (abs(between) * math.sqrt(n) < 5).all()
    if (noise_variance := likelihood.noise_variance(parameters)) is not None:
        np.testing.assert_allclose(np.broadcast_to(noise_variance, D), variance, rtol=1e-12)


@every_likelihood
def test_total_probability_mean_and_variance(likelihood):
    """Kills a constant that is left out, and a mean or variance of another distribution."""
    out, parameters = settings_of(likelihood)
    mean, variance = likelihood.mean(out)[0], likelihood.variance(out, parameters)[0]
    sd = np.sqrt(variance)
    low, high = likelihood.support
    if likelihood.integers:
        end = high if math.isfinite(high) else np.ceil((mean + 60 * sd).max() + 60)
        axes, weight = np.tile(np.arange(low, end + 1)[:, None], (1, D)), np.ones(D)
    else:
        u = np.linspace(-30, 30, 60_001)[:, None]
        axes, weight = mean + u * sd, (u[1] - u[0]) * sd
    # One dimension at a time: the others stay at their mean, and are divided out.
    center = np.broadcast_to(axes[len(axes) // 2], axes.shape)
    at_center = likelihood.log_prob(center[:1], out[None], parameters)[0][0, 0]
    joint = np.empty((len(axes), D))
    for d in range(D):
        x = center.copy()
        x[:, d] = axes[:, d]
        joint[:, d] = likelihood.log_prob(x, out[None], parameters)[0][0]
    # Σ_x p(x_d) Π_{e≠d} p(c_e) = Π_{e≠d} p(c_e); the product over d gives p(c)^(D−1) · 1.
    totals = (np.exp(joint - at_center) * weight).sum(axis=0)  # 1/p(c_d)
    np.testing.assert_allclose(-np.log(totals).sum(), at_center, rtol=1e-10)
    density = np.exp(joint - at_center) * weight / totals
    np.testing.assert_allclose((density * axes).sum(axis=0), mean, rtol=1e-9, atol=1e-9)
    spread = (density * (axes - mean) ** 2).sum(axis=0)
    np.testing.assert_allclose(spread, variance, rtol=1e-9)


@every_likelihood
def test_pullback_of_log_prob_does_not_depend_on_old_values(likelihood):
    """Kills a pullback that depends on whether θ is needed, and one that adds to old values."""
    out, parameters = settings_of(likelihood, 3)
    x = data(likelihood, 3)
    _, pull = likelihood.log_prob(x, np.stack([out, 2 * out]), parameters)
    dlogp = noise(2, 3, 1)[..., 0]
    own = likelihood.parameter_shapes(D)
    found = []
    for start in (0.0, np.nan):
        gradient = parameters.like(np.full(parameters.flat.size, start))
        assert np.array_equal(pull(dlogp, gradient), pull(dlogp))
        found.append([gradient[name] for name in own])
    assert all(np.array_equal(a, b) for a, b in zip(*found))

    def f(out):
        logp, pull = likelihood.log_prob(x, out, parameters)
        return logp, pull

    check_pullback("log_prob", f, np.stack([out, 2 * out]))


# Poisson.


@pytest.mark.parametrize("rate", [1e-3, 0.7, 30.0, 254.0, 3e3, 1e6])
def test_poisson_against_scipy(rate):
    """Counts around the end of the table, and up to a million: 1e-12 of the largest term.

    Kills a missing term of Stirling's series, log (x + 1)! for log x!, a table that is cut.
    """
    near = stats.poisson(rate).ppf([1e-9, 0.1, 0.5, 0.9, 1 - 1e-9])
    x = np.concatenate([near, [0, 1, 2, 100, 254, 255, 256, 257, 300, 1e4, 1e6]])[:, None]
    logp, pull = poisson_logpmf(x, np.full((1, len(x), 1), math.log(rate)))
    largest = rate + abs(x[:, 0] * math.log(rate)) + special.gammaln(x[:, 0] + 1)
    error = abs(logp[0] - stats.poisson.logpmf(x[:, 0], rate))
    assert (error <= 1e-12 * np.maximum(1, largest)).all()
    dlogits = pull(np.ones((1, len(x))))[0]
    np.testing.assert_allclose(dlogits, x - rate, rtol=1e-12, atol=1e-12 * rate)


def test_log_factorials():
    """Kills a step between the table and the series."""
    x = np.concatenate([np.arange(600.0), 10.0 ** np.arange(3, 7)])[:, None]
    found = -poisson_logpmf(x, np.zeros((1, len(x), 1)))[0][0] - 1  # rate 1
    exact = [math.lgamma(k + 1) for k in x[:, 0]]
    np.testing.assert_allclose(found, exact, rtol=1e-14, atol=1e-14)


def test_poisson_takes_counts_of_any_size():
    """Kills a fit that overflows, and counts that a table refuses."""
    x = np.random.default_rng(0).poisson(400, (100, D)).astype(float)
    vae = VAE(D, 1, (5,), likelihood="poisson", dtype="float64")
    vae.parameters["decoder.W1"][:] *= 0.01
    vae.parameters["decoder.b1"][:] = math.log(400)
    history = fit(vae, x, epochs=20, optimizer=Adam(1e-3))
    expected = stats.poisson.logpmf(x, 400).sum(axis=1).mean()
    assert abs(history["elbo"][-1] - expected) < 3
    assert abs(importance_log_likelihood(vae, x, 500).mean() - expected) < 3


# No code depends on the class of a part.

PACKAGE = Path(numpyvae.__file__).parent
CLASSES = {
    base.__name__
    for kind in LIKELIHOODS.values()
    for base in kind.__mro__
    if base.__module__ == likelihoods.__name__ and base is not Likelihood
}


def questions(tree):
    """Yield the lines that test for a built-in likelihood by its class or by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "isinstance",
            "issubclass",
        ):
            asked = node.args[1]
        elif isinstance(node, ast.Compare):
            asked = node
        elif isinstance(node, ast.MatchClass):
            asked = node.cls
        else:
            continue
        names = {getattr(n, "id", getattr(n, "attr", None)) for n in ast.walk(asked)}
        texts = {getattr(n, "value", None) for n in ast.walk(asked) if isinstance(n, ast.Constant)}
        family = {pattern.partition(":")[0] for pattern in LIKELIHOODS} | set(LIKELIHOODS)
        by_name = "name" in names and bool(family & {t for t in texts if isinstance(t, str)})
        if names & CLASSES or by_name:
            yield node.lineno


def test_no_code_depends_on_the_class_of_a_likelihood():
    """Kills code that works only for the built-in likelihoods, and not for a user's."""
    assert {"Bernoulli", "Binomial", "Poisson", "GaussianHead", "_Gaussian"} <= CLASSES
    found = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "fast"  # whose table says which parts it has compiled
        for line in questions(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(vae.likelihood, Binomial)",
        "isinstance(x, (int, likelihoods.GaussianHead))",
        "issubclass(kind, _Gaussian)",
        "type(likelihood) is Bernoulli",
        "type(likelihood) in (Poisson, FixedGaussian)",
        "likelihood.name == 'bernoulli'",
        "match likelihood:\n    case Binomial():\n        pass",
    ],
)
def test_a_planted_class_check_is_found(text):
    """Kills a search that never finds anything."""
    assert len(list(questions(ast.parse(text)))) == 1


def test_the_base_class_is_all_that_a_foreign_likelihood_uses():
    """Kills an attribute that only the built-in ones have: the suite would not miss it."""
    for likelihood in FOREIGN.values():
        public = {n for n, _ in inspect.getmembers(likelihood) if not n.startswith("_")}
        assert public - {n for n in dir(Likelihood) if not n.startswith("_")} <= {"name", "sigma"}


def test_user_defined_parts_are_not_compiled():
    """Kills a table that maps a part of the reader's own to a compiled one."""
    pytest.importorskip("numba")
    from numpyvae.fast import compiled

    for likelihood in FOREIGN.values():
        with pytest.warns(UserWarning, match=r"^compiled: expected tanh, relu or softplus"):
            twin = compiled(model(likelihood, gaussian_bump, "float32"))
        assert twin.likelihood is likelihood
        assert twin.activation is gaussian_bump


def test_with_parts_takes_a_foreign_part():
    """Kills a model that keeps the old part in a cache."""
    vae = model("poisson")
    twin = vae.with_parts(architecture=replace(vae.architecture, likelihood=Geometric()))
    x = data(Geometric())
    assert twin.parameters is vae.parameters
    assert (elbo(twin, x, noise(1, 6)) != elbo(vae, x, noise(1, 6))).all()
