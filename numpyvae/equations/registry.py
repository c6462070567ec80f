"""The register of the notes' equations: statement, meaning, functions, and a check of two sides.

The command `numpyvae equations`, the tables of the documentation and the tests are made from this
register alone. The docstrings of the functions that it names contain the tag `Eq. (n)`, and a test
compares the tags with the register.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
        The notes' number, or for a statement without a number its place in Kingma & Welling 2013.
    section : str
        Section of the notes.
    latex : str
        The statement as the notes write it.
    text : str
        The statement in plain text, for a terminal, in terms of the quantity that is checked: the
        logarithm of a density, say, in place of the density. q is q_φ(z|x).
    meaning : str
        What the statement says, in one sentence.
    functions : tuple of str
        Dotted names, under `numpyvae`, of the functions that compute it.
    check : callable
        `check(case) -> (left, right)`, two arrays of equal shape, computed independently. Their
        first entries belong to the first datapoint, and are the ones that the tables show.
    relation : {"=", "≥"}
        Relation between the two sides.

    Examples
    --------
    >>> EQUATIONS[7].number, EQUATIONS[7].section, EQUATIONS[7].text
    ('8', '§3.4', 'KL(q(z|x) ‖ p(z|x)) = log p(x) − ELBO')
    """

    number: str
    section: str
    latex: str
    text: str
    meaning: str
    functions: tuple[str, ...]
    check: Callable[[Any], Sides]  # of a Case; Kingma & Welling's of a ContinuousCase
    relation: str = "="


@dataclass(frozen=True)
class Outcome:
    """Result of a check: both sides at the first datapoint, and their largest difference.

    All equations are shown at the same datapoint, so that their numbers can be compared: the left
    sides of Eq. (7) and Eq. (8) add up to that of Eq. (9).

    Attributes
    ----------
    equation : Equation
    left, right : float
        The two sides at the first datapoint, in nats where they are logarithms, KLs or ELBOs.
    difference : float
        |left − right| at the first datapoint. For "≥" it is max(right − left, 0).
    largest_difference : float
        The largest such difference over all datapoints and all values of z, each relative to
        1 + |left| at the same place; infinite if one of them is not a number.
    tolerance : float
        Largest accepted value of `largest_difference`.

    Examples
    --------
    >>> Outcome(EQUATIONS[0], -1.0, -1.0, 0.0, largest_difference=1e-3, tolerance=1e-10).passed
    False
    """

    equation: Equation
    left: float
    right: float
    difference: float
    largest_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the largest difference is within the tolerance."""
        return self.largest_difference <= self.tolerance


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
    with np.errstate(invalid="ignore"):  # infinities give NaN, which fails the check below
        excess = right - left
        difference = np.maximum(excess, 0.0) if equation.relation == "≥" else np.abs(excess)
        relative = difference / (1 + np.abs(left))
    difference, relative = (np.where(np.isnan(a), np.inf, a) for a in (difference, relative))
    shown = 0  # the first datapoint, in every equation
    return Outcome(
        equation,
        left=float(left[shown]),
        right=float(right[shown]),
        difference=float(difference[shown]),
        largest_difference=float(relative.max()),
        tolerance=case.tolerance,
    )


def check_equations(case: Case) -> list[Outcome]:
    """Check the 22 equations of the notes on a case.

    If z is continuous, the five statements of Kingma & Welling 2013 follow.

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
    """Return a check that compares line n of a derivation with the line before."""
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
        "log p(x, z) = log p(x|z) + log p(z)",
        "The joint density is the likelihood of the data times the prior of the latent variable.",
        ("core.elbo.log_joint", "exact.ExactModel.log_joint"),
        checks.product_rule,
    ),
    Equation(
        "2",
        "§1",
        r"p(x) = \int p(x, z)\, dz",
        "log p(x) = log ∫ p(x, z) dz",
        "The evidence is the joint density, integrated over the latent variable.",
        _exact("log_evidence"),
        checks.evidence,
    ),
    Equation(
        "3",
        "§1",
        r"\overbrace{p(z|x)}^{\text{posterior}} = \frac{\overbrace{p(x|z)}^{\text{likelihood}}\, "
        r"\overbrace{p(z)}^{\text{prior}}}{\underbrace{p(x)}_{\text{evidence}}}",
        "log p(z|x) = log p(x|z) + log p(z) − log p(x)",
        "Bayes' theorem: the posterior is the joint density, divided by the evidence.",
        _exact("posterior"),
        checks.bayes,
    ),
    Equation(
        "4",
        "§3.1",
        rf"{_POST} = \frac{{{_P}(x|z)\, {_P}(z)}}{{{_P}(x)}}",
        "E[z|x] = ∫ z p(x|z) p(z) dz / p(x)",
        "Bayes' theorem for the model with parameters θ. The check compares posterior means.",
        (*_exact("posterior"), *_exact("log_posterior")),
        checks.posterior_mean,
    ),
    Equation(
        "5",
        "§3.3",
        rf"\operatorname{{argmin}}_\phi\; {_KL}",
        "KL(q(z|x) ‖ p(z|x)) at argmin KL = KL(q(z|x) ‖ p(z|x)) at argmax ELBO",
        "Find the q closest to the posterior. The q that maximizes the ELBO is the same one.",
        (*_exact("kl_to_posterior"), "inference.variational_inference"),
        checks.nearest_q,
    ),
    Equation(
        "6",
        "§3.3",
        rf"{_KL} = {_E_Q} - {_E_JOINT} + \log {_P}(x)",
        "KL(q(z|x) ‖ p(z|x)) = E_q[log q(z|x)] − E_q[log p(x, z)] + log p(x)",
        "The KL to the posterior still contains the evidence.",
        (*_exact("expected_log_q"), *_exact("expected_log_joint"), _LINE[17]),
        checks.kl_with_evidence,
    ),
    Equation(
        "7",
        "§3.4",
        rf"{_ELBO} = {_E_JOINT} - {_E_Q}",
        "ELBO = E_q[log p(x, z)] − E_q[log q(z|x)]",
        "The evidence lower bound (ELBO) contains only terms that we can compute.",
        ("core.elbo.sampled_elbo", "exact.ExactModel.elbo_joint_form"),
        checks.elbo_definition,
    ),
    Equation(
        "8",
        "§3.4",
        rf"{_KL} = \log {_P}(x) - {_ELBO}",
        "KL(q(z|x) ‖ p(z|x)) = log p(x) − ELBO",
        "The difference between the log-evidence and the ELBO is the KL to the posterior.",
        _exact("kl_to_posterior"),
        checks.gap_is_kl,
    ),
    Equation(
        "9",
        "§3.4",
        rf"\log {_P}(x) = {_KL} + {_ELBO}",
        "log p(x) = KL(q(z|x) ‖ p(z|x)) + ELBO",
        "The log-evidence is the ELBO plus a KL, which cannot be negative.",
        ("equations.derivations.kl_route",),
        checks.evidence_decomposed,
    ),
    Equation(
        "10",
        "§3.4",
        rf"\log {_P}(x) \geq {_ELBO}",
        "log p(x) ≥ ELBO",
        "The ELBO is a lower bound on the log-evidence.",
        ("equations.derivations.jensen_route", "equations.derivations.kl_route"),
        checks.lower_bound,
        "≥",
    ),
    Equation(
        "11",
        "§3.4",
        rf"{_ELBO} = {_E_LIKELIHOOD} - {_KL_PRIOR}",
        "ELBO = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))",
        "The form used in training: a reconstruction term minus the KL to the prior.",
        (
            "core.elbo.evidence_lower_bound",
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
        "KL(q(z|x) ‖ p(z|x))",
        "Appendix A starts with the KL to the posterior, by the model's own method.",
        (_LINE[12],),
        checks.kl_by_definition,
    ),
    Equation(
        "13",
        "App. A",
        rf"= \int {_Q} \log \frac{{{_Q}}}{{{_POST}}}\, dz",
        "= ∫ q(z|x) log(q(z|x) / p(z|x)) dz",
        "The definition of the KL.",
        (_LINE[13],),
        _consecutive(13),
    ),
    Equation(
        "14",
        "App. A",
        rf"= -\int {_Q} \log \frac{{{_POST}}}{{{_Q}}}\, dz",
        "= −∫ q(z|x) log(p(z|x) / q(z|x)) dz",
        "Inverting a fraction changes the sign of its logarithm.",
        (_LINE[14],),
        _consecutive(14),
    ),
    Equation(
        "15",
        "App. A",
        rf"= -\int {_Q} \log {_POST}\, dz + \int {_Q} \log {_Q}\, dz",
        "= −∫ q(z|x) log p(z|x) dz + ∫ q(z|x) log q(z|x) dz",
        "The logarithm of a quotient is a difference.",
        (_LINE[15],),
        _consecutive(15),
    ),
    Equation(
        "16",
        "App. A",
        rf"= -\int {_Q} \log {_P}(x, z)\, dz + \log {_P}(x) \int {_Q}\, dz"
        rf" + \int {_Q} \log {_Q}\, dz",
        "= −∫ q(z|x) log p(x, z) dz + log p(x) ∫ q(z|x) dz + ∫ q(z|x) log q(z|x) dz",
        "By Bayes' theorem log p(z|x) = log p(x, z) − log p(x), and log p(x) is independent of z.",
        (_LINE[16],),
        _consecutive(16),
    ),
    Equation(
        "17",
        "App. A",
        rf"= {_E_Q} - {_E_JOINT} + \log {_P}(x)",
        "= E_q[log q(z|x)] − E_q[log p(x, z)] + log p(x)",
        "The density q integrates to 1, which gives Eq. (6).",
        (_LINE[17],),
        _consecutive(17),
    ),
    Equation(
        "18",
        "App. B",
        rf"{_E_JOINT} - {_E_Q}",
        "ELBO = E_q[log p(x, z)] − E_q[log q(z|x)]",
        "Appendix B starts with the ELBO of Eq. (7).",
        (_LINE[18],),
        checks.elbo_restated,
    ),
    Equation(
        "19",
        "App. B",
        rf"= {_E_LIKELIHOOD} + {_E_PRIOR} - {_E_Q}",
        "= E_q[log p(x|z)] + E_q[log p(z)] − E_q[log q(z|x)]",
        "The joint density is likelihood times prior, Eq. (1).",
        (_LINE[19],),
        _consecutive(19),
    ),
    Equation(
        "20",
        "App. B",
        rf"= {_E_LIKELIHOOD} + (-1)\, {_E_RATIO}",
        "= E_q[log p(x|z)] + (−1) E_q[log q(z|x) − log p(z)]",
        "The expectation is linear.",
        (_LINE[20],),
        _consecutive(20),
    ),
    Equation(
        "21",
        "App. B",
        rf"= {_E_LIKELIHOOD} + (-1) \int {_Q} \log \frac{{{_Q}}}{{{_P}(z)}}\, dz",
        "= E_q[log p(x|z)] + (−1) ∫ q(z|x) log(q(z|x) / p(z)) dz",
        "The last expectation is written as an integral.",
        (_LINE[21],),
        _consecutive(21),
    ),
    Equation(
        "22",
        "App. B",
        rf"= {_E_LIKELIHOOD} - {_KL_PRIOR}",
        "= E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))",
        "This integral is the KL to the prior, which gives Eq. (11).",
        (_LINE[22],),
        _consecutive(22),
    ),
)

KINGMA_WELLING: tuple[Equation, ...] = (
    Equation(
        "K&W §2.3 A",
        "§3.7",
        r"\tilde{\mathcal{L}}^A = \frac1L \sum_l"
        r" \bigl(\log p_\theta(x, z^{(l)}) - \log q_\phi(z^{(l)}|x)\bigr)",
        "ELBO = E_ε[(1/L) Σ_l (log p(x, z_l) − log q(z_l|x))], z_l = μ + σ ε_l",
        "The mean of the estimator in which every term is sampled is the ELBO.",
        ("core.elbo.sampled_elbo",),
        checks.estimator_a,
    ),
    Equation(
        "K&W §2.3 B",
        "§3.7",
        rf"\tilde{{\mathcal{{L}}}}^B = -{_KL_PRIOR}"
        r" + \frac1L \sum_l \log p_\theta(x|z^{(l)})",
        "ELBO = E_ε[(1/L) Σ_l log p(x|z_l)] − KL(q(z|x) ‖ p(z)), z_l = μ + σ ε_l",
        "The mean of the estimator that has the KL in closed form is the ELBO, too.",
        ("core.elbo.evidence_lower_bound", "core.elbo.elbo"),
        checks.estimator_b,
    ),
    Equation(
        "K&W §2.4",
        "§3.7",
        rf"\mathbb{{E}}_{{{_Q}}}[f(z)] = \mathbb{{E}}_{{\epsilon \sim N(0, I)}}"
        r"[f(\mu + \sigma \epsilon)]",
        "E_q[f(z)] = E_ε[f(μ + σ ε)], ε ~ N(0, I); here f(z) = log p(x|z)",
        "A draw from q is a function of standard normal noise and of the parameters of q.",
        ("core.distributions.reparameterize",),
        checks.reparameterization,
    ),
    Equation(
        "K&W app. B",
        "§3.7",
        rf"{_KL_PRIOR} = \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)",
        "KL(q(z|x) ‖ p(z)) = ½ Σ_j (μ_j² + σ_j² − 1 − log σ_j²)",
        "The KL between a diagonal Gaussian and the standard normal, in closed form.",
        ("core.distributions.gaussian_kl",),
        checks.gaussian_kl_closed_form,
    ),
    Equation(
        "K&W app. C",
        "§3.7",
        r"\int p_\theta(x|z)\, dx = 1",
        "1 = ∫ p(x|z) dx",
        "The decoder's density, with all its constants, integrates to 1.",
        ("core.distributions.binomial_logpmf", "core.distributions.gaussian_logpdf"),
        checks.decoder_normalized,
    ),
)
