"""The register of equations: complete, traceable to code, and right on every family of models."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import numpyvae
from numpyvae.command.cli import main
from numpyvae.equations import (
    CASES,
    EQUATIONS,
    KINGMA_WELLING,
    check_equation,
    check_equations,
    derivations,
    make_case,
)
from numpyvae.exact import Gaussian, LinearGaussian

elbo = importlib.import_module("numpyvae.core.elbo")  # the package's `elbo` is the function
PACKAGE = Path(numpyvae.__file__).parent


def resolve(name):
    """Return what a dotted name under `numpyvae` stands for."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["numpyvae", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} is not in the package")


def test_all_22_are_there_in_order():
    assert [e.number for e in EQUATIONS] == [str(n) for n in range(1, 23)]


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda e: e.number)
def test_every_function_exists_and_carries_the_tag(equation):
    assert equation.functions
    for name in equation.functions:
        doc = resolve(name).__doc__ or ""
        tags = {int(n) for n in re.findall(r"Eq\. \((\d+)\)", doc)}
        ranges = re.findall(r"Eq\. \((\d+)\) to Eq\. \((\d+)\)", doc)
        for first, last in ranges:
            tags |= set(range(int(first), int(last) + 1))
        assert int(equation.number) in tags, f"{name} does not carry Eq. ({equation.number})"


@pytest.mark.parametrize("equation", KINGMA_WELLING, ids=lambda e: e.number)
def test_pieces_without_a_number_name_their_place_in_the_paper(equation):
    for name in equation.functions:
        assert re.search(r"K(ingma )?& ?W(elling)?", resolve(name).__doc__ or ""), name


def test_tags_in_the_package_are_numbers_of_the_notes():
    # A paper's own equation numbers must not look like ours.
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for number in re.findall(r"Eq\. \((\d+)\)", text):
            assert 1 <= int(number) <= 22, f"{path.name}: Eq. ({number})"
        assert not re.search(r"(19|20)\d\d,? Eq\. \(", text), path.name


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_every_equation_holds(name, seed):
    for outcome in check_equations(make_case(name, seed)):
        assert outcome.passed, outcome


@pytest.mark.parametrize("name", ["linear-gaussian", "discrete"])
def test_closed_forms_agree_to_ten_digits(name):
    for outcome in check_equations(make_case(name, 11)):
        assert outcome.difference <= 1e-10 * (1 + abs(outcome.left)), outcome


def test_a_wrong_line_is_told_from_its_neighbors(monkeypatch):
    # Each line of the appendices is compared with the one before: a slip in one shows twice.
    right = derivations.line_14
    monkeypatch.setattr(derivations, "line_14", lambda case: -right(case))
    case = make_case("linear-gaussian", 0)
    by_number = {e.number: e for e in EQUATIONS}
    assert not check_equation(_rebuilt(by_number["14"], 14), case).passed
    assert not check_equation(_rebuilt(by_number["15"], 15), case).passed
    assert check_equation(_rebuilt(by_number["16"], 16), case).passed


def _rebuilt(equation, n):
    """The equation with its check looked up again, after a patch."""
    from dataclasses import replace

    from numpyvae.equations.registry import _consecutive

    return replace(equation, check=_consecutive(n))


@pytest.mark.parametrize(
    ("owner", "attribute", "wrong", "fails"),
    [
        (
            LinearGaussian,
            "log_evidence",
            lambda f: lambda s, x: f(s, x) + 0.1,
            {"2", "6", "8", "9"},
        ),
        (Gaussian, "kl", lambda f: lambda s, o: 2 * f(s, o), {"6", "8", "11", "13", "22"}),
        (
            LinearGaussian,
            "expected_log_likelihood",
            lambda f: lambda s, x, q: f(s, x, q) / x.shape[1],
            {"11", "19", "9"},
        ),
        (LinearGaussian, "log_prior", lambda f: lambda s, z: f(s, z) + 1, {"1", "2"}),
        (LinearGaussian, "expected_log_q", lambda f: lambda s, q: -f(s, q), {"7", "12", "18"}),
    ],
)
def test_a_planted_bug_fails_the_equations_that_speak_of_it(
    monkeypatch, owner, attribute, wrong, fails
):
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    case = make_case("linear-gaussian", 0)
    for equation in EQUATIONS:
        if equation.number in fails:
            assert not check_equation(equation, case).passed, equation.number


@pytest.mark.parametrize(
    ("attribute", "wrong", "number"),
    [
        ("gaussian_kl", lambda f: lambda m, s: (2 * f(m, s)[0], None), "K&W §2.3 B"),
        ("reparameterize", lambda f: lambda m, s, e: f(m, 2 * s, e), "K&W §2.3 A"),
    ],
)
def test_a_bug_in_the_trained_elbo_is_seen(monkeypatch, attribute, wrong, number):
    monkeypatch.setattr(elbo, attribute, wrong(getattr(elbo, attribute)))
    equation = next(e for e in KINGMA_WELLING if e.number == number)
    assert not check_equation(equation, make_case("quadrature", 0)).passed


def test_nan_is_not_a_pass():
    case = make_case("discrete", 0)
    case.x = case.x.copy()
    equation = EQUATIONS[10]
    from dataclasses import replace

    nan = replace(equation, check=lambda case: (np.array([np.nan]), np.array([1.0])))
    assert not check_equation(nan, case).passed


@pytest.mark.parametrize("name", CASES)
def test_the_command_prints_a_row_for_each(capsys, name):
    assert main(["equations", "--model", name]) == 0
    out = capsys.readouterr().out
    for n in range(1, 23):
        assert re.search(rf"^\({n}\) ", out, re.M), n
    assert out.count("✓") == (22 if name == "discrete" else 27)
    assert main(["equations", "--model", name, "--json", "--seed", "3"]) == 0
    rows = json.loads(capsys.readouterr().out)["equations"]
    assert all(row["passed"] for row in rows)
    assert {"number", "latex", "left", "right", "difference", "tolerance"} <= rows[0].keys()


def test_the_command_fails_when_an_equation_does(capsys, monkeypatch):
    right = Gaussian.kl
    monkeypatch.setattr(Gaussian, "kl", lambda s, o: right(s, o) + 1e-6)
    assert main(["equations"]) == 1
    assert "✗ WRONG" in capsys.readouterr().out
