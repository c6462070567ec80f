"""Evidence and expectations by quadrature: right to ten digits, or a QuadratureError."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from conftest import LIKELIHOODS, data_for, small_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from numpyvae import VAE, datasets, fit
from numpyvae.bounds import log_weights
from numpyvae.core.distributions import gaussian_kl
from numpyvae.core.likelihoods import Likelihood
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature, QuadratureError
from numpyvae.exact.integration import gauss_lobatto, panels, trapezoidal
from numpyvae.support.registry import ACTIVATIONS

close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8)
tight = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def saturated(seed=0, *, data_dim=3, latent_dim=2, hidden=(4,), factor=10, **architecture):
    """Return a model with weights as drawn × 10, whose logits reach ±100 behind steep steps."""
    vae = VAE(data_dim, latent_dim, hidden=hidden, dtype="float64", seed=seed, **architecture)
    flat = vae.parameters.flat
    flat += np.random.default_rng([seed, 31]).normal(0, 0.05, flat.size)
    flat *= factor
    return vae


def all_binary(data_dim):
    return np.array(list(itertools.product([0.0, 1.0], repeat=data_dim)))


def hermite(mean, chol, n=80):
    """Nodes (n^J, J) and weights of the Gauss-Hermite rule for N(mean, chol cholᵀ)."""
    axis, weights = np.polynomial.hermite_e.hermegauss(n)
    weights = weights / weights.sum()
    J = len(mean)
    u = np.stack(np.meshgrid(*[axis] * J, indexing="ij"), axis=-1).reshape(-1, J)
    w = functools.reduce(np.multiply.outer, [weights] * J).ravel()
    return mean + u @ chol.T, w


# The evidence


@pytest.mark.parametrize("sigma", [3.0, 0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_linear_decoder_gives_the_closed_form(latent_dim, sigma):
    # kills: a missing Jacobian or prior constant, a posterior that the search runs past (1e-5
    # wide at the smallest σ), one far out (the last row: z near 12), moments that cancel there
    vae = VAE(10, latent_dim, hidden=(), likelihood=f"gaussian:{sigma}", dtype="float64")
    rng = np.random.default_rng(1)
    vae.parameters.flat[:] = rng.normal(size=vae.parameters.flat.size)
    exact, model = LinearGaussian.from_vae(vae), Quadrature(vae)
    x = exact.sample(4, seed=2)
    x[-1] += 12 * exact.W[:, 0]
    found, expected = model.posterior(x), exact.posterior(x)
    tight(found.log_evidence, exact.log_evidence(x))
    width = np.sqrt(np.diagonal(expected.cov))
    np.testing.assert_allclose(found.mean / width, expected.mean / width, rtol=1e-9, atol=1e-8)
    cov = np.broadcast_to(expected.cov, found.cov.shape)
    np.testing.assert_allclose(found.cov, cov, rtol=1e-8, atol=1e-9 * width.min() ** 2)


@pytest.mark.parametrize(
    "architecture",
    [
        {"latent_dim": 1, "hidden": (8,), "seed": 1},
        {"latent_dim": 1, "hidden": (6, 6), "seed": 0},
        {"latent_dim": 1, "hidden": (6,), "activation": "softplus"},
        {"latent_dim": 1, "hidden": (6,), "activation": "relu", "factor": 3},
        {"latent_dim": 1, "hidden": (5, 5), "activation": "relu", "factor": 3},
        {"latent_dim": 2, "data_dim": 2},
        {"latent_dim": 2, "data_dim": 2, "hidden": (3, 3), "factor": 5},
    ],
    ids=str,
)
def test_probabilities_of_all_possible_data_sum_to_one(architecture):
    # kills: any error of the evidence, with no reference but probability: a lost mode, a step
    # stepped over, a region cut short, a kink that parent and children agree to miss
    vae = saturated(**architecture)
    p = np.exp(Quadrature(vae).log_evidence(all_binary(vae.data_dim)))
    tight(p.sum(), 1)


def test_two_narrow_modes_far_apart_are_both_found():
    # kills: a rule placed at the posterior's mode, which loses the other; and a search that
    # trusts nodes alone: one mode is at a node of the grid, the other 40 widths from any
    vae = VAE(1, 1, hidden=(2,), likelihood="gaussian:0.001", dtype="float64")
    parameters = vae.parameters
    parameters["decoder.W0"][:] = 1
    parameters["decoder.b0"][:] = 1.9, -2.1
    parameters["decoder.W1"][:] = [[1], [-1]]  # even about z = 0.1
    x = vae.decode([[2.5]])
    model, step = Quadrature(vae), 1e-5
    parts, means = [], []
    for mode in (2.5, -2.3):
        z = mode + step * np.arange(-10_000, 10_001)[:, None, None]
        density = np.exp(model.log_joint(x, z))
        parts.append(density.sum() * step)
        means.append((density * z[:, 0]).sum() * step)
    found = model.posterior(x)
    tight(found.log_evidence, np.log(sum(parts)))
    close(found.mean, sum(means) / sum(parts))
    tight(model.posterior_mass(x), 1)


def test_a_relu_decoder_gives_the_closed_form_of_two_half_gaussians():
    # kills: sums that agree by accident on either side of a kink; one x in a hundred does
    vae = VAE(1, 1, hidden=(1,), activation="relu", likelihood="gaussian:0.5", dtype="float64")
    w, b, c, sigma = 1.7, 0.3, -0.2, 0.5
    for name, value in (("W0", w), ("b0", b), ("W1", 1), ("b1", c)):
        vae.parameters[f"decoder.{name}"][:] = value
    x, kink = np.linspace(-2, 4, 500), -b / w
    flat = stats.norm.logpdf(x, c, sigma) + stats.norm.logcdf(kink)
    mean = w * (x - b - c) / (w * w + sigma**2)  # of the posterior, were it linear throughout
    width = sigma / np.sqrt(w * w + sigma**2)
    slope = stats.norm.logpdf(x, b + c, np.sqrt(w * w + sigma**2))
    slope += stats.norm.logsf(kink, mean, width)
    np.testing.assert_allclose(
        Quadrature(vae).log_evidence(x[:, None]), np.logaddexp(flat, slope), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("order", [8, 9])
def test_panels_see_kinks_wherever_they_are(order):
    # kills: a kink hidden between a cell's last node and its edge; agreement by accident
    t = np.concatenate([0.5 - np.geomspace(1e-6, 0.4, 300), np.linspace(-1, 1, 700)])

    def f(rows, u):
        return np.zeros(len(u)), np.abs(u - t[rows, None])

    rows, center = np.arange(len(t)), np.array([[-0.75], [-0.25], [0.25], [0.75]])
    cells = np.repeat(rows, 4), np.tile(center, (len(t), 1)), np.full(4 * len(t), 0.25)
    found = panels(f, rows, np.zeros(len(t)), *cells, order, 1e-10, 1 << 20, kinks=True)
    value = found.value[:, 0] * np.exp(found.log_scale)
    np.testing.assert_allclose(value, 1 + t * t, rtol=0, atol=1e-9)


def test_gauss_lobatto_integrates_polynomials():
    # kills: a wrong node or weight
    nodes, weights = gauss_lobatto(7)
    for degree in range(12):
        tight(weights @ nodes**degree, 2 / (degree + 1) if degree % 2 == 0 else 0)


def test_two_narrow_modes_far_apart_are_found_in_the_plane():
    # kills: a rule that takes a cell for empty when its nodes miss the peak
    vae = VAE(2, 2, hidden=(3,), likelihood="gaussian:0.003", dtype="float64")
    parameters = vae.parameters
    parameters["decoder.W0"][:] = [[1, 1, 0], [0, 0, 1]]
    parameters["decoder.b0"][:] = 1.9, -2.1, 0
    parameters["decoder.W1"][:] = [[1, 0], [-1, 0], [0, 1]]  # x_1 from z_1 alone, x_2 from z_2
    x = vae.decode([[2.5, 0.3]])
    found, alone = Quadrature(vae).posterior(x), 0
    axis = 1e-5 * np.arange(-400_000, 400_001)
    for d in (0, 1):
        z = np.zeros((len(axis), 1, 2))
        z[:, 0, d] = axis
        out, _ = vae.decoder(z)
        density = stats.norm.pdf(x[0, d], out[:, 0, d], 0.003) * stats.norm.pdf(axis)
        alone += np.log(density.sum() * 1e-5)
    tight(found.log_evidence, alone)


def test_a_narrow_correlated_posterior_needs_few_nodes():
    # kills: a box along the axes of z, on which a grid has to be 1000 times finer
    vae = VAE(2, 2, hidden=(), likelihood="gaussian:0.01", dtype="float64")
    vae.parameters["decoder.W0"][:] = [[1, 0.5], [1, 0.51]]
    x, exact = np.array([[0.3, 0.4]]), LinearGaussian.from_vae(vae)
    tight(Quadrature(vae, max_nodes=200_000).log_evidence(x), exact.log_evidence(x))


def test_a_posterior_inside_a_steep_step_is_found():
    # kills: a search as coarse as the first layer allows. Logits ±100 t(z) with t a step 1/5000
    # wide contradict x = (1, 1) on both sides of the step; only within it p(x|z) is not e^−100
    vae = VAE(2, 1, hidden=(1, 1), dtype="float64")
    parameters = vae.parameters
    parameters["decoder.W0"][:] = 1
    parameters["decoder.W1"][:] = 5000
    parameters["decoder.b1"][:] = -5000 * np.tanh(0.377)
    parameters["decoder.W2"][:] = [[100, -100]]
    model, x = Quadrature(vae), np.ones((1, 2))
    z = 0.377 + 5e-9 * np.arange(-200_000, 200_001)[:, None, None]
    expected = np.log(np.exp(model.log_joint(x, z)).sum() * 5e-9)
    assert expected > -20
    tight(model.log_evidence(x), expected)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_evidence_is_the_mean_importance_weight(likelihood):
    # kills: an evidence that is consistent with itself and yet not that of the VAE's own weights
    vae = small_vae(likelihood, scale=1.0)
    x = data_for(likelihood)
    rng = np.random.default_rng(5)
    mu, logvar = np.zeros((4, 2)), np.zeros((4, 2))
    log_w = log_weights(vae, x, mu, logvar, rng.standard_normal((20_000, 4, 2)))
    ratio = np.exp(log_w - Quadrature(vae).log_evidence(x))
    z = (ratio.mean(axis=0) - 1) / (ratio.std(axis=0) / np.sqrt(len(ratio)))
    assert np.abs(z).max() < 5


@pytest.mark.parametrize(
    "vae",
    [saturated(1, hidden=(8,), latent_dim=1), saturated(latent_dim=1, activation="relu")],
    ids=["trapezoidal", "panels"],
)
def test_doubling_the_nodes_changes_nothing(vae):
    # kills: an error estimate that is too kind
    x = all_binary(vae.data_dim)[1:3]
    coarse, fine = Quadrature(vae), Quadrature(vae, order=16, tolerance=1e-12)
    q = Gaussian.standard(2, vae.latent_dim)
    tight(coarse.log_evidence(x), fine.log_evidence(x))
    tight(coarse.expected_log_likelihood(x, q), fine.expected_log_likelihood(x, q))


def test_a_row_does_not_depend_on_its_company():
    # kills: a box, a scale or a chunk shared where it must not be; a result kept for another x
    vae = small_vae("gaussian:0.3", data_dim=2)
    x = np.random.default_rng(0).normal(size=(103, 2))
    x[50] = 30, -30  # makes the search go further out for everybody
    model = Quadrature(vae)
    together = model.posterior(x)
    for which in ([102, 0, 50], [102, 3]):
        for whole, part in zip(together, model.posterior(x[which])):
            tight(part, whole[which])


def test_the_vae_is_copied_and_computed_in_float64():
    # kills: a result that changes while the VAE goes on training, or is good to 7 digits
    vae = small_vae(dtype="float32", latent_dim=1)
    x = all_binary(3)
    model = Quadrature(vae)
    vae.parameters.flat[:] = 0
    tight(np.exp(model.log_evidence(x)).sum(), 1)
    assert np.ptp(model.log_evidence(x)) > 0.1
    tight(Quadrature(vae).log_evidence(x), -3 * np.log(2))


# The posterior and the bound


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_identities_of_the_bound(likelihood, latent_dim):
    # kills: a term of Eq. (6) to (22) that differs from its definition
    vae = small_vae(likelihood, scale=0.7, latent_dim=latent_dim)
    x, model = data_for(likelihood, n_rows=2), Quadrature(vae)
    q = Gaussian.from_encoder(vae, x)
    joint_form, kl_form = model.elbo_joint_form(x, q), model.elbo_kl_form(x, q)
    gap = model.kl_to_posterior(x, q)
    close(joint_form, kl_form)
    close(model.log_evidence(x), kl_form + gap)
    assert (gap > 0).all()
    close(gap, model.expected_log_q(q) - model.expected_log_posterior(x, q))
    close(model.kl_to_prior(q), model.expected_log_q(q) - model.expected_log_prior(q))
    tight(model.posterior_mass(x), 1)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_identities_hold_where_the_logits_are_saturated(latent_dim):
    # kills: clipped logits, and a rule for smooth integrands alone
    vae = saturated(1, latent_dim=latent_dim, data_dim=2, factor=20, hidden=(3,))
    x, model = all_binary(2)[1:2], Quadrature(vae)
    q = Gaussian.from_covariance(np.full((1, latent_dim), 0.3), 0.09 * np.eye(latent_dim))
    logits, _ = model.vae.decoder(np.random.default_rng(0).normal(size=(100, 1, latent_dim)))
    assert np.abs(logits).max() > 20
    close(model.elbo_joint_form(x, q), model.elbo_kl_form(x, q))
    close(model.log_evidence(x), model.elbo_kl_form(x, q) + model.kl_to_posterior(x, q))


@given(st.integers(0, 2**32), st.sampled_from(LIKELIHOODS))
@settings(max_examples=25)
def test_the_bound_holds_for_random_models(seed, likelihood):
    # kills: an evidence that loses part of the posterior: the ELBO of a q placed there exceeds it
    vae = small_vae(likelihood, scale=1.5, seed=seed, latent_dim=1)
    x, model = data_for(likelihood, seed=seed), Quadrature(vae)
    posterior = model.posterior(x)
    q = Gaussian.from_covariance(posterior.mean, posterior.cov)
    slack = 1e-8 * (1 + np.abs(posterior.log_evidence))
    assert (model.elbo_kl_form(x, q) <= posterior.log_evidence + slack).all()
    assert (model.kl_to_posterior(x, q) >= -slack).all()
    close(posterior.log_evidence, model.elbo_joint_form(x, q) + model.kl_to_posterior(x, q))


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_expectations_are_those_of_gauss_hermite(latent_dim):
    # kills: q's spread read as a variance or transposed, a mean in place of a sum
    vae = small_vae("binomial:16", scale=0.7, latent_dim=latent_dim)
    x, model = data_for("binomial:16", n_rows=2), Quadrature(vae)
    root = 0.7 * np.random.default_rng(2).normal(size=(2, latent_dim, latent_dim))
    cov = root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(latent_dim)
    q = Gaussian.from_covariance(np.outer([0.5, -1.0], np.ones(latent_dim)), cov)
    kl = model.kl_to_prior(q)
    found = {
        "log_q": model.expected_log_q(q),
        "log_prior": model.expected_log_prior(q),
        "log_likelihood": model.expected_log_likelihood(x, q),
        "log_joint": model.expected_log_joint(x, q),
        "log_posterior": model.expected_log_posterior(x, q),
    }
    for b in range(2):
        z, w = hermite(q.mean[b], q.chol[b])
        z, one = z[:, None], x[b : b + 1]
        expected = {
            "log_q": q.rows([b]).log_pdf(z),
            "log_prior": model.log_prior(z),
            "log_likelihood": model.log_likelihood(one, z),
            "log_joint": model.log_joint(one, z),
            "log_posterior": model.log_posterior(one, z),
        }
        for name, values in expected.items():
            close(found[name][b], w @ values[:, 0], err_msg=name)
        close(kl[b], w @ (expected["log_q"] - expected["log_prior"])[:, 0])


class Poisson(Likelihood):
    """Counts with rate e^l, l the decoder's output."""

    smooth = True

    def log_prob(self, x, out, parameters):
        log_p = x * out - np.exp(out) - special.gammaln(x + 1)
        return log_p.sum(
            axis=-1
        ), lambda dlogp, gradient=None: dlogp[..., None] * (x - np.exp(out))


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_likelihood_of_the_readers_own_is_integrated(latent_dim, smooth, monkeypatch):
    # kills: closed forms of the built-in likelihoods; a declared kink that is not heard
    monkeypatch.setattr(Poisson, "smooth", smooth)
    vae = small_vae(latent_dim=latent_dim, data_dim=1)
    vae = vae.with_parts(architecture=replace(vae.architecture, likelihood=Poisson()))
    p = np.exp(Quadrature(vae).log_evidence(np.arange(40.0)[:, None]))
    tight(p.sum(), 1)
    assert Quadrature(vae)._has_kinks is not smooth


def test_kl_form_uses_the_packages_own_kl():
    # kills: two closed forms of the Gaussian KL that disagree
    vae = small_vae()
    x = data_for("bernoulli")
    close(
        Quadrature(vae).kl_to_prior(Gaussian.from_encoder(vae, x)), gaussian_kl(*vae.encode(x))[0]
    )


def test_the_posterior_density_integrates_to_one_on_a_grid():
    # kills: log_posterior without its normalizing constant
    vae = small_vae(scale=1.0)
    model, axis = Quadrature(vae), np.linspace(-8, 8, 201)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2)
    density = np.exp(model.log_posterior(np.array([[1, 0, 1]]), z))
    close(density.sum() * (axis[1] - axis[0]) ** 2, 1)


@pytest.mark.parametrize("vae", [small_vae(scale=1.0), saturated(latent_dim=1)], ids=["", "10x"])
def test_a_wrong_evidence_is_noticed(vae, monkeypatch):
    # kills: a KL in which log p(x) cancels, so that Eq. (8) would hold for any evidence
    x, model, wrong = data_for("bernoulli"), Quadrature(vae), Quadrature(vae)
    right = model._solution
    q = Gaussian.standard(4, vae.latent_dim)

    def shifted(x):
        region, posterior = right(x)
        return region, posterior._replace(log_evidence=posterior.log_evidence + 1e-3)

    monkeypatch.setattr(wrong, "_solution", shifted)
    close(wrong.posterior_mass(x), np.exp(-1e-3))
    gap = wrong.log_evidence(x) - wrong.elbo_kl_form(x, q)
    assert (np.abs(gap - wrong.kl_to_posterior(x, q)) > 9e-4).all()


# Decoders of every kind, against brute force


def gaussian_bump(x):
    """An activation that is not monotonic: the one of the architecture page."""
    y = np.exp(-x * x)
    return y, lambda dy: dy * -2 * x * y


def hat(x):
    """An activation with kinks at −1, 0 and 1."""
    y = np.maximum(1 - np.abs(x), 0)
    return y, lambda dy: dy * -np.sign(x) * (y > 0)


def needle(x):
    """An activation with a detail 1/1000 wide, which no rule for units of width 1 can expect."""
    y = np.exp(-((1000 * (x - 0.377)) ** 2))
    return y, lambda dy: dy * -2e6 * (x - 0.377) * y


def as_activation(monkeypatch, f, **attributes):
    """Make `f` an activation for the duration of a test; return its name."""

    def activation(x):
        return f(x)

    vars(activation).update(attributes)
    monkeypatch.setitem(ACTIVATIONS, f.__name__, activation)
    return f.__name__


def random_vae(likelihood, activation, seed, **architecture):
    widths = {"data_dim": 3, "hidden": (4,), "dtype": "float64"} | architecture
    vae = VAE(likelihood=likelihood, activation=activation, **widths)
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng([seed, 41]).normal(0, 1.5, flat.size)
    return vae


def log_sum(log_f, cell):
    """log of a sum of e^log_f times the volume of a cell, for each column."""
    top = log_f.max(axis=0)
    return top + np.log(np.exp(log_f - top).sum(axis=0) * cell)


def brute_force(vae, x, center, reach, nodes):
    """Return log p(x, z) at equally spaced nodes in center ± reach, the nodes, and a cell."""
    axis = np.linspace(-reach, reach, nodes)
    z = np.stack(np.meshgrid(*[axis] * vae.latent_dim, indexing="ij"), axis=-1)
    z = center + z.reshape(-1, 1, vae.latent_dim)
    parts = [z[i : i + 20_000] for i in range(0, len(z), 20_000)]
    parts = [np.broadcast_to(part, (len(part), len(x), vae.latent_dim)) for part in parts]
    log_px = np.concatenate([vae.log_likelihood(x, part)[0] for part in parts])
    log_pz = stats.norm.logpdf(z).sum(axis=2)
    return log_px + log_pz, z, (axis[1] - axis[0]) ** vae.latent_dim


def test_the_mass_around_the_z_that_made_x_is_found():
    # kills: a narrow posterior of several parts of which a search loses one, without a word. The
    # integral over a small square around the z that x was made from is a lower bound
    vae = saturated(1, data_dim=2, factor=6, likelihood="gaussian:0.01")
    rng = np.random.default_rng(1)
    z = rng.standard_normal((8, 2))
    x = vae.decode(z) + 0.01 * rng.standard_normal((8, 2))
    at_least = [
        log_sum(log_f, cell)[0]
        for b in range(8)
        for log_f, _, cell in [brute_force(vae, x[b : b + 1], z[b], 0.02, 301)]
    ]
    found = Quadrature(vae).log_evidence(x)
    assert (found > np.array(at_least) - 1e-6).all()


@pytest.mark.parametrize("smooth", [{}, {"smooth": True}], ids=["undeclared", "smooth"])
def test_a_decoder_that_is_not_monotonic_is_integrated_as_any_other(smooth, monkeypatch):
    # kills: bounds on the decoder that assume increasing activations, and lose a part of z-space
    name = as_activation(monkeypatch, gaussian_bump, **smooth)
    for seed in range(60):
        likelihood = LIKELIHOODS[seed % len(LIKELIHOODS)]
        vae = random_vae(likelihood, name, seed, latent_dim=1)
        x = data_for(likelihood, n_rows=3, seed=seed)
        log_f, _, cell = brute_force(vae, x, 0, 14, 28_001)
        tight(Quadrature(vae).log_evidence(x), log_sum(log_f, cell), err_msg=str(seed))


def test_a_decoder_that_is_not_monotonic_in_the_plane(monkeypatch):
    # kills: the same with two latents
    name = as_activation(monkeypatch, gaussian_bump, smooth=True)
    for seed in range(6):
        likelihood = LIKELIHOODS[seed % len(LIKELIHOODS)]
        vae = random_vae(likelihood, name, seed, latent_dim=2)
        x = data_for(likelihood, n_rows=1, seed=seed)
        log_f, _, cell = brute_force(vae, x, 0, 10, 801)
        tight(Quadrature(vae).log_evidence(x), log_sum(log_f, cell), err_msg=str(seed))


def test_a_bump_between_two_nodes_is_seen(monkeypatch):
    # kills: a search as coarse for steep units as for others. The decoder's outputs are the same
    # on both sides of a bump 1/3000 wide, where x has probability e^−40; within it e^0
    name = as_activation(monkeypatch, gaussian_bump, smooth=True)
    vae = VAE(1, 1, hidden=(1,), activation=name, dtype="float64")
    for key, value in {"W0": 3000, "b0": -3000 * 0.377, "W1": 80, "b1": -40}.items():
        vae.parameters[f"decoder.{key}"][:] = value
    x = np.ones((1, 1))
    log_f, _, cell = brute_force(vae, x, 0.377, 0.002, 40_001)
    assert log_sum(log_f, cell) > -10
    tight(Quadrature(vae).log_evidence(x), log_sum(log_f, cell))


def test_what_the_encoder_knows_and_the_search_has_missed_is_refused(monkeypatch):
    # kills: the evidence of a posterior without its narrow peak
    name = as_activation(monkeypatch, needle, smooth=True)
    vae = VAE(1, 1, hidden=(1,), activation=name, dtype="float64")
    vae.parameters.flat[:] = 0
    vae.parameters["encoder.b1"][0] = 0.377
    for key, value in {"W0": 1, "W1": 80, "b1": -40}.items():
        vae.parameters[f"decoder.{key}"][:] = value
    with pytest.raises(QuadratureError, match=r"row 0 of x: .* narrow part that was missed"):
        Quadrature(vae).log_evidence(np.ones((1, 1)))


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_trained_softplus_decoders_with_little_noise(latent_dim):
    # kills: a refusal, or a search that gives up, where log p(x, z) reaches −100 000 nats
    digits = datasets.load_digits()
    vae = VAE(64, latent_dim, (16,), "softplus", "gaussian:0.01", dtype="float64")
    fit(vae, digits.grays("train"), epochs=3)
    x = digits.grays("test")[:3].astype(float)
    found = Quadrature(vae).log_evidence(x)
    for b in range(3):
        one, center = x[b : b + 1], np.zeros(latent_dim)
        for reach in (8, 1, 0.25, 0.1):
            log_f, z, cell = brute_force(vae, one, center, reach, 801 if latent_dim == 1 else 201)
            center = z[log_f[:, 0].argmax(), 0]
        assert found[b] < -1000
        tight(found[b], log_sum(log_f, cell)[0])


@pytest.mark.parametrize(("activation", "kinks"), [("relu", (0,)), ("hat", (-1, 0, 1))])
def test_kinks_are_integrated_to_the_tolerance(activation, kinks, monkeypatch):
    # kills: kinks stepped over; an activation that declares nothing taken for a smooth one
    as_activation(monkeypatch, hat)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    for seed in range(10):
        likelihood = LIKELIHOODS[seed % len(LIKELIHOODS)]
        vae = random_vae(likelihood, activation, seed, latent_dim=1, hidden=(6,))
        x = data_for(likelihood, seed=seed)
        W, b = vae.parameters["decoder.W0"][0], vae.parameters["decoder.b0"]
        ends = np.concatenate([(k - b) / W for k in kinks] + [np.linspace(-14, 14, 281)])
        ends = np.sort(ends[np.abs(ends) <= 14])  # within a panel all is smooth
        half = np.diff(ends)[:, None] / 2
        z = (ends[:-1, None] + half * (1 + nodes)).reshape(-1, 1, 1)
        z = np.broadcast_to(z, (len(z), len(x), 1))
        log_f = vae.log_likelihood(x, z)[0] + stats.norm.logpdf(z[..., 0])
        expected = log_sum(log_f + np.log((half * weights).reshape(-1, 1)), 1)
        np.testing.assert_allclose(
            Quadrature(vae).log_evidence(x), expected, rtol=0, atol=1e-9, err_msg=str(seed)
        )


def test_relu_with_two_latents_is_refused_before_many_nodes_are_spent(monkeypatch):
    # kills: half a minute of refinement that cannot succeed; or a value out of reach
    vae, nodes = small_vae(activation="relu", scale=1.0), []
    log_likelihood = VAE.log_likelihood

    def counted(self, x, z):
        nodes.append(z[..., 0].size)
        return log_likelihood(self, x, z)

    monkeypatch.setattr(VAE, "log_likelihood", counted)
    with pytest.raises(QuadratureError, match=r"row 0 of x: expected the quadrature to settle"):
        Quadrature(vae).log_evidence(data_for("bernoulli"))
    assert sum(nodes) < 400_000


def test_relu_with_two_latents_within_the_tolerance_that_is_asked_for():
    # kills: an error estimate for smooth integrands, which kinks fool
    vae = small_vae(activation="relu", scale=1.0)
    x = data_for("bernoulli", n_rows=2)
    log_f, _, cell = brute_force(vae, x, 0.003, 9, 2001)
    found = Quadrature(vae, tolerance=1e-6).log_evidence(x)
    np.testing.assert_allclose(found, log_sum(log_f, cell), rtol=0, atol=2e-6)


@pytest.mark.parametrize("sigma", [0.2, 0.01, 0.001])
@pytest.mark.parametrize("modes", [2, 4])
def test_separate_modes_in_the_plane_all_count(modes, sigma):
    # kills: the box of one mode alone; a round that adds nodes to the columns of the grid, but no
    # columns, taken for convergence. p(x) is a product over d; x_d is even about 0.1 or monotonic
    vae = VAE(2, 2, hidden=(4,), likelihood=f"gaussian:{sigma}", dtype="float64")
    parameters = vae.parameters
    parameters["decoder.W0"][:] = [[1, 1, 0, 0], [0, 0, 1, 1]]
    parameters["decoder.b0"][:] = 1.9, -2.1, 1.9, -2.1
    parameters["decoder.W1"][:] = [[1, 0], [-1, 0], [0, 1], [0, -1 if modes == 4 else 1]]
    x = vae.decode([[1.2, 1.9]])
    found, axis = Quadrature(vae).posterior(x), np.arange(-9, 9, min(sigma, 0.01) / 20)
    z, log_px, mean = np.zeros((len(axis), 1, 2)), 0, []
    for d in (0, 1):
        z[:] = 0
        z[:, 0, d] = axis
        density = stats.norm.pdf(x[0, d], vae.decoder(z)[0][:, 0, d], sigma) * stats.norm.pdf(axis)
        log_px += np.log(density.sum() * (axis[1] - axis[0]))
        mean.append(density @ axis / density.sum())
    tight(found.log_evidence, log_px)
    close(found.mean[0], mean)


def test_the_search_does_not_depend_on_its_blocks(monkeypatch):
    # kills: a block's edge left out, rows numbered within their block
    vae = small_vae("gaussian:0.01", scale=1.0)
    x = np.random.default_rng(0).normal(size=(6, 3))
    whole = Quadrature(vae).posterior(x)
    for name, size in (("_ELEMENTS", 1000), ("_ROWS", 4)):
        monkeypatch.setattr(f"numpyvae.exact.quadrature.{name}", size)
        for part, expected in zip(Quadrature(vae).posterior(x), whole):
            tight(part, expected)
    monkeypatch.setattr("numpyvae.exact.integration._TOGETHER", 1000)
    for part, expected in zip(Quadrature(vae).posterior(x), whole):
        tight(part, expected)


# The rules, without any VAE


def gaussians(*parts):
    """Return f for a sum of Gaussians exp(−½ (u − c)²/s²), given as (c, s), and its integral."""

    def f(rows, u):
        log_w = np.logaddexp.reduce([-0.5 * ((u[:, 0] - c) / s) ** 2 for c, s in parts])
        return log_w, np.ones((len(u), 1))

    return f, sum(s for _, s in parts) * np.sqrt(2 * np.pi)


def value_of(integral):
    return integral.value[:, 0] * np.exp(integral.log_scale)


@pytest.mark.parametrize("together", [1 << 20, 100], ids=["together", "alone"])
@pytest.mark.parametrize("c", [0.0339, 0.9037], ids=["in the middle", "far out"])
def test_no_grid_coarser_than_asked_for_is_trusted(c, together, monkeypatch):
    # kills: a narrow peak that no node of a coarse grid sees, where the sums agree without it
    monkeypatch.setattr("numpyvae.exact.integration._TOGETHER", together)
    f, expected = gaussians((0, 0.08), (c, 0.0003))
    found = trapezoidal(f, np.arange(2), 1, 1e-10, 1 << 20, least=np.full(2, 1000.0))
    tight(value_of(found), expected)


def test_a_step_between_neighbors_that_may_hide_a_peak_is_refined():
    # kills: convergence of the sums alone. The peak's flank shows at one node in 48ths, e^−26
    # high, which is less than the tolerance; its neighbors are 30 nats lower
    node, away = 29 / 48, 0.4 / 48
    f, expected = gaussians((0, 0.05), (node + away, away / np.sqrt(52)))
    found = trapezoidal(f, np.arange(1), 1, 1e-10, 1 << 20, least=48)
    tight(value_of(found), expected)


def test_a_panel_with_a_step_that_may_hide_a_peak_is_halved():
    # kills: agreement of halves and whole alone, likewise
    axis = 0.5625 + 0.0625 * gauss_lobatto(8)[0]  # nodes of the first half of [0.5, 0.75]
    away = 0.4 * (axis[5] - axis[4])
    f, expected = gaussians((0, 0.05), (axis[4] + away, away / np.sqrt(52)))
    center = np.arange(-0.875, 1, 0.25)[:, None]
    cells = np.zeros(8, int), center, np.full(8, 0.125)
    found = panels(f, np.arange(1), np.zeros(1), *cells, 8, 1e-10, 1 << 20, kinks=False)
    tight(value_of(found), expected)


def test_nodes_that_are_not_numbers_raise():
    # kills: NaN that only a fine grid meets
    def f(rows, u):
        return np.where(np.abs(u[:, 0] - 0.02) < 0.02, np.nan, -40 * u[:, 0] ** 2), np.ones_like(u)

    with pytest.raises(QuadratureError, match="row 0 of x: expected finite log densities"):
        trapezoidal(f, np.arange(1), 1, 1e-10, 1 << 20, least=100, shift=0.1)


def test_densities_too_low_to_tell_apart_raise():
    # kills: a crash, or a figure, where 40 nats are less than rounding
    vae = small_vae("gaussian:1e-12", latent_dim=1)
    with pytest.raises(QuadratureError, match="row 1 of x: expected log densities above -1e"):
        Quadrature(vae).log_evidence(np.stack([vae.decode([[0.0]])[0], np.ones(3)]))


def test_a_smooth_integral_that_needs_too_many_nodes_raises():
    # kills: refinement without end
    with pytest.raises(QuadratureError, match="row 0 of x: expected the quadrature to settle"):
        Quadrature(small_vae(scale=2.0), max_nodes=200).log_evidence(data_for("bernoulli"))


def test_the_posterior_mass_is_of_nodes_of_its_own(monkeypatch):
    # kills: a mass of 1 by construction: the nodes of log p(x), summed once more
    vae, seen = small_vae(latent_dim=1), []
    log_likelihood = VAE.log_likelihood

    def recorded(self, x, z):
        seen[-1].update(z.ravel().round(12))
        return log_likelihood(self, x, z)

    monkeypatch.setattr(VAE, "log_likelihood", recorded)
    model, x = Quadrature(vae), data_for("bernoulli")
    seen.append(set())
    model.log_evidence(x)
    seen.append(set())
    model.posterior_mass(x)
    assert len(seen[1]) > 50
    assert not seen[0] & seen[1]


# Where it cannot be right, it says so


def test_relu_with_two_latents_is_right_within_a_loose_tolerance():
    # kills: kinks that make the sums agree by accident
    vae = saturated(data_dim=2, activation="relu", factor=1)
    x = all_binary(2)
    model = Quadrature(vae, tolerance=1e-5)
    assert abs(np.exp(model.log_evidence(x)).sum() - 1) < 1e-5
    assert np.abs(model.posterior_mass(x) - 1).max() < 1e-5


def test_too_few_nodes_raise_and_name_the_row():
    # kills: the last figure returned as if it had converged, or the row's number within a chunk
    vae = small_vae("gaussian:0.5", data_dim=1, latent_dim=1, activation="relu")
    x = np.zeros((103, 1))
    with pytest.raises(QuadratureError, match=r"row \d+ of x: expected the quadrature to settle"):
        Quadrature(vae, max_nodes=100).log_evidence(x)
    vae = VAE(1, 1, hidden=(), likelihood="gaussian:0.1", dtype="float64")
    x[102] = 1e5
    with pytest.raises(QuadratureError, match="row 102 of x: expected a posterior that can be"):
        Quadrature(vae).log_evidence(x)


def test_a_decoder_too_steep_to_search_in_two_dimensions_raises():
    # kills: a search that overlooks what is narrower than its grid, and says nothing
    vae = saturated(data_dim=2, hidden=(8, 8), factor=20)
    with pytest.raises(QuadratureError, match=r"details can be searched through, got some 0\.00"):
        Quadrature(vae).log_evidence(np.ones((1, 2)))


def test_expectations_raise_too():
    # kills: a silent figure from the rule under q
    vae = saturated(activation="relu")
    with pytest.raises(QuadratureError, match="row 0 of x: expected the quadrature to settle"):
        Quadrature(vae, max_nodes=10_000).expected_log_likelihood(
            np.zeros((1, 3)), Gaussian.standard(1, 2)
        )


def test_an_overflowing_decoder_raises():
    # kills: NaN as an evidence
    vae = small_vae("gaussian:head", latent_dim=1, hidden=())
    vae.parameters["decoder.b0"][3:] = -1000.0  # σ² = e^−1000
    with pytest.raises(QuadratureError, match="finite log densities"):
        Quadrature(vae).log_evidence(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: Quadrature(VAE(3, 3)), "vae: expected at most 2 latents, got 3"),
        (lambda m: Quadrature(m), "vae: expected a VAE, got Quadrature"),
        (lambda m: Quadrature(m.vae, tolerance=0), "tolerance: expected a finite number above 0"),
        (lambda m: Quadrature(m.vae, order=1), "order: expected a whole number of at least 2"),
        (lambda m: m.log_evidence([[0, 1]]), "x: expected 3 columns, got 2"),
        (lambda m: m.log_evidence([[0, 1, 2]]), r"x: expected values in \[0, 1\]"),
        (lambda m: m.log_evidence([[0, 1, np.nan]]), "x: expected finite values"),
        (
            lambda m: m.elbo_kl_form([[0, 1, 1]], Gaussian.standard(2, 2)),
            r"\(1, 2\), got \(2, 2\)",
        ),
        (
            lambda m: m.kl_to_posterior([[0, 1, 1]], Gaussian.standard(1, 1)),
            r"\(1, 2\), got \(1, 1\)",
        ),
        (lambda m: m.expected_log_q(Gaussian.standard(1, 1)), r"\(B, 2\), got \(1, 1\)"),
        (lambda m: m.expected_log_prior("q"), "q: expected a numpyvae.exact.Gaussian, got str"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    # kills: a traceback from the depths of NumPy, or an answer
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call(Quadrature(small_vae()))
    assert "\n" not in str(caught.value)
