"""Gaussian distributions of z, one for each datapoint, for q and for exact posteriors.

    q(z|x) = N(z; μ, Σ),  Σ = C Cᵀ,  C lower triangular

All computations use the Cholesky factor C. No matrix is inverted, log|Σ| = 2 Σ_j log C_jj cannot
overflow, and a diagonal Gaussian has C = diag(σ).

Symbols: μ (B, J); C (B, J, J), or (J, J) if all datapoints share it; z (L, B, J).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..support.checks import check_rows, check_vae

if TYPE_CHECKING:
    from ..core.vae import VAE

__all__ = ["Gaussian", "check_gaussian", "solve_lower"]

_LOG_2PI = math.log(2 * math.pi)


class Gaussian:
    """Multivariate Gaussians N(μ, C Cᵀ), one for each of B datapoints.

    log q(z) = −½ ‖C⁻¹(z − μ)‖² − Σ_j log C_jj − ½ J log 2π, in nats.

    Parameters
    ----------
    mean : (B, J) array_like
        μ.
    chol : (J, J) or (B, J, J) array_like
        C: lower-triangular Cholesky factors with a positive diagonal.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, or a factor is not lower triangular with a positive diagonal.

    Examples
    --------
    >>> q = Gaussian.diagonal([[0.0, 1.0]], [[0.0, 0.0]])
    >>> q.kl(Gaussian.standard(1, 2))
    array([0.5])
    """

    def __init__(self, mean: Any, chol: Any) -> None:
        self.mean = check_rows(mean, name="mean").astype(float)
        B, J = self.mean.shape
        chol = np.asarray(chol, dtype=float)
        if chol.shape not in ((J, J), (B, J, J)):
            raise ValueError(
                f"chol: expected shape ({J}, {J}) or ({B}, {J}, {J}) for a mean of shape "
                f"({B}, {J}), got {chol.shape}"
            )
        scale = np.diagonal(chol, axis1=-2, axis2=-1)
        valid = np.isfinite(chol).all() and (scale > 0).all() and not np.triu(chol, 1).any()
        if not valid:
            raise ValueError(
                "chol: expected finite lower-triangular factors with a positive diagonal, got "
                "at least one that is not; use Gaussian.from_covariance for covariances, and "
                "Gaussian.diagonal for log-variances (between about -1400 and 1400)"
            )
        self.chol = chol

    @classmethod
    def diagonal(cls, mu: Any, logvar: Any) -> Gaussian:
        """Return N(μ, diag σ²) from μ and log σ², both (B, J), as an encoder gives them."""
        mu = check_rows(mu, name="mu")
        logvar = check_rows(logvar, mu.shape[1], name="logvar").astype(float)
        if logvar.shape != mu.shape:
            raise ValueError(f"logvar: expected shape {mu.shape} as mu has, got {logvar.shape}")
        with np.errstate(over="ignore"):  # an infinite σ is refused by the constructor
            sigma = np.exp(0.5 * logvar)
        return cls(mu, sigma[:, :, None] * np.eye(mu.shape[1]))

    @classmethod
    def from_covariance(cls, mean: Any, cov: Any) -> Gaussian:
        """Return N(μ, Σ) from μ (B, J) and Σ, (J, J) or (B, J, J)."""
        try:
            chol = np.linalg.cholesky(np.asarray(cov, dtype=float))
        except np.linalg.LinAlgError:
            raise ValueError(
                "cov: expected symmetric positive-definite matrices, (J, J) or (B, J, J), "
                f"got shape {np.shape(cov)} with at least one that is not"
            ) from None
        return cls(mean, chol)

    @classmethod
    def from_encoder(cls, vae: VAE, x: Any) -> Gaussian:
        """Return q_φ(z|x) of a `VAE`, evaluated in float64."""
        check_vae(vae)
        return cls.diagonal(*vae.with_flat(vae.parameters.flat.astype(float)).encode(x))

    @classmethod
    def standard(cls, rows: int, dim: int) -> Gaussian:
        """Return the prior p(z) = N(0, I) for `rows` datapoints."""
        return cls(np.zeros((rows, dim)), np.eye(dim))

    @property
    def cov(self) -> np.ndarray:
        """Σ = C Cᵀ, of the shape of `chol`."""
        return self.chol @ np.swapaxes(self.chol, -1, -2)

    def rows(self, which: np.ndarray) -> Gaussian:
        """Return the Gaussians of some datapoints."""
        selected = object.__new__(Gaussian)  # without the checks, which the whole has passed
        selected.mean = self.mean[which]
        selected.chol = self.chol if self.chol.ndim == 2 else self.chol[which]
        return selected

    def __repr__(self) -> str:
        B, J = self.mean.shape
        return f"Gaussian({B} datapoints, {J} latent{'s' * (J != 1)})"

    def transform(self, eps: np.ndarray) -> np.ndarray:
        """Return draws z = μ + C ε (Kingma & Welling 2013, §2.4).

        Parameters
        ----------
        eps : (L, B, J) array
            Standard normal noise.

        Returns
        -------
        z : (L, B, J) array
        """
        return self.mean + np.einsum("...jk,...k->...j", self.chol, eps)

    def log_pdf(self, z: np.ndarray) -> np.ndarray:
        """Log density log N(z; μ, Σ) = −½ ‖C⁻¹(z − μ)‖² − Σ_j log C_jj − ½ J log 2π.

        Parameters
        ----------
        z : (L, B, J) array

        Returns
        -------
        logp : (L, B) array
            Nats.
        """
        white = solve_lower(self.chol, z - self.mean)
        return -0.5 * (white * white + _LOG_2PI).sum(axis=-1) - self._log_scale()

    def expected_log_pdf(self, other: Gaussian) -> np.ndarray:
        """Expected log density of another Gaussian, E_self[log other(z)], in closed form.

        = −½ (‖C_o⁻¹(μ − μ_o)‖² + ‖C_o⁻¹ C‖_F² + J log 2π) − Σ_j log C_o,jj

        Returns
        -------
        value : (B,) array
            Nats. `q.expected_log_pdf(q)` is the negative entropy of q.
        """
        white, spread = self._relative_to(other)
        J = self.mean.shape[1]
        return -0.5 * (white + (spread * spread).sum((-2, -1)) + J * _LOG_2PI) - other._log_scale()

    def kl(self, other: Gaussian) -> np.ndarray:
        """Kullback-Leibler divergence KL(self ‖ other), closed form.

        = ½ (‖C_o⁻¹(μ − μ_o)‖² + Σ_{j>k} T_jk² + Σ_j (T_jj² − 1 − log T_jj²)),  T = C_o⁻¹ C

        Every summand is at least 0, and T_jj² − 1 − log T_jj² is computed as expm1(a) − a with
        a = log T_jj². The KL is not a difference of large numbers, so that it keeps its digits
        near 0.

        Returns
        -------
        kl : (B,) array
            Nats.
        """
        white, spread = self._relative_to(other)
        log_square = 2 * (self._log_diagonal() - other._log_diagonal())  # a = log T_jj²
        below = np.tril(spread, -1)
        return 0.5 * (
            white
            + (below * below).sum((-2, -1))
            + (np.expm1(log_square) - log_square).sum(axis=-1)
        )

    def _log_diagonal(self) -> np.ndarray:
        """log C_jj, (J,) or (B, J)."""
        return np.log(np.diagonal(self.chol, axis1=-2, axis2=-1))

    def _log_scale(self) -> np.ndarray:
        """½ log|Σ|, a number or (B,)."""
        return self._log_diagonal().sum(axis=-1)

    def _relative_to(self, other: Gaussian) -> tuple[np.ndarray, np.ndarray]:
        """‖C_o⁻¹(μ − μ_o)‖², (B,), and T = C_o⁻¹ C, (…, J, J)."""
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"q: expected mean of shape {other.mean.shape}, one row for each datapoint, "
                f"got {self.mean.shape}"
            )
        white = solve_lower(other.chol, self.mean - other.mean)
        columns = np.swapaxes(self.chol, -1, -2)  # the columns of C as rows
        spread = solve_lower(other.chol[..., None, :, :], columns)
        return (white * white).sum(axis=-1), np.swapaxes(spread, -1, -2)


def check_gaussian(q: Any, latent_dim: int, rows: int | None = None) -> Gaussian:
    """Return `q` if it is a `Gaussian` over `latent_dim` latents, one for each of `rows`."""
    if not isinstance(q, Gaussian):
        raise TypeError(
            f"q: expected a numpyvae.exact.Gaussian, got {type(q).__name__}; "
            "make one with Gaussian.diagonal(mu, logvar)"
        )
    B, J = q.mean.shape
    if latent_dim != J or rows not in (None, B):
        expected = ("B" if rows is None else rows, latent_dim)
        raise ValueError(
            f"q: expected a mean of shape ({expected[0]}, {expected[1]}), got ({B}, {J})"
        )
    return q


def solve_lower(C: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Solve C u = y by forward substitution, C (…, J, J) and y (…, J) broadcast.

    The loop runs over the J unknowns, and each step computes one unknown for all datapoints at
    once. SciPy's triangular solver takes one matrix at a time.
    """
    shape = np.broadcast_shapes(C.shape[:-1], y.shape)
    u = np.empty(shape)
    for j in range(shape[-1]):
        known = np.einsum("...k,...k->...", C[..., j, :j], u[..., :j])
        u[..., j] = (y[..., j] - known) / C[..., j, j]
    return u
