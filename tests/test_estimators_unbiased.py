"""Estimators in expectation: exact gradients, bias, variance and signal-to-noise.

The exact gradient is the complex step of an exact objective: the closed form of a linear-Gaussian
model, or a Gauss-Hermite rule over the noise, which turns E over ε into a weighted sum.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from conftest import data_for, small_vae

from numpyvae.clinic.gradcheck import complex_step, relative_error
from numpyvae.core.distributions import gaussian_kl, gaussian_logpdf, reparameterize
from numpyvae.core.elbo import log_joint
from numpyvae.estimators import (
    IWAE,
    SGVBA,
    SGVBB,
    STL,
    STLIWAE,
    DReG,
    ScoreFunction,
)

MODELS = ("linear J=1", "linear J=2", "non-linear J=1", "non-linear J=2")
LOO = "leave-one-out"
OF_THE_ELBO = (
    SGVBA(),
    SGVBB(),
    STL(),
    ScoreFunction(),
    ScoreFunction(-3.0),
    ScoreFunction(LOO, n_samples=2),
)
OF_L_2 = (IWAE(2), DReG(2))


def hermite(n, axes):
    """Nodes (n^axes, axes) and weights for E under N(0, I)."""
    t, w = np.polynomial.hermite_e.hermegauss(n)
    grid = np.stack(np.meshgrid(*[t] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    weights = np.stack(np.meshgrid(*[w / w.sum()] * axes, indexing="ij"), axis=-1)
    return grid, weights.prod(axis=-1).ravel()


def quadrature_bound(vae, x, n, n_importance):
    """L_K of Burda et al., or Eq. (7) for K = 1, exact by quadrature over K·J noises."""
    J = vae.latent_dim
    nodes, weights = hermite(n, n_importance * J)
    eps = nodes.reshape(-1, 1, J)  # (n^KJ · K, 1, J): the same nodes for each row of x
    (mu, logvar), _ = vae.encoder(x)
    z, _ = reparameterize(mu, logvar, eps)
    log_q, _ = gaussian_logpdf(z, mu, logvar)
    log_w = (log_joint(vae, x, z) - log_q).reshape(-1, n_importance, len(x))
    top = log_w.real.max(axis=1, keepdims=True)
    bound = top[:, 0] + np.log(np.exp(log_w - top).mean(axis=1))
    return (weights @ bound).mean()


def closed_elbo(vae, x):
    """ELBO of a linear-Gaussian model: E_q of a quadratic in z needs two moments of q."""
    W, b = vae.parameters["decoder.W0"], vae.parameters["decoder.b0"]
    logvar_x = vae.parameters["decoder.logvar"]
    (mu, logvar), _ = vae.encoder(x)
    square = (x - mu @ W - b) ** 2 + np.exp(logvar) @ W**2  # E_q (x − zW − b)²
    log_px = -0.5 * (np.log(2 * np.pi) + logvar_x + square * np.exp(-logvar_x)).sum(axis=-1)
    return (log_px - gaussian_kl(mu, logvar)[0]).mean()


def case(name):
    """A small model and two rows of data, no column of which is zero throughout.

    The seeds are of models for which the quadrature converges fast.
    """
    J = 1 if name.endswith("J=1") else 2
    if name.startswith("linear"):
        vae = small_vae("gaussian:learned", latent_dim=J, hidden=(), seed=5)
        return vae, data_for("gaussian:learned", 2)
    vae = small_vae("bernoulli", latent_dim=J, hidden=(3,), seed={1: 1, 2: 5}[J])
    return vae, np.array([[1.0, 0, 1], [0, 1, 1]])


def exact_gradient(objective, vae):
    return complex_step(lambda p: objective(vae.with_flat(p)), vae.parameters.flat)


@cache
def exact(name, n_importance=1, n=24):
    """Exact gradient of the ELBO or of L_K: in closed form if there is one, else by n^KJ nodes."""
    vae, x = case(name)
    if name.startswith("linear") and n_importance == 1:
        return exact_gradient(lambda v: closed_elbo(v, x), vae)
    return exact_gradient(lambda v: quadrature_bound(v, x, n, n_importance), vae)


@cache
def mean_by_quadrature(estimator, name, n=24):
    """E[gradient] of an estimator that is given two draws, exact for J = 1."""
    vae, x = case(name)
    nodes, weights = hermite(n, 2)
    gradients = [
        estimator.estimate(vae, x, np.repeat(pair, len(x)).reshape(2, len(x), 1)).gradient.flat
        for pair in nodes
    ]
    return vae.parameters.like(weights @ np.array(gradients))


def replicates(estimator, vae, x, n, n_draws, seed=0):
    """`n` independent gradients, (n, P), each from `n_draws` draws for every datapoint."""
    rng = np.random.default_rng([seed, 21])
    shape = n_draws, len(x), vae.latent_dim
    return np.array(
        [estimator.estimate(vae, x, rng.standard_normal(shape)).gradient.flat for _ in range(n)]
    )


def z_scores(gradients, expected):
    """Distance of the mean from what is expected, in standard errors, per parameter."""
    error = gradients.std(axis=0, ddof=1) / np.sqrt(len(gradients))
    return np.abs(gradients.mean(axis=0) - expected) / error


@pytest.mark.parametrize("name", MODELS)
def test_the_exact_gradients_are_exact(name):
    # Kills: a closed form that is wrong, or a quadrature rule that is too coarse.
    vae, x = case(name)
    if name.startswith("linear"):
        rule = exact_gradient(lambda v: quadrature_bound(v, x, 10, 1), vae)
        assert relative_error(rule, exact(name)) <= 1e-12
    n_importance = 2 // vae.latent_dim
    finer = exact(name, n_importance, 40)
    assert relative_error(exact(name, n_importance), finer) <= 1e-7


@pytest.mark.parametrize("estimator", [*OF_THE_ELBO, *OF_L_2], ids=repr)
def test_mean_gradient_is_the_exact_gradient(estimator):
    # Kills: any bias: a baseline that contains its own draw, w̃ for w̃², a lost score.
    vae, _ = case("non-linear J=1")
    mean = mean_by_quadrature(estimator, "non-linear J=1")
    expected = vae.parameters.like(exact("non-linear J=1", estimator.n_importance))
    assert relative_error(mean.phi, expected.phi) <= 1e-7
    assert relative_error(mean.theta, expected.theta) <= 1e-7


@pytest.mark.parametrize("name", ["linear J=2", "non-linear J=2"])
@pytest.mark.parametrize("estimator", OF_THE_ELBO, ids=repr)
def test_a_hundred_thousand_draws_agree_with_the_exact_gradient(estimator, name):
    # Kills: what one latent or two draws cannot show, as a sum over J in the wrong place.
    vae, x = case(name)
    gradients = replicates(estimator, vae, x, n=200, n_draws=500)
    assert z_scores(gradients, exact(name)).max() < 5


@pytest.mark.parametrize("name", ["linear J=1", "non-linear J=1"])
@pytest.mark.parametrize("estimator", OF_L_2, ids=repr)
def test_a_hundred_thousand_draws_agree_with_the_exact_gradient_of_l_2(estimator, name):
    # Kills: weights normalized over more than their K draws.
    vae, x = case(name)
    gradients = replicates(estimator, vae, x, n=200, n_draws=500)
    assert z_scores(gradients, exact(name, 2)).max() < 5


def test_stl_is_biased_for_two_importance_samples_and_dreg_is_not():
    # Kills: STL-IWAE declared as unbiased; DReG with the weights of STL.
    vae, x = case("non-linear J=1")
    expected = vae.parameters.like(exact("non-linear J=1", 2))
    stl, dreg = (mean_by_quadrature(e, "non-linear J=1") for e in (STLIWAE(2), DReG(2)))
    assert relative_error(dreg.phi, expected.phi) <= 1e-7
    assert relative_error(stl.phi, expected.phi) > 0.05
    assert relative_error(stl.theta, expected.theta) <= 1e-7  # for θ it is IWAE
    gradients = replicates(STLIWAE(2), vae, x, n=200, n_draws=500)
    assert z_scores(gradients, expected.flat)[: stl.phi.size].max() > 20


def model_with_exact_posterior():
    """A linear-Gaussian model with J = 1 whose encoder is its posterior; data; log p(x)."""
    vae = small_vae("gaussian:learned", latent_dim=1, hidden=(), data_dim=3)
    p = vae.parameters
    W, b, precision = p["decoder.W0"][0], p["decoder.b0"], np.exp(-p["decoder.logvar"])
    variance = 1 / (1 + (W * W * precision).sum())
    # p(z|x) = N(v Σ_d W_d (x_d − b_d)/s_d², v),  1/v = 1 + Σ_d W_d²/s_d²
    p["encoder.W0"][:] = np.stack([variance * W * precision, np.zeros(3)], axis=1)
    p["encoder.b0"][:] = -variance * (W * b * precision).sum(), np.log(variance)
    x = data_for("gaussian:learned", 4)
    covariance = np.outer(W, W) + np.diag(1 / precision)
    square = ((x - b) * np.linalg.solve(covariance, (x - b).T).T).sum(axis=1)
    log_p = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + square)
    return vae, x, log_p.mean()


@pytest.mark.parametrize("estimator", [STL(), STLIWAE(5), DReG(5)], ids=repr)
def test_variance_vanishes_where_q_is_the_posterior(estimator):
    # Kills: a score term left in; (z − μ)/σ² that does not cancel ∂log p/∂z.
    vae, x, log_p = model_with_exact_posterior()
    gradients = replicates(estimator, vae, x, n=100, n_draws=estimator.n_importance)
    n_phi = vae.parameters.phi.size
    assert gradients[:, :n_phi].var(axis=0).max() < 1e-20
    assert np.abs(gradients[:, :n_phi]).max() < 1e-10  # and the gradient itself is 0
    assert gradients[:, n_phi:].var(axis=0).min() > 1e-6
    eps = np.random.default_rng(3).standard_normal((estimator.n_importance, len(x), 1))
    assert estimator(vae, x, eps).objective == pytest.approx(log_p, abs=1e-10)


def test_at_the_posterior_leave_one_out_gives_a_score_term_of_zero():
    # kills: a baseline over rows in place of draws: log w is the same for all draws of one x
    vae, x, _ = model_with_exact_posterior()
    gradients = replicates(ScoreFunction(LOO, n_samples=2), vae, x, n=100, n_draws=2)
    assert np.abs(gradients[:, : vae.parameters.phi.size]).max() < 1e-10


@pytest.mark.parametrize("estimator", [SGVBA(), SGVBB(), IWAE(5), ScoreFunction()], ids=repr)
def test_variance_of_the_other_estimators_does_not(estimator):
    # Kills: the check above passing for a gradient that is always 0.
    vae, x, _ = model_with_exact_posterior()
    gradients = replicates(estimator, vae, x, n=100, n_draws=2 * estimator.n_draws)
    assert gradients[:, : vae.parameters.phi.size].var(axis=0).max() > 1e-3


def test_control_variates_reduce_the_variance_of_the_score_function():
    # Kills: a baseline of the wrong sign, or for some draws only. (For its mean see above.)
    vae, x = case("non-linear J=2")
    n_phi = vae.parameters.phi.size
    eps = np.random.default_rng(1).standard_normal((1000, len(x), vae.latent_dim))
    typical = SGVBA()(vae, x, eps).objective
    none, constant, others, path = (
        replicates(e, vae, x, n=300, n_draws=4)[:, :n_phi].var(axis=0).sum()
        for e in (
            ScoreFunction(),
            ScoreFunction(typical),
            ScoreFunction(LOO, n_samples=2),
            SGVBA(),
        )
    )
    assert constant < 0.5 * none
    assert others < 0.5 * none
    assert path < 0.5 * others  # what reparameterization is for


def test_signal_to_noise_grows_with_k_for_dreg_and_falls_for_iwae():
    # Kills: a score term lost from IWAE or kept in DReG. Rainforth et al. 2018: 1/√K against √K.
    vae, x, _ = model_with_exact_posterior()
    # Near the optimum, with q a little wider than the posterior so that the weights are bounded.
    vae.parameters.flat[:] += 0.1 * np.random.default_rng(5).standard_normal(
        vae.parameters.flat.size
    )
    vae.parameters["encoder.b0"][1] += 0.3

    def ratio(estimator):
        g = replicates(estimator, vae, x, n=400, n_draws=estimator.n_importance)
        g = g[:, : vae.parameters.phi.size]
        return (np.abs(g.mean(axis=0)) / g.std(axis=0)).mean()

    few, many = 1, 64
    assert ratio(IWAE(many)) < 0.5 * ratio(IWAE(few))
    assert ratio(DReG(many)) > 3 * ratio(DReG(few))
