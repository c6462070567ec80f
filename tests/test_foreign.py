"""log p(x) of foreign models: the contract of the bounds, and `ForeignVAE`, with NumPy alone."""

import copy
import math
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.special import logsumexp

import numpyvae
from numpyvae import VAE, bounds, diagnostics, exact, importance_log_likelihood
from numpyvae.bounds.streams import decoder_megabytes, row_slices
from numpyvae.bounds.terms import row_terms
from numpyvae.clinic import ForeignVAE
from numpyvae.support.contract import row_size
from numpyvae.support.streams import Purpose, row_noise

J, D = 2, 6
LIKELIHOODS = ("bernoulli", "binomial:3", "poisson", "gaussian:0.5", "gaussian:learned",
               "gaussian:head")  # fmt: skip


def model(likelihood="bernoulli", dtype="float64", latent_dim=J, data_dim=D, hidden=(7,)):
    vae = VAE(data_dim, latent_dim, hidden, likelihood=likelihood, dtype=dtype)
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng(0).normal(0, 0.6, flat.size)
    return vae


def vjp_of(vae):
    return lambda z, dout: vae.decoder(z[None])[1](dout[None])[0]


def foreign(vae, **changes):
    """The same model, by callables around its own networks, with blocks of the same size."""
    arguments = {
        "decode": lambda z: vae.decoder(z[None])[0][0],
        "decode_vjp": vjp_of(vae),
        "latent_dim": vae.latent_dim,
        "data_dim": vae.data_dim,
        "likelihood": vae.likelihood,
        "encode": lambda x: vae.encoder(x)[0],
        "parameters": {
            n: vae.parameters[n] for n in vae.likelihood.parameter_shapes(vae.data_dim)
        },
        "dtype": vae.dtype,
    }
    twin = ForeignVAE(**arguments | changes)
    twin.row_size = row_size(vae)
    return twin


def everything(vae, n_jobs=1):
    """Every bound, on five simulated datapoints."""
    x, z = bounds.simulate(vae, 5, seed=3)
    annealed = bounds.annealed_log_likelihood(vae, x, 8, 3, posterior=z, n_jobs=n_jobs)
    compared = bounds.compare_bounds(
        vae, x, ["elbo", "iwae", "ais", "eubo", "cubo"], posterior=z, n_importance=9,
        n_temperatures=4, n_chains=2,
    )  # fmt: skip
    return {
        "x": x,
        "z": z,
        "importance": importance_log_likelihood(vae, x, 30, n_jobs=n_jobs),
        "curve": bounds.importance_curve(vae, x, 20, n_jobs=n_jobs).values,
        "lower": annealed.log_lower,
        "upper": annealed.log_upper,
        "acceptance": annealed.acceptance,
        "sandwich": bounds.sandwich(vae, 4, 6, 2, n_jobs=n_jobs).log_upper,
        "eubo": bounds.eubo(vae, x, z),
        "cubo": bounds.cubo(vae, x, 20, n_jobs=n_jobs),
        "fitted": bounds.fitted_log_likelihood(vae, x, 6, 4, n_burn=20).log_likelihood,
        "weights": bounds.log_weights(vae, x, *vae.encode(x), np.ones((2, 5, J))),
    } | {name: estimate.values for name, estimate in compared.estimates.items()}


# The same figures as for a model of our own.


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_copy_has_every_bound_of_the_model_itself(likelihood, dtype):
    # kills: a missing constant, a gradient of the wrong sign, other draws, another precision
    vae = model(likelihood, dtype)
    expected, found = everything(vae), everything(foreign(vae))
    for name, values in expected.items():
        assert np.isfinite(values).all(), name
        assert values.dtype == found[name].dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_number_of_workers_changes_no_bit():
    # kills: a state that calls share
    vae = foreign(model())
    vae.row_size = row_size(vae)._replace(widest=1 << 15)
    assert len(row_slices(vae, 5, 3, None)) > 1
    alone, two = everything(vae, 1), everything(vae, 2)
    for name in alone:
        np.testing.assert_array_equal(two[name], alone[name], err_msg=name)


def by_shape(vae, shape):
    """Outputs in a shape other than (n, D)."""
    return {
        "decode": lambda z: vae.decoder(z[None])[0][0].reshape(-1, *shape),
        "decode_vjp": lambda z, dout: vjp_of(vae)(z, dout.reshape(len(z), -1)),
    }


def as_pair(vae):
    """(mean, logvar), in the shape of an image."""

    def decode(z):
        out = vae.decoder(z[None])[0][0]
        return out[:, :D].reshape(-1, 2, 3), out[:, D:].reshape(-1, 2, 3)

    def decode_vjp(z, dout):
        dmean, dlogvar = dout
        assert dmean.shape == dlogvar.shape == (len(z), 2, 3)
        both = np.concatenate([dmean.reshape(-1, D), dlogvar.reshape(-1, D)], axis=1)
        return vjp_of(vae)(z, both)

    return {"decode": decode, "decode_vjp": decode_vjp}


def with_own_pullback(vae):
    def decode(z):
        out, pull = vae.decoder(z[None])
        return out[0], lambda dout: pull(dout[None])[0]

    return {"decode": decode, "decode_vjp": None}


@pytest.mark.parametrize(
    ("likelihood", "forms"),
    [
        ("bernoulli", lambda vae: by_shape(vae, (1, 2, 3))),
        ("gaussian:head", lambda vae: by_shape(vae, (2, 2, 3))),
        ("gaussian:head", as_pair),
        ("bernoulli", with_own_pullback),
    ],
    ids=["image", "two heads", "pair", "own pullback"],
)
def test_every_form_of_outputs_gives_the_same(likelihood, forms):
    # kills: mean and logvar exchanged, a gradient in the wrong order, pixels in another order
    vae = model(likelihood)
    x, z = bounds.simulate(vae, 4)
    expected = bounds.annealed_log_likelihood(vae, x, 6, 3, posterior=z)
    found = bounds.annealed_log_likelihood(foreign(vae, **forms(vae)), x, 6, 3, posterior=z)
    np.testing.assert_array_equal(found.log_lower, expected.log_lower)
    np.testing.assert_array_equal(found.log_upper, expected.log_upper)


def test_the_encoder_gets_a_datapoint_in_its_shape():
    # kills: rows where a convolution expects images
    vae, seen = model(), set()

    def encode(x):
        seen.add(x.shape[1:])
        return vae.encoder(x.reshape(len(x), -1))[0]

    twin = foreign(vae, data_dim=(1, 2, 3), encode=encode)
    x, _ = bounds.simulate(twin, 3)
    assert x.shape == (3, D)
    np.testing.assert_array_equal(
        importance_log_likelihood(twin, x, 9), importance_log_likelihood(vae, x, 9)
    )
    np.testing.assert_array_equal(twin.encode(x), vae.encode(x))
    assert seen == {(1, 2, 3)}


def test_without_an_encoder_q_is_the_prior():
    # kills: weights with the density of another q than the one that is drawn from
    vae = model()
    twin = foreign(vae, encode=None)
    x, _ = bounds.simulate(vae, 3)
    z = row_noise(0, Purpose.IMPORTANCE, x, 40, J)
    log_px, _ = vae.log_likelihood(x, z)
    np.testing.assert_allclose(
        importance_log_likelihood(twin, x, 40), logsumexp(log_px, axis=0) - math.log(40),
        rtol=1e-12,
    )  # fmt: skip
    a, b = (
        bounds.annealed_log_likelihood(m, x, 6, 3, initial=start).log_lower
        for m, start in ((twin, "encoder"), (vae, "prior"))
    )
    np.testing.assert_array_equal(a, b)


def test_a_linear_model_lies_between_its_bounds():
    # kills: a constant that the copy of a VAE and the VAE itself both lack
    rng = np.random.default_rng(5)
    W, b, sigma = rng.normal(0, 1, (3, 8)), rng.normal(0, 1, 8), 0.5
    vae = ForeignVAE(
        lambda z: z @ W + b, lambda z, dout: dout @ W.T,
        latent_dim=3, data_dim=8, likelihood=f"gaussian:{sigma}",
    )  # fmt: skip
    x, z = bounds.simulate(vae, 40, seed=1)
    result = bounds.annealed_log_likelihood(vae, x, 300, 8, posterior=z)
    evidence = exact.LinearGaussian(W.T, b, sigma**2).log_evidence(x)
    for side, values in ((1, result.log_upper), (-1, result.log_lower)):
        over = side * (values - evidence)
        assert -5 * over.std() / math.sqrt(40) < over.mean() < 0.2


# Memory.


def test_the_memory_stays_within_the_budget():
    # kills: a size of a row that does not count what is inside the decoder
    rng = np.random.default_rng(0)
    W, V = rng.normal(0, 0.3, (J, 1500)), rng.normal(0, 0.03, (1500, 8))

    def decode(z):
        h = np.tanh(z @ W)
        return h @ V, lambda dout: ((dout @ V.T) * (1 - h * h)) @ W.T

    vae = ForeignVAE(decode, latent_dim=J, data_dim=8, likelihood="bernoulli")
    x, z = bounds.simulate(vae, 40)
    budget, peaks = 4 * 10 * decoder_megabytes(vae), []
    for memory in (budget, 10 * budget):
        tracemalloc.start()
        try:
            bounds.annealed_log_likelihood(vae, x, 3, 10, posterior=z, memory=memory, n_jobs=1)
            peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        finally:
            tracemalloc.stop()
    assert budget / 4 < peaks[0] < budget
    assert peaks[1] > 3 * budget
    declared = ForeignVAE(
        decode, latent_dim=J, data_dim=8, likelihood="bernoulli", row_floats=10**6
    )
    assert declared.row_size.total == 10**6 + 8 * 8 + 30 * J
    with pytest.raises(ValueError, match="memory: expected at least 8 megabytes"):
        importance_log_likelihood(declared, x[:1], 5, memory=1)


# Decoders that are right, and must be accepted.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_right_decoders_are_accepted(dtype, scale):
    # kills: a check of the gradient that takes kinks, saturation or rounding for an error
    for seed in range(20):
        rng = np.random.default_rng(seed)
        W, V = (rng.normal(0, scale, s).astype(dtype) for s in ((3, 20), (20, 9)))
        shape = {"latent_dim": 3, "data_dim": 9, "likelihood": "gaussian:1.0", "dtype": dtype}
        ForeignVAE(
            lambda z, W=W, V=V: np.maximum(z @ W, 0) @ V,
            lambda z, dout, W=W, V=V: (dout @ V.T * (z @ W > 0)) @ W.T,
            row_floats=0, **shape,
        )  # fmt: skip
        ForeignVAE(
            lambda z, W=W, V=V: np.tanh(z @ W) @ V,
            lambda z, dout, W=W, V=V: (dout @ V.T * (1 - np.tanh(z @ W) ** 2)) @ W.T,
            row_floats=0, **shape,
        )  # fmt: skip


def test_a_gradient_that_differences_cannot_judge_is_accepted():
    # kills: an error of the differences, by their step or by rounding, that is taken for a fault
    settings = {"latent_dim": 2, "data_dim": 2, "likelihood": "gaussian:1.0", "dtype": "float32"}
    ForeignVAE(
        lambda z: np.sin(np.float32(500) * z),
        lambda z, dout: np.float32(500) * np.cos(np.float32(500) * z) * dout,
        **settings,
    )
    ForeignVAE(lambda z: z + np.float32(1e6), lambda z, dout: dout, **settings)


@pytest.mark.parametrize(
    ("likelihood", "probabilities", "warned"),
    [
        ("bernoulli", True, True),
        ("binomial:4", True, True),
        ("bernoulli", False, False),
        ("gaussian:1.0", True, False),
    ],
)
def test_probabilities_in_place_of_logits_are_noticed(likelihood, probabilities, warned):
    # kills: a decoder that ends in a sigmoid, whose log p(x) is meaningless, and a false alarm
    V = np.random.default_rng(0).normal(0, 0.3, (J, 20))

    def decode(z):
        if not probabilities:
            return z @ V, lambda dout: dout @ V.T
        p = 1 / (1 + np.exp(-z @ V))
        return p, lambda dout: (dout * p * (1 - p)) @ V.T

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ForeignVAE(decode, latent_dim=J, data_dim=20, likelihood=likelihood)
    assert [w.filename for w in caught] == [__file__] * warned
    assert all("reads logits; return the values before" in str(w.message) for w in caught)


# Bad input: one clear line for each.

W = np.random.default_rng(1).normal(0, 1, (J, D))


def good(z):
    return z @ W


def good_vjp(z, dout):
    return dout @ W.T


class Tensor:
    """What another library returns."""

    __module__ = "torch"


def failing(*arguments):
    raise ZeroDivisionError("division by zero\nin line 2")


def in_place(z):
    z *= 2
    return z @ W


def noisy(z):
    return z @ W + NOISE.normal(size=D)


NOISE = np.random.default_rng(0)
NANS = np.full(D, np.nan)
NEW = {"decode": good, "decode_vjp": good_vjp, "latent_dim": J, "data_dim": D,
       "likelihood": "gaussian:1.0"}  # fmt: skip
BAD = {
    "no function": ({"decode": 3}, TypeError, "decode: expected a function"),
    "vjp no function": ({"decode_vjp": 3}, TypeError, "decode_vjp: expected a function"),
    "raises": ({"decode": failing}, RuntimeError, "decode: .*ZeroDivisionError: division by z"),
    "vjp raises": ({"decode_vjp": failing}, RuntimeError, "decode_vjp: .*ZeroDivisionError"),
    "NaN": ({"decode": lambda z: z @ W + NANS}, ValueError, "decode: expected finite outputs"),
    "vjp NaN": ({"decode_vjp": lambda z, d: z * np.nan}, ValueError, "decode_vjp: expected a fin"),
    "few columns": ({"decode": lambda z: z}, ValueError, r"decode: expected shape \(5, 6\).*5, 2"),
    "few rows": ({"decode": lambda z: z[:1] @ W}, ValueError, r"decode: expected shape .*\(1, 6"),
    "scalar": ({"decode": lambda z: np.array(1.0)}, ValueError, r"decode: .*got \(\)"),
    "transposed": ({"decode": lambda z: (z @ W).T}, ValueError, r"decode: .*got \(6, 5\)"),
    "vjp of a sum": ({"decode_vjp": lambda z, d: d}, ValueError, r"decode_vjp: .*\(5, 6\)"),
    "float32": ({"decode": lambda z: (z @ W).astype("f")}, TypeError, "float64.*got float32"),
    "whole": ({"decode": lambda z: (z @ W).astype(int)}, TypeError, "float64.*got int64"),
    "complex": ({"decode": lambda z: z @ W + 0j}, TypeError, "float64.*got complex128"),
    "vjp float32": ({"decode_vjp": lambda z, d: z.astype("f")}, TypeError, "decode_vjp:.*float32"),
    "upcast": ({"dtype": "float32"}, TypeError, "decode: expected dtype float32.*got float64"),
    "half": ({"dtype": "float16"}, ValueError, "dtype: expected one of float32, float64"),
    "list": ({"decode": lambda z: (z @ W).tolist()}, TypeError, "decode: .*NumPy array, got list"),
    "None": ({"decode": lambda z: None}, TypeError, "decode: .*NumPy array, got NoneType"),
    "tensor": ({"decode": lambda z: Tensor()}, TypeError, "decode: .*torch.*foreign_from_torch"),
    "masked": ({"decode": lambda z: np.ma.array(z @ W)}, TypeError, "decode: .*MaskedArray"),
    "in place": ({"decode": in_place}, ValueError, "decode: .*change in place"),
    "vjp in place": ({"decode_vjp": lambda z, d: in_place(z)}, ValueError, "decode_vjp: .*place"),
    "noise": ({"decode": noisy}, ValueError, "decode: .*same outputs.*evaluation mode"),
    "batch": (
        {"decode": lambda z: (z - z.mean(axis=0)) @ W}, ValueError, "decode: .*other rows",
    ),
    "wrong sign": ({"decode_vjp": lambda z, d: -d @ W.T}, ValueError, "decode_vjp: .*gradient of"),
    "half the gradient": ({"decode_vjp": lambda z, d: d @ W.T / 2}, ValueError, "gradient of"),
    "zero gradient": ({"decode_vjp": lambda z, d: 0 * z}, ValueError, "decode_vjp: .*gradient of"),
    "no pullback": ({"decode_vjp": None}, TypeError, "decode: expected outputs and their pullb"),
    "pair of one head": ({"decode": lambda z: (z @ W, z @ W)}, TypeError, "decode: .*got tuple"),
    "one head of two": ({"likelihood": "gaussian:head"}, ValueError, r"decode: .*\(5, 12\)"),
    "overflow": (
        {"decode": lambda z: np.float32(1e38) * 9 * (1 + z @ W).astype("f"), "dtype": "float32"},
        ValueError, "decode: expected finite outputs",
    ),
    "likelihood": ({"likelihood": "cauchy"}, ValueError, "likelihood: expected"),
    "latent_dim": ({"latent_dim": 0}, ValueError, "latent_dim: expected"),
    "data_dim": ({"data_dim": (1, 2.5)}, TypeError, "data_dim: expected"),
    "row_floats": ({"row_floats": -1}, ValueError, "row_floats: expected"),
    "no parameters": (
        {"likelihood": "gaussian:learned"}, ValueError, r"parameters: .*decoder.logvar.*got \[\]",
    ),
    "parameters in excess": ({"parameters": {"a": 1}}, ValueError, r"parameters: .*\['a'\]"),
    "short parameters": (
        {"likelihood": "gaussian:learned", "parameters": {"decoder.logvar": np.zeros(2)}},
        ValueError, r"parameters, decoder.logvar: expected \(6,\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_functions_get_one_line(what):
    # kills: an error of NumPy itself inside a bound, and a meaningless log p(x)
    changes, error, message = BAD[what]
    with np.errstate(over="ignore"), pytest.raises(error, match=message) as caught:
        ForeignVAE(**NEW | changes)
    assert "\n" not in str(caught.value)


BAD_ENCODERS = {
    "raises": (failing, RuntimeError, "encode: .*ZeroDivisionError"),
    "mu alone": (lambda x: np.zeros((len(x), J)), TypeError, r"encode: expected \(mu, logvar\)"),
    "shape": (lambda x: (x, x), ValueError, r"encode, mu: .*\(3, 2\).*\(3, 6\)"),
    "NaN": (lambda x: (x[:, :J], x[:, :J] + np.nan), ValueError, "encode, logvar: .*NaN"),
    "float32": (lambda x: (x[:, :J].astype("f"),) * 2, TypeError, "encode, mu: .*float32"),
    "in place": (lambda x: (x.__imul__(2)[:, :J],) * 2, ValueError, "encode: .*in place"),
}


@pytest.mark.parametrize("what", BAD_ENCODERS)
def test_bad_encoders_get_one_line(what):
    # kills: weights of a q that nobody has checked
    encode, error, message = BAD_ENCODERS[what]
    vae = ForeignVAE(**NEW | {"encode": encode})
    x = np.ones((3, D))
    for bound in (
        lambda: importance_log_likelihood(vae, x, 5),
        lambda: bounds.annealed_log_likelihood(vae, x, 2, 2),
        lambda: vae.encode(x),
    ):
        with pytest.raises(error, match=message) as caught:
            bound()
        assert "\n" not in str(caught.value)
    assert (x == 1).all()


def test_weights_that_are_no_numbers_are_an_error():
    # kills: NaN returned as log p(x)
    flaw = {"value": 0.0}
    foreign_model = ForeignVAE(**NEW | {"decode": lambda z: z @ W + flaw["value"]})
    own = model("gaussian:1.0")
    x, z = np.zeros((3, D)), np.zeros((3, J))
    zeros = np.zeros((3, J)), np.zeros((3, J))
    flaw["value"] = np.nan
    own.parameters["decoder.b1"][:] = np.nan
    for vae in (foreign_model, own):
        for bound in (
            lambda vae=vae: importance_log_likelihood(vae, x, 5),
            lambda vae=vae: bounds.importance_curve(vae, x, 5),
            lambda vae=vae: bounds.cubo(vae, x, 5),
            lambda vae=vae: bounds.eubo(vae, x, z),
            lambda vae=vae: row_terms(vae, x, zeros, n_samples=2, purpose=1, seed=0),
            lambda vae=vae: bounds.annealed_log_likelihood(vae, x, 2, 2),
        ):
            with pytest.raises(FloatingPointError, match=r"expected .*finite.*got NaN or inf"):
                bound()


def test_what_is_impossible_has_weight_zero():
    # kills: a check that takes log 0 for an error
    vae = ForeignVAE(**NEW | {"decode": lambda z: 1e200 * z @ W,
                              "decode_vjp": lambda z, d: 1e200 * d @ W.T})  # fmt: skip
    with np.errstate(over="ignore"):
        assert importance_log_likelihood(vae, np.ones((1, D)), 5) == -np.inf


@pytest.mark.parametrize(
    "use",
    [
        lambda vae, x: numpyvae.fit(vae, x, epochs=1),
        lambda vae, x: numpyvae.elbo_and_grad(vae, x, np.zeros((1, len(x), J))),
        lambda vae, x: exact.exact_model(vae),
        lambda vae, x: exact.Quadrature(vae),
        lambda vae, x: vae.save("model.npz"),
        lambda vae, x: vae.encode(x),
        lambda vae, x: bounds.compare_bounds(vae, x, ["elbo"]),
        lambda vae, x: diagnostics.rate_distortion(vae, x),
    ],
    ids=["fit", "elbo_and_grad", "exact", "quadrature", "save", "encode", "elbo", "rate"],
)
def test_other_uses_are_refused_in_one_line(use, tmp_path, monkeypatch):
    # kills: "'dict' object has no attribute 'like'", and the ELBO of a q that there is not
    monkeypatch.chdir(tmp_path)
    vae = ForeignVAE(**NEW)
    with pytest.raises((AttributeError, TypeError, ValueError), match="expected a") as caught:
        use(vae, np.zeros((4, D)))
    assert "\n" not in str(caught.value)
    assert "numpyvae.bounds" in str(caught.value) or "annealed" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_contract_is_open():
    # kills: a test of the class, and a member that the contract does not name
    vae = model()

    class Bare:
        """A model with the members of the contract, and no others."""

        data_dim, latent_dim, dtype = D, J, vae.dtype
        likelihood, parameters, row_size = vae.likelihood, {}, row_size(vae)

        encoder = staticmethod(vae.encoder)
        decoder = staticmethod(vae.decoder)
        log_likelihood = staticmethod(vae.log_likelihood)
        encode = staticmethod(vae.encode)

    expected, found = everything(vae), everything(Bare())
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_it_samples_and_can_be_copied():
    # kills: members shared with `VAE` that need what a foreign model has not
    vae = model()
    twin = copy.copy(foreign(vae))
    np.testing.assert_array_equal(twin.sample(4), vae.sample(4))
    np.testing.assert_array_equal(twin.decode(np.ones((3, J))), vae.decode(np.ones((3, J))))
    x = vae.sample(3)
    np.testing.assert_array_equal(twin.reconstruct(x), vae.reconstruct(x))
    assert repr(twin) == "ForeignVAE(6 dimensions, 2 latents, bernoulli, float64, with an encoder)"
