"""The linear-Gaussian model (probabilistic PCA and factor analysis), in closed form.

    p(z) = N(0, I_J),  p(x|z) = N(W z + m, Ψ),  Ψ = diag(σ²)
    p(x) = N(m, W Wᵀ + Ψ),  p(z|x) = N(M⁻¹ WᵀΨ⁻¹(x − m), M⁻¹),  M = I + WᵀΨ⁻¹W

With one σ² for all dimensions the model is probabilistic PCA; with one σ² for each dimension it is
factor analysis. Woodbury's identity replaces every D × D matrix by a J × J matrix, so that a model
with D = 1000 needs little time and memory.

Symbols: x (B, D), W (D, J), m (D,), σ² () or (D,); A = Ψ^−½ W; C Cᵀ = M⁻¹.
Tipping & Bishop 1999, "Probabilistic principal component analysis".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_count, check_rows, check_vae
from ..support.streams import Purpose, Seed, generator
from .gaussian import Gaussian, check_gaussian, solve_lower
from .model import ExactModel

__all__ = ["ElboGradient", "LinearGaussian", "ppca_maximum_likelihood"]

_LOG_2PI = math.log(2 * math.pi)


class ElboGradient(NamedTuple):
    """Gradient of the ELBO of Eq. (11), averaged over the batch, with respect to each argument.

    Attributes
    ----------
    W : (D, J) array
    mean : (D,) array
    log_sigma2 : () or (D,) array
    mu, logvar : (B, J) array
        With respect to the parameters of a diagonal q.

    Examples
    --------
    >>> model = LinearGaussian([[1.0], [0.0]], [0.0, 0.0], 1.0)
    >>> gradient = model.elbo_gradient([[0.0, 0.0]], [[0.0]], [[0.0]])
    >>> gradient.W.shape, gradient.logvar          # ½ − ½ σ² (1 + 1): q is too wide
    ((2, 1), array([[-0.5]]))
    """

    W: np.ndarray
    mean: np.ndarray
    log_sigma2: np.ndarray
    mu: np.ndarray
    logvar: np.ndarray


class LinearGaussian(ExactModel):
    """Probabilistic PCA or factor analysis.

    p(x) = N(m, W Wᵀ + Ψ): Eq. (2) in closed form (Tipping & Bishop 1999).

    Parameters
    ----------
    W : (D, J) array_like
        Loadings.
    mean : (D,) array_like
    sigma2 : float or (D,) array_like
        Variance of the noise: one for all dimensions (probabilistic PCA) or one for each
        dimension (factor analysis).

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, a number is not finite, or a variance is not above 0.

    Examples
    --------
    >>> model = LinearGaussian([[1.0], [0.0]], [0.0, 0.0], 1.0)
    >>> model.log_evidence([[0.0, 0.0]])        # −log 2π − ½ log 2
    array([-2.18445066])
    """

    def __init__(self, W: Any, mean: Any, sigma2: Any) -> None:
        self.W = check_rows(W, name="W").astype(float)
        D, J = self.W.shape
        self.mean = check_rows(np.atleast_2d(mean), D, name="mean")[0].astype(float)
        self.sigma2 = np.array(sigma2, dtype=float)
        if np.shape(mean) != (D,):
            raise ValueError(f"mean: expected shape ({D},), got {np.shape(mean)}")
        if self.sigma2.shape not in ((), (D,)):
            raise ValueError(f"sigma2: expected a number or shape ({D},), got {self.sigma2.shape}")
        if not (np.isfinite(self.sigma2) & (self.sigma2 > 0)).all():
            raise ValueError(
                f"sigma2: expected finite variances above 0, got {self.sigma2.min():g} among them"
            )
        self._psi = np.broadcast_to(self.sigma2, (D,))
        self._A = self.W / np.sqrt(self._psi)[:, None]
        # M = I + AᵀA = RᵀR, with R from the QR decomposition of A on top of I. Forming AᵀA instead
        # would square the condition number of A. The columns of A are reversed, so that R⁻¹ with
        # its rows and columns reversed back is lower triangular: this is C.
        R = np.linalg.qr(np.vstack([self._A[:, ::-1], np.eye(J)]), mode="r")
        C = np.linalg.inv(R)[::-1, ::-1]
        self._chol = np.tril(C * np.sign(np.diagonal(C)))

    @classmethod
    def from_vae(cls, vae: VAE) -> LinearGaussian:
        """Return the exact model of a linear VAE's decoder.

        Parameters
        ----------
        vae : VAE
            Made with `hidden=()` and the likelihood `gaussian:SIGMA` or `gaussian:learned`.

        Raises
        ------
        TypeError
            If `vae` is not a VAE.
        ValueError
            If its decoder has hidden layers, or it has another likelihood.
        """
        check_vae(vae)
        sigma2 = vae.likelihood.noise_variance(vae.parameters)
        if vae.architecture.hidden or sigma2 is None:
            raise ValueError(
                "vae: expected hidden=() and a gaussian:SIGMA or gaussian:learned likelihood, got "
                f"{vae!r}; numpyvae.exact.Quadrature takes any decoder with at most two latents"
            )
        ((W, b),) = vae.parameters.decoder
        return cls(W.T, b, sigma2)

    @property
    def data_dim(self) -> int:
        """The number D of dimensions of x."""
        return self.W.shape[0]

    @property
    def latent_dim(self) -> int:
        """The number J of latent variables."""
        return self.W.shape[1]

    def __repr__(self) -> str:
        kind = "factor analysis" if self.sigma2.ndim else "probabilistic PCA"
        latents = "1 latent" if self.latent_dim == 1 else f"{self.latent_dim} latents"
        return f"LinearGaussian({self.data_dim} dimensions, {latents}, {kind})"

    # Densities

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """Log prior log N(z; 0, I), (L, B)."""
        return -0.5 * (np.square(z) + _LOG_2PI).sum(axis=-1)

    def log_likelihood(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log-likelihood log N(x; W z + m, Ψ), (L, B).

        Parameters
        ----------
        x : (B, D) array_like
        z : (L, B, J) array
        """
        residual = self._rows(x) - self.mean - z @ self.W.T
        return -0.5 * (residual**2 / self._psi + np.log(self._psi) + _LOG_2PI).sum(axis=-1)

    def log_evidence(self, x: Any) -> np.ndarray:
        """Log-evidence log N(x; m, W Wᵀ + Ψ), (B,), Eq. (2).

        (x−m)ᵀ(W Wᵀ + Ψ)⁻¹(x−m) = ‖Ψ^−½(x − m − W μ)‖² + ‖μ‖²,  μ the posterior mean;
        |W Wᵀ + Ψ| = |Ψ| |M|.

        This is Woodbury's identity, with the quadratic form as a sum of squares. Its usual form is
        a difference, which loses its digits to cancellation when σ² is small.

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        log_px : (B,) array
            Nats.
        """
        x = self._rows(x)
        mu = self.posterior(x).mean
        quadratic = ((x - self.mean - mu @ self.W.T) ** 2 / self._psi).sum(axis=1)
        quadratic += (mu * mu).sum(axis=1)
        log_det = np.log(self._psi).sum() - 2 * np.log(np.diagonal(self._chol)).sum()
        return -0.5 * (quadratic + log_det + self.data_dim * _LOG_2PI)

    def posterior(self, x: Any) -> Gaussian:
        """Posterior N(M⁻¹ WᵀΨ⁻¹(x − m), M⁻¹), Eq. (3) and Eq. (4); the E-step of exact EM.

        As a function of z, likelihood times prior is exp(−½ zᵀM z + zᵀWᵀΨ⁻¹(x − m)) up to a
        constant factor, and this is a Gaussian with precision M = I + WᵀΨ⁻¹W.

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        posterior : Gaussian
            Its covariance is the same for every x.
        """
        x = self._rows(x)
        A, C = self._A, self._chol  # A = Ψ^−½ W and C Cᵀ = M⁻¹
        white = (x - self.mean) / np.sqrt(self._psi)  # Ψ^−½(x − m)
        mu = white @ A @ C @ C.T  # M⁻¹ WᵀΨ⁻¹(x − m), one row for each datapoint
        return Gaussian(mu, C)

    def log_posterior(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log posterior log p(z|x) = log N(z; μ, C Cᵀ), (L, B), Eq. (4).

        = −½ ‖C⁻¹(z − μ)‖² − Σ_j log C_jj − ½ J log 2π

        Parameters
        ----------
        x : (B, D) array_like
        z : (L, B, J) array
        """
        posterior = self.posterior(x)
        mu, C = posterior.mean, posterior.chol
        white = solve_lower(C, z - mu)  # C⁻¹(z − μ)
        log_det = np.log(np.diagonal(C)).sum()  # ½ log|C Cᵀ|
        return -0.5 * (white**2 + _LOG_2PI).sum(axis=-1) - log_det

    def best_diagonal(self, x: Any) -> Gaussian:
        """Diagonal q with the smallest KL to the posterior, Eq. (5).

        Its μ is the posterior mean and σ_j² = 1/M_jj. Where latent variables are correlated under
        the posterior, these variances are smaller than those of the posterior.
        """
        precision = 1 + (self._A**2).sum(axis=0)  # M_jj
        mu = self.posterior(x).mean
        return Gaussian.diagonal(mu, np.broadcast_to(-np.log(precision), mu.shape))

    # Expectations under a Gaussian q

    def expected_log_q(self, q: Gaussian) -> np.ndarray:
        """E_q[log q(z|x)] = −½ J log 2πe − ½ log|Σ|, the negative entropy, (B,); in Eq. (6)."""
        q = check_gaussian(q, self.latent_dim)
        return np.broadcast_to(q.expected_log_pdf(q), len(q.mean))

    def expected_log_prior(self, q: Gaussian) -> np.ndarray:
        """E_q[log p(z)] = −½ (‖μ‖² + tr Σ + J log 2π), (B,); in Eq. (19)."""
        trace = np.square(check_gaussian(q, self.latent_dim).chol).sum((-2, -1))
        return -0.5 * ((q.mean**2).sum(axis=1) + trace + self.latent_dim * _LOG_2PI)

    def expected_log_likelihood(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(x|z)] = log p(x|z = μ) − ½ tr(WᵀΨ⁻¹W Σ), (B,); in Eq. (11).

        The trace is ‖R C_q‖² with A = Q R.
        """
        spread = np.linalg.qr(self._A, mode="r") @ self._checked(x, q).chol
        return self.log_likelihood(x, q.mean[None])[0] - 0.5 * (spread**2).sum((-2, -1))

    def expected_log_joint(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(x, z)] = log p(x, z = μ) − ½ tr(M Σ), (B,); in Eq. (6) and Eq. (7).

        −M is the Hessian of log p(x, z) in z, and tr(M Σ) = ‖C⁻¹ C_q‖².
        """
        spread = np.linalg.solve(self._chol, self._checked(x, q).chol)
        return self.log_joint(x, q.mean[None])[0] - 0.5 * (spread**2).sum((-2, -1))

    def expected_log_posterior(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(z|x)], (B,); in Eq. (15)."""
        return self._checked(x, q).expected_log_pdf(self.posterior(x))

    def kl_to_prior(self, q: Gaussian) -> np.ndarray:
        """KL(q ‖ p(z)) between two Gaussians, (B,); in Eq. (11)."""
        q = check_gaussian(q, self.latent_dim)
        return q.kl(Gaussian.standard(*q.mean.shape))

    def kl_to_posterior(self, x: Any, q: Gaussian) -> np.ndarray:
        """KL(q ‖ p(z|x)) between two Gaussians, (B,), Eq. (5); the left-hand side of Eq. (8).

        = ½ (‖C⁻¹(μ_q − μ)‖² + Σ_{j>k} T_jk² + Σ_j (T_jj² − 1 − log T_jj²)),  T = C⁻¹ C_q

        for q = N(μ_q, C_q C_qᵀ) and the posterior N(μ, C Cᵀ). The evidence is not used. Every
        summand is at least 0, so that a KL near 0 keeps its digits.

        Parameters
        ----------
        x : (B, D) array_like
        q : Gaussian
            One row for each row of `x`.
        """
        q = self._checked(x, q)
        posterior = self.posterior(x)
        mu, C = posterior.mean, posterior.chol
        white = solve_lower(C, q.mean - mu)  # C⁻¹(μ_q − μ)
        T = np.linalg.solve(C, q.chol)
        log_C, log_C_q = (np.log(np.diagonal(c, axis1=-2, axis2=-1)) for c in (C, q.chol))
        log_square = 2 * (log_C_q - log_C)  # log T_jj²
        below = (np.tril(T, -1) ** 2).sum((-2, -1))
        diagonal = (np.expm1(log_square) - log_square).sum(axis=-1)  # Σ T_jj² − 1 − log T_jj²
        return 0.5 * ((white**2).sum(axis=-1) + below + diagonal)

    # Learning

    def elbo_gradient(self, x: Any, mu: Any, logvar: Any) -> ElboGradient:
        """Gradient of the ELBO of Eq. (11) for q = N(μ, diag σ_q²), averaged over the batch.

        With r = x − m − W μ and S = diag σ_q², per datapoint:
        ∂/∂W = Ψ⁻¹(r μᵀ − W S),  ∂/∂m = Ψ⁻¹ r,  ∂/∂log σ_d² = ½ ((r_d² + Σ_j W_dj² S_jj)/σ_d² − 1),
        ∂/∂μ = WᵀΨ⁻¹ r − μ,  ∂/∂log σ_q,j² = ½ (1 − S_jj M_jj).

        Parameters
        ----------
        x : (B, D) array_like
        mu, logvar : (B, J) array_like

        Returns
        -------
        gradient : ElboGradient
            Gradient of the batch mean; each part has the shape of its argument.
        """
        q = self._checked(x, Gaussian.diagonal(mu, logvar))
        variance = np.exp(np.asarray(logvar, dtype=float))
        B = len(variance)
        residual = self._rows(x) - self.mean - q.mean @ self.W.T
        scaled = residual / self._psi
        square = (residual**2).sum(axis=0) + self.W**2 @ variance.sum(axis=0)
        dlog_sigma2 = 0.5 * (square / self._psi / B - 1)
        return ElboGradient(
            W=(scaled.T @ q.mean - (self.W / self._psi[:, None]) * variance.sum(axis=0)) / B,
            mean=scaled.mean(axis=0),
            log_sigma2=dlog_sigma2 if self.sigma2.ndim else dlog_sigma2.sum(),
            mu=(scaled @ self.W - q.mean) / B,
            logvar=0.5 * (1 - variance * (1 + (self._A**2).sum(axis=0))) / B,
        )

    def m_step(self, x: Any, q: Gaussian) -> LinearGaussian:
        """Return the model that maximizes the mean ELBO of Eq. (7) over θ = (W, m, σ²), q fixed.

        [W m] = (Σ x E[z; 1]ᵀ)(Σ E[z; 1][z; 1]ᵀ)⁻¹,
        σ_d² = mean of r_d² + (W Σ Wᵀ)_dd over the data, and over d too if one σ² is shared.

        Every Gaussian q is accepted. With q = `posterior(x)` this is one step of exact EM; with
        another q it is the M-step of variational EM (§3.6).

        Parameters
        ----------
        x : (B, D) array_like
        q : Gaussian
            One row for each row of `x`.

        Returns
        -------
        model : LinearGaussian

        Raises
        ------
        ValueError
            If the noise variance would be 0: a column is constant, or B is too small.
        """
        x, mu = self._rows(x), self._checked(x, q).mean
        B, J = mu.shape
        cov = np.broadcast_to(q.cov, (B, J, J)).sum(axis=0)
        design = np.hstack([mu, np.ones((B, 1))])
        moment = design.T @ design  # Σ E[z; 1] E[z; 1]ᵀ, to which the covariance of z is added
        moment[:J, :J] += cov
        solution = np.linalg.solve(moment, design.T @ x).T
        W, mean = solution[:, :J], solution[:, J]
        residual = x - mean - mu @ W.T
        psi = ((residual**2).sum(axis=0) + ((W @ cov) * W).sum(axis=1)) / B
        size = (x**2).mean(axis=0)
        if not self.sigma2.ndim:
            psi, size = psi.mean(), size.mean()
        if (psi <= 1e-14 * size).any():
            columns = np.flatnonzero(np.atleast_1d(psi <= 1e-14 * size))
            raise ValueError(
                f"x: expected data that the latents do not explain exactly, got sigma2 = 0 for "
                f"{len(columns)} of {np.size(psi)} variances (first: {columns[0]}); drop constant "
                "columns, or use one sigma2 for all"
            )
        return LinearGaussian(W, mean, psi)

    def sample(self, n: int, seed: Seed = 0) -> np.ndarray:
        """Draw from the model: z ~ p(z), then x ~ p(x|z).

        Parameters
        ----------
        n : int
        seed : int, numpy.random.Generator or None
            A number gives the same draws in each call, a generator goes on, None draws anew.

        Returns
        -------
        x : (n, D) array
        """
        n, rng = check_count("n", n), generator(seed, Purpose.LINEAR_GAUSSIAN)
        z = rng.standard_normal((n, self.latent_dim))
        noise = np.sqrt(self._psi) * rng.standard_normal((n, self.data_dim))
        return z @ self.W.T + self.mean + noise

    def _rows(self, x: Any) -> np.ndarray:
        """Return x as a (B, D) array of float64."""
        return check_rows(x, self.data_dim).astype(float, copy=False)

    def _checked(self, x: Any, q: Gaussian) -> Gaussian:
        """Return q if it has one row of J latents for each row of x."""
        return check_gaussian(q, self.latent_dim, len(self._rows(x)))


def ppca_maximum_likelihood(x: Any, latent_dim: int) -> LinearGaussian:
    """Maximum-likelihood probabilistic PCA, in closed form (Tipping & Bishop 1999, §3.2).

    σ² = mean of the D − J smallest eigenvalues λ of the sample covariance,
    W = U (Λ − σ² I)^½ with the J largest eigenvalues Λ and their eigenvectors U, m = mean of x.

    λ = s²/N for the singular values s of the centered data, so that the D × D covariance matrix is
    not needed.

    Parameters
    ----------
    x : (N, D) array_like
    latent_dim : int
        J, below D.

    Returns
    -------
    model : LinearGaussian
        The columns of W are orthogonal; a rotation of them has the same likelihood.

    Raises
    ------
    ValueError
        If J is not below D, or the data vary in at most J directions, so that σ² would be 0 and
        the likelihood unbounded.

    Examples
    --------
    >>> x = LinearGaussian([[2.0], [0.0]], [0.0, 0.0], 0.5).sample(10_000, seed=0)
    >>> model = ppca_maximum_likelihood(x, 1)
    >>> abs(model.W).round(1).ravel(), round(float(model.sigma2), 1)
    (array([2., 0.]), 0.5)
    """
    x = check_rows(x).astype(float)
    N, D = x.shape
    J = check_count("latent_dim", latent_dim)
    if J >= D:
        raise ValueError(f"latent_dim: expected less than the {D} columns of x, got {J}")
    mean = x.mean(axis=0)
    _, s, directions = np.linalg.svd(x - mean, full_matrices=False)
    largest = max(s[0], math.sqrt(N) * np.abs(x).max())  # sets the rounding error of s
    rank = int((s > largest * max(N, D) * np.finfo(float).eps).sum())
    if rank <= J:
        constant = int((x == x[0]).all(axis=0).sum())
        raise ValueError(
            f"x: expected variation in more than latent_dim = {J} directions, got {rank} "
            f"({N} rows, {constant} of {D} columns constant): sigma2 would be 0; "
            "take a smaller latent_dim or more data"
        )
    eigenvalues = s * s / N
    sigma2 = eigenvalues[J:].sum() / (D - J)
    scales = np.sqrt(np.maximum(eigenvalues[:J] - sigma2, 0))  # rounding can give −1e-17
    return LinearGaussian(directions[:J].T * scales, mean, sigma2)
