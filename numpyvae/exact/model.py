"""What the families of exact models have in common: the notes' vocabulary, as methods.

A family supplies the evidence, the posterior and expectations under q; this class composes them
into the two forms of the ELBO. Each method is computed by a route of its own where there is one,
so that an identity of the notes compares two computations and is not true by construction.

Symbols: x (B, D); z (L, B, J), or (L, B) whole numbers where the latent is discrete; q one
distribution over z for each datapoint. Unit: nats per datapoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

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
        return self.log_likelihood(x, z) + self.log_prior(z)

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
    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw x ~ p(x), (n, D)."""

    # Expectations under q: the terms of Eq. (6), (7), (11) and of both appendices. All (B,).

    @abstractmethod
    def expected_log_q(self, q: Any) -> np.ndarray:
        """E_q[log q(z|x)], minus the entropy of q; first term of Eq. (6)."""

    @abstractmethod
    def expected_log_prior(self, q: Any) -> np.ndarray:
        """E_q[log p(z)]; second term of Eq. (19)."""

    @abstractmethod
    def expected_log_likelihood(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x|z)]; first term of Eq. (11)."""

    @abstractmethod
    def expected_log_joint(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x, z)]; second term of Eq. (6), first of Eq. (7)."""

    @abstractmethod
    def expected_log_posterior(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(z|x)]; first integral of Eq. (15), without its sign."""

    @abstractmethod
    def kl_to_prior(self, q: Any) -> np.ndarray:
        """KL(q ‖ p(z)); last term of Eq. (11)."""

    @abstractmethod
    def kl_to_posterior(self, x: Any, q: Any) -> np.ndarray:
        """KL(q ‖ p(z|x)), the objective of Eq. (5), as the expectation of Eq. (13).

        Not as log p(x) − ELBO: that difference is Eq. (8), which this method serves to check.
        """

    # The two forms of the bound.

    def elbo_joint_form(self, x: Any, q: Any) -> np.ndarray:
        """ELBO = E_q[log p(x, z)] − E_q[log q(z|x)], (B,), Eq. (7)."""
        return self.expected_log_joint(x, q) - self.expected_log_q(q)

    def elbo_kl_form(self, x: Any, q: Any) -> np.ndarray:
        """ELBO = E_q[log p(x|z)] − KL(q ‖ p(z)), (B,), Eq. (11)."""
        return self.expected_log_likelihood(x, q) - self.kl_to_prior(q)
