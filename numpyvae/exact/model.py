"""The base class of all exact models: its methods are the quantities of the notes.

A subclass computes the evidence, the posterior and expectations under q. This class combines them
into the joint density and the two forms of the ELBO. Subclasses compute related quantities
independently where they can: the KL to the posterior, for example, is not log p(x) − ELBO. An
identity of the notes then compares two computations.

Symbols: x (B, D); z (L, B, J), or whole numbers (L, B) if the latent variable is discrete; q, one
distribution over z for each datapoint. Unit: nats per datapoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..support.streams import Seed

__all__ = ["ExactModel"]


class ExactModel(ABC):
    """A model p(z) p(x|z) whose evidence p(x), Eq. (2), is known.

    Examples
    --------
    >>> from numpyvae.exact import FiniteMixture
    >>> model = FiniteMixture([0.5, 0.5], [[-1.0], [2.0]])
    >>> isinstance(model, ExactModel), model.elbo_kl_form([[1]], model.posterior([[1]])).shape
    (True, (1,))
    """

    @abstractmethod
    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """Log prior log p(z), (L, B)."""

    @abstractmethod
    def log_likelihood(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log-likelihood log p(x|z), (L, B), summed over the dimensions of x."""

    def log_joint(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log joint density log p(x, z) = log p(x|z) + log p(z), (L, B), Eq. (1)."""
        log_px = self.log_likelihood(x, z)  # log p(x|z)
        log_pz = self.log_prior(z)
        return log_px + log_pz

    @abstractmethod
    def log_evidence(self, x: Any) -> np.ndarray:
        """Log-evidence log p(x) = log ∫ p(x, z) dz, (B,), Eq. (2)."""

    @abstractmethod
    def posterior(self, x: Any) -> Any:
        """Posterior p(z|x) = p(x|z) p(z) / p(x), Eq. (3) and Eq. (4)."""

    @abstractmethod
    def log_posterior(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log posterior log p(z|x), (L, B), Eq. (4)."""

    @abstractmethod
    def sample(self, n: int, seed: Seed = 0) -> np.ndarray:
        """Draw x ~ p(x), (n, D)."""

    # Expectations under q, (B,): the terms of Eq. (6), (7), (11) and of both appendices.

    @abstractmethod
    def expected_log_q(self, q: Any) -> np.ndarray:
        """E_q[log q(z|x)], the negative entropy of q; the first term of Eq. (6)."""

    @abstractmethod
    def expected_log_prior(self, q: Any) -> np.ndarray:
        """E_q[log p(z)]; the second term of Eq. (19)."""

    @abstractmethod
    def expected_log_likelihood(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x|z)]; the first term of Eq. (11)."""

    @abstractmethod
    def expected_log_joint(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x, z)]; the second term of Eq. (6) and the first term of Eq. (7)."""

    @abstractmethod
    def expected_log_posterior(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(z|x)]; the first integral of Eq. (15), without its sign."""

    @abstractmethod
    def kl_to_prior(self, q: Any) -> np.ndarray:
        """KL(q ‖ p(z)); the last term of Eq. (11)."""

    @abstractmethod
    def kl_to_posterior(self, x: Any, q: Any) -> np.ndarray:
        """KL(q ‖ p(z|x)), the objective of Eq. (5), as the expectation of Eq. (13).

        A subclass must not compute it as log p(x) − ELBO. That difference is Eq. (8), and this
        method serves to check it.
        """

    # The two forms of the ELBO.

    def elbo_joint_form(self, x: Any, q: Any) -> np.ndarray:
        """ELBO = E_q[log p(x, z)] − E_q[log q(z|x)], (B,), Eq. (7)."""
        expected_log_joint = self.expected_log_joint(x, q)
        expected_log_q = self.expected_log_q(q)
        return expected_log_joint - expected_log_q

    def elbo_kl_form(self, x: Any, q: Any) -> np.ndarray:
        """ELBO = E_q[log p(x|z)] − KL(q ‖ p(z)), (B,), Eq. (11)."""
        reconstruction = self.expected_log_likelihood(x, q)
        kl = self.kl_to_prior(q)
        return reconstruction - kl
