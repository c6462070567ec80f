"""Many rows in little memory, with the results of few; and draws that go on when asked to."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from numpyvae import VAE, bounds, diagnostics, mean_terms
from numpyvae.exact import FiniteMixture, LinearGaussian, Quadrature
from numpyvae.support import blocks
from numpyvae.support.memory import keep_freed_memory

LIKELIHOODS = ("bernoulli", "binomial:3", "poisson", "gaussian:0.5", "gaussian:head")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_blocks_of_any_size_give_the_same_rows(likelihood, monkeypatch):
    # kills: a block that is lost, repeated or misplaced; draws that begin again in each
    vae = VAE(7, 3, (5,), likelihood=likelihood, dtype="float64", init=0.4)
    x = np.random.default_rng(0).integers(0, 2, (23, 7))

    def everything():
        mu, logvar = vae.encode(x)
        return [
            mu,
            logvar,
            vae.decode(mu),
            vae.reconstruct(x),
            vae.sample(23, 1),
            vae.sample(23, 1, mean=True),
            *bounds.simulate(vae, 23, 2),
        ]

    whole = everything()
    mu, logvar = vae.encoder(x.astype(float))[0]
    np.testing.assert_array_equal(whole[0], mu)
    np.testing.assert_array_equal(whole[1], logvar)
    for rows in (1, 5, 23):
        monkeypatch.setattr(blocks, "_LAYER_BYTES", rows * 8 * blocks.row_size(vae).widest)
        for part, expected in zip(everything(), whole):
            assert part.shape == expected.shape
            assert part.dtype == expected.dtype
            np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-14)


def test_no_rows_give_an_empty_result():
    # kills: None where an array is expected
    vae = VAE(4, 2, (3,))
    found = blocks.in_blocks(vae, lambda x: x[:, :3], np.ones((0, 4)))
    assert found.shape == (0, 3)
    assert found.dtype == np.float32


def test_encode_returns_arrays_of_its_own():
    # kills: views of (N, 2J) that keep twice the memory
    for part in VAE(7, 3, (5,)).encode(np.eye(7)):
        assert part.shape == (7, 3)
        assert part.base is None
        assert part.flags.c_contiguous


WORK = {
    "encode": lambda vae, x: vae.encode(x),
    "active_units": diagnostics.active_units,
    "mean_terms": mean_terms,
    "rate_distortion": lambda vae, x: diagnostics.rate_distortion(vae, x, n_samples=2),
}


@pytest.mark.parametrize("name", WORK)
def test_memory_is_flat_beside_a_memmap(name, tmp_path):
    # kills: a copy of all rows in float32, 80 MB here, and hidden layers of all rows
    rows, D = 20_000, 1000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "uint8", (rows, D))  # 20 MB of holes
    vae = VAE(D, 2, (10,))
    keep_freed_memory()
    WORK[name](vae, x[:2])
    tracemalloc.start()
    try:
        WORK[name](vae, x)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert peak < 20


@pytest.mark.parametrize("name", ["reconstruct", "sample", "mean", "simulate"])
def test_memory_beside_the_result_is_flat(name):
    # kills: outputs of the decoder, and uniform draws in float64, for all rows at once
    n, D = 10_000, 1000
    vae = VAE(D, 2, (10,), likelihood="gaussian:head")
    work = {
        "reconstruct": lambda: vae.reconstruct(x),
        "sample": lambda: vae.sample(n),
        "mean": lambda: vae.sample(n, mean=True),
        "simulate": lambda: bounds.simulate(vae, n),
    }[name]
    x = np.zeros((n, D), "uint8")
    keep_freed_memory()
    tracemalloc.start()
    try:
        work()
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    assert 40 < peak < 65  # the result has 40 MB


MODELS = {
    "VAE": VAE(4, 2, (3,)).sample,
    "LinearGaussian": LinearGaussian(np.ones((4, 2)), np.zeros(4), np.ones(4)).sample,
    "Quadrature": Quadrature(VAE(4, 1, (3,), likelihood="gaussian:0.5")).sample,
    "FiniteMixture": FiniteMixture([0.3, 0.7], np.eye(2, 4), "gaussian:0.5").sample,
    "simulate": lambda n, seed: bounds.simulate(VAE(9, 2, (3,)), n, seed)[1],
}


@pytest.mark.parametrize("name", MODELS)
def test_draws_begin_again_go_on_or_are_new(name):
    # kills: a generator whose state does not move, None read as 0
    sample = MODELS[name]
    np.testing.assert_array_equal(sample(20, 3), sample(20, 3))
    assert not np.array_equal(sample(20, 3), sample(20, 4))
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    first, second = sample(20, rng), sample(20, rng)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(sample(20, again), first)
    np.testing.assert_array_equal(sample(20, again), second)
    assert not np.array_equal(sample(20, None), sample(20, None))
    for bad in (-1, 1.5, "0"):
        with pytest.raises((TypeError, ValueError), match="seed: expected"):
            sample(2, bad)
