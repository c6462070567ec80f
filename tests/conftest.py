"""Shared by the tests: Hypothesis settings, small models, and data for each likelihood."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys

import hypothesis
import numpy as np
import pytest
from browsing import browser, open_page  # noqa: F401
from threadpoolctl import threadpool_limits

from numpyvae import VAE
from numpyvae.core.parameters import Parameters
from numpyvae.support import registry
from numpyvae.support.registry import ACTIVATIONS

# The products are small: a second BLAS thread makes them slower, mostly on a busy machine.
threadpool_limits(1, "blas")

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True, scope="session")
def empty_gradients_contain_nan():
    """Fill with NaN the arrays that a pullback must write, so that a missing entry is detected."""
    empty_gradient = Parameters.empty_gradient

    @functools.wraps(empty_gradient)
    def filled(self, update="both"):
        gradient = empty_gradient(self, update)
        gradient.part(update)[:] = np.nan
        return gradient

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parameters, "empty_gradient", filled)
        yield


@pytest.fixture(autouse=True)
def registries_stay_as_they_are():
    """Remove the parts that a test, or an example on a page, has registered."""
    before = [(table, dict(table)) for table in (ACTIVATIONS, registry.LIKELIHOODS)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


@pytest.fixture(autouse=True)
def close_figures():
    """Close all figures after each test, also those of examples in docstrings."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason='needs Numba: pip install "numpyvae[fast]"'
)

LIKELIHOODS = ("bernoulli", "binomial:16", "gaussian:0.3", "gaussian:learned", "gaussian:head")


def small_vae(likelihood="bernoulli", dtype="float64", *, scale=0.5, seed=0, **architecture):
    """Return a small model whose parameters, biases and variances too, are N(0, scale²)."""
    widths = {"data_dim": 3, "latent_dim": 2, "hidden": (4,)} | architecture
    vae = VAE(likelihood=likelihood, dtype=dtype, **widths)
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng([seed, 11]).normal(0.0, scale, flat.size)
    return vae


def data_for(likelihood, n_rows=4, data_dim=3, seed=0):
    """Return rows (n_rows, data_dim) of float64 that the likelihood can take."""
    rng = np.random.default_rng([seed, 12])
    shape = n_rows, data_dim
    if likelihood.startswith("gaussian"):
        return rng.normal(0.0, 1.0, shape)
    most = 16 if likelihood == "binomial:16" else 1
    return rng.integers(0, most + 1, shape).astype(float)


def noise(n_samples, n_rows=4, latent_dim=2, seed=0):
    """Return standard normal noise (L, B, J) of float64."""
    return np.random.default_rng([seed, 13]).standard_normal((n_samples, n_rows, latent_dim))


@pytest.fixture(params=LIKELIHOODS)
def likelihood(request):
    """Each likelihood by its name."""
    return request.param


def apart(x):
    """Return the rows, moved apart by 1e-9: equal rows then have draws of their own."""
    return x - np.sign(x - 0.5) * 1e-9 * np.arange(len(x))[:, None]
