"""The register of the notes' equations: statement, meaning, code, and a check with two sides.

It is the one source: the command `numpyvae equations`, the table in the docs and the tests are
made from it. The functions it names carry the tag `Eq. (n)` in their docstrings, and a test holds
tags and register against one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import checks, derivations
from .cases import Case, ContinuousCase

__all__ = [
    "EQUATIONS",
    "KINGMA_WELLING",
    "Equation",
    "Outcome",
    "check_equation",
    "check_equations",
]

Sides = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Equation:
    """One numbered statement.

    Attributes
    ----------
    number : str
        The notes' number, or for a piece without one its place in Kingma & Welling 2013.
    section : str
        Of the notes.
    latex : str
    meaning : str
        What it says, in one plain sentence.
    functions : tuple of str
        Dotted names, under `numpyvae`, of what implements it.
    check : callable
        `check(case) -> (left, right)`, two arrays of equal shape computed apart.
    relation : {"=", "≥"}
        What holds between the sides.

    Examples
    --------
    >>> EQUATIONS[10].number, EQUATIONS[10].section, EQUATIONS[10].functions[0]
    ('11', '§3.4', 'core.elbo.elbo')
    """

    number: str
    section: str
    latex: str
    meaning: str
    functions: tuple[str, ...]
    check: Callable[[Case], Sides]
    relation: str = "="


@dataclass(frozen=True)
class Outcome:
    """What a check found: both sides at the datapoint where they differ most.

    Attributes
    ----------
    equation : Equation
    left, right : float
        Nats, or what the equation is about.
    difference : float
        |left − right|; for "≥" how far right exceeds left, 0 if it does not.
    tolerance : float

    Examples
    --------
    >>> Outcome(EQUATIONS[0], left=-1.0, right=-1.0, difference=0.0, tolerance=1e-10).passed
    True
    """

    equation: Equation
    left: float
    right: float
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within tolerance; NaN is not."""
        return self.difference <= self.tolerance


def check_equation(equation: Equation, case: Case) -> Outcome:
    """Compute both sides of an equation on a case.

    Parameters
    ----------
    equation : Equation
    case : Case
        See `make_case`.

    Returns
    -------
    outcome : Outcome

    Raises
    ------
    QuadratureError
        If an integral of the case does not converge.

    Examples
    --------
    >>> from numpyvae.equations import make_case
    >>> check_equation(EQUATIONS[7], make_case("linear-gaussian")).passed        # Eq. (8)
    True
    """
    left, right = (np.ravel(side) for side in equation.check(case))
    apart = right - left if equation.relation == "≥" else np.abs(left - right)
    apart = np.where(np.isnan(apart), np.inf, apart)
    if equation.relation == "≥":
        apart = np.maximum(apart, 0.0)
    worst = int(np.argmax(apart / (1 + np.abs(left))))
    bound = case.tolerance * (1 + abs(left[worst]))
    return Outcome(equation, *map(float, (left[worst], right[worst], apart[worst], bound)))


def check_equations(case: Case) -> list[Outcome]:
    """Check all equations of the notes on a case, and Kingma & Welling's where z is continuous.

    Parameters
    ----------
    case : Case
        See `make_case`.

    Returns
    -------
    outcomes : list of Outcome
        In the order of the notes.

    Raises
    ------
    QuadratureError
        If an integral of the case does not converge.

    Examples
    --------
    >>> from numpyvae.equations import make_case
    >>> outcomes = check_equations(make_case("discrete"))
    >>> len(outcomes), all(outcome.passed for outcome in outcomes)
    (22, True)
    """
    extra = KINGMA_WELLING if isinstance(case, ContinuousCase) else ()
    return [check_equation(equation, case) for equation in (*EQUATIONS, *extra)]


def _consecutive(n: int) -> Callable[[Case], Sides]:
    """Check line n of a derivation against the line before."""
    before, line = (getattr(derivations, f"line_{k}") for k in (n - 1, n))
    return lambda case: (before(case), line(case))


# Pieces of the statements, in LaTeX.
_Q, _P, _POST = r"q_\phi(z|x)", r"p_\theta", r"p_\theta(z|x)"
_E = rf"\mathbb{{E}}_{{{_Q}}}"
_E_Q, _E_JOINT = rf"{_E}[\log {_Q}]", rf"{_E}[\log {_P}(x, z)]"
_E_LIKELIHOOD, _E_PRIOR = rf"{_E}[\log {_P}(x|z)]", rf"{_E}[\log {_P}(z)]"
_E_RATIO = rf"{_E}[\log {_Q} - \log {_P}(z)]"
_KL = rf"D_\mathrm{{KL}}({_Q} \,\|\, {_POST})"
_KL_PRIOR = rf"D_\mathrm{{KL}}({_Q} \,\|\, p_\theta(z))"
_ELBO = r"\mathrm{ELBO}(\phi, \theta)"
_LINE = tuple(f"equations.derivations.line_{n}" for n in range(23))
_FAMILIES = ("LinearGaussian", "Quadrature", "FiniteMixture")


def _exact(method: str) -> tuple[str, ...]:
    return tuple(f"exact.{family}.{method}" for family in _FAMILIES)


EQUATIONS: tuple[Equation, ...] = (
    Equation(
        "1",
        "§1",
        r"p(x, z) = p(x|z)\, p(z)",
        "A joint density is the likelihood of the data times the prior of the latent.",
        ("core.elbo.log_joint", "exact.ExactModel.log_joint"),
        checks.product_rule,
    ),
    Equation(
        "2",
        "§1",
        r"p(x) = \int p(x, z)\, dz",
        "The evidence is the joint density with the latent integrated out.",
        _exact("log_evidence"),
        checks.evidence,
    ),
    Equation(
        "3",
        "§1",
        r"p(z|x) = \frac{p(x|z)\, p(z)}{p(x)}",
        "Bayes: the posterior is the joint density, scaled to integrate to one.",
        _exact("posterior"),
        checks.bayes,
    ),
    Equation(
        "4",
        "§3.1",
        rf"{_POST} = \frac{{{_P}(x|z)\, {_P}(z)}}{{{_P}(x)}}",
        "The same for the model's θ: with the evidence known, every posterior mean follows.",
        (*_exact("posterior"), *_exact("log_posterior")),
        checks.posterior_mean,
    ),
    Equation(
        "5",
        "§3.3",
        rf"\operatorname{{argmin}}_\phi\; {_KL}",
        "Look for the q nearest to the posterior; the q that maximizes the ELBO is that one.",
        (*_exact("kl_to_posterior"), "inference.variational_inference"),
        checks.nearest_q,
    ),
    Equation(
        "6",
        "§3.3",
        rf"{_KL} = {_E_Q} - {_E_JOINT} + \log {_P}(x)",
        "The KL to the posterior still has the evidence in it.",
        (*_exact("expected_log_q"), *_exact("expected_log_joint"), _LINE[17]),
        checks.kl_with_evidence,
    ),
    Equation(
        "7",
        "§3.4",
        rf"{_ELBO} = {_E_JOINT} - {_E_Q}",
        "The evidence lower bound: only terms that we can compute.",
        ("core.elbo.sampled_elbo", "exact.ExactModel.elbo_joint_form"),
        checks.elbo_definition,
    ),
    Equation(
        "8",
        "§3.4",
        rf"{_KL} = \log {_P}(x) - {_ELBO}",
        "The gap between log-evidence and ELBO is the KL to the posterior.",
        _exact("kl_to_posterior"),
        checks.gap_is_kl,
    ),
    Equation(
        "9",
        "§3.4",
        rf"\log {_P}(x) = {_KL} + {_ELBO}",
        "So the log-evidence is the ELBO plus something that cannot be negative.",
        ("equations.derivations.kl_route",),
        checks.evidence_decomposed,
    ),
    Equation(
        "10",
        "§3.4",
        rf"\log {_P}(x) \geq {_ELBO}",
        "The ELBO is a lower bound on the log-evidence.",
        ("equations.derivations.jensen_route", "equations.derivations.kl_route"),
        checks.lower_bound,
        "≥",
    ),
    Equation(
        "11",
        "§3.4",
        rf"{_ELBO} = {_E_LIKELIHOOD} - {_KL_PRIOR}",
        "The form that is trained: reconstruct the data, and stay near the prior.",
        (
            "core.elbo.elbo",
            "core.elbo.elbo_terms",
            "core.elbo.elbo_and_grad",
            "exact.ExactModel.elbo_kl_form",
        ),
        checks.two_forms,
    ),
    Equation(
        "12",
        "App. A",
        _KL,
        "Where appendix A starts: the KL to the posterior, by the model's own formula.",
        (_LINE[12],),
        checks.kl_by_definition,
    ),
    Equation(
        "13",
        "App. A",
        rf"= \int {_Q} \log \frac{{{_Q}}}{{{_POST}}}\, dz",
        "The definition of the KL.",
        (_LINE[13],),
        _consecutive(13),
    ),
    Equation(
        "14",
        "App. A",
        rf"= -\int {_Q} \log \frac{{{_POST}}}{{{_Q}}}\, dz",
        "Turning the fraction over changes the sign of its logarithm.",
        (_LINE[14],),
        _consecutive(14),
    ),
    Equation(
        "15",
        "App. A",
        rf"= -\int {_Q} \log {_POST}\, dz + \int {_Q} \log {_Q}\, dz",
        "The logarithm of a quotient is a difference.",
        (_LINE[15],),
        _consecutive(15),
    ),
    Equation(
        "16",
        "App. A",
        rf"= -\int {_Q} \log {_P}(x, z)\, dz + \log {_P}(x) \int {_Q}\, dz"
        rf" + \int {_Q} \log {_Q}\, dz",
        "By Bayes the posterior is joint over evidence, and the evidence does not depend on z.",
        (_LINE[16],),
        _consecutive(16),
    ),
    Equation(
        "17",
        "App. A",
        rf"= {_E_Q} - {_E_JOINT} + \log {_P}(x)",
        "q integrates to one, and what is left is Eq. (6).",
        (_LINE[17],),
        _consecutive(17),
    ),
    Equation(
        "18",
        "App. B",
        rf"{_E_JOINT} - {_E_Q}",
        "Where appendix B starts: the ELBO of Eq. (7).",
        (_LINE[18],),
        checks.elbo_restated,
    ),
    Equation(
        "19",
        "App. B",
        rf"= {_E_LIKELIHOOD} + {_E_PRIOR} - {_E_Q}",
        "The joint is likelihood times prior, Eq. (1).",
        (_LINE[19],),
        _consecutive(19),
    ),
    Equation(
        "20",
        "App. B",
        rf"= {_E_LIKELIHOOD} + (-1)\, {_E_RATIO}",
        "Expectations are linear.",
        (_LINE[20],),
        _consecutive(20),
    ),
    Equation(
        "21",
        "App. B",
        rf"= {_E_LIKELIHOOD} + (-1) \int {_Q} \log \frac{{{_Q}}}{{{_P}(z)}}\, dz",
        "The last expectation, written as an integral.",
        (_LINE[21],),
        _consecutive(21),
    ),
    Equation(
        "22",
        "App. B",
        rf"= {_E_LIKELIHOOD} - {_KL_PRIOR}",
        "That integral is the KL to the prior, and this is Eq. (11).",
        (_LINE[22],),
        _consecutive(22),
    ),
)

KINGMA_WELLING: tuple[Equation, ...] = (
    Equation(
        "K&W §2.3 A",
        "§3.7",
        r"\tilde{\mathcal{L}}^A = \frac1L \sum_l \log p_\theta(x, z^{(l)})"
        r" - \log q_\phi(z^{(l)}|x)",
        "The estimator with every term sampled has the ELBO as its mean.",
        ("core.elbo.sampled_elbo",),
        checks.estimator_a,
    ),
    Equation(
        "K&W §2.3 B",
        "§3.7",
        rf"\tilde{{\mathcal{{L}}}}^B = -{_KL_PRIOR}"
        r" + \frac1L \sum_l \log p_\theta(x|z^{(l)})",
        "So has the estimator with the KL in closed form.",
        ("core.elbo.elbo",),
        checks.estimator_b,
    ),
    Equation(
        "K&W §2.4",
        "§3.7",
        rf"\mathbb{{E}}_{{{_Q}}}[f(z)] = \mathbb{{E}}_{{\epsilon \sim N(0, I)}}"
        r"[f(\mu + \sigma \epsilon)]",
        "A draw from q is a function of noise and of q's parameters.",
        ("core.distributions.reparameterize",),
        checks.reparameterization,
    ),
    Equation(
        "K&W app. B",
        "§3.7",
        rf"{_KL_PRIOR} = \tfrac12 \sum_j \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2",
        "The KL between a diagonal Gaussian and the standard normal, in closed form.",
        ("core.distributions.gaussian_kl",),
        checks.gaussian_kl_closed_form,
    ),
    Equation(
        "K&W app. C",
        "§3.7",
        r"\int p_\theta(x|z)\, dx = 1",
        "The decoder's density, with all its constants, is normalized.",
        ("core.distributions.binomial_logpmf", "core.distributions.gaussian_logpdf"),
        checks.decoder_normalized,
    ),
)
