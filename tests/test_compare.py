"""Several bounds together, and L_k against k, for models whose evidence is known."""

import math
import tracemalloc

import numpy as np
import pytest
from conftest import data_for, small_vae
from scipy.special import logsumexp

from numpyvae import VAE, bounds
from numpyvae.bounds import compare_bounds, importance, importance_curve, simulate, streams
from numpyvae.bounds.compare import KINDS
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature
from numpyvae.support.streams import Purpose, row_noise

ALL = ("elbo", "iwae", "ais", "eubo", "cubo", "appendix-d", "exact")


def linear(latent_dim=2, data_dim=5, inflate=1.0):
    """A linear VAE and its exact model; q is the best diagonal one, its variances × `inflate`."""
    vae = VAE(data_dim, latent_dim, (), likelihood="gaussian:0.5", dtype="float64", seed=3)
    model = LinearGaussian.from_vae(vae)
    at_zero = model.posterior(np.zeros((1, data_dim))).mean
    p = vae.parameters
    p["encoder.W0"][:, :latent_dim] = model.posterior(np.eye(data_dim)).mean - at_zero
    p["encoder.W0"][:, latent_dim:] = 0
    variance = np.diagonal(model.best_diagonal(at_zero @ model.W.T).cov[0])
    p["encoder.b0"][:] = [*at_zero[0], *np.log(inflate * variance)]
    return vae, model


def standard_errors(values):
    return values.mean() / (values.std(ddof=1) / math.sqrt(values.size))


# L_k against k.


def test_the_curve_is_made_of_groups_of_the_same_draws(monkeypatch):
    # kills: groups that overlap, means of logarithms inside a group, other draws than L_K's
    vae, x = small_vae(), data_for("bernoulli")
    curve = importance_curve(vae, x, 23, seed=4)
    np.testing.assert_array_equal(curve.n_importance, [1, 2, 5, 10, 20, 23])
    eps = row_noise(4, Purpose.IMPORTANCE, x, 23, 2)
    log_w = bounds.log_weights(vae, x, *vae.encode(x), eps)
    for k, value in zip(*curve):
        groups = [logsumexp(log_w[i : i + k], axis=0) for i in range(0, 23 // k * k, k)]
        np.testing.assert_allclose(value, np.mean(groups, axis=0) - math.log(k), rtol=1e-12)
    expected = bounds.importance_log_likelihood(vae, x, 23, seed=4)
    np.testing.assert_array_equal(curve.values[-1], expected)
    monkeypatch.setattr(streams, "_CACHE", 1)
    again = importance_curve(vae, x, 23, seed=4)
    np.testing.assert_allclose(again.values, curve.values, rtol=1e-12)


def test_the_curve_increases_from_the_elbo_to_the_evidence():
    # kills: a curve that is not a bound, does not increase, or begins above the ELBO
    vae, model = linear(inflate=2.0)
    x = model.sample(300, seed=1)
    curve = importance_curve(vae, x, 500)
    exact = model.log_evidence(x)
    elbo = model.elbo_kl_form(x, Gaussian.diagonal(*vae.encode(x)))
    assert abs(standard_errors(curve.values[0] - elbo)) < 5
    assert abs((curve.values[0] - elbo).mean()) < 0.01
    means = curve.values.mean(axis=1)
    assert (np.diff(means[:6]) > 0).all()  # up to k = 50; then the steps are within the noise
    assert abs(standard_errors(curve.values[-1] - exact)) < 4
    assert abs(exact.mean() - means[-1]) < 0.01 < exact.mean() - means[0]


def test_weights_that_all_vanish_give_minus_infinity_on_the_curve():
    # kills: −∞ − (−∞) in a group
    vae, x = small_vae("gaussian:0.5", dtype="float32"), np.full((2, 3), 1e19)
    with np.errstate(over="ignore"):
        assert (importance_curve(vae, x, 7).values == -np.inf).all()


def test_memory_of_k_5000_is_that_of_its_weights():
    # kills: draws or decoder outputs kept for all k
    vae = small_vae(data_dim=64)
    x = data_for("bernoulli", 20, 64)
    tracemalloc.start()
    try:
        importance_curve(vae, x, 5000, memory=2.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6 + 5 * 8 * 5000 * 20 < 8 * 5000 * 20 * 64 / 5


def test_a_k_whose_weights_do_not_fit_is_refused_before_the_first_draw(monkeypatch):
    # kills: weights collected piece by piece, so that the memory is full only after hours
    monkeypatch.setattr(importance, "weigh_draws", lambda *_: pytest.fail("a draw was made"))
    with pytest.raises(MemoryError, match="allocate"):
        importance_curve(small_vae(), data_for("bernoulli"), 10**16)


# Several bounds together.


def test_with_the_exact_posterior_as_q_all_agree_to_1e_10():
    # kills: any error in a weight, or a constant that one of them lacks
    vae, model = linear(latent_dim=1)
    x, z = simulate(vae, 20)
    exact = model.log_evidence(x)
    names = ("elbo", "iwae", "ais", "eubo", "cubo", "exact")
    found = compare_bounds(vae, x, names, posterior=z, n_importance=9, n_temperatures=5)
    assert set(found.estimates) == {*names, "reverse-ais"}
    for estimate in found.estimates.values():
        np.testing.assert_allclose(estimate.values, exact, rtol=0, atol=1e-10)


def test_bounds_are_ordered_around_the_evidence():
    # kills: exchanged names of bounds, ELBO or L_K of other rows, errors that are not paired
    vae, model = linear(inflate=8.0)
    x, z = simulate(vae, 120)
    found = compare_bounds(
        vae, x, ALL, posterior=z, n_importance=20, n_temperatures=20, n_chains=2
    )
    assert list(found.estimates) == list(KINDS)
    e = found.estimates
    np.testing.assert_allclose(e["exact"].values, model.log_evidence(x), rtol=1e-12)
    for name, kind in KINDS.items():
        assert e[name].kind == kind
        difference, error = e[name].above(e["exact"])
        if kind == "lower bound":
            assert difference < 3 * error
        if kind == "upper bound":
            assert difference > -3 * error
        paired = e[name].values - e["exact"].values
        assert error == pytest.approx(paired.std(ddof=1) / math.sqrt(120), abs=1e-12)
    assert standard_errors(e["iwae"].values - e["elbo"].values) > 5
    assert standard_errors(e["reverse-ais"].values - e["ais"].values) > 4
    assert standard_errors(e["eubo"].values - e["elbo"].values) > 5
    assert found.gap == e["reverse-ais"].above(e["ais"])
    assert 0.5 < e["ais"].acceptance < 0.8
    assert found.n_rows == 120


def test_exact_by_quadrature_for_two_latents():
    # kills: a closed form where there is none
    vae, x = small_vae(), data_for("bernoulli", 3)
    found = compare_bounds(vae, x, "exact").estimates["exact"].values
    np.testing.assert_allclose(found, Quadrature(vae).log_evidence(x), rtol=1e-12)


def test_a_seed_gives_the_same_values_in_any_order_of_names():
    # kills: a stream that depends on which other bounds are computed
    vae, x = small_vae(), data_for("bernoulli")
    one = compare_bounds(vae, x, ["iwae", "elbo"], n_importance=10, seed=2).estimates
    two = compare_bounds(vae, x, ["cubo", "iwae"], n_importance=10, seed=2).estimates
    other = compare_bounds(vae, x, ["iwae"], n_importance=10, seed=3).estimates
    np.testing.assert_array_equal(one["iwae"].values, two["iwae"].values)
    assert not np.isclose(one["iwae"].values, other["iwae"].values, rtol=1e-9).any()


@pytest.mark.parametrize("names", [None, 3])
def test_names_that_are_not_a_list_get_one_clear_line(names):
    # kills: "object is not iterable", which names no argument
    with pytest.raises(TypeError, match=f"^bounds: expected a list of names, got {names}$"):
        compare_bounds(small_vae(), data_for("bernoulli"), names)


@pytest.mark.parametrize(
    ("names", "settings", "words"),
    [
        (["elbow"], {}, "bounds: expected one of elbo, iwae, .*got 'elbow'"),
        (["reverse-ais"], {}, "bounds: expected one of"),
        ([], {}, "bounds: expected some of"),
        (["eubo"], {}, "eubo: expected exact posterior draws"),
        (["elbo", "exact"], {}, "exact: expected a linear model .*or at most 2 latents"),
        (["elbo"], {"n_importance": 0}, "n_importance.*at least 1, got 0"),
        (["elbo"], {"n_chains": 0}, "n_chains.*at least 1, got 0"),
        (["elbo"], {"n_temperatures": 0}, "n_temperatures.*at least 1, got 0"),
        (["elbo"], {"memory": 1e-5}, "memory: expected at least"),
        (["iwae"], {"memory": 1e-5}, "memory: expected at least"),
        (["ais"], {"memory": 1e-5}, "memory: expected at least"),
    ],
)
def test_an_unavailable_bound_gets_one_clear_line(names, settings, words):
    # kills: a bound that is left out without an error
    vae, x = small_vae(latent_dim=3), data_for("bernoulli")
    with pytest.raises(ValueError, match=words) as caught:
        compare_bounds(vae, x, names, **settings)
    assert "\n" not in str(caught.value)
