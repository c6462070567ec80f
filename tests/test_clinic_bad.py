"""Functions that do not do what they should: one line each, and the other examinations go on."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from clinic_subjects import Patient

from numpyvae.clinic import Subject, examine
from numpyvae.clinic.calls import Calls

RNG = np.random.Generator(np.random.PCG64(1))
# Each function, an examination that needs it, and one that does not.
NEEDED = {
    "loss": ("freeze", "kl"),
    "encode": ("company", "kl"),
    "decode": ("assembly", "kl"),
    "kl": ("kl", "reconstruction"),
    "reconstruction": ("reconstruction", "kl"),
    "sample_z": ("draws", "kl"),
    "gradient": ("gradient", "kl"),
    "log_p": ("evaluation", "kl"),
    "evaluate": ("evaluation", "kl"),
    "generate": ("evaluation", "kl"),
    "seed": ("draws", "kl"),
}


def subject(model=None, **changed):
    model = model or Patient(0)
    more = {
        **{"log_p": model.log_p, "evaluate": model.evaluate, "generate": model.generate},
        **{"gradient": model.gradient, "parameters": (model.get, model.set)},
    }
    return dataclasses.replace(model.subject(**more), **changed)


def each(change, value):
    """Change an array, each of a pair, or each of a dictionary."""
    if isinstance(value, tuple):
        return tuple(change(v) for v in value)
    if isinstance(value, dict):
        return {k: change(v) for k, v in value.items()}
    return change(value)


def result(change):
    """A function whose result is changed."""
    return lambda f: lambda *arguments: each(change, f(*arguments))


def raises(f):
    def function(*arguments):
        raise RuntimeError("CUDA error: device lost\nof many\nlines")

    return function


def leaves(f):
    def function(*arguments):
        sys.exit("bye")

    return function


def changes_in_place(f):
    def function(first, *more):
        value = f(first.copy(), *more)
        first += 1
        return value

    return function


def uses_one_buffer(f):
    memory = {}

    def function(*arguments):
        def kept(value, place=0):
            value = np.asarray(value, float)
            buffer = memory.setdefault((place, value.shape), np.empty(value.shape))
            buffer[...] = value
            return buffer

        value = f(*arguments)
        if isinstance(value, tuple):
            return tuple(kept(v, i) for i, v in enumerate(value))
        return (
            {k: kept(v, k) for k, v in value.items()} if isinstance(value, dict) else kept(value)
        )

    return function


def with_nan(value):
    return np.nan * np.asarray(value, float)


def larger(value):
    return np.zeros(tuple(n + 1 for n in np.shape(value)) or (3,))


def complex_numbers(value):
    return np.asarray(value) * (1 + 1j)


BAD = {
    "raises": (raises, "raised RuntimeError: CUDA error: device lost"),
    "leaves": (leaves, "raised SystemExit: bye"),
    "nan": (result(with_nan), "NaN"),
    "none": (lambda f: lambda *arguments: None, "None"),
    "text": (lambda f: lambda *arguments: "no", "str"),
    "shape": (result(larger), "expected"),
    "complex": (result(complex_numbers), "complex128"),
}
CASES = [(name, "raises") for name in NEEDED] + [
    *[("loss", kind) for kind in ("nan", "none", "text", "shape")],
    *[("encode", kind) for kind in ("nan", "none", "shape", "complex")],
    *[("decode", kind) for kind in ("nan", "shape")],
    *[("kl", kind) for kind in BAD],
    *[("reconstruction", kind) for kind in ("leaves", "shape")],
    *[("sample_z", kind) for kind in ("nan", "shape")],
    *[("gradient", kind) for kind in ("nan", "shape")],
    *[("log_p", kind) for kind in ("nan", "shape")],
    ("evaluate", "shape"),
    ("generate", "shape"),
]


@pytest.mark.parametrize(("name", "kind"), dict.fromkeys(CASES))
def test_a_bad_function_is_one_line_and_the_others_go_on(name, kind):
    # Kills: a traceback, an exit, a message of many lines, a bug that is only a bad result, and
    # an examination that ends all others.
    mine, other = NEEDED[name]
    broken, said = BAD[kind]
    patient = subject()
    report = examine(
        dataclasses.replace(patient, **{name: broken(getattr(patient, name))}), only=[mine, other]
    )
    assert report.wrong == (), str(report)
    reasons = [f.advice for f in report.findings if f.verdict == "not examined"]
    (mine, *_) = [r for r in reasons if r.startswith(f"{name}: ")]
    assert said in mine.replace("NoneType", "None")
    assert all("\n" not in r and "please report" not in r for r in reasons)
    if other != "kl" or name != "kl":
        assert any(f.examination.lower().startswith(other) for f in report.run), str(report)


@pytest.mark.parametrize("name", ["log_p", "evaluate", "generate"])
def test_a_bad_figure_does_not_cost_the_others(name):
    report = examine(subject(**{name: raises(None)}), only=["evaluation"])
    told = [f.verdict for f in report.findings]
    assert told.count("right") == 2, str(report)
    assert sum(f.advice.startswith(name) for f in report.findings) == 1


@pytest.mark.parametrize("change", ["lists", "single", "buffer"])
def test_other_types_and_memory_that_is_used_again_are_no_fault(change):
    # Kills: a result that is not copied, and single precision judged as double.
    change = {
        "lists": result(lambda v: np.asarray(v).tolist()),
        "single": result(lambda v: np.asarray(v, "float32")),
        "buffer": uses_one_buffer,
    }[change]
    patient = subject(log_p=None)
    names = [n for n in patient.given if n != "seed"]
    changed = {n: change(getattr(patient, n)) for n in names}
    report = examine(dataclasses.replace(patient, **changed))
    assert report.wrong == (), str(report)
    told = [f.verdict for f in report.findings]
    assert told.count("right") >= 13, str(report)
    assert told.count("undecided") <= 1, str(report)


def test_a_term_in_single_precision_is_judged_as_such():
    # Kills: an examination that says nothing, neither right nor wrong.
    kl = lambda mu, s: (0.5 * (mu**2 + np.exp(s) - s - 1)).sum(-1).astype("float32")  # noqa: E731
    told = {f.examination: f.verdict for f in examine(Subject(kl=kl, scale="logvar")).findings}
    assert told["KL: value"] == "right"


def test_a_list_of_two_rows_is_no_pair():
    # Kills: the second row of two taken for a variance.
    patient = subject()
    decode = lambda z: patient.decode(z).tolist()  # noqa: E731
    first, second = Calls(subject(decode=decode)).decode(np.ones((2, 2)))
    assert first.shape == (2, 6)
    assert second is None


@pytest.mark.parametrize("name", ["kl", "encode", "sample_z", "loss"])
def test_an_argument_that_is_changed_in_place_is_reported(name):
    patient = subject()
    mine, _ = NEEDED[name]
    changed = dataclasses.replace(patient, **{name: changes_in_place(getattr(patient, name))})
    before = changed.x.copy()
    report = examine(changed, only=[mine])
    assert report.names == ("argument changed in place",), str(report)
    assert report.ok
    np.testing.assert_array_equal(changed.x, before)


@pytest.mark.parametrize("name", ["encode", "decode", "kl", "reconstruction", "gradient"])
def test_noise_that_cannot_be_controlled_is_no_bug(name):
    # Kills: dropout in the encoder taken for batch statistics, a KL by Monte Carlo taken for
    # another distribution, and a gradient of other draws for a wrong one.
    patient = subject()
    noisy = result(lambda v: v + 0.1 * RNG.standard_normal(np.shape(v)))(getattr(patient, name))
    report = examine(
        dataclasses.replace(patient, **{name: noisy}), only=["company", NEEDED[name][0]]
    )
    assert report.wrong == (), str(report)
    assert f"{name}: expected a function without noise" in " ".join(report.not_examined)


def test_a_seed_that_has_no_effect_is_said():
    # Kills: a gradient that is compared with differences of other draws.
    report = examine(subject(seed=lambda number: None), only=["freeze", "gradient"])
    assert report.wrong == (), str(report)
    assert report.counts["undecided"] == 1
    assert "the noise is not frozen by a seed" in report.not_examined


def copy_of(model):
    """Parameters that are stored, and never used."""
    memory = [model.get()]
    return (lambda: memory[0], lambda vector: memory.__setitem__(0, vector))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (lambda m: (m.get, lambda vector: None), "expected get() to return what set() was given"),
        (copy_of, "the loss does not change with the vector"),
        (lambda m: (m.get, raises(None)), "set() raised RuntimeError: CUDA error"),
        (lambda m: (raises(None), m.set), "get() raised RuntimeError: CUDA error"),
        (lambda m: (lambda: m.get()[:-1], m.set), "gradient: expected 109 numbers, got 110"),
    ],
)
def test_parameters_that_are_not_replaced_are_said(parameters, said):
    # Kills: differences that are all 0, of which the gradient is accused.
    model = Patient(0)
    report = examine(subject(model, parameters=parameters(model)), only=["gradient"])
    (finding,) = report.findings
    assert finding.verdict == "not examined"
    assert said in finding.advice


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"loss": 3.0}, TypeError, "loss: expected a function, got 3.0"),
        ({"kl": len, "seed": 3}, TypeError, "seed: expected a function"),
        ({"kl": len, "parameters": len}, TypeError, "parameters: expected a pair of functions"),
        ({"sample_z": len}, ValueError, "expected one of loss, encode, decode and kl"),
        ({"kl": len, "likelihood": "gauss"}, ValueError, "likelihood: expected"),
        ({"kl": len, "likelihood": "gaussian:x"}, ValueError, "likelihood: expected"),
        ({"kl": len, "likelihood": "binomial"}, ValueError, "likelihood: expected"),
        ({"kl": len, "sigma": 0.0}, ValueError, "sigma: expected"),
        ({"kl": len, "beta": float("nan")}, ValueError, "beta: expected"),
        ({"kl": len, "n_samples": 0}, ValueError, "n_samples: expected"),
        ({"kl": len, "x": [1.0, 2.0]}, ValueError, "x: expected rows of finite numbers"),
        ({"kl": len, "x": [["a"]]}, ValueError, "x: expected rows of finite numbers"),
        ({"kl": len, "x": [[np.nan]]}, ValueError, "x: expected rows of finite numbers"),
        ({"kl": len, "scale": "logsigma"}, ValueError, "scale: expected one of"),
    ],
)
def test_a_bad_declaration_is_one_line(fields, error, said):
    # Kills: an error of NumPy in the midst of an examination.
    with pytest.raises(error) as caught:
        Subject(**fields)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
