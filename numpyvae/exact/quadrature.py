"""Any decoder with one or two latents: the evidence by quadrature, from a trained `VAE` as it is.

    p(x) = ∫ p(x|z) p(z) dz                                     Eq. (2)

In one or two dimensions the integral can be done to ten digits: `region` finds where the integrand
lives, `cubature` integrates it there and raises if it does not converge. Expectations under a
Gaussian q are integrals over z = μ + 9 C u by the same rules. In more dimensions the number of
nodes grows as a power of J, which is why Eq. (2) is called intractable.

Symbols: x (B, D); z (L, B, J); integrands meet rows of x with nodes z (C, n, J).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from ..core.distributions import gaussian_logpdf
from ..core.elbo import standard_normal
from ..core.likelihoods import Binomial, FixedGaussian, GaussianHead, LearnedGaussian
from ..core.vae import VAE
from ..support.checks import check_count, check_positive, check_rows, check_vae
from .adaptive import adaptive_rule
from .cubature import Integral, QuadratureError, lattice_rule, lattice_sum
from .gaussian import Gaussian, check_gaussian
from .model import ExactModel
from .region import Frame, locate
from .scan import spacing

__all__ = ["Quadrature", "QuadraturePosterior"]

_ROWS = 100  # datapoints that share a scan
_POINTS, _Q_POINTS = 33, 25  # per axis to begin with: 0.6 and 0.75 standard deviations apart
_ADAPTED = 10  # rows that are integrated adaptively at a time, to bound the memory
_SHIFT = 0.382  # of a lattice spacing: no node of the shifted lattice is one of the others
_Q_RADIUS = 9.0  # q is integrated over ±9 standard deviations: 1e-18 of its mass is beyond
_Q_CELLS = 8


class QuadraturePosterior(NamedTuple):
    """The exact posterior's normalizing constant, Eq. (2), and moments, Eq. (4).

    Attributes
    ----------
    log_evidence : (B,) array
        Nats.
    mean : (B, J) array
    cov : (B, J, J) array

    Examples
    --------
    >>> model = Quadrature(VAE(data_dim=1, latent_dim=1, hidden=(3,)))
    >>> model.posterior([[0], [1]]).gaussian()
    Gaussian(2 datapoints, 1 latents)
    """

    log_evidence: np.ndarray  # (B,)
    mean: np.ndarray  # (B, J)
    cov: np.ndarray  # (B, J, J)

    def gaussian(self) -> Gaussian:
        """Return the Gaussian with these moments: the q that minimizes KL(posterior ‖ q)."""
        return Gaussian.from_covariance(self.mean, self.cov)


class Quadrature(ExactModel):
    """The generative half of a VAE with J ≤ 2, its evidence and posterior by quadrature.

    Parameters
    ----------
    vae : VAE
        With any likelihood of this package. Its decoder is copied, in float64.
    tolerance : float
        Accepted relative change of an integral when its nodes are doubled. The smooth
        activations are then right to rounding; behind relu's kinks it is the error itself.
    order : int
        Gauss-Lobatto nodes per axis of a cell, where the adaptive rule is needed.
    max_nodes : int
        Per datapoint and integral.

    Raises
    ------
    ValueError
        If the VAE has more than two latents.
    TypeError
        If it is no VAE, or its likelihood is a class of your own.

    Examples
    --------
    >>> import numpy as np
    >>> vae = VAE(data_dim=1, latent_dim=1, hidden=(3,), dtype="float64")
    >>> model = Quadrature(vae)
    >>> np.exp(model.log_evidence([[0], [1]])).sum().round(12)
    np.float64(1.0)
    """

    def __init__(
        self,
        vae: VAE,
        *,
        tolerance: float = 1e-10,
        order: int = 8,
        max_nodes: int = 1 << 22,
    ) -> None:
        check_vae(vae)
        if vae.latent_dim > 2:
            raise ValueError(
                f"vae: expected at most 2 latents, got {vae.latent_dim}; the nodes of a "
                "quadrature grow as a power of that: use numpyvae.importance_log_likelihood"
            )
        if not isinstance(
            vae.likelihood, (Binomial, FixedGaussian, LearnedGaussian, GaussianHead)
        ):
            raise TypeError(
                "vae: expected a Bernoulli, Binomial or Gaussian likelihood, got "
                f"{type(vae.likelihood).__name__}"
            )
        self.vae = vae.with_flat(vae.parameters.flat.astype(float))
        self.tolerance = check_positive("tolerance", tolerance)
        self.order = check_count("order", order, minimum=2)
        self.max_nodes = check_count("max_nodes", max_nodes)
        self._latest: tuple | None = None

    @property
    def data_dim(self) -> int:
        """D."""
        return self.vae.data_dim

    @property
    def latent_dim(self) -> int:
        """J."""
        return self.vae.latent_dim

    @property
    def _has_kinks(self) -> bool:
        return self.vae.architecture.activation == "relu" and bool(self.vae.architecture.hidden)

    @cached_property
    def _delta(self) -> float:
        return spacing(self.vae)

    def __repr__(self) -> str:
        return f"Quadrature({self.vae!r}, tolerance={self.tolerance:g})"

    # Densities

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """Log prior log N(z; 0, I), (L, B)."""
        return gaussian_logpdf(z, *standard_normal(z))[0]

    def log_likelihood(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log-likelihood log p(x|z), (L, B), by the VAE's own decoder and likelihood."""
        return self.vae.log_likelihood(self._rows(x), z)[0]

    def log_evidence(self, x: Any) -> np.ndarray:
        """Log-evidence log ∫ p(x|z) p(z) dz by quadrature, (B,), Eq. (2).

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        log_px : (B,) array
            Nats.

        Raises
        ------
        QuadratureError
            If the integral of some datapoint does not converge.
        """
        return self.posterior(x).log_evidence

    def posterior(self, x: Any) -> QuadraturePosterior:
        """Normalizing constant, mean and covariance of p(z|x), Eq. (2) to Eq. (4).

        The result for the last `x` is kept, since the checks of the notes ask for it many times.

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        posterior : QuadraturePosterior

        Raises
        ------
        QuadratureError
            If the integral of some datapoint does not converge.
        """
        return self._solution(self._rows(x))[2]

    def posterior_mass(self, x: Any) -> np.ndarray:
        """Total mass ∫ p(z|x) dz of the density in Eq. (4), (B,): 1 if log p(x) is right.

        By other nodes than those that gave log p(x): a shifted lattice, or where the adaptive rule
        was needed, that rule at another order.
        """
        x = self._rows(x)
        frame, points, posterior = self._solution(x)
        f = self._posterior_integrand(x, frame)

        def mass(integral, rows):
            log_mass = integral.log_scale + np.log(integral.value[:, 0]) + frame.log_volume()[rows]
            return np.exp(log_mass - posterior.log_evidence[rows])

        result = np.empty(len(x))
        for p in np.unique(points):
            rows = np.flatnonzero(points == p)
            if p:
                integral, _ = lattice_sum(f, rows, p, self.latent_dim, _SHIFT)
            else:
                integral = self._adapt(f, rows, self._cells(frame)[rows], self.order + 3)
            result[rows] = mass(integral, rows)
        return result

    def log_posterior(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log posterior log p(x, z) − log p(x), (L, B), Eq. (4).

        With one row of x and a grid z (L, 1, J) it is the density to draw.
        """
        return self.log_joint(x, z) - self.log_evidence(x)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw from the model, (n, D): `VAE.sample` in float64."""
        return self.vae.sample(n, seed)

    # Expectations under a Gaussian q, every one of them by quadrature but the KL to the prior.

    def expected_log_q(self, q: Gaussian) -> np.ndarray:
        """E_q[log q(z|x)] by quadrature, (B,); in Eq. (6)."""
        self._latents(q)
        return self._expect(q, lambda rows, z: self._log_q(q, rows, z))

    def expected_log_prior(self, q: Gaussian) -> np.ndarray:
        """E_q[log p(z)] by quadrature, (B,); in Eq. (19)."""
        return self._expect(q, lambda rows, z: self.log_prior(z))

    def expected_log_likelihood(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(x|z)] by quadrature, (B,); in Eq. (11)."""
        x = self._matched(x, q)
        return self._expect(q, lambda rows, z: self._log_likelihood(x, rows, z))

    def expected_log_joint(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(x, z)] by quadrature, (B,); in Eq. (6) and Eq. (7)."""
        x = self._matched(x, q)
        return self._expect(q, lambda rows, z: self._log_joint(x, rows, z))

    def expected_log_posterior(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(z|x)] by quadrature, (B,); in Eq. (15)."""
        x = self._matched(x, q)
        log_px = self.log_evidence(x)
        return self._expect(q, lambda rows, z: self._log_joint(x, rows, z) - log_px[rows, None])

    def kl_to_prior(self, q: Gaussian) -> np.ndarray:
        """KL(q ‖ p(z)) between Gaussians in closed form, (B,); in Eq. (11)."""
        return self._latents(q).kl(Gaussian.standard(*q.mean.shape))

    def kl_to_posterior(self, x: Any, q: Gaussian) -> np.ndarray:
        """KL(q ‖ p(z|x)) = ∫ q log(q / p(z|x)) dz, (B,), Eq. (5): Eq. (13), not Eq. (8).

        Computed as ∫ (q log(q/p) − q + p) dz, which is the same for densities that integrate to
        1 and counts a wrong log p(x) against p. Without the last two terms log p(x) would
        cancel from Eq. (8) and Eq. (9), and checking them would prove nothing about it.
        """
        x = self._matched(x, q)
        log_px = self.log_evidence(x)

        def log_ratio(rows, z):
            log_posterior = self._log_joint(x, rows, z) - log_px[rows, None]
            return self._log_q(q, rows, z) - log_posterior

        return self._expect(q, log_ratio) + (self.posterior_mass(x) - 1)

    # The integrals

    def _solution(self, x: np.ndarray) -> tuple[Frame, np.ndarray, QuadraturePosterior]:
        """Return frames, lattice points per axis (0: adaptive) and posterior; kept for one x."""
        if self._latest is None or not np.array_equal(self._latest[0], x):
            parts = []
            for start in range(0, len(x), _ROWS):
                some = x[start : start + _ROWS]
                try:
                    frame = locate(self.vae, some, partial(self._log_joint, some), self._delta)
                    parts.append((*frame, *self._integrate_posterior(some, frame)))
                except QuadratureError as error:
                    raise error.renumbered(np.arange(start, start + len(some))) from None
            center, axes, points, *moments = map(np.concatenate, zip(*parts))
            self._latest = x.copy(), Frame(center, axes), points, QuadraturePosterior(*moments)
        _, frame, points, posterior = self._latest
        return frame, points, QuadraturePosterior(*map(np.copy, posterior))

    def _posterior_integrand(self, x: np.ndarray, frame: Frame) -> Callable:
        """p(x, z) against 1, u and u uᵀ: moments in the frame's own coordinates do not cancel."""
        J = self.latent_dim

        def f(rows, u):
            second = (u[..., :, None] * u[..., None, :]).reshape(*u.shape[:2], J * J)
            g = np.concatenate([np.ones((*u.shape[:2], 1)), u, second], axis=2)
            return self._log_joint(x, rows, frame.map(rows, u)), g

        return f

    def _integrate_posterior(self, x: np.ndarray, frame: Frame) -> tuple[np.ndarray, ...]:
        """Integrate p(x, z) and its first two moments over the frames.

        Returns points per axis (0: adaptive), log-evidence, mean and covariance.
        """
        J = self.latent_dim
        f = self._posterior_integrand(x, frame)
        finest = 1 + 2 * frame.half_lengths().max(axis=1) / self._delta
        integral, points = self._converge(f, finest, self._cells(frame), _POINTS)
        mass = integral.value[:, 0]
        mean = integral.value[:, 1 : 1 + J] / mass[:, None]
        second = integral.value[:, 1 + J :].reshape(-1, J, J) / mass[:, None, None]
        cov = second - mean[:, :, None] * mean[:, None, :]
        return (
            points,
            integral.log_scale + np.log(mass) + frame.log_volume(),
            frame.center + np.einsum("bjk,bk->bj", frame.axes, mean),
            frame.axes @ cov @ np.swapaxes(frame.axes, 1, 2),
        )

    def _expect(self, q: Gaussian, g: Callable) -> np.ndarray:
        """E_q[g(z)], (B,), for g(rows, z) of shape (C, n): an integral over z = μ + 9 C u."""
        B, J = self._latents(q).mean.shape
        frame = Frame(q.mean, np.broadcast_to(_Q_RADIUS * q.chol, (B, J, J)))
        height = J * math.log(_Q_RADIUS / math.sqrt(2 * math.pi))  # of the density in u

        def f(rows, u):
            log_w = height - 0.5 * _Q_RADIUS**2 * (u * u).sum(axis=2)
            return log_w, g(rows, frame.map(rows, u))[..., None]

        integral, _ = self._converge(f, np.zeros(B), np.full((B, J), _Q_CELLS), _Q_POINTS)
        return integral.value[:, 0] * np.exp(integral.log_scale)

    def _cells(self, frame: Frame) -> np.ndarray:
        """Cells along each axis of a frame, (B, J), with halves whose nodes are δ apart."""
        across = 2 * frame.half_lengths() / self._delta
        return np.maximum(np.ceil(across / (2 * self.order)), 4).astype(int)

    def _converge(
        self, f: Callable, finest: np.ndarray, cells: np.ndarray, start: int
    ) -> tuple[Integral, np.ndarray]:
        """Integrate every row: by the lattice rule, and where that does not settle, adaptively."""
        if self._has_kinks:
            everything = np.arange(len(finest))
            return self._adapt(f, everything, cells, self.order), np.zeros(len(finest), int)
        integral, points = lattice_rule(f, finest, self.latent_dim, start, self.tolerance)
        left = np.flatnonzero(points == 0)
        if len(left):
            integral.put(left, self._adapt(f, left, cells[left], self.order))
        return integral, points

    def _adapt(self, f: Callable, left: np.ndarray, cells: np.ndarray, order: int) -> Integral:
        """Integrate some rows by the adaptive rule."""

        J, tolerance, kinks = self.latent_dim, self.tolerance, self._has_kinks
        parts = []
        for some in np.array_split(np.arange(len(left)), -(-len(left) // _ADAPTED)):
            chosen = left[some]

            def of_these(rows, u, chosen=chosen):
                return f(chosen[rows], u)

            try:
                part = adaptive_rule(
                    of_these, cells[some], J, order, tolerance, self.max_nodes, kinks
                )
            except QuadratureError as error:
                raise error.renumbered(chosen) from None
            parts.append(part)
        return Integral(*map(np.concatenate, zip(*parts)))

    def _log_likelihood(self, x: np.ndarray, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log p(x|z) of some rows at nodes of their own, z (C, n, J), as (C, n)."""
        return self.vae.log_likelihood(x[rows], np.swapaxes(z, 0, 1))[0].T

    def _log_joint(self, x: np.ndarray, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log p(x, z) of some rows at nodes of their own, (C, n), Eq. (1)."""
        return self._log_likelihood(x, rows, z) + self.log_prior(z)

    @staticmethod
    def _log_q(q: Gaussian, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log q(z|x) of some rows at nodes of their own, (C, n)."""
        return q.rows(rows).log_pdf(np.swapaxes(z, 0, 1)).T

    def _rows(self, x: Any) -> np.ndarray:
        """Return x as a (B, D) array of float64 that the likelihood accepts."""
        x = check_rows(x, self.data_dim)
        self.vae.likelihood.check(x)
        return x.astype(float, copy=False)

    def _latents(self, q: Gaussian) -> Gaussian:
        """Return q if it is a Gaussian over as many latents as the model has."""
        return check_gaussian(q, self.latent_dim)

    def _matched(self, x: Any, q: Gaussian) -> np.ndarray:
        """Return x, checked, with one row of q for each of its rows."""
        x = self._rows(x)
        check_gaussian(q, self.latent_dim, len(x))
        return x
