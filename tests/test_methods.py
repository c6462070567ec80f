"""Wake-sleep, Monte-Carlo EM, full variational Bayes and MAP, each on models that are exact."""

from __future__ import annotations

import io
import itertools
from functools import cache, partial

import numpy as np
import pytest
from conftest import data_for, noise, small_vae
from scipy.stats import multivariate_normal

from numpyvae import (
    VAE,
    Adam,
    EarlyStopping,
    NonFiniteError,
    Progress,
    RMSProp,
    cosine_schedule,
    elbo_terms,
    fit,
)
from numpyvae.clinic.gradcheck import complex_step, relative_error
from numpyvae.core.distributions import gaussian_logpdf, log_prior, reparameterize
from numpyvae.core.elbo import Estimator, evidence_lower_bound
from numpyvae.estimators import SGVBB, DReG, WakeSleep, WithWeightPrior, make_estimator
from numpyvae.estimators.wake_sleep import dream, dream_log_q
from numpyvae.estimators.weight_prior import weight_log_prior
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature, ppca_maximum_likelihood
from numpyvae.inference import (
    WeightPosterior,
    full_bound,
    full_variational_bayes,
    mcem,
    monte_carlo_em,
    noise_nodes,
    variational_inference,
)
from numpyvae.support.history import History

L, B = 2, 4


# Wake-sleep: the gradient of each phase.


def check_phases(likelihood):
    """Kills phases swapped, dreams of the data, and θ's gradient through the dreams."""
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(2 * L)
    (mu, logvar), _ = vae.encoder(x)
    z, _ = reparameterize(mu, logvar, eps[:L])  # a constant of the wake phase
    z_dream = eps[L:].reshape(L * B, -1)
    x_dream = dream(vae, eps[L:]).reshape(L * B, -1)  # constants of the sleep phase

    def wake(flat):
        return vae.with_flat(flat).log_likelihood(x, z)[0].mean()

    def sleep(flat):
        (mu, logvar), _ = vae.with_flat(flat).encoder(x_dream)
        return gaussian_logpdf(z_dream, mu, logvar)[0].mean()

    n_phi = vae.parameters.phi.size
    gradient = WakeSleep(n_samples=L)(vae, x, eps).gradient
    assert relative_error(gradient.theta, complex_step(wake, vae.parameters.flat)[n_phi:]) <= 1e-12
    assert relative_error(gradient.phi, complex_step(sleep, vae.parameters.flat)[:n_phi]) <= 1e-12


def test_each_phase_has_the_gradient_of_its_objective(likelihood):
    check_phases(likelihood)


def test_wake_sleep_reports_the_elbo():
    # kills: the objective of a phase reported as the ELBO, and dreams that are counted in it
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(2 * L)
    terms = elbo_terms(vae, x, eps[:L])
    estimate = WakeSleep(n_samples=L)(vae, x, eps)
    assert estimate.reconstruction == pytest.approx(terms.reconstruction.mean(), rel=1e-13)
    assert estimate.kl == pytest.approx(terms.kl.mean(), rel=1e-13)
    assert estimate.objective == pytest.approx(terms.elbo.mean(), rel=1e-13)


def test_wake_sleep_in_float32_is_close_to_float64(likelihood):
    # kills: a dream or a density in another dtype
    vae, eps = small_vae(likelihood, "float32"), noise(2 * L)
    double = vae.with_flat(vae.parameters.flat.astype(float))
    x_dream = dream(vae, eps[L:].astype("float32"))
    assert x_dream.dtype == np.float32
    found = vae.parameters.zeros_like()
    log_q, pull = dream_log_q(vae, x_dream[0], eps[L].astype("float32"))
    pull(np.ones_like(log_q), found)
    expected = double.parameters.zeros_like()
    dream_log_q(double, x_dream[0].astype(float), eps[L])[1](np.ones(B), expected)
    assert found.flat.dtype == log_q.dtype == np.float32
    assert relative_error(found.phi, expected.phi) <= 1e-5


# Wake-sleep: what it optimizes.


def linear_vae(latent_dim, sigma=0.6, seed=0):
    """A linear model; with J = 2 its latents are correlated under the posterior."""
    vae = VAE(3, latent_dim, (), likelihood=f"gaussian:{sigma}", dtype="float64")
    vae.parameters.flat[:] = np.random.default_rng(seed).normal(0, 0.7, vae.parameters.flat.size)
    if latent_dim == 2:
        vae.parameters["decoder.W0"][:] = [[1.0, 0.5, -0.5], [0.9, 0.8, -0.2]]
    return vae


def set_linear_encoder(vae, variance):
    """Set q(z|x) to the posterior mean, which is linear in x, and to a given variance (J,)."""
    p, J = vae.parameters, vae.latent_dim
    model = LinearGaussian.from_vae(vae)
    at = model.posterior(np.vstack([np.zeros(3), np.eye(3)])).mean  # at 0 and at the unit vectors
    p["encoder.W0"][:] = np.hstack([at[1:] - at[0], np.zeros((3, J))])
    p["encoder.b0"][:] = np.concatenate([at[0], np.log(variance)])


def exact_sleep_gradient(vae, sigma):
    """E_{p(x, z)} ∂_φ log q(z|x): Gauss-Hermite nodes in z and in the noise of x, exact here."""
    t, w = np.polynomial.hermite_e.hermegauss(4)
    J, D = vae.latent_dim, vae.data_dim
    nodes = np.array(list(itertools.product(t, repeat=J + D)))
    weights = np.array(list(itertools.product(w / w.sum(), repeat=J + D))).prod(axis=1)
    z = nodes[:, :J]
    x = z @ vae.parameters["decoder.W0"] + vae.parameters["decoder.b0"] + sigma * nodes[:, J:]
    gradient = vae.parameters.zeros_like()
    dream_log_q(vae, x, z)[1](weights, gradient)
    return gradient.phi


def test_the_sleep_phase_ends_at_the_moments_of_the_posterior_not_at_the_largest_elbo():
    # kills: KL(q ‖ p) minimized by the sleep phase. J = 2: the posterior is correlated, q is not.
    vae = linear_vae(2, sigma=0.6)
    model = LinearGaussian.from_vae(vae)
    x = model.sample(50, seed=1)
    cov = model.posterior(x).cov
    marginal, conditional = np.diagonal(cov), 1 / np.diagonal(np.linalg.inv(cov))
    set_linear_encoder(vae, marginal)
    assert np.abs(exact_sleep_gradient(vae, 0.6)).max() < 1e-13
    wide = Gaussian.from_encoder(vae, x)
    assert np.abs(model.elbo_gradient(x, *vae.encode(x)).logvar).max() > 1e-3
    set_linear_encoder(vae, conditional)
    assert np.abs(exact_sleep_gradient(vae, 0.6)).max() > 0.1
    narrow = Gaussian.from_encoder(vae, x)
    assert np.abs(model.elbo_gradient(x, *vae.encode(x)).logvar).max() < 1e-13
    lost = model.kl_to_posterior(x, wide) - model.kl_to_posterior(x, narrow)
    gap = model.elbo_kl_form(x, narrow) - model.elbo_kl_form(x, wide)
    np.testing.assert_allclose(gap, lost, atol=1e-10)
    assert lost.min() > 0.05
    posterior = model.posterior(x)
    assert (posterior.kl(wide) < posterior.kl(narrow) - 0.05).all()  # the other direction


def test_fit_sleeps_to_that_fixed_point_whatever_the_data():
    # kills: dreams of the data: these rows are far from what the model generates
    vae = linear_vae(2, sigma=0.6)
    model, theta = LinearGaussian.from_vae(vae), vae.parameters.theta.copy()
    far = 3 + 0.1 * model.sample(200, seed=2)
    settings = {"batch_size": 200, "schedule": cosine_schedule(500), "update": "phi"}
    estimator = WakeSleep(n_samples=2)
    fit(vae, far, epochs=500, optimizer=Adam(0.1), estimator=estimator, **settings)
    assert np.array_equal(vae.parameters.theta, theta)
    x = model.sample(2000, seed=3)
    found, posterior = Gaussian.from_encoder(vae, x), model.posterior(x)
    set_linear_encoder(vae, np.diagonal(posterior.cov))
    best = Gaussian.from_encoder(vae, x)
    assert 0 <= (posterior.kl(found) - posterior.kl(best)).mean() < 5e-3


@cache
def nonlinear():
    """A model with J = 1 and all 8 rows that it can generate, with their probabilities."""
    vae = small_vae("bernoulli", latent_dim=1, hidden=(8,), scale=2.0, seed=3)
    x = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    posterior = Quadrature(vae).posterior(x)
    return vae, x, np.exp(posterior.log_evidence), posterior.mean, posterior.cov[:, 0]


def expected_sleep_gradient(vae, x):
    """Σ_x ∫ p(x, z) ∂_φ log q(z|x) dz: all x, and the trapezoidal rule in z."""
    t = np.linspace(-12, 12, 4001)
    z = np.repeat(t, len(x)).reshape(-1, len(x), 1)  # (4001, 8, 1)
    joint = (t[1] - t[0]) * np.exp(log_prior(z)[0] + vae.log_likelihood(x, z)[0])
    gradient = vae.parameters.zeros_like()
    x = np.broadcast_to(x, (len(t), *x.shape)).reshape(-1, 3)
    dream_log_q(vae, x, z.reshape(-1, 1))[1](joint.ravel(), gradient)
    return gradient.phi


def forward_kl(vae, x, probability, mean, variance):
    """Σ_x p(x) KL(p(z|x) ‖ q(z|x)), less the entropies of the posteriors."""
    (mu, logvar), _ = vae.encoder(x)
    square = variance + (mean - mu) ** 2  # E_{p(z|x)} (z − μ)²
    return 0.5 * (probability * (logvar + square * np.exp(-logvar))[:, 0]).sum()


def test_the_sleep_gradient_is_that_of_the_forward_kl_of_a_nonlinear_model():
    # kills: another divergence, or a mean over another distribution of x
    vae, *exact = nonlinear()
    gradient = expected_sleep_gradient(vae, exact[0])
    step = complex_step(lambda p: -forward_kl(vae.with_flat(p), *exact), vae.parameters.flat)
    assert relative_error(gradient, step[: gradient.size]) <= 1e-9


def test_at_the_end_of_the_sleep_phase_the_elbo_is_not_at_its_maximum():
    # kills: a sleep phase that ascends the ELBO, on posteriors that are not Gaussian
    vae, x, _, mean, variance = nonlinear()
    vae = vae.with_flat(vae.parameters.flat.copy())
    # Set the last layer so that q has the moments of the posterior for each of the 8 rows
    p = vae.parameters
    h = np.tanh(x @ p["encoder.W0"] + p["encoder.b0"])
    target = np.hstack([mean, np.log(variance)])
    p["encoder.W1"][:] = np.linalg.solve(h, target - p["encoder.b1"])
    np.testing.assert_allclose(np.hstack(vae.encode(x)), target, atol=1e-9)
    assert np.abs(expected_sleep_gradient(vae, x)).max() < 1e-8
    q = Gaussian.diagonal(mean, np.log(variance))
    mu, logvar, _ = variational_inference(vae, x, nodes=noise_nodes(1, 60))
    model, best = Quadrature(vae), Gaussian.diagonal(mu, logvar)
    assert (model.elbo_kl_form(x, best) - model.elbo_kl_form(x, q)).mean() > 1e-3


def test_wake_sleep_reaches_maximum_likelihood_if_q_contains_the_posterior():
    # kills: a wake phase that does not learn from the data. J = 1: the encoder can be exact.
    x = LinearGaussian.from_vae(linear_vae(1, seed=5)).sample(1000, seed=7)
    best = ppca_maximum_likelihood(x, 1)
    vae = linear_vae(1, sigma=float(best.sigma2**0.5), seed=6)
    settings = {"batch_size": 250, "schedule": cosine_schedule(250), "estimator": WakeSleep()}
    fit(vae, x, epochs=250, optimizer=Adam(0.05), **settings)
    found = LinearGaussian.from_vae(vae)
    assert 0 <= best.log_evidence(x).mean() - found.log_evidence(x).mean() < 1e-3
    assert found.kl_to_posterior(x, Gaussian.from_encoder(vae, x)).mean() < 1e-2


def test_dreams_come_from_the_model():
    # kills: x that does not belong to its z, a mean in place of a draw
    vae = linear_vae(2)
    model, eps = LinearGaussian.from_vae(vae), noise(1, 20_000)
    x = dream(vae, eps)[0]
    both = np.hstack([eps[0], x])
    W = model.W
    cov = np.block([[np.eye(2), W.T], [W, W @ W.T + 0.36 * np.eye(3)]])
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / len(x))
    assert (np.abs(np.cov(both.T) - cov) < 5 * error).all()
    assert (np.abs(x.mean(axis=0) - model.mean) < 5 * np.sqrt(np.diag(cov)[2:] / len(x))).all()
    assert not np.array_equal(dream(vae, eps[:, :5]), dream(vae, eps[:, 5:10]))


@pytest.mark.parametrize("likelihood", ["bernoulli", "binomial:16"])
def test_dreams_of_counts_have_the_mean_of_the_decoder(likelihood):
    # kills: zeros for ones, in the draws that do not go through NumPy's binomial
    vae, n = small_vae(likelihood), 20_000
    eps = np.repeat(noise(1, 3), n, axis=0)
    trials = vae.likelihood.n
    x, p = dream(vae, eps), vae.decode(eps[0]) / trials
    assert x.min() == 0
    assert set(np.unique(x)) <= set(range(trials + 1))
    error = np.sqrt(trials * p * (1 - p) / n)
    assert (np.abs(x.mean(axis=0) - trials * p) < 5 * error).all()


def test_wake_sleep_goes_on_where_it_was_stopped():
    # kills: dreams from a generator that a resumed run has in another state
    x, (whole, half) = data_for("bernoulli", 30), (small_vae(), small_vae())
    settings = {"estimator": make_estimator("wake-sleep"), "batch_size": 7}
    fit(whole, x, epochs=4, **settings)
    first = fit(half, x, epochs=2, **settings)
    fit(half, x, epochs=2, resume=first, **settings)
    assert whole.parameters.flat.tobytes() == half.parameters.flat.tobytes()


def test_a_dream_that_cannot_be_drawn_ends_the_training_with_one_line():
    # kills: an error of NumPy's generator from inside a step
    vae, x = small_vae("poisson"), data_for("binomial:16")
    vae.parameters["decoder.b1"][:] = 800.0
    with pytest.raises(NonFiniteError, match="expected a finite ELBO"):
        fit(vae, x, epochs=1, estimator=WakeSleep())


# The prior of the weights.


@pytest.mark.parametrize("inner", [Estimator(), SGVBB(beta=2.0), DReG(3)], ids=repr)
def test_the_prior_adds_its_density_and_gradient_per_datapoint(inner):
    # kills: a prior divided by B or not at all, one on φ, a lost constant, L or K of another
    vae, x = small_vae("gaussian:learned"), data_for("gaussian:learned")
    eps, N, v = noise(inner.n_draws), 50, 0.7
    plain, added = inner(vae, x, eps), WithWeightPrior(inner, N, v)(vae, x, eps)

    def log_p(flat):
        theta = vae.parameters.like(flat).theta
        return -0.5 * (theta**2 / v + np.log(2 * np.pi * v)).sum()

    flat = vae.parameters.flat
    assert added.objective - plain.objective == pytest.approx(log_p(flat) / N, rel=1e-12)
    assert added[1:3] == plain[1:3]
    difference = added.gradient.flat - plain.gradient.flat
    assert relative_error(difference, complex_step(log_p, flat) / N) <= 1e-12
    phi = WithWeightPrior(inner, N, v).estimate(vae, x, eps, "phi").gradient
    assert np.array_equal(phi.phi, plain.gradient.phi)
    assert not phi.theta.any()


def test_the_prior_keeps_the_settings_of_its_estimator():
    # kills: a warm-up that never ends, draws of another number, a dtype that grows
    warm = WithWeightPrior(SGVBB(beta=2.0, kl_warmup=4, n_samples=3), 10)
    assert warm.at(1).estimator.beta == 0.5
    assert warm.at(9) == warm.at(np.inf) != warm.at(1)
    assert (warm.n_draws, WithWeightPrior(DReG(5), 10).n_importance) == (3, 5)
    _, pull = weight_log_prior(np.ones(3, "float32"), 2.0)
    assert pull(0.1).dtype == np.float32


# Full variational Bayes, on regressions whose posterior is known.


@cache
def regression(N=40, D=2, J=1, sigma=0.5, v=0.02):
    """A linear model whose encoder observes z, data, and the exact posterior of its weights.

    z has columns that are orthogonal to each other and to 1, so that the posterior of (W, b) has
    a diagonal covariance, and q(θ) can be that posterior.
    """
    rng = np.random.default_rng(4)
    x = rng.normal(0.5, 1, (N, D))
    center = x.mean(axis=0)
    directions = np.linalg.svd(x - center, full_matrices=False)[2][:J].T
    vae = VAE(D, J, (), likelihood=f"gaussian:{sigma}", dtype="float64")
    p = vae.parameters
    p["encoder.W0"][:] = np.hstack([directions, np.zeros((D, J))])
    p["encoder.b0"][:] = np.concatenate([-center @ directions, np.full(J, -60.0)])
    design = np.hstack([(x - center) @ directions, np.ones((N, 1))])  # z and 1
    precision = np.eye(J + 1) / v + design.T @ design / sigma**2
    assert np.abs(precision - np.diag(np.diag(precision))).max() < 1e-10
    mean = np.linalg.solve(precision, design.T @ x / sigma**2)  # (J + 1, D), laid out as θ
    logvar = np.repeat(-np.log(np.diag(precision)), D)
    cov = sigma**2 * np.eye(N) + v * design @ design.T
    evidence = multivariate_normal.logpdf(x.T, np.zeros(N), cov).sum() / N
    return vae, x, WeightPosterior(mean.ravel(), logvar), evidence, v


def exact_bound(vae, q, x, v):
    """The bound for draws of θ that integrate a quadratic exactly."""
    zeta, _ = noise_nodes(q.mu.size, 2)
    return full_bound(vae, q, x, np.zeros((1, len(x), vae.latent_dim)), zeta, len(x), v)


def test_at_the_posterior_of_the_weights_the_bound_is_the_evidence():
    # kills: KL(q(θ) ‖ p) scaled by another number than 1/N, σ for σ², a prior of variance 1
    vae, x, posterior, evidence, v = regression()
    bound, pull = exact_bound(vae, posterior, x, v)
    assert bound.reconstruction - bound.kl_theta == pytest.approx(evidence, abs=1e-9)
    gradient = pull("theta")
    assert max(np.abs(gradient.mu).max(), np.abs(gradient.logvar).max()) < 1e-12
    assert not gradient.phi.any()
    for other in (
        posterior._replace(mu=posterior.mu + 0.1),
        posterior._replace(logvar=posterior.logvar + 0.5),
    ):
        worse, pull = exact_bound(vae, other, x, v)
        assert worse.value < bound.value - 1e-3
        assert np.abs(pull("theta").flat).max() > 1e-3


def test_full_variational_bayes_converges_to_the_posterior_of_the_weights():
    # kills: the KL of θ scaled by the minibatch, whose σ² is N/B = 4 times too large
    vae, x, posterior, _, v = regression()
    vae = vae.with_flat(vae.parameters.flat.copy())
    phi = vae.parameters.phi.copy()
    found, _ = full_variational_bayes(
        vae,
        x,
        epochs=200,
        batch_size=10,
        n_samples=2,
        prior_variance=v,
        start_sigma=0.1,
        optimizer=Adam(0.03),
        schedule=cosine_schedule(200),
        update="theta",
    )
    assert np.array_equal(vae.parameters.phi, phi)
    assert np.array_equal(vae.parameters.theta, found.mu)
    assert np.abs((found.mu - posterior.mu) * np.exp(-0.5 * posterior.logvar)).max() < 0.4
    assert np.abs(found.logvar - posterior.logvar).max() < 0.3


def test_gradient_of_the_full_bound(likelihood):
    # kills: a lost ½ or σ, a draw of θ that is not its own, a mean over S that is a sum
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(L)
    n_phi, theta = vae.parameters.phi.size, vae.parameters.theta
    rng = np.random.default_rng(8)
    q = WeightPosterior(theta, rng.normal(-2, 0.5, theta.size))
    zeta, N, v = rng.standard_normal((3, theta.size)), 50, 0.7

    def value(flat):
        phi, mu, logvar = np.split(flat, [n_phi, n_phi + theta.size])
        total = 0
        for row in zeta:
            twin = vae.with_flat(np.concatenate([phi, mu + np.exp(logvar / 2) * row]))
            total = total + evidence_lower_bound(twin, x, eps)[0].elbo.mean() / len(zeta)
        kl = 0.5 * (mu**2 / v + np.exp(logvar) / v - 1 - logvar + np.log(v)).sum()
        return total - kl / N

    bound, pull = full_bound(vae, q, x, eps, zeta, N, v)
    flat = np.concatenate([vae.parameters.phi, *q])
    assert bound.value == pytest.approx(value(flat), rel=1e-12)
    expected = complex_step(value, flat)
    for found, part in zip(pull(), np.split(expected, [n_phi, n_phi + theta.size])):
        assert relative_error(found, part) <= 1e-12
    # kills: a draw or a share in float64, which would double the memory of every product
    single = vae.with_flat(vae.parameters.flat.astype("float32"))
    q_single = WeightPosterior(*(a.astype("float32") for a in q))
    arrays = [a.astype("float32") for a in (x, eps, zeta)]
    found = full_bound(single, q_single, *arrays, N, v)[1]().flat
    assert found.dtype == np.float32
    assert relative_error(found, pull().flat) <= 1e-5
    assert np.array_equal(pull("theta").logvar, pull().logvar)
    assert np.array_equal(pull("phi").phi, pull().phi)
    assert not pull("phi").mu.any()


def test_full_variational_bayes_goes_on_where_it_was_stopped():
    # kills: variances or a state of the optimizer that a history does not have
    x = data_for("bernoulli", 30).astype("float32")
    whole, half = (small_vae(dtype="float32") for _ in range(2))
    settings = {"batch_size": 7, "schedule": cosine_schedule(4), "optimizer": "adam"}
    expected, _ = full_variational_bayes(whole, x, epochs=4, **settings)
    _, first = full_variational_bayes(half, x, epochs=2, **settings)
    first = saved_and_loaded(first)
    found, history = full_variational_bayes(half, x, epochs=2, resume=first, **settings)
    assert whole.parameters.flat.tobytes() == half.parameters.flat.tobytes()
    assert found.logvar.tobytes() == expected.logvar.tobytes()
    assert found.logvar.dtype == np.float32
    assert history["epoch"].tolist() == [1, 2, 3, 4]


def test_map_by_fit_reaches_the_mean_of_the_posterior():
    # kills: the prior divided by the minibatch: four times as strong
    vae, x, posterior, _, v = regression()
    vae = vae.with_flat(vae.parameters.flat.copy())
    estimator = WithWeightPrior(Estimator(), len(x), v)
    settings = {"batch_size": 10, "estimator": estimator, "update": "theta"}
    fit(vae, x, epochs=100, optimizer=Adam(0.05), schedule=cosine_schedule(100), **settings)
    np.testing.assert_allclose(vae.parameters.theta, posterior.mu, atol=1e-3)


# Monte-Carlo EM.


@cache
def probabilistic_pca():
    """Data with J = 2, and the maximum of their likelihood."""
    rng = np.random.default_rng(0)
    model = LinearGaussian(rng.normal(0, 1, (5, 2)), rng.normal(size=5), 0.36)
    x = model.sample(1000, seed=1)
    best = ppca_maximum_likelihood(x, 2)
    return x, float(best.sigma2**0.5), best.log_evidence(x).mean()


def test_monte_carlo_em_reaches_maximum_likelihood():
    # kills: moves without acceptance, whose z are too wide: 0.07 nats; chains that do not move.
    # Four leapfrog steps at this acceptance are a quarter of a period, the best for a Gaussian.
    x, sigma, best = probabilistic_pca()
    vae = VAE(5, 2, (), likelihood=f"gaussian:{sigma}", dtype="float64", seed=3)
    phi, schedule = vae.parameters.phi.copy(), cosine_schedule(150)
    settings = {"batch_size": 1000, "optimizer": Adam(0.05), "schedule": schedule}
    history = monte_carlo_em(vae, x, epochs=150, n_leapfrog=4, **settings)
    assert 0 <= best - LinearGaussian.from_vae(vae).log_evidence(x).mean() < 1e-3
    assert abs(history["acceptance"][-20:].mean() - 0.9) < 0.01
    assert np.array_equal(vae.parameters.phi, phi)


def test_each_move_has_ten_leapfrog_steps_and_five_updates(monkeypatch):
    # kills: updates that are forgotten, a move for each update, a minibatch that is left out
    moves, real = [], mcem.transition
    monkeypatch.setattr(mcem, "transition", lambda *a: moves.append(a[3]) or real(*a))
    x = data_for("bernoulli", 30)
    history = monte_carlo_em(small_vae(), x, epochs=2, batch_size=8)
    assert moves == [10] * 8
    assert int(history.optimizer_state["t"]) == 5 * 8
    assert int(history.optimizer_state["chains_moves"]) == 8
    with Progress(1) as line:
        few = monte_carlo_em(
            small_vae(), x, epochs=1, batch_size=8, n_leapfrog=3, n_updates=2, callbacks=[line]
        )
    assert (moves[-1], int(few.optimizer_state["t"])) == (3, 2 * 4)


def test_the_updates_follow_the_gradient_of_the_joint_density(likelihood, monkeypatch):
    # kills: a prior that is not divided by N, a gradient at other draws than those of the move
    vae, x, seen = small_vae(likelihood), data_for(likelihood, 6), []
    real = mcem._Run.gradient
    monkeypatch.setattr(
        mcem._Run,
        "gradient",
        lambda run, *a: (
            seen.append((run.vae.parameters.flat.copy(), *a, *real(run, *a))) or seen[-1][3:]
        ),
    )
    history = monte_carlo_em(vae, x, epochs=1, batch_size=3, prior_variance=0.7, n_updates=1)
    for flat, rows, z, log_p, objective, gradient in seen:

        def value(flat, rows=rows, z=z):
            twin = vae.with_flat(flat)
            theta = twin.parameters.theta
            log_theta = -0.5 * (theta**2 / 0.7 + np.log(2 * np.pi * 0.7)).sum()
            log_joint = (twin.log_likelihood(rows, z)[0] + log_prior(z)[0]).mean()
            return np.stack([log_joint, log_joint + log_theta / len(x)])

        np.testing.assert_allclose(value(flat), [log_p, objective], rtol=1e-12)
        exact = complex_step(lambda p, value=value: value(p)[1], flat)
        assert relative_error(gradient, exact[-gradient.size :]) <= 1e-12
    chains = history.optimizer_state["chains"]
    assert all(
        (z[0] == chains[[(x == row).all(axis=1).argmax() for row in rows]]).any()
        for _, rows, z, *_ in seen
    )


def test_monte_carlo_em_goes_on_where_it_was_stopped():
    # kills: chains that start anew, a step size that is tuned again
    x = data_for("bernoulli", 30)
    whole, half = (small_vae(dtype="float32") for _ in range(2))
    settings = {"batch_size": 7, "schedule": cosine_schedule(4)}
    expected = monte_carlo_em(whole, x, epochs=4, **settings)
    first = saved_and_loaded(monte_carlo_em(half, x, epochs=2, **settings))
    found = monte_carlo_em(half, x, epochs=2, resume=first, **settings)
    assert whole.parameters.flat.tobytes() == half.parameters.flat.tobytes()
    for name, array in expected.optimizer_state.items():
        assert found.optimizer_state[name].tobytes() == array.tobytes(), name
    assert found.optimizer_state["chains"].dtype == np.float32


def saved_and_loaded(history):
    """The history after a file, which has all that a run needs to go on."""
    file = io.BytesIO()
    np.savez(file, **history.optimizer_state)
    file.seek(0)
    return History(history.rows, dict(np.load(file)))


@pytest.mark.parametrize(
    "method",
    [
        monte_carlo_em,
        partial(monte_carlo_em, n_updates=1),
        full_variational_bayes,
        partial(full_variational_bayes, update="theta", batch_size=7),
    ],
    ids=["mcem", "mcem, in the move", "full", "full, second step"],
)
def test_a_run_that_diverges_goes_back(method):
    # kills: a model that is left with 1e153, and an error that does not name the parameter
    vae, start = small_vae("gaussian:0.3"), small_vae("gaussian:0.3")
    with pytest.raises(NonFiniteError, match=r"first seen in (en|de)coder\.") as caught:
        method(vae, data_for("gaussian:0.3", 30), epochs=20, optimizer=Adam(1e153))
    assert np.array_equal(vae.parameters.flat, start.parameters.flat)
    assert len(caught.value.history) == vae.parameters.epochs == 0


@pytest.mark.parametrize("method", [monte_carlo_em, full_variational_bayes])
def test_rows_to_train_on_are_contiguous(method, monkeypatch):
    # kills: minibatches from Fortran order, 10 to 20 times slower to take
    runs = []
    monkeypatch.setitem(
        method.__globals__, "run_epochs", lambda *args: runs.append(args[3].__self__)
    )
    vae, x = small_vae("bernoulli"), data_for("bernoulli", 30)
    method(vae, np.asfortranarray(x.astype(vae.dtype)), epochs=1)
    assert runs[0].x.flags.c_contiguous
    assert np.array_equal(runs[0].x, x)


# The centered RMSProp, where float32 matters.


def test_centered_rmsprop_keeps_its_digits_for_a_gradient_that_hardly_varies():
    # kills: the mean of squares less the square of the mean, which cancel
    gradients = 1 + 1e-4 * np.random.default_rng(0).standard_normal((400, 5))
    steps = []
    for dtype in ("float32", "float64"):
        optimizer = RMSProp(0.1, centered=True)
        state = optimizer.init(np.zeros(5, dtype))
        steps.append([optimizer.step(g.astype(dtype), state) for g in gradients])
    np.testing.assert_allclose(*steps, rtol=1e-2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda vae, x: WithWeightPrior("iwae", 5), TypeError, "estimator: expected an Estimator"),
        (lambda vae, x: WithWeightPrior(Estimator(), 0), ValueError, "n_data: expected a whole"),
        (lambda vae, x: WithWeightPrior(Estimator(), 5, -1), ValueError, "variance: expected a"),
        (lambda vae, x: WakeSleep()(vae, x, noise(3)), ValueError, "eps: expected 2 L draws"),
        (lambda vae, x: monte_carlo_em(vae, x, epochs=0), ValueError, "epochs: expected a whole"),
        (
            lambda vae, x: monte_carlo_em(vae, x, epochs=1, acceptance=1.0),
            ValueError,
            r"acceptance: expected a number in \(0, 1\), got 1.0",
        ),
        (
            lambda vae, x: monte_carlo_em(vae, x, epochs=1, callbacks=[EarlyStopping(2)]),
            ValueError,
            "expected a validation set",
        ),
        (
            lambda vae, x: monte_carlo_em(vae, x[:, :2], epochs=1),
            ValueError,
            "x: expected 3 columns",
        ),
        (
            lambda vae, x: full_variational_bayes(vae, x, epochs=1, start_sigma=0),
            ValueError,
            "start_sigma: expected a",
        ),
        (
            lambda vae, x: full_variational_bayes(vae, x, epochs=1, update="all"),
            ValueError,
            "update: expected one of",
        ),
        (lambda vae, x: RMSProp(centered=1), TypeError, "centered: expected a bool, got 1"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(small_vae(), data_for("bernoulli"))
    assert "\n" not in str(caught.value)
