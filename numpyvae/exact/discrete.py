"""A latent with finitely many values: every integral of the notes is a sum.

    p(z = m) = π_m,  p(x|z = m) any likelihood with outputs η_m,  q(z|x) a table (B, M)

Nothing is approximated, not even E[L_K]: the average over K draws is a sum over all outcomes.

Symbols: M components; x (B, D); z (L, B) whole numbers in 0 … M − 1; q (B, M).
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import comb
from typing import Any

import numpy as np
from scipy.special import gammaln, logsumexp, rel_entr, xlogy

from ..checks import check_count, check_rows, check_seed
from ..likelihoods import LearnedGaussian, Likelihood, parse_likelihood
from .model import ExactModel

__all__ = ["FiniteMixture"]

_SAMPLE = 521  # purpose of the random stream
_OUTCOMES = 2_000_000  # the most multisets of draws that are enumerated


class FiniteMixture(ExactModel):
    """A finite mixture: a discrete z, and for each of its values a distribution of x.

    Parameters
    ----------
    prior : (M,) array_like
        π, above zero, summing to 1.
    outputs : (M, heads·D) array_like
        What a decoder would give for each z: logits, means, or means and log-variances.
    likelihood : str or Likelihood
        Any but `gaussian:learned`, whose variance is not among the outputs.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit or `prior` is not a distribution.

    Examples
    --------
    >>> model = FiniteMixture([0.5, 0.5], [[0.0], [0.0]], "bernoulli")
    >>> np.exp(model.log_evidence([[1]]))
    array([0.5])
    """

    def __init__(self, prior: Any, outputs: Any, likelihood: str | Likelihood) -> None:
        self.likelihood = parse_likelihood(likelihood)
        if isinstance(self.likelihood, LearnedGaussian):
            raise ValueError(
                "likelihood: expected one whose outputs say all, got gaussian:learned; "
                "use gaussian:SIGMA or gaussian:head"
            )
        self.outputs = check_rows(outputs, name="outputs").astype(float)
        self.prior = _check_distribution(np.atleast_2d(prior), len(self.outputs), "prior")[0]
        if (self.prior <= 0).any():
            raise ValueError("prior: expected probabilities above 0; drop empty components")

    @property
    def n_components(self) -> int:
        """M."""
        return len(self.prior)

    @property
    def data_dim(self) -> int:
        """D."""
        return self.outputs.shape[1] // self.likelihood.heads

    def __repr__(self) -> str:
        return f"FiniteMixture({self.n_components} × {self.data_dim}, {self.likelihood.name})"

    # Densities

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """Log prior log π_z, (L, B)."""
        return np.log(self.prior)[z]

    def log_likelihood(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log-likelihood log p(x|z), (L, B)."""
        return np.take_along_axis(self._likelihoods(x), np.asarray(z).T, axis=1).T

    def log_evidence(self, x: Any) -> np.ndarray:
        """Log-evidence log Σ_z p(x|z) p(z), (B,), Eq. (2)."""
        return logsumexp(self._joints(x), axis=1)

    def posterior(self, x: Any) -> np.ndarray:
        """Posterior p(z|x) as a table, (B, M), Eq. (3) and Eq. (4)."""
        joints = self._joints(x)
        return np.exp(joints - logsumexp(joints, axis=1, keepdims=True))

    def log_posterior(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log posterior log p(z|x), (L, B), Eq. (4)."""
        joints = self._joints(x)
        table = joints - logsumexp(joints, axis=1, keepdims=True)
        return np.take_along_axis(table, np.asarray(z).T, axis=1).T

    # Expectations under q: Σ_z q_z g_z, with 0 log 0 = 0.

    def expected_log_q(self, q: Any) -> np.ndarray:
        """E_q[log q(z|x)] = Σ q log q, (B,); in Eq. (6)."""
        q = self._table(q)
        return xlogy(q, q).sum(axis=1)

    def expected_log_prior(self, q: Any) -> np.ndarray:
        """E_q[log p(z)], (B,); in Eq. (19)."""
        return self._table(q) @ np.log(self.prior)

    def expected_log_likelihood(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x|z)], (B,); in Eq. (11)."""
        return _average(self._table(q, x), self._likelihoods(x))

    def expected_log_joint(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x, z)], (B,); in Eq. (6) and Eq. (7)."""
        return _average(self._table(q, x), self._joints(x))

    def expected_log_posterior(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(z|x)], (B,); in Eq. (15)."""
        joints = self._joints(x)
        return _average(self._table(q, x), joints - logsumexp(joints, axis=1, keepdims=True))

    def kl_to_prior(self, q: Any) -> np.ndarray:
        """KL(q ‖ p(z)) = Σ q log(q/π), (B,); in Eq. (11)."""
        return rel_entr(self._table(q), self.prior).sum(axis=1)

    def kl_to_posterior(self, x: Any, q: Any) -> np.ndarray:
        """KL(q ‖ p(z|x)) = Σ q log(q / p(z|x)), (B,), Eq. (5): as Eq. (13), not as Eq. (8)."""
        return rel_entr(self._table(q, x), self.posterior(x)).sum(axis=1)

    def importance_bound(self, x: Any, q: Any, n_importance: int) -> np.ndarray:
        """Importance-weighted bound E[log (1/K) Σ_k w_k], exactly (Burda et al. 2015, §3).

        The K draws are exchangeable: sum over multisets (n_1 … n_M) of them, each with its
        multinomial probability K!/Π n_m! · Π q_m^n_m.

        Parameters
        ----------
        x : (B, D) array_like
        q : (B, M) array_like
        n_importance : int
            K.

        Returns
        -------
        bound : (B,) array
            Nats per datapoint; K = 1 gives the ELBO.

        Raises
        ------
        ValueError
            If there are more than two million multisets.
        """
        K, M = check_count("n_importance", n_importance), self.n_components
        if comb(M + K - 1, K) > _OUTCOMES:
            raise ValueError(
                f"n_importance: expected at most {_OUTCOMES} multisets of draws, got "
                f"{comb(M + K - 1, K)} for K = {K} and {M} components; lower one of them"
            )
        q = self._table(q, x)
        with np.errstate(divide="ignore"):
            log_q = np.log(q)
        log_w = self._joints(x) - np.where(q > 0, log_q, 0.0)  # never drawn where q = 0
        total = np.zeros(len(q))
        for draws in combinations_with_replacement(range(M), K):
            counts = np.bincount(draws, minlength=M)
            ways = gammaln(K + 1) - gammaln(counts + 1).sum()
            probability = np.exp(ways) * np.prod(q**counts, axis=1)
            total += probability * (logsumexp(log_w[:, list(draws)], axis=1) - np.log(K))
        return total

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw from the model: z ~ π, then x ~ p(x|z), (n, D)."""
        n = check_count("n", n)
        rng = np.random.default_rng(np.random.SeedSequence([check_seed(seed), _SAMPLE]))
        z = rng.choice(self.n_components, size=n, p=self.prior)
        return self.likelihood.draw(self.outputs[z], {}, rng)

    def _likelihoods(self, x: Any) -> np.ndarray:
        """log p(x|z = m), (B, M)."""
        x = check_rows(x, self.data_dim).astype(float, copy=False)
        self.likelihood.check(x)
        out = np.repeat(self.outputs[:, None], len(x), axis=1)  # (M, B, heads·D)
        return self.likelihood.log_prob(x, out, {})[0].T

    def _joints(self, x: Any) -> np.ndarray:
        """log p(x, z = m), (B, M), Eq. (1)."""
        return self._likelihoods(x) + np.log(self.prior)

    def _table(self, q: Any, x: Any = None) -> np.ndarray:
        """Return q if its rows are distributions over the components, one for each row of x."""
        q = _check_distribution(q, self.n_components, "q")
        if x is not None and len(q) != len(x):
            raise ValueError(f"q: expected {len(x)} rows, one for each row of x, got {len(q)}")
        return q


def _average(q: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ_m q_m values_m, where a q_m of 0 silences its value."""
    return np.where(q > 0, q * values, 0.0).sum(axis=1)


def _check_distribution(p: Any, components: int, name: str) -> np.ndarray:
    """Return `p` (rows, M) if every row is a probability distribution."""
    p = check_rows(p, components, name).astype(float)
    if (p < 0).any() or np.abs(p.sum(axis=1) - 1).max() > 1e-9:
        raise ValueError(
            f"{name}: expected probabilities that sum to 1 in each row, got sums from "
            f"{p.sum(axis=1).min():g} to {p.sum(axis=1).max():g}; divide by the sum"
        )
    return p
