"""EUBO, CUBO and the estimator of appendix D against closed forms; L_K's budget and progress."""

import math
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import apart
from scipy.stats import multivariate_normal

from numpyvae import VAE
from numpyvae.bounds import (
    appendix_d,
    cubo,
    eubo,
    fitted_log_likelihood,
    importance,
    importance_log_likelihood,
    simulate,
    upper,
)
from numpyvae.bounds.streams import decoder_megabytes
from numpyvae.support.streams import Purpose

SIGMA = 0.5


def linear(J=2, D=4, *, orthogonal=False, seed=0):
    """Return a linear-Gaussian VAE whose q is the best diagonal Gaussian, for every x."""
    vae = VAE(D, J, (), likelihood=f"gaussian:{SIGMA}", dtype="float64")
    rng = np.random.default_rng([seed, 22])
    vae.parameters.flat[:] = rng.normal(0, 0.6, vae.parameters.flat.size)
    W, b = vae.parameters["decoder.W0"], vae.parameters["decoder.b0"]
    if orthogonal:
        W[:] = np.linalg.qr(W.T)[0].T * np.linspace(0.5, 2, J)[:, None]
    precision = precision_of(vae)
    to_mean = np.linalg.solve(precision, W / SIGMA**2).T
    vae.parameters["encoder.W0"][:] = np.hstack([to_mean, np.zeros((D, J))])
    vae.parameters["encoder.b0"][:] = [*(-b @ to_mean), *-np.log(np.diag(precision))]
    return vae


def wide(vae):
    """Make q wider than the posterior, and off its mean, so that E_q[w⁴] is finite."""
    J = vae.latent_dim
    bias = vae.parameters["encoder.b0"]
    bias[:J] += 0.3 * np.exp(0.5 * bias[J:])
    bias[J:] += math.log(2)
    return vae


def precision_of(vae):
    """Λ = I + W Wᵀ/σ², of the posterior, for every x."""
    W = vae.parameters["decoder.W0"]
    return np.eye(vae.latent_dim) + W @ W.T / SIGMA**2


def posterior_mean(vae, x):
    W, b = vae.parameters["decoder.W0"], vae.parameters["decoder.b0"]
    return (x - b) @ np.linalg.solve(precision_of(vae), W / SIGMA**2).T


def log_evidence(vae, x):
    W, b = vae.parameters["decoder.W0"], vae.parameters["decoder.b0"]
    cov = W.T @ W + SIGMA**2 * np.eye(vae.data_dim)
    return np.atleast_1d(multivariate_normal(b, cov).logpdf(x))


def standard_errors(values):
    return values.mean() / (values.std(ddof=1) / math.sqrt(values.size))


def test_at_the_exact_posterior_both_bounds_are_the_evidence():
    """Kills a missing term of log w, and a power that is not taken back by the order."""
    vae = linear(orthogonal=True)
    x, z = simulate(vae, 6)
    exact = log_evidence(vae, x)
    np.testing.assert_allclose(eubo(vae, x, z), exact, rtol=0, atol=1e-10)
    for order in (1, 2, 3.5):
        found = cubo(vae, x, 30, order)
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-10)


# EUBO.


def test_eubo_exceeds_the_evidence_by_the_kl_from_the_posterior_to_q():
    """Kills KL(q ‖ p) in its place, and a mean over the wrong axis."""
    vae = wide(linear())
    x, _ = simulate(vae, 3)
    mu, logvar = vae.encode(x)
    L = 20_000
    cov = np.linalg.inv(precision_of(vae))
    mean = posterior_mean(vae, x)
    # KL(N(m, S) ‖ N(μ, σ²)) = ½ (Σ_j (S_jj + (m_j − μ_j)²)/σ_j² + log σ_j² − 1) − ½ log|S|
    spread = np.diag(cov) + (mean - mu) ** 2
    kl = 0.5 * ((spread * np.exp(-logvar) + logvar - 1).sum(axis=1) - np.linalg.slogdet(cov)[1])
    assert (kl > 0.1).all()
    rng = np.random.default_rng(7)
    z = mean + rng.standard_normal((L, 3, 2)) @ np.linalg.cholesky(cov).T
    one_by_one = np.array([eubo(vae, x, z[i : i + 1]) for i in range(200)])
    error = one_by_one.std(axis=0, ddof=1) / math.sqrt(L)
    assert (np.abs(eubo(vae, x, z) - (log_evidence(vae, x) + kl)) < 5 * error).all()
    np.testing.assert_allclose(eubo(vae, x, z[:200]), one_by_one.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(eubo(vae, x, z[0]), one_by_one[0])


def test_eubo_does_not_depend_on_the_memory():
    """Kills rows and draws of z that no longer match after the end of a block."""
    vae = wide(linear())
    x, z = simulate(vae, 7)
    draws = z + 0.1 * np.arange(5)[:, None, None]
    small = 2.5 * 5 * decoder_megabytes(vae)
    np.testing.assert_allclose(eubo(vae, x, draws, memory=small), eubo(vae, x, draws), rtol=1e-12)


def test_eubo_of_many_float32_draws_is_summed_in_double():
    # kills: 50,000 draws added up in float32, which loses the third decimal
    vae = VAE(64, 2, (4,))
    x, z = simulate(vae, 1)
    one = eubo(vae, x, z)
    np.testing.assert_allclose(eubo(vae, x, np.repeat(z[None], 50_000, axis=0), memory=300), one)


# CUBO.


def exact_cubo(vae, x):
    """½ log E_q[w²] = ½ log ∫ p(x, z)²/q(z|x) dz, a Gaussian integral of precision 2Λ − 1/σ²."""
    mu, logvar = vae.encode(x)
    mean, precision = posterior_mean(vae, x), precision_of(vae)
    P = 2 * precision - np.diag(np.exp(-logvar[0]))
    assert np.linalg.eigvalsh(P).min() > 0
    h = 2 * mean @ precision - mu * np.exp(-logvar)
    quadratic = (
        np.einsum("bi,bi->b", h, np.linalg.solve(P, h.T).T)
        - 2 * np.einsum("bi,ij,bj->b", mean, precision, mean)
        + (mu**2 * np.exp(-logvar)).sum(axis=1)
    )
    log_determinants = (
        np.linalg.slogdet(precision)[1] + 0.5 * logvar.sum(axis=1) - 0.5 * np.linalg.slogdet(P)[1]
    )
    return log_evidence(vae, x) + 0.5 * (log_determinants + 0.5 * quadratic)


def test_cubo_converges_to_its_closed_form():
    """Kills a square that is forgotten, or a half."""
    vae = wide(linear())
    x, _ = simulate(vae, 1)
    x = apart(np.repeat(x, 400, axis=0))
    exact = exact_cubo(vae, x)
    assert (exact > log_evidence(vae, x) + 0.05).all()
    estimate = cubo(vae, x, 1000)
    # Unbiased on the scale of w², not of its logarithm.
    assert abs(standard_errors(np.exp(2 * (estimate - exact)) - 1)) < 5
    assert abs((estimate - exact).mean()) < 0.01
    assert (exact_cubo(linear(), x) >= log_evidence(linear(), x)).all()


def test_cubo_from_few_draws_is_not_an_upper_bound():
    """Kills a claim that it is one: at K = 1 it is the ELBO, and it increases with K."""
    vae = wide(linear())
    x, _ = simulate(vae, 1)
    x = apart(np.repeat(x, 2000, axis=0))
    exact = log_evidence(vae, x)
    one, ten, many = (cubo(vae, x, K) for K in (1, 10, 100))
    assert standard_errors(one - exact) < -5
    assert standard_errors(ten - one) > 5
    assert standard_errors(many - ten) > 5
    assert standard_errors(many - exact_cubo(vae, x)) < 0


def test_cubo_of_order_one_is_the_importance_weighted_bound(monkeypatch):
    """Kills a random stream shared with L_K, and an order that is not passed on."""
    vae = wide(linear())
    x, _ = simulate(vae, 4)
    expected = importance_log_likelihood(vae, x, 50, seed=3)
    assert not np.isclose(cubo(vae, x, 50, 1, seed=3), expected, rtol=1e-9).any()
    monkeypatch.setattr(upper, "Purpose", SimpleNamespace(CUBO=Purpose.IMPORTANCE))
    np.testing.assert_allclose(cubo(vae, x, 50, 1, seed=3), expected, rtol=1e-12)
    assert (cubo(vae, x, 50, 2, seed=3) > expected).all()


# Appendix D.


def test_the_fitted_estimate_finds_the_evidence():
    """Kills a density without its constant or with a diagonal covariance, and its inverse."""
    vae = linear(3, 6)
    x, _ = simulate(vae, 30)
    result = fitted_log_likelihood(vae, x, 100, 10)
    error = result.log_likelihood - log_evidence(vae, x)
    assert abs(error.mean()) < 0.02
    assert np.abs(error).max() < 0.2
    np.testing.assert_allclose(result.acceptance, 0.65, atol=0.1)
    assert result.log_likelihood.dtype == np.float64


def test_the_fitted_estimate_is_unbiased_on_the_scale_of_one_over_p():
    """Kills a density fitted to the draws that are averaged, which is biased."""
    vae = linear(1, 3)
    x, _ = simulate(vae, 400)
    result = fitted_log_likelihood(vae, x, 8, 4, n_leapfrog=2, n_burn=40)
    ratio = np.exp(log_evidence(vae, x) - result.log_likelihood)
    assert abs(standard_errors(ratio - 1)) < 4


def test_the_fitted_density_is_the_gaussian_of_the_draws():
    """Kills a covariance over the wrong axes, against SciPy."""
    rng = np.random.default_rng(8)
    to_fit, z = rng.standard_normal((2, 50, 4, 3, 2)) @ np.array([[1.0, 0.7], [0.0, 0.5]])
    found = appendix_d._fitted_log_density(to_fit, z)
    for b in range(3):
        rows = to_fit[:, :, b].reshape(-1, 2)
        expected = multivariate_normal(rows.mean(0), np.cov(rows.T)).logpdf(z[:, :, b])
        np.testing.assert_allclose(found[:, :, b], expected, rtol=1e-10)


def test_the_fitted_estimate_does_not_depend_on_the_other_rows_or_the_memory():
    """Kills draws, steps or fits shared by datapoints."""
    vae = linear()
    x, _ = simulate(vae, 5)
    whole = fitted_log_likelihood(vae, x, 20, 4, n_burn=20, seed=2)
    small = 2.5 * (4 * decoder_megabytes(vae) + 4 * 20 * 4 * 3 * 8e-6)
    part = fitted_log_likelihood(vae, x, 20, 4, n_burn=20, seed=2, memory=small)
    alone = fitted_log_likelihood(vae, x[:2], 20, 4, n_burn=20, seed=2)
    np.testing.assert_allclose(part.log_likelihood, whole.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(alone.log_likelihood, whole.log_likelihood[:2], rtol=1e-9)
    other = fitted_log_likelihood(vae, x, 20, 4, n_burn=20, seed=3)
    assert not np.isclose(other.log_likelihood, whole.log_likelihood, rtol=1e-9).any()


# Budgets, progress, and what is refused.


def test_the_importance_bound_stays_within_its_memory():
    """Kills a memory limit that is ignored, in both directions."""
    vae = VAE(2000, 3, (50,))
    x, _ = simulate(vae, 20)
    expected = importance_log_likelihood(vae, x, 60)
    for draws in (2, 20):
        budget = draws * 20 * decoder_megabytes(vae)
        tracemalloc.start()
        try:
            result = importance_log_likelihood(vae, x, 60, memory=budget)
            peak = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        np.testing.assert_allclose(result, expected, rtol=1e-5)
        assert budget / 4 < peak < budget


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_fitted_estimate_stays_within_its_memory(dtype):
    # kills: draws that are not counted, or in the model's dtype, while the fit is in float64
    vae = VAE(4, 4, (3,), dtype=dtype)
    x, _ = simulate(vae, 20)
    S, C, J = 200, 10, 4
    budget = 6 * (C * decoder_megabytes(vae) + 4 * 8e-6 * S * C * (J + 1))
    fitted_log_likelihood(vae, x[:1], n_burn=5)  # loads what it needs
    tracemalloc.start()
    try:
        fitted_log_likelihood(vae, x, S, C, n_burn=5, memory=budget)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert budget / 2 < peak < budget


class Line:
    """Replaces the progress line and counts."""

    def __init__(self, total, unit, shown):
        self.total, self.done = total, 0

    def __enter__(self):
        return self.advance

    def __exit__(self, *error):
        assert self.done == self.total > 0

    def advance(self, note):
        self.done += 1


@pytest.mark.parametrize(
    ("module", "estimate"),
    [
        (importance, lambda vae, x, z: importance_log_likelihood(vae, x, 37, memory=0.3)),
        (importance, lambda vae, x, z: cubo(vae, x, 37, memory=0.3)),
        (upper, lambda vae, x, z: eubo(vae, x, z, memory=0.01)),
        (appendix_d, lambda vae, x, z: fitted_log_likelihood(vae, x, 9, 2, n_burn=5, memory=0.1)),
    ],
    ids=["importance", "cubo", "eubo", "fitted"],
)
def test_progress_counts_every_piece(module, estimate, monkeypatch):
    """Kills a line that stops before the end, or runs past it."""
    vae = linear()
    x, z = simulate(vae, 130)
    monkeypatch.setattr(module, "progress_line", Line)
    estimate(vae, x, z)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda v, x, z: importance_log_likelihood(v, x, 0), ValueError, "n_importance.*got 0"),
        (
            lambda v, x, z: importance_log_likelihood(v, x, memory=1e-6),
            ValueError,
            "memory: expected at least .* megabytes, for one draw for each of 3 datapoints",
        ),
        (lambda v, x, z: importance_log_likelihood(v, x, memory=-1), ValueError, "memory.*-1"),
        (lambda v, x, z: cubo(v, x, 0), ValueError, "n_importance.*at least 1, got 0"),
        (lambda v, x, z: cubo(v, x, 5, 0.5), ValueError, "order: expected at least 1, got 0.5"),
        (lambda v, x, z: cubo(v, x, 5, "two"), TypeError, "order.*'two'"),
        (lambda v, x, z: cubo(v, x[:, :2]), ValueError, "expected 4 columns, got 2"),
        (lambda v, x, z: eubo(v, x, z[:2]), ValueError, r"posterior.*\(3, 2\).*got \(2, 2\)"),
        (lambda v, x, z: eubo(v, x, z[0]), ValueError, r"posterior.*got \(2,\)"),
        (lambda v, x, z: eubo(v, x, np.zeros((0, 3, 2))), ValueError, "posterior.*shape"),
        (lambda v, x, z: eubo(v, x, [[1.0], [1.0, 2.0]]), ValueError, "posterior.*ragged"),
        (lambda v, x, z: eubo(v, x, np.ma.masked_array(z, z > 0)), TypeError, "masked"),
        (lambda v, x, z: eubo(v, x, z * np.nan), ValueError, "posterior.*finite"),
        (lambda v, x, z: eubo(v, x, z + 1j), TypeError, "posterior.*complex"),
        (lambda v, x, z: eubo(v, x, z, memory=1e-6), ValueError, "memory.*megabytes"),
        (lambda v, x, z: fitted_log_likelihood(v, x, 0), ValueError, "n_samples.*got 0"),
        (lambda v, x, z: fitted_log_likelihood(v, x, 50, 1), ValueError, "n_chains.*at least 2"),
        (
            lambda v, x, z: fitted_log_likelihood(v, x, 2, 4),
            ValueError,
            "n_samples: expected at least 6 draws.*got 2 from each of 2 chains",
        ),
        (lambda v, x, z: fitted_log_likelihood(v, x, n_burn=0), ValueError, "n_burn.*got 0"),
        (
            lambda v, x, z: fitted_log_likelihood(v, x, memory=1e-6),
            ValueError,
            "memory.*one datapoint and its 10 draws or chains",
        ),
    ],
)
def test_bad_settings_get_one_clear_line(call, error, words):
    """Kills a setting that is taken as something else, or fails deep inside."""
    vae = linear()
    x, z = simulate(vae, 3)
    with pytest.raises(error, match=words) as caught:
        call(vae, x, z)
    assert "\n" not in str(caught.value)


def test_chains_that_do_not_move_are_refused():
    """Kills the inversion of a singular covariance."""
    with pytest.raises(ValueError, match="hardly moved"):
        appendix_d._fitted_log_density(np.ones((20, 2, 3, 2)), np.ones((5, 2, 3, 2)))
