"""Gap decomposition, ELBO surgery and rate–distortion, against models where each is known."""

import math
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import data_for, small_vae
from scipy.special import logsumexp
from scipy.stats import norm

from numpyvae import VAE
from numpyvae.bounds import compare_bounds
from numpyvae.bounds.streams import decoder_megabytes
from numpyvae.bounds.terms import row_terms
from numpyvae.core.distributions import gaussian_kl
from numpyvae.core.elbo import Estimate, Estimator
from numpyvae.diagnostics import (
    active_units,
    decompose_gap,
    elbo_surgery,
    rate_distortion,
    signal_to_noise,
)
from numpyvae.diagnostics.surgery import _Mixture
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature, exact_model
from numpyvae.inference import noise_nodes, variational_inference


def linear(latent_dim=3, data_dim=6, seed=0):
    """A linear-Gaussian VAE whose q is too wide and off its mean, its exact model, and data."""
    vae = VAE(data_dim, latent_dim, (), likelihood="gaussian:0.6", dtype="float64")
    vae.parameters.flat[:] = np.random.default_rng(seed).normal(0, 0.5, vae.parameters.flat.size)
    model = LinearGaussian.from_vae(vae)
    zero, eye = np.zeros((1, data_dim)), np.eye(data_dim)
    at_zero, at_one = model.posterior(zero).mean, model.posterior(eye).mean
    p = vae.parameters
    p["encoder.W0"][:] = np.hstack([at_one - at_zero, 0.02 * p["encoder.W0"][:, latent_dim:]])
    variance = np.diagonal(model.best_diagonal(zero).cov[0])
    p["encoder.b0"][:] = [*(at_zero[0] + 0.2), *np.log(1.5 * variance)]
    return vae, model, model.sample(150, seed=1)


def standard_errors(values):
    return values.mean() / (values.std(ddof=1) / math.sqrt(values.size))


# The gap and its two parts.


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_gaps_of_a_linear_model_are_those_in_closed_form(latent_dim):
    # kills: gaps with their names exchanged, q* from another row, a KL of the wrong q
    vae, model, x = linear(latent_dim)
    gaps = decompose_gap(vae, x, model, max_iterations=300)
    best, encoder = model.best_diagonal(x), Gaussian.diagonal(*vae.encode(x))
    np.testing.assert_allclose(gaps.mu, best.mean, atol=1e-5)
    np.testing.assert_allclose(np.exp(gaps.logvar), np.diagonal(best.cov, 0, -2, -1), rtol=1e-5)
    np.testing.assert_array_equal(gaps.log_likelihood, model.log_evidence(x))
    approximation = model.kl_to_posterior(x, best)
    amortization = model.kl_to_posterior(x, encoder) - approximation
    assert amortization.mean() > 0.1
    assert (approximation.mean() > 0.02) == (latent_dim > 1)
    for found, exact in (
        (gaps.log_likelihood - gaps.best_elbo, approximation),
        (gaps.best_elbo - gaps.elbo, amortization),
    ):
        assert abs(standard_errors(found - exact)) < 5
        assert abs((found - exact).mean()) < 0.03
    assert gaps.total[0] == pytest.approx(gaps.approximation[0] + gaps.amortization[0])
    assert "log p(x) of LinearGaussian" in str(gaps)


def test_the_best_q_is_measured_on_draws_that_it_was_not_fitted_to():
    # kills: ELBO(q*) with the nodes of its own fit, which is too high
    vae = small_vae(scale=2.0, data_dim=8, latent_dim=1)
    x, exact = data_for("bernoulli", 60, 8), Quadrature(vae)
    nodes = noise_nodes(1, 2)  # only two nodes: the ELBO of the fit is too high
    gaps = decompose_gap(vae, x, exact, n_nodes=2)
    true = exact.elbo_kl_form(x, Gaussian.diagonal(gaps.mu, gaps.logvar))
    assert variational_inference(vae, x, nodes=nodes, max_iterations=100).elbo > true.mean() + 0.05
    assert abs(standard_errors(gaps.best_elbo - true)) < 5
    assert abs((gaps.best_elbo - true).mean()) < 0.02
    finer = decompose_gap(vae, x, exact)
    assert finer.approximation[0] < gaps.approximation[0] - 0.05
    assert 0 < finer.approximation[0] < finer.total[0]


def test_log_p_is_annealed_exact_or_given():
    # kills: a source that is not the one used, a bound from above in place of AIS
    vae, model, x = linear()
    x = x[:40]
    annealed = decompose_gap(vae, x, n_samples=2, n_chains=32, max_iterations=2)
    np.testing.assert_allclose(annealed.log_likelihood, model.log_evidence(x), atol=0.1)
    assert "AIS, a lower bound" in annealed.source
    given = decompose_gap(vae, x, model.log_evidence(x), n_samples=2, max_iterations=2)
    np.testing.assert_array_equal(given.log_likelihood, model.log_evidence(x))
    assert given.source == "as given"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"log_likelihood": [1.0]}, ValueError, r"log_likelihood: .* 3 finite numbers.*\(1,\)"),
        ({"log_likelihood": [1.0, np.nan, 0]}, ValueError, "log_likelihood: .*finite"),
        ({"log_likelihood": "exact"}, ValueError, "log_likelihood: expected an exact model"),
        ({"n_samples": 0}, ValueError, "n_samples.*at least 1, got 0"),
        ({"n_nodes": 1}, ValueError, "n_nodes.*at least 2, got 1"),
        ({"max_iterations": 0}, ValueError, "max_iterations"),
        ({"n_temperatures": 0, "log_likelihood": None}, ValueError, "n_temperatures"),
        ({"n_chains": 0, "log_likelihood": None}, ValueError, "n_chains"),
        ({"memory": 1e-4}, ValueError, "memory: expected at least"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_settings_of_the_gap_get_one_clear_line(settings, error, words):
    # kills: a setting that is taken as something else
    vae, _, x = linear()
    with pytest.raises(error, match=words) as caught:
        decompose_gap(vae, x[:3], **({"log_likelihood": np.zeros(3)} | settings))
    assert "\n" not in str(caught.value)


def test_new_draws_that_do_not_fit_into_memory_are_refused_first(monkeypatch):
    # kills: an error only after the annealing
    vae, _, x = linear()
    monkeypatch.setattr("numpyvae.bounds.ais.annealed_log_likelihood", None)
    with pytest.raises(ValueError, match="memory: expected at least"):
        decompose_gap(vae, x[:3], n_samples=10**6)


def test_the_search_stays_within_its_memory():
    # kills: all rows in one search
    vae = VAE(200, 3, (50,))
    x = vae.sample(60)
    budget = 6 * 24 * decoder_megabytes(vae)
    variational_inference(vae, x[:1], max_iterations=1)  # loads what it needs
    tracemalloc.start()
    try:
        decompose_gap(vae, x, np.zeros(60), n_samples=50, max_iterations=3, memory=budget)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert budget / 4 < peak < budget


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ({"latent_dim": 5, "hidden": (), "likelihood": "gaussian:0.5"}, LinearGaussian),
        ({"latent_dim": 5, "hidden": (), "likelihood": "gaussian:learned"}, LinearGaussian),
        ({"latent_dim": 2, "hidden": (), "likelihood": "gaussian:head"}, Quadrature),
        ({"latent_dim": 2}, Quadrature),
        ({"latent_dim": 3, "hidden": ()}, type(None)),
        ({"latent_dim": 3, "hidden": (4,), "likelihood": "gaussian:0.5"}, type(None)),
    ],
)
def test_the_exact_model_is_found_where_there_is_one(architecture, kind):
    # kills: a closed form claimed for a model that has none
    assert isinstance(exact_model(VAE(4, **architecture)), kind)


# Terms for each datapoint.


def test_terms_of_a_datapoint_do_not_depend_on_the_other_rows_or_the_memory():
    # kills: draws shared by rows, blocks that are dropped, draws that differ between two q
    vae, x = small_vae(), data_for("bernoulli", 9)
    q = vae.encode(x)

    def terms(x, *qs, memory=32.0):
        return row_terms(vae, x, *qs, n_samples=6, purpose=1, seed=3, memory=memory)

    whole, again = terms(x, q, q)
    np.testing.assert_array_equal(whole.elbo, again.elbo)
    (part,) = terms(x, q, memory=13 * decoder_megabytes(vae))
    (alone,) = terms(x[:4], [a[:4] for a in q])
    np.testing.assert_allclose(part.elbo, whole.elbo, rtol=1e-12)
    np.testing.assert_allclose(alone.elbo, whole.elbo[:4], rtol=1e-12)
    (mixed,) = terms(x[::-1], [a[::-1] for a in q])
    np.testing.assert_allclose(mixed.elbo, whole.elbo[::-1], rtol=1e-12)


def test_the_draws_of_a_datapoint_come_in_pairs(monkeypatch):
    # kills: ε twice in place of ±ε, and fewer draws than requested
    vae = VAE(1, 1, (), likelihood="gaussian:1", dtype="float64")
    x = np.array([[2.0]])
    q = np.zeros((1, 1)), np.zeros((1, 1))
    counts = []
    original = VAE.log_likelihood

    def counted(self, x, z):
        counts.append(len(z))
        return original(self, x, z)

    monkeypatch.setattr(VAE, "log_likelihood", counted)
    for n in (1, 2, 7, 8):
        # −½ (x − wε)²: of its odd powers nothing is left, so w and −w are the same.
        found = []
        for w in (-1, 1):
            vae.parameters["decoder.W0"][:] = w
            found += row_terms(vae, x, q, n_samples=n, purpose=1, seed=0)
        left, right = found
        assert left.reconstruction == pytest.approx(right.reconstruction, rel=1e-12)
    assert counts == [2, 2, 2, 2, 8, 8, 8, 8]


@pytest.mark.parametrize(
    ("function", "n_draws"),
    [
        (lambda vae, x, memory: rate_distortion(vae, x, n_samples=5, memory=memory), 6),
        (lambda vae, x, memory: compare_bounds(vae, x, ["elbo"], memory=memory), 100),
    ],
    ids=["rate_distortion", "compare_bounds"],
)
def test_the_draws_that_are_taken_together_fit_into_the_memory(function, n_draws, monkeypatch):
    # kills: a budget that is not passed on, or counts pairs ±ε as one draw
    vae, x, taken = small_vae(), data_for("bernoulli", 9), []
    original = VAE.log_likelihood

    def watched(self, x, z):
        taken.append(z.shape[:2])
        return original(self, x, z)

    monkeypatch.setattr(VAE, "log_likelihood", watched)
    function(vae, x, 2.5 * n_draws * decoder_megabytes(vae))
    assert taken == [(n_draws, 2)] * 4 + [(n_draws, 1)]


# ELBO surgery.


def encoder_for(mu, logvar):
    """A VAE whose q(z|x_n) has row n of μ and log σ², for x the rows of the unit matrix."""
    N, J = mu.shape
    vae = VAE(N, J, (), dtype="float64")
    vae.parameters["encoder.W0"][:] = np.concatenate([mu, logvar], axis=1)
    return vae, np.eye(N)


def by_quadrature(mu, logvar):
    """I_q and KL(q(z) ‖ p(z)) of a one-dimensional mixture, on a grid."""
    z = np.linspace(-14, 14, 40_001)[:, None]
    log_q = norm.logpdf(z, mu[:, 0], np.exp(logvar[:, 0] / 2))  # (grid, N)
    log_mix = logsumexp(log_q, axis=1, keepdims=True) - math.log(len(mu))
    dz = z[1] - z[0]
    information = (np.exp(log_q) * (log_q - log_mix)).sum(axis=0) * dz
    mismatch = (np.exp(log_mix) * (log_mix - norm.logpdf(z))).sum() * dz
    return information.mean(), mismatch.item()


def test_surgery_against_quadrature_of_the_mixture():
    # kills: a mixture without the own component, log N missing, the two parts exchanged
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(0, 1.0, (5, 1)), rng.normal(-1, 0.5, (5, 1))
    vae, x = encoder_for(mu, logvar)
    information, mismatch = by_quadrature(mu, logvar)
    assert 0.15 < information < math.log(5) - 0.2
    parts = [elbo_surgery(vae, x, n_samples=1000, seed=s) for s in range(20)]
    for found, exact in (("information", information), ("mismatch", mismatch)):
        means = np.array([getattr(p, found)[0] for p in parts])
        assert means.std() < 0.03
        assert abs(standard_errors(means - exact)) < 5
    kl = gaussian_kl(mu, logvar)[0].mean()
    assert information + mismatch == pytest.approx(kl, abs=1e-9)
    for p in parts:  # the identity, to rounding
        assert p.information[0] + p.mismatch[0] == pytest.approx(kl, abs=1e-12)


def test_surgery_at_both_ends():
    # kills: information from equal codes, and information above log N
    rng = np.random.default_rng(1)
    same = np.tile(rng.normal(0, 1, (1, 2)), (30, 1))
    parts = elbo_surgery(*encoder_for(same, 0.3 * same))
    np.testing.assert_allclose(parts.mutual_information, 0, atol=1e-12)
    np.testing.assert_allclose(parts.marginal_kl, parts.kl, atol=1e-12)
    apart = 100.0 * np.arange(30)[:, None] * [1, -1]
    parts = elbo_surgery(*encoder_for(apart, same), seed=2)
    np.testing.assert_allclose(parts.mutual_information, parts.most, atol=1e-9)
    assert parts.most == pytest.approx(math.log(30))


def test_regression_removes_noise_and_keeps_the_mean():
    # kills: a slope of the wrong sign, which would double the noise
    rng = np.random.default_rng(2)
    vae, x = encoder_for(rng.normal(0, 1, (400, 3)), rng.normal(-1, 0.3, (400, 3)))
    found = np.array([elbo_surgery(vae, x, seed=s).information[0] for s in range(30)])
    many = elbo_surgery(vae, x, n_samples=200).information[0]
    assert abs(standard_errors(found - many)) < 5
    assert found.std() < 0.04  # 0.06 without


@pytest.mark.parametrize(("center", "tolerance"), [(5.0, 1e-12), (1e5, 1e-9)])
def test_the_mixture_against_scipy_for_any_center(center, tolerance):
    # kills: a missing scale, a center that is not taken back, precision lost far from zero
    rng = np.random.default_rng(3)
    centers = center * np.array([1, -1, 0.5])
    mu, logvar = rng.normal(centers, 2, (7, 3)), rng.normal(0, 1, (7, 3))
    z = mu + np.exp(logvar / 2) * rng.normal(0, 1, (7, 3))
    log_q = norm.logpdf(z[:, None], mu, np.exp(logvar / 2)).sum(axis=-1)
    expected = logsumexp(log_q, axis=1) - math.log(7) + 1.5 * math.log(2 * math.pi)
    own = np.diagonal(log_q) + 1.5 * math.log(2 * math.pi)
    found = [_Mixture(mu, logvar).log_density(z[i:j], own[i:j], i) for i, j in ((0, 3), (3, 7))]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=tolerance)


@pytest.mark.parametrize("logvar", [-50.0, 50.0])
def test_surgery_with_extreme_variances_stays_finite(logvar):
    # kills: a difference of squares that comes out below zero, and overflows in exp
    rng = np.random.default_rng(4)
    mu = np.repeat(rng.normal(0, 1, (4, 2)), 5, axis=0)  # codes that coincide, five at a time
    vae, x = encoder_for(mu, np.full((20, 2), logvar))
    parts = elbo_surgery(vae, x)
    assert np.isfinite(parts.mutual_information).all()
    assert -1e-9 < parts.information[0] < parts.most + 1e-9


def test_surgery_in_little_memory():
    # kills: an N × N table, and blocks in the wrong place
    rng = np.random.default_rng(5)
    vae, x = encoder_for(rng.normal(0, 1, (600, 2)), rng.normal(-1, 0.3, (600, 2)))
    whole = elbo_surgery(vae, x, n_samples=2, seed=1)
    tracemalloc.start()
    try:
        part = elbo_surgery(vae, x, n_samples=2, seed=1, memory=0.3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(part.mutual_information, whole.mutual_information, rtol=1e-9)
    assert peak < 8 * 600 * 600 < 3e6
    other = elbo_surgery(vae, x, n_samples=2, seed=2)
    assert not np.isclose(other.mutual_information, whole.mutual_information, rtol=1e-6).any()
    with pytest.raises(ValueError, match=r"memory: expected at least .* 600 components"):
        elbo_surgery(vae, x, memory=1e-3)
    with pytest.raises(ValueError, match=r"n_samples.*at least 1, got 0"):
        elbo_surgery(vae, x, n_samples=0)


# Rate and distortion.


def test_rate_and_distortion_are_the_terms_of_the_elbo():
    # kills: a sign, a term divided by D, a deviation in place of a standard error
    vae, model, x = linear()
    q = Gaussian.diagonal(*vae.encode(x))
    point = rate_distortion(vae, x, n_samples=200)
    rate, distortion = model.kl_to_prior(q), -model.expected_log_likelihood(x, q)
    assert point.rate[0] == pytest.approx(rate.mean(), rel=1e-12)
    assert point.rate[1] == pytest.approx(rate.std(ddof=1) / math.sqrt(150), rel=1e-12)
    assert point.distortion[0] == pytest.approx(distortion.mean(), abs=0.05)
    assert point.distortion[1] == pytest.approx(distortion.std() / math.sqrt(150), rel=0.1)
    assert point.elbo[0] == pytest.approx(-point.rate[0] - point.distortion[0], rel=1e-12)
    with pytest.raises(ValueError, match="n_samples"):
        rate_distortion(vae, x, n_samples=0)


# Active units.


def test_a_unit_is_active_if_its_mean_varies_with_x():
    # kills: E[μ²] or a deviation in place of the variance, the variance over the latents
    mu = np.array([[5.0, 0.0, 0.0], [5.0, 0.3, 0.09]])  # variances 0, 0.045, 0.004
    vae, x = encoder_for(mu, np.zeros((2, 3)))
    assert active_units(vae, x).tolist() == [False, True, False]
    assert active_units(vae, x, 0.003).tolist() == [False, True, True]
    assert active_units(vae, x, 0.03).tolist() == [False, True, False]
    assert active_units(vae, x, 0.05).tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("threshold", "error"), [(-1, ValueError), (np.nan, ValueError), ("a", TypeError)]
)
def test_a_bad_threshold_gets_one_clear_line(threshold, error):
    # kills: a threshold that calls every unit active, or none
    with pytest.raises(error, match=r"threshold: expected a .*number of at least 0"):
        active_units(VAE(4, 2, (3,)), np.eye(4), threshold)


@pytest.mark.parametrize("function", [active_units, decompose_gap, elbo_surgery, rate_distortion])
def test_values_outside_the_support_get_one_clear_line(function):
    # kills: grays 0 … 255 given to a Bernoulli model, whose every unit is then active
    x = np.array([[0.0, 255.0, 17.0, 0.0], [3.0, 0.0, 0.0, 1.0]])
    with pytest.raises(
        ValueError, match=r"^x: expected values in \[0, 1\] .*got .*to 255; [^\n]*$"
    ):
        function(VAE(4, 2, (3,)), x)


@dataclass(frozen=True)
class Known(Estimator):
    """Gradients N(m, I) in φ: their signal-to-noise ratio is m, whatever the number of entries."""

    m: float = 0.0

    def estimate(self, vae, x, eps, update="both"):
        gradient = vae.parameters.zeros_like()
        part = gradient.part(update)
        noise = np.random.default_rng(abs(int(1e9 * eps[0, 0, 0]))).standard_normal(part.size)
        part[:] = self.m + noise
        return Estimate(0.0, 0.0, 0.0, gradient)


def test_the_signal_to_noise_ratio_of_known_gradients():
    # Kills: the noise of the mean counted as signal, the deviation of one entry in place of all,
    # the slice of the other parameters.
    vae = VAE(4, 2, (3,), dtype="float64")
    x = np.eye(4)
    for update in ("phi", "theta", "both"):
        ratio = signal_to_noise(Known(m=0.5), vae, x, update=update, n=400)
        assert abs(ratio - 0.5) < 0.02
    weak = [signal_to_noise(Known(), vae, x, n=50, seed=seed) for seed in range(8)]
    assert np.nanmax([0.0, *weak]) < 0.1  # uncorrected it is 1/√50 = 0.14
    assert np.isnan(weak).any()
