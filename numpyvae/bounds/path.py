"""The path from a Gaussian to the posterior, along which the chains are annealed.

    f_β(z) = p₀(z)^(1−β) p_θ(x, z)^β,   0 ≤ β ≤ 1

f₀ = p₀ is a normalized Gaussian, and f₁ = p_θ(x, z) is proportional to p_θ(z|x); its unknown
integral is p_θ(x) of Eq. (2). With the log ratio r(z) = log p_θ(x, z) − log p₀(z),

    log f_β = log p₀ + β r

so that the decoder is not evaluated again when the temperature changes.
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

        r = log p(x|z) + ½ Σ_j ((z_j − μ_j)²/σ_j² + log σ_j² − z_j²), which is log p(x|z) if p₀ is
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
        """Return log f_β as a density of `hmc`, with r and its gradient as the further arrays."""
        return lambda z: self._tempered(beta, z, *self.log_ratio(z))

    def at(self, beta: float, point: Point) -> Point:
        """Return the same z with log f_β and its gradient, from the stored r and its gradient."""
        log_p, gradient, *kept = self._tempered(beta, point.z, *point.kept)
        return Point(point.z, log_p, gradient, tuple(kept))

    def start(self, beta: float, z: np.ndarray) -> Point:
        """Return the initial point of the chains.

        Raises
        ------
        FloatingPointError
            If log f_β or its gradient is not finite there.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            point = point_at(self.density(beta), z)
        if not (np.isfinite(point.log_p).all() and np.isfinite(point.gradient).all()):
            raise FloatingPointError(
                "expected a finite log p(x, z) at the start of the chains, got NaN or infinity; "
                "check the model's parameters"
            )
        return point

    def draw(self, eps: np.ndarray) -> np.ndarray:
        """Return z ~ p₀ from standard normal noise (C, B, J)."""
        return self.mu + np.exp(0.5 * self.logvar) * eps

    def _tempered(
        self, beta: float, z: np.ndarray, log_ratio: np.ndarray, ratio_gradient: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Return log f_β = log p₀ + β r and its gradient, then r and its gradient."""
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
