"""The path from a Gaussian to the posterior, along which the chains are annealed.

    f_β(z) = p₀(z)^(1−β) p_θ(x, z)^β,   0 ≤ β ≤ 1

f₀ = p₀ is a normalized Gaussian, and f₁ = p_θ(x, z) is p_θ(z|x) but for its unknown integral,
p_θ(x) of Eq. (2). With the log ratio r(z) = log p_θ(x, z) − log p₀(z),

    log f_β = log p₀ + β r

so that a change of temperature needs no new evaluation of the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..core.vae import VAE
from .hmc import Point, point_at

__all__ = ["Path"]


class Path:
    """f_β for B datapoints, from p₀ = N(μ₀, σ₀²) to p_θ(x, z).

    Parameters
    ----------
    vae : VAE
    x : (B, D) array
    initial : {"prior", "encoder"}
        p₀ = p(z), or p₀ = q_φ(z|x).
    """

    def __init__(self, vae: VAE, x: np.ndarray, initial: str) -> None:
        self.vae, self.x = vae, x
        if initial == "encoder":
            self.mu, self.logvar = vae.encoder(x)[0]
        else:
            self.mu = self.logvar = np.zeros((x.shape[0], vae.latent_dim), vae.dtype)
        self.precision = np.exp(-self.logvar)
        self.log_scale = -0.5 * (self.logvar + math.log(2 * math.pi)).sum(axis=-1)

    def log_ratio(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return r(z), (C, B), and its gradient in z, (C, B, J): one pass through the decoder.

        r = log p(x|z) + ½ Σ_j ((z_j − μ_j)²/σ_j² + log σ_j² − z_j²), exactly log p(x|z) if p₀ is
        the prior.
        """
        log_px, pull = self.vae.log_likelihood(self.x, z)
        gradient = pull(np.ones_like(log_px))
        deviation = z - self.mu
        scaled = deviation * self.precision
        log_px += 0.5 * (deviation * scaled + self.logvar - z * z).sum(axis=-1)
        gradient += scaled
        gradient -= z
        return log_px, gradient

    def density(self, beta: float) -> Callable:
        """Return log f_β as `hmc` reads it; it keeps r and its gradient."""
        return lambda z: self._tempered(beta, z, *self.log_ratio(z))

    def at(self, beta: float, point: Point) -> Point:
        """Return the same point as f_β sees it, from the r and the gradient it has kept."""
        log_p, gradient, *kept = self._tempered(beta, point.z, *point.kept)
        return Point(point.z, log_p, gradient, tuple(kept))

    def start(self, beta: float, z: np.ndarray) -> Point:
        """Return the first point of a chain.

        Raises
        ------
        FloatingPointError
            If r is not finite there.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            point = point_at(self.density(beta), z)
        if not (np.isfinite(point.log_p).all() and np.isfinite(point.gradient).all()):
            raise FloatingPointError(
                "expected a finite log p(x, z) where the chains start, got NaN or infinity; "
                "check the model's parameters"
            )
        return point

    def draw(self, eps: np.ndarray) -> np.ndarray:
        """Return z ~ p₀ from standard normal noise (C, B, J)."""
        return self.mu + np.exp(0.5 * self.logvar) * eps

    def _tempered(self, beta, z, log_ratio, ratio_gradient):
        """Return log f_β = log p₀ + β r, its gradient, and what they were made of."""
        beta = float(beta)  # a NumPy scalar would turn float32 into float64
        deviation = z - self.mu
        scaled = deviation * self.precision
        log_start = self.log_scale - 0.5 * (deviation * scaled).sum(axis=-1)
        return (
            log_start + beta * log_ratio,
            beta * ratio_gradient - scaled,
            log_ratio,
            ratio_gradient,
        )
