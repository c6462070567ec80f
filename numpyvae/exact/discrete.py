"""A finite mixture: its latent variable is discrete, and every integral over z is a sum.

    p(z = m) = π_m,  p(x) = Σ_m π_m p(x|z = m)              Eq. (2)

q is a table (B, M) of probabilities, one row for each datapoint. Since z has few values, even the
importance-weighted bound E[L_K] can be computed exactly, as a sum over all possible sets of K
draws.

Symbols: M, number of values of z; x (B, D); z (L, B) whole numbers in 0 … M − 1; tables (B, M).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from ..core.likelihoods import Likelihood, parse_likelihood
from ..core.parameters import Parameters
from ..support.checks import check_count, check_rows
from ..support.streams import Purpose, Seed, generator
from .model import ExactModel

__all__ = ["FiniteMixture"]

_MULTISETS = 2_000_000  # largest number of sets of draws that `importance_bound` sums over
_NONE = Parameters({}, {})  # a likelihood here has no parameters of its own
_ELEMENTS = 1 << 20  # largest number of table entries in memory at a time


class FiniteMixture(ExactModel):
    """A mixture of M components, each of which is a likelihood p(x|z = m).

    p(x) = Σ_m π_m p(x|z = m), the integral of Eq. (2) as a sum.

    Parameters
    ----------
    weights : (M,) array_like
        π, the prior p(z): probabilities above 0 with sum 1.
    outputs : (M, heads·D) array_like
        Parameters of p(x|z = m), as a decoder returns them: logits for Bernoulli and Binomial,
        means for `gaussian:SIGMA`, means followed by log-variances for `gaussian:head`.
    likelihood : str or Likelihood
        Any likelihood except `gaussian:learned`, whose variances are parameters of a VAE.

    Raises
    ------
    TypeError, ValueError
        If the weights are not a distribution, or the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> model = FiniteMixture([0.5, 0.5], [[0.0], [0.0]])
    >>> np.exp(model.log_evidence([[1]]))
    array([0.5])
    """

    def __init__(
        self, weights: Any, outputs: Any, likelihood: str | Likelihood = "bernoulli"
    ) -> None:
        self.likelihood = parse_likelihood(likelihood)
        if self.likelihood.parameter_shapes(1):
            raise ValueError(
                "likelihood: expected one without parameters of its own, got "
                f"{self.likelihood.name}; in place of gaussian:learned, give gaussian:head the "
                "same log-variances in each row"
            )
        self.outputs = check_rows(outputs, name="outputs").astype(float)
        M, width = self.outputs.shape
        if width % self.likelihood.heads:
            raise ValueError(
                f"outputs: expected a multiple of {self.likelihood.heads} columns, one for each "
                f"output of {self.likelihood.name}, got {width}"
            )
        self.weights = _distributions("weights", np.atleast_2d(weights), M)[0]
        if np.ndim(weights) != 1 or (self.weights <= 0).any():
            raise ValueError(
                f"weights: expected {M} probabilities above 0, got shape {np.shape(weights)} with "
                f"the smallest {self.weights.min():g}; leave out components of weight 0"
            )

    @property
    def data_dim(self) -> int:
        """The number D of dimensions of x."""
        return self.outputs.shape[1] // self.likelihood.heads

    @property
    def n_components(self) -> int:
        """The number M of components."""
        return len(self.weights)

    def __repr__(self) -> str:
        return (
            f"FiniteMixture({self.n_components} components, {self.data_dim} dimensions, "
            f"{self.likelihood.name})"
        )

    # Densities

    def log_likelihood_table(self, x: Any) -> np.ndarray:
        """log p(x|z = m) for every component, (B, M)."""
        x = check_rows(x, self.data_dim).astype(float, copy=False)
        self.likelihood.check(x)
        table = np.empty((len(x), self.n_components))
        for m, out in enumerate(self.outputs):
            logp, _ = self.likelihood.log_prob(
                x, np.broadcast_to(out, (1, len(x), len(out))), _NONE
            )
            table[:, m] = logp[0]
        return table

    def log_joint_table(self, x: Any) -> np.ndarray:
        """log p(x, z = m) = log p(x|z = m) + log π_m for every component, (B, M), Eq. (1)."""
        return self.log_likelihood_table(x) + np.log(self.weights)

    def log_posterior_table(self, x: Any) -> np.ndarray:
        """log p(z = m|x) for every component, (B, M), Eq. (4)."""
        table = self.log_joint_table(x)
        return table - _log_sum_exp(table)[:, None]

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """Log prior log π_z, (L, B)."""
        return np.log(self.weights)[self._values(z)]

    def log_likelihood(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log-likelihood log p(x|z), (L, B)."""
        return self._pick(self.log_likelihood_table(x), z)

    def log_posterior(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log posterior log p(z|x) = log p(x, z) − log p(x), (L, B), Eq. (4)."""
        z = self._values(z)
        log_joint = self.log_joint_table(x)
        log_px = _log_sum_exp(log_joint)[:, None]
        return np.take_along_axis(log_joint - log_px, z.T, axis=1).T

    def log_evidence(self, x: Any) -> np.ndarray:
        """Log-evidence log Σ_m π_m p(x|z = m), (B,), Eq. (2)."""
        return _log_sum_exp(self.log_joint_table(x))

    def posterior(self, x: Any) -> np.ndarray:
        """Posterior π_m p(x|z = m) / p(x), (B, M), Eq. (3) and Eq. (4).

        Each row is divided by its largest entry first, so that exp cannot underflow to 0 in all
        entries. The factor cancels in the quotient.
        """
        log_joint = self.log_likelihood_table(x) + np.log(self.weights)
        joint = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        return joint / joint.sum(axis=1, keepdims=True)

    # Expectations under q, in which 0 log 0 counts as 0

    def expected_log_q(self, q: Any) -> np.ndarray:
        """E_q[log q(z|x)] = Σ_m q_m log q_m, (B,); in Eq. (6)."""
        q = self._table(q)
        return _x_log(q, q).sum(axis=1)

    def expected_log_prior(self, q: Any) -> np.ndarray:
        """E_q[log p(z)] = Σ_m q_m log π_m, (B,); in Eq. (19)."""
        return self._table(q) @ np.log(self.weights)

    def expected_log_likelihood(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x|z)], (B,); in Eq. (11)."""
        return self._expect(q, self.log_likelihood_table(x))

    def expected_log_joint(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(x, z)], (B,); in Eq. (6) and Eq. (7)."""
        return self._expect(q, self.log_joint_table(x))

    def expected_log_posterior(self, x: Any, q: Any) -> np.ndarray:
        """E_q[log p(z|x)], (B,); in Eq. (15)."""
        return self._expect(q, self.log_posterior_table(x))

    def kl_to_prior(self, q: Any) -> np.ndarray:
        """KL(q ‖ p(z)) = Σ_m q_m log(q_m/π_m), (B,); in Eq. (11)."""
        q = self._table(q)
        return _x_log(q, q / self.weights).sum(axis=1)

    def kl_to_posterior(self, x: Any, q: Any) -> np.ndarray:
        """KL(q ‖ p(z|x)) = Σ_m q_m (log q_m − log p(z = m|x)), (B,), Eq. (5).

        It is the left-hand side of Eq. (8), and the ELBO is not used.
        """
        log_posterior = self.log_posterior_table(x)
        q = self._table(q, len(log_posterior))
        log_q = np.log(np.where(q > 0, q, 1))  # 0 log 0 counts as 0
        return (q * (log_q - log_posterior)).sum(axis=1)

    def importance_bound(self, x: Any, q: Any, n_importance: int) -> np.ndarray:
        """Exact importance-weighted bound E[L_K] (Burda, Grosse & Salakhutdinov 2015, §3).

        L_K = log (1/K) Σ_k p(x, z_k)/q(z_k|x) with K independent draws z_k ~ q. It does not depend
        on the order of the draws. The expectation is therefore a sum over the C(M + K − 1, K) sets
        of counts n_m, each with its multinomial probability K! Π_m q_m^n_m / n_m!, in place of a
        sum over M^K sequences.

        Parameters
        ----------
        x : (B, D) array_like
        q : (B, M) array_like
        n_importance : int
            K, the number of draws. With K = 1 the bound is the ELBO of Eq. (7).

        Returns
        -------
        bound : (B,) array
            Nats. It does not decrease when K grows, and its limit is log p(x) if no q_m is 0.

        Raises
        ------
        ValueError
            If there are more than two million sets.
        """
        from scipy.special import gammaln, logsumexp  # late: nothing else here needs SciPy

        K = check_count("n_importance", n_importance)
        M = self.n_components
        sets = math.comb(M + K - 1, K)
        if sets > _MULTISETS:
            raise ValueError(
                f"n_importance: expected at most {_MULTISETS} sets of draws to sum over, got "
                f"{sets} for {K} draws from {M} components; take fewer"
            )
        log_joint = self.log_joint_table(x)
        q = self._table(q, len(log_joint))
        log_q = np.log(np.where(q > 0, q, 1))
        log_w = log_joint - log_q
        bound = np.zeros(len(q))
        for counts in _multisets(M, K):
            ways = gammaln(K + 1) - gammaln(counts + 1).sum(axis=1)
            for b in range(len(q)):
                possible = (counts[:, q[b] == 0] == 0).all(axis=1)
                n = counts[possible]
                chance = np.exp(ways[possible] + n @ log_q[b])
                mean_w = logsumexp(np.broadcast_to(log_w[b], n.shape), b=n / K, axis=1)
                bound[b] += chance @ mean_w
        return bound

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
        n, rng = check_count("n", n), generator(seed, Purpose.FINITE_MIXTURE)
        z = rng.choice(self.n_components, size=n, p=self.weights)
        return self.likelihood.draw(self.outputs[z], _NONE, rng)

    def _values(self, z: np.ndarray) -> np.ndarray:
        """Return z (L, B) if its entries are whole numbers in 0 … M − 1."""
        z = np.asarray(z)
        if (
            z.dtype.kind not in "iu"
            or z.ndim != 2
            or (z < 0).any()
            or (z >= len(self.weights)).any()
        ):
            raise ValueError(
                f"z: expected whole numbers in 0 … {len(self.weights) - 1}, of shape (L, B), got "
                f"{z.dtype} of shape {z.shape}"
            )
        return z

    def _pick(self, table: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Entries of a table (B, M) at z (L, B), as (L, B)."""
        return np.take_along_axis(table, self._values(z).T, axis=1).T

    def _table(self, q: Any, rows: int | None = None) -> np.ndarray:
        """Return q (B, M) if each row is a distribution over the components."""
        q = _distributions("q", q, self.n_components)
        if rows not in (None, len(q)):
            raise ValueError(f"q: expected {rows} rows, one for each of x, got {len(q)}")
        return q

    def _expect(self, q: Any, values: np.ndarray) -> np.ndarray:
        """Σ_m q_m values_m, (B,)."""
        return (self._table(q, len(values)) * values).sum(axis=1)


def _distributions(name: str, value: Any, columns: int) -> np.ndarray:
    """Return `value` as rows of probabilities, or raise ValueError if they are not."""
    rows = check_rows(value, columns, name=name).astype(float, copy=False)
    if rows.min() < 0 or np.abs(rows.sum(axis=1) - 1).max() > 1e-12:
        raise ValueError(
            f"{name}: expected probabilities of at least 0 that sum to 1 within 1e-12, got values "
            f"from {rows.min():g} and sums from {rows.sum(axis=1).min():.15g} to "
            f"{rows.sum(axis=1).max():.15g}; divide by the sum in float64"
        )
    return rows


def _multisets(M: int, K: int) -> Iterator[np.ndarray]:
    """Yield all counts (n_1 … n_M) with sum K, as arrays (T, M) with a bounded number T of rows.

    Each set of counts corresponds to a choice of M − 1 bars among M + K − 1 positions: the counts
    are the numbers of positions between the bars ("stars and bars").
    """
    positions, rows = M + K - 1, []
    most = max(1, _ELEMENTS // M)
    for bars in combinations(range(positions), M - 1):
        rows.append((-1, *bars, positions))
        if len(rows) == most:
            yield np.diff(np.array(rows), axis=1) - 1
            rows = []
    if rows:
        yield np.diff(np.array(rows), axis=1) - 1


def _log_sum_exp(table: np.ndarray) -> np.ndarray:
    """log Σ_m exp(table_bm), (B,): pair by pair, and so independent of our log_mean_exp."""
    return np.logaddexp.reduce(table, axis=1)


def _x_log(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x log y, and 0 where x = 0."""
    return x * np.log(np.where(x > 0, y, 1))
