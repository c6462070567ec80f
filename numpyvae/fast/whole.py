"""One training step without the optimizer, forward and backward, in one compiled function.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → objective

The gradient comes back through the same lines in reverse order. All arrays are contiguous;
`step.Compiled` checks their shapes before.
"""

from __future__ import annotations

import numpy as np

from .compiling import compile_with
from .decoding import decode, pull_decode
from .networks import add_bias, add_rows, mlp, pull_mlp
from .posterior import divergence, draw, log_weights, pull_draw, spread, weights

__all__ = ["step"]


@compile_with()
def coefficients(log_w, B, K, sampled, squared, scored):
    """Return L_K, and a, r and s of each draw (`estimators.sampled`), for a mean over L and B.

    Eq. (11): a = 1, r = 1, s = 0.  L_K: a = w̃, r = w̃ (DReG) or 1, s = −w̃ (IWAE) or 0.
    """
    a, r, s = np.empty_like(log_w), np.empty_like(log_w), np.empty_like(log_w)
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

    `up` and `down` are the widths of encoder and decoder; `kinds` the numbers of activation
    and likelihood; `flags`: sampled, squared, scored (see `coefficients`), for φ, for θ.
    """
    J = eps.shape[1]
    sampled, squared, scored, for_phi, for_theta = flags
    phi, theta = flat[:n_phi], flat[n_phi:]
    dphi, dtheta = gradient[:n_phi], gradient[n_phi:]

    # Forward
    h_up, e = mlp(x, phi, up, kinds[0])
    add_bias(e, phi[n_phi - 2 * J :])
    sigma, excess = spread(e)
    kl = divergence(e, excess)
    z, log_ratio = draw(e, sigma, eps)
    derivative = for_phi or for_theta
    logp, h_down, out = decode(x, z, theta, down, kinds, number, constant, derivative)
    objective, a, r, s = coefficients(
        log_weights(logp, log_ratio), len(x), K, sampled, squared, scored
    )

    # Backward
    dz = pull_decode(x, z, theta, dtheta, down, kinds, h_down, out, a, for_theta, for_phi)
    if for_phi:
        de = pull_draw(e, eps, sigma, excess, z, dz, a, r, s, sampled)
        add_rows(de, dphi[n_phi - 2 * J :])
        pull_mlp(x, phi, dphi, up, kinds[0], h_up, de, x[:0], for_phi)
    reconstruction, average_kl = mean(logp), mean(kl)
    return objective if sampled else reconstruction - average_kl, reconstruction, average_kl
