"""What a loss should be: its mean over the noise by quadrature, and its measured mean.

    E_q[−log p(x|z)] = Σ_k w_k (−log p(x | μ + σ ε_k))          Gauss–Hermite nodes ε_k, J ≤ 2

With more latents the nodes are antithetic random draws. Where the noise is an argument of the
loss, the nodes are the very draws that the loss was given, and both sides are equal to rounding
errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..support.statistics import means_and_errors
from .facts import Facts
from .hypotheses import kl_forms, laws, reconstruction_forms
from .subject import log_variance

__all__ = ["COPIES", "IGNORED", "SAMPLED", "WHOLE", "Measured", "measure", "nodes", "probe_rows"]

COPIES = 251  # copies of one row in a batch: a prime is not taken for D or J
_LEAST, _MOST, _TARGET = 6, 64, 0.003  # calls for each row, and the standard error to reach
SAMPLED = "right, at the draws as in Eq. (7)"
IGNORED = "declared free bits ignored"
WHOLE = "right, with a floor of the whole KL"
_DISTINCT = 29  # draws for each row where the noise is an argument
_NUMBERS = 10_000_000  # in the outputs of a decoder at once
_SINGLE = 12  # calls for each row without copies, whose factors need no more than 10 %


def nodes(
    latent_dim: int, rng: np.random.Generator, order: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Return ε (Q, J) and weights (Q,) of an expectation over N(0, 1).

    Parameters
    ----------
    latent_dim : int
    rng : numpy.random.Generator
    order : int
        Of the rule in each dimension.

    Returns
    -------
    eps : (Q, J) array
    weights : (Q,) array

    Examples
    --------
    >>> eps, weights = nodes(2, np.random.Generator(np.random.PCG64(0)))
    >>> float(round(weights @ eps[:, 0] ** 2, 6))
    1.0
    """
    if latent_dim > 2:
        half = rng.standard_normal((256, latent_dim))
        return np.concatenate([half, -half]), np.full(512, 1 / 512)
    if latent_dim == 1:  # many equal steps: a decoder may be steep where q is wide
        points = np.linspace(-7.5, 7.5, 12 * order)
        weights = np.exp(-0.5 * points**2)
        return points[:, None], weights / weights.sum()
    points, weights = np.polynomial.hermite_e.hermegauss(order)
    grid = np.stack(np.meshgrid(*[points] * latent_dim, indexing="ij"), -1)
    product = np.prod(np.meshgrid(*[weights] * latent_dim, indexing="ij"), 0)
    keep = product.ravel() > 1e-12 * product.max()
    w = product.ravel()[keep]
    return grid.reshape(-1, latent_dim)[keep], w / w.sum()


def probe_rows(facts: Facts) -> np.ndarray:
    """Return rows of data whose KL and reconstruction differ: the user's, and blends of them.

    Parameters
    ----------
    facts : Facts

    Returns
    -------
    x : (N, ...) array

    Examples
    --------
    >>> from .facts import establish
    >>> from .calls import Calls
    >>> from .subject import Subject
    >>> probe_rows(establish(Calls(Subject(kl=len, x=np.eye(4))), 0)).shape
    (8, 4)
    """
    x = facts.rows
    if facts.calls.subject.family == "gaussian":
        return np.concatenate([x[:12], 1.5 * x[:6], 0.4 * x[:6]])
    if facts.calls.subject.family == "custom":  # which values x can have is not known
        return x
    most = facts.calls.subject.trials
    return np.concatenate([x[:16], np.zeros_like(x[:1]), np.full_like(x[:1], most), most - x[:2]])


@dataclass
class Measured:
    """Mean losses of rows, and everything that predicts them.

    Parameters
    ----------
    facts : Facts
    x : (N, ...) array
    values, errors : (N,) array
        Mean losses over the noise, and their standard errors.
    spread : float
        The standard deviation of the loss of one call, over calls.
    eps : (N or 1, Q, J) array
    weights : (Q,) array
    draws : int
        The number of draws in each mean; 0 if they are the nodes.

    Examples
    --------
    >>> Measured(None, np.ones((2, 3)), np.zeros(2), np.ones(2), 0.5, None, None).spread
    0.5
    """

    facts: Facts
    x: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    spread: float
    eps: np.ndarray
    weights: np.ndarray
    draws: int = 0
    _cache: dict = field(default_factory=dict)

    def encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mu and second (N, J)."""
        if "encoded" not in self._cache:
            self._cache["encoded"] = self.facts.calls.encode(self.x)
        return self._cache["encoded"]

    def _decoded(self, law: str, rows: slice) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The outputs (n·Q, D) of some rows at the nodes of a law, or None if z is not finite."""
        key = law, rows.start
        if key in self._cache:
            return self._cache[key]
        mu, second = (a[rows] for a in self.encoded())
        eps = self.eps if len(self.eps) == 1 else self.eps[rows]
        z = laws(self.facts.scale)[law](mu[:, None], second[:, None], eps)
        z = np.broadcast_to(z, (len(mu), self.eps.shape[1], mu.shape[1]))
        finite = np.isfinite(z).all()
        out = self.facts.calls.decode(z.reshape(-1, mu.shape[1])) if finite else None
        if len(mu) == len(self.x):  # else it is too large to be kept
            self._cache[key] = out
        return out

    def reconstruction(self, law: str, form: str) -> np.ndarray:
        """Return the expected −log p(x|z) (N,) under a law of z and a form of the density."""
        key = law, form
        if key not in self._cache:
            self._cache[key] = self._values(law, form) @ self.weights
        return self._cache[key]

    def _values(self, law: str, form: str) -> np.ndarray:
        """−log p(x|z) at the nodes (N, Q), in blocks of rows."""
        rows, draws = len(self.x), self.eps.shape[1]
        size = self.x[0].size * draws
        block = max(1, min(rows, _NUMBERS // size))
        parts = [self._block(law, form, slice(i, i + block)) for i in range(0, rows, block)]
        return np.concatenate(parts)

    def _block(self, law: str, form: str, rows: slice) -> np.ndarray:
        """−log p(x|z) of some rows at the nodes (n, Q)."""
        flat, draws = self.x[rows].reshape(len(self.x[rows]), -1), self.eps.shape[1]
        out = self._decoded(law, rows)
        if out is None or out[0].shape[1] != flat.shape[1]:
            return np.full((len(flat), draws), np.nan)
        tables = reconstruction_forms(self.facts.calls.subject, self.facts.output)
        return tables[form](np.repeat(flat, draws, 0), *out).reshape(len(flat), draws)

    def kl(self, form: str) -> np.ndarray:
        """Return the KL (N,) in one of its forms, or log q(z|x) − log p(z) at the nodes."""
        if form == SAMPLED:
            return self.log_ratio() @ self.weights
        function = kl_forms(self.facts.scale)["right" if form in (IGNORED, WHOLE) else form]
        mu, second = self.encoded()
        floor = self.facts.calls.subject.free_bits
        if not floor or form == IGNORED:
            return function(mu, second)
        if form == WHOLE or self.facts.floor == "total":
            return np.maximum(function(mu, second), floor)
        latents = [slice(k, k + 1) for k in range(mu.shape[1])]
        return sum(np.maximum(function(mu[:, k], second[:, k]), floor) for k in latents)

    def log_ratio(self) -> np.ndarray:
        """Return log q(z|x) − log p(z) at the nodes (N, Q)."""
        mu, second = self.encoded()
        logvar = log_variance(second, self.facts.scale)[:, None]
        z = laws(self.facts.scale)["right"](mu[:, None], second[:, None], self.eps)
        return 0.5 * (z**2 - logvar - self.eps**2).sum(-1)

    def log_weights(self) -> np.ndarray:
        """Return log w = log p(x|z) + log p(z) − log q(z|x) at the nodes (N, Q)."""
        return -self._values("right", "right") - self.log_ratio()

    def heavy(self) -> np.ndarray:
        """Return for each row (N,) whether its loss has too heavy tails for a normal mean.

        That is so where the greatest of some hundred draws makes up a fifth of their variance. Of
        512 normal draws it makes up 2 %, of exponential ones 7 %.
        """
        if "heavy" not in self._cache:
            eps = self.facts.rng(34).standard_normal((1, 512, self.facts.latent_dim))
            own = self if self.facts.latent_dim > 2 and self.draws else None
            none = np.empty(0)
            own = own or Measured(self.facts, self.x, none, none, 0.0, eps, np.full(512, 1 / 512))
            value = own._values("right", "right")
            square = (value - value.mean(1, keepdims=True)) ** 2
            self._cache["heavy"] = square.max(1) > 0.2 * np.maximum(square.sum(1), 1e-300)
        return self._cache["heavy"]

    def noise(self) -> float:
        """Return the greatest standard deviation of −log p(x|z) over z, relative to its mean."""
        values = self._values("right", "right")
        return float((values.std(1) / (1 + np.abs(values.mean(1)))).max())

    @property
    def different_draws(self) -> int:
        """How many independent draws are in each loss that was given its noise."""
        return self.eps.shape[1] // self.facts.calls.draws

    def forget(self) -> None:
        """Forget the expectations, after the scale has changed."""
        self._cache.clear()

    def uncertainty(self) -> np.ndarray:
        """Return the standard error of each mean loss that the noise explains, in nats.

        The noise of −log p(x|z) differs much between rows, and few calls do not show how much: it
        is taken from the nodes. The error of the quadrature is the difference from a lower order.
        """
        if "uncertainty" in self._cache:
            return self._cache["uncertainty"]
        error = np.zeros(len(self.x))
        if self.draws:
            value = self._values("right", "right")
            mean = value @ self.weights
            variance = (value - mean[:, None]) ** 2 @ self.weights
            error = np.sqrt(variance / self.draws)
            if self.facts.latent_dim > 2:
                half = value.shape[1] // 2
                pairs = 0.5 * (value[:, :half] + value[:, half:])
                error = np.hypot(error, means_and_errors(pairs.T)[1])
            else:
                eps, weights = nodes(self.facts.latent_dim, self.facts.rng(31), 17)
                f, x = self.facts, self.x
                coarse = Measured(f, x, self.values, self.errors, 0.0, eps[None], weights)
                change = np.abs(coarse.reconstruction("right", "right") - mean)
                # two rules may agree by chance for one row, but not for all
                error = np.hypot(error, np.maximum(change, np.sqrt(np.mean(change**2))))
        self._cache["uncertainty"] = error
        return error


def measure(facts: Facts, x: np.ndarray, copies: int, stage: int) -> Measured:
    """Measure the mean loss of batches that contain one row several times.

    Parameters
    ----------
    facts : Facts
    x : (N, ...) array
    copies : int
    stage : int
        Another stage has seeds of its own.

    Returns
    -------
    measured : Measured

    Examples
    --------
    >>> from .facts import establish
    >>> from .calls import Calls
    >>> from .subject import Subject
    >>> subject = Subject(loss=lambda x: 2.0, x=np.eye(4))
    >>> measure(establish(Calls(subject), 0), np.eye(4), 3, 0).values
    array([2., 2., 2., 2.])
    """
    # 10,000 seeds for each stage: no row of one stage has the noise of a row of the other
    base = 10_000 * (1 + 2 * (facts.seed % 100_000) + stage) + 7
    if facts.calls.subject.noise == "eps":
        return _exact(facts, x, copies, base)
    values = _repeated(facts, x, copies, base, 0, _LEAST if copies > 1 else _SINGLE)
    while True:
        calls, means = values.shape[1], values.mean(1)
        # one standard deviation for all rows: that of few calls of one row is too uncertain
        spread = float(np.sqrt(values.var(1, ddof=1).mean()))
        error = spread / np.sqrt(calls)
        ratio = error / (_TARGET * max(np.ptp(means), 1e-12))
        if ratio <= 1 or copies == 1 or calls >= _MOST:
            break
        more = min(int(np.ceil(1.05 * calls * ratio**2)), _MOST) - calls
        fresh = _repeated(facts, x, copies, base, calls, more)
        values = np.concatenate([values, fresh], 1)
    own = means_and_errors(values.T)[1]
    errors = np.maximum(np.maximum(error, own), 1e-4 * (1e-3 + np.ptp(means)))
    draws = copies * values.shape[1]
    return Measured(facts, x, means, errors, spread, *_nodes_of_rows(facts, len(x), stage), draws)


def _nodes_of_rows(facts: Facts, rows: int, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes (1 or N, Q, J) and their weights.

    Random nodes are drawn anew for each row: the errors of rows that shared them would be one
    error, and the root mean square of the residuals would not average over the rows.
    """
    rng = facts.rng(30, stage)
    drawn = [nodes(facts.latent_dim, rng) for _ in range(rows if facts.latent_dim > 2 else 1)]
    return np.stack([eps for eps, _ in drawn]), drawn[0][1]


def _repeated(
    facts: Facts, x: np.ndarray, copies: int, base: int, start: int, calls: int
) -> np.ndarray:
    """The losses of batches of one row, (N, calls), with seeds that follow the first `start`."""
    values = np.empty((len(x), calls))
    for i, row in enumerate(x):
        batch = np.repeat(row[None], copies, 0)
        for k in range(calls):
            seed = base + 100 * i + start + k
            values[i, k] = facts.calls.loss(batch, seed, facts.latent_dim)
    return values


def _exact(facts: Facts, x: np.ndarray, copies: int, base: int) -> Measured:
    """One call for each row; the nodes are the draws that the loss was given.

    Few different draws are given to many copies: what they cost grows with their number.
    """
    calls, j = facts.calls, facts.latent_dim
    index = np.arange(copies) % _DISTINCT if calls.draws == 1 else np.arange(copies)
    weights = np.tile(np.bincount(index) / copies, calls.draws) / calls.draws
    values = np.empty(len(x))
    given = []
    for i, row in enumerate(x):
        eps = calls.eps(copies, j, base + i)[..., : index.max() + 1, :]
        batch = np.repeat(row[None], copies, 0)
        values[i] = calls.one_loss(calls.call("loss", batch, eps[..., index, :]), copies)
        given.append(eps.reshape(-1, j))
    errors = 100 * facts.tolerance * (1 + np.abs(values))
    return Measured(facts, x, values, errors, 0.0, np.array(given), weights)
