"""A finite mixture: every identity of the notes by summation, and E[L_K] exactly."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from numpyvae.exact import FiniteMixture

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def random_mixture(seed, M=4, D=3, likelihood="bernoulli", scale=2.0):
    rng = np.random.default_rng([seed, 41])
    width = 2 * D if likelihood == "gaussian:head" else D
    return FiniteMixture(rng.dirichlet(np.ones(M)), rng.normal(0, scale, (M, width)), likelihood)


def random_q(seed, B, M, zeros=False):
    """Return a table (B, M) of probabilities; with `zeros`, about a third of them are 0."""
    rng = np.random.default_rng([seed, 42])
    q = rng.dirichlet(np.ones(M), B)
    if zeros:
        q = np.where(rng.random((B, M)) < 1 / 3, 0, q) + 1e-300
        q[q <= 1e-300] = 0
        q[q.sum(axis=1) == 0, 0] = 1
    return q / q.sum(axis=1, keepdims=True)


mixtures = st.builds(
    random_mixture,
    st.integers(0, 2**32),
    M=st.integers(1, 6),
    D=st.integers(1, 5),
    likelihood=st.sampled_from(["bernoulli", "binomial:16", "gaussian:0.3", "gaussian:head"]),
    scale=st.sampled_from([0.1, 2.0, 30.0]),
)
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(
    ("likelihood", "density"),
    [
        ("bernoulli", lambda x, o: stats.bernoulli.pmf(x, 1 / (1 + np.exp(-o)))),
        ("binomial:16", lambda x, o: stats.binom.pmf(x, 16, 1 / (1 + np.exp(-o)))),
        ("gaussian:0.3", lambda x, o: stats.norm.pdf(x, o, 0.3)),
        ("gaussian:head", lambda x, o: stats.norm.pdf(x, o[:2], np.exp(o[2:] / 2))),
    ],
)
def test_evidence_is_scipys_mixture_density(likelihood, density):
    # kills: weights left out or not normalized, components multiplied, a likelihood misread
    model = random_mixture(1, M=3, D=2, likelihood=likelihood)
    x = model.sample(4, seed=0)
    for row, found in zip(x, model.log_evidence(x)):
        parts = [w * density(row, o).prod() for w, o in zip(model.weights, model.outputs)]
        close(found, np.log(sum(parts)))


def test_probabilities_of_all_possible_data_sum_to_one():
    # kills: any error of the evidence, with no reference but probability
    x = list(itertools.product([0, 1], repeat=3))
    close(np.exp(random_mixture(2).log_evidence(x)).sum(), 1)


@settings(max_examples=200)
@given(mixtures, seeds, st.booleans())
def test_identities_of_the_bound(model, seed, zeros):
    # kills: Eq. (7) ≠ Eq. (11), a gap that is not the KL, 0 log 0 = NaN, a KL below 0
    x, q = model.sample(3, seed % 1000), random_q(seed, 3, model.n_components, zeros)
    log_px, gap = model.log_evidence(x), model.kl_to_posterior(x, q)
    size = 1 + np.abs(model.elbo_joint_form(x, q))
    assert (np.abs(model.elbo_joint_form(x, q) - model.elbo_kl_form(x, q)) <= 1e-10 * size).all()
    assert (np.abs(log_px - model.elbo_kl_form(x, q) - gap) <= 1e-10 * size).all()
    assert (gap >= -1e-14 * size).all()
    assert (model.kl_to_prior(q) >= -1e-14).all()
    parts = model.expected_log_q(q) - model.expected_log_posterior(x, q)
    assert (np.abs(parts - gap) <= 1e-10 * size).all()
    close(model.kl_to_prior(q), model.expected_log_q(q) - model.expected_log_prior(q))


@given(mixtures, seeds)
def test_posterior_is_bayes_and_makes_the_bound_tight(model, seed):
    # kills: a posterior that is not joint over evidence, rows that do not sum to 1
    x = model.sample(3, seed % 1000)
    q, log_px = model.posterior(x), model.log_evidence(x)
    close(q.sum(axis=1), 1)
    close(q, np.exp(model.log_joint_table(x) - log_px[:, None]))
    close(model.elbo_joint_form(x, q), log_px)
    close(model.kl_to_posterior(x, q), 0)
    z = np.random.default_rng(seed).integers(model.n_components, size=(5, 3))
    close(model.log_posterior(x, z), model.log_joint(x, z) - log_px)


def test_values_at_z_are_entries_of_the_tables():
    # kills: rows and samples exchanged where L = B
    model = random_mixture(3)
    x, z = model.sample(3, 0), np.array([[0, 1, 2], [3, 0, 1], [2, 2, 0]])
    for l, b in np.ndindex(3, 3):
        m = z[l, b]
        one = model.log_joint(x, z)[l, b]
        close(one, model.log_joint_table(x)[b, m])
        close(one, model.log_likelihood_table(x)[b, m] + np.log(model.weights[m]))
        close(model.log_prior(z)[l, b], np.log(model.weights[m]))
        close(model.log_posterior(x, z)[l, b], np.log(model.posterior(x)[b, m]))


def test_logits_of_a_thousand_give_finite_values():
    # kills: probabilities formed before their logarithms, posteriors that underflow to log 0
    model = FiniteMixture([0.5, 0.5], [[1000.0, -1000.0], [-1000.0, 1000.0]])
    x = [[1.0, 0.0], [1.0, 1.0]]
    close(model.log_evidence(x), [-np.log(2), -1000.0])
    close(model.kl_to_posterior(x, [[0.0, 1.0], [0.5, 0.5]]), [2000.0, 0.0])
    close(model.elbo_kl_form(x, model.posterior(x)), model.log_evidence(x))


# E[L_K]


def enumerated(model, x, q, K):
    """E[L_K] over all M^K sequences of draws: Burda et al. 2015, Eq. (8), word by word."""
    w = np.exp(model.log_joint_table(x)) / np.where(q > 0, q, 1)
    bound = np.zeros(len(x))
    for draws in itertools.product(range(model.n_components), repeat=K):
        chance, mean = q[:, draws].prod(axis=1), w[:, draws].mean(axis=1)
        bound += np.where(chance > 0, chance * np.log(mean), 0)
    return bound


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("M", "K"), [(1, 3), (2, 1), (2, 6), (3, 4), (5, 3)])
def test_importance_bound_is_the_sum_over_all_sequences(M, K, zeros):
    # kills: a wrong multinomial weight, logarithms averaged instead of weights, K! missing
    model, q = random_mixture(4, M=M), random_q(5, 3, M, zeros)
    x = model.sample(3, 1)
    close(model.importance_bound(x, q, K), enumerated(model, x, q, K))


@given(seeds, st.integers(1, 4), st.booleans())
@settings(max_examples=50)
def test_importance_bound_increases_from_the_elbo_and_stays_below_the_evidence(seed, M, zeros):
    # kills: an L_K that is not a bound, or does not increase with K
    model, q = random_mixture(seed, M=M), random_q(seed, 2, M, zeros)
    x = model.sample(2, seed % 1000)
    bounds = np.array([model.importance_bound(x, q, K) for K in range(1, 9)])
    close(bounds[0], model.elbo_joint_form(x, q))
    slack = 1e-8 * (1 + np.abs(bounds[0]))
    assert (np.diff(bounds, axis=0) >= -slack).all()
    assert (bounds[-1] <= model.log_evidence(x) + slack).all()


def test_importance_bound_tends_to_the_evidence():
    # kills: a limit that is short of log p(x)
    model, q = random_mixture(6, M=2), random_q(7, 2, 2)
    x = model.sample(2, 0)
    gaps = [model.log_evidence(x) - model.importance_bound(x, q, K) for K in (200, 400)]
    assert (gaps[1] > 0).all()
    assert (gaps[1] < 0.02).all()
    np.testing.assert_allclose(gaps[0] / gaps[1], 2, rtol=0.05)  # the gap falls as 1/K


def test_at_the_posterior_every_importance_bound_is_the_evidence():
    # kills: weights that are not all equal at q = posterior
    model = random_mixture(8)
    x = model.sample(3, 0)
    for K in (1, 2, 7):
        close(model.importance_bound(x, model.posterior(x), K), model.log_evidence(x))


def test_a_long_sum_does_not_depend_on_its_blocks(monkeypatch):
    # kills: a last block that is lost, or counted twice
    model, q = random_mixture(9), random_q(10, 2, 4)
    x = model.sample(2, 0)
    whole = model.importance_bound(x, q, 6)
    monkeypatch.setattr("numpyvae.exact.discrete._ELEMENTS", 40)
    close(model.importance_bound(x, q, 6), whole)


# The rest


def test_samples_have_the_models_frequencies_and_depend_on_the_seed_alone():
    # kills: components drawn uniformly, outputs read as probabilities, an unseeded draw
    model = random_mixture(11, D=2)
    x = model.sample(20_000, seed=1)
    np.testing.assert_array_equal(x, model.sample(20_000, seed=1))
    assert not np.array_equal(x, model.sample(20_000, seed=2))
    for outcome in itertools.product([0.0, 1.0], repeat=2):
        p = np.exp(model.log_evidence([outcome]))[0]
        share = (x == outcome).all(axis=1).mean()
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / len(x))


GOOD = FiniteMixture([0.25, 0.75], [[0.0, 1.0], [1.0, 0.0]])
X, Q = [[0, 1]], [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FiniteMixture([0.5, 0.6], [[0.0], [1.0]]), "weights: expected probabilities"),
        (lambda: FiniteMixture([1.0, 0.0], [[0.0], [1.0]]), "leave out components of weight 0"),
        (lambda: FiniteMixture([1.5, -0.5], [[0.0], [1.0]]), "weights: expected probabilities"),
        (lambda: FiniteMixture([1.0], [[0.0], [1.0]]), "weights: expected 2 columns, got 1"),
        (
            lambda: FiniteMixture([1.0], [[0.0, 1.0, 2.0]], "gaussian:head"),
            "a multiple of 2 columns",
        ),
        (
            lambda: FiniteMixture([1.0], [[0.0]], "gaussian:learned"),
            "got gaussian:learned; in",
        ),
        (
            lambda: FiniteMixture([1.0], [[0.0]], "weibull"),
            "likelihood: expected binomial:N",
        ),
        (lambda: GOOD.log_evidence([[0, 1, 1]]), "x: expected 2 columns, got 3"),
        (lambda: GOOD.log_evidence([[0, 2]]), r"x: expected values in \[0, 1\]"),
        (lambda: GOOD.elbo_kl_form(X, [[0.5, 0.4]]), "q: expected probabilities .* sums from 0.9"),
        (lambda: GOOD.elbo_kl_form(X, [[1.5, -0.5]]), "q: expected probabilities of at least 0"),
        (lambda: GOOD.elbo_kl_form(X, [[1.0]]), "q: expected 2 columns, got 1"),
        (lambda: GOOD.elbo_joint_form(X, Q * 2), "q: expected 1 rows, one for each of x, got 2"),
        (lambda: GOOD.kl_to_posterior(X, Q * 2), "q: expected 1 rows, one for each of x, got 2"),
        (lambda: GOOD.importance_bound(X, Q * 2, 2), "q: expected 1 rows, one for each of x"),
        (lambda: GOOD.importance_bound(X, Q, 0), "n_importance: expected a whole number of"),
        (lambda: GOOD.importance_bound(X, Q, 10**7), "got 10000001 for 10000000 draws from 2"),
        (lambda: GOOD.log_joint(X, np.array([[2]])), r"z: expected whole numbers in 0 … 1"),
        (lambda: GOOD.log_prior(np.array([[0.0]])), r"of shape \(L, B\), got float64"),
        (lambda: GOOD.log_prior(np.array([0])), r"got int64 of shape \(1,\)"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    # kills: an error from inside NumPy, or a result
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
