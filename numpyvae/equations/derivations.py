"""Appendices A and B of the notes, line by line: each line is a function that computes itself.

A line is written the way the notes write it. Where they have an integral, ∫ q(z|x) g(z) dz is
summed over a lattice of z with the density q in the integrand (`case.integral`); where they have
an expectation E_q[g], the model's own closed form or rule is taken. So two consecutive lines are
two different computations, and their agreement says something. (The notes leave out the dz of
(13)–(16) and (21); it is there in the sums.)

Every function takes a `Case`: a model, data x and a q for each datapoint. It returns (B,) nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .cases import Case

__all__ = [
    "jensen_route",
    "kl_route",
    *(f"line_{n}" for n in range(12, 23)),
]


# Appendix A: from the definition of the KL to Eq. (6).


def line_12(case: Case) -> np.ndarray:
    """KL(q_φ(z|x) ‖ p_θ(z|x)), by the model's own formula, Eq. (12)."""
    return case.model.kl_to_posterior(case.x, case.q)


def line_13(case: Case) -> np.ndarray:
    """= ∫ q log(q / p(z|x)) dz, the definition of the KL, Eq. (13)."""
    return case.integral(lambda z: case.log_q(z) - case.log_posterior(z))


def line_14(case: Case) -> np.ndarray:
    """= −∫ q log(p(z|x) / q) dz, since log a/b = −log b/a, Eq. (14)."""
    return -case.integral(lambda z: case.log_posterior(z) - case.log_q(z))


def line_15(case: Case) -> np.ndarray:
    """= −∫ q log p(z|x) dz + ∫ q log q dz, the logarithm of a quotient, Eq. (15)."""
    return -case.integral(case.log_posterior) + case.integral(case.log_q)


def line_16(case: Case) -> np.ndarray:
    """= −∫ q log p(x, z) dz + log p(x) ∫ q dz + ∫ q log q dz, by Bayes, Eq. (16).

    Eq. (4) has put p(z|x) = p(x, z)/p(x) into the logarithm; log p(x) does not depend on z.
    """
    log_px = case.model.log_evidence(case.x)
    q_mass = case.integral(lambda z: np.ones(z.shape[:2]))
    return -case.integral(case.log_joint) + log_px * q_mass + case.integral(case.log_q)


def line_17(case: Case) -> np.ndarray:
    """= E_q[log q] − E_q[log p(x, z)] + log p(x), since ∫ q dz = 1, Eq. (17) and Eq. (6)."""
    model, x, q = case.model, case.x, case.q
    return model.expected_log_q(q) - model.expected_log_joint(x, q) + model.log_evidence(x)


# Appendix B: from the ELBO of Eq. (7) to that of Eq. (11).


def line_18(case: Case) -> np.ndarray:
    """E_q[log p(x, z)] − E_q[log q(z|x)], the ELBO of Eq. (7), Eq. (18)."""
    return case.model.expected_log_joint(case.x, case.q) - case.model.expected_log_q(case.q)


def line_19(case: Case) -> np.ndarray:
    """= E_q[log p(x|z)] + E_q[log p(z)] − E_q[log q(z|x)], by Eq. (1), Eq. (19)."""
    model, q = case.model, case.q
    prior, entropy = model.expected_log_prior(q), -model.expected_log_q(q)
    return model.expected_log_likelihood(case.x, q) + prior + entropy


def line_20(case: Case) -> np.ndarray:
    """= E_q[log p(x|z)] + (−1) E_q[log q(z|x) − log p(z)], linearity, Eq. (20)."""
    difference = case.expectation(lambda z: case.log_q(z) - case.model.log_prior(z))
    return case.model.expected_log_likelihood(case.x, case.q) + (-1) * difference


def line_21(case: Case) -> np.ndarray:
    """= E_q[log p(x|z)] + (−1) ∫ q log(q / p(z)) dz, the expectation written out, Eq. (21)."""
    kl = case.integral(lambda z: case.log_q(z) - case.model.log_prior(z))
    return case.model.expected_log_likelihood(case.x, case.q) + (-1) * kl


def line_22(case: Case) -> np.ndarray:
    """= E_q[log p(x|z)] − KL(q_φ(z|x) ‖ p_θ(z)), the closed form, Eq. (22) and Eq. (11)."""
    model, q = case.model, case.q
    return model.expected_log_likelihood(case.x, q) - model.kl_to_prior(q)


# Two classic routes to the bound of Eq. (10), as in Yang 2017.


def jensen_route(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Jensen's inequality: log p(x) = log E_q[w] ≥ E_q[log w], w = p(x, z)/q(z|x), Eq. (10).

    Returns
    -------
    log_mean, mean_log : (B,) arrays
        The first is log p(x) for any q that is positive where p(x, z) is; the second is the ELBO.
    """

    def log_w(z):
        return case.log_joint(z) - case.log_q(z)

    return case.log_integral(lambda z: log_w(z) + case.log_q(z)), case.expectation(log_w)


def kl_route(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """KL ≥ 0: log p(x) − ELBO = KL(q ‖ p(z|x)) ≥ 0, Eq. (9) and Eq. (10).

    It says more than Jensen's route: what the gap is, and when it closes.

    Returns
    -------
    log_px, elbo : (B,) arrays
        Log-evidence, and the ELBO as log-evidence less the KL.
    """
    log_px = case.model.log_evidence(case.x)
    return log_px, log_px - case.model.kl_to_posterior(case.x, case.q)
