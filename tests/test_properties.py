"""The theorems of the notes as properties, over random models, widths, data and q.

The package's ELBO is averaged over quadrature nodes for ε, so that its expectation over q is
exact; the evidence, the posterior and the KL to it come from `numpyvae.exact` by other routes.
`VARIANTS` plants the classic bugs one by one, and the table says which properties catch which.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from numpyvae import VAE
from numpyvae.core import distributions, likelihoods
from numpyvae.exact import FiniteMixture, Gaussian, LinearGaussian, Quadrature
from numpyvae.inference import noise_nodes

elbo = importlib.import_module("numpyvae.core.elbo")  # the package's `elbo` is the function
EXAMPLES = settings(max_examples=200)
SEEDS = st.integers(0, 2**32 - 1)
SLACK = 1e-8


def package_elbos(vae, x, mu, logvar):
    """E over ε of the package's ELBO for q = N(μ, σ²), by Eq. (11) and by Eq. (7), (B,) each."""
    eps, weights = noise_nodes(vae.latent_dim, 40 if vae.latent_dim == 1 else 24)
    z, _ = elbo.reparameterize(mu, logvar, np.repeat(eps[:, None], len(x), axis=1))
    reconstruction = weights @ vae.log_likelihood(x, z)[0]
    by_kl = reconstruction - elbo.gaussian_kl(mu, logvar)[0]
    by_joint = weights @ (elbo.log_joint(vae, x, z) - elbo.gaussian_logpdf(z, mu, logvar)[0])
    return by_kl, by_joint


def linear_case(seed, latent_dim, data_dim):
    """A linear-Gaussian VAE with data and any diagonal q."""
    rng = np.random.default_rng(seed)
    vae = VAE(data_dim, latent_dim, (), likelihood="gaussian:learned", dtype="float64")
    vae.parameters.flat[:] = rng.normal(0, rng.uniform(0.1, 1.5), vae.parameters.flat.size)
    x = rng.normal(0, 2, (3, data_dim))
    q = rng.normal(0, 1.5, (3, latent_dim)), rng.uniform(-4, 2, (3, latent_dim))
    return vae, LinearGaussian.from_vae(vae), x, q


def tanh_case(seed, likelihood, scale):
    """A decoder with a tanh layer and one latent, with data and any q."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 5))
    vae = VAE(int(rng.integers(1, 6)), 1, (width,), likelihood=likelihood, dtype="float64")
    vae.parameters.flat[:] = rng.normal(0, scale, vae.parameters.flat.size)
    x = rng.integers(0, 2, (2, vae.data_dim)).astype(float)
    q = rng.normal(0, 1, (2, 1)), rng.uniform(-5, -1, (2, 1))
    return vae, Quadrature(vae), x, q


def check_bound(model, x, q, value):
    """log p(x) ≥ ELBO, Eq. (10)."""
    log_px = model.log_evidence(x)
    assert (log_px - value >= -SLACK * (1 + np.abs(log_px))).all()


def check_gap(model, x, q, value, tolerance):
    """log p(x) − ELBO is the KL to the posterior, Eq. (8), and not below zero."""
    log_px, kl = model.log_evidence(x), model.kl_to_posterior(x, q)
    assert (kl >= -tolerance).all()
    np.testing.assert_allclose(log_px - value, kl, rtol=tolerance, atol=tolerance)


def check_forms(value, other, tolerance):
    """Eq. (7) = Eq. (11)."""
    np.testing.assert_allclose(value, other, rtol=tolerance, atol=tolerance)


@EXAMPLES
@given(SEEDS, st.integers(1, 3), st.integers(1, 6))
def test_linear_gaussian_bound_gap_and_forms(seed, latent_dim, data_dim):
    vae, model, x, (mu, logvar) = linear_case(seed, latent_dim, data_dim)
    q = Gaussian.diagonal(mu, logvar)
    by_kl, by_joint = package_elbos(vae, x, mu, logvar)
    check_bound(model, x, q, by_kl)
    check_gap(model, x, q, by_kl, 1e-10)
    check_forms(by_kl, by_joint, 1e-10)
    check_forms(by_kl, model.elbo_kl_form(x, q), 1e-10)


@EXAMPLES
@given(SEEDS, st.sampled_from(["bernoulli", "gaussian:0.5", "gaussian:head"]), st.floats(0.1, 1.5))
def test_tanh_decoder_bound_gap_and_forms(seed, likelihood, scale):
    _, model, x, (mu, logvar) = tanh_case(seed, likelihood, scale)
    q = Gaussian.diagonal(mu, logvar)
    value = model.elbo_kl_form(x, q)
    check_bound(model, x, q, value)
    check_gap(model, x, q, value, SLACK)
    check_forms(value, model.elbo_joint_form(x, q), SLACK)


@EXAMPLES
@given(SEEDS, st.integers(1, 6))
def test_discrete_bound_gap_and_forms(seed, components):
    rng = np.random.default_rng(seed)
    prior, p = rng.dirichlet(np.ones(components)), rng.uniform(0.02, 0.98, (components, 5))
    model = FiniteMixture(prior, special.logit(p), "bernoulli")
    x = rng.integers(0, 2, (3, 5)).astype(float)
    q = rng.dirichlet(np.ones(components), 3)
    value = model.elbo_kl_form(x, q)
    check_bound(model, x, q, value)
    check_gap(model, x, q, value, 1e-10)
    check_forms(value, model.elbo_joint_form(x, q), 1e-10)


@EXAMPLES
@given(SEEDS, st.integers(1, 5), st.floats(1e-9, 1))
def test_kl_to_the_prior_is_zero_only_at_the_prior(seed, latent_dim, size):
    direction = np.random.default_rng(seed).normal(size=(2, latent_dim))
    mu, logvar = size * direction / np.linalg.norm(direction)
    assert distributions.gaussian_kl(0 * mu, 0 * logvar)[0] == 0
    kl, _ = distributions.gaussian_kl(mu, logvar)
    # KL = ½ |μ|² + ¼ |log σ²|² + O(size³): neither zero nor of another order.
    assert kl >= 0.2 * (mu @ mu + logvar @ logvar) * (1 - size / 2)


@EXAMPLES
@given(SEEDS, st.integers(1, 3), st.integers(1, 6))
def test_with_the_posterior_as_q_the_gap_is_zero(seed, latent_dim, data_dim):
    _, model, x, _ = linear_case(seed, latent_dim, data_dim)
    posterior, log_px = model.posterior(x), model.log_evidence(x)
    np.testing.assert_allclose(model.elbo_joint_form(x, posterior), log_px, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(model.kl_to_posterior(x, posterior), 0, atol=1e-10)
    z = posterior.transform(np.random.default_rng(seed).standard_normal((4, 3, latent_dim)))
    log_w = model.log_joint(x, z) - posterior.log_pdf(z)
    np.testing.assert_allclose(log_w, np.broadcast_to(log_px, log_w.shape), rtol=1e-10, atol=1e-9)


# Negative controls: the classic bugs, planted where the package computes its ELBO.


def _with(f, value=lambda y: y):
    """Return f with its value changed; the pullback plays no part here."""

    def wrong(*args):
        y, pull = f(*args)
        return value(y), pull

    return wrong


_KL, _Z, _LOGPDF = (
    distributions.gaussian_kl,
    distributions.reparameterize,
    distributions.gaussian_logpdf,
)
_LOGPMF = distributions.binomial_logpmf


def _clipped(x, logits, n):
    p = np.clip(special.expit(logits), 1e-2, 1 - 1e-2)
    return (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(-1), None


def _reversed_kl(mu, logvar):
    variance = np.exp(logvar)
    return 0.5 * ((1 + mu * mu) / variance - 1 + logvar).sum(-1), None


def _no_constant(x, mu, logvar):
    return -0.5 * ((x - mu) ** 2 * np.exp(-logvar) + logvar).sum(-1), None


def _no_sigma(x, mu, logvar):
    return -0.5 * ((x - mu) ** 2).sum(-1), None


_STALE = np.random.default_rng(99)


def _stale(mu, logvar, eps):
    """Noise of another call: the nodes no longer meet their weights."""
    return _Z(mu, logvar, _STALE.permutation(eps))


# Name, module, attribute, wrong variant, and the properties that fail on it. The identity of the
# two forms, with Eq. (7) computed apart, and the gap catch all; the bound alone catches four.
VARIANTS = [
    ("KL × 2", elbo, "gaussian_kl", _with(_KL, lambda kl: 2 * kl), {"gap", "forms"}),
    (
        "−1 missing",
        elbo,
        "gaussian_kl",
        lambda m, s: (_KL(m, s)[0] + 0.5 * m.shape[-1], None),
        {"gap", "forms"},
    ),
    ("β = 4", elbo, "gaussian_kl", _with(_KL, lambda kl: 4 * kl), {"gap", "forms"}),
    ("wrong sign", elbo, "gaussian_kl", _with(_KL, lambda kl: -kl), {"bound", "gap", "forms"}),
    (
        "KL meant over latents",
        elbo,
        "gaussian_kl",
        lambda m, s: (_KL(m, s)[0] / 2, None),
        {"gap", "forms"},
    ),
    ("reversed KL", elbo, "gaussian_kl", _reversed_kl, {"gap", "forms"}),
    (
        "σ = exp(log σ²)",
        elbo,
        "reparameterize",
        lambda m, s, e: _Z(m, 2 * s, e),
        {"gap", "forms"},
    ),
    (
        "one ε for all",
        elbo,
        "reparameterize",
        lambda m, s, e: _Z(m, s, 0 * e + e[:, :, :1]),
        {"gap", "forms"},
    ),
    ("stale noise", elbo, "reparameterize", _stale, {"gap", "forms"}),
    (
        "mean, not sum",
        likelihoods,
        "binomial_logpmf",
        lambda x, l, n: (_LOGPMF(x, l, n)[0] / x.shape[-1], None),
        {"bound", "gap", "forms"},
    ),
    ("clipped cross-entropy", likelihoods, "binomial_logpmf", _clipped, {"gap", "forms"}),
    ("2π dropped", likelihoods, "gaussian_logpdf", _no_constant, {"bound", "gap", "forms"}),
    ("Gaussian without σ", likelihoods, "gaussian_logpdf", _no_sigma, {"bound", "gap", "forms"}),
]


def failures(likelihood):
    """Which of the three properties fail for the package's ELBO on a few fixed cases."""
    failed = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        hidden = () if likelihood.startswith("gaussian") else (4,)
        vae = VAE(4, 2, hidden, likelihood=likelihood, dtype="float64")
        vae.parameters.flat[:] = rng.normal(0, 1.5, vae.parameters.flat.size)
        x = rng.integers(0, 2, (3, 4)).astype(float)
        mu, logvar = rng.normal(0, 0.5, (3, 2)), rng.uniform(-5, -3, (3, 2))
        q = Gaussian.diagonal(mu, logvar)
        model = (
            REFERENCES[likelihood, seed]
            if (likelihood, seed) in REFERENCES
            else Frozen(LinearGaussian.from_vae(vae) if not hidden else Quadrature(vae), x, q)
        )
        REFERENCES[likelihood, seed] = model
        by_kl, _ = package_elbos(vae, x, mu, logvar)
        for name, check, arguments in (
            ("bound", check_bound, (model, x, q, by_kl)),
            ("gap", check_gap, (model, x, q, by_kl, 1e-7)),
            ("forms", check_forms, (by_kl, model.joint_form, 1e-7)),
        ):
            try:
                check(*arguments)
            except AssertionError:
                failed.add(name)
    return failed


class Frozen:
    """Exact answers, computed before a bug is planted in what the exact model shares."""

    def __init__(self, model, x, q):
        self._log_px, self._kl = model.log_evidence(x), model.kl_to_posterior(x, q)
        self.joint_form = model.elbo_joint_form(x, q)

    def log_evidence(self, x):
        return self._log_px

    def kl_to_posterior(self, x, q):
        return self._kl


REFERENCES: dict = {}


@pytest.fixture(scope="module", autouse=True)
def references():
    """Without a bug no property fails; and the exact answers are at hand."""
    for likelihood in ("bernoulli", "gaussian:0.5"):
        assert failures(likelihood) == set()


@pytest.mark.parametrize(("name", "module", "attribute", "wrong", "caught_by"), VARIANTS)
def test_planted_variant_is_caught(monkeypatch, name, module, attribute, wrong, caught_by):
    monkeypatch.setattr(module, attribute, wrong)
    likelihood = "gaussian:0.5" if attribute == "gaussian_logpdf" else "bernoulli"
    assert failures(likelihood) == caught_by
