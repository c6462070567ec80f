"""The figures of a row depend on the row, the seed and the model, not on the other rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from numpyvae import VAE, bounds, diagnostics, mean_terms
from numpyvae.bounds.terms import row_terms
from numpyvae.exact import exact_model
from numpyvae.support.statistics import mean_and_error
from numpyvae.support.streams import Purpose, row_noise, row_streams

N, D = 30, 24


def model(dtype="float64"):
    vae = VAE(D, 2, (5,), dtype=dtype)
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 0.7, vae.parameters.flat.size)
    return vae


def rows(n=N):
    return np.random.default_rng(1).integers(0, 2, (n, D)).astype(float)


def elbo_terms(vae, x):
    mu_logvar = vae.encode(x)
    return row_terms(vae, x, mu_logvar, n_samples=4, purpose=Purpose.ELBO, seed=3)[0].elbo


FIGURES = {
    "importance": lambda vae, x: bounds.importance_log_likelihood(vae, x, 20, seed=3),
    "curve": lambda vae, x: bounds.importance_curve(vae, x, 20, seed=3).values.T,
    "cubo": lambda vae, x: bounds.cubo(vae, x, 20, seed=3),
    "annealed": lambda vae, x: bounds.annealed_log_likelihood(vae, x, 10, 4, seed=3).log_lower,
    "appendix-d": lambda vae, x: (
        bounds.fitted_log_likelihood(vae, x, 10, 4, n_burn=10, seed=3).log_likelihood
    ),
    "terms": elbo_terms,
    "mean": lambda vae, x: np.array([mean_terms(vae, row[None], seed=3).elbo for row in x]),
}
CHAINS = ("annealed", "appendix-d")  # a chain enlarges the rounding of a product of another shape


@pytest.mark.parametrize("name", FIGURES)
def test_the_figure_of_a_row_is_that_of_the_row_alone(name):
    # kills: noise by place or by block, blocks that shift the rows, a stream that runs on
    vae, x, figure = model(), rows(), FIGURES[name]
    rtol = 1e-6 if name in CHAINS else 1e-10
    whole = figure(vae, x)
    order = np.random.default_rng(2).permutation(N)
    np.testing.assert_allclose(figure(vae, x[order]), whole[order], rtol=rtol)
    for size in (1, 7, 20):
        parts = [figure(vae, x[i : i + size]) for i in range(0, N, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=rtol)
    for some in ([5, 11], [4, 4, 9]):
        np.testing.assert_allclose(figure(vae, x[some]), whole[some], rtol=rtol)


def test_blocks_of_twenty_are_bit_equal_and_others_equal_to_rounding_in_float32():
    # kills: a product of another shape where the blocks are the same
    vae, x = model("float32"), rows().astype("float32")
    whole = bounds.importance_log_likelihood(vae, x, 50)
    twenty = bounds.importance_log_likelihood(vae, x[:20], 50)
    np.testing.assert_array_equal(twenty, whole[:20])
    single = [bounds.importance_log_likelihood(vae, row[None], 50)[0] for row in x]
    np.testing.assert_allclose(single, whole, rtol=1e-6)


def test_means_depend_on_the_order_only_by_rounding():
    # kills: one stream for all rows
    vae, x = model(), rows(1203)
    expected = mean_terms(vae, x, n_samples=2, seed=1)
    mixed = mean_terms(vae, x[np.random.default_rng(0).permutation(len(x))], n_samples=2, seed=1)
    np.testing.assert_allclose(mixed, expected, rtol=1e-12)
    parts = np.array([mean_terms(vae, part, n_samples=2, seed=1) for part in np.split(x, 3)])
    np.testing.assert_allclose(parts.mean(axis=0), expected, rtol=1e-12)


def test_the_parts_of_elbo_surgery_depend_on_the_order_only_by_rounding():
    # kills: draws by place; and blocks of rows that are joined along the wrong axis
    vae, x = model(), rows()
    whole = diagnostics.elbo_surgery(vae, x, n_samples=3)
    order = np.random.default_rng(2).permutation(N)
    mixed = diagnostics.elbo_surgery(vae, x[order], n_samples=3)
    np.testing.assert_allclose(
        mixed.mutual_information, whole.mutual_information[order], rtol=1e-9, atol=1e-12
    )


def test_what_identifies_the_draws_of_a_row():
    # kills: seed, purpose or a value left out; "1 12" and "11 2" read as the same
    x = rows(4)
    same = row_noise(1, 12, x, 3, 2)
    np.testing.assert_array_equal(row_noise(1, 12, x.copy(order="F"), 3, 2), same)
    np.testing.assert_array_equal(row_noise(1, 12, x[::-1], 3, 2), same[:, ::-1])
    signed = x.copy()
    signed[:, 1] = 0.0
    expected = row_noise(1, 12, signed, 3, 2)
    signed[:, 1] = -0.0
    np.testing.assert_array_equal(row_noise(1, 12, signed, 3, 2), expected)
    changed = x.copy()
    changed[:, -1] = np.nextafter(x[:, -1], 2)
    for other in (
        row_noise(11, 2, x, 3, 2),
        row_noise(2, 12, x, 3, 2),
        row_noise(1, 13, x, 3, 2),
        row_noise(1, 12, changed, 3, 2),
        row_noise(2**70, 12, x, 3, 2),
    ):
        assert not np.isclose(other, same).any()


def test_draws_go_on_where_they_stopped():
    # kills: a result that depends on the size of a piece
    x = rows(3)
    whole = row_noise(0, Purpose.IMPORTANCE, x, 10, 2)
    for dtype in ("float32", "float64"):
        data = x.astype(dtype)
        whole = row_noise(0, Purpose.IMPORTANCE, data, 10, 3)
        generators = row_streams(0, Purpose.IMPORTANCE, data)
        pieces = [
            np.stack([g.standard_normal((k, 3), dtype) for g in generators], axis=1)
            for k in (1, 2, 7)
        ]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_rows_purposes_and_seeds_have_independent_standard_normal_draws():
    # kills: draws of near rows, near seeds or two purposes that are correlated, and other moments
    x = np.arange(4000.0)[:, None]
    draws = [
        row_noise(seed, purpose, x, 1, 2)[0]
        for seed, purpose in ((0, Purpose.IMPORTANCE), (1, Purpose.IMPORTANCE), (0, Purpose.CUBO))
    ]
    values = np.concatenate([*draws, np.roll(draws[0], 1, axis=0)], axis=1)  # (4000, 8)
    error = 1 / math.sqrt(len(values))
    assert np.abs(values.mean(axis=0)).max() < 4.5 * error
    assert np.abs(values.T @ values / len(values) - np.eye(8)).max() < 4.5 * math.sqrt(2) * error
    kurtosis = (values**4).mean() / 3
    assert abs(kurtosis - 1) < 0.05


def test_standard_errors_on_an_exact_model_cover_the_evidence():
    # kills: noise that rows share, which the standard error over the rows does not see
    vae = VAE(2, 1, (), likelihood="gaussian:0.5", dtype="float64")
    p = vae.parameters
    p.flat[:] = 0
    p["decoder.W0"][:] = 1  # the posterior is N(4/9 (x₁ + x₂), 1/9)
    p["encoder.W0"][:, 0] = 4 / 9
    p["encoder.b0"][1] = math.log(2 / 9)
    x = np.random.default_rng(1).standard_normal((400, 2))
    evidence = exact_model(vae).log_evidence(x)
    scores = []
    for seed in range(150):
        ratio = np.exp(bounds.importance_log_likelihood(vae, x, 2, seed=seed) - evidence)
        mean, error = mean_and_error(ratio)
        scores.append((mean - 1) / error)  # E[w] = p(x)
    inside = np.mean(np.abs(scores) < 1.96)
    assert 0.89 < inside < 0.99
    assert abs(np.mean(scores)) < 0.4
