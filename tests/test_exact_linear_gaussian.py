"""Probabilistic PCA and factor analysis: evidence, posterior, ELBO, gradient, EM; and Gaussian."""

import functools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from numpyvae import VAE
from numpyvae.core.elbo import elbo_and_grad, elbo_terms
from numpyvae.exact import Gaussian, LinearGaussian, ppca_maximum_likelihood

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def random_model(seed, D=4, J=2, kind="fa"):
    """Return a model with variances between 0.2 and 2: one shared ("ppca") or one each ("fa")."""
    rng = np.random.default_rng([seed, 21])
    sigma2 = rng.uniform(0.2, 2) if kind == "ppca" else rng.uniform(0.2, 2, D)
    return LinearGaussian(rng.normal(size=(D, J)), rng.normal(size=D), sigma2)


def random_q(seed, B, J, kind="full"):
    """Return a Gaussian that has nothing to do with the model."""
    rng = np.random.default_rng([seed, 22])
    mean = rng.normal(size=(B, J))
    if kind == "diagonal":
        return Gaussian.diagonal(mean, rng.normal(size=(B, J)))
    root = rng.normal(size=(B, J, J))
    return Gaussian.from_covariance(mean, root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(J))


def sigma_points(B, J):
    """Noise (2J, B, J) with mean 0 and covariance I: it averages any quadratic exactly."""
    points = np.sqrt(J) * np.concatenate([np.eye(J), -np.eye(J)])
    return np.repeat(points[:, None], B, axis=1)


models = st.builds(
    random_model,
    st.integers(0, 2**32),
    D=st.integers(1, 6),
    J=st.integers(1, 6),
    kind=st.sampled_from(["ppca", "fa"]),
)
seeds, q_kinds = st.integers(0, 2**32), st.sampled_from(["full", "diagonal"])


# Evidence and posterior


@settings(max_examples=200)
@given(models, seeds)
def test_evidence_is_the_density_that_scipy_has_for_the_marginal(model, seed):
    # kills: a missing 2π or log-determinant, W in place of W Wᵀ, σ for σ²
    x = model.sample(3, seed % 1000)
    cov = model.W @ model.W.T + np.diag(np.broadcast_to(model.sigma2, model.data_dim))
    close(
        model.log_evidence(x), np.atleast_1d(stats.multivariate_normal(model.mean, cov).logpdf(x))
    )


def test_evidence_loses_no_digits_when_the_noise_is_tiny():
    # kills: Woodbury's quadratic form as a difference, which loses all digits here
    w, sigma2, along, across = 2.0, 1e-14, 1.5, 2e-7
    u, v = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    x = (along * u + across * v)[None]
    expected = stats.norm(0, np.sqrt(w * w + sigma2)).logpdf(along)
    expected += stats.norm(0, np.sqrt(sigma2)).logpdf(across)
    model = LinearGaussian(w * u[:, None], np.zeros(2), sigma2)
    np.testing.assert_allclose(model.log_evidence(x), [expected], rtol=1e-7)


def test_a_thousand_dimensions_need_no_matrix_of_that_size():
    # kills: forming W Wᵀ + Ψ, which takes 8 MB; and any slip that only shows when D > J
    model = random_model(1, D=1000, J=20)
    x, q = model.sample(5, 1), random_q(2, 5, 20)
    dense = model.W @ model.W.T + np.diag(model.sigma2)
    deviation = x - model.mean
    quadratic = (deviation * np.linalg.solve(dense, deviation.T).T).sum(axis=1)
    expected = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * dense)[1])
    tracemalloc.start()
    try:
        model = LinearGaussian(model.W, model.mean, model.sigma2)
        log_px, bound = model.log_evidence(x), model.elbo_kl_form(x, q)
        gap = model.kl_to_posterior(x, q)
        model.elbo_gradient(x, q.mean, 0 * q.mean), model.m_step(x, q), model.best_diagonal(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    close(log_px, expected, atol=0)
    close(log_px - bound, gap, atol=0)
    assert peak < 4e6


@given(models, seeds)
def test_posterior_density_is_joint_over_evidence_everywhere(model, seed):
    # kills: a wrong posterior mean or covariance: Eq. (3) is true for every z, not just the mean
    x = model.sample(3, seed % 1000)
    z = np.random.default_rng(seed).normal(0, 2, size=(4, 3, model.latent_dim))
    close(model.log_posterior(x, z), model.log_joint(x, z) - model.log_evidence(x))


def test_log_likelihood_and_prior_are_scipys():
    # kills: a swapped W z, a prior that is not standard
    model = random_model(3, D=3, J=2)
    x, z = model.sample(2, 0), np.random.default_rng(0).normal(size=(4, 2, 2))
    for l, b in np.ndindex(4, 2):
        expected = stats.norm(model.W @ z[l, b] + model.mean, np.sqrt(model.sigma2)).logpdf(x[b])
        close(model.log_likelihood(x, z)[l, b], expected.sum())
        close(model.log_prior(z)[l, b], stats.norm.logpdf(z[l, b]).sum())


# The bound


@settings(max_examples=200)
@given(models, seeds, q_kinds)
def test_identities_of_the_bound(model, seed, kind):
    # kills: Eq. (7) ≠ Eq. (11), a gap that is not the KL, a KL below 0: all from separate routes
    x, q = model.sample(3, seed % 1000), random_q(seed, 3, model.latent_dim, kind)
    joint_form, kl_form = model.elbo_joint_form(x, q), model.elbo_kl_form(x, q)
    close(joint_form, kl_form)
    close(model.log_evidence(x), kl_form + model.kl_to_posterior(x, q))
    assert (model.kl_to_posterior(x, q) >= 0).all()
    assert (model.kl_to_prior(q) >= 0).all()
    close(model.kl_to_prior(q), model.expected_log_q(q) - model.expected_log_prior(q))
    close(
        model.kl_to_posterior(x, q),
        model.expected_log_q(q) - model.expected_log_posterior(x, q),
    )


@given(models, seeds)
def test_at_the_posterior_the_bound_is_tight_and_every_weight_is_the_evidence(model, seed):
    # kills: a bound that is merely close, and importance weights that vary at q = posterior
    x = model.sample(3, seed % 1000)
    q, log_px = model.posterior(x), model.log_evidence(x)
    close(model.elbo_joint_form(x, q), log_px)
    close(model.elbo_kl_form(x, q), log_px)
    assert (model.kl_to_posterior(x, q) <= 1e-14).all()
    z = q.transform(np.random.default_rng(seed).normal(size=(5, 3, model.latent_dim)))
    close(model.log_joint(x, z) - q.log_pdf(z), np.broadcast_to(log_px, (5, 3)))


@given(models, seeds, q_kinds)
def test_expectations_are_averages_over_points_that_integrate_quadratics(model, seed, kind):
    # kills: a trace left out of E_q, or taken with the wrong matrix
    x, q = model.sample(3, seed % 1000), random_q(seed, 3, model.latent_dim, kind)
    z = q.transform(sigma_points(3, model.latent_dim))
    for expected, at_points in (
        (model.expected_log_q(q), q.log_pdf(z)),
        (model.expected_log_prior(q), model.log_prior(z)),
        (model.expected_log_likelihood(x, q), model.log_likelihood(x, z)),
        (model.expected_log_joint(x, q), model.log_joint(x, z)),
        (model.expected_log_posterior(x, q), model.log_posterior(x, z)),
    ):
        close(expected, at_points.mean(axis=0))


def test_best_diagonal_is_a_maximum_below_the_evidence():
    # kills: the posterior's marginal variances in place of 1/M_jj
    model = random_model(4, D=5, J=3)
    x = model.sample(4, 0)
    best = model.best_diagonal(x)
    logvar = 2 * np.log(np.diagonal(best.chol, axis1=1, axis2=2))
    gradient = model.elbo_gradient(x, best.mean, logvar)
    close(gradient.mu, 0 * gradient.mu)
    close(gradient.logvar, 0 * gradient.logvar)
    assert (model.kl_to_posterior(x, best) > 1e-3).all()


@pytest.mark.parametrize("kind", ["ppca", "fa"])
def test_gradient_is_the_slope_of_the_bound(kind):
    # kills: a wrong sign or factor in any of the five gradients, a sum in place of the batch mean
    model = random_model(5, D=4, J=2, kind=kind)
    x, rng = model.sample(3, 0), np.random.default_rng(0)
    start = {
        "W": model.W,
        "mean": model.mean,
        "log_sigma2": np.log(model.sigma2),
        "mu": rng.normal(size=(3, 2)),
        "logvar": rng.normal(size=(3, 2)),
    }

    def bound(W, mean, log_sigma2, mu, logvar):
        moved = LinearGaussian(W, mean, np.exp(log_sigma2))
        return moved.elbo_joint_form(x, Gaussian.diagonal(mu, logvar)).mean()

    gradient = model.elbo_gradient(x, start["mu"], start["logvar"])
    for name, value in start.items():
        slope, h = np.empty(np.shape(value)), 1e-5
        for index in np.ndindex(np.shape(value)):
            step = np.zeros(np.shape(value))
            step[index] = h
            up, down = (bound(**start | {name: value + sign * step}) for sign in (1, -1))
            slope[index] = (up - down) / (2 * h)
        found = getattr(gradient, name)
        assert np.shape(found) == np.shape(value)
        np.testing.assert_allclose(found, slope, rtol=1e-7, atol=1e-8)


# The linear VAE


@pytest.mark.parametrize("likelihood", ["gaussian:0.3", "gaussian:learned"])
def test_a_linear_vae_is_this_model_in_value_and_gradient(likelihood):
    # kills: W for Wᵀ, σ for σ², log σ² for σ² in from_vae; and errors of elbo_and_grad itself
    vae = VAE(5, 2, hidden=(), likelihood=likelihood, dtype="float64")
    rng = np.random.default_rng(1)
    vae.parameters.flat[:] = rng.normal(0, 0.5, vae.parameters.flat.size)
    model, x = LinearGaussian.from_vae(vae), rng.normal(size=(6, 5))
    q, eps = Gaussian.from_encoder(vae, x), sigma_points(6, 2)
    close(elbo_terms(vae, x, eps).elbo, model.elbo_joint_form(x, q))
    _, flat = elbo_and_grad(vae, x, eps)
    exact, found = model.elbo_gradient(x, *vae.encode(x)), vae.parameters.like(flat)
    close(found["decoder.W0"], exact.W.T)
    close(found["decoder.b0"], exact.mean)
    close(found["encoder.b0"], np.concatenate([exact.mu.sum(axis=0), exact.logvar.sum(axis=0)]))
    if likelihood == "gaussian:learned":
        close(found["decoder.logvar"], exact.log_sigma2)


@pytest.mark.parametrize(
    "settings_", [{"likelihood": "bernoulli"}, {"likelihood": "gaussian:1", "hidden": (3,)}]
)
def test_from_vae_refuses_what_is_not_linear_gaussian(settings_):
    # kills: a silent wrong model for a decoder with hidden layers or logits
    with pytest.raises(ValueError, match=r"expected hidden=\(\) and a gaussian"):
        LinearGaussian.from_vae(VAE(5, 2, **{"hidden": ()} | settings_))


# Learning


def test_maximum_likelihood_has_a_gradient_of_zero():
    # kills: N − 1 for N, σ² from all eigenvalues, Λ in place of Λ − σ²
    x = random_model(6, D=6, J=2).sample(200, 0)
    model = ppca_maximum_likelihood(x, 2)
    q = model.posterior(x)  # W has orthogonal columns: the posterior is diagonal
    logvar = np.broadcast_to(np.log(np.diagonal(q.cov)), q.mean.shape)
    close(q.cov, np.diag(np.diagonal(q.cov)))
    gradient = model.elbo_gradient(x, q.mean, logvar)  # of log p(x), as q is the posterior
    for part in gradient:
        assert np.abs(part).max() <= 1e-12
    cov = np.cov(x.T, bias=True)
    eigenvalues = np.sort(np.linalg.eigvalsh(cov))[::-1]
    close(model.sigma2, eigenvalues[2:].mean())
    close(np.sort((model.W**2).sum(axis=0))[::-1] + model.sigma2, eigenvalues[:2])


def test_maximum_likelihood_is_a_maximum_and_not_another_stationary_point():
    # kills: the smallest eigenvectors in place of the largest
    x = random_model(7, D=5, J=2).sample(200, 0)
    best = ppca_maximum_likelihood(x, 2).log_evidence(x).mean()
    for seed in range(20):
        other = random_model(seed, D=5, J=2, kind="ppca")
        for _ in range(3):
            other = other.m_step(x, other.posterior(x))
            assert other.log_evidence(x).mean() < best


def test_maximum_likelihood_with_more_dimensions_than_rows():
    # kills: a division by the number of non-zero eigenvalues instead of D − J
    x = random_model(8, D=40, J=3).sample(10, 0)
    model = ppca_maximum_likelihood(x, 3)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    close(model.sigma2, np.sort(eigenvalues)[:-3].sum() / 37)


@pytest.mark.parametrize("kind", ["ppca", "fa"])
@pytest.mark.parametrize("e_step", ["posterior", "best_diagonal"])
def test_no_half_step_of_em_lowers_the_bound(kind, e_step):
    # kills: an M-step that is not the maximizer for the given q (the trace, the mean, σ²)
    x = random_model(9, D=6, J=2).sample(100, 0)
    model, bound = random_model(10, D=6, J=2, kind=kind), -np.inf
    for _ in range(30):
        q = getattr(model, e_step)(x)
        after_e = model.elbo_joint_form(x, q).mean()
        model = model.m_step(x, q)
        after_m = model.elbo_joint_form(x, q).mean()
        assert bound - 1e-12 <= after_e <= after_m + 1e-12
        bound = after_m
        assert model.sigma2.ndim == (kind == "fa")


@pytest.mark.parametrize("kind", ["ppca", "fa"])
def test_m_step_leaves_no_gradient_in_theta(kind):
    # kills: the same, to machine precision, for one step from any diagonal q
    x = random_model(11, D=4, J=2).sample(30, 0)
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(size=(2, 30, 2))
    model = random_model(12, kind=kind).m_step(x, Gaussian.diagonal(mu, logvar))
    gradient = model.elbo_gradient(x, mu, logvar)
    for part in (gradient.W, gradient.mean, gradient.log_sigma2):
        assert np.abs(part).max() <= 1e-12


def test_em_reaches_the_closed_form():
    # kills: an E-step or M-step with another fixed point
    truth = random_model(13, D=6, J=2, kind="ppca")
    x = truth.sample(300, 0)
    model = random_model(14, D=6, J=2, kind="ppca")
    for _ in range(300):
        model = model.m_step(x, model.posterior(x))
    best = ppca_maximum_likelihood(x, 2).log_evidence(x).mean()
    assert abs(model.log_evidence(x).mean() - best) <= 1e-8


def test_samples_have_the_models_moments_and_depend_on_the_seed_alone():
    # kills: noise with σ² for σ, one z for all rows, an unseeded draw
    model = random_model(15, D=3, J=2)
    x = model.sample(20_000, seed=1)
    np.testing.assert_array_equal(x, model.sample(20_000, seed=1))
    assert not np.array_equal(x, model.sample(20_000, seed=2))
    cov = model.W @ model.W.T + np.diag(model.sigma2)
    z = (x.mean(axis=0) - model.mean) / np.sqrt(np.diagonal(cov) / len(x))
    assert np.abs(z).max() < 5
    products = (x - model.mean)[:, :, None] * (x - model.mean)[:, None]
    error = products.std(axis=0) / np.sqrt(len(x))
    assert (np.abs(products.mean(axis=0) - cov) / error).max() < 5


# Gaussian


def test_gaussian_density_and_kl_agree_with_dense_formulas():
    # kills: C Cᵀ for Cᵀ C, a reversed KL, ½ log-determinants with the wrong sign
    q, p = random_q(16, 3, 3), random_q(17, 3, 3)
    z = np.random.default_rng(0).normal(size=(2, 3, 3))
    for b in range(3):
        close(q.log_pdf(z)[:, b], stats.multivariate_normal(q.mean[b], q.cov[b]).logpdf(z[:, b]))
        precision = np.linalg.inv(p.cov[b])
        d = q.mean[b] - p.mean[b]
        dets = np.linalg.slogdet(p.cov[b])[1] - np.linalg.slogdet(q.cov[b])[1]
        close(q.kl(p)[b], 0.5 * (np.trace(precision @ q.cov[b]) + d @ precision @ d - 3 + dets))


def test_gaussian_kl_loses_no_digits_near_zero():
    # kills: the KL as E_q[log q] − E_q[log p], which is noise here
    h = 1e-9
    q, p = Gaussian.diagonal([[h]], [[2 * h]]), Gaussian.standard(1, 1)
    np.testing.assert_allclose(q.kl(p), [0.5 * h * h + h * h], rtol=1e-6)
    assert q.kl(q) == 0.0


def test_log_variances_of_fifty_stay_finite():
    # kills: a determinant, which is e^1000 here, before its logarithm
    q = Gaussian.diagonal(np.zeros((2, 20)), [[50.0] * 20, [-50.0] * 20])
    assert np.isfinite(q.kl(Gaussian.standard(2, 20))).all()
    close(q.expected_log_pdf(q), -10 * np.log(2 * np.pi * np.e) + np.array([-500, 500]))


def test_a_shared_factor_is_the_same_as_one_for_each_row():
    # kills: broadcasting (J, J) against (B, J, J) the wrong way round
    chol = np.linalg.cholesky(random_q(18, 1, 3).cov[0])
    mean, z = np.random.default_rng(0).normal(size=(2, 3, 3))
    one, each = Gaussian(mean, chol), Gaussian(mean, np.repeat(chol[None], 3, axis=0))
    other = random_q(19, 3, 3)
    close(one.log_pdf(z[None]), each.log_pdf(z[None]))
    close(one.kl(other), each.kl(other))
    close(other.kl(one), other.kl(each))
    close(one.transform(z[None]), each.transform(z[None]))
    close(one.rows([2, 0]).log_pdf(z[None, :2]), each.rows([2, 0]).log_pdf(z[None, :2]))


# Bad input


GOOD = LinearGaussian(np.eye(3, 2), np.zeros(3), 1.0)
X, Q = np.zeros((2, 3)), Gaussian.standard(2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearGaussian([1.0], [0.0], 1.0), "W: expected a 2-D array"),
        (lambda: LinearGaussian([[1.0]], [0.0, 0.0], 1.0), "mean: expected 1 columns, got 2"),
        (lambda: LinearGaussian([[1.0]], [[0.0]], 1.0), r"mean: expected shape \(1,\)"),
        (lambda: LinearGaussian([[1.0]], [0.0], 0.0), "sigma2: expected finite variances above 0"),
        (lambda: LinearGaussian([[1.0]], [0.0], [1.0, 1.0]), "sigma2: expected a number or shape"),
        (lambda: GOOD.log_evidence(np.zeros((2, 4))), "x: expected 3 columns, got 4"),
        (lambda: GOOD.log_evidence([[np.nan, 0, 0]]), "x: expected finite values"),
        (lambda: GOOD.elbo_kl_form(X, Gaussian.standard(2, 3)), r"got \(2, 3\)"),
        (
            lambda: GOOD.elbo_joint_form(X, Gaussian.standard(1, 2)),
            r"shape \(2, 2\), got \(1, 2\)",
        ),
        (lambda: GOOD.kl_to_prior(Gaussian.standard(1, 3)), r"shape \(B, 2\), got \(1, 3\)"),
        (lambda: GOOD.kl_to_posterior(X, Gaussian.standard(3, 2)), r"got \(3, 2\)"),
        (lambda: GOOD.sample(0), "n: expected a whole number of at least 1"),
        (lambda: ppca_maximum_likelihood(np.zeros((4, 2)), 2), "latent_dim: expected less than"),
        (
            lambda: ppca_maximum_likelihood(np.outer(np.arange(4.0), [1, 2, 0]), 1),
            r"more than latent_dim = 1 directions, got 1 \(4 rows, 1 of 3 columns constant\)",
        ),
        (
            lambda: ppca_maximum_likelihood(np.full((7, 3), 0.1), 1),
            r"got 0 \(7 rows, 3 of 3 columns constant\): sigma2 would be 0",
        ),
        (
            lambda: LinearGaussian(np.ones((2, 1)), np.zeros(2), [1.0, 1.0]).m_step(
                [[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]], Gaussian.standard(3, 1)
            ),
            r"sigma2 = 0 for 1 of 2 variances \(first: 1\); drop constant columns",
        ),
        (lambda: Gaussian([[0.0]], [[-1.0]]), "chol: expected finite lower-triangular factors"),
        (lambda: Gaussian([[0.0, 0]], [[1, 2], [0, 1]]), "chol: expected finite lower-triangular"),
        (lambda: Gaussian([[0.0]], [1.0]), r"chol: expected shape \(1, 1\) or \(1, 1, 1\)"),
        (lambda: Gaussian.diagonal([[0.0]], [[2000.0]]), "log-variances"),
        (lambda: Gaussian.diagonal(np.zeros((2, 1)), [[0.0]]), r"logvar: expected shape \(2, 1\)"),
        (lambda: Gaussian.from_covariance([[0.0]], [[-1.0]]), "cov: expected symmetric positive"),
        (lambda: Q.kl(Gaussian.standard(3, 2)), r"expected mean of shape \(3, 2\)"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    # kills: an error from inside NumPy, or a result
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_q_that_is_no_gaussian_is_a_type_error():
    # kills: an AttributeError for the pair (mu, logvar)
    with pytest.raises(TypeError, match=r"expected a numpyvae\.exact\.Gaussian, got tuple"):
        GOOD.elbo_kl_form(X, (np.zeros((2, 2)), np.zeros((2, 2))))


def test_ppca_of_data_with_equal_variances_has_no_root_of_a_negative_number():
    # kills: an eigenvalue minus the mean of the rest, rounded to −1e-17, under the square root
    for D in range(3, 12):
        x = 0.3 * np.vstack([np.eye(D), -np.eye(D)])
        model = ppca_maximum_likelihood(x, 1)  # a warning is an error in the tests
        assert np.abs(model.W).max() < 1e-7
