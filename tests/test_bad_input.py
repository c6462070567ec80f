"""Invalid input gives one line: what was expected and what came. The model does not change."""

from pathlib import Path

import numpy as np
import pytest

from numpyvae import (
    VAE,
    Adam,
    EarlyStopping,
    Estimator,
    History,
    bounds,
    diagnostics,
    elbo,
    elbo_and_grad,
    estimators,
    exact,
    fit,
    importance_log_likelihood,
    inference,
    plotting,
)
from numpyvae.core.elbo import elbo_terms, log_joint, sampled_elbo
from numpyvae.core.optimizers import OPTIMIZERS, make_optimizer
from numpyvae.estimators.evaluation import mean_terms

D, J, N = 4, 2, 6
GOOD = np.random.default_rng(0).integers(0, 2, (N, D)).astype(float)
EPS = np.random.default_rng(1).standard_normal((1, N, J))


def model(likelihood="bernoulli", dtype="float32"):
    return VAE(D, J, (3,), likelihood=likelihood, dtype=dtype)


def refuses(error, call, *words, vae=None):
    """Check that `call` raises this type of error, in one line, and does not change the model."""
    before = None if vae is None else vae.parameters.flat.tobytes()
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    for word in ("expected", "got", *words):
        assert word in message, message
    if vae is not None:
        assert vae.parameters.flat.tobytes() == before


# The model, in every function.

NEED_A_MODEL = {
    "log_joint": lambda vae: log_joint(vae, GOOD, EPS),
    "sampled_elbo": lambda vae: sampled_elbo(vae, GOOD, EPS),
    "elbo_terms": lambda vae: elbo_terms(vae, GOOD, EPS),
    "elbo": lambda vae: elbo(vae, GOOD, EPS),
    "elbo_and_grad": lambda vae: elbo_and_grad(vae, GOOD, EPS),
    "mean_terms": lambda vae: mean_terms(vae, GOOD),
    "fit": lambda vae: fit(vae, GOOD, epochs=1),
    "importance_log_likelihood": lambda vae: importance_log_likelihood(vae, GOOD),
    "importance_curve": lambda vae: bounds.importance_curve(vae, GOOD),
    "annealed": lambda vae: bounds.annealed_log_likelihood(vae, GOOD),
    "sandwich": lambda vae: bounds.sandwich(vae),
    "simulate": lambda vae: bounds.simulate(vae, 3),
    "eubo": lambda vae: bounds.eubo(vae, GOOD, EPS),
    "cubo": lambda vae: bounds.cubo(vae, GOOD),
    "appendix D": lambda vae: bounds.fitted_log_likelihood(vae, GOOD),
    "compare_bounds": lambda vae: bounds.compare_bounds(vae, GOOD),
    "log_weights": lambda vae: bounds.log_weights(vae, GOOD, EPS[0], EPS[0], EPS),
    "decompose_gap": lambda vae: diagnostics.decompose_gap(vae, GOOD),
    "rate_distortion": lambda vae: diagnostics.rate_distortion(vae, GOOD),
    "elbo_surgery": lambda vae: diagnostics.elbo_surgery(vae, GOOD),
    "active_units": lambda vae: diagnostics.active_units(vae, GOOD),
    "variational_inference": lambda vae: inference.variational_inference(vae, GOOD),
    "m_step": lambda vae: inference.m_step(vae, GOOD, None),
    "variational_em": lambda vae: inference.variational_em(vae, GOOD, rounds=1),
    "monte_carlo_em": lambda vae: inference.monte_carlo_em(vae, GOOD, epochs=1),
    "full_variational_bayes": lambda vae: inference.full_variational_bayes(vae, GOOD, epochs=1),
    "exact_model": lambda vae: exact.exact_model(vae),
    "LinearGaussian": lambda vae: exact.LinearGaussian.from_vae(vae),
    "Gaussian": lambda vae: exact.Gaussian.from_encoder(vae, GOOD),
    "Quadrature": lambda vae: exact.Quadrature(vae),
    "estimator": lambda vae: estimators.SGVBB()(vae, GOOD, EPS),
    "reconstructions": lambda vae: plotting.plot_reconstructions(vae, GOOD, (2, 2)),
    "samples": lambda vae: plotting.plot_samples(vae, (2, 2)),
    "manifold": lambda vae: plotting.plot_manifold(vae, (2, 2)),
    "latent_space": lambda vae: plotting.plot_latent_space(vae, GOOD),
    "units": lambda vae: plotting.plot_active_units(vae, GOOD),
}


@pytest.mark.parametrize(
    "value",
    [
        "runs/vae/model.npz",
        Path("model.npz"),
        None,
        [],
        GOOD,
        VAE,
        exact.LinearGaussian(np.eye(D, J), np.zeros(D), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("function", list(NEED_A_MODEL))
def test_every_function_refuses_what_is_not_a_vae(function, value):
    # kills: the error "'str' object has no attribute 'data_dim'"
    refuses(
        TypeError, lambda: NEED_A_MODEL[function](value), "vae: expected a VAE", "VAE.load(path)"
    )


# The data x, in every function.

FUNCTIONS = {
    "encode": lambda vae, x: vae.encode(x),
    "reconstruct": lambda vae, x: vae.reconstruct(x),
    "elbo": lambda vae, x: elbo(vae, x, EPS),
    "elbo_and_grad": lambda vae, x: elbo_and_grad(vae, x, EPS),
    "elbo_terms": lambda vae, x: elbo_terms(vae, x, EPS),
    "sampled_elbo": lambda vae, x: sampled_elbo(vae, x, EPS),
    "mean_terms": lambda vae, x: mean_terms(vae, x),
    "importance": lambda vae, x: importance_log_likelihood(vae, x, 3),
    "log_weights": lambda vae, x: bounds.log_weights(vae, x, EPS[0], EPS[0], EPS),
    "fit": lambda vae, x: fit(vae, x, epochs=1),
}


def with_one(value, dtype=float):
    """Valid data except for one entry."""
    x = GOOD.astype(dtype)
    x[-1, -1] = value
    return x


BAD_ROWS = {
    "empty list": ([], ValueError, "(0,)"),
    "empty row": ([[]], ValueError, "(1, 0)"),
    "zero rows": (np.zeros((0, D)), ValueError, "(0, 4)"),
    "zero columns": (np.zeros((N, 0)), ValueError, "(6, 0)"),
    "1-D": (GOOD[0], ValueError, "(4,)"),
    "3-D": (GOOD[:, None], ValueError, "(6, 1, 4)"),
    "scalar": (1.0, ValueError, "()"),
    "None": (None, TypeError, "object"),
    "NaN": (with_one(np.nan), ValueError, "NaN"),
    "inf": (with_one(np.inf), ValueError, "infinity"),
    "-inf": (with_one(-np.inf), ValueError, "infinity"),
    "NaN in float16": (with_one(np.nan, np.float16), ValueError, "NaN"),
    "complex": (GOOD.astype(complex), TypeError, "complex128"),
    "strings": (GOOD.astype(str), TypeError, "<U"),
    "bytes": (GOOD.astype("S3"), TypeError, "S3"),
    "dates": (GOOD.astype("M8[s]"), TypeError, "datetime64"),
    "ragged": ([[0, 1, 0, 1], [0, 1]], ValueError, "lengths"),
    "object": (GOOD.astype(object), TypeError, "object"),
    "structured": (np.zeros((N, D), "f4,f4"), TypeError, "dtype"),
    "masked": (np.ma.masked_equal(GOOD, 0), TypeError, "masked"),
    "masked nowhere": (np.ma.masked_array(GOOD), TypeError, "masked"),
    "few columns": (GOOD[:, :3], ValueError, "4 columns, got 3"),
    "many columns": (np.hstack([GOOD, GOOD]), ValueError, "4 columns, got 8"),
    "transposed": (GOOD.T, ValueError, "4 columns, got 6"),
}


@pytest.mark.parametrize("what", list(BAD_ROWS))
@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_every_function_refuses_bad_rows(function, what):
    """Kills a function without the check: an error of NumPy itself, or a meaningless number."""
    x, error, word = BAD_ROWS[what]
    vae = model()
    refuses(error, lambda: FUNCTIONS[function](vae, x), "x:", word, vae=vae)


@pytest.mark.parametrize("function", [d for d in FUNCTIONS if d not in ("encode", "reconstruct")])
@pytest.mark.parametrize(
    ("likelihood", "x", "words"),
    [
        ("bernoulli", GOOD * 255, "0 to 255"),
        ("bernoulli", (GOOD * 255).astype(np.uint8), "0 to 255"),
        ("bernoulli", with_one(1 + 1e-9), "1.000000001"),
        ("bernoulli", with_one(-1e-9), "-1e-09"),
        ("bernoulli", with_one(-1), "-1"),
        ("binomial:3", with_one(-1), "-1"),
        ("binomial:3", with_one(4), "4"),
        ("binomial:3", with_one(4, np.uint8), "4"),
        ("binomial:3", with_one(3 + 1e-9), "3.000000001"),
        ("binomial:3", with_one(1 + 1e-9), "1.000000001"),
        ("binomial:3", np.vstack([with_one(0.5), 3 * GOOD])[-N - 1 : -1], "0.5"),
    ],
)
def test_values_outside_the_support(likelihood, x, words, function):
    """Kills a cross-entropy of grays 0–255, and a message that hides the value that is wrong."""
    vae = model(likelihood)
    refuses(ValueError, lambda: FUNCTIONS[function](vae, x), "x:", likelihood, words, vae=vae)


@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_values_too_large_for_float32(function):
    """Kills an infinity without an error: 1e300 is finite, but not in the dtype of the model."""
    vae = model("gaussian")
    refuses(ValueError, lambda: FUNCTIONS[function](vae, with_one(1e300)), "x:", "float", vae=vae)
    assert np.isfinite(FUNCTIONS["encode"](model("gaussian", "float64"), with_one(1e300))).all()


def numbers(result):
    """The arrays in the result of a function."""
    if isinstance(result, History):
        return (result["elbo"], result["gradient_norm"])
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("likelihood", ["bernoulli", "binomial:3", "gaussian", "gaussian:head"])
def test_other_valid_forms_of_x_give_the_numbers_of_the_plain_array(likelihood):
    """Kills a check that is too strict, and a form of x that is read as other numbers."""
    vae = model(likelihood, "float64")
    wide = np.zeros((2 * N, 3 * D))
    wide[::2, ::3] = GOOD
    forms = {
        "list": GOOD.tolist(),
        "tuple": tuple(map(tuple, GOOD)),
        "bool": GOOD.astype(bool),
        "uint8": GOOD.astype(np.uint8),
        "int64": GOOD.astype(np.int64),
        "float16": GOOD.astype(np.float16),
        "long double": GOOD.astype(np.longdouble),
        "big-endian": GOOD.astype(">f4"),
        "big-endian integers": GOOD.astype(">i2"),
        "strided": wide[::2, ::3],
        "Fortran": np.asfortranarray(GOOD),
        "constant column": GOOD,
    }
    for function in FUNCTIONS:
        expected = FUNCTIONS[function](model(likelihood, "float64"), GOOD)
        for form, x in forms.items():
            result = FUNCTIONS[function](model(likelihood, "float64"), x)
            for a, b in zip(numbers(result), numbers(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=form)
    assert vae.encode(GOOD[:1])[0].shape == (1, J)
    assert elbo(vae, GOOD[:1], EPS[:, :1]).shape == (1,)
    assert importance_log_likelihood(vae, GOOD[:1], 1).shape == (1,)


def test_variational_inference_refuses_values_too_large_for_float32():
    # kills: an infinity after conversion to the dtype of the model, and a q that is NaN
    vae = model("gaussian")
    call = lambda: inference.variational_inference(vae, with_one(1e300))  # noqa: E731
    refuses(ValueError, call, "x:", "float32", vae=vae)


# The noise ε and the latent z.


def log_weights(vae, x, eps):
    return bounds.log_weights(vae, x, *vae.encode(x), eps)


@pytest.mark.parametrize("function", [elbo, elbo_and_grad, elbo_terms, sampled_elbo, log_weights])
@pytest.mark.parametrize(
    ("eps", "error", "word"),
    [
        (EPS[0], ValueError, "(6, 2)"),
        (EPS[:, :1], ValueError, "(1, 1, 2)"),
        (EPS[:, :, :1], ValueError, "(1, 6, 1)"),
        (EPS[:0], ValueError, "(0, 6, 2)"),
        (0.0, ValueError, "()"),
        (None, TypeError, "object"),
        (EPS * np.nan, ValueError, "NaN"),
        (EPS * np.inf, ValueError, "infinity"),
        (EPS.astype(complex), TypeError, "complex"),
        (EPS.astype(str), TypeError, "<U"),
        (EPS.astype(object), TypeError, "object"),
        ([[[0.0, 1.0], [0.0]]], ValueError, "lengths"),
        (np.ma.masked_array(EPS, EPS > 0), TypeError, "masked"),
    ],
)
def test_bad_noise(eps, error, word, function):
    """Kills noise that is broadcast: one ε for the whole batch is a common bug."""
    vae = model()
    refuses(error, lambda: function(vae, GOOD, eps), "eps:", word, vae=vae)


@pytest.mark.parametrize("name", ["mu", "logvar"])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (EPS[0, :1], ValueError, "expected 6 rows, as many as x, got 1"),
        (EPS[0, :, :1], ValueError, "expected 2 columns, got 1"),
        (EPS[0] * np.nan, ValueError, "finite"),
        (EPS[0] + 1e300, ValueError, "float32"),
        (EPS[0] + 0j, TypeError, "complex128"),
        (EPS, ValueError, "(1, 6, 2)"),
    ],
)
def test_bad_posterior_of_log_weights(name, value, error, words):
    # kills: one row of q broadcast to all rows of x, and weights that are NaN
    q = {"mu": EPS[0], "logvar": EPS[0]} | {name: value}
    call = lambda: bounds.log_weights(model(), GOOD, **q, eps=EPS)  # noqa: E731
    refuses(error, call, f"{name}:", words)


def test_bad_latents():
    """Kills a decoder that takes any width or dimension."""
    vae = model()
    z = np.zeros((N, J))
    for bad, error in (
        (z[0], ValueError),
        (z[None], ValueError),
        (z[:, :1], ValueError),
        (z[:0], ValueError),
        (z * np.nan, ValueError),
        (z + 0j, TypeError),
        ("z", TypeError),
    ):
        refuses(error, lambda bad=bad: vae.decode(bad), "z:", vae=vae)


# Settings.

WHOLE = [
    (0, ValueError),
    (-1, ValueError),
    (2.5, TypeError),
    (2.0, TypeError),
    (True, TypeError),
    (np.True_, TypeError),
    (None, TypeError),
    ("3", TypeError),
    (np.nan, TypeError),
    ({3}, TypeError),
    (np.zeros((2, 2)), TypeError),
]


@pytest.mark.parametrize(("value", "error"), WHOLE, ids=repr)
@pytest.mark.parametrize("name", ["data_dim", "latent_dim", "hidden"])
def test_bad_dimensions_of_a_model(name, value, error):
    """Kills True read as 1, 2.5 read as 2, and NumPy's own error for an empty layer."""
    if name == "hidden":
        value = (5, value)
    refuses(error, lambda: VAE(**{"data_dim": D, "latent_dim": J} | {name: value}), name)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"hidden": None}, TypeError),
        ({"hidden": 2.5}, TypeError),
        ({"hidden": "32"}, TypeError),
        ({"hidden": [[1], [1, 2]]}, TypeError),
        ({"hidden": {"a": 1}}, TypeError),
        ({"activation": "Tanh"}, ValueError),
        ({"activation": None}, ValueError),
        ({"activation": np.tanh}, ValueError),
        ({"activation": lambda x: (x, x)}, ValueError),
        ({"likelihood": "poison"}, ValueError),
        ({"likelihood": ""}, ValueError),
        ({"likelihood": None}, ValueError),
        ({"likelihood": "bernoulli:2"}, ValueError),
        ({"likelihood": "binomial"}, ValueError),
        ({"likelihood": "binomial:0"}, ValueError),
        ({"likelihood": "binomial:-3"}, ValueError),
        ({"likelihood": "binomial:2.5"}, ValueError),
        ({"likelihood": "binomial:1000000000000"}, ValueError),
        ({"likelihood": "gaussian:0"}, ValueError),
        ({"likelihood": "gaussian:-1"}, ValueError),
        ({"likelihood": "gaussian:nan"}, ValueError),
        ({"likelihood": "gaussian:inf"}, ValueError),
        ({"likelihood": "gaussian:wide"}, ValueError),
        ({"dtype": "float16"}, ValueError),
        ({"dtype": "complex128"}, ValueError),
        ({"dtype": int}, ValueError),
        ({"dtype": "spam"}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 2.5}, TypeError),
        ({"seed": True}, TypeError),
        ({"seed": None}, TypeError),
        ({"init": 0}, ValueError),
        ({"init": -0.1}, ValueError),
        ({"init": np.nan}, ValueError),
        ({"init": "Glorot"}, TypeError),
        ({"init": None}, TypeError),
        ({"init": True}, TypeError),
        ({"init": np.zeros(2)}, TypeError),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_bad_settings_of_a_model(settings, error):
    """Kills a setting that is accepted without a check, or replaced by another one."""
    refuses(error, lambda: VAE(D, J, **settings), next(iter(settings)))


PARTS = {
    "n_samples": lambda value: {"estimator": Estimator(n_samples=value)},
    "patience": lambda value: {"callbacks": [EarlyStopping(value)]},
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (name, value, error)
        for name in ("epochs", "batch_size", "n_samples", "patience")
        for value, error in WHOLE
        if value is not None or name != "batch_size"  # which None leaves out
    ],
)
def test_bad_counts_in_fit(name, value, error):
    """Kills zero epochs, half a batch, and an error only after training has started."""
    vae, part = model(), PARTS.get(name, lambda value: {name: value})
    call = lambda: fit(vae, GOOD, **{"epochs": 1, "x_valid": GOOD} | part(value))  # noqa: E731
    refuses(error, call, f"{name}:", vae=vae)


BAD_FIT = [
    ({"batch_size": N + 1}, ValueError, "6 rows"),
    ({"optimizer": "adamw"}, ValueError, "adam"),
    ({"optimizer": None}, ValueError, "optimizer"),
    ({"optimizer": OPTIMIZERS["adam"]}, ValueError, "optimizer"),
    ({"update": "encoder"}, ValueError, "phi"),
    ({"update": None}, ValueError, "phi"),
    ({"update": np.zeros((2, 2))}, ValueError, "phi"),
    ({"estimator": "sgvb-b"}, TypeError, "make_estimator"),
    ({"estimator": estimators.SGVBB}, TypeError, "make_estimator"),
    ({"estimator": 3}, TypeError, "make_estimator"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1.5}, TypeError, "seed"),
    ({"seed": None}, TypeError, "seed"),
    ({"callbacks": [EarlyStopping(3)]}, ValueError, "x_valid"),
    ({"x_valid": []}, ValueError, "x_valid"),
    ({"x_valid": GOOD[0]}, ValueError, "x_valid"),
    ({"x_valid": GOOD[:, :3]}, ValueError, "x_valid"),
    ({"x_valid": GOOD * np.nan}, ValueError, "x_valid"),
    ({"x_valid": GOOD * 255}, ValueError, "x_valid"),
    ({"transform": 3}, TypeError, "transform"),
    ({"transform": lambda rows, rng: None}, TypeError, "transform"),
    ({"transform": lambda rows, rng: rows[:, :3]}, ValueError, "transform"),
    ({"transform": lambda rows, rng: rows[:1]}, ValueError, "transform"),
    ({"transform": lambda rows, rng: rows * np.nan}, ValueError, "transform"),
    ({"transform": lambda rows, rng: rows * 255}, ValueError, "transform"),
    ({"schedule": "cosine"}, TypeError, "schedule"),
    ({"schedule": 0.5}, TypeError, "schedule"),
    ({"schedule": lambda epoch: None}, TypeError, "schedule"),
    ({"schedule": lambda epoch: np.nan}, ValueError, "schedule"),
    ({"callbacks": print}, TypeError, "callbacks"),
    ({"callbacks": [3]}, TypeError, "callbacks"),
    ({"resume": 3}, TypeError, "resume"),
    ({"resume": {}}, TypeError, "resume"),
]


@pytest.mark.parametrize(("settings", "error", "word"), BAD_FIT, ids=range(len(BAD_FIT)))
def test_bad_settings_of_fit(settings, error, word):
    """Kills a setting that fails only after training has begun, with an error of Python."""
    vae = model()
    refuses(error, lambda: fit(vae, GOOD, **{"epochs": 1} | settings), word, vae=vae)


BAD_PARTS = [
    (lambda: estimators.make_estimator("exact"), ValueError, "sgvb-b"),
    (lambda: estimators.make_estimator(None), ValueError, "sgvb-b"),
    (lambda: estimators.make_estimator("score-loo", n_samples=1), ValueError, "at least 2"),
    (lambda: estimators.make_estimator("sgvb-b", n_importance=5), ValueError, "n_importance"),
    (lambda: estimators.make_estimator("iwae", n_importance=0), ValueError, "n_importance"),
    (lambda: estimators.make_estimator("iwae", n_importance=2.5), TypeError, "n_importance"),
    (lambda: estimators.make_estimator("iwae", beta=2), ValueError, "beta"),
    (lambda: estimators.make_estimator("stl", kl_warmup=2), ValueError, "kl_warmup"),
    (lambda: estimators.SGVBB(beta=-1), ValueError, "beta"),
    (lambda: estimators.SGVBB(beta=np.nan), ValueError, "beta"),
    (lambda: estimators.SGVBB(beta="1"), TypeError, "beta"),
    (lambda: estimators.SGVBB(free_bits=-0.1), ValueError, "free_bits"),
    (lambda: estimators.SGVBB(kl_warmup=-1), ValueError, "kl_warmup"),
    (lambda: estimators.SGVBB(kl_warmup="2"), TypeError, "kl_warmup"),
    (lambda: Adam(clip_norm=0), ValueError, "clip_norm"),
    (lambda: Adam(clip_norm=-1), ValueError, "clip_norm"),
    (lambda: Adam(clip_norm=np.nan), ValueError, "clip_norm"),
    (lambda: Adam(clip_norm=np.inf), ValueError, "clip_norm"),
    (lambda: Adam(clip_norm=10**400), ValueError, "clip_norm"),
    (lambda: Adam(clip_norm="1"), TypeError, "clip_norm"),
    (lambda: Adam(clip_norm=True), TypeError, "clip_norm"),
    (lambda: Adam(clip_norm=1j), TypeError, "clip_norm"),
]


@pytest.mark.parametrize(("call", "error", "word"), BAD_PARTS, ids=range(len(BAD_PARTS)))
def test_bad_settings_of_an_estimator_or_an_optimizer(call, error, word):
    """Kills a setting that fails only after training has started."""
    refuses(error, call, word)


@pytest.mark.parametrize("bad", [lambda rows: rows + 1, lambda rows: rows[:, :3]])
def test_a_transform_is_checked_in_every_batch(bad):
    """Kills a check of the first batch only: a later batch has values that are not 0 or 1."""
    calls = []

    def spoil_the_second(rows, rng):
        calls.append(1)
        return bad(rows) if len(calls) == 2 else rows

    with pytest.raises(ValueError, match=r"^[^\n]*expected[^\n]*got[^\n]*$"):
        fit(model(), GOOD, epochs=1, batch_size=2, transform=spoil_the_second)
    assert len(calls) == 2


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize(
    ("rate", "error"),
    [
        (0, ValueError),
        (-1e-3, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        ("fast", TypeError),
        ("0.1", TypeError),
        (True, TypeError),
        (1j, TypeError),
        ([0.1], TypeError),
    ],
    ids=repr,
)
def test_bad_learning_rates(name, rate, error):
    """Kills a learning rate of 0, and text that is read as a number."""
    refuses(error, lambda: OPTIMIZERS[name](learning_rate=rate), "learning_rate:")
    refuses(error, lambda: make_optimizer(name, rate), "learning_rate:")


@pytest.mark.parametrize(("value", "error"), WHOLE, ids=repr)
def test_bad_number_of_importance_samples(value, error):
    """Kills K = 0, whose mean is not a number."""
    vae = model()
    call = lambda: importance_log_likelihood(vae, GOOD, value)  # noqa: E731
    refuses(error, call, "n_importance:", vae=vae)


@pytest.mark.parametrize(("value", "error"), WHOLE, ids=repr)
def test_bad_number_of_draws(value, error):
    """Kills an empty sample."""
    vae = model()
    refuses(error, lambda: vae.sample(value), "n:", vae=vae)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)]
)
def test_bad_seeds(seed, error):
    """Kills draws that cannot be repeated, unless `sample(n, seed=None)` asks for them."""
    vae = model()
    if seed is not None:
        refuses(error, lambda: vae.sample(3, seed=seed), "seed:", vae=vae)
    for call in (
        lambda: importance_log_likelihood(vae, GOOD, 3, seed=seed),
        lambda: mean_terms(vae, GOOD, seed=seed),
        lambda: fit(vae, GOOD, epochs=1, seed=seed),
        lambda: VAE(D, J, seed=seed),
    ):
        refuses(error, call, "seed:", vae=vae)
