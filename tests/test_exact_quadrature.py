"""Evidence and expectations by quadrature: right to ten digits, or a QuadratureError."""

import functools
import itertools

import numpy as np
import pytest
from conftest import LIKELIHOODS, data_for, small_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from numpyvae import VAE
from numpyvae.bounds import log_weights
from numpyvae.core.distributions import gaussian_kl
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature, QuadratureError
from numpyvae.exact.adaptive import adaptive_rule, gauss_lobatto
from numpyvae.exact.scan import ceiling, graded_axis, scan

close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8)
tight = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def saturated(seed=0, *, data_dim=3, latent_dim=2, hidden=(4,), factor=10, **architecture):
    """Return a model with weights as drawn × 10, whose logits reach ±100 behind steep walls."""
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
    # kills: any error of the evidence, with no reference but probability: a lost mode, a wall
    # stepped over, a region cut short, a kink that parent and children agree to miss
    vae = saturated(**architecture)
    p = np.exp(Quadrature(vae).log_evidence(all_binary(vae.data_dim)))
    tight(p.sum(), 1)


def test_two_narrow_modes_far_apart_are_both_found():
    # kills: a rule placed at the posterior's mode, which loses the other; and a search that
    # trusts nodes alone: one mode is at a node of the lattice, the other 40 widths from any
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
def test_the_adaptive_rule_sees_kinks_wherever_they_are(order):
    # kills: a kink hidden between a cell's last node and its edge; agreement by accident
    t = np.concatenate([0.5 - np.geomspace(1e-6, 0.4, 300), np.linspace(-1, 1, 700)])

    def f(rows, u):
        return np.zeros(u.shape[:2]), np.abs(u - t[rows, None, None])

    cells = np.full((len(t), 1), 4)
    found = adaptive_rule(f, cells, 1, order, 1e-10, 1 << 20, kinks=True)
    np.testing.assert_allclose(found.at(np.zeros(len(t)))[:, 0], 1 + t * t, rtol=0, atol=1e-9)


def test_gauss_lobatto_integrates_polynomials():
    # kills: a wrong node or weight
    nodes, weights = gauss_lobatto(7)
    for degree in range(12):
        tight(weights @ nodes**degree, 2 / (degree + 1) if degree % 2 == 0 else 0)


def test_two_narrow_modes_far_apart_are_found_in_the_plane():
    # kills: an adaptive rule that takes a cell for empty when its nodes miss the peak
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


def test_a_narrow_correlated_posterior_needs_no_adaptive_rule():
    # kills: frames along the axes of z, on which a lattice has to be 1000 times finer
    vae = VAE(2, 2, hidden=(), likelihood="gaussian:0.01", dtype="float64")
    vae.parameters["decoder.W0"][:] = [[1, 0.5], [1, 0.51]]
    x, exact = np.array([[0.3, 0.4]]), LinearGaussian.from_vae(vae)
    tight(Quadrature(vae, max_nodes=1).log_evidence(x), exact.log_evidence(x))


def test_a_posterior_inside_a_steep_wall_is_found():
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
    ids=["lattice", "adaptive"],
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
        frame, points, posterior = right(x)
        return frame, points, posterior._replace(log_evidence=posterior.log_evidence + 1e-3)

    monkeypatch.setattr(wrong, "_solution", shifted)
    close(wrong.posterior_mass(x), np.exp(-1e-3))
    gap = wrong.log_evidence(x) - wrong.elbo_kl_form(x, q)
    assert (np.abs(gap - wrong.kl_to_posterior(x, q)) > 9e-4).all()


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
    # kills: a search that overlooks what is narrower than its lattice, and says nothing
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


@given(
    st.integers(0, 2**32),
    st.sampled_from(LIKELIHOODS),
    st.sampled_from(["tanh", "relu", "softplus", "sigmoid"]),
)
def test_the_ceiling_is_never_below_the_likelihood(seed, likelihood, activation):
    # kills: a bound that lets the search stop too early
    vae = small_vae(likelihood, scale=1.5, seed=seed, activation=activation, hidden=(4, 3))
    x = data_for(likelihood, seed=seed)
    z = np.random.default_rng(seed).uniform(-5, 5, size=(200, 4, 2))
    assert (vae.log_likelihood(x, z)[0] <= ceiling(vae, x, 5.0) + 1e-9).all()


def test_the_ceiling_is_attained_by_a_linear_decoder():
    # kills: a bound so loose that every search goes out to the end
    vae = VAE(1, 1, hidden=(), likelihood="gaussian:0.5", dtype="float64")
    vae.parameters["decoder.W0"][:] = 2
    expected = stats.norm.logpdf([0, 11], [0, 10], 0.5)
    tight(ceiling(vae, np.array([[0.0], [11.0]]), 5.0), expected)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_search_in_slabs_is_the_search_in_one(latent_dim, monkeypatch):
    # kills: a slab's edge without its neighbors, a slab left out
    vae = small_vae("gaussian:0.01", latent_dim=latent_dim, scale=1.0)
    x, axis = np.random.default_rng(0).normal(size=(6, 3)), graded_axis(9.0, 0.25)
    whole = scan(vae, x, axis)
    for elements in (100, 1000, 2000):
        monkeypatch.setattr("numpyvae.exact.scan._ELEMENTS", elements)
        for part, expected in zip(scan(vae, x, axis), whole):
            tight(part, expected)


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
