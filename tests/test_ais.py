"""Annealed bounds against exact log evidences, and on data that the model simulates."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from numpyvae import VAE, datasets, fit
from numpyvae.bounds import (
    ais,
    annealed_log_likelihood,
    annealing,
    log_weights,
    sandwich,
    sigmoid_temperatures,
    simulate,
)
from numpyvae.bounds.path import Path
from numpyvae.bounds.streams import RowStreams, decoder_megabytes
from numpyvae.support.memory import keep_freed_memory
from numpyvae.support.streams import Purpose

SIGMA = 0.5
LIKELIHOODS = ("bernoulli", "binomial:16", "gaussian:0.3", "gaussian:learned", "gaussian:head")


def linear(J, D, *, orthogonal=False, scale=0.3, seed=0):
    """Return a linear-Gaussian VAE; its q is the best diagonal Gaussian for every x.

    With orthogonal rows of W that is the posterior itself.
    """
    vae = VAE(D, J, (), likelihood=f"gaussian:{SIGMA}", dtype="float64")
    rng = np.random.default_rng([seed, 21])
    vae.parameters.flat[:] = rng.normal(0, scale, vae.parameters.flat.size)
    W, b = vae.parameters["decoder.W0"], vae.parameters["decoder.b0"]
    if orthogonal:
        W[:] = np.linalg.qr(W.T)[0].T * np.linspace(0.5, 2, J)[:, None]
    precision = np.eye(J) + W @ W.T / SIGMA**2
    to_mean = np.linalg.solve(precision, W / SIGMA**2).T  # μ = (x − b) to_mean
    vae.parameters["encoder.W0"][:] = np.hstack([to_mean, np.zeros((D, J))])
    vae.parameters["encoder.b0"][:] = [*(-b @ to_mean), *-np.log(np.diag(precision))]
    return vae


def log_evidence(vae, x):
    """log N(x; b, WᵀW + σ²), Eq. (2) in closed form."""
    W, b = vae.parameters["decoder.W0"], vae.parameters["decoder.b0"]
    cov = W.T @ W + SIGMA**2 * np.eye(vae.data_dim)
    return np.atleast_1d(multivariate_normal(b, cov).logpdf(x))


def shifted(vae):
    """Change the encoder: q is shifted by one σ and twice as wide."""
    J = vae.latent_dim
    bias = vae.parameters["encoder.b0"]
    bias[:J] += np.exp(0.5 * bias[J:])
    bias[J:] += 2 * math.log(2)
    return vae


def standard_errors(values):
    """Return how many standard errors the mean is away from 0."""
    return values.mean() / (values.std(ddof=1) / math.sqrt(values.size))


# The weights.


@pytest.mark.parametrize(("initial", "n_chains"), [("prior", 1), ("encoder", 3)])
def test_weights_average_to_the_evidence_and_to_its_inverse(initial, n_chains):
    """Kills steps adapted within the run that is measured (E[w]/p = 1.2 here), weights taken
    after the move, a reverse run that is not the mirror of the forward one, and chains averaged
    on another scale.
    """
    vae = shifted(linear(1, 3, scale=1.0))
    x, z = simulate(vae, 600, seed=n_chains)
    exact = log_evidence(vae, x)
    bounds = annealed_log_likelihood(
        vae, x, 40, n_chains, n_leapfrog=1, initial=initial, posterior=z, seed=1
    )
    assert abs(standard_errors(np.exp(bounds.log_lower - exact) - 1)) < 4
    assert abs(standard_errors(np.exp(exact - bounds.log_upper) - 1)) < 4
    # The inequalities are strict: with few temperatures the weights vary.
    few = annealed_log_likelihood(vae, x, 1, n_chains, initial=initial, posterior=z, seed=1)
    assert standard_errors(few.log_lower - exact) < -3
    assert standard_errors(few.log_upper - exact) > 3


def test_at_the_exact_posterior_every_weight_is_the_evidence():
    """Kills a missing term of log p(x, z) − log q, and temperatures that do not add up to 1."""
    vae = linear(3, 6, orthogonal=True)
    x, z = simulate(vae, 5)
    exact = log_evidence(vae, x)
    bounds = annealed_log_likelihood(vae, x, 30, 4, initial="encoder", posterior=z)
    np.testing.assert_allclose(bounds.log_lower, exact, rtol=0, atol=1e-10)
    np.testing.assert_allclose(bounds.log_upper, exact, rtol=0, atol=1e-10)


def test_without_intermediate_temperatures_it_is_importance_sampling():
    """Kills weights averaged in log space, and chains that do not start at draws of q."""
    vae = shifted(linear(2, 5))
    x, _ = simulate(vae, 4)
    bounds = annealed_log_likelihood(vae, x, n_chains=200, temperatures=[0, 1], seed=3)
    eps = RowStreams(3, Purpose.ANNEAL_FORWARD, x, 200, 2, vae.dtype).normal()
    log_w = log_weights(vae, x, *vae.encode(x), eps)
    expected = np.log(np.exp(log_w - log_w.max()).mean(axis=0)) + log_w.max()
    np.testing.assert_allclose(bounds.log_lower, expected, rtol=1e-12)
    assert bounds.n_temperatures == 0


def test_given_temperatures_replace_their_number():
    # kills: `temperatures` that are read by one function alone, or beside the count
    vae = shifted(linear(2, 5))
    counted = sandwich(vae, 4, 7, 3, seed=1)
    given = sandwich(vae, 4, n_chains=3, temperatures=sigmoid_temperatures(7), seed=1)
    np.testing.assert_array_equal(given.log_lower, counted.log_lower)
    np.testing.assert_array_equal(given.log_upper, counted.log_upper)
    assert given.n_temperatures == counted.n_temperatures == 7


@pytest.mark.parametrize("initial", ["prior", "encoder"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_gradient_along_the_path(likelihood, initial):
    """Kills a wrong sign or factor in ∇ log f_β, by comparison with the complex step."""
    vae = VAE(5, 2, (4,), likelihood=likelihood, dtype="float64", init=0.4)
    x, _ = simulate(vae, 3)
    path = Path(vae, x, initial)
    z = np.random.default_rng(5).standard_normal((4, 3, 2))
    for beta in (0.0, 0.3, 1.0):
        log_f, gradient, *_ = path.density(beta)(z)
        log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
        log_start = (
            multivariate_normal(np.zeros(2), np.eye(2)).logpdf(z)
            if initial == "prior"
            else np.stack(
                [
                    multivariate_normal(m, np.diag(np.exp(v))).logpdf(z[:, i])
                    for i, (m, v) in enumerate(zip(*vae.encode(x)))
                ],
                axis=1,
            )
        )
        log_joint = vae.log_likelihood(x, z)[0] + log_prior
        np.testing.assert_allclose(log_f, (1 - beta) * log_start + beta * log_joint, rtol=1e-11)
        for j in range(2):
            step = np.zeros(2, complex)
            step[j] = 1e-30j
            slope = path.density(beta)(z + step)[0].imag / 1e-30
            np.testing.assert_allclose(gradient[..., j], slope, rtol=1e-10, atol=1e-10)


# The bounds.


def test_the_sandwich_contains_the_exact_evidence_within_a_hundredth():
    """Kills anything that loosens the bounds: J = 10, D = 64, 1000 intermediate distributions."""
    vae = linear(10, 64)
    x, z = simulate(vae, 40)
    exact = log_evidence(vae, x)
    bounds = annealed_log_likelihood(vae, x, 1000, 8, n_leapfrog=1, posterior=z)
    assert abs(bounds.gap[0]) < 0.01
    assert abs((bounds.log_lower - exact).mean()) < 0.01
    assert abs((bounds.log_upper - exact).mean()) < 0.01
    assert abs(standard_errors(bounds.log_lower - exact)) < 4
    assert abs(standard_errors(bounds.log_upper - exact)) < 4
    np.testing.assert_allclose(bounds.acceptance, 0.65, atol=0.05)


def test_more_temperatures_tighten_both_bounds():
    """Kills chains that do not move, or that move at the wrong temperature."""
    vae = linear(4, 12)
    x, z = simulate(vae, 150)
    few, many = (
        annealed_log_likelihood(vae, x, n, 2, initial="prior", posterior=z) for n in (3, 60)
    )
    assert few.gap[0] > 1.0
    assert abs(many.gap[0]) < few.gap[0] / 4
    assert standard_errors(many.log_lower - few.log_lower) > 5
    assert standard_errors(few.log_upper - many.log_upper) > 5


def test_the_sandwich_is_narrow_on_digits():
    """Kills a float32 path that rounds its weights away: a trained digit model, in both modes."""
    vae = VAE(64, 8, (128,))
    assert vae.dtype == np.float32
    train = datasets.load_digits().grays("train")
    fit(vae, train, epochs=5, transform=datasets.binarize)
    bounds = sandwich(vae, 50, 300, 8, n_leapfrog=2)
    assert abs(bounds.gap[0]) < 0.1
    assert abs(standard_errors(bounds.log_upper - bounds.log_lower)) < 4
    text = str(bounds)
    assert "≤ log p(x) ≤" in text
    assert "gap" in text
    x, _ = simulate(vae, 50)
    other = annealed_log_likelihood(vae, x[:25], 300, 8, initial="prior", n_leapfrog=1)
    difference = other.log_lower - bounds.log_lower[:25]
    assert abs(difference.mean()) < 0.3
    assert standard_errors(difference) < 4
    assert "no upper bound" in str(other)


def test_simulated_latents_belong_to_their_data():
    """Kills z of another row, or of another draw, returned with x."""
    vae = linear(3, 8, scale=1.0)
    x, z = simulate(vae, 2000, seed=4)
    residual = x - vae.decode(z)
    assert abs(standard_errors(residual.ravel())) < 5
    assert abs(standard_errors(residual.ravel() ** 2 - SIGMA**2)) < 5
    assert abs(standard_errors((z**2).ravel() - 1)) < 5
    assert not np.array_equal(simulate(vae, 5, seed=1)[0], simulate(vae, 5, seed=2)[0])


# What the result may and may not depend on.


def test_a_datapoint_does_not_depend_on_the_other_rows_or_the_memory():
    """Kills draws or steps shared by rows, and blocks that are dropped or repeat one another."""
    vae = linear(3, 7)
    x, z = simulate(vae, 9)
    whole = annealed_log_likelihood(vae, x, 20, 4, posterior=z, seed=6)
    small = 2.5 * 8 * decoder_megabytes(vae)  # two datapoints at a time
    part = annealed_log_likelihood(vae, x, 20, 4, posterior=z, seed=6, memory=small)
    changed = np.where(np.arange(9)[:, None] < 4, x, -x)
    other = annealed_log_likelihood(vae, changed, 20, 4, posterior=z, seed=6)
    for name in ("log_lower", "log_upper", "acceptance"):
        a, b, c = (getattr(bounds, name) for bounds in (whole, part, other))
        # A step that is too long, in the search for a good one, multiplies the rounding errors of
        # the trajectory: up to 1e-7 is left of them on some processors. Other draws differ by 0.1.
        np.testing.assert_allclose(b, a, rtol=1e-6)
        np.testing.assert_allclose(c[:4], a[:4], rtol=1e-9)
        assert not np.isclose(c[4:], a[4:], rtol=1e-6).any()


def test_nearly_equal_rows_and_different_seeds_have_different_draws():
    """Kills one stream for all rows, a seed that is ignored, and hidden state between calls."""
    vae = linear(3, 7)
    x, z = (np.repeat(a, 6, axis=0) for a in simulate(vae, 1))
    x += 1e-9 * np.arange(6)[:, None]  # equal but for the draws
    a, b, c = (annealed_log_likelihood(vae, x, 10, 2, posterior=z, seed=s) for s in (0, 0, 1))
    assert np.ptp(a.log_lower) > 1e-3
    assert np.unique(a.log_lower).size == 6
    assert np.unique(a.log_upper).size == 6
    np.testing.assert_array_equal(a.log_lower, b.log_lower)
    np.testing.assert_array_equal(a.log_upper, b.log_upper)
    assert not np.isclose(a.log_lower, c.log_lower, rtol=1e-9).any()


@pytest.mark.parametrize(
    "vae",
    [
        *(VAE(2000, 3, (50,), likelihood=likelihood) for likelihood in LIKELIHOODS),
        *(VAE(8, 3, (1000,), activation=activation) for activation in ("softplus", "sigmoid")),
        VAE(8, 3, (500, 500), activation="softplus"),
        VAE(8, 1500, (4,)),
    ],
    ids=repr,
)
def test_the_memory_stays_within_the_budget(vae):
    """Kills a block that is larger than the budget: all 60 datapoints need ten times as much.

    And a budget that counts the outputs, but not hidden layers or latents that are wider.
    """
    x, z = simulate(vae, 60)
    budget = 6 * 10 * decoder_megabytes(vae)
    peaks = []
    keep_freed_memory()
    for memory in (budget, 10 * budget):
        tracemalloc.start()
        try:
            annealed_log_likelihood(vae, x, 3, 10, posterior=z, n_leapfrog=1, memory=memory)
            peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        finally:
            tracemalloc.stop()
    assert budget / 4 < peaks[0] < budget
    assert peaks[1] > 3 * budget  # and the budget is used


def test_a_float32_model_gets_float32(monkeypatch):
    """Kills a silent change of precision, which would double time and memory."""
    vae = VAE(6, 2, (4,))
    x, z = simulate(vae, 3)
    seen = set()
    original = VAE.log_likelihood

    def watched(self, x, z):
        seen.update({x.dtype.name, z.dtype.name})
        return original(self, x, z)

    monkeypatch.setattr(VAE, "log_likelihood", watched)
    bounds = annealed_log_likelihood(vae, x.astype(float), 5, 2, posterior=z.astype(float))
    assert seen == {"float32"}
    assert bounds.log_lower.dtype == bounds.log_upper.dtype == np.float64


@pytest.mark.parametrize("posterior", [False, True])
def test_progress_counts_every_move(posterior, monkeypatch):
    """Kills a line that stops before the end, or runs past it."""
    vae = linear(2, 4)
    x, z = simulate(vae, 5)
    counts = []

    class Line:
        def __init__(self, total, unit, shown):
            counts[:] = [total, 0]

        def __enter__(self):
            return self.advance

        def __exit__(self, *error):
            return None

        def advance(self, note):
            counts[1] += 1

    monkeypatch.setattr(ais, "progress_line", Line)
    memory = 2.5 * 8 * decoder_megabytes(vae)
    annealed_log_likelihood(vae, x, 7, 2, posterior=z if posterior else None, memory=memory)
    assert counts[0] == counts[1] > 0


# The step sizes from the pilot run.


def test_the_step_is_interpolated_on_its_logarithm():
    # kills: the shares of both neighbors exchanged, a mean of steps, one step for all datapoints
    log_step = np.array([[0.0, 1.0], [2.0, -1.0], [3.0, 0.0]])
    steps = annealing.Steps(np.array([0.1, 0.5, 0.9]), log_step)
    for beta, expected in ((0.1, log_step[0]), (0.2, [0.5, 0.5]), (0.5, log_step[1])):
        np.testing.assert_allclose(steps.at(beta), np.exp(expected)[:, None], rtol=1e-12)
    np.testing.assert_allclose(steps.at(0.8), np.exp([[2.75], [-0.25]]), rtol=1e-12)
    np.testing.assert_allclose(steps.at(0.9), np.exp([[3.0], [0.0]]), rtol=1e-12)
    alone = annealing.Steps(np.array([0.5]), log_step[:1])
    np.testing.assert_allclose(alone.at(0.5), np.exp(log_step[0])[:, None], rtol=1e-12)


def test_acceptance_is_averaged_over_the_moves_that_are_made():
    # kills: a sum over n temperatures divided by n + 2, or by the chains once more
    vae = linear(2, 4)
    x, _ = simulate(vae, 3)
    path, draws = Path(vae, x, "encoder"), RowStreams(0, 1, x, 5, 2, vae.dtype)
    tiny = annealing.Steps(np.array([0.5]), np.full((1, 3), -20.0))  # always accepted
    betas = np.array([0.0, 0.3, 0.6, 1.0])
    point = path.start(0.0, path.draw(draws.normal()))
    _, acceptance = annealing.anneal(path, point, betas, tiny, 1, draws, lambda note: None)
    np.testing.assert_allclose(acceptance, 1, atol=1e-6)


def test_acceptance_is_that_of_both_directions(monkeypatch):
    # kills: the reverse direction left out, or alone
    seen = []

    def watched(*args):
        log_w, acceptance = annealing.anneal(*args)
        seen.append(acceptance)
        return log_w, acceptance

    monkeypatch.setattr(ais, "anneal", watched)
    vae = linear(2, 4)
    x, z = simulate(vae, 3)
    bounds = annealed_log_likelihood(vae, x, 5, 2, posterior=z)
    forward, back = seen
    assert (forward != back).all()
    np.testing.assert_allclose(bounds.acceptance, (forward + back) / 2, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 100, 1000])
def test_the_pilot_covers_both_ends_of_the_path(n):
    # kills: a temperature where no move is made, an end whose steps are extrapolated
    betas = sigmoid_temperatures(n)
    chosen = annealing.pilot_betas(betas)
    assert len(chosen) == min(n, 100)
    assert (chosen[0], chosen[-1]) == (betas[1], betas[-2])
    assert np.isin(chosen, betas).all()
    assert (np.diff(chosen) > 0).all()
    assert annealing.n_moves(betas) == (len(chosen) - 1 + annealing._WARM_UP, n)
    assert annealing.n_moves(np.array([0.0, 1.0])) == (0, 0)


def test_steps_are_smoothed_over_five_temperatures():
    # kills: a window that is off its center, datapoints that are mixed, ends padded with zeros
    rows = np.random.default_rng(0).standard_normal((9, 2))
    smooth = annealing._smooth(rows)
    np.testing.assert_allclose(smooth[4], rows[2:7].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(smooth[0], rows[[0, 0, 0, 1, 2]].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(smooth[-1], rows[[-3, -2, -1, -1, -1]].mean(axis=0), rtol=1e-12)
    for n in (1, 2, 3, 4):
        np.testing.assert_allclose(annealing._smooth(np.full((n, 2), 0.7)), 0.7, rtol=1e-12)


def test_the_pilot_finds_a_step_for_each_datapoint_and_temperature():
    # kills: a step that follows another datapoint, or the temperature before the last
    vae = VAE(3, 1, (), likelihood="gaussian:1", dtype="float64")
    vae.parameters.flat[:] = 0
    vae.parameters["decoder.W0"][:] = 1  # the posterior is half as wide as the prior,
    vae.parameters["encoder.W0"][:, 1] = 1  # and q of the datapoints from 0.2 to 4.5 times as wide
    x = np.array([[-3.0, 0, 0], [0, 0, 0], [1, 0, 0], [3, 0, 0]])
    path = Path(vae, x, "encoder")
    betas = sigmoid_temperatures(400)
    draws = (RowStreams(0, i, x, n, 1, vae.dtype) for i, n in ((1, 8), (2, 2000)))
    steps = annealing.tune(path, betas, 3, next(draws), lambda note: None)
    draws = next(draws)
    for beta in betas[[40, 200, -2]]:
        precision = (1 - beta) * np.exp(-x[:, :1]) + 4 * beta  # of f_β, a Gaussian
        mean = beta * x.sum(axis=1, keepdims=True) / precision
        z = mean + draws.normal() / np.sqrt(precision)
        point = path.at(beta, path.start(beta, z))
        _, acceptance = annealing._move(path, beta, point, steps.at(beta), 3, draws)
        np.testing.assert_allclose(acceptance.mean(axis=0), 0.65, atol=0.2)
        assert 0.5 < acceptance.mean() < 0.8


# Temperatures and invalid settings.


def test_sigmoid_temperatures():
    """Kills ends that are not exactly 0 and 1, and another spacing than that of the paper."""
    for n in (1, 2, 1000):
        betas = sigmoid_temperatures(n)
        assert betas.shape == (n + 2,)
        assert betas[0] == 0
        assert betas[-1] == 1
        assert (np.diff(betas) > 0).all()
    s = 1 / (1 + np.exp(-4 * np.linspace(-1, 1, 12)))
    np.testing.assert_allclose(sigmoid_temperatures(10), (s - s[0]) / (s[-1] - s[0]), atol=1e-14)
    with pytest.raises(ValueError, match="steepness: expected a finite number above 0, got 0"):
        sigmoid_temperatures(10, 0)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"n_temperatures": 0}, ValueError, "^n_temperatures.*at least 1, got 0"),
        ({"n_temperatures": 2.5}, TypeError, "^n_temperatures.*whole number.*2.5"),
        ({"n_temperatures": True}, TypeError, "^n_temperatures.*whole number"),
        ({"n_temperatures": [0, 1]}, TypeError, "^n_temperatures.*whole number"),
        ({"temperatures": 5}, TypeError, "^temperatures.*got 5.* use n_temperatures"),
        ({"temperatures": ["a", "b"]}, TypeError, "temperatures.*sequence of numbers, got"),
        ({"temperatures": []}, ValueError, "temperatures.*from 0 to 1"),
        ({"temperatures": [0.0]}, ValueError, "temperatures.*from 0 to 1"),
        ({"temperatures": [[0, 1]]}, ValueError, "temperatures.*shape"),
        ({"temperatures": [0.1, 1]}, ValueError, "temperatures.*from 0.1 to 1"),
        ({"temperatures": [0, 0.9]}, ValueError, "temperatures.*from 0 to 0.9"),
        ({"temperatures": [0, 0.5, 0.5, 1]}, ValueError, "got 0.5 and then 0.5 at index 2"),
        ({"temperatures": [0, 0.7, 0.3, 1]}, ValueError, "got 0.7 and then 0.3 at index 2"),
        ({"temperatures": [0, math.nan, 1]}, ValueError, "increasing numbers"),
        ({"n_chains": 0}, ValueError, "n_chains.*at least 1, got 0"),
        ({"n_chains": 1.5}, TypeError, "n_chains"),
        ({"n_leapfrog": 0}, ValueError, "n_leapfrog.*at least 1, got 0"),
        ({"initial": "posterior"}, ValueError, "initial.*encoder, prior"),
        ({"seed": -1}, ValueError, "seed"),
        ({"memory": 0}, ValueError, "memory.*above 0"),
        ({"memory": "lots"}, TypeError, "memory"),
        ({"memory": 1e-4}, ValueError, "memory.*at least .*8 draws or chains.*got 0.0001"),
        (
            {"posterior": np.zeros((2, 2))},
            ValueError,
            "posterior.*3 rows, as many as x, got 2",
        ),
        ({"posterior": np.zeros((3, 5))}, ValueError, "posterior.*2 columns, got 5"),
        ({"posterior": np.full((3, 2), np.nan)}, ValueError, "posterior.*finite"),
    ],
)
def test_bad_settings_get_one_clear_line(settings, error, words):
    """Kills a setting that is taken as something else, or fails deep inside."""
    vae = linear(2, 4)
    x, _ = simulate(vae, 3)
    with pytest.raises(error, match=words) as caught:
        annealed_log_likelihood(vae, x, **({"n_temperatures": 3, "n_chains": 2} | settings))
    assert "\n" not in str(caught.value)


def test_bad_data_get_one_clear_line():
    """Kills data that no likelihood takes, and a count of simulated rows that is none."""
    vae = VAE(4, 2, (3,))
    with pytest.raises(ValueError, match="expected 4 columns, got 5"):
        annealed_log_likelihood(vae, np.zeros((2, 5)), 3, 2)
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        annealed_log_likelihood(vae, np.full((2, 4), 7), 3, 2)
    with pytest.raises(ValueError, match="n: expected a whole number of at least 1, got 0"):
        sandwich(vae, 0)


@pytest.mark.parametrize("initial", ["prior", "encoder"])
def test_a_model_without_a_finite_likelihood_says_so(initial):
    """Kills NaN bounds from a model whose parameters have overflowed."""
    vae = VAE(4, 2, (3,))
    vae.parameters["decoder.W1"][:] = np.nan
    with pytest.raises(FloatingPointError, match="finite log p"):
        annealed_log_likelihood(vae, np.zeros((2, 4)), 3, 2, initial=initial)


def test_means_come_with_their_standard_errors():
    """Kills a deviation in place of a standard error, and a gap whose errors are not paired."""
    lower, upper = np.array([1.0, 2.0, 6.0]), np.array([1.5, 2.5, 6.8])
    bounds = ais.AnnealedBounds(lower, upper, np.full(3, 0.6), 5, 2, 0.1)
    assert bounds.lower == pytest.approx((3.0, math.sqrt(7 / 3)))
    assert bounds.upper == pytest.approx((3.6, np.std(upper, ddof=1) / math.sqrt(3)))
    assert bounds.gap == pytest.approx((0.6, 0.1))
    alone = ais.AnnealedBounds(lower[:1], None, np.full(1, 0.6), 5, 2, 0.1)
    assert alone.upper is None
    assert alone.gap is None
    assert alone.lower[0] == 1.0
    assert math.isnan(alone.lower[1])
