"""q_φ(z|x): the draw z = μ + σ ε, its KL and log ratio, the weights of draws, and the pullback."""

from __future__ import annotations

import numpy as np

from .compiling import compile_with
from .scalars import exp_minus_one, exponential

__all__ = ["divergence", "draw", "log_weights", "pull_draw", "spread", "weights"]


@compile_with("contract")
def spread(e):
    """σ = exp(½ log σ²) and σ² − 1 (B, J), from e = (μ, log σ²) (B, 2·J)."""
    (B, width), half, one = e.shape, e.dtype.type(0.5), e.dtype.type(1)
    J = width // 2
    sigma, excess = np.empty((B, J), e.dtype), np.empty((B, J), e.dtype)
    for i in range(B):
        for j in range(J):
            logvar = e[i, J + j]
            s = exponential(half * logvar)
            sigma[i, j] = s
            excess[i, j] = s * s - one if logvar > one else exp_minus_one(logvar)
    return sigma, excess


@compile_with()
def divergence(e, excess):
    """KL = ½ Σ_j (μ² + (σ² − 1) − log σ²), Eq. (11), (B,)."""
    B, J = excess.shape
    kl = np.empty(B, e.dtype)
    for i in range(B):
        total = 0.0
        for j in range(J):
            mu, logvar = e[i, j], e[i, J + j]
            total += mu * mu + (excess[i, j] - logvar)
        kl[i] = 0.5 * total
    return kl


@compile_with()
def draw(e, sigma, eps):
    """z = μ + σ ε (R, J), and log q(z|x) − log p(z) = ½ Σ_j (z² − ε² − log σ²), Eq. (7), (R,)."""
    (R, J), B = eps.shape, e.shape[0]
    z, log_ratio = np.empty((R, J), e.dtype), np.empty(R, e.dtype)
    for r in range(R):
        i, total = r % B, 0.0
        for j in range(J):
            z[r, j] = e[i, j] + sigma[i, j] * eps[r, j]
            total += z[r, j] * z[r, j] - eps[r, j] * eps[r, j] - e[i, J + j]
        log_ratio[r] = 0.5 * total
    return z, log_ratio


@compile_with()
def log_weights(log_px, log_ratio):
    """log w = log p(x|z) + log p(z) − log q(z|x), Eq. (7)."""
    log_w = np.empty_like(log_px)
    for r in range(log_w.size):
        log_w[r] = log_px[r] - log_ratio[r]
    return log_w


@compile_with()
def weights(log_w, B, K, share):
    """w̃_k = w_k/Σ_k w_k; return the mean of log (1/K) Σ_k w_k over L and B.

    log (1/K) Σ_k w_k = m + log (1/K) Σ_k e^(log w_k − m), m the largest log w_k.
    """
    L, objective = log_w.size // (K * B), 0.0
    for l in range(L):
        for b in range(B):
            first = l * K * B + b
            top = log_w[first]
            for k in range(1, K):
                top = np.maximum(top, log_w[first + k * B])
            total = 0.0
            for k in range(K):
                share[first + k * B] = np.exp(log_w[first + k * B] - top)
                total += share[first + k * B]
            for k in range(K):
                share[first + k * B] /= total
            objective += top + np.log(total / K)
    return objective / (L * B)


@compile_with()
def pull_draw(e, eps, sigma, excess, z, dz, a, r, s, sampled):
    """Take dz back: return de = (dμ, d log σ²) (B, 2·J), each a sum over the draws of its row.

    g = r (dz − a z);  c = r a + s
    dμ = Σ g + c ε/σ;  d log σ² = ½ Σ g σ ε + c ε² − s            (Eq. (7) and L_K)
    dμ = Σ dz − μ/B;   d log σ² = ½ Σ dz σ ε − ½ (σ² − 1)/B       (Eq. (11))
    """
    (B, J), half = sigma.shape, e.dtype.type(0.5)
    de = np.empty_like(e)
    for i in range(B):
        for j in range(J):
            de[i, j] = 0 if sampled else -e[i, j] / B
            de[i, J + j] = 0 if sampled else -half * excess[i, j] / B
    for n in range(z.shape[0]):
        i = n % B
        c = r[n] * a[n] + s[n]
        for j in range(J):
            g = r[n] * (dz[n, j] - a[n] * z[n, j]) if sampled else dz[n, j]
            de[i, j] += g
            de[i, J + j] += half * g * sigma[i, j] * eps[n, j]
            if sampled:
                de[i, j] += c * eps[n, j] / sigma[i, j]
                de[i, J + j] += half * (c * eps[n, j] * eps[n, j] - s[n])
    return de
