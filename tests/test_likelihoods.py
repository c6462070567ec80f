"""Likelihoods: log p against SciPy with all constants, pullbacks, draws, accepted data."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
from conftest import LIKELIHOODS, data_for
from scipy import special, stats
from test_layers import check_pullback, draw

from numpyvae import VAE
from numpyvae.core import likelihoods
from numpyvae.core.parameters import Parameters

D = 3
LOGVAR = np.array([-1.0, 0.4, 2.0])


def with_parameters(name, logvar=LOGVAR):
    """Return a likelihood for D columns and the parameters that it owns."""
    likelihood = likelihoods.parse_likelihood(name)
    own = Parameters({}, likelihood.parameter_shapes(D), dtype=logvar.dtype)
    own.flat[:] = logvar[: own.flat.size]
    return likelihood, own


def outputs(likelihood, *lead, seed=0):
    return 1.5 * draw(*lead, likelihood.heads * D, seed=seed)


def distribution(name, out):
    """Return the same distribution from SciPy, whose log densities are per pixel."""
    family, _, detail = name.partition(":")
    if family == "gaussian":
        mu, logvar = out, LOGVAR
        if detail == "head":
            mu, logvar = out[..., :D], out[..., D:]
        sigma = np.exp(logvar / 2) if detail in ("learned", "head") else float(detail)
        return stats.norm(mu, sigma)
    return stats.binom(int(detail or 1), special.expit(out))


def check_log_prob(name):
    """Kills a missing constant, a missing σ, a per-pixel mean, heads the wrong way round."""
    likelihood, own = with_parameters(name)
    x, out = data_for(name, 4, D), outputs(likelihood, 2, 4)
    logp, _ = likelihood.log_prob(x, out, own)
    p = distribution(name, out)
    exact = (p.logpdf(x) if name.startswith("gaussian") else p.logpmf(x)).sum(axis=-1)
    np.testing.assert_allclose(logp, exact, rtol=1e-12, atol=1e-12)


def check_log_prob_pullback(name):
    """Kills a gradient of log σ² that is lost, averaged over samples, or added up."""
    likelihood, own = with_parameters(name)
    x = data_for(name, 4, D)

    def f(out, logvar):
        views = own.like(logvar)
        logp, pull = likelihood.log_prob(x, out, views)

        def pull_all(dlogp):
            gradient = own.like(np.full(own.flat.size, np.nan))
            dout = pull(dlogp, gradient)
            assert np.array_equal(pull(dlogp), dout)
            return dout, gradient.flat

        return logp, pull_all

    check_pullback(f, outputs(likelihood, 2, 4), own.flat)


def check_moments_and_draws(name):
    """Kills σ² for σ in a draw, p for n p in a mean, draws that share one random number."""
    likelihood, own = with_parameters(name)
    n = 100_000
    row = outputs(likelihood, seed=3)
    drawn = likelihood.draw(np.tile(row, (n, 1)), own, np.random.default_rng(0))
    p = distribution(name, row)
    np.testing.assert_allclose(likelihood.mean(row), p.mean(), rtol=1e-12)
    z = (drawn.mean(axis=0) - p.mean()) / (p.std() / math.sqrt(n))
    assert (abs(z) < 5).all()
    squares = (drawn - p.mean()) ** 2
    z = (squares.mean(axis=0) - p.var()) / (squares.std(axis=0) / math.sqrt(n))
    assert (abs(z) < 5).all()
    z = np.corrcoef(drawn.T)[np.triu_indices(D, 1)] * math.sqrt(n)
    assert (abs(z) < 5).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        likelihood.check(drawn)


def test_log_prob_against_scipy(likelihood):
    check_log_prob(likelihood)


def test_log_prob_pullback(likelihood):
    check_log_prob_pullback(likelihood)


def test_mean_and_draws(likelihood):
    check_moments_and_draws(likelihood)


def test_float32_stays_float32(likelihood):
    """Kills zeros, constants and draws made in the default dtype."""
    found, own = with_parameters(likelihood, LOGVAR.astype("float32"))
    out = outputs(found, 2, 4).astype("float32")
    logp, pull = found.log_prob(data_for(likelihood, 4, D).astype("float32"), out, own)
    drawn = found.draw(out[0], own, np.random.default_rng(0))
    dout = pull(np.ones_like(logp), own.zeros_like())
    assert {a.dtype.name for a in (logp, dout, found.mean(out), drawn)} == {"float32"}


def test_squared_error_is_a_gaussian_with_variance_one_half():
    """Kills σ read as σ² in `gaussian:SIGMA`."""
    found, own = with_parameters(f"gaussian:{math.sqrt(0.5)!r}")
    x, out = data_for("gaussian", 4, D), draw(1, 4, D)
    logp, _ = found.log_prob(x, out, own)
    squared_error = ((x - out) ** 2).sum(axis=-1)
    np.testing.assert_allclose(logp, -squared_error - D / 2 * math.log(math.pi), rtol=1e-13)


def test_the_n_of_a_bernoulli_is_one():
    """Kills an n that can be given: Bernoulli(5) would have the name, but not the log p."""
    for settings, named in (((5,), {}), ((), {"n": 5})):
        with pytest.raises(TypeError):
            likelihoods.Bernoulli(*settings, **named)
    one = likelihoods.Bernoulli()
    assert (one.n, one.support, one.name) == (1, (0, 1), "bernoulli")
    assert likelihoods.parse_likelihood("bernoulli") == copy.deepcopy(one) == one
    assert VAE(D, 1, (), likelihood=one).likelihood is one


def test_bernoulli_is_the_binomial_of_one():
    x, out = data_for("bernoulli", 4, D), draw(2, 4, D)
    (one, _), (other, _) = (
        likelihoods.parse_likelihood(name).log_prob(x, out, None)
        for name in ("bernoulli", "binomial:1")
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize("name", [*LIKELIHOODS, "binomial:1", "gaussian:1e-05", "gaussian:12.0"])
def test_a_likelihood_is_found_by_its_name(name):
    found = likelihoods.parse_likelihood(name)
    assert found.name == name
    assert likelihoods.parse_likelihood(found.name) == found
    assert likelihoods.parse_likelihood(found) is found


def test_gaussian_alone_is_learned():
    assert likelihoods.parse_likelihood("gaussian").name == "gaussian:learned"


@pytest.mark.parametrize(
    "text",
    [
        *("", "bernouli", "bernoulli:2", "binomial", "binomial:0", "binomial:-1", "binomial:2.5"),
        *("gaussian:0", "gaussian:-1", "gaussian:nan", "gaussian:inf", "gaussian:heads", "x:1"),
        *(None, 3, ("bernoulli",)),
    ],
)
def test_unknown_name_is_refused_with_the_choices(text):
    with pytest.raises(ValueError, match="expected binomial:N, bernoulli, poisson, "):
        likelihoods.parse_likelihood(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bernoulli", v) for v in (-1e-9, 1 + 1e-9, 255.0, 2)]
    + [("binomial:16", v) for v in (-1.0, 17.0, 0.5, 16 + 1e-9)],
)
@pytest.mark.parametrize("row", [0, -1])
def test_data_outside_the_support_are_refused(name, value, row):
    """Kills a check that reads the first block of rows alone, or a closed interval too wide."""
    x = np.zeros((300_000, 2))
    x[row, -1] = value
    with pytest.raises(ValueError, match=r"^x: expected .*got "):
        likelihoods.parse_likelihood(name).check(x)


def check_grays_are_announced():
    """Kills grays passed to a Bernoulli in silence, and the warning on clean data."""
    bernoulli = likelihoods.parse_likelihood("bernoulli")
    gray = np.zeros((4, D))
    gray[-1, -1] = 1e-9
    with pytest.warns(UserWarning, match="cross-entropy, not log p"):
        bernoulli.check(gray)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bernoulli.check(data_for("bernoulli"))
        bernoulli.check(data_for("bernoulli").astype("uint8"))


def test_grays_given_to_a_bernoulli_warn():
    check_grays_are_announced()


@pytest.mark.parametrize("name", ["gaussian:0.3", "gaussian:learned", "gaussian:head"])
def test_gaussians_take_any_real_number(name):
    likelihoods.parse_likelihood(name).check(np.array([[-1e6, 0.5, 255.0]]))


def test_draws_of_a_bernoulli_without_a_probability_are_not_zeros():
    # kills: u < p, which is false where p is NaN
    logits = np.array([np.nan, 9e9, -9e9])
    drawn = likelihoods.Bernoulli().draw(logits, None, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, [np.nan, 1, 0])
