"""The flat vector: views that share memory, φ and θ as two slices, initial weights."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from conftest import LIKELIHOODS, small_vae
from hypothesis import given
from hypothesis import strategies as st

from numpyvae import VAE
from numpyvae.core.parameters import Parameters, glorot_uniform

shape = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def named(prefix):
    return st.lists(shape, max_size=4).map(lambda s: {f"{prefix}{i}": v for i, v in enumerate(s)})


@given(named("phi"), named("theta"))
def test_views_tile_the_vector_in_order(phi_shapes, theta_shapes):
    """Kills overlapping views, copies, a θ that starts in the wrong place, another order."""
    shapes = phi_shapes | theta_shapes
    size = sum(map(math.prod, shapes.values()))
    p = Parameters(phi_shapes, theta_shapes, np.arange(float(size)))
    assert {name: view.shape for name, view in p.items()} == shapes
    assert np.array_equal(np.concatenate([[], *(v.ravel() for v in p.values())]), np.arange(size))
    assert p.phi.size == sum(map(math.prod, phi_shapes.values()))
    assert np.array_equal(np.concatenate([p.phi, p.theta]), p.flat)
    for view in p.values():
        view += 1000  # writes through
    assert np.array_equal(p.flat, np.arange(size) + 1000)
    p.flat -= 1000  # and back
    assert np.array_equal(np.concatenate([p.phi, p.theta]), np.arange(size))
    assert all((view < 1000).all() for view in p.values())


def check_phi_is_the_encoder(likelihood="gaussian:learned"):
    """Kills φ and θ exchanged, and a learned variance that belongs to φ."""
    p = small_vae(likelihood).parameters.zeros_like()
    p.phi[:] = 1
    p.theta[:] = 2
    for name, view in p.items():
        assert (view == {"encoder": 1, "decoder": 2}[name.split(".")[0]]).all()
    assert p.phi.base is p.theta.base is p.flat


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_phi_is_the_encoder_and_theta_the_decoder(name):
    check_phi_is_the_encoder(name)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4, 3)])
def test_layers_come_in_order_and_are_views(hidden):
    """Kills a sort by name, and a decoder with the encoder's widths the same way round."""
    p = VAE(7, 2, hidden, likelihood="gaussian:head").parameters
    widths = {"encoder": (7, *hidden, 4), "decoder": (2, *hidden[::-1], 14)}
    for network, w in widths.items():
        layers = getattr(p, network)
        assert [W.shape for W, _ in layers] == list(pairwise(w))
        assert [b.shape for _, b in layers] == [(n,) for n in w[1:]]
        assert all(np.shares_memory(a, p.flat) for pair in layers for a in pair)


def test_eleven_layers_stay_in_order():
    """Kills an order of names in which W10 comes before W2."""
    hidden = tuple(range(2, 13))
    layers = VAE(3, 2, hidden).parameters.encoder
    assert [W.shape[1] for W, _ in layers] == [*hidden, 4]


def test_like_uses_the_vector_given_and_zeros_like_does_not():
    p = small_vae().parameters
    other = np.zeros(p.flat.size, complex)
    twin = p.like(other)
    twin["encoder.b0"][:] = 1j
    assert twin.flat is other
    assert other.imag.sum() == 4
    before = p.flat.copy()
    zeros = p.zeros_like()
    assert not zeros.flat.any()
    assert zeros.flat.dtype == p.flat.dtype
    zeros.flat[:] = 1
    assert np.array_equal(p.flat, before)


@pytest.mark.parametrize(("update", "other"), [("phi", "theta"), ("theta", "phi"), ("both", None)])
def test_an_empty_gradient_is_zero_where_nothing_is_written(update, other):
    """Kills a slice that is left out and contains old memory, and φ and θ exchanged."""
    p = small_vae().parameters
    gradient = p.empty_gradient(update)
    assert gradient.flat.dtype == p.flat.dtype
    assert not np.shares_memory(gradient.flat, p.flat)
    wanted = gradient.flat if update == "both" else getattr(gradient, update)
    assert np.isnan(wanted).all()  # the tests do this: see conftest
    assert other is None or not getattr(gradient, other).any()


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros(7), np.zeros((6, 1)), np.zeros(12)[::2]])
def test_vector_of_another_form_is_refused(bad):
    """A strided vector would be copied by reshape: views would not see the parameters."""
    with pytest.raises(ValueError, match="flat: expected a contiguous vector of 6 parameters"):
        Parameters({"a": (2, 2)}, {"b": (2,)}, bad)


def check_glorot():
    """Kills r = 6/(in + out) without the root, fan-out that counts both heads, N for U."""
    W = glorot_uniform(np.random.default_rng(0), 30, 10, heads=200)
    assert W.shape == (30, 2000)
    assert glorot_uniform(np.random.default_rng(0), 3, 4).shape == (3, 4)
    r = math.sqrt(6 / 40)
    assert r * 0.999 < abs(W).max() <= r
    squares = W**2
    z = (squares.mean() - r * r / 3) / (squares.std() / math.sqrt(W.size))
    assert abs(z) < 5
    assert abs(W.mean()) < 5 * W.std() / math.sqrt(W.size)


def test_glorot_bounds_and_variance():
    check_glorot()


def test_each_head_is_initialized_for_itself():
    """Kills μ and log σ² drawn with the fan-out of both."""
    p = VAE(4, 500, (200,), likelihood="gaussian:head").parameters
    r = {"encoder": math.sqrt(6 / 700), "decoder": math.sqrt(6 / 204)}
    for network, bound in r.items():
        W = p[f"{network}.W1"]
        assert 0.98 * bound < abs(W).max() <= np.float32(bound)


def test_initial_biases_and_variances_are_zero_and_weights_follow_the_seed():
    """Kills a bias that is drawn, and a seed that is ignored or shared between layers."""
    one, same, other = (
        VAE(5, 5, (5,), likelihood="gaussian:learned", seed=s).parameters for s in (1, 1, 2)
    )
    assert np.array_equal(one.flat, same.flat)
    weights = [v for name, v in one.items() if ".W" in name]
    for name, view in one.items():
        assert view.any() == (".W" in name)
        assert view.any() != np.array_equal(view, other[name])
    assert not np.array_equal(weights[0], weights[2])


def test_normal_initialization_has_the_given_standard_deviation():
    """Kills σ² for σ: Kingma & Welling draw from N(0, 0.01), whose σ is 0.1."""
    W = VAE(500, 2, (200,), init=0.1, dtype="float64").parameters["encoder.W0"]
    z = (W.var() - 0.01) / (0.01 * math.sqrt(2 / W.size))
    assert abs(z) < 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_the_models(dtype):
    p = VAE(4, 2, (3,), dtype=dtype, likelihood="gaussian:learned").parameters
    assert {view.dtype.name for view in p.values()} == {dtype} == {p.flat.dtype.name}
