"""Variational inference and variational EM, against the closed forms they must reach."""

from __future__ import annotations

import numpy as np
import pytest

from numpyvae import VAE, Adam, cosine_schedule, datasets, fit
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature, ppca_maximum_likelihood
from numpyvae.inference import m_step, noise_nodes, variational_em, variational_inference


def linear_vae(latent_dim, data_dim=5, sigma=0.6, seed=0):
    vae = VAE(data_dim, latent_dim, (), likelihood=f"gaussian:{sigma}", dtype="float64")
    vae.parameters.flat[:] = np.random.default_rng(seed).normal(0, 0.7, vae.parameters.flat.size)
    return vae


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 5])
def test_nodes_integrate_quadratics_exactly(latent_dim):
    eps, weights = noise_nodes(latent_dim, 4)
    assert eps.shape == (len(weights), latent_dim)
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-14)
    np.testing.assert_allclose(weights @ eps, 0, atol=1e-14)
    np.testing.assert_allclose((weights * eps.T) @ eps, np.eye(latent_dim), atol=1e-13)


def test_free_inference_reaches_the_posterior_when_the_family_contains_it():
    vae = linear_vae(1)
    model = LinearGaussian.from_vae(vae)
    x = model.sample(120, seed=1)  # more rows than one search takes
    before = vae.parameters.flat.copy()
    found = variational_inference(vae, x)
    assert np.array_equal(vae.parameters.flat, before)
    posterior = model.posterior(x)
    np.testing.assert_allclose(found.mu, posterior.mean, atol=1e-5)
    assert abs(model.log_evidence(x).mean() - found.elbo) < 1e-6


def test_free_inference_leaves_the_gap_of_the_family_otherwise():
    vae = linear_vae(3)
    model = LinearGaussian.from_vae(vae)
    x = model.sample(40, seed=1)
    found = variational_inference(vae, x)
    gap = model.log_evidence(x).mean() - found.elbo
    best = model.kl_to_posterior(x, model.best_diagonal(x)).mean()
    assert best > 0.01
    assert abs(gap - best) < 1e-6


def test_amortized_inference_changes_only_phi_and_is_exact_if_possible():
    vae = linear_vae(1)  # the posterior mean is linear in x: the encoder can express it
    model = LinearGaussian.from_vae(vae)
    x = model.sample(60, seed=1)
    theta = vae.parameters.theta.copy()
    found = variational_inference(vae, x, q="amortized", max_iterations=3000)
    assert np.array_equal(vae.parameters.theta, theta)
    np.testing.assert_array_equal(found.mu, vae.encode(x)[0])
    assert abs(model.log_evidence(x).mean() - found.elbo) < 1e-6


def test_free_is_at_least_as_good_as_amortized_on_a_nonlinear_decoder():
    vae = VAE(6, 1, (5,), dtype="float64")
    vae.parameters.flat[:] = np.random.default_rng(3).normal(0, 1, vae.parameters.flat.size)
    x, nodes = vae.sample(40, seed=2), noise_nodes(1, 32)
    amortized = variational_inference(vae, x, q="amortized", max_iterations=200, nodes=nodes)
    free = variational_inference(vae, x, nodes=nodes)
    assert free.elbo >= amortized.elbo
    q = Gaussian.diagonal(free.mu, free.logvar)
    model = Quadrature(vae)
    # The reported ELBO is the exact one: 32 nodes are enough (with 16 it is 2e-6 off).
    np.testing.assert_allclose(free.elbo, model.elbo_kl_form(x, q).mean(), atol=1e-6)


def test_m_step_reaches_the_closed_form_for_its_q():
    vae = linear_vae(2)
    model = LinearGaussian.from_vae(vae)
    x = model.sample(80, seed=4)
    q = variational_inference(linear_vae(2, seed=9), x)
    phi = vae.parameters.phi.copy()
    reached = m_step(vae, x, q)
    assert np.array_equal(vae.parameters.phi, phi)
    gaussian = Gaussian.diagonal(q.mu, q.logvar)
    moved = model.m_step(x, gaussian)
    best = LinearGaussian(moved.W, moved.mean, model.sigma2)  # W and m do not depend on σ²
    np.testing.assert_allclose(reached, best.elbo_joint_form(x, gaussian).mean(), atol=1e-8)
    np.testing.assert_allclose(LinearGaussian.from_vae(vae).W, best.W, atol=1e-4)


@pytest.mark.parametrize("q", ["free", "amortized"])
def test_variational_em_never_decreases_the_elbo_and_alternates(q):
    x = LinearGaussian.from_vae(linear_vae(1, seed=5)).sample(60, seed=7)
    seen = []
    _, steps = variational_em(
        linear_vae(1, seed=6), x, rounds=4, q=q, max_iterations=60, callback=seen.append
    )
    assert [s.half for s in steps] == ["phi", "theta"] * 4
    assert (np.diff([s.elbo for s in steps]) >= -1e-12).all()
    assert seen == steps


def test_variational_em_reaches_probabilistic_pca():
    x = LinearGaussian.from_vae(linear_vae(1, seed=5)).sample(100, seed=7)
    best = ppca_maximum_likelihood(x, 1)
    vae = linear_vae(1, sigma=float(best.sigma2**0.5), seed=6)
    variational_em(vae, x, rounds=60)
    evidence = LinearGaussian.from_vae(vae).log_evidence(x).mean()
    assert abs(best.log_evidence(x).mean() - evidence) < 1e-6


def test_exact_em_never_decreases_the_elbo_and_reaches_probabilistic_pca():
    x = LinearGaussian.from_vae(linear_vae(2, seed=5)).sample(100, seed=7)
    best = ppca_maximum_likelihood(x, 2).log_evidence(x).mean()
    model = LinearGaussian.from_vae(linear_vae(2, seed=6))
    bound = []
    for _ in range(400):
        q = model.posterior(x)  # E-step: the bound meets log p(x)
        bound.append(model.elbo_joint_form(x, q).mean())
        model = model.m_step(x, q)  # M-step
        bound.append(model.elbo_joint_form(x, q).mean())
    assert (np.diff(bound) >= -1e-10).all()
    assert abs(best - model.log_evidence(x).mean()) < 1e-6


def test_bad_input_is_refused():
    vae = linear_vae(2)
    x = np.zeros((3, 5))
    for call, message in (
        (lambda: variational_inference(vae, x, q="other"), "expected one of free, amortized"),
        (lambda: variational_em(vae, x, rounds=0), "rounds: expected a whole number"),
        (lambda: variational_inference(vae, x[:, :2]), "expected 5 columns, got 2"),
        (
            lambda: m_step(vae, x, (x[:, :2], x[:, :2], 0.0), nodes=noise_nodes(3)),
            "nodes: expected",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_linear_vae_trained_by_fit_reaches_probabilistic_pca_on_the_digits():
    grays = datasets.load_digits().grays("train", "float64")
    x = grays - grays.mean(axis=0)
    best = ppca_maximum_likelihood(x, 3)
    sigma = float(best.sigma2**0.5)
    vae = VAE(64, 3, (), likelihood=f"gaussian:{sigma}", dtype="float64")
    fit(vae, x, epochs=150, batch_size=300, optimizer=Adam(0.05), schedule=cosine_schedule(150))
    evidence = LinearGaussian.from_vae(vae).log_evidence(x).mean()
    assert 0 <= best.log_evidence(x).mean() - evidence < 1e-3
