"""The register of equations: complete, traceable to code, and right on every family of models."""

from __future__ import annotations

import ast
import importlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

import numpyvae
from numpyvae import VAE
from numpyvae.command.cli import main
from numpyvae.core.likelihoods import Likelihood
from numpyvae.equations import (
    CASES,
    EQUATIONS,
    KINGMA_WELLING,
    check_equation,
    check_equations,
    checks,
    derivations,
    make_case,
)
from numpyvae.equations.cases import ContinuousCase
from numpyvae.exact import Gaussian, LinearGaussian

elbo = importlib.import_module("numpyvae.core.elbo")  # the package's `elbo` is the function
PACKAGE = Path(numpyvae.__file__).parent


def resolve(name):
    """Return the object with this dotted name under `numpyvae`."""
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
def test_both_sides_of_every_equation_agree(name, seed):
    for outcome in check_equations(make_case(name, seed)):
        assert outcome.passed, outcome


@pytest.mark.parametrize("name", ["linear-gaussian", "discrete"])
def test_closed_forms_agree_to_ten_digits(name):
    for outcome in check_equations(make_case(name, 11)):
        assert outcome.largest_difference <= 1e-10, outcome


# What a table shows: one datapoint, and the largest difference over all.


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_every_equation_is_shown_at_the_first_datapoint(name, seed):
    # Kills: a table that shows another datapoint from line to line.
    case = make_case(name, seed)
    assert len(case.x) > 1
    for all_rows, first_row in zip(check_equations(case), check_equations(case.first())):
        number = all_rows.equation.number
        assert all_rows.equation is first_row.equation
        np.testing.assert_allclose(all_rows.left, first_row.left, rtol=1e-9, err_msg=number)
        np.testing.assert_allclose(all_rows.right, first_row.right, rtol=1e-9, err_msg=number)


def shown(name, seed=0):
    """Return the two sides that the table shows, by number."""
    found = check_equations(make_case(name, seed))
    return {outcome.equation.number: (outcome.left, outcome.right) for outcome in found}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_of_the_table_fit_together(name, seed):
    # Kills: equal lines with unequal numbers in the table, and (7) + (8) different from (9).
    sides = shown(name, seed)
    log_px, elbo_, kl = sides["9"][0], sides["7"][0], sides["8"][0]
    for n in (2, 9, 10):
        assert sides[str(n)][0] == pytest.approx(log_px, rel=1e-8), n
    for n in (7, 11, *range(18, 23)):
        assert sides[str(n)] == pytest.approx((elbo_, elbo_), rel=1e-8), n
    for n in (6, 8, *range(12, 18)):
        assert sides[str(n)] == pytest.approx((kl, kl), rel=1e-8), n
    assert elbo_ + kl == pytest.approx(log_px, rel=1e-8)
    assert sides["10"][1] == pytest.approx(elbo_, rel=1e-8)
    log_posterior, log_joint = sides["3"][0], sides["1"][0]
    assert log_posterior == pytest.approx(log_joint - log_px, rel=1e-8)
    if name != "discrete":
        for n in ("K&W §2.3 A", "K&W §2.3 B"):
            assert sides[n] == pytest.approx((elbo_, elbo_), rel=1e-8), n


@pytest.mark.parametrize("relation", ["=", "≥"])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (3, 1)])
def test_the_largest_difference_is_over_all_datapoints_and_all_z(relation, place):
    # Kills: a largest difference that looks at the first row only, or one that is not relative.
    left = np.full((4, 3), -3.0)
    right = left.copy()
    right[place] += 0.25
    equation = replace(EQUATIONS[0], check=lambda case: (left, right), relation=relation)
    outcome = check_equation(equation, make_case("discrete"))
    assert outcome.left == -3
    assert outcome.right == (-2.75 if place == (0, 0) else -3)
    assert outcome.difference == (0.25 if place == (0, 0) else 0)
    assert outcome.largest_difference == 0.25 / 4
    assert not outcome.passed


def test_the_difference_is_zero_if_the_inequality_is_true():
    # Kills: |left − right| as the difference of "≥", and a difference below 0.
    sides = np.array([-1.0, -2.0]), np.array([-1.5, -2.0])
    equation = replace(EQUATIONS[9], check=lambda case: sides)
    outcome = check_equation(equation, make_case("discrete"))
    assert (outcome.difference, outcome.largest_difference, outcome.passed) == (0, 0, True)


def test_every_equation_has_a_formula_in_plain_text():
    # Kills: LaTeX in the terminal, and a formula that does not fit its line.
    for equation in (*EQUATIONS, *KINGMA_WELLING):
        assert equation.text
        assert not set(equation.text) & set("\\{}$"), equation.number
        assert equation.text.count("(") == equation.text.count(")"), equation.number
        assert (
            "≥" if equation.relation == "≥" else "="
        ) in equation.text or equation.number == "12"


@pytest.mark.parametrize("equation", KINGMA_WELLING, ids=lambda e: e.number)
def test_a_sum_of_several_terms_has_brackets(equation):
    # Kills: ½ Σ μ² + σ² − 1 − log σ², which adds up only its first term.
    for formula in (equation.latex, equation.text):
        for summand in re.split(r"(?:\\sum|Σ)_\w ", formula)[1:]:
            depth = 0
            for i, character in enumerate(summand):
                depth += (character in "({[") - (character in ")}]")
                if depth < 0:  # the end of the bracket around the sum
                    break
                assert depth or summand[i : i + 2] not in ("+ ", "- ", "− "), formula


# The sum or integral of p(x|z) over all x


class Poisson(Likelihood):
    """Counts without an upper end, from the logarithm of the rate: a likelihood of a user."""

    name, integers, support = "poisson", True, (0, math.inf)

    def log_prob(self, x, out, parameters):
        return (x * out - np.exp(out) - special.gammaln(x + 1)).sum(axis=-1), None

    def mean(self, out):
        return np.exp(out)

    def variance(self, out, parameters):
        return np.exp(out)


class Gamma(Likelihood):
    """Real numbers above 0, shape 9 and a scale from the decoder."""

    name, support = "gamma", (0, math.inf)

    def log_prob(self, x, out, parameters):
        logp = 8 * np.log(x) - x / np.exp(out) - 9 * out - special.gammaln(9)
        return logp.sum(axis=-1), None

    def mean(self, out):
        return 9 * np.exp(out)

    def variance(self, out, parameters):
        return 9 * np.exp(2 * out)


def total(likelihood, scale=1.0, bias=0.0):
    """Check K&W app. C with a VAE of two dimensions and this likelihood."""
    vae = VAE(2, 1, (3,), likelihood=likelihood, dtype="float64")
    flat = vae.parameters.flat
    flat[:] = np.random.default_rng(0).normal(0, scale, flat.size)
    if bias:
        vae.parameters["decoder.b1"][:] = bias
    case = ContinuousCase(vae, None, None, Gaussian.standard(1, 1), 1e-10, spacing=0.5)
    return checks.decoder_normalized(case)


@pytest.mark.parametrize(
    "likelihood",
    ["bernoulli", "binomial:5", "gaussian:0.3", "gaussian:learned", "gaussian:head"],
)
def test_each_likelihood_sums_or_integrates_to_one(likelihood):
    # Kills: a support left out, a spacing left out of the integral, a σ² for σ.
    one, found = total(likelihood)
    np.testing.assert_allclose(found, one, rtol=1e-10)


@pytest.mark.parametrize("bias", [-6.0, -1.0, 0.5, 4.0])
def test_a_likelihood_of_counts_without_an_upper_end_sums_to_one(bias):
    # Kills: `isinstance(vae.likelihood, Binomial)`, which takes these for real numbers.
    one, found = total(Poisson(), scale=0.3, bias=bias)
    np.testing.assert_allclose(found, one, rtol=0, atol=1e-11)


def test_a_likelihood_of_numbers_above_zero_integrates_to_one():
    # Kills: a grid that leaves the support, where log p(x|z) is not a number.
    one, found = total(Gamma(), scale=0.3)
    np.testing.assert_allclose(found, one, rtol=1e-5)


@pytest.mark.parametrize("family", [stats.poisson, lambda m: stats.geom(1 / (1 + m), loc=-1)])
@pytest.mark.parametrize("mean", [1e-3, 0.1, 1.0, 10.0, 1e3])
def test_the_sum_leaves_out_hardly_any_probability(family, mean):
    # Kills: an end at ten standard deviations, where a geometric distribution still has 1e-5.
    law = family(mean)
    assert law.sf(np.ceil(law.mean() + 30 * law.std() + 30)) < 1e-12


def test_the_checks_do_not_depend_on_the_class_of_a_likelihood():
    # Kills: a check that is correct only for the likelihoods of this package.
    for path in (PACKAGE / "equations").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.ImportFrom, ast.Import)):
                assert "likelihoods" not in ast.unparse(node), path.name


def test_a_wrong_line_differs_from_its_neighbors(monkeypatch):
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
        (Gaussian, "kl", lambda f: lambda s, o: 2 * f(s, o), {"11", "22"}),
        (
            LinearGaussian,
            "kl_to_posterior",
            lambda f: lambda s, x, q: 2 * f(s, x, q),
            {"6", "8", "12", "13"},
        ),
        (LinearGaussian, "log_posterior", lambda f: lambda s, x, z: f(s, x, z) + 1, {"3", "13"}),
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
def test_a_planted_bug_fails_the_equations_that_it_affects(
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
def test_a_bug_in_the_trained_elbo_is_detected(monkeypatch, attribute, wrong, number):
    monkeypatch.setattr(elbo, attribute, wrong(getattr(elbo, attribute)))
    equation = next(e for e in KINGMA_WELLING if e.number == number)
    assert not check_equation(equation, make_case("quadrature", 0)).passed


def test_nan_is_not_a_pass():
    case = make_case("discrete", 0)
    case.x = case.x.copy()
    equation = EQUATIONS[10]
    nan = replace(equation, check=lambda case: (np.array([np.nan]), np.array([1.0])))
    assert not check_equation(nan, case).passed


@pytest.mark.parametrize("name", CASES)
def test_the_command_prints_a_row_for_each(capsys, name):
    assert main(["equations", "--model", name]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    case = make_case(name)
    for outcome in check_equations(case):
        number, text = outcome.equation.number, outcome.equation.text
        label = f"({number})" if number.isdecimal() else number
        sides = rf"{outcome.left:.8f} [=≥] +{outcome.right:.8f} "
        assert re.search(rf"^{re.escape(label)} +{re.escape(text)}\n +{sides}", out, re.M), number
    assert out.count("✓") == (22 if name == "discrete" else 27)
    assert main(["equations", "--model", name, "--json", "--seed", "3"]) == 0
    rows = json.loads(capsys.readouterr().out)["equations"]
    assert all(row["passed"] for row in rows)
    assert {"number", "latex", "left", "right", "difference", "tolerance"} <= rows[0].keys()
    assert {"largest_difference", "formula"} <= rows[0].keys()
    assert rows[7]["formula"] == "KL(q(z|x) ‖ p(z|x)) = log p(x) − ELBO"


def test_the_command_fails_when_an_equation_does(capsys, monkeypatch):
    right = Gaussian.kl
    monkeypatch.setattr(Gaussian, "kl", lambda s, o: right(s, o) + 1e-6)
    assert main(["equations"]) == 1
    assert "✗ WRONG" in capsys.readouterr().out
