"""Appendices A and B of the notes, line by line: one function for each line.

Each function computes its line as the notes write it. An integral ∫ q(z|x) g(z) dz is a sum over
an equally spaced grid of z, with the density q in the integrand (`case.integral`). An expectation
E_q[g] uses the model's own closed form or quadrature. Consecutive lines are therefore different
computations, and a mistake in one of them shows. (The notes omit the dz in (13)–(16) and (21); in
the sums it is the spacing of the grid.)

Every function takes a `Case`, that is a model, data x and a q for each datapoint, and returns one
value for each datapoint, (B,), in nats.
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
    """KL(q_φ(z|x) ‖ p_θ(z|x)), by the model's own method, Eq. (12)."""
    return case.model.kl_to_posterior(case.x, case.q)


def line_13(case: Case) -> np.ndarray:
    """= ∫ q log(q / p(z|x)) dz, the definition of the KL, Eq. (13)."""
    return case.integral(lambda z: case.log_q(z) - case.log_posterior(z))


def line_14(case: Case) -> np.ndarray:
    """= −∫ q log(p(z|x) / q) dz, since log a/b = −log b/a, Eq. (14)."""
    return -case.integral(lambda z: case.log_posterior(z) - case.log_q(z))


def line_15(case: Case) -> np.ndarray:
    """= −∫ q log p(z|x) dz + ∫ q log q dz, since log a/b = log a − log b, Eq. (15)."""
    return -case.integral(case.log_posterior) + case.integral(case.log_q)


def line_16(case: Case) -> np.ndarray:
    """= −∫ q log p(x, z) dz + log p(x) ∫ q dz + ∫ q log q dz, by Bayes, Eq. (16).

    Eq. (4) gives log p(z|x) = log p(x, z) − log p(x); log p(x) does not depend on z, so that it
    can be taken out of the integral.
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
    """= E_q[log p(x|z)] + (−1) E_q[log q(z|x) − log p(z)], by linearity, Eq. (20)."""
    difference = case.expectation(lambda z: case.log_q(z) - case.model.log_prior(z))
    return case.model.expected_log_likelihood(case.x, case.q) + (-1) * difference


def line_21(case: Case) -> np.ndarray:
    """= E_q[log p(x|z)] + (−1) ∫ q log(q / p(z)) dz, the expectation as an integral, Eq. (21)."""
    kl = case.integral(lambda z: case.log_q(z) - case.model.log_prior(z))
    return case.model.expected_log_likelihood(case.x, case.q) + (-1) * kl


def line_22(case: Case) -> np.ndarray:
    """= E_q[log p(x|z)] − KL(q_φ(z|x) ‖ p_θ(z)), Eq. (22) and Eq. (11)."""
    model, q = case.model, case.q
    return model.expected_log_likelihood(case.x, q) - model.kl_to_prior(q)


# Two derivations of the bound of Eq. (10), as in Yang 2017.


def jensen_route(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Jensen's inequality: log p(x) = log E_q[w] ≥ E_q[log w], w = p(x, z)/q(z|x), Eq. (10).

    Returns
    -------
    log_mean, mean_log : (B,) arrays
        The first is log p(x), for any q that is positive wherever p(x, z) is positive. The second
        is the ELBO.
    """

    def log_w(z):
        return case.log_joint(z) - case.log_q(z)

    return case.log_integral(lambda z: log_w(z) + case.log_q(z)), case.expectation(log_w)


def kl_route(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """KL ≥ 0: log p(x) − ELBO = KL(q ‖ p(z|x)) ≥ 0, Eq. (9) and Eq. (10).

    Unlike Jensen's inequality, this derivation also says what the gap is, and that it is 0 only
    if q is the posterior.

    Returns
    -------
    log_px, elbo : (B,) arrays
        The log-evidence, and the ELBO as the log-evidence minus the KL.
    """
    log_px = case.model.log_evidence(case.x)
    return log_px, log_px - case.model.kl_to_posterior(case.x, case.q)
