"""The importance-weighted bound: its value, its noise, its memory."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from numpyvae import VAE, importance_log_likelihood
from numpyvae.bounds import log_weights, streams
from numpyvae.core.elbo import sampled_elbo
from numpyvae.support.streams import Purpose, row_noise

LIKELIHOODS = ("bernoulli", "binomial:3", "gaussian:0.5", "gaussian:learned", "gaussian:head")


def model(likelihood="bernoulli", data_dim=5, latent_dim=2, hidden=(6,), dtype="float64", **kw):
    """A model with every parameter, biases and variances too, drawn from N(0, 0.7²)."""
    vae = VAE(data_dim, latent_dim, hidden, likelihood=likelihood, dtype=dtype, **kw)
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng(0).normal(0, 0.7, flat.size)
    return vae


def data(likelihood="bernoulli", n=4, d=5):
    rng = np.random.default_rng(1)
    if likelihood.startswith("gaussian"):
        return rng.standard_normal((n, d))
    return rng.integers(0, 4 if likelihood == "binomial:3" else 2, (n, d)).astype(float)


def noise(x, n, seed=0, latent_dim=2):
    """The first n draws that each row gets."""
    return row_noise(seed, Purpose.IMPORTANCE, x, n, latent_dim)


# Values.


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_one_sample_is_the_elbo_of_eq_7(likelihood):
    """Kills a weight without its prior, its q or a constant."""
    vae, x = model(likelihood), data(likelihood)
    expected = sampled_elbo(vae, x, noise(x, 1, seed=9))
    np.testing.assert_allclose(
        importance_log_likelihood(vae, x, 1, seed=9), expected, rtol=1e-12, atol=1e-12
    )


def test_weights_against_scipy_densities():
    """Kills the short form ½ Σ (ε² + log σ² − z²) of log p(z) − log q(z|x)."""
    vae, x = model(), data()
    eps = noise(x, 7)
    mu, logvar = vae.encode(x)
    z = mu + np.exp(logvar / 2) * eps
    log_px, _ = vae.log_likelihood(x, z)
    log_q = norm.logpdf(z, mu, np.exp(logvar / 2)).sum(axis=-1)
    expected = log_px + norm.logpdf(z).sum(axis=-1) - log_q
    np.testing.assert_allclose(log_weights(vae, x, mu, logvar, eps), expected, rtol=1e-12)


def by_quadrature(vae, x):
    """Exact log p(x) and E_q[(w/p(x))²] for J = 1, on a grid fine enough for both."""
    z = np.linspace(-14, 14, 20_001)
    dz = z[1] - z[0]
    log_px, _ = vae.log_likelihood(x, np.broadcast_to(z[:, None, None], (z.size, len(x), 1)))
    log_joint = log_px + norm.logpdf(z)[:, None]
    log_p = logsumexp(log_joint, axis=0) + math.log(dz)
    mu, logvar = vae.encode(x)
    log_q = norm.logpdf(z[:, None], mu[:, 0], np.exp(logvar[:, 0] / 2))
    square = logsumexp(2 * (log_joint - log_p) - log_q, axis=0) + math.log(dz)
    return log_p, np.exp(square)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_tends_to_log_p_by_quadrature(likelihood):
    """Kills the mean of logarithms, a forgotten 1/K and weights of another distribution.

    (1/K) Σ w / p(x) has mean 1 and variance (E[(w/p)²] − 1)/K, both known here.
    """
    vae = model(likelihood, latent_dim=1)
    vae.parameters["encoder.W1"][:, 1] = 0.0
    vae.parameters["encoder.b1"][1] = 0.7  # σ above the posterior's: weights of finite variance
    x, K = data(likelihood), 20_000
    log_p, square = by_quadrature(vae, x)
    assert (square < 100).all()
    estimate = importance_log_likelihood(vae, x, K, seed=3)
    z = (np.exp(estimate - log_p) - 1) / np.sqrt((square - 1) / K)
    assert np.abs(z).max() < 5
    assert (np.abs(z) > 1e-3).any()  # an estimate, not a constant
    assert np.abs(estimate - log_p).max() < 0.25


def linear_gaussian(inflate=1.0):
    """p(z) = N(0, I), p(x|z) = N(zW + b, ¼ I); q is the posterior, its variances × `inflate`.

    The rows of W are orthogonal, so that the posterior's covariance is diagonal:
    Σ = (I + W Wᵀ/¼)⁻¹,  μ = (x − b) Wᵀ Σ/¼.
    """
    vae = VAE(4, 2, (), likelihood="gaussian:0.5", dtype="float64")
    W, b = np.array([[1.0, 2, 0, -1], [1, 0, 3, 1]]), np.array([0.5, 0, -1, 2])
    assert W[0] @ W[1] == 0
    variance = 1 / (1 + 4 * (W**2).sum(axis=1))
    p = vae.parameters
    p["decoder.W0"][:], p["decoder.b0"][:] = W, b
    p["encoder.W0"][:, :2] = 4 * W.T * variance
    p["encoder.b0"][:2] = -b @ p["encoder.W0"][:, :2]
    p["encoder.W0"][:, 2:], p["encoder.b0"][2:] = 0.0, np.log(inflate * variance)
    return vae, multivariate_normal(b, W.T @ W + 0.25 * np.eye(4))


@pytest.mark.parametrize("K", [1, 3, 1000])
def test_exact_where_q_is_the_posterior(K):
    """Kills any error of the weights: here each of them is p(x)."""
    vae, evidence = linear_gaussian()
    x = evidence.rvs(120, random_state=0)
    np.testing.assert_allclose(
        importance_log_likelihood(vae, x, K, seed=2), evidence.logpdf(x), rtol=0, atol=1e-10
    )


def test_bound_does_not_decrease_with_k_and_tends_to_log_p():
    """Kills weights averaged as logarithms: their mean is the ELBO for every K."""
    vae, evidence = linear_gaussian(inflate=2.5)
    x = evidence.rvs(4000, random_state=1)  # log p(x) − L_K has the same mean for all of them
    log_p = evidence.logpdf(x)
    draws = {K: importance_log_likelihood(vae, x, K, seed=K) - log_p for K in (1, 2, 4, 16, 256)}
    mean = {K: d.mean() for K, d in draws.items()}
    error = {K: d.std(ddof=1) / math.sqrt(d.size) for K, d in draws.items()}
    for K, more in ((1, 2), (2, 4), (4, 16), (16, 256)):
        z = (mean[more] - mean[K]) / math.hypot(error[more], error[K])
        assert z > 3  # it increases here, so a constant fails
    for K in draws:
        assert mean[K] / error[K] < 5
    # The ELBO is log p − KL(q ‖ posterior), with the KL of variances 2.5 times too large.
    kl = 2 * 0.5 * (2.5 - 1 - math.log(2.5))
    assert abs(mean[1] + kl) / error[1] < 5
    assert -mean[256] < 0.02 < -mean[1]


# Random draws.


def test_determined_by_its_seed_and_in_double_precision():
    """Kills a global generator, and sums in single precision."""
    vae, x = model(dtype="float32"), data()
    a, b, c = (importance_log_likelihood(vae, x, 20, seed=s) for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.any(a == c)
    assert np.array_equal(a, importance_log_likelihood(vae, x, 20))
    assert a.dtype == np.float64
    assert a.shape == (4,)


@pytest.mark.parametrize("cache", [1, 4000, 39999, 1 << 30])
def test_the_size_of_a_piece_changes_nothing(cache, monkeypatch):
    """Kills a piece that is dropped, drawn twice or weighed by its place."""
    vae, x = model(), data(n=130)
    expected = importance_log_likelihood(vae, x, 37, seed=5)
    monkeypatch.setattr(streams, "_CACHE", cache)
    result = importance_log_likelihood(vae, x, 37, seed=5)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_a_row_does_not_depend_on_the_other_rows():
    """Kills sums over the batch."""
    vae, x = model(), data(n=250)
    expected = importance_log_likelihood(vae, x, 11, seed=5)
    changed = np.where(np.arange(250)[:, None] % 7 == 3, x, 1 - x)
    same = np.arange(250) % 7 == 3
    result = importance_log_likelihood(vae, changed, 11, seed=5)
    np.testing.assert_allclose(result[same], expected[same], rtol=1e-12)
    assert not np.any(np.isclose(result[~same], expected[~same], rtol=1e-6))


def test_equal_rows_have_the_same_draws():
    """Kills draws that depend on the place of a row."""
    vae, x = model(), data(n=3)
    result = importance_log_likelihood(vae, np.tile(x, (50, 1)), 3)
    np.testing.assert_allclose(result, np.tile(result[:3], 50), rtol=1e-12)


# Memory and extreme values.


def test_memory_does_not_grow_with_k():
    """Kills weights kept for all k: K = 4000 draws of 20 rows of 64 are 41 MB."""
    vae, x, peaks = model(data_dim=64, dtype="float64"), data(n=20, d=64), {}
    importance_log_likelihood(vae, x, 10)
    for K in (400, 4000):
        tracemalloc.start()
        try:
            importance_log_likelihood(vae, x, K)
            peaks[K] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peaks[4000] < 1.05 * peaks[400] < 41e6 / 2


@pytest.mark.parametrize("cache", [1, 1 << 18])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_extreme_weights_neither_overflow_nor_vanish(scale, cache, monkeypatch):
    """Kills exp of a log weight, and a running maximum that is not carried through the sum.

    At the largest scale the logits saturate and the log weights spread over thousands of nats.
    """
    monkeypatch.setattr(streams, "_CACHE", cache)
    vae, x = model(data_dim=40), data(n=6, d=40)
    vae.parameters["decoder.W1"][:] *= scale
    mu, logvar = vae.encode(x)
    log_w = log_weights(vae, x, mu, logvar, noise(x, 300, seed=8))
    expected = logsumexp(log_w, axis=0) - math.log(300)
    result = importance_log_likelihood(vae, x, 300, seed=8)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    if scale > 100:
        assert log_w.min() < -5000
        assert np.ptp(log_w, axis=0).min() > 800
        # For some rows the maximum comes late, for others early, so that both branches run.
        assert len(set(log_w.argmax(axis=0))) > 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logvar", [-50.0, 50.0])
def test_extreme_variances_of_q_stay_finite(logvar, dtype):
    """Kills σ² squared, or divided by, on the way to a weight."""
    vae, x = model(dtype=dtype), data()
    vae.parameters["encoder.W1"][:, 2:] = 0.0
    vae.parameters["encoder.b1"][2:] = logvar
    result = importance_log_likelihood(vae, x, 50)
    assert np.isfinite(result).all()
    assert (result < 0).all()


def test_weights_that_all_vanish_give_minus_infinity():
    """Kills −∞ − (−∞): a density of zero is log p(x) = −∞, not NaN."""
    vae, x = model("gaussian:0.5", dtype="float32"), np.full((2, 5), 1e19)
    with np.errstate(over="ignore"):
        result = importance_log_likelihood(vae, x, 20)
    assert (result == -np.inf).all()
