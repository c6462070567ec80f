"""Hamiltonian Monte Carlo on densities whose moments are known."""

import numpy as np
import pytest

from numpyvae.bounds import hmc
from numpyvae.bounds.streams import RowStreams

COV = np.array([[1.0, 0.8, 0.0], [0.8, 2.0, -0.3], [0.0, -0.3, 0.5]])
MEAN = np.array([1.0, -2.0, 0.5])
PRECISION = np.linalg.inv(COV)


def gaussian(z):
    """N(MEAN, COV); it keeps 2z and the sum of z."""
    pull = (MEAN - z) @ PRECISION
    return -0.5 * ((MEAN - z) * pull).sum(axis=-1), pull, 2 * z, z.sum(axis=-1)


def quartic(z):
    """exp(−Σ z⁴): its trajectories are not those of a harmonic oscillator."""
    return -(z**4).sum(axis=-1), -4 * z**3


def noise(rng, shape):
    return rng.standard_normal(shape), -rng.standard_exponential(shape[:-1])


def test_a_reversed_trajectory_returns_to_its_start():
    """Kills a last kick that is not a half one, and kicks and drifts in another order."""
    rng = np.random.default_rng(1)
    z, v = rng.standard_normal((2, 5, 4, 3))
    step = 0.1 + 0.1 * rng.random((5, 4, 1))
    there, v_there = hmc.leapfrog(quartic, hmc.point_at(quartic, z), v, step, 7)
    assert np.abs(there.z - z).min() > 1e-3
    back, v_back = hmc.leapfrog(quartic, there, -v_there, step, 7)
    np.testing.assert_allclose(back.z, z, atol=1e-12)
    np.testing.assert_allclose(v_back, -v, atol=1e-12)


def test_the_energy_error_is_of_second_order():
    """Kills a first-order integrator, and a step that kick and drift do not share."""
    rng = np.random.default_rng(2)
    z, v = rng.standard_normal((2, 50, 1, 3))
    errors = []
    for n in (50, 100):
        end, v_end = hmc.leapfrog(quartic, hmc.point_at(quartic, z), v, np.array(1.0 / n), n)
        energy = [(0.5 * (w**2).sum(-1) - quartic(y)[0]) for y, w in ((z, v), (end.z, v_end))]
        errors.append(np.abs(energy[1] - energy[0]).mean())
    assert errors[0] < 0.1
    assert 3.6 < errors[0] / errors[1] < 4.4


@pytest.mark.parametrize("n_leapfrog", [1, 4])
def test_each_leapfrog_step_evaluates_the_density_once(n_leapfrog):
    """Kills a gradient computed again at the start of a move, or at its end."""
    asked = []

    def density(z):
        asked.append(z)
        return gaussian(z)

    rng = np.random.default_rng(3)
    point = hmc.point_at(density, rng.standard_normal((2, 3, 3)))
    for _ in range(5):
        step = np.array(0.3)
        point, _ = hmc.transition(density, point, step, n_leapfrog, *noise(rng, (2, 3, 3)))
    assert len(asked) == 1 + 5 * n_leapfrog


def test_a_point_keeps_the_values_of_the_density():
    """Kills a refused proposal whose value, gradient or kept arrays stay, and the reverse."""
    rng = np.random.default_rng(4)
    point = hmc.point_at(gaussian, rng.standard_normal((20, 10, 3)))
    before = point.z
    point, acceptance = hmc.transition(gaussian, point, np.array(1.1), 3, *noise(rng, (20, 10, 3)))
    moved = (point.z != before).any(axis=-1)
    assert 20 < moved.sum() < 180
    log_p, gradient, double, total = gaussian(point.z)
    np.testing.assert_array_equal(point.log_p, log_p)
    np.testing.assert_array_equal(point.gradient, gradient)
    np.testing.assert_array_equal(point.kept[0], double)
    np.testing.assert_array_equal(point.kept[1], total)
    assert abs(moved.mean() - acceptance.mean()) < 5 * 0.5 / np.sqrt(200)


@pytest.mark.parametrize("n_leapfrog", [1, 3])
def test_a_move_leaves_the_density_invariant(n_leapfrog):
    """Kills a move that is always accepted, or by the wrong energy.

    Exact draws go in; after one coarse move their first and second moments are the same.
    """
    rng = np.random.default_rng(5)
    n = 40_000
    z = MEAN + rng.standard_normal((n, 1, 3)) @ np.linalg.cholesky(COV).T
    start = hmc.point_at(gaussian, z)
    step = np.array(1.0)
    point, acceptance = hmc.transition(gaussian, start, step, n_leapfrog, *noise(rng, z.shape))
    assert 0.3 < acceptance.mean() < 0.8
    assert (point.z != z).any(axis=-1).mean() > 0.3
    white = np.linalg.solve(np.linalg.cholesky(COV), (point.z[:, 0] - MEAN).T)
    for values, expected in (
        *((row, 0.0) for row in white),
        *((row**2, 1.0) for row in white),
        (white[0] * white[1], 0.0),
        ((white**2).sum(axis=0) ** 2, 15.0),  # E[χ²₃ squared] = 3·5
    ):
        assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(n)


def test_a_move_to_a_density_that_is_not_finite_is_rejected():
    """Kills a chain that moves to NaN or infinity and stays there."""

    def walled(z):
        with np.errstate(all="ignore"):
            log_p = np.where(z < 1, -0.5 * z**2, np.where(z < 1.5, np.nan, np.inf))[..., 0]
        return log_p, np.where(z < 1, -z, np.nan)

    rng = np.random.default_rng(6)
    point = hmc.point_at(walled, np.zeros((200, 1, 1)))
    for _ in range(30):
        point, acceptance = hmc.transition(
            walled, point, np.array(0.7), 2, *noise(rng, (200, 1, 1))
        )
        assert np.isfinite(acceptance).all()
    assert point.z.max() < 1
    assert np.isfinite(point.gradient).all()
    # What is left is the normal distribution cut off at 1, of mean −φ(1)/Φ(1) = −0.2876.
    assert abs(point.z.mean() + 0.2876) < 5 * point.z.std() / np.sqrt(200)


SCALES = np.array([1e-3, 1.0, 50.0])[:, None]  # one for each datapoint


def scaled(z):
    log_p, gradient, *_ = gaussian(z / SCALES)
    return log_p, gradient / SCALES


def draws_for(seed, n_rows=3, n_chains=40, latent_dim=3):
    return RowStreams(
        seed, 1, np.arange(n_rows * 1.0)[:, None], n_chains, latent_dim, np.dtype(float)
    )


def test_samples_have_the_moments_of_the_density():
    """Kills a step shared by all datapoints, adapted in the wrong direction, or draws kept before
    the burn-in is over.
    """
    start = 100 + np.zeros((40, 3, 3))
    samples = hmc.sample(scaled, start, 200, draws_for(7), n_leapfrog=5, n_burn=300)
    assert samples.z.shape == (200, 40, 3, 3)
    np.testing.assert_allclose(samples.log_p, scaled(samples.z)[0], rtol=1e-12)
    np.testing.assert_allclose(samples.acceptance, hmc.TARGET_ACCEPTANCE, atol=0.06)
    np.testing.assert_allclose(samples.step / samples.step[1], SCALES[:, 0], rtol=0.25)
    z = samples.z / SCALES - MEAN
    for values, expected in ((z, 0.0), (z**2, np.diag(COV)), (z[..., 0] * z[..., 1], COV[0, 1])):
        by_chain = values.mean(axis=0)  # (C, B, …): the chains are independent
        error = by_chain.std(axis=0, ddof=1) / np.sqrt(40)
        assert (np.abs(by_chain.mean(axis=0) - expected) < 5 * error).all()


def test_the_step_is_frozen_after_the_burn_in():
    """Kills a step that is still adapted after the burn-in."""
    start = np.zeros((40, 3, 3))
    few, many = (hmc.sample(scaled, start, n, draws_for(8), n_burn=50) for n in (1, 60))
    np.testing.assert_array_equal(few.step, many.step)
    np.testing.assert_array_equal(few.z[0], many.z[0])


@pytest.mark.parametrize("n_burn", [1, 2, 7, 50])
def test_the_frozen_step_is_the_mean_of_the_second_half_of_the_burn_in(n_burn, monkeypatch):
    # kills: a mean that includes the first half, whose steps are far off, or the last step alone
    log_steps = []

    def watched(*args):
        log_steps.append(adapted(*args))
        return log_steps[-1]

    adapted = hmc.adapted
    monkeypatch.setattr(hmc, "adapted", watched)
    samples = hmc.sample(scaled, np.zeros((40, 3, 3)), 3, draws_for(8), n_burn=n_burn)
    assert len(log_steps) == n_burn
    mean = np.mean(log_steps[n_burn // 2 :], axis=0)
    np.testing.assert_allclose(np.log(samples.step), mean, rtol=1e-12)


def test_streams_have_the_stated_distributions():
    """Kills draws shared by rows or chains, and a factor or a logarithm of the wrong range."""
    draws = draws_for(10, n_rows=50, n_chains=40)
    normal, jitter, log_u = draws.normal(), draws.jitter(), draws.log_uniform()
    assert normal.shape == (40, 50, 3)
    assert jitter.shape == (40, 50, 1)
    assert log_u.shape == (40, 50)
    for values in (normal, jitter, log_u):
        assert np.unique(values).size == values.size
    for values, expected in ((normal, 0), (normal**2, 1), (jitter, 1), (np.exp(log_u), 0.5)):
        assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(values.size)
    assert 0.8 <= jitter.min() < 0.81
    assert 1.19 < jitter.max() <= 1.2
    assert log_u.max() < 0
    alone = RowStreams(10, 1, np.array([[20.0]]), 40, 3, np.dtype(float))
    np.testing.assert_array_equal(alone.normal(), normal[:, 20:21])
