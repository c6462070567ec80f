"""The models on which the equations are checked, and the sums that approximate their integrals.

A `Case` is an exact model, a few datapoints x, and a q for each datapoint. It computes every
integral over z by the trapezoidal rule on an equally spaced grid. For a smooth integrand that
vanishes at both ends, the error of this rule falls exponentially as the spacing shrinks. The rule
shares no code with the model's own quadrature and closed forms, so a check compares two
independent computations.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..exact import ExactModel, FiniteMixture, Gaussian, LinearGaussian, Quadrature
from ..support.checks import check_choice, check_seed
from ..support.streams import Purpose, stream

__all__ = ["CASES", "Case", "ContinuousCase", "DiscreteCase", "make_case"]

_REACH = 10.0  # half-width of a grid in standard deviations: e^−50 of the mass is outside

Function = Callable[[np.ndarray], np.ndarray]


class Case(ABC):
    """A model, data, and one q for each datapoint.

    Attributes
    ----------
    model : ExactModel
    x : (B, D) array
        Datapoints. The tables of the checks show the first one.
    q : Gaussian or (B, M) array
        The kind of q that the model takes.
    tolerance : float
        Accepted difference between two sides, relative to 1 + |left|.
    """

    def __init__(self, model: ExactModel, x: np.ndarray, q: Any, tolerance: float) -> None:
        self.model, self.x, self.q, self.tolerance = model, x, q, tolerance

    def log_joint(self, z: np.ndarray) -> np.ndarray:
        """log p_θ(x, z) at z, (L, B)."""
        return self.model.log_joint(self.x, z)

    def log_posterior(self, z: np.ndarray) -> np.ndarray:
        """log p_θ(z|x) at z, (L, B)."""
        return self.model.log_posterior(self.x, z)

    @abstractmethod
    def log_q(self, z: np.ndarray) -> np.ndarray:
        """log q_φ(z|x) at z, (L, B)."""

    @abstractmethod
    def points(self) -> np.ndarray:
        """The values of z at which densities are compared, (L, B, J) or (L, B).

        The tables of the checks show the first: the mean of q, or the first component.
        """

    @abstractmethod
    def integral(self, g: Function) -> np.ndarray:
        """∫ q(z|x) g(z) dz, (B,), with the density q(z|x) as a factor of the integrand."""

    @abstractmethod
    def expectation(self, g: Function) -> np.ndarray:
        """E_q[g(z)], (B,), by nodes and weights of a quadrature rule for q."""

    @abstractmethod
    def log_integral(self, log_f: Function) -> np.ndarray:
        """log ∫ f(z) dz, (B,), for a function f that is concentrated where the posterior is."""

    @abstractmethod
    def reference_log_joint(self, z: np.ndarray) -> np.ndarray:
        """log p_θ(x, z), (L, B), computed without the package, for the check of Eq. (1)."""

    @abstractmethod
    def posterior_mean(self) -> np.ndarray:
        """E[z|x] by the model's own method, (B, J).

        A discrete z counts as a vector of M indicators, so that E[z|x] is p(z = m|x), (B, M).
        """

    @abstractmethod
    def mean_by_bayes(self) -> np.ndarray:
        """E[z|x] as the sum of z p(x|z) p(z) / p(x) over z, of the same shape."""

    @abstractmethod
    def q_from(self, free: np.ndarray) -> Any:
        """Return the q that a vector of unconstrained numbers describes.

        A search for the best q starts at the vector of zeros.
        """

    n_free: int  # length of the vector that describes a q

    def with_q(self, q: Any) -> Case:
        """Return the same case with another q."""
        twin = copy.copy(self)
        twin.__dict__.pop("nodes", None)
        twin.q = q
        return twin

    def first(self) -> Case:
        """Return the case of the first datapoint alone."""
        q = self.q.rows(np.array([0])) if isinstance(self.q, Gaussian) else self.q[:1]
        twin = self.with_q(q)
        twin.__dict__.pop("frame", None)
        twin.n_free, twin.x = self.n_free // len(self.x), self.x[:1]
        return twin


class ContinuousCase(Case):
    """A VAE with Gaussian latents, whose evidence has a closed form or is found by quadrature.

    Parameters
    ----------
    vae : VAE
        Its parameters are float64.
    model : ExactModel
    x : (B, D) array
    q : Gaussian
    tolerance : float
    spacing : float
        Spacing of the grid, in standard deviations.
    """

    q: Gaussian

    def __init__(
        self,
        vae: VAE,
        model: ExactModel,
        x: np.ndarray,
        q: Gaussian,
        tolerance: float,
        spacing: float,
    ) -> None:
        super().__init__(model, x, q, tolerance)
        self.vae = vae
        B, J = q.mean.shape
        self.n_free = 2 * B * J
        axis = np.arange(-_REACH, _REACH + spacing / 2, spacing)
        grid = np.meshgrid(*[axis] * J, indexing="ij")
        self.u = np.stack(grid, axis=-1).reshape(-1, 1, J)  # (L, 1, J)
        self.cell = spacing**J
        # E_ε[f(ε)] ≈ Σ_l w_l f(u_l): the trapezoidal rule for the standard normal.
        self.weights = (
            np.exp(-0.5 * (self.u**2).sum(-1)[:, 0]) * self.cell / (2 * np.pi) ** (J / 2)
        )

    def log_q(self, z: np.ndarray) -> np.ndarray:
        return self.q.log_pdf(z)

    def points(self) -> np.ndarray:
        u = np.array([0.0, -2.0, -1.0, 1.0, 2.0])  # standard deviations; z = μ comes first
        return self.q.transform(u[:, None, None] * np.ones(self.q.mean.shape))

    @cached_property
    def nodes(self) -> np.ndarray:
        """z = μ + C u for the points u of the grid and the q of each datapoint, (L, B, J)."""
        return self._around(self.q)

    def _around(self, frame: Gaussian) -> np.ndarray:
        """The grid, scaled and shifted to a Gaussian's mean and Cholesky factor, (L, B, J)."""
        return frame.transform(np.broadcast_to(self.u, (len(self.u), *frame.mean.shape)))

    def integral(self, g: Function) -> np.ndarray:
        z = self.nodes
        jacobian = np.abs(np.linalg.det(self.q.chol)) * self.cell
        return (np.exp(self.log_q(z)) * g(z)).sum(axis=0) * jacobian

    def expectation(self, g: Function) -> np.ndarray:
        return self.weights @ g(self.nodes)

    def log_integral(self, log_f: Function) -> np.ndarray:
        jacobian = np.abs(np.linalg.det(self.frame.chol)) * self.cell
        return _log_sum_exp(log_f(self._around(self.frame))) + np.log(jacobian)

    @cached_property
    def frame(self) -> Gaussian:
        """The Gaussian to which the grid for integrals of p(x, z) is scaled.

        A Gaussian posterior itself; otherwise a Gaussian with twice its standard deviations, since
        its tails can be longer than a Gaussian's.
        """
        posterior = self.model.posterior(self.x)
        if isinstance(posterior, Gaussian):
            return posterior
        return Gaussian.from_covariance(posterior.mean, 4 * posterior.cov)

    def posterior_mean(self) -> np.ndarray:
        return self.model.posterior(self.x).mean

    def mean_by_bayes(self) -> np.ndarray:
        z = self._around(self.frame)
        log_f = self.model.log_likelihood(self.x, z) + self.model.log_prior(z)
        return np.einsum("lb,lbj->bj", np.exp(log_f - _log_sum_exp(log_f)), z)

    def mu_logvar(self) -> tuple[np.ndarray, np.ndarray]:
        """The encoder's μ and log σ², (B, J)."""
        return self.vae.encode(self.x)

    def reference_log_joint(self, z: np.ndarray) -> np.ndarray:
        if isinstance(self.model, LinearGaussian):
            # The joint of a linear-Gaussian model is one Gaussian over (x, z).
            W, D = self.model.W, self.model.data_dim
            psi = np.broadcast_to(self.model.sigma2, D)
            cov = np.block([[W @ W.T + np.diag(psi), W], [W.T, np.eye(W.shape[1])]])
            mean = np.concatenate([self.model.mean, np.zeros(W.shape[1])])
            x = np.broadcast_to(self.x, (len(z), *self.x.shape))
            root = np.linalg.cholesky(cov)
            away = (np.concatenate([x, z], axis=-1) - mean).reshape(-1, len(mean))
            white = np.linalg.solve(root, away.T)
            constant = len(mean) * np.log(2 * np.pi) / 2 + np.log(np.diag(root)).sum()
            return -0.5 * (white**2).sum(axis=0).reshape(z.shape[:2]) - constant
        log_pz = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=-1)
        return _log_bernoulli(self.x, self.vae.decoder(z)[0]) + log_pz

    def q_from(self, free: np.ndarray) -> Gaussian:
        mu, logvar = free.reshape(2, *self.q.mean.shape)
        start = self.frame
        variance = np.diagonal(start.cov, axis1=-2, axis2=-1)
        return Gaussian.diagonal(start.mean + mu, np.log(variance) + logvar)


class DiscreteCase(Case):
    """A finite mixture, in which an integral over z is a sum over the components.

    Parameters
    ----------
    model : FiniteMixture
    x : (B, D) array
    q : (B, M) array
    tolerance : float
    """

    model: FiniteMixture
    q: np.ndarray

    def __init__(
        self, model: FiniteMixture, x: np.ndarray, q: np.ndarray, tolerance: float
    ) -> None:
        super().__init__(model, x, q, tolerance)
        self.n_free = q.size

    def log_q(self, z: np.ndarray) -> np.ndarray:
        return np.log(np.take_along_axis(self.q, z.T, axis=1)).T

    def points(self) -> np.ndarray:
        components = np.arange(self.q.shape[1])
        return np.broadcast_to(components[:, None], self.q.T.shape)  # (M, B)

    def integral(self, g: Function) -> np.ndarray:
        z = self.points()
        return (np.exp(self.log_q(z)) * g(z)).sum(axis=0)

    def expectation(self, g: Function) -> np.ndarray:
        return np.einsum("bm,mb->b", self.q, g(self.points()))

    def log_integral(self, log_f: Function) -> np.ndarray:
        return _log_sum_exp(log_f(self.points()))

    def reference_log_joint(self, z: np.ndarray) -> np.ndarray:
        return _log_bernoulli(self.x, self.model.outputs[z]) + np.log(self.model.weights)[z]

    def posterior_mean(self) -> np.ndarray:
        return self.model.posterior(self.x)

    def mean_by_bayes(self) -> np.ndarray:
        z = self.points()
        joint = np.exp(self.model.log_likelihood(self.x, z) + self.model.log_prior(z)).T  # (B, M)
        return joint / joint.sum(axis=1, keepdims=True)

    def q_from(self, free: np.ndarray) -> np.ndarray:
        free = free.reshape(self.q.shape)
        return np.exp(free - _log_sum_exp(free.T)[:, None])


def _log_sum_exp(table: np.ndarray) -> np.ndarray:
    """log Σ_l exp(table_l), over the first axis, independent of our log_mean_exp."""
    return np.logaddexp.reduce(table, axis=0)


def _log_bernoulli(x: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """log p(x) of independent Bernoulli variables, with NumPy's log(1 + e^−l) for each logit l."""
    return -(x * np.logaddexp(0, -logits) + (1 - x) * np.logaddexp(0, logits)).sum(axis=-1)


def _linear_gaussian(rng: np.random.Generator) -> Case:
    """Probabilistic PCA with J = 2, where every quantity has a closed form."""
    vae = VAE(3, 2, (), likelihood="gaussian:0.7", dtype="float64")
    vae.parameters.flat[:] = rng.normal(0.0, 0.6, vae.parameters.flat.size)
    model = LinearGaussian.from_vae(vae)
    x = model.sample(2, int(rng.integers(1 << 30)))
    return ContinuousCase(vae, model, x, Gaussian.from_encoder(vae, x), 1e-10, spacing=0.75)


def _quadrature(rng: np.random.Generator) -> Case:
    """A VAE with a Bernoulli decoder, one tanh layer and J = 1."""
    vae = VAE(5, 1, (4,), dtype="float64")
    vae.parameters.flat[:] = rng.normal(0.0, 0.8, vae.parameters.flat.size)
    x = rng.integers(0, 2, (2, 5)).astype(float)
    q = Gaussian.from_encoder(vae, x)
    return ContinuousCase(vae, Quadrature(vae), x, q, 1e-8, spacing=0.05)


def _discrete(rng: np.random.Generator) -> Case:
    """A mixture of three components, each a product of Bernoulli distributions."""
    prior, p = rng.dirichlet(np.full(3, 2.0)), rng.uniform(0.05, 0.95, (3, 6))
    model = FiniteMixture(prior, np.log(p / (1 - p)), "bernoulli")
    x = rng.integers(0, 2, (2, 6)).astype(float)
    return DiscreteCase(model, x, rng.dirichlet(np.ones(3), 2), 1e-10)


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    "linear-gaussian": _linear_gaussian,
    "quadrature": _quadrature,
    "discrete": _discrete,
}


def make_case(name: str, seed: int = 0) -> Case:
    """Return a random model with data and a q, from one of the three families.

    Parameters
    ----------
    name : {"linear-gaussian", "quadrature", "discrete"}
        Probabilistic PCA, a Bernoulli VAE with a tanh layer, or a finite mixture.
    seed : int
        Seed of the parameters, the data and q.

    Returns
    -------
    case : Case

    Raises
    ------
    TypeError, ValueError
        If the name is not one of these, or the seed is not a whole number of at least 0.

    Examples
    --------
    >>> make_case("linear-gaussian").x.shape
    (2, 3)
    """
    check_choice("model", name, tuple(CASES))
    return CASES[name](stream(check_seed(seed), Purpose.EQUATIONS))
