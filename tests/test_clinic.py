"""The clinic on small VAEs in NumPy: bugs are named, what is legitimate raises no alarm."""

from __future__ import annotations

import json

import numpy as np
import pytest
from clinic_subjects import Patient

from numpyvae.clinic import ClinicError, Subject, check, examine, parametrize

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
    *("softplus", "logits"),
}


def patient(bug, seed=1, *, pieces=True, **declared):
    """A subject with a bug of its value."""
    declared |= {"batch_size": 16} if bug == "nominal batch" else {}
    model = Patient(seed, bug, beta=4.0 if bug == "beta ignored" else 1.0)
    return model.subject(pieces=pieces, **declared)


@pytest.mark.parametrize("pieces", [True, False], ids=["pieces", "loss alone"])
@pytest.mark.parametrize("style", STYLES)
def test_a_legitimate_style_raises_no_alarm(style, pieces):
    # Kills: a test that judges the scale of a loss, its constants, or how σ is parametrized.
    report = examine(Patient(2, **STYLES[style]).subject(pieces=pieces))
    assert report.names == (), str(report)
    assert report.ok
    assert report.counts["wrong"] == report.counts["undecided"] == 0


@pytest.mark.parametrize("bug", VALUE_BUGS)
def test_a_bug_of_the_value_is_named_from_the_pieces(bug):
    # Kills: an examination that does not see this bug, or gives it another name.
    report = examine(patient(bug, noise=None if bug in NOISES else "eps"))
    assert report.names == (VALUE_BUGS[bug],), str(report)
    assert report.ok == (bug in CHOICES)


@pytest.mark.parametrize("bug", VALUE_BUGS.keys() - NEED_PIECES)
def test_a_bug_of_the_value_is_named_from_the_loss_alone(bug):
    # Kills: a regression of the loss on its terms that leaves out this hypothesis.
    report = examine(patient(bug, pieces=False))
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


def test_sticking_the_landing_is_acquitted():
    # Kills: a comparison with finite differences alone, which accuses an unbiased estimator.
    report = examine(Patient(3, "stl").graded(form="sampled"))
    assert report.names == ("another unbiased estimator",), str(report)
    assert report.ok


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
    report = examine(model.reporting(**({"log_p": None} if bug in DATA_SET else {})))
    assert report.names == (EVALUATION_BUGS[bug],), str(report)


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
        ("reconstruction", lambda x, out: None, "reconstruction: expected finite numbers"),
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
