"""One training step without the optimizer, forward and backward, in one compiled function.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → objective

The gradient comes back through the same lines in reverse order. All arrays are contiguous;
`step.Compiled` checks their shapes before.
"""

from __future__ import annotations

import numpy as np

from .compiling import compile_with
from .densities import binomial, gaussian, gaussian_head, pull_variance, weigh_rows
from .networks import mlp, pull_mlp
from .posterior import draw, pull_draw, weights

__all__ = ["BINOMIAL", "FIXED", "HEAD", "LEARNED", "step"]

BINOMIAL, FIXED, LEARNED, HEAD = 0, 1, 2, 3


@compile_with()
def log_likelihood(x, out, b, kind, number, logvar, constant):
    """Return log p(x|z) + constant (R,); `out` becomes ∂log p/∂out. `number` is n, or log σ²."""
    logp = np.empty(out.shape[0], x.dtype)
    if kind == BINOMIAL:
        binomial(x, out, b, x.dtype.type(number), logp)
    elif kind == HEAD:
        gaussian_head(x, out, b, logp)
    elif kind == FIXED:
        gaussian(x, out, b, np.full(x.shape[1], number, x.dtype), logp)
    else:
        gaussian(x, out, b, logvar, logp)
    for r in range(logp.size):
        logp[r] += constant[r % x.shape[0]]
    return logp


@compile_with()
def coefficients(log_w, B, K, sampled, squared, scored):
    """Return L_K, and a, r and s of each draw (`estimators.sampled`), for a mean over L and B.

    Eq. (11): a = 1, r = 1, s = 0.  L_K: a = w̃, r = w̃ (DReG) or 1, s = −w̃ (IWAE) or 0.
    """
    a, r, s = np.empty((3, log_w.size), log_w.dtype)
    objective = 0.0
    if sampled:
        objective = weights(log_w, B, K, a)
    else:
        a[:] = 1
    means = log_w.size // K  # L·B
    for i in range(a.size):
        r[i] = a[i] if squared else 1
        a[i] /= means
        s[i] = -a[i] if scored else 0
    return objective, a, r, s


@compile_with()
def mean(values):
    """The mean, of a sum in float64."""
    total = 0.0
    for value in values:
        total += value
    return total / values.size


@compile_with()
def step(flat, gradient, x, eps, up, down, n_phi, kinds, number, constant, K, flags):
    """Write ∂objective/∂(φ, θ) into `gradient`; return the objective, E_q[log p(x|z)] and the KL.

    `up` and `down` are the widths of encoder and decoder; `kinds` those of the activation and
    the likelihood; `flags`: sampled, squared, scored (see `coefficients`), for φ, for θ.
    """
    B, J, m = x.shape[0], eps.shape[1], down[-1]
    activation, likelihood = kinds
    sampled, squared, scored, for_phi, for_theta = flags
    phi, theta = flat[:n_phi], flat[n_phi:]
    dphi, dtheta = gradient[:n_phi], gradient[n_phi:]
    end = theta.size - (x.shape[1] if likelihood == LEARNED else 0)  # of the last bias of θ

    # Forward
    h_up, e = mlp(x, phi, up, activation)
    sigma, z, kl, log_ratio = draw(e, phi[n_phi - 2 * J :], eps)
    h_down, out = mlp(z, theta, down, activation)
    b, logvar = theta[end - m : end], theta[end:]
    logp = log_likelihood(x, out, b, likelihood, number, logvar, constant)
    objective, a, r, s = coefficients(logp - log_ratio, B, K, sampled, squared, scored)

    # Backward
    if for_theta and likelihood == LEARNED:
        pull_variance(out, logvar, a, dtheta[end:])
    weigh_rows(out, a, dtheta[end - m : end] if for_theta else np.empty_like(b))
    dz = np.empty_like(z if for_phi else z[:0])
    pull_mlp(z, theta, dtheta, down, activation, h_down, out, dz, for_theta)
    if for_phi:
        de = pull_draw(e, eps, sigma, z, dz, a, r, s, sampled)
        db = dphi[n_phi - 2 * J :]
        db[:] = 0
        for i in range(B):
            db += de[i]
        pull_mlp(x, phi, dphi, up, activation, h_up, de, x[:0], for_phi)
    reconstruction, divergence = mean(logp), mean(kl)
    return objective if sampled else reconstruction - divergence, reconstruction, divergence
