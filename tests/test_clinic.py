"""The clinic on small VAEs in NumPy: bugs are named, what is legitimate raises no alarm."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from clinic_subjects import Patient

from numpyvae.clinic import ClinicError, Subject, check, examine, parametrize
from numpyvae.clinic.calls import Calls
from numpyvae.clinic.examinations.forms import log_evidence
from numpyvae.clinic.facts import establish

STYLES = {
    "mean over rows": {},
    "sum over rows": {"total": "sum"},
    "one number for each row": {"total": "rows"},
    "maximized": {"maximized": True},
    "divided by D": {"scale": 1 / 6},
    "log σ": {"head": "log_sigma"},
    "σ": {"head": "sigma"},
    "σ²": {"head": "variance"},
    "softplus": {"head": "softplus"},
    "β = 4, declared": {"beta": 4.0},
    "L = 3": {"draws": 3},
    "free bits": {"free_bits": 0.2},
    "free bits of the whole KL": {"free_bits": 0.6, "floor": "total"},
    "float32": {"dtype": "float32"},
    "probabilities": {"out": "probabilities"},
    "squared error without σ": {"likelihood": "squared"},
    "Gaussian": {"likelihood": "gaussian"},
    "Gaussian without constants": {"likelihood": "gaussian", "constants": False},
    "Gaussian with learned variances": {"likelihood": "gaussian2"},
    "binomial without its coefficient": {"likelihood": "binomial:16"},
}

VALUE_BUGS = {
    "KL without -1": "KL without its −1",
    "KL one -1": "KL with one −1 for all latents",
    "KL without half": "KL without ½",
    "KL sign": "sign of the KL",
    "KL mean over latents": "KL averaged over latents",
    "rec mean over pixels": "reconstruction averaged over pixels",
    "KL sum, rec mean": "KL summed over the batch, reconstruction averaged",
    "rec /B twice": "reconstruction divided by the batch twice",
    "nominal batch": "nominal batch size in the divisor",
    "KL reads log sigma": "log σ² read as log σ in the KL",
    "KL exp(2s), single s": "σ² squared in the KL",
    "KL reads sigma": "log σ² read as σ in the KL",
    "mu missing": "μ² missing in the KL",
    "mu sign": "sign of μ² in the KL",
    "prior e^2": "prior of another variance",
    "std = exp(s)": "log σ² read as log σ in the sampler",
    "std = exp(s/4)": "exp(¼ log σ²) as standard deviation",
    "std = s": "log σ² read as σ in the sampler",
    "small noise": "noise of the wrong size",
    "z scaled": "z scaled after the draw",
    "mean decoded": "mean decoded",
    "mu + sigma": "μ + σ decoded, without noise",
    "uniform noise": "uniform noise",
    "one noise per batch": "one ε for the whole batch",
    "one noise for latents": "one ε for all latents",
    "fixed noise": "same ε in every call",
    "clipped": "clipped cross-entropy",
    "clipped below": "clipped cross-entropy",
    "one term": "(1−x) term missing",
    "sigmoid twice": "sigmoid applied twice",
    "swapped": "x and reconstruction swapped",
    "ELBO returned": "sign of the loss",
    "batch statistics": "batch statistics",
    "softplus on s": "σ ≥ 1 everywhere",
    "relu on mu": "μ ≥ 0 everywhere",
    "beta ignored": "declared β ignored",
}
NEED_PIECES = {  # the loss alone does not show them, or not with the draws that it is given
    "clipped",
    "clipped below",
    "std = exp(s/4)",
    "one noise for latents",
}
NOISES = {"small noise", "uniform noise", "one noise per batch", "one noise for latents"} | {
    "fixed noise"  # the noise of these is drawn by the model, not handed to it
}
STOCHASTIC = NOISES | {  # the loss draws its noise; in the other bugs it is given, and exact
    *("KL sign", "prior e^2", "beta ignored", "KL sum, rec mean", "rec /B twice"),
    *("nominal batch", "mean decoded", "mu + sigma", "std = exp(s)"),
}
CHOICES = {"batch statistics", "softplus on s", "relu on mu"}

GRADIENT_BUGS = {
    "gradient sum": "gradient summed, value averaged",
    "gradient sign": "sign of the gradient",
    "gradient times 3": "gradient off by a factor",
    "half in sigma missing": "½ missing in ∂σ",
    "sigma detached": "path through σ detached",
    "z detached": "z detached",
    "KL grad missing": "gradient of the KL missing",
    "KL grad of s missing": "gradient of the KL in log σ² missing",
    "KL grad sum": "gradient of the KL not divided by the batch",
    "KL grad sign": "sign of the gradient of the KL",
    "KL grad half": "½ missing in the gradient of the KL",
    "noise redrawn": "noise drawn again in the backward pass",
    "prior path missing": "path of log p(z) missing",
    "half output": "half the derivative of the output",
    "sigmoid' twice": "derivative of the sigmoid twice",
    "tanh' output": "derivative of tanh at a sigmoid output",
    "decoder activation": "derivative of an activation in the decoder",
    "encoder activation": "derivative of an activation in the encoder",
    "updated weights": "updated weights in the backward pass",
    "only mu sent back": "only the branch of μ sent back",
    "bias mean": "bias averaged over the batch",
}


EVALUATION_BUGS = {
    "mean of logs": "weights averaged in log space",
    "log K": "log K not subtracted",
    "other K": "another K subtracted",
    "normalized": "Σ w̃ log w reported as the value",
    "max weight": "greatest weight for the mean of weights",
    "sign in weights": "sign in the weights",
    "analytic KL": "analytic KL in the weights",
    "rows mixed": "rows mixed among the weights",
    "q missing": "q missing in the weights",
    "prior missing": "prior missing in the weights",
    "underflow": "weights underflow",
    "K ignored": "K ignored",
    "chunks of 4": "draws are not the n of log n",
    "figure sign": "sign of the reported figure",
    "evaluation of the mean": "evaluation without noise",
    "first batch": "first batch only",
    "sum": "sum over rows reported",
    "batch_idx B": "divisor of the reported mean",
    "batch means": "mean of batch means",
    "softplus": "softplus for sigmoid in generation",
    "logits": "generated pixels are not the mean of the decoder",
}


DATA_SET = {  # the bugs of `evaluate` and `generate`, for which log_p is not asked
    *("evaluation of the mean", "first batch", "sum", "batch_idx B", "batch means"),
    *("softplus", "logits", "figure sign"),
}


def patient(bug, seed=1, *, pieces=True, **declared):
    """A subject with a bug of its value."""
    declared |= {"batch_size": 16} if bug == "nominal batch" else {}
    model = Patient(seed, bug, beta=4.0 if bug == "beta ignored" else 1.0)
    declared |= {} if pieces else {"x": model.data(12)}
    return model.subject(pieces=pieces, **declared)


@pytest.mark.parametrize("pieces", [True, False], ids=["pieces", "loss alone"])
@pytest.mark.parametrize("style", STYLES)
def test_a_legitimate_style_raises_no_alarm(style, pieces):
    # Kills: a test that judges the scale of a loss, its constants, or how σ is parametrized.
    noise = "eps" if pieces else None
    report = examine(Patient(2, **STYLES[style]).subject(pieces=pieces, noise=noise))
    assert report.names == (), str(report)
    assert report.ok
    assert report.counts["wrong"] == report.counts["undecided"] == 0


@pytest.mark.parametrize("bug", VALUE_BUGS)
def test_a_bug_of_the_value_is_named_from_the_pieces(bug):
    # Kills: an examination that does not see this bug, or gives it another name.
    report = examine(patient(bug, noise=None if bug in NOISES else "eps"))
    assert report.names == (VALUE_BUGS[bug],), str(report)
    assert report.ok == (bug in CHOICES)


@pytest.mark.parametrize("bug", sorted(VALUE_BUGS.keys() - NEED_PIECES))
def test_a_bug_of_the_value_is_named_from_the_loss_alone(bug):
    # Kills: a regression of the loss on its terms that leaves out this hypothesis.
    report = examine(patient(bug, pieces=False, noise=None if bug in STOCHASTIC else "eps"))
    assert report.names == (VALUE_BUGS[bug],), str(report)


@pytest.mark.parametrize("noise", ["seed", "eps"])
def test_a_right_gradient_is_right(noise):
    # Kills: parameters that are not put back, and differences with a step that is too large.
    model = Patient(3)
    before = model.get()
    report = examine(model.graded(noise="eps" if noise == "eps" else None))
    assert report.names == (), str(report)
    assert {f.verdict for f in report.findings if f.examination.startswith("gradient")} == {
        "right"
    }
    np.testing.assert_array_equal(model.get(), before)


@pytest.mark.parametrize("bug", GRADIENT_BUGS)
def test_a_bug_of_the_gradient_is_named(bug):
    # Kills: a part of the gradient that is left out of the decomposition.
    form = "sampled" if bug == "prior path missing" else "analytic"
    noise = None if bug in ("noise redrawn", "prior path missing") else "eps"
    report = examine(Patient(3, bug).graded(form=form, noise=noise, pieces=noise is None))
    assert report.names == (GRADIENT_BUGS[bug],), str(report)


@pytest.mark.parametrize("pieces", [True, False], ids=["pieces", "loss alone"])
@pytest.mark.parametrize(
    "bug", ["KL sign", "KL reads log sigma", "prior e^2", "free bits ignored"]
)
def test_a_bug_is_named_beside_free_bits(bug, pieces):
    # Kills: a floor that excuses everything, and a declared floor that nobody looks for.
    model = Patient(3, bug, free_bits=1.5 if bug == "free bits ignored" else 0.5)
    report = examine(model.subject(pieces=pieces, noise="eps"))
    assert report.names == (VALUE_BUGS.get(bug, "declared free bits ignored"),), str(report)


def test_noise_drawn_again_is_named_in_float32():
    # Kills: errors of the whole gradient's differences that are granted to one of its blocks.
    bug = "noise redrawn"
    report = examine(Patient(3, bug, dtype="float32").graded(pieces=True, noise=None))
    assert report.names == (GRADIENT_BUGS[bug],), str(report)


@pytest.mark.parametrize("bug", ["", "sigma detached", "KL grad half", "only mu sent back"])
def test_a_bug_of_a_gradient_in_float32_is_named(bug):
    # Kills: a tolerance of float32 so wide that every gradient is a multiple of the right one.
    report = examine(Patient(3, bug, dtype="float32").graded(noise="eps", pieces=False))
    assert report.names == ((GRADIENT_BUGS[bug],) if bug else ()), str(report)


@pytest.mark.parametrize("bug", ["", "KL without half", "one term"])
def test_rows_may_be_pictures(bug):
    # Kills: a probe that is flat, for a function that takes (B, 1, H, W).
    model, shape = Patient(2, bug), (-1, 1, 2, 3)
    flat = lambda a: a.reshape(len(a), -1)  # noqa: E731
    fields = {
        "x": model.data().reshape(shape),
        "encode": lambda x: model.encode(flat(x)),
        "decode": lambda z: model.decode(z).reshape(shape),
        "reconstruction": lambda x, out: model.rec_rows(flat(x), flat(out)),
        "loss": lambda x, eps: model.loss(flat(x), eps),
    }
    report = examine(model.subject(noise="eps", **fields))
    assert report.names == ((VALUE_BUGS[bug],) if bug else ()), str(report)


def test_sticking_the_landing_is_acquitted():
    # Kills: a comparison with finite differences alone, which accuses an unbiased estimator.
    report = examine(Patient(3, "stl").graded(form="sampled"))
    assert report.names == ("another unbiased estimator",), str(report)
    assert report.ok


def test_the_doubly_reparameterized_gradient_is_acquitted():
    # Kills: a loss of K samples that is compared with the ELBO, and DReG that is called biased.
    report = examine(Patient(3).iwae())
    assert report.names == ("another unbiased estimator",), str(report)
    assert report.ok
    wrong = examine(Patient(3, "weights not squared").iwae())
    assert wrong.names == ("gradient is not that of the value",), str(wrong)


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        ("mean of logs", "weights averaged in log space"),
        ("log K", "log K not subtracted"),
        ("normalized", "Σ w̃ log w reported as the value"),
    ],
)
def test_a_bug_of_the_bound_of_k_samples_is_named(bug, name):
    # Kills: a loss of K samples that is not examined.
    report = examine(Patient(3, bug).iwae(gradient=None))
    assert report.names == (name,), str(report)


FORMS = {
    "sampled, no q": "log q(z|x) missing in Eq. (7)",
    "sampled, no p": "log p(z) missing in Eq. (7)",
    "sampled, sign of q": "sign of log q(z|x) in Eq. (7)",
    "sampled, 2 pi": "log 2π in one density of Eq. (7)",
    "sampled, half p": "Eq. (7) and Eq. (11) differ in their mean",
}


@pytest.mark.parametrize("bug", FORMS)
def test_a_form_of_the_bound_with_another_mean_is_named(bug):
    # Kills: a second form that is never called, or not with the noise of the first.
    model = Patient(3, bug)
    report = examine(model.subject(loss_sampled=model.sampled_loss, noise="eps", pieces=False))
    assert report.names == (FORMS[bug],), str(report)


@pytest.mark.parametrize("noise", [None, "eps"])
def test_two_right_forms_agree_and_the_bound_is_below_the_evidence(noise):
    # Kills: a comparison that needs equal values, and an evidence that lacks the prior.
    model = Patient(3, scale=1 / 6, total="sum")

    def sampled(x, *eps):
        return model.sampled_loss(x, *eps)

    report = examine(model.subject(loss_sampled=sampled, noise=noise, pieces=False))
    assert report.names == (), str(report)
    told = {f.examination: f for f in report.findings if f.examination.startswith("forms")}
    assert {f.verdict for f in told.values()} == {"right"}
    gaps = told["forms: bound and evidence"].found.split("from ")[1].removesuffix(" nats")
    assert 0 < float(gaps.split(" to ")[0]) < float(gaps.split(" to ")[1])


def test_the_evidence_is_a_distribution_over_all_x():
    # Kills: an integral over z without its prior, or with the weights of another rule.
    facts = establish(Calls(Patient(3).subject()), 0)
    every = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    assert np.exp(log_evidence(facts, every, 61)).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("generated", ["", "samples"])
def test_right_figures_raise_no_alarm(generated):
    # Kills: a z test of heavy-tailed weights, and a verdict on draws as if they were means.
    report = examine(Patient(3, generated).reporting())
    assert report.names == (), str(report)
    told = [f.verdict for f in report.findings if f.examination.startswith("evaluation")]
    assert told.count("right") == 3


@pytest.mark.parametrize("bug", EVALUATION_BUGS)
def test_a_bug_of_a_reported_figure_is_named(bug):
    # Kills: a comparison at one K, at which several of these agree.
    model = Patient(3, bug)
    if bug == "underflow":
        model.p["W3"] *= 100
    declared = {"log_p": None} if bug in DATA_SET else {"evaluate": None, "generate": None}
    report = examine(model.reporting(figure="loss", **declared))
    assert report.names == (EVALUATION_BUGS[bug],), str(report)


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        ("", ()),
        ("no constant", ("Gaussian constant missing",)),
        ("constant x D", ("Gaussian constant counted D times",)),
    ],
)
def test_the_constant_of_a_gaussian_counts_in_a_reported_figure(bug, name):
    # Kills: a constant that is judged in a loss, or that is not judged in log p(x).
    model = Patient(3, bug, likelihood="gaussian", sigma=0.7)
    declared = {"likelihood": "gaussian:0.7", "generate": None}
    assert examine(model.subject(pieces=True, **declared)).ok
    assert examine(model.reporting(evaluate=None, **declared)).names == name
    report = examine(model.reporting(log_p=None, constants=True, **declared))
    assert report.names == name, str(report)


@pytest.mark.parametrize(("bug", "constants"), [("pi = 3.14", True), ("no constant", True)])
def test_a_wrong_constant_is_a_bug_only_where_constants_are_declared(bug, constants):
    # Kills: a constant that is taken for right because it is near.
    model = Patient(3, bug, likelihood="gaussian", sigma=0.7)
    told = {}
    for declared in (None, True):
        report = examine(model.subject(likelihood="gaussian:0.7", constants=declared, loss=None))
        told[declared] = [f.verdict for f in report.findings if "onstant" in f.name]
    assert told[True] == ["wrong"]
    assert told[None] == (["unusual but legitimate"] if bug == "pi = 3.14" else [])


def test_a_model_whose_noise_is_off_in_evaluation_is_reported():
    # Kills: a switch to evaluation that is not examined, or not switched back.
    model, modes = Patient(3), []

    def loss(x):
        model.bug = "mean decoded" if modes[-1:] == ["eval"] else ""
        return model.loss(x)

    switches = {m: lambda m=m: modes.append(m) for m in ("train", "eval")}
    report = examine(model.subject(pieces=False, loss=loss, **switches))
    assert report.names == ("evaluation without noise",), str(report)
    assert report.ok
    assert modes[-1] == "train"


@pytest.mark.parametrize("other", [1.0, 0.1])
def test_weights_that_differ_in_evaluation_are_reported(other):
    # Kills: an evaluation whose loss is not compared, and one whose scale is compared.
    model = Patient(3)

    def switch(beta, total):
        model.beta, model.total = beta, total

    modes = {"train": lambda: switch(1.0, "mean"), "eval": lambda: switch(other, "sum")}
    report = examine(model.subject(pieces=False, **modes))
    name = "weights of the terms differ between training and evaluation"
    assert report.names == (() if other == 1 else (name,)), str(report)
    told = [
        f.verdict for f in report.findings if f.examination == "evaluation: weights of the terms"
    ]
    assert told == ["right" if other == 1 else "wrong"]


def pictures(inside, border):
    x = np.random.default_rng(0).integers(0, 2, (20, 1, 8, 8)) * (1.0 - border) + border * inside
    x[:, :, [0, -1]] = x[:, :, :, [0, -1]] = border
    return x


@pytest.mark.parametrize(
    ("x", "likelihood", "names"),
    [
        (pictures(1, 0), "bernoulli", ()),
        (pictures(1, 1), "bernoulli", ("inverted binarization",)),
        (1.0 * (np.random.default_rng(1).random((20, 8, 8)) < 0.8), "bernoulli", ()),
        (pictures(1, 0) * 0.9, "bernoulli", ("gray pixels with a Bernoulli likelihood",)),
        (pictures(1, 0) * 255, "bernoulli", ("x outside the range of its likelihood",)),
        (pictures(1, 0) * 16, "binomial:16", ()),
        (pictures(1, 0) - 0.5, "gaussian", ()),
        (np.ones((5, 6)), "bernoulli", ()),
    ],
)
def test_data_that_the_likelihood_does_not_know_are_a_choice(x, likelihood, names):
    # Kills: an alarm for data, and a border that is looked for where there is no picture.
    report = examine(Subject(kl=kl_of_logvar, likelihood=likelihood, x=x))
    assert report.names == names
    assert report.ok
    assert report.findings[0].examination == "data: values"


def kl_of_logvar(mu, s):
    return 0.5 * (mu**2 + np.exp(s) - s - 1).sum(-1)


def test_an_evaluation_that_draws_from_the_training_generator_is_told():
    # Kills: a comparison in which the evaluation never ran, and a bug where there is a choice.
    model = Patient(3)
    shared = examine(model.subject(pieces=False, evaluate=model.evaluate, batch_size=4))
    assert shared.names == ("evaluation draws from the training generator",), str(shared)
    assert shared.ok

    def alone(x):
        kept, model.rng = (
            model.rng,
            np.random.default_rng(model.rng.bit_generator.state["state"]["state"] % 2**32),
        )
        value = model.evaluate(x)
        model.rng = kept
        return value

    assert examine(model.subject(pieces=False, evaluate=alone, batch_size=4)).names == ()


@pytest.mark.parametrize("pieces", [True, False], ids=["pieces", "loss alone"])
@pytest.mark.parametrize("scale", ["logvar", "log_sigma", "sigma"])
def test_a_scale_that_is_not_declared_is_found(scale, pieces):
    # Kills: a wrong guess that reads as a bug.
    report = examine(Patient(4, head=scale).subject(pieces=pieces, scale=None))
    assert report.names == (), str(report)


def test_a_sampler_and_a_kl_that_disagree_are_a_bug_without_any_declaration():
    # Kills: a guess that fits the one and does not look at the other.
    report = examine(Patient(4, "std = exp(s)").subject(scale=None))
    assert report.names == ("log σ² read as log σ in the sampler",), str(report)


def test_a_sigma_of_a_form_of_its_own_is_legitimate_if_the_kl_is_that_of_the_draws():
    # Kills: a table of the meanings of the second output that is taken for complete.
    report = examine(Patient(4, head="sinh").subject())
    assert report.names == ("σ of a form of its own",), str(report)
    assert report.ok
    assert report.counts["undecided"] == 0
    # and a KL of another σ is a bug
    model = Patient(4, head="sinh")
    other = model.subject(kl=lambda mu, s: model.kl_rows(mu, 1.1 * s), loss=None)
    assert not examine(other).ok


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Patient(4, out="arctan"), ("another density of x",)),
        (Patient(4, "weighted"), ("reconstruction of another distribution",)),
        (Patient(4, likelihood="cauchy"), ("another density of x",)),
    ],
    ids=["Bernoulli", "weighted", "Cauchy"],
)
def test_a_density_of_another_form_is_legitimate_if_its_sum_over_x_is_1(model, names):
    # Kills: a table of the meanings of the decoder's output that is taken for complete.
    report = examine(model.subject(noise="eps"))
    assert report.names[:1] == names, str(report)
    assert report.ok == (model.bug != "weighted")


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        ("last row dropped", "rows of a batch left out"),
        ("rows reversed", "rows of a batch are mixed"),
    ],
)
@pytest.mark.parametrize("total", ["mean", "sum"])
def test_a_batch_of_different_rows_counts_each_row_with_its_own_reconstruction(bug, name, total):
    # Kills: copies of one row alone, which hide who is compared with whom.
    model = Patient(2, bug, total=total)
    model.p["W2"] *= 2  # the reconstruction depends on z
    report = examine(model.subject(pieces=False))
    assert report.names == (name,), str(report)


@pytest.mark.parametrize(
    ("bug", "name"), [("sigma detached", "path through σ detached"), ("z detached", "z detached")]
)
def test_a_detached_path_is_named_where_the_draws_are_not_known(bug, name):
    # Kills: a variance of the gradient that is never looked at.
    report = examine(Patient(3, bug).graded(pieces=False))
    assert report.names == (name,), str(report)


def test_a_gradient_of_another_value_is_told_from_no_gradient_at_all():
    # Kills: a comparison at one point, which cannot tell which of the two is wrong.
    model = Patient(3)

    def loss(x, eps):
        return model.loss(x, eps) + 0.1 * sum((v**3).sum() for v in model.p.values())

    report = examine(model.graded(noise="eps", pieces=False, encode=None, loss=loss))
    assert report.names == ("gradient is that of another value",), str(report)


def test_a_gradient_that_is_right_at_one_point_only_is_a_bug():
    # Kills: a derivative that is taken at the given parameters and nowhere else.
    model = Patient(3)
    kept = model.get()

    def gradient(x, eps):
        distance = ((model.get() - kept) ** 2).mean()
        return {k: v * (1 + distance) for k, v in model.gradient(x, eps).items()}

    report = examine(model.graded(noise="eps", pieces=False, gradient=gradient))
    assert report.names == ("gradient is right at some parameters only",), str(report)
    np.testing.assert_array_equal(model.get(), kept)


def test_a_wrong_declaration_is_not_a_bug_of_the_vae():
    # Kills: a name that is believed: the sampler and the KL both take it for log σ.
    report = examine(Patient(4, head="log_sigma").subject(scale="logvar"))
    assert report.names == ("second output of encode is not what is declared",), str(report)
    assert report.ok


def test_a_squared_error_says_with_which_variance_it_is_an_elbo():
    # Kills: a verdict on a Gaussian whose σ is not declared; ‖x − m‖² + KL has σ² = ½.
    report = examine(Patient(2, likelihood="squared").subject(pieces=False))
    (text,) = [g for g in report.guesses if "σ² =" in g]
    assert float(text.split("σ² = ")[1].split(";")[0]) == pytest.approx(0.5, abs=0.02)


def test_a_declared_sigma_is_held_to():
    # Kills: a Gaussian that is never judged: ‖x − m‖² + KL is not the −ELBO of σ = 1.
    report = examine(Patient(2, likelihood="squared").subject(pieces=False, sigma=1.0))
    assert not report.ok


# What can go wrong with the functions themselves


def broken(name, function):
    """A right subject with one function replaced."""
    return Patient(0).subject(**{name: function})


def fails(*_):
    raise RuntimeError("CUDA error\nand more lines")


@pytest.mark.parametrize(
    ("name", "function", "text"),
    [
        ("kl", fails, "kl: raised RuntimeError: CUDA error"),
        ("kl", lambda mu, s: np.nan * mu, "kl: expected finite numbers"),
        ("encode", lambda x: x, "encode: expected (mu, second), got ndarray"),
        ("encode", lambda x: (x[:, :2], x), "encode: expected an array of shape"),
        ("decode", lambda z: "no", "decode: expected numbers, got str"),
        ("sample_z", lambda mu, s: mu[:1], "sample_z: expected an array of shape"),
        ("loss", lambda x: np.ones(3), "loss: expected a number or 8 numbers"),
        ("reconstruction", lambda x, out: None, "reconstruction: expected numbers, got NoneType"),
    ],
)
def test_a_broken_function_costs_only_its_own_examinations(name, function, text):
    # Kills: a traceback, a message of many lines, and an examination that ends all others.
    report = examine(broken(name, function))
    reasons = [f.advice for f in report.findings if f.verdict == "not examined"]
    said = [r for r in reasons if r.startswith(text)]
    assert said, reasons
    assert all("\n" not in r for r in reasons)
    assert report.counts["right"] >= 1
    assert report.ok


def test_a_change_of_x_in_place_is_reported_and_does_no_harm():
    # Kills: probes that one function spoils for the next.
    model = Patient(0)

    def encode(x):
        result = model.encode(x)
        x *= 0
        return result

    report = examine(model.subject(encode=encode))
    assert report.names == ("argument changed in place",)
    assert report.ok


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "expected one of loss, encode, decode and kl"),
        ({"kl": len, "scale": "std"}, "scale"),
        ({"kl": len, "likelihood": "poisson"}, "likelihood: expected"),
        ({"kl": len, "noise": "key"}, "noise"),
    ],
)
def test_a_wrong_declaration_is_refused(fields, text):
    # Kills: a misspelled declaration that is silently ignored.
    with pytest.raises(ValueError, match=text):
        Subject(**fields)


# The report


def test_the_report_has_all_forms_and_the_figures():
    # Kills: a format that leaves out a finding.
    report = examine(patient("KL without half"))
    told = json.loads(json.dumps(report.to_dict()))
    assert not told["ok"]
    assert len(told["findings"]) == len(report.findings)
    for text in (str(report), report.to_markdown(), report.to_html()):
        assert "KL without ½" in text
        assert "second output of encode: log σ² (declared)" in text
    assert report.exit_code == 1
    assert "KL by ½" in " ".join(str(report).split())


def test_the_report_repeats_itself():
    # Kills: probes that do not come from the seed.
    assert examine(patient(""), seed=3) == examine(patient(""), seed=3)


def test_check_raises_one_error_that_lists_the_bugs():
    # Kills: an error for what is only a choice, and none for a bug.
    check(patient("batch statistics"))
    with pytest.raises(ClinicError, match=r"1 found\nassembly.*: KL without ½: expected"):
        check(patient("KL without half"))


@parametrize([Patient(0).subject()])
def test_parametrize_gives_a_test_for_each_examination(check_vae):
    # Kills: a decorator that hands out functions which cannot be called.
    check_vae()


def test_parametrize_fails_where_the_bug_is():
    # Kills: tests that pass whatever the findings are.
    (mark,) = [parametrize([patient("std = exp(s)")])]
    results = {}
    for case in mark.args[1]:
        try:
            case.values[0]()
            results[case.id] = "passed"
        except ClinicError as error:
            results[case.id] = str(error)
        except pytest.skip.Exception:
            results[case.id] = "skipped"
    assert results["std = exp(s)-kl"] == "passed"
    assert results["std = exp(s)-gradient"] == "skipped"
    assert results["std = exp(s)-draws"].startswith("log σ² read as log σ in the sampler")


def test_a_loss_that_refuses_single_rows_is_examined_on_many():
    # kills: an examination that fails where the KL is divided once more and no row stands alone
    class TwoRows(Patient):
        def combine(self, rec, kl):
            if len(rec) < 2:
                raise ValueError("needs two rows")
            return rec.mean() + kl.mean() / len(kl)

    found = examine(TwoRows().subject(), only=["assembly"]).findings
    assert [f.examination for f in found] == ["assembly: rows of a batch"]
    assert "needs two rows" in found[0].advice
