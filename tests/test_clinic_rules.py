"""Rules of decision of the clinic: what is legitimate raises no alarm, whatever the chance."""

from __future__ import annotations

import numpy as np
import pytest
from clinic_subjects import D, Patient

from benchmarks.clinic_models import right_model
from numpyvae.clinic import Subject, examine
from numpyvae.clinic.calls import Calls
from numpyvae.clinic.examinations import (
    assembly,
    draws,
    evaluation,
    freeze,
    gradient_names,
    numbers,
    rows,
)
from numpyvae.clinic.examinations.gradient_case import compare
from numpyvae.clinic.examinations.unbiased import unbiased
from numpyvae.clinic.expected import Measured, measure, nodes, probe_rows
from numpyvae.clinic.facts import establish
from numpyvae.clinic.statistics import Fit, decide, fit, misfit, two_stages


def facts_of(subject):
    return establish(Calls(subject), 0)


def verdicts(report, title):
    return [f.verdict for f in report.findings if f.examination == title]


# The loss


class Weighted(Patient):
    """A loss that is −L_K."""

    K = 5

    def loss(self, x, eps=None):
        mu, s = self.encode(x)
        eps = self.rng.standard_normal((self.K, *mu.shape)) if eps is None else eps
        z = mu + np.exp(0.5 * s) * eps
        rec = np.array([self.rec_rows(x, self.decode(one)) for one in z])
        log_w = -rec - 0.5 * (z**2 - s - eps**2).sum(-1)
        top = log_w.max(0)
        return -(top + np.log(np.exp(log_w - top).mean(0))).mean()


def test_an_importance_weighted_bound_that_is_not_declared_is_no_bug():
    # Kills: a clinic that knows of no loss but −ELBO, and one that names two bugs which fit.
    report = examine(Weighted(2).subject(pieces=False))
    assert report.names == ("importance-weighted bound",), str(report)
    assert report.ok
    assert verdicts(report, "assembly: rows of a batch") == ["right"]
    (found,) = [f.found for f in report.findings if f.name == "importance-weighted bound"]
    assert "K = 5" in found


def test_an_importance_weighted_bound_with_an_unknown_variance_is_not_judged():
    # Kills: L_K at σ = 1 for a squared error whose σ is not declared.
    model = Weighted(2, likelihood="squared")
    assert examine(model.subject(pieces=False, n_importance=5)).ok
    assert examine(model.subject(pieces=False, n_samples=5)).ok


def test_the_sign_of_a_bound_is_looked_at():
    # Kills: a bound that is acquitted before its sign is known.
    model = Weighted(2)
    report = examine(model.subject(pieces=False, n_samples=5, loss=lambda x: -model.loss(x)))
    assert "sign of the loss" in report.names


def fitted(coefficients, errors):
    return Fit(np.array(coefficients), np.array(errors), 1.0, 1.0, 0.1, 5.0)


@pytest.mark.parametrize(("factor", "error", "n"), [(-1.0, 0.5, 0), (-1.0, 0.1, 1), (1.0, 0.1, 0)])
def test_a_sign_is_judged_only_if_it_is_known(factor, error, n):
    # Kills: the sign of a factor −1 ± 0.5, which is noise.
    facts = facts_of(Patient(0).subject())
    assert len(list(assembly._sign(facts, fitted([factor], [error]), ""))) == n


@pytest.mark.parametrize(
    ("c_kl", "error", "verdict"),
    [
        (-0.2, 2.0, "undecided"),
        (-0.2, 0.01, "wrong"),
        (0.0, 1e-7, "wrong"),
        (0.0, 0.01, "undecided"),
        (2.0, 0.1, "right"),
    ],
)
def test_the_sign_of_the_kl_beside_a_squared_error_is_judged_only_if_it_is_known(
    c_kl, error, verdict
):
    # Kills: c_KL = −0.2 ± 2 taken for a wrong sign.
    facts = facts_of(Patient(0, likelihood="squared").subject())
    free = fitted([2.0, c_kl, 0.0], [0.01, error, 1.0])
    (finding,) = assembly._right(facts, free, "", "", "")
    assert finding.verdict == verdict


def test_a_clip_is_not_another_weight_of_the_kl():
    # Kills: a weight of the KL that is blamed for pixels which are cut off.
    facts = facts_of(Patient(1, "clipped").subject())
    facts.reconstruction_factor = 1.0
    assert [f.verdict for f in numbers.examine(facts)][:1] == ["wrong"]
    m = Measured(facts, facts.x, *[np.ones(1)] * 5)
    assert [f.verdict for f in assembly._verdict(facts, m, None, None)] == ["undecided"]


@pytest.mark.parametrize(("batch_size", "name"), [(16, True), (D, False), (20, False)])
def test_the_nominal_batch_size_is_named_only_if_nothing_else_divides(batch_size, name):
    # Kills: a loss summed over the rows and divided by D, where D is near the batch size.
    divisor = 16 if batch_size in (16, 20) else D
    model = Patient(1, total="sum", scale=1 / divisor)
    report = examine(model.subject(pieces=False, batch_size=batch_size))
    assert report.names == (("nominal batch size in the divisor",) if name else ())


# What a mean and its error are worth


def test_the_two_stages_have_seeds_of_their_own():
    # Kills: a second stage in which a row has the noise that another had in the first.
    seen = [set(), set()]
    for stage, seeds in enumerate(seen):
        subject = Patient(0).subject(noise="seed", loss=lambda x, s, to=seeds: to.add(s) or 0.0)
        measure(facts_of(subject), np.eye(24, D), 3, stage)
    first, second = (seeds - {1} for seeds in seen)  # establish calls with the seed 1
    assert first
    assert not first & second


@pytest.mark.parametrize("latent_dim", [2, 3])
def test_random_nodes_are_drawn_for_each_row(latent_dim):
    # Kills: rows whose errors are one error, which the mean over the rows does not reduce.
    subject = Subject(loss=lambda x: 0.0, latent_dim=latent_dim, x=np.eye(4))
    m = measure(facts_of(subject), np.eye(4), 3, 0)
    assert len(m.eps) == (4 if latent_dim == 3 else 1)
    assert latent_dim == 2 or not np.array_equal(m.eps[0], m.eps[1])


def with_tails(power):
    """Rows whose reconstruction is exp(power z) for a squared error, as `measure` returns them."""
    decode = lambda z: np.exp(0.5 * power * z[:, :1])  # noqa: E731
    encode = lambda x: (0 * x, 0 * x)  # noqa: E731
    subject = Subject(
        loss=lambda x: float(x.mean()),
        encode=encode,
        decode=decode,
        likelihood="gaussian:1",
        scale="logvar",
        x=np.zeros((1, 1)),
    )
    facts = facts_of(subject)
    eps, weights = nodes(1, facts.rng(30))
    return facts, Measured(
        facts, np.zeros((1, 1)), np.zeros(1), np.ones(1), 1.0, eps[None], weights
    )


@pytest.mark.parametrize(("power", "heavy"), [(0.3, False), (1.2, True), (3.0, True)])
def test_heavy_tails_are_seen(power, heavy):
    # Kills: a test that takes the variance of few draws of exp(3 z) for that of all.
    assert with_tails(power)[1].heavy().tolist() == [heavy]


@pytest.mark.parametrize(("power", "verdict"), [(0.3, "wrong"), (3.0, "undecided")])
def test_the_noise_of_a_loss_with_heavy_tails_is_not_judged(power, verdict):
    # Kills: one ε for the whole batch, seen in a variance that one great draw makes.
    facts, m = with_tails(power)
    facts.varies = True
    m.values = np.array([1.0, 2.0])
    (finding,) = rows.one_noise(facts, m, m)
    assert finding.verdict == verdict


# Draws


def test_draws_without_a_seed_are_judged_by_their_errors():
    # Kills: a mean of draws of σ = 1.6 that is allowed 0.1, which is less than four errors.
    for seed in range(40):
        rng = np.random.default_rng([3, seed])
        sample = lambda mu, s, r=rng: mu + np.exp(0.5 * s) * r.standard_normal(mu.shape)  # noqa: E731
        facts = facts_of(Subject(kl=len, sample_z=sample, latent_dim=1, scale="logvar"))
        assert draws.sampler_law(facts, False)[0] == "right"


# Reported figures


def test_an_evaluation_with_a_generator_of_its_own_is_right():
    # Kills: a figure of one draw for each row that is compared as if it were a mean of many.
    model = Patient(3)

    def evaluate(x):
        mu, s = model.encode(x)
        z = mu + np.exp(0.5 * s) * np.random.default_rng(5).standard_normal(mu.shape)
        return (model.rec_rows(x, model.decode(z)) + model.kl_rows(mu, s)).mean()

    report = examine(model.reporting(evaluate=evaluate))
    assert verdicts(report, "evaluation: data set") == ["right"], str(report)


def test_generated_data_with_a_wide_gaussian_noise_are_right():
    # Kills: a deviation of 0.15 that is too much for the mean of 400 draws of σ = 2.
    model = Patient(3, likelihood="gaussian", sigma=2.0)
    generate = lambda z: model.decode(z) + 2 * model.rng.standard_normal((len(z), D))  # noqa: E731
    facts = facts_of(model.subject(generate=generate))
    assert [f.verdict for f in evaluation._generated(facts)] == ["right"]


# Precision


def test_float32_behind_an_adapter_is_seen():
    # Kills: a precision that is read off the type which an adapter returns.
    model = Patient(2, dtype="float32")
    wide = lambda pair: tuple(np.asarray(a, "float64") for a in pair)  # noqa: E731
    subject = model.subject(
        pieces=False,
        dtype="float64",
        noise="eps",
        encode=lambda x: wide(model.encode(x)),
        loss=lambda x, eps: float(model.loss(x, eps.astype("float32"))),
    )
    assert facts_of(subject).tolerance == 1e-4
    assert examine(subject).names == ()


def graded(value, gradient, theta, dtype="float64"):
    """A subject whose loss is a function of its parameters alone."""
    theta = np.array(theta, dtype)
    loss = lambda x: np.asarray(value(theta), dtype)[()]  # noqa: E731
    return Subject(
        loss=loss,
        gradient=lambda x: gradient(theta),
        parameters=(lambda: theta, lambda v: theta.__setitem__(slice(None), v)),
        seed=lambda s: None,
        x=np.eye(4),
        dtype=dtype,
    )


def test_a_kink_at_the_point_itself_is_left_out():
    # Kills: two steps that agree because both have the kink in their middle.
    subject = graded(
        lambda t: abs(t[0]) + t[1] ** 2, lambda t: np.array([1.0, 2 * t[1]]), [0, 3.0]
    )
    assert compare(facts_of(subject)).wrong == []
    assert len(compare(facts_of(subject)).found) == 1


def test_the_rounding_errors_of_a_large_loss_are_no_bug():
    # Kills: differences of a loss of 10⁶ that are taken to be exact to 10⁻⁵ of a small gradient.
    subject = graded(lambda t: 1e6 + 1e-3 * (t**2).sum(), lambda t: 2e-3 * t, [0.3, 0.7])
    assert compare(facts_of(subject)).wrong == []
    small = graded(lambda t: 1e-3 * (t**2).sum(), lambda t: 2.1e-3 * t, [0.3, 0.7])
    assert compare(facts_of(small)).wrong == ["all"]


@pytest.mark.parametrize(("bias", "verdict"), [(0.0, "right"), (1e-6, "right"), (1e-2, "wrong")])
def test_the_error_of_differences_is_no_bias_of_an_estimator(bias, verdict):
    # Kills: a constant error of 10⁻⁶ that is many standard errors of an estimator without noise.
    rng = np.random.default_rng(4)
    noise = lambda: 1e-8 * rng.standard_normal(2)  # noqa: E731
    subject = graded(
        lambda t: (t**2).sum(), lambda t: 2 * t + bias * np.ones(2) + noise(), [0.3, 0.7]
    )
    case = compare(facts_of(subject))._replace(tolerance=1e-5)
    case = case._replace(found=case.expected + 1)  # both coordinates are examined
    assert unbiased(case, None) == verdict


def test_whole_numbers_are_no_sign_of_float32():
    # Kills: a loss that counts pixels, whose numbers are equal in both types.
    subject = Subject(encode=lambda x: (x, x), loss=lambda x: float(x.sum()), x=np.eye(3))
    assert facts_of(subject).tolerance == 1e-9


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_nodes_have_the_moments_of_a_normal_distribution(latent_dim):
    # Kills: weights that do not add up to 1, whose factor no fit shows.
    eps, weights = nodes(latent_dim, np.random.default_rng(0))
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ eps, 0, atol=1e-12)
    tolerance = 1e-9 if latent_dim < 3 else 0.3
    np.testing.assert_allclose(weights @ eps**2, 1, atol=tolerance)


# Decisions


def test_a_decision_needs_both_stages():
    # Kills: one stage, another sign in the second, and a floor or an error that is left out.
    def stages(*pairs):
        return lambda k: pairs[k]

    assert two_stages(stages((0.5, 0.01), (0.5, 0.01)), 0.1) == "wrong"
    assert two_stages(stages((0.5, 0.01), (-0.5, 0.01)), 0.1) == "undecided"
    assert two_stages(stages((0.5, 0.01), (0.09, 0.01)), 0.1) == "undecided"
    assert two_stages(stages((0.5, 0.01), (0.5, 0.1)), 0.1) == "undecided"
    assert two_stages(stages((0.5, 0.1)), 0.1) == "right"
    assert two_stages(stages((0.5, 0.2)), 0.1) == "undecided"
    assert two_stages(stages((0.09, 0.001)), 0.1) == "right"


def test_the_misfit_is_relative_and_infinite_for_what_is_not_finite():
    # Kills: an absolute misfit, and a NaN that compares as small.
    assert misfit(np.array([100.0]), np.array([99.0])) == pytest.approx(0.01)
    assert misfit(np.array([np.nan]), np.ones(1)) == np.inf
    assert misfit(np.ones(1), np.array([np.inf])) == np.inf
    assert decide({"a": 1e-9, "b": 1e-10, "c": 1.1e-9}, 1e-9) == ["b", "a"]


def test_a_fit_has_the_errors_of_least_squares():
    # Kills: weights the wrong way round, errors without the scale, a residual in other units.
    rng = np.random.default_rng(0)
    a = np.stack([np.ones(8), np.arange(8.0) * 100], 1)
    errors = rng.uniform(0.5, 2, 8)
    y = a @ [2.0, 3.0] + errors * rng.standard_normal(8)
    w = np.diag(1 / errors**2)
    covariance = np.linalg.inv(a.T @ w @ a)
    result = fit(a, y, errors)
    c = covariance @ a.T @ w @ y
    z = (y - a @ c) / errors
    np.testing.assert_allclose(result.coefficients, c)
    np.testing.assert_allclose(result.errors, np.sqrt(np.diag(covariance)))
    assert result.worst == pytest.approx(np.abs(z).max())
    assert result.chi == pytest.approx(np.sqrt((z**2).mean()))
    assert result.residual == pytest.approx(np.sqrt(((y - a @ c) ** 2).mean()))
    unit = a / errors[:, None] / np.linalg.norm(a / errors[:, None], axis=0)
    assert result.condition == pytest.approx(np.linalg.cond(unit))


@pytest.mark.parametrize("figure", ["log_p", "evaluate"])
def test_a_figure_is_wrong_only_if_two_sets_of_draws_say_so(figure):
    # Kills: one set of draws, which by chance or by its tails may be far off.
    model = Patient(3)
    seeds = [0]
    late = {"log_p": 100_000, "evaluate": 10_000}[figure]

    def reseed(seed):
        seeds[0] = seed
        model.reseed(seed)

    def off(*args):
        return getattr(model, figure)(*args) + 3.0 * (seeds[0] < late)

    fields = {"log_p": None, "evaluate": None, "generate": None, figure: off, "seed": reseed}
    report = examine(model.reporting(**fields))
    title = {"log_p": "evaluation: log p(x)", "evaluate": "evaluation: data set"}[figure]
    assert verdicts(report, title) == ["undecided"], str(report)


# What is not known is not judged


def test_a_seed_that_does_not_reach_the_noise_is_told():
    # Kills: a loss that is called frozen whatever it returns.
    model = Patient(1)
    free = {"loss": Patient(1).loss, "pieces": False}
    for seed, verdict in ((model.reseed, "undecided"), (None, "not examined")):
        facts = facts_of(model.subject(seed=seed, **free))
        (finding,) = freeze.examine(facts)
        assert finding.verdict == verdict
        assert not facts.frozen
        assert facts.varies


def test_a_reduction_over_rows_that_is_not_known_is_not_judged():
    # Kills: factors that fit neither a mean nor a sum, taken for one of them.
    facts = facts_of(Patient(1).subject())
    x = facts.x[:12]
    rng = np.random.default_rng(0)
    many, one = measure(facts, x, 3, 0), measure(facts, x, 1, 0)
    many.values, one.values = rng.normal(0, 1, 12), rng.normal(0, 1, 12)
    told = [f.verdict for f in rows.reduction(facts, many, one, None)]
    assert told == ["undecided"]


def test_the_probes_of_a_gaussian_are_scaled_and_those_of_pixels_are_not():
    # Kills: probes of one kind, whose KL does not vary, or pixels beyond 0 and 1.
    x = np.random.default_rng(0).standard_normal((20, 3))
    gaussian = facts_of(Subject(loss=len, x=x, likelihood="gaussian"))
    assert np.array_equal(probe_rows(gaussian), np.concatenate([x[:12], 1.5 * x[:6], 0.4 * x[:6]]))
    pixels = facts_of(Subject(loss=len, x=(x > 0).astype(float)))
    rows_of_pixels = probe_rows(pixels)
    assert set(np.unique(rows_of_pixels)) == {0.0, 1.0}
    assert rows_of_pixels.sum(1).min() == 0
    assert rows_of_pixels.sum(1).max() == 3


def test_columns_that_are_nearly_alike_are_told_apart_and_equal_ones_do_no_harm():
    # Kills: a rank that is cut at 10⁻², and an inverse of 0.
    x = np.linspace(0, 1, 9)
    near = np.stack([np.ones(9), 1 + 1e-4 * x], 1)
    np.testing.assert_allclose(fit(near, near @ [2.0, 3.0], np.ones(9)).coefficients, [2, 3])
    equal = fit(np.ones((9, 2)), np.full(9, 4.0), np.ones(9))
    np.testing.assert_allclose(equal.coefficients, [2, 2])
    assert equal.condition > 1e9


@pytest.mark.parametrize(
    ("mean", "name"),
    [("right", gradient_names.UNBIASED), ("undecided", ""), ("wrong", gradient_names.NOT)],
)
def test_a_gradient_without_a_known_bug_is_judged_by_its_mean(mean, name, monkeypatch):
    # Kills: STL in float32 with J = 1, whose few coordinates some factors explain by chance.
    monkeypatch.setattr(gradient_names, "unbiased", lambda case, known: mean)
    monkeypatch.setattr(gradient_names, "_encoder", lambda case, known: gradient_names.NOT)
    case = compare(facts_of(Patient(3, "stl").graded(form="sampled")))
    assert gradient_names.name_of(case) == name


@pytest.mark.parametrize(
    ("seed", "index"),
    [
        pytest.param(200_000, 133, id="L_6 that is not declared"),
        pytest.param(200_000, 611, id="noise of one draw beside that of many, given"),
        pytest.param(310_000, 166, id="score function, one latent, float32"),
        pytest.param(310_000, 478, id="noise below rounding errors"),
        pytest.param(100_000, 154, id="losses of 1e12"),
        pytest.param(100_000, 667, id="few different draws among the copies"),
        pytest.param(100_000, 296, id="batch statistics of little effect, float32"),
        pytest.param(100_000, 466, id="batch statistics of little effect, grays"),
        pytest.param(100_000, 406, id="logits that all lie in [0, 1]"),
        pytest.param(100_000, 618, id="one latent, steep decoder, wide q"),
    ],
)
def test_a_right_model_that_was_accused_is_acquitted(seed, index):
    # Kills: noise of 251 draws where there are 29; a company that is noticed only if it changes
    # outputs by a tenth; values in [0, 1] near z = 0 as a proof of probabilities; two quadrature
    # rules that agree by chance as a proof that both are right.
    style, subject, _ = right_model(seed, index)
    report = examine(subject, seed + index)
    assert report.ok, f"{style}: {report}"


@pytest.mark.parametrize(("piece", "title"), [("kl", "KL"), ("reconstruction", "reconstruction")])
def test_a_misfit_between_rounding_errors_and_a_bug_is_undecided(piece, title):
    # Kills: a piece that is a little off, which no finding mentions, and one that is called a bug.
    model = Patient(2)

    def squared(x, mean):
        return 0.5 * ((x - mean) ** 2).sum(axis=1)

    right = {"kl": model.kl_rows, "reconstruction": squared}[piece]

    def off(*arrays):
        value = right(*arrays)
        return value + 1e-7 * (1 + value) * np.sin(1000 * value)

    own = lambda x, out: -squared(x, out)  # noqa: E731 - it is not summed over the values of x
    declared = {"decode": model.decode, "x": np.eye(D), "likelihood": own}
    report = examine(Subject(**{piece: off}, **declared))
    assert verdicts(report, f"{title}: value") == ["undecided"], str(report)
