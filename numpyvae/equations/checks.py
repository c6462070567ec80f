"""The two sides of each equation, computed independently.

Each function takes a `Case` and returns (left, right), two arrays of equal shape whose entries
should agree. The two sides are computed in different ways: a closed form and a sum over a grid,
the package's ELBO and the exact model's, densities written out here and the package's.

The first entry of each array belongs to the first datapoint (and, where densities are compared, to
the first z of `Case.points`). The tables show this entry, so that the numbers of different
equations can be compared. The lines of the appendices are in `derivations`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.distributions import gaussian_kl, reparameterize
from ..core.elbo import elbo, sampled_elbo
from ..core.vae import VAE
from .cases import Case, ContinuousCase
from .derivations import jensen_route, kl_route, line_12, line_13, line_17, line_18

__all__ = [
    "bayes",
    "decoder_normalized",
    "elbo_definition",
    "elbo_restated",
    "estimator_a",
    "estimator_b",
    "evidence",
    "evidence_decomposed",
    "gap_is_kl",
    "gaussian_kl_closed_form",
    "kl_by_definition",
    "kl_with_evidence",
    "lower_bound",
    "nearest_q",
    "posterior_mean",
    "product_rule",
    "reparameterization",
    "two_forms",
]

Sides = tuple[np.ndarray, np.ndarray]


def product_rule(case: Case) -> Sides:
    """log p(x, z) written out with NumPy, and as log p(x|z) + log p(z), at several z: Eq. (1)."""
    z = case.points()
    return case.reference_log_joint(z), case.log_joint(z)


def evidence(case: Case) -> Sides:
    """The model's log p(x), and the log of p(x, z) integrated over a grid of z: Eq. (2)."""
    return case.model.log_evidence(case.x), case.log_integral(case.log_joint)


def bayes(case: Case) -> Sides:
    """The model's log p(z|x), and log p(x|z) + log p(z) − log p(x), at several z: Eq. (3)."""
    z = case.points()
    model, x = case.model, case.x
    log_px = case.log_integral(lambda z: model.log_likelihood(x, z) + model.log_prior(z))
    return model.log_posterior(x, z), model.log_likelihood(x, z) + model.log_prior(z) - log_px


def posterior_mean(case: Case) -> Sides:
    """The model's E[z|x], and ∫ z p(x|z) p(z) dz / p(x) over a grid of z: Eq. (4)."""
    return case.posterior_mean(), case.mean_by_bayes()


def nearest_q(case: Case) -> Sides:
    """The KL at the q that minimizes the KL, and at the q that maximizes the ELBO: Eq. (5)."""
    from scipy.optimize import minimize  # late: the other equations are checked by NumPy alone

    case = case.first()

    def kl(q_case):
        return q_case.integral(lambda z: q_case.log_q(z) - q_case.log_posterior(z))

    def negative_elbo(q_case):
        return q_case.expectation(lambda z: q_case.log_q(z) - q_case.log_joint(z))

    def search(objective) -> np.ndarray:
        def total(free):
            return objective(case.with_q(case.q_from(free))).sum()

        found = minimize(total, np.zeros(case.n_free), method="BFGS", options={"gtol": 1e-6})
        return case.model.kl_to_posterior(case.x, case.q_from(found.x))

    return search(kl), search(negative_elbo)


def kl_with_evidence(case: Case) -> Sides:
    """The model's KL(q ‖ p(z|x)), and E_q[log q] − E_q[log p(x, z)] + log p(x): Eq. (6)."""
    return line_12(case), line_17(case)


def elbo_definition(case: Case) -> Sides:
    """The model's E_q[log p(x, z)] − E_q[log q], and the same integral over a grid: Eq. (7)."""
    summed = case.integral(lambda z: case.log_joint(z) - case.log_q(z))
    return case.model.elbo_joint_form(case.x, case.q), summed


def gap_is_kl(case: Case) -> Sides:
    """The model's KL(q ‖ p(z|x)), and log p(x) − ELBO: Eq. (8)."""
    gap = case.model.log_evidence(case.x) - case.model.elbo_joint_form(case.x, case.q)
    return line_12(case), gap


def evidence_decomposed(case: Case) -> Sides:
    """The model's log p(x), and the KL over a grid of z + the ELBO of Eq. (11): Eq. (9)."""
    return case.model.log_evidence(case.x), line_13(case) + case.model.elbo_kl_form(case.x, case.q)


def lower_bound(case: Case) -> Sides:
    """log p(x) and the ELBO, by Jensen's inequality and by KL ≥ 0: Eq. (10)."""
    routes = jensen_route(case), kl_route(case)
    left, right = (np.concatenate(side) for side in zip(*routes))
    return left, right


def two_forms(case: Case) -> Sides:
    """E_q[log p(x, z)] − E_q[log q], and E_q[log p(x|z)] − KL(q ‖ p(z)): Eq. (11)."""
    model, x, q = case.model, case.x, case.q
    return model.elbo_joint_form(x, q), model.elbo_kl_form(x, q)


def kl_by_definition(case: Case) -> Sides:
    """The model's KL to the posterior, and E_q[log q] − E_q[log p(z|x)]: Eq. (12)."""
    model, x, q = case.model, case.x, case.q
    return line_12(case), model.expected_log_q(q) - model.expected_log_posterior(x, q)


def elbo_restated(case: Case) -> Sides:
    """The ELBO of Eq. (7) by a rule for q, and the model's own expectations: Eq. (18)."""
    summed = case.expectation(case.log_joint) - case.expectation(case.log_q)
    return summed, line_18(case)


# Kingma & Welling 2013: statements that the notes use and do not number.


def _mean_over_noise(case: ContinuousCase, estimator: Callable) -> np.ndarray:
    """Mean of a one-sample estimator of the ELBO over ε ~ N(0, I), (B,), by the grid of ε."""
    B, J = case.q.mean.shape
    L = len(case.u)
    x = np.tile(case.x, (L, 1))  # (L·B, D)
    eps = np.repeat(case.u.reshape(L, J), B, axis=0)[None]  # (1, L·B, J)
    return case.weights @ estimator(case.vae, x, eps).reshape(L, B)


def estimator_a(case: ContinuousCase) -> Sides:
    """The exact ELBO, and the mean of `sampled_elbo` over its noise (K&W 2013, §2.3)."""
    exact = case.model.elbo_joint_form(case.x, case.q)
    return exact, _mean_over_noise(case, sampled_elbo)


def estimator_b(case: ContinuousCase) -> Sides:
    """The exact ELBO, and the mean of `elbo` over its noise (K&W 2013, §2.3)."""
    exact = case.model.elbo_kl_form(case.x, case.q)
    return exact, _mean_over_noise(case, elbo)


def reparameterization(case: ContinuousCase) -> Sides:
    """∫ q(z) f(z) dz, and E_ε[f(μ + σ ε)], for f = log p(x|z) (K&W 2013, §2.4)."""

    def f(z):
        return case.model.log_likelihood(case.x, z)

    mu, logvar = case.mu_logvar()
    z, _ = reparameterize(mu, logvar, np.broadcast_to(case.u, (len(case.u), *mu.shape)))
    return case.integral(f), case.weights @ f(z)


def gaussian_kl_closed_form(case: ContinuousCase) -> Sides:
    """The closed form of the KL, and ∫ q log(q / p(z)) dz over a grid (K&W 2013, appendix B)."""
    kl, _ = gaussian_kl(*case.mu_logvar())
    return kl, case.integral(lambda z: case.log_q(z) - case.model.log_prior(z))


def decoder_normalized(case: ContinuousCase) -> Sides:
    """1, and p(x|z) summed or integrated over all x, at several z (K&W 2013, appendix C)."""
    totals = []
    for z in case.points().reshape(-1, case.vae.latent_dim):
        x, volume = _all_outcomes(case.vae, z)
        log_p, _ = case.vae.log_likelihood(x, np.broadcast_to(z, (1, len(x), len(z))))
        totals.append(np.exp(log_p).sum() * volume)
    return np.ones(len(totals)), np.array(totals)


def _all_outcomes(vae: VAE, z: np.ndarray) -> tuple[np.ndarray, float]:
    """Values of x over which p(x|z) sums to 1, (n, D), and the volume that each one stands for.

    For whole numbers in a finite support these are all possible x. For whole numbers without an
    upper end they go up to 30 standard deviations + 30 above the mean: a log-concave distribution
    of counts, such as the Poisson, has less than 1e-12 of its mass beyond. For real numbers they
    are an equally spaced grid, ±9 standard deviations around the mean.
    """
    likelihood = vae.likelihood
    out, _ = vae.decoder(z[None, None])
    mean = likelihood.mean(out).reshape(-1)
    sd = np.sqrt(likelihood.variance(out, vae.parameters)).reshape(-1)
    low, high = likelihood.support
    if likelihood.integers:
        last = np.ceil(mean + 30 * sd + 30) if np.isinf(high) else np.full(len(mean), high)
        axes = [np.arange(low, end + 1, dtype=float) for end in last]
        volume = 1.0
    else:
        axes = [m + s * np.arange(-9, 9.25, 0.5) for m, s in zip(mean, sd)]
        axes = [values[(values > low) & (values < high)] for values in axes]
        volume = float(np.prod(0.5 * sd))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(mean)), volume
