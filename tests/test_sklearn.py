"""`VAETransformer`: scikit-learn's own checks, and what they do not look at."""

from __future__ import annotations

import dataclasses
import inspect
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason='needs scikit-learn: pip install "numpyvae[sklearn]"')

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import numpyvae
from numpyvae import Adam, EarlyStopping, NonFiniteError, bounds, cosine_schedule, estimators
from numpyvae.command.settings import OPTIONS
from numpyvae.core.layers import softplus
from numpyvae.core.likelihoods import Poisson
from numpyvae.sklearn import VAETransformer
from numpyvae.sklearn.choices import DECLARED
from numpyvae.support.streams import Purpose, stream

SMALL = {"latent_dim": 2, "hidden": (5,), "epochs": 3, "random_state": 4, "eval_importance": 20}


@parametrize_with_checks(
    [
        VAETransformer(latent_dim=2, hidden=(10,), epochs=5),
        VAETransformer(
            latent_dim=2,
            hidden=(10, 5),
            epochs=5,
            estimator="dreg",
            likelihood="gaussian:head",
            bound="elbo",
            batch_size=7,
        ),
    ]
)
def test_scikit_learn_accepts_it(estimator, check):
    # kills: input that is changed, a refusal without the words that users know, an attribute set
    # by `__init__`, a dtype that is lost, a row whose figures depend on the other rows
    check(estimator)


def rows(n=50, dtype="float64", seed=0):
    """Return n rows of four numbers with two factors."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 2))
    return (z @ rng.standard_normal((2, 4)) + rng.normal(0, 0.3, (n, 4))).astype(dtype)


def small(**more):
    return VAETransformer(**SMALL | more)


def test_fit_is_the_training_of_the_package():
    # kills: another seed, dtype, schedule, optimizer or architecture than the parameters say
    x = rows()
    made = small(learning_rate=0.01, clip_norm=5.0, batch_size=20, activation="relu").fit(x)
    vae = numpyvae.VAE(4, 2, (5,), "relu", "gaussian:learned", "float64", 4)
    history = numpyvae.fit(
        vae,
        x,
        epochs=3,
        batch_size=20,
        optimizer=Adam(0.01, clip_norm=5.0),
        schedule=cosine_schedule(3),
        estimator=estimators.SGVBB(),
        seed=4,
    )
    np.testing.assert_array_equal(made.vae_.parameters.flat, vae.parameters.flat)
    np.testing.assert_array_equal(made.history_["elbo"], history["elbo"])
    np.testing.assert_array_equal(made.transform(x), vae.encode(x)[0])
    np.testing.assert_array_equal(made.inverse_transform(x[:, :2]), vae.decode(x[:, :2]))
    np.testing.assert_array_equal(made.sample(3), vae.sample(3, seed=4))


CHANGED = {
    "latent_dim": {"latent_dim": 3},
    "hidden": {"hidden": (4, 3)},
    "activation": {"activation": "softplus"},
    "likelihood": {"likelihood": "gaussian:0.5"},
    "estimator": {"estimator": "stl"},
    "n_samples": {"n_samples": 2},
    "train_importance": {"estimator": "iwae", "train_importance": 2},
    "beta": {"beta": 0.1},
    "kl_warmup": {"kl_warmup": 2},
    "free_bits": {"free_bits": 1.0},
    "weight_prior": {"weight_prior": 0.1},
    "optimizer": {"optimizer": "sgd"},
    "learning_rate": {"learning_rate": 0.1},
    "schedule": {"schedule": "constant"},
    "clip_norm": {"clip_norm": 0.01},
    "epochs": {"epochs": 4},
    "batch_size": {"batch_size": 10},
    "eval_importance": {"eval_importance": 2},
    "early_stopping": {"early_stopping": True},
    "validation_fraction": {"early_stopping": True, "validation_fraction": 0.4},
    "n_iter_no_change": {
        "n_iter_no_change": 1,
        **{"early_stopping": True, "learning_rate": 0.5, "epochs": 20},
    },
    "random_state": {"random_state": 5},
    "bound": {"bound": "elbo"},
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_parameter_changes_the_result(name):
    # kills: a parameter that is declared and not handed on
    x, change = rows(), CHANGED[name]
    without = {other: value for other, value in change.items() if other != name}
    a, b = small(**without).fit(x), small(**change).fit(x)
    assert not np.array_equal(a.score_samples(x), b.score_samples(x))


def test_every_parameter_is_tried():
    # kills: a new parameter without a test of its effect
    others = {"warm_start", "accelerator"}  # these have tests of their own
    assert CHANGED.keys() | others == set(VAETransformer().get_params())


def test_the_parameters_are_those_of_the_settings():
    # kills: a default that is not that of `train`, and a new option that is forgotten here
    for name in DECLARED:
        if name != "likelihood":
            assert getattr(VAETransformer(), name) == OPTIONS[name].default, name
    of_data = {"dataset", "folder", "maximum", "scale", "columns", "label_column", "delimiter"}
    renamed = {"validation", "patience", "seed"}
    assert {*DECLARED} | of_data | renamed | {"test_rows", "data_parallel"} == OPTIONS.keys()


def test_passes_of_partial_fit_are_a_fit_with_a_constant_rate():
    # kills: an optimizer that starts anew, other draws, a rate that falls
    x = rows()
    whole, parts = small(schedule="constant", kl_warmup=2).fit(x), small(kl_warmup=2)
    for n in (1, 2, 3):
        assert parts.partial_fit(x) is parts
        assert parts.n_iter_ == n
    np.testing.assert_array_equal(parts.vae_.parameters.flat, whole.vae_.parameters.flat)
    assert len(parts.history_) == whole.n_iter_ == 3


def test_partial_fit_goes_on_from_the_best_parameters_of_early_stopping():
    # kills: a pass whose result is thrown away for the best parameters of before
    x = rows()
    made = small(early_stopping=True, learning_rate=0.5, epochs=20, n_iter_no_change=2).fit(x)
    assert made.history_.stopped_early
    before = made.vae_.parameters.flat.copy()
    made.set_params(early_stopping=False, learning_rate=1e-6).partial_fit(x)
    step = np.abs(made.vae_.parameters.flat - before).max()
    assert 0 < step < 1e-4
    with pytest.raises(ValueError, match="partial_fit: expected early_stopping=False"):
        made.set_params(early_stopping=True).partial_fit(x)


def test_a_warm_start_goes_on_and_a_cold_one_does_not():
    # kills: fresh weights in a warm start, the same draws twice, old weights in a cold start
    x = rows()
    made = small(warm_start=True).fit(x)
    first = made.vae_
    vae = first.with_flat(first.parameters.flat.copy())
    vae.parameters.epochs = 3
    numpyvae.fit(vae, x, epochs=3, optimizer=Adam(3e-3), schedule=cosine_schedule(3), seed=4)
    flat = first.parameters.flat.copy()
    made.fit(x)
    np.testing.assert_allclose(made.vae_.parameters.flat, vae.parameters.flat, rtol=1e-12)
    np.testing.assert_array_equal(first.parameters.flat, flat)
    assert made.n_iter_ == 6
    cold = made.set_params(warm_start=False).fit(x)
    np.testing.assert_array_equal(cold.vae_.parameters.flat, flat)
    assert cold.n_iter_ == 3


@pytest.mark.parametrize("change", [{"latent_dim": 3}, {"hidden": 7}, {"likelihood": Poisson()}])
def test_a_model_of_another_form_is_not_gone_on_with(change):
    # kills: parameters that do not describe the model, or old weights under a new name
    made = small(warm_start=True).fit(rows()).set_params(**change)
    for method in (made.fit, made.partial_fit):
        with pytest.raises(ValueError, match=r"likelihood: expected those of the fitted model"):
            method(rows())
    assert made.n_iter_ == 3


def test_a_warm_start_with_other_columns_is_refused():
    # kills: the number of columns of the new data beside the weights for the old
    made = small(warm_start=True).fit(rows())
    with pytest.raises(ValueError, match="X has 3 features, but VAETransformer is expecting 4"):
        made.fit(rows()[:, :3])
    assert made.n_features_in_ == 4
    assert made.transform(rows()).shape == (50, 2)


def test_early_stopping_is_that_of_the_package_on_rows_that_are_held_out():
    # kills: validation rows that are trained on, and last parameters in place of the best
    x = rows()
    settings = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 2}
    made = small(**settings, epochs=30, learning_rate=0.3).fit(x)
    order = stream(4, Purpose.VALIDATION).permutation(50)
    vae = numpyvae.VAE(4, 2, (5,), "tanh", "gaussian:learned", "float64", 4)
    history = numpyvae.fit(
        vae,
        x[np.sort(order[10:])],
        epochs=30,
        optimizer=Adam(0.3),
        schedule=cosine_schedule(30),
        x_valid=x[np.sort(order[:10])],
        callbacks=[EarlyStopping(2)],
        seed=4,
    )
    assert history.stopped_early
    np.testing.assert_array_equal(made.history_["valid_elbo"], history["valid_elbo"])
    np.testing.assert_array_equal(made.vae_.parameters.flat, vae.parameters.flat)
    assert made.n_iter_ == len(history)
    assert made.best_validation_score_ == history["valid_elbo"].max()
    assert small().fit(x).best_validation_score_ is None


@pytest.mark.parametrize("bound", ["iwae", "elbo"])
def test_the_score_of_a_row_is_the_same_wherever_it_stands(bound):
    # kills: noise by the place of a row, another seed, another K, and a mean over features
    x = rows(45)
    made = small(bound=bound).fit(x)
    scores = made.score_samples(x)
    for some in (slice(7, 8), slice(None, None, -1), [40, 3, 3]):
        np.testing.assert_allclose(made.score_samples(x[some]), scores[some], rtol=1e-10)
    if bound == "iwae":
        expected = bounds.importance_log_likelihood(made.vae_, x, 20, seed=4)
    else:
        expected = bounds.compare_bounds(made.vae_, x, ["elbo"], seed=4).estimates["elbo"].values
    np.testing.assert_array_equal(scores, expected)
    assert made.score(x) == scores.mean()


def test_random_states():
    # kills: a number that moves or reads NumPy's global state; None and objects that always give
    # the same draws
    x, before = rows(), np.random.get_state()[1].copy()  # noqa: NPY002
    made = small().fit(x)
    np.testing.assert_array_equal(made.sample(2), made.sample(2))
    assert not np.array_equal(made.sample(2), made.sample(2, random_state=1))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert made.seed_ == small(random_state=np.int64(4)).fit(x).seed_ == 4
    shared = np.random.RandomState(0)
    first, second = (small(random_state=shared).fit(x) for _ in range(2))
    assert first.seed_ != second.seed_
    assert first.seed_ == small(random_state=np.random.RandomState(0)).fit(x).seed_
    assert not np.array_equal(second.sample(2), second.sample(2))


@pytest.mark.parametrize(("given", "computed"), [("float32",) * 2, ("int32", "float64")])
def test_the_model_computes_in_the_dtype_of_the_data(given, computed):
    # kills: float32 data that are trained in float64, which takes twice the time
    x = (10 * rows()).astype(given)
    made = small().fit(x)
    assert made.vae_.dtype == computed
    outputs = made.transform(x), made.inverse_transform(x[:, :2]), made.sample(2)
    assert {str(a.dtype) for a in outputs} == {computed}
    assert made.transform(x.astype("float64")).dtype == computed


def test_objects_take_the_place_of_names_and_survive_clone_and_pickle():
    # kills: an object that is taken for a name, or changed in a copy
    x = np.random.default_rng(0).poisson(3.0, (40, 4)).astype(float)
    made = small(
        likelihood=Poisson(),
        activation=softplus,
        estimator=estimators.DReG(2),
        optimizer=Adam(0.01),
        schedule=lambda epoch: 1.0,
    )
    by_name = small(
        likelihood="poisson",
        activation="softplus",
        estimator="dreg",
        train_importance=2,
        learning_rate=0.01,
        schedule="constant",
    ).fit(x)
    twin = clone(made).fit(x)
    np.testing.assert_array_equal(twin.transform(x), by_name.transform(x))
    twin.schedule = "constant"  # pickle takes no lambda
    again = pickle.loads(pickle.dumps(twin))
    np.testing.assert_array_equal(again.transform(x), twin.transform(x))
    np.testing.assert_array_equal(again.score_samples(x), twin.score_samples(x))
    again.partial_fit(x)
    assert (again.n_iter_, twin.n_iter_) == (4, 3)


def test_names_of_columns_in_and_out():
    # kills: latents without names, and an index that is lost
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    x = pd.DataFrame(rows(), columns=list("abcd"), index=range(100, 150))
    made = small().set_output(transform="pandas").fit(x)
    codes = made.transform(x)
    assert list(codes.columns) == ["vaetransformer0", "vaetransformer1"]
    assert list(codes.index) == list(x.index)
    assert list(made.feature_names_in_) == list("abcd")
    assert list(made.get_feature_names_out()) == list(codes.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        made.transform(x[list("abdc")])


def test_a_grid_over_parameters_is_searched():
    # kills: a parameter that GridSearchCV cannot set, as a NumPy integer
    grid = {"latent_dim": np.array([1, 2]), "likelihood": ["gaussian:learned", "gaussian:head"]}
    search = GridSearchCV(small(epochs=2, eval_importance=5), grid, cv=2).fit(rows())
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.best_estimator_.vae_.latent_dim == search.best_params_["latent_dim"]


BAD = [
    ({"latent_dim": 0}, "latent_dim: expected a whole number of at least 1, got 0"),
    ({"latent_dim": 2.0}, "latent_dim: expected a whole number"),
    ({"hidden": "wide"}, "hidden: expected a tuple"),
    ({"activation": "tan"}, "activation: expected one of .* did you mean tanh"),
    ({"likelihood": "binomial"}, "likelihood: expected"),
    ({"estimator": "dregs"}, "estimator .* did you mean dreg"),
    ({"beta": -1}, "beta: expected"),
    ({"estimator": "iwae", "beta": 0.5}, "beta: expected None for estimator='iwae', got 0.5"),
    ({"train_importance": 5}, "train_importance: expected None for estimator='sgvb-b', got 5"),
    ({"estimator": estimators.IWAE(3), "n_samples": 2}, "n_samples: expected None for .*object"),
    ({"weight_prior": 0}, "weight_prior: expected"),
    ({"optimizer": "adams"}, "optimizer: expected one of .* did you mean adam"),
    ({"learning_rate": "fast"}, "learning_rate: expected"),
    ({"schedule": "cosin"}, "schedule .* did you mean cosine"),
    ({"clip_norm": float("nan")}, "clip_norm: expected"),
    ({"epochs": None}, "epochs: expected"),
    ({"batch_size": 0}, "batch_size: expected"),
    ({"early_stopping": 1}, "early_stopping: expected a bool, got 1; set True or False"),
    ({"validation_fraction": 1.0}, "validation_fraction: expected a number above 0 and below 1"),
    ({"early_stopping": True, "validation_fraction": 0.001}, "leaves rows in both parts"),
    ({"n_iter_no_change": 0}, "n_iter_no_change: expected"),
    ({"random_state": -1}, "random_state: expected a whole number of at least 0, got -1"),
    ({"bound": "iwea"}, "bound: expected one of iwae, elbo; .* did you mean iwae"),
    ({"eval_importance": 0}, "eval_importance: expected"),
    ({"accelerator": "cuda"}, "accelerator: expected one of numba"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_parameter_gets_one_line_and_nothing_is_fitted(change, message):
    # kills: a value that is accepted, a message without the name, and a model that is half made
    made = small(**change)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        made.fit(rows())
    assert "\n" not in str(caught.value)
    assert not hasattr(made, "vae_")


def test_a_training_that_fails_leaves_the_last_fit():
    # kills: parameters of a failed training in the model that is kept
    x = rows()
    made = small(warm_start=True).fit(x)
    kept = made.transform(x)
    made.set_params(learning_rate=1e300)
    for method in (made.fit, made.partial_fit):
        with pytest.raises(NonFiniteError):
            method(x)
        np.testing.assert_array_equal(made.transform(x), kept)
        assert made.n_iter_ == 3


def test_a_pass_with_another_optimizer_is_refused():
    # kills: a message about an argument that the user did not give
    made = small().fit(rows()).set_params(optimizer="sgd")
    with pytest.raises(ValueError, match="optimizer: expected the kind of the last pass, got 's"):
        made.partial_fit(rows())
    assert made.set_params(warm_start=True).fit(rows()).partial_fit(rows()).n_iter_ == 7


def test_data_that_the_likelihood_does_not_have_are_refused():
    # kills: a density of counts that are not whole
    with pytest.raises(ValueError, match=r"X|x: expected"):
        small(likelihood="poisson").fit(rows())
    made = small(likelihood="poisson").fit(np.abs(rows()).round())
    with pytest.raises(ValueError, match="x: expected"):
        made.score_samples(rows())


def test_every_parameter_has_a_field_in_the_order_of_the_docstring():
    # kills: a parameter that the documentation leaves out or has in another place
    fields = [field.name for field in dataclasses.fields(VAETransformer)]
    text = inspect.getdoc(VAETransformer).partition("Attributes\n")[0]
    places = [text.index(f"\n{name} : ") for name in fields]
    assert places == sorted(places)


def test_the_accelerator_compiles_training_and_scores():
    # kills: an accelerator that is accepted and not used
    pytest.importorskip("numba", reason='needs Numba: pip install "numpyvae[fast]"')
    from numpyvae.fast import CompiledAdagrad, CompiledAdam, CompiledSGVB
    from numpyvae.sklearn import choices

    made = small(accelerator="numba").fit(rows())
    assert isinstance(choices.make_objective(made, 50), CompiledSGVB)
    assert isinstance(choices.make_rule(made), CompiledAdam)
    made.set_params(optimizer="adagrad", clip_norm=2.0)
    assert choices.make_rule(made) == CompiledAdagrad(made.learning_rate, clip_norm=2.0)
    assert type(choices.evaluated(made)) is not type(made.vae_)
    plain = small().fit(rows())
    np.testing.assert_allclose(made.score_samples(rows()), plain.score_samples(rows()), rtol=1e-6)
