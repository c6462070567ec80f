"""One training step without the optimizer, forward and back, in one compiled function.

    x → encoder → (μ, log σ²) → z = μ + σ ε → decoder → log p(x|z) → objective

and back through the same lines. All arrays are contiguous, and their sizes are checked by
`step.Compiled` before.
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
def log_likelihood(x, out, b, kind, number, theta, constant, logp):
    """log p(x|z) + constant_b (R,); `out` becomes ∂log p/∂out. `number` is n, or log σ²."""
    if kind == BINOMIAL:
        binomial(x, out, b, x.dtype.type(number), logp)
    elif kind == HEAD:
        gaussian_head(x, out, b, logp)
    elif kind == FIXED:
        gaussian(x, out, b, np.full(x.shape[1], number, x.dtype), logp)
    else:
        gaussian(x, out, b, theta[theta.size - x.shape[1] :], logp)
    for r in range(logp.size):
        logp[r] += constant[r % x.shape[0]]


@compile_with()
def coefficients(log_w, B, K, sampled, squared, scored, a, r, s):
    """a, r and s of each draw (`estimators.sampled`), with the mean over L and B; return L_K.

    Eq. (11): a = 1, r = 1, s = 0.  L_K: a = w̃, r = w̃ (DReG) or 1, s = −w̃ (IWAE) or 0.
    """
    objective = 0.0
    rows = log_w.size // K  # L·B
    if sampled:
        objective = weights(log_w, B, K, a)
    else:
        a[:] = 1
    for i in range(a.size):
        r[i] = a[i] if squared else 1
        a[i] /= rows
        s[i] = -a[i] if scored else 0
    return objective


@compile_with()
def take(scratch, at, rows, columns):
    """Return the next rows × columns numbers of the scratch array as an array, and its end."""
    end = at + rows * columns
    return scratch[at:end].reshape(rows, columns), end


@compile_with()
def step(flat, gradient, x, eps, up, down, n_phi, scratch, kinds, number, constant, K, flags):
    """Write ∂objective/∂(φ, θ) into `gradient`; return the objective, E_q[log p(x|z)] and the KL.

    `up` and `down` are the widths of encoder and decoder; `kinds` those of the activation and
    the likelihood; `flags`: sampled, squared, scored (see `coefficients`), for φ, for θ.
    """
    (B, D), (R, J) = x.shape, eps.shape
    activation, likelihood = kinds
    sampled, squared, scored, for_phi, for_theta = flags
    phi, theta = flat[:n_phi], flat[n_phi:]
    dphi, dtheta = gradient[:n_phi], gradient[n_phi:]
    m = down[-1]
    top = theta.size - (D if likelihood == LEARNED else 0)  # where the last b of θ ends
    hidden_up, hidden_down = B * up[1:-1].sum(), R * down[1:-1].sum()

    # Parts of the scratch array
    rows, at = take(scratch, 0, 6, R)
    logp, log_w, a, r, s, log_ratio = rows
    kl, at = take(scratch, at, 1, B)
    sigma, at = take(scratch, at, B, J)
    z, at = take(scratch, at, R, J)
    dz, at = take(scratch, at, R, J)
    de, at = take(scratch, at, B, 2 * J)
    h_up, at = scratch[at : at + hidden_up + B * 2 * J], at + hidden_up + B * 2 * J
    h_down, at = scratch[at : at + hidden_down + R * m], at + hidden_down + R * m
    d = scratch[at:]
    e, out = h_up[hidden_up:].reshape(B, 2 * J), h_down[hidden_down:].reshape(R, m)

    # Forward
    mlp(x, phi, up, activation, h_up)
    draw(e, phi[n_phi - 2 * J :], eps, sigma, z, kl[0], log_ratio)
    mlp(z, theta, down, activation, h_down)
    log_likelihood(x, out, theta[top - m : top], likelihood, number, theta, constant, logp)
    log_w[:] = logp - log_ratio
    objective = coefficients(log_w, B, K, sampled, squared, scored, a, r, s)

    # Backward
    if for_theta and likelihood == LEARNED:
        pull_variance(out, theta[top:], a, dtheta[top:])
    weigh_rows(out, a, dtheta[top - m : top] if for_theta else d[:m])
    pull_mlp(z, theta, dtheta, down, activation, h_down, d, out, dz, for_theta, for_phi)
    if for_phi:
        pull_draw(e, eps, sigma, z, dz, a, r, s, sampled, de)
        b = dphi[n_phi - 2 * J :]
        b[:] = 0
        for i in range(B):
            b += de[i]
        pull_mlp(x, phi, dphi, up, activation, h_up, d, de, dz, True, False)
    reconstruction, divergence = logp.sum() / R, kl.sum() / B
    return objective if sampled else reconstruction - divergence, reconstruction, divergence


def scratch_size(B, R, J, up, down):
    """Number of elements that `step` needs in its scratch array."""
    hidden = B * sum(up[1:-1]), R * sum(down[1:-1])
    rest = 6 * R + B + 3 * B * J + 2 * R * J + 2 * B * J + R * down[-1]
    return rest + sum(hidden) + max(*hidden, down[-1])
