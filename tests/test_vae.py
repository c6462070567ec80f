"""`VAE`: public names, inputs and outputs, initialization, saving and loading."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest

import numpyvae
from numpyvae import VAE, fit
from numpyvae.core.likelihoods import FixedGaussian, parse_likelihood

ALL = ("bernoulli", "binomial:4", "gaussian:0.1", "gaussian:learned", "gaussian:head")
DTYPES = ("float32", "float64")


def spread(vae, scale=0.7, seed=0):
    """Put every parameter, biases and variances too, at a draw from N(0, scale²)."""
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng(seed).normal(0, scale, flat.size)
    return vae


# The names that others rely on.


def test_public_signatures():
    """Kills a renamed, reordered or re-defaulted argument."""

    def named(function):
        return {
            name: p.default if p.default is not p.empty else ...
            for name, p in inspect.signature(function).parameters.items()
        }

    assert list(named(VAE).items())[:7] == [
        ("data_dim", ...),
        ("latent_dim", ...),
        ("hidden", (200,)),
        ("activation", "tanh"),
        ("likelihood", "bernoulli"),
        ("dtype", "float32"),
        ("seed", 0),
    ]
    assert list(named(numpyvae.elbo)) == ["vae", "x", "eps"]
    assert list(named(numpyvae.elbo_and_grad))[:3] == ["vae", "x", "eps"]
    assert list(named(numpyvae.importance_log_likelihood))[:3] == ["vae", "x", "n_importance"]
    assert "seed" in named(numpyvae.importance_log_likelihood)
    settings = named(fit)
    assert list(settings)[:2] == ["vae", "x"]
    assert settings["epochs"] is ...
    assert {"batch_size", "optimizer"} <= settings.keys()
    assert (settings["update"], settings["estimator"], settings["seed"]) == ("both", None, 0)
    kinds = {p.kind for n, p in inspect.signature(fit).parameters.items() if n not in ("vae", "x")}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_the_main_functions_by_their_public_names(tmp_path):
    """Kills a changed return value: order, shape, type."""
    vae = VAE(data_dim=5, latent_dim=2, hidden=(4,), activation="tanh", likelihood="bernoulli")
    P, P_phi = vae.parameters.flat.size, vae.parameters.phi.size
    assert P_phi == 5 * 4 + 4 + 4 * 4 + 4
    assert vae.parameters.theta.size == P - P_phi == 2 * 4 + 4 + 4 * 5 + 5
    x, eps = np.eye(5)[:3], np.zeros((2, 3, 2))
    assert numpyvae.elbo(vae, x, eps).shape == (3,)
    value, gradient = numpyvae.elbo_and_grad(vae, x, eps)
    assert type(value) is float
    assert gradient.shape == (P,)
    history = fit(vae, x, epochs=1, batch_size=2, optimizer="adam", update="both")
    assert isinstance(history, numpyvae.History)
    log_p = numpyvae.importance_log_likelihood(vae, x, 10, seed=1)
    assert log_p.shape == (3,)
    assert log_p.dtype == np.float64
    vae.save(tmp_path / "model.npz")
    assert isinstance(VAE.load(tmp_path / "model.npz"), VAE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("likelihood", ALL)
@pytest.mark.parametrize("rows", [1, 3])
def test_shapes_and_dtypes(rows, likelihood, dtype):
    """Kills swapped outputs, a squeezed single row, heads in the mean, and a silent upcast."""
    vae = spread(VAE(5, 2, (4, 3), likelihood=likelihood, dtype=dtype))
    x = np.eye(5, dtype=np.uint8)[:rows]
    mu, logvar = vae.encode(x)
    assert mu.shape == logvar.shape == (rows, 2)
    assert not np.any(mu == logvar)
    z = np.random.default_rng(0).standard_normal((rows, 2))
    results = [mu, logvar, vae.decode(z), vae.reconstruct(x), vae.sample(rows, seed=1)]
    results.append(vae.sample(rows, seed=1, mean=True))
    for result in results[2:]:
        assert result.shape == (rows, 5)
    assert {result.dtype for result in results} == {np.dtype(dtype)}
    assert np.array_equal(vae.reconstruct(x), vae.decode(mu))


def test_what_decode_returns_is_the_mean_of_each_likelihood():
    """Kills logits in place of probabilities, a probability in place of a count."""
    z = np.array([[0.5, -1.0], [2.0, 0.0]])
    for likelihood in ALL:
        vae = spread(VAE(3, 2, (), likelihood=likelihood, dtype="float64"))
        out = z @ vae.parameters["decoder.W0"] + vae.parameters["decoder.b0"]
        expected = {
            "bernoulli": 1 / (1 + np.exp(-out)),
            "binomial:4": 4 / (1 + np.exp(-out)),
        }.get(likelihood, out[:, :3])
        np.testing.assert_allclose(vae.decode(z), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("activation", "f"),
    [
        ("tanh", np.tanh),
        ("relu", lambda a: np.maximum(a, 0)),
        ("softplus", lambda a: np.log1p(np.exp(a))),
        ("sigmoid", lambda a: 1 / (1 + np.exp(-a))),
        ("identity", lambda a: a),
    ],
)
def test_networks_against_the_formula(activation, f):
    """Kills a wrong activation, one after the last layer, and a decoder not in reverse."""
    vae = spread(VAE(5, 2, (4, 3), activation, "gaussian:1", dtype="float64"))
    p = vae.parameters
    assert {name: view.shape for name, view in p.items() if ".W" in name} == {
        "encoder.W0": (5, 4),
        "encoder.W1": (4, 3),
        "encoder.W2": (3, 4),
        "decoder.W0": (2, 3),
        "decoder.W1": (3, 4),
        "decoder.W2": (4, 5),
    }

    def network(h, name):
        h = f(h @ p[f"{name}.W0"] + p[f"{name}.b0"])
        h = f(h @ p[f"{name}.W1"] + p[f"{name}.b1"])
        return h @ p[f"{name}.W2"] + p[f"{name}.b2"]

    x = np.random.default_rng(1).standard_normal((7, 5))
    np.testing.assert_allclose(np.hstack(vae.encode(x)), network(x, "encoder"), rtol=1e-12)
    z = np.random.default_rng(2).standard_normal((7, 2))
    np.testing.assert_allclose(vae.decode(z), network(z, "decoder"), rtol=1e-12)


# Draws from the model.


def moments_by_quadrature(vae):
    """E[x], E[x xᵀ] and E[m mᵀ], m = E[x|z], under the model with J = 1: a fine grid over z."""
    z = np.linspace(-9, 9, 4001)[:, None]
    weight = np.exp(-0.5 * z[:, 0] ** 2)
    weight /= weight.sum()
    mean = vae.decode(z)
    out = vae.decoder(z[None])[0][0]
    if vae.likelihood.name == "bernoulli":
        variance = mean * (1 - mean)
    elif vae.likelihood.name == "binomial:4":
        variance = mean * (1 - mean / 4)
    elif vae.likelihood.name == "gaussian:head":
        variance = np.exp(out[:, 3:])
    elif vae.likelihood.name == "gaussian:learned":
        variance = np.broadcast_to(np.exp(vae.parameters["decoder.logvar"]), mean.shape)
    else:
        variance = np.full(mean.shape, 0.1**2)
    of_mean = np.einsum("z,zd,ze->de", weight, mean, mean)
    return weight @ mean, of_mean + np.diag(weight @ variance), of_mean


@pytest.mark.parametrize("likelihood", ALL)
def test_draws_have_the_moments_of_the_model(likelihood):
    """Kills σ² for σ, p for n p, a z for each pixel, a mean in place of a draw and the reverse."""
    vae = spread(VAE(3, 1, (4,), likelihood=likelihood, dtype="float64"))
    first, second, second_of_mean = moments_by_quadrature(vae)
    n = 40_000
    for x, second_moment in (
        (vae.sample(n, seed=3), second),
        (vae.sample(n, seed=3, mean=True), second_of_mean),
    ):
        products = np.einsum("nd,ne->nde", x, x)
        for draws, expected in ((x, first), (products, second_moment)):
            z = (draws.mean(axis=0) - expected) / (draws.std(axis=0) / math.sqrt(n))
            assert np.abs(z).max() < 5
    if likelihood in ("bernoulli", "binomial:4"):
        most = parse_likelihood(likelihood).n
        assert set(np.unique(vae.sample(2000))) == set(range(most + 1))


def test_sample_is_determined_by_its_seed():
    """Kills draws from a global generator."""
    vae = VAE(5, 2, (4,), likelihood="gaussian:1")
    assert np.array_equal(vae.sample(4, seed=1), vae.sample(4, seed=1))
    assert not np.any(vae.sample(4, seed=1) == vae.sample(4, seed=2))
    assert np.array_equal(vae.sample(4), vae.sample(4, seed=0))
    assert np.unique(vae.sample(50, seed=1), axis=0).shape == (50, 5)


# Initialization.


def test_glorot_range_counts_each_head_for_itself():
    """Kills fan-out counted over both heads, which starts μ and log σ² too small."""
    vae = VAE(150, 30, (120,), likelihood="gaussian:head", dtype="float64")
    fans = {
        "encoder.W0": (150, 120),
        "encoder.W1": (120, 30),  # μ, and beside it log σ²
        "decoder.W0": (30, 120),
        "decoder.W1": (120, 150),
    }
    for name, (fan_in, fan_out) in fans.items():
        W, r = vae.parameters[name], math.sqrt(6 / (fan_in + fan_out))
        assert 0.995 * r < np.abs(W).max() <= r
        # U(−r, r) has variance r²/3, and W² has variance 4 r⁴/45.
        z = ((W**2).mean() - r**2 / 3) / math.sqrt(4 * r**4 / 45 / W.size)
        assert abs(z) < 5
        assert abs(W.mean()) / math.sqrt(r**2 / 3 / W.size) < 5
    for name, view in vae.parameters.items():
        assert name in fans or not view.any()


def test_initial_sigma_is_the_standard_deviation():
    """Kills σ read as σ², and weights left at Glorot's range."""
    vae = VAE(150, 30, (120,), likelihood="gaussian:learned", dtype="float64", init=0.1)
    for name, view in vae.parameters.items():
        if ".W" in name:
            z = ((view**2).mean() - 0.01) / math.sqrt(2 * 0.01**2 / view.size)
            assert abs(z) < 5
            assert np.abs(view).max() > 0.3  # normal, not uniform
        else:
            assert not view.any()


def test_same_seed_same_weights_in_both_dtypes():
    """Kills draws in the model's dtype: a float64 check would be of another model."""
    for init in ("glorot", 0.1):
        single, double = (VAE(20, 3, (10,), dtype=d, seed=4, init=init) for d in DTYPES)
        assert single.parameters.flat.dtype == np.float32
        assert np.array_equal(single.parameters.flat, double.parameters.flat.astype(np.float32))
    again, other = (VAE(20, 3, (10,), dtype="float64", seed=s, init=0.1) for s in (4, 5))
    assert np.array_equal(again.parameters.flat, double.parameters.flat)
    assert not np.any(other.parameters["encoder.W0"] == double.parameters["encoder.W0"])


# One flat vector.


def shares_one_vector(vae):
    p = vae.parameters
    parts = [p.phi, p.theta, *p.values()]
    return all(np.shares_memory(p.flat, part) for part in parts)


def test_with_flat_gives_views_of_the_given_vector():
    """Kills a copy, which a finite difference would not move, and a twin that moves its model."""
    vae = VAE(5, 2, (4,), dtype="float64")
    before = vae.parameters.flat.copy()
    flat = before + 1.0
    twin = vae.with_flat(flat)
    assert twin.parameters.flat is flat
    assert shares_one_vector(twin)
    x = np.eye(5)
    old = twin.encode(x)[0].copy()
    flat += 0.1
    assert not np.any(twin.encode(x)[0] == old)
    assert np.array_equal(vae.parameters.flat, before)
    assert twin.dtype == vae.with_flat(flat.astype(complex)).dtype == np.float64


def test_with_flat_refuses_a_vector_that_does_not_fit():
    """Kills named views of the wrong entries."""
    vae = VAE(5, 2, (4,), dtype="float64")
    P = vae.parameters.flat.size
    for flat in (np.zeros(P - 1), np.zeros((1, P)), np.zeros(2 * P)[::2], [0.0] * P):
        with pytest.raises((ValueError, TypeError), match=r"^flat: expected .* got "):
            vae.with_flat(flat)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda vae: pickle.loads(pickle.dumps(vae))])
def test_a_copied_model_still_has_one_vector(clone):
    """Kills a copy whose named views are not views of `flat`: training would not change it."""
    vae = VAE(5, 2, (4,), dtype="float64")
    twin = clone(vae)
    assert shares_one_vector(twin)
    assert not np.shares_memory(twin.parameters.flat, vae.parameters.flat)
    x = np.eye(5)
    before = twin.encode(x)[0].copy()
    assert np.array_equal(before, vae.encode(x)[0])
    fit(twin, x, epochs=2)
    assert not np.any(twin.encode(x)[0] == before)
    assert np.array_equal(vae.encode(x)[0], before)


def test_repr_shows_the_architecture():
    """Kills a repr without the architecture."""
    vae = VAE(64, 2, (32, 16), "relu", "binomial:16", "float64")
    P = 64 * 32 + 32 + 32 * 16 + 16 + 16 * 4 + 4 + 2 * 16 + 16 + 16 * 32 + 32 + 32 * 64 + 64
    assert repr(vae) == f"VAE(64-32-16-2, relu, binomial:16, float64, {P} parameters)"
    assert repr(VAE(3, 1, ())) == "VAE(3-1, tanh, bernoulli, float32, 14 parameters)"


# Saving and loading.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("likelihood", ALL)
def test_saved_model_comes_back_bit_for_bit(likelihood, dtype, tmp_path):
    """Kills a lost parameter, a rounded σ, a changed dtype and a changed architecture."""
    vae = spread(VAE(5, 2, (4, 3), "softplus", likelihood, dtype))
    vae.save(tmp_path / "model.npz")
    loaded = VAE.load(tmp_path / "model.npz")
    assert loaded.parameters.flat.tobytes() == vae.parameters.flat.tobytes()
    assert loaded.dtype == vae.dtype
    assert loaded.architecture == vae.architecture
    assert loaded.likelihood == vae.likelihood
    assert list(loaded.parameters) == list(vae.parameters)
    assert repr(loaded) == repr(vae)
    assert shares_one_vector(loaded)
    x = np.eye(5)
    assert np.array_equal(loaded.reconstruct(x), vae.reconstruct(x))
    fit(loaded, x, epochs=1)  # its parameters can be written
    assert not np.array_equal(loaded.parameters.flat, vae.parameters.flat)


def test_every_digit_of_sigma_is_kept(tmp_path):
    """Kills a likelihood's name with a rounded number."""
    sigma = 0.1234567890123456
    vae = VAE(3, 1, (), likelihood=FixedGaussian(sigma))
    vae.save(tmp_path / "model.npz")
    assert VAE.load(tmp_path / "model.npz").likelihood.sigma == sigma
