"""The formulas of docstrings as LaTeX: docs/_ext/formulas.py."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "docs" / "_ext" / "formulas.py"
spec = importlib.util.spec_from_file_location("formulas", PATH)
formulas = importlib.util.module_from_spec(spec)
spec.loader.exec_module(formulas)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("σ_j² − 1", r"\sigma_{j}^{2}-1"),  # the exponent is not part of the subscript
        ("C_o,jj⁻¹", r"C_{o,jj}^{-1}"),
        ("r = √(c₂/(1 − β₂))", r"r=\sqrt{c_{2}/(1-\beta_{2})}"),  # nested parentheses
        ("e^−|l_d|", r"e^{-|l_{d}|}"),
        ("E_{p_θ(x)} KL(p ‖ q)", r"\mathbb{E}_{p_{\theta}(x)}\,\mathrm{KL}(p\,\|\,q)"),
        ("w̃_k = Ψ^−½", r"\tilde{w}_{k}=\Psi^{-1/2}"),
        ("tr Σ ≥ Σ_j a_j", r"\operatorname{tr}\,\Sigma \geq \sum_{j}\,a_{j}"),  # a matrix, a sum
        ("N(0, I), N = 3", r"\mathcal{N}(0,I),N=3"),
    ],
)
def test_a_formula_becomes_latex(text, latex):
    assert formulas.to_latex(text) == latex


@pytest.mark.parametrize("text", ["flat[:n_phi]", "x = raw / maximum", "(a, b", "a_ = 1", "a # b"])
def test_code_words_and_open_brackets_are_no_formula(text):
    assert formulas.to_latex(text) is None
