"""The ELBO and its gradient: complex step, quadrature, an independent model, float32, extremes.

`plain_*` is the model written a second time: per datapoint, in z rather than ε, with SciPy's
densities, and integrated over q on a grid. It shares no line with the package.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from conftest import LIKELIHOODS, apart, data_for, noise, small_vae
from numpy.polynomial.hermite_e import hermegauss
from scipy import special, stats
from test_layers import REFERENCE

from numpyvae import VAE, bounds, fit, mean_terms
from numpyvae.clinic.gradcheck import central_difference, complex_step, relative_error
from numpyvae.core.elbo import Estimator
from numpyvae.estimators import SGVBA
from numpyvae.inference.given_q import terms_given_q
from numpyvae.support.registry import name_of

# `numpyvae.core.elbo` could be the function `elbo`; import_module returns the module.
elbo = importlib.import_module("numpyvae.core.elbo")
VALUE = {"closed": "elbo", "sampled": "sampled_elbo"}
ESTIMATOR = {"closed": Estimator(), "sampled": SGVBA()}


def value(vae, x, eps, kl="closed"):
    """ELBO per datapoint, by Eq. (11) or Eq. (7)."""
    return getattr(elbo, VALUE[kl])(vae, x, eps)


def value_and_grad(vae, x, eps, kl="closed"):
    """Mean ELBO and its gradient, with the KL of Eq. (11) or with every term sampled, Eq. (7)."""
    if kl == "closed":
        return elbo.elbo_and_grad(vae, x, eps)
    estimate = SGVBA()(vae, x, eps)
    return estimate.objective, estimate.gradient.flat


# The model a second time.


def plain_network(vae, name, rows):
    count = sum(key.startswith(f"{name}.W") for key in vae.parameters)
    for i in range(count):
        rows = np.einsum("ri,ij->rj", rows, vae.parameters[f"{name}.W{i}"])
        rows = rows + vae.parameters[f"{name}.b{i}"]
        rows = REFERENCE[name_of(vae.activation)](rows) if i < count - 1 else rows
    return rows


def plain_log_px(vae, x, z):
    """Log p(x|z) of one x (D,) at many z (n, J)."""
    out = plain_network(vae, "decoder", z)
    family, _, detail = vae.likelihood.name.partition(":")
    if family != "gaussian":
        n = int(detail or 1)
        logp = x * special.log_expit(out) + (n - x) * special.log_expit(-out)
        return (logp + np.log(special.comb(n, x))).sum(axis=1)
    if detail == "head":
        out, logvar = out[:, : x.size], out[:, x.size :]
    else:
        logvar = vae.parameters["decoder.logvar"] if detail == "learned" else None
    sigma = float(detail) if logvar is None else np.sqrt(np.exp(logvar))
    return stats.norm.logpdf(x, out, sigma).sum(axis=1)


def plain_q(vae, x):
    out = plain_network(vae, "encoder", x)
    return out[:, : vae.latent_dim], np.sqrt(np.exp(out[:, vae.latent_dim :]))


def grid(J, step, reach=9.0):
    points = np.arange(-reach, reach + step / 2, step)
    return np.array(list(product(points, repeat=J)))


def plain_elbo(vae, x, step=0.2):
    """ELBO by Eq. (7), ∫ q(z|x) (log p(x, z) − log q(z|x)) dz, by the trapezoidal rule."""
    J = vae.latent_dim
    result = []
    for row, mu, sigma in zip(x, *plain_q(vae, x)):
        z = mu + sigma * grid(J, step)
        log_q = stats.norm.logpdf(z, mu, sigma).sum(axis=1)
        log_joint = plain_log_px(vae, row, z) + stats.norm.logpdf(z).sum(axis=1)
        result.append(step**J * sigma.prod() * (np.exp(log_q) * (log_joint - log_q)).sum())
    return np.array(result)


def plain_log_evidence(vae, x, step=0.02):
    """log p(x) = log ∫ p(x, z) dz for J = 1."""
    z = grid(1, step)
    log_pz = stats.norm.logpdf(z).sum(axis=1)
    return np.array([special.logsumexp(plain_log_px(vae, row, z) + log_pz) for row in x]) + np.log(
        step
    )


# Expectations over ε by Gauss-Hermite quadrature.


def nodes(J, n):
    """Return nodes (n^J, J) and weights (n^J,) of the tensor rule for N(0, I)."""
    points, weights = hermegauss(n)
    weights = weights / weights.sum()
    grid = np.array(list(product(points, repeat=J)))
    return grid, np.array(list(product(weights, repeat=J))).prod(axis=1)


def expected(f, vae, x, n=40):
    """E_ε[f(vae, x, ε)] per datapoint: every node is a datapoint of its own, with L = 1."""
    eps, weights = nodes(vae.latent_dim, n)
    values = f(vae, np.repeat(x, len(eps), axis=0), np.tile(eps, (len(x), 1))[None])
    return values.reshape(len(x), -1) @ weights


def expected_gradient(vae, x, kl, n):
    """E_ε[∇ ELBO] of the mean over the batch, node by node."""
    eps, weights = nodes(vae.latent_dim, n)
    return sum(
        w * value_and_grad(vae, x, np.tile(e, (1, len(x), 1)), kl)[1] for e, w in zip(eps, weights)
    )


def saturated(likelihood, latent_dim=2):
    """Return a model whose outputs are ±300 and change sign within a σ of q."""
    vae = small_vae(likelihood, latent_dim=latent_dim)
    vae.parameters["decoder.W1"][:, :3] *= 200
    vae.parameters["decoder.b1"][:3] = 300, -300, 0
    return vae


# Gradients.


def check_gradient(
    likelihood="bernoulli", kl="closed", L=3, hidden=(4,), activation="tanh", J=2, seed=0
):
    """Every parameter against the complex step of the value: any wrong pullback is detected."""
    vae = small_vae(likelihood, hidden=hidden, activation=activation, latent_dim=J, seed=seed)
    x, eps = data_for(likelihood, seed=seed), noise(L, latent_dim=J, seed=seed)
    found, gradient = value_and_grad(vae, x, eps, kl)
    np.testing.assert_allclose(found, value(vae, x, eps, kl).mean(), rtol=1e-13)

    def f(flat):
        return value(vae.with_flat(flat), x, eps, kl).mean()

    exact = complex_step(f, vae.parameters.flat, h=1e-30)
    assert relative_error(gradient, exact) <= 1e-12
    assert relative_error(gradient, central_difference(f, vae.parameters.flat)) <= 1e-7
    for name, part in vae.parameters.like(exact).items():  # small ones must not hide
        assert relative_error(vae.parameters.like(gradient)[name], part) <= 1e-11, name


@pytest.mark.parametrize("hidden", [(), (4,), (3, 2, 3)])
@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_gradient_of_every_parameter(likelihood, kl, L, hidden):
    check_gradient(likelihood, kl, L, hidden)


@pytest.mark.parametrize("hidden", [(4,), (3, 2, 3)])
@pytest.mark.parametrize("name", ["bernoulli", "gaussian:head"])
@pytest.mark.parametrize("activation", sorted(REFERENCE))
def test_gradient_under_every_activation(activation, name, hidden):
    check_gradient(name, hidden=hidden, activation=activation)


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_gradient_with_one_latent(kl):
    check_gradient("gaussian:head", kl, J=1)


def check_slices(likelihood="gaussian:learned", kl="closed"):
    """Kills a θ-gradient left in a φ-update, a wrong slice, a φ-gradient without its KL."""
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(3)
    *terms, whole = ESTIMATOR[kl].estimate(vae, x, eps)
    for update, other in (("phi", "theta"), ("theta", "phi")):
        *same, part = ESTIMATOR[kl].estimate(vae, x, eps, update)
        assert same == terms
        assert relative_error(getattr(part, update), getattr(whole, update)) <= 1e-15
        assert getattr(whole, update).all()
        assert not getattr(part, other).any()


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_gradient_in_phi_or_theta_is_that_slice(likelihood, kl):
    check_slices(likelihood, kl)


def check_encoder_and_decoder_fill():
    """Kills a pullback of the model that adds to old values, or leaves a parameter out."""
    vae, x, z = small_vae("gaussian:learned"), data_for("gaussian"), noise(2)
    (mu, logvar), pull_encoder = vae.encoder(x)
    log_px, pull_decoder = vae.log_likelihood(x, z)
    found = []
    for value in (0.0, np.nan):
        gradient = vae.parameters.like(np.full(vae.parameters.flat.size, value))
        pull_encoder(mu, logvar, gradient)
        pull_decoder(log_px, gradient)
        found.append(gradient.flat)
    assert found[0].all()
    assert np.array_equal(*found)


def test_pullbacks_of_the_model_fill_the_gradient():
    check_encoder_and_decoder_fill()


def test_gradient_in_z_without_a_gradient_in_theta(likelihood):
    """Kills a dz that depends on whether the gradient in θ is needed, and one of another z."""
    vae, x, z = small_vae(likelihood), data_for(likelihood), noise(2)
    _, pull = vae.log_likelihood(x, z)
    dlog_px = noise(2, 4, 1)[..., 0]
    gradient = vae.parameters.zeros_like()
    dz = pull(dlog_px)
    exact = complex_step(lambda value: (dlog_px * vae.log_likelihood(x, value)[0]).sum(), z)
    assert relative_error(dz, exact) <= 1e-12
    assert np.array_equal(pull(dlog_px, gradient), dz)
    assert pull(dlog_px, gradient, input_gradient=False) is None


# Eq. (7) and Eq. (11) are one number.


def check_two_forms(likelihood="bernoulli", J=2, hidden=(4,), activation="tanh"):
    """Eq. (7) by the plain model on a grid in z against Eq. (11) by the code on nodes in ε.

    Kills σ = exp(log σ²) in the sampler, every wrong KL, means over pixels or latents, missing
    constants, a reconstruction at z = μ, and clipped probabilities where they are reached.
    """
    vae = small_vae(likelihood, latent_dim=J, hidden=hidden, activation=activation, scale=0.4)
    x = data_for(likelihood, 2)
    exact = plain_elbo(vae, x)
    tolerance = 1e-8 * (1 + abs(exact))
    assert (abs(expected(elbo.elbo, vae, x) - exact) <= tolerance).all()
    assert (abs(expected(elbo.sampled_elbo, vae, x) - exact) <= tolerance).all()
    reconstruction, kl = (
        expected(lambda *a, i=i: elbo.elbo_terms(*a)[i], vae, x) for i in range(2)
    )
    np.testing.assert_allclose(reconstruction - kl, exact, rtol=0, atol=tolerance.max())


@pytest.mark.parametrize("J", [1, 2])
def test_eq_7_by_quadrature_is_eq_11_by_code(likelihood, J):
    check_two_forms(likelihood, J)


@pytest.mark.parametrize("activation", ["softplus", "sigmoid", "identity"])
def test_eq_7_is_eq_11_under_other_activations(activation):
    check_two_forms("binomial:16", 1, (4, 3), activation)


def test_quadratures_have_converged(likelihood):
    """The quadratures of the two tests above have converged: twice the nodes change nothing."""
    vae, x = small_vae(likelihood, scale=0.4), data_for(likelihood, 2)
    once = expected(elbo.elbo, vae, x, 40)
    np.testing.assert_allclose(expected(elbo.elbo, vae, x, 80), once, rtol=1e-10)
    np.testing.assert_allclose(plain_elbo(vae, x, 0.1), plain_elbo(vae, x), rtol=1e-10)


def check_two_forms_saturated(likelihood="bernoulli", J=2):
    """The same with outputs of ±300 that change sign under q; kills clipped probabilities.

    Such an integrand has kinks, so both sides use one rule: they must agree under any.
    """
    vae, x = saturated(likelihood, J), data_for(likelihood, 2)
    eps, weights = nodes(J, 20)
    exact = []
    for row, mu, sigma in zip(x, *plain_q(vae, x)):
        z = mu + sigma * eps
        log_joint = plain_log_px(vae, row, z) + stats.norm.logpdf(z).sum(axis=1)
        exact.append(weights @ (log_joint - stats.norm.logpdf(z, mu, sigma).sum(axis=1)))
    for f in (elbo.elbo, elbo.sampled_elbo):
        np.testing.assert_allclose(expected(f, vae, x, 20), exact, rtol=1e-12)


@pytest.mark.parametrize("J", [1, 2])
def test_eq_7_is_eq_11_with_saturated_outputs(likelihood, J):
    check_two_forms_saturated(likelihood, J)


def check_expected_gradients(likelihood="bernoulli"):
    """E_ε of both gradient estimators is the gradient of the plain model's exact ELBO.

    Kills a gradient that is right for its own value but not for the ELBO.
    """
    vae = small_vae(likelihood, latent_dim=1, scale=0.4)
    x = data_for(likelihood, 2)
    exact = central_difference(
        lambda flat: plain_elbo(vae.with_flat(flat), x).mean(), vae.parameters.flat
    )
    closed, sampled = (expected_gradient(vae, x, kl, 40) for kl in ("closed", "sampled"))
    assert relative_error(closed, exact) <= 1e-7
    assert relative_error(sampled, closed) <= 1e-12


def test_expected_gradient_is_the_gradient_of_the_exact_elbo(likelihood):
    check_expected_gradients(likelihood)


def check_log_joint(likelihood="bernoulli"):
    """Eq. (1); kills a prior of another variance, or none."""
    vae, x, z = small_vae(likelihood), data_for(likelihood), 2 * noise(5)
    found = elbo.log_joint(vae, x, z)
    for b, row in enumerate(x):
        exact = plain_log_px(vae, row, z[:, b]) + stats.norm.logpdf(z[:, b]).sum(axis=1)
        np.testing.assert_allclose(found[:, b], exact, rtol=1e-12, atol=1e-12)


def test_log_joint_is_the_plain_log_joint(likelihood):
    check_log_joint(likelihood)


# Monte Carlo: the noise that the package draws itself, and 1e5 draws.


def check_mean(draws, exact):
    """The mean over the first axis is within 5 standard errors of `exact`."""
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    rounding = 1e-12 * abs(exact)  # for what does not depend on the draws
    assert (abs(np.mean(draws, axis=0) - exact) <= 5 * error + rounding).all()


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_monte_carlo_elbo_and_gradient_against_exact(likelihood, kl):
    """1e5 draws, z < 5; kills a sum over L for a mean, and a biased estimator."""
    vae = small_vae(likelihood, latent_dim=1, scale=0.4)
    x = data_for(likelihood, 1)
    eps = noise(100_000, 1, 1)
    single = value(vae, np.repeat(x, 100_000, axis=0), eps.reshape(1, -1, 1), kl)
    check_mean(single, plain_elbo(vae, x))
    gradients = [value_and_grad(vae, x, part, kl)[1] for part in np.split(eps, 250)]
    check_mean(gradients, expected_gradient(vae, x, "closed", 40))


def check_evaluation():
    """Kills noise of another size, one ε for all rows, a shared generator, a lost row or block."""
    vae = small_vae("gaussian:0.5", latent_dim=1, scale=1.0)
    x = data_for("gaussian", 703)  # no two rows are equal: each has draws of its own
    terms = mean_terms(vae, x, n_samples=20, seed=3)
    assert mean_terms(vae, x, n_samples=20, seed=3) == terms
    assert mean_terms(vae, x, n_samples=20, seed=4) != terms
    exact = expected(elbo.elbo, vae, x, 20)
    kl = elbo.elbo_terms(vae, x, np.zeros((1, 703, 1))).kl  # which no noise moves
    assert abs(terms.kl - kl.mean()) <= 1e-12
    spread = np.sqrt(expected(lambda *a: (elbo.elbo(*a)) ** 2, vae, x, 20) - exact**2)
    error = np.sqrt((spread**2).sum() / 20) / len(x)  # of independent draws for each row
    assert abs(terms.elbo - exact.mean()) < 5 * error
    # Means under 30 seeds scatter as much as independent noise does, neither more nor less.
    several = [mean_terms(vae, x, n_samples=20, seed=s).elbo for s in range(30)]
    chi_square = 29 * np.var(several, ddof=1) / error**2
    assert 1e-6 < stats.chi2.cdf(chi_square, 29) < 1 - 1e-6


def test_evaluation_over_a_data_set():
    check_evaluation()


def check_training_noise(n_samples=3):
    """Kills, in `fit`: ε of another size, one ε for the batch or the epoch, too few samples."""
    seen = []

    @dataclass(frozen=True)
    class Spy(Estimator):
        def estimate(self, vae, x, eps, update="both"):
            seen.append((x, eps))
            return super().estimate(vae, x, eps, update)

    x = data_for("bernoulli", 4000)
    fit(small_vae(), x, epochs=2, estimator=Spy(n_samples=n_samples), batch_size=999)
    assert [len(batch) for batch, _ in seen] == 2 * [999, 999, 999, 999, 4]
    assert all(eps.shape == (n_samples, len(batch), 2) for batch, eps in seen)
    eps = np.concatenate([eps.ravel() for _, eps in seen])
    assert len(np.unique(eps)) == eps.size == 2 * 4000 * 2 * n_samples
    assert stats.kstest(eps, "norm").pvalue > 1e-6


def test_training_draws_standard_normal_noise_for_each_row_and_sample():
    check_training_noise()


def check_importance_weights():
    """Kills weights averaged in log space, a sum for the mean, and ε of another size."""
    vae = small_vae(latent_dim=1, scale=0.4, seed=4)
    vae.parameters["decoder.W1"][:] *= 8
    x = data_for("bernoulli", 4)
    found = bounds.importance_log_likelihood(vae, x, 100_000)
    assert found.dtype == np.float64
    assert (abs(found - plain_log_evidence(vae, x)) < 0.02).all()
    # log (w_1 + w_2)/2 of two weights, enumerated over the nodes of both draws.
    mu, logvar = vae.encode(x)
    eps, weights = nodes(1, 60)
    log_w = bounds.log_weights(vae, x, mu, logvar, np.repeat(eps[:, None], 4, axis=1))
    pairs = np.logaddexp(log_w[:, None], log_w[None]) - np.log(2)
    exact = np.einsum("i,j,ijb->b", weights, weights, pairs)
    rows = apart(np.repeat(x, 5000, axis=0))
    with pytest.warns(UserWarning, match="grays"):
        two = bounds.importance_log_likelihood(vae, rows, 2, seed=1).reshape(4, -1).T
    check_mean(two, exact)


def test_importance_weights_are_averaged_not_their_logarithms():
    check_importance_weights()


def check_narrow_posterior():
    """Kills (z − μ)/σ in float32 where σ is small beside μ: z has no digits of ε left there."""
    single, double = (small_vae("gaussian:0.3", dtype=dtype) for dtype in ("float32", "float64"))
    x, eps = data_for("gaussian"), noise(50)
    for vae in (single, double):
        vae.parameters["encoder.W1"][:] = 0
        vae.parameters["encoder.b1"][:] = 5, 3, -30, -25
    found = elbo.sampled_elbo(single, x, eps)
    np.testing.assert_allclose(found, elbo.sampled_elbo(double, x, eps), rtol=1e-5)
    (value, gradient), (exact, exact_gradient) = (
        value_and_grad(vae, x, eps, "sampled") for vae in (single, double)
    )
    assert abs(value - exact) <= 1e-5 * abs(exact)
    assert relative_error(gradient, exact_gradient) <= 1e-5


def test_a_narrow_posterior_loses_no_digits():
    check_narrow_posterior()


# Batches and samples.


def check_batch_independence(likelihood="bernoulli"):
    """Kills statistics over the batch, one ε for all rows, rows and samples confused."""
    vae, x, eps = small_vae(likelihood), data_for(likelihood, 6), noise(3, 6)
    order = np.random.default_rng(0).permutation(6)
    for kl in ("closed", "sampled"):
        together = value(vae, x, eps, kl)
        alone = [value(vae, x[[i]], eps[:, [i]], kl)[0] for i in range(6)]
        np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-10)
        shuffled = value(vae, x[order], eps[:, order], kl)
        np.testing.assert_allclose(shuffled, together[order], rtol=1e-10, atol=1e-10)
        whole = value_and_grad(vae, x, eps, kl)[1]
        parts = [value_and_grad(vae, x[[i]], eps[:, [i]], kl)[1] for i in range(6)]
        assert relative_error(np.mean(parts, axis=0), whole) <= 1e-10


def test_each_row_is_independent_of_the_other_rows_and_the_order(likelihood):
    check_batch_independence(likelihood)


def check_samples_average(likelihood="bernoulli"):
    """Kills a sum over L for the mean, and a gradient divided by B alone or by L twice."""
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(5)
    for kl in ("closed", "sampled"):
        single = [value(vae, x, e[None], kl) for e in eps]
        np.testing.assert_allclose(value(vae, x, eps, kl), np.mean(single, axis=0), rtol=1e-12)
        single = [value_and_grad(vae, x, e[None], kl)[1] for e in eps]
        whole = value_and_grad(vae, x, eps, kl)[1]
        assert relative_error(whole, np.mean(single, axis=0)) <= 1e-12


def test_l_samples_are_averaged(likelihood):
    check_samples_average(likelihood)


def check_quadrature_weights():
    """Kills weights that miss the value or the gradient, or are divided by L once more."""
    vae, x = small_vae("gaussian:learned"), data_for("gaussian")
    eps, weights = nodes(2, 3)
    eps = np.repeat(eps[:, None], len(x), axis=1)
    (mu, logvar), _ = vae.encoder(x)
    terms, pull = terms_given_q(vae, x, mu, logvar, eps, weights)
    gradient = vae.parameters.zeros_like()
    dq = np.concatenate(pull(gradient), axis=1)
    theta, single_dq, single = 0, 0, 0
    for e, w in zip(eps, weights):
        part, pull = terms_given_q(vae, x, mu, logvar, e[None], np.ones(1))
        views = vae.parameters.zeros_like()
        single_dq = single_dq + w * np.concatenate(pull(views), axis=1)
        theta, single = theta + w * views.theta, single + w * part.elbo
    assert abs(terms.elbo - single) <= 1e-12 * abs(single)
    assert relative_error(gradient.theta, theta) <= 1e-12
    assert relative_error(dq, single_dq) <= 1e-12


def test_weights_of_a_quadrature_rule():
    check_quadrature_weights()


def check_given_q(likelihood="gaussian:learned"):
    """Kills a q that is not the one given, a KL of the wrong sign, and a θ that is left out."""
    vae, x = small_vae(likelihood), data_for(likelihood)
    eps, weights = nodes(2, 5)
    eps = np.repeat(eps[:, None], len(x), axis=1)
    mu, logvar = noise(2)

    def f(mu=mu, logvar=logvar, flat=vae.parameters.flat):
        return terms_given_q(vae.with_flat(flat), x, mu, logvar, eps, weights)[0].elbo

    exact = []
    for b, row in enumerate(x):
        z = mu[b] + np.sqrt(np.exp(logvar[b])) * eps[:, b]
        log_q = stats.norm.logpdf(z, mu[b], np.sqrt(np.exp(logvar[b]))).sum(axis=1)
        log_joint = plain_log_px(vae, row, z) + stats.norm.logpdf(z).sum(axis=1)
        exact.append(weights @ (log_joint - log_q))
    np.testing.assert_allclose(f(), np.mean(exact), rtol=1e-12)
    _, pull = terms_given_q(vae, x, mu, logvar, eps, weights)
    gradient = vae.parameters.zeros_like()
    dmu, dlogvar = pull(gradient)
    assert relative_error(dmu, central_difference(lambda v: f(mu=v), mu)) <= 1e-7
    assert relative_error(dlogvar, central_difference(lambda v: f(logvar=v), logvar)) <= 1e-7
    flat = central_difference(lambda v: f(flat=v), vae.parameters.flat)
    assert relative_error(gradient.theta, vae.parameters.like(flat).theta) <= 1e-7


def test_the_elbo_of_any_q(likelihood):
    check_given_q(likelihood)


# float32.


class Single(np.ndarray):
    """A float32 array that refuses to take part in any operation whose result is wider."""

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        inputs = [np.asarray(a) if isinstance(a, Single) else a for a in inputs]
        if "out" in settings:
            settings["out"] = tuple(np.asarray(a) for a in settings["out"])
        result = getattr(ufunc, method)(*inputs, **settings)
        assert result.dtype != np.float64 or result.ndim == 0, f"{ufunc.__name__} gave float64"
        return result.view(Single) if result.ndim else result


def check_no_upcast(likelihood="bernoulli", kl="closed"):
    """Kills a constant, zeros or noise in the default dtype, forward or backward."""
    vae = small_vae(likelihood, "float32")
    x, eps = (a.astype("float32").view(Single) for a in (data_for(likelihood), noise(2)))
    single = vae.with_flat(vae.parameters.flat.view(Single))
    gradient = ESTIMATOR[kl].estimate(single, x, eps).gradient
    assert gradient.flat.dtype == value(single, x, eps, kl).dtype == np.float32


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_no_step_upcasts_forward_or_backward(likelihood, kl):
    check_no_upcast(likelihood, kl)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_outputs_have_the_models_dtype_for_every_input(likelihood, dtype):
    if dtype == "uint8" and likelihood.startswith("gaussian"):
        x = np.arange(12, dtype=dtype).reshape(4, 3)
    else:
        x = data_for(likelihood).astype(dtype)
    vae, eps = small_vae(likelihood, "float32"), noise(2)
    outputs = {
        "encode": vae.encode(x)[0],
        "decode": vae.decode(eps[0]),
        "reconstruct": vae.reconstruct(x),
        "sample": vae.sample(3),
        "sample means": vae.sample(3, mean=True),
        "elbo": elbo.elbo(vae, x, eps),
        "elbo_terms": elbo.elbo_terms(vae, x, eps)[1],
        "sampled_elbo": elbo.sampled_elbo(vae, x, eps),
        "log_joint": elbo.log_joint(vae, x, eps.astype("float32")),
        "gradient": elbo.elbo_and_grad(vae, x, eps)[1],
    }
    assert {name: a.dtype.name for name, a in outputs.items() if a.dtype != "float32"} == {}
    assert bounds.importance_log_likelihood(vae, x, 3).dtype == np.float64


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_float32_against_float64(likelihood, kl):
    vae = small_vae(likelihood, "float32")
    double = vae.with_flat(vae.parameters.flat.astype("float64"))
    x, eps = (a.astype("float32") for a in (data_for(likelihood, 20), noise(3, 20)))
    assert relative_error(value(vae, x, eps, kl), value(double, x, eps, kl)) <= 1e-5
    found, gradient = value_and_grad(vae, x, eps, kl)
    exact, exact_gradient = value_and_grad(double, x, eps, kl)
    assert abs(found - exact) <= 1e-5 * abs(exact)
    assert relative_error(gradient, exact_gradient) <= 1e-5


# Extremes.


def check_extremes(likelihood="bernoulli", dtype="float32", kl="closed"):
    """Outputs ±1000, log σ² of q ±50: value and gradient finite, no warning (an error here).

    Kills exp of a positive logit, log of a probability, and log σ² that is squared on the way.
    """
    vae = small_vae(likelihood, dtype)
    vae.parameters["encoder.b1"][2:] = 50, -50
    vae.parameters["decoder.b1"][:3] = 1000, -1000, 1000
    if likelihood == "gaussian:learned":
        vae.parameters["decoder.logvar"][:] = 50, -50, 0
    if likelihood == "gaussian:head":
        vae.parameters["decoder.b1"][3:] = 50, -50, 0
    x, eps = data_for(likelihood), noise(2)
    assert np.isfinite(value(vae, x, eps, kl)).all()
    found, gradient = value_and_grad(vae, x, eps, kl)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_extreme_outputs_and_variances_stay_finite(likelihood, dtype, kl):
    check_extremes(likelihood, dtype, kl)


# The example whose arithmetic fits on a page.


def check_worked_example():
    """D = J = 1 and no hidden layer: μ = 1, log σ² = ln 4, ε = ½, so z = 2 and the logit is 0.

    log p(x|z) = −ln 2;  KL = ½ (1 + 4 − 1 − ln 4) = 2 − ln 2;  ELBO = −2 exactly.
    """
    vae = VAE(1, 1, (), dtype="float64")
    parameters = vae.parameters
    parameters["encoder.W0"][:] = 0
    parameters["encoder.b0"][:] = 1, np.log(4)
    parameters["decoder.W0"][:], parameters["decoder.b0"][:] = 3, -6
    x, eps = np.ones((1, 1)), np.full((1, 1, 1), 0.5)
    found, gradient = elbo.elbo_and_grad(vae, x, eps)
    assert abs(found - -2) <= 1e-15
    # dlogit = 1 − ½; dz = 3 · ½; dμ = dz − μ; dlog σ² = dz ½ σ ε − ½ (σ² − 1); σ ε = 1.
    dmu, dlogvar = 1.5 - 1, 1.5 / 2 - 1.5
    exact = {"encoder.W0": [[dmu, dlogvar]], "encoder.b0": [dmu, dlogvar]}
    exact |= {"decoder.W0": [[2 / 2]], "decoder.b0": [1 / 2]}
    for name, view in parameters.like(gradient).items():
        np.testing.assert_allclose(view, exact[name], rtol=1e-14, atol=1e-15)


def test_worked_example():
    check_worked_example()


@pytest.mark.parametrize("shape", [(4, 2), (1, 4, 3), (1, 3, 2), (0, 4, 2), (1, 1, 2)])
def test_noise_of_another_shape_is_refused(shape):
    """(1, 1, J) would broadcast: one ε for the whole batch."""
    with pytest.raises(ValueError, match="eps: expected shape"):
        elbo.elbo(small_vae(), data_for(LIKELIHOODS[0]), np.zeros(shape))
