"""Estimators in which every term is sampled: one formula, six rules for its coefficients.

With log w = log p_θ(x, z) − log q_φ(z|x) and z = μ + σ ε, the objective is L_K,

    E[log (1/K) Σ_k w_k]                      (Burda et al. 2015; K = 1 is the ELBO, Eq. (7))

and each estimator of its gradient is the average, over L samples and the batch, of

    Σ_k a_k ∂_θ log p_θ(x|z_k)                                            for θ
    Σ_k r_k a_k (∂log w_k/∂z_k) ∂z_k/∂φ + s_k ∂_φ log q_φ(z|x)|z=z_k      for φ

A `Rule` has the coefficients: a; the path's factor r; the score's s. The estimators differ in
nothing else. `w̃_k = w_k/Σ w` are the normalized weights:

    | estimator     | K   | a  | r | s                    | estimates          |
    | SGVBA         | 1   | 1  | 1 | −1                   | ∇ELBO              |
    | STL           | 1   | 1  | 1 | 0                    | ∇ELBO              |
    | ScoreFunction | 1   | 1  | – | log w − baseline     | ∇ELBO              |
    | IWAE          | any | w̃  | 1 | −w̃                   | ∇L_K               |
    | STLIWAE       | any | w̃  | 1 | 0                    | ∇L_K, but for φ biased if K > 1 |
    | DReG          | any | w̃  | w̃ | 0                    | ∇L_K               |

The score ∂_φ log q has mean zero under q, so for K = 1 any s that does not depend on the draw may
be added: −1, 0 and a baseline are choices of variance, not of mean. For K > 1, w̃_k depends on the
draw, and dropping s = −w̃ costs a bias; DReG replaces it by reparameterizing a second time.

- `n_samples : int`, L, the number of averages over draws of z for each datapoint
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.distributions import gaussian_kl, log_mean_exp
from ..core.elbo import Estimate, Estimator
from ..core.vae import VAE
from ..support.checks import check_count
from .base import Pass

__all__ = ["IWAE", "SGVBA", "STL", "STLIWAE", "DReG", "Rule", "normalized_weights"]


class Rule(NamedTuple):
    """Coefficients of the draws in the formula at the head of this module.

    Attributes
    ----------
    theta : (L, K, B) array
        a, of ∂_θ log p_θ(x|z).
    path : (L, K, B) array, optional
        r: the path's weight is r a. None: nothing flows through z.
    score : (L, K, B) array
        s, of the score ∂_φ log q_φ(z|x) at fixed z.
    """

    theta: np.ndarray
    path: np.ndarray | None
    score: np.ndarray


def normalized_weights(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the mean weight, and the weights' shares, over the second axis.

    m = log (1/K) Σ_k w_k,  w̃_k = w_k / Σ_k w_k = e^(log w_k − m)/K

    The mean is of the weights, not of their logarithms. No share exceeds 1, so that nothing
    overflows.

    Parameters
    ----------
    log_w : (L, K, B) array

    Returns
    -------
    log_mean_w : (L, B) array of float64
        Nats.
    share : (L, K, B) array
        w̃, which sums to 1 over K, in the dtype of `log_w`.
    """
    log_mean = log_mean_exp(log_w.swapaxes(0, 1))  # (K, L, B) → (L, B)
    share = np.exp(log_w - log_mean[:, None]) / log_w.shape[1]
    return log_mean, share.astype(log_w.dtype)


class SampledEstimator(Estimator):
    """The formula at the head of this module; a subclass gives its `rule`."""

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        """Return the coefficients, from log w and w̃, both (L, K, B)."""
        raise NotImplementedError

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        run = Pass(vae, x, eps)
        log_w = run.log_w.reshape(-1, self.n_importance, len(x))  # (L·K, B) → (L, K, B)
        objective, share = normalized_weights(log_w)
        # Coefficients as rows (L·K, B); a and s take up the mean over L and B.
        a, r, s = self.rule(log_w, share)
        a, s = (c.reshape(-1, len(x)) / objective.size for c in (a, s))
        r = None if r is None else r.reshape(-1, len(x))
        path = None if r is None else r[..., None]
        gradient = run.pull(update, a, lambda: _direct(run, a, r, s), path)
        kl, _ = gaussian_kl(run.mu, run.logvar)
        return Estimate(
            float(objective.mean()), float(run.log_px.mean()), float(kl.mean()), gradient
        )


def _direct(run: Pass, a: np.ndarray, r: np.ndarray | None, s: np.ndarray) -> tuple:
    """What reaches z, μ and log σ² from log p(z) and log q_φ(z|x); coefficients (L·K, B).

    The prior reaches z as −a z. The rest is q, by path and by score, with c = r a + s:

    by path,  −r a ∂log q/∂z = r a ε/σ:  dμ = Σ r a ε/σ,  d log σ² = ½ Σ r a ε²
    by score,  s ∂_φ log q:              dμ = Σ s ε/σ,    d log σ² = ½ Σ s (ε² − 1)
    together:                            dμ = Σ c ε/σ,    d log σ² = ½ Σ (c ε² − s)

    Added before they meet 1/σ, path and score of the total derivatives (SGVBA, IWAE) cancel to
    c = 0 exactly, however narrow q is.
    """
    eps = run.eps
    c = (s if r is None else r * a + s)[..., None]
    dmu = (c * eps).sum(axis=0) * np.exp(-0.5 * run.logvar)
    dlogvar = 0.5 * (c * eps * eps - s[..., None]).sum(axis=0)
    return -a[..., None] * run.z, dmu, dlogvar


@dataclass(frozen=True)
class SGVBA(SampledEstimator):
    """Every term sampled, Eq. (7): estimator A of Kingma & Welling 2013, §2.3. Unbiased.

    The total derivative of log w along the path, score of q included.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> SGVBA().rule(log_w, share).score.ravel()          # s = −1
    array([-1., -1.])
    """

    def rule(self, log_w, share):
        one = np.ones_like(log_w)
        return Rule(one, one, -one)


@dataclass(frozen=True)
class STL(SampledEstimator):
    """Sticking the landing (Roeder, Wu & Duvenaud 2017): SGVB-A without the score. Unbiased.

    The score −∂_φ log q that is left out has mean zero. What remains is ∂log w/∂z. Where q is the
    posterior, log w does not depend on z, and every draw gives 0 for φ.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> STL().rule(log_w, share).score.ravel()          # s = 0
    array([0., 0.])
    """

    def rule(self, log_w, share):
        one = np.ones_like(log_w)
        return Rule(one, one, np.zeros_like(one))


@dataclass(frozen=True)
class _Importance(SampledEstimator):
    """An estimator of ∇L_K with K draws in the logarithm.

    Parameters
    ----------
    n_importance : int
        K.
    """

    n_importance: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        count = check_count("n_importance", self.n_importance)
        object.__setattr__(self, "n_importance", count)


@dataclass(frozen=True)
class IWAE(_Importance):
    """Gradient of the importance-weighted bound (Burda et al. 2015, §3). Unbiased.

    The total derivative of log (1/K) Σ w_k. As K grows the noise of its φ part grows
    beyond the signal: the signal-to-noise ratio falls as 1/√K (Rainforth et al. 2018).

    Parameters
    ----------
    n_importance : int
        K; with K = 1 this is `SGVBA`.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> IWAE(2).rule(log_w, share).score.ravel()          # s = −w̃
    array([-0.25, -0.75])
    """

    def rule(self, log_w, share):
        return Rule(share, np.ones_like(share), -share)


@dataclass(frozen=True)
class STLIWAE(_Importance):
    """IWAE without its score term (Roeder et al. 2017). Biased in φ for K > 1.

    Little noise, and a mean that is not ∇_φ L_K (Tucker et al. 2018); for θ it is `IWAE`.

    Parameters
    ----------
    n_importance : int
        K; with K = 1 this is `STL`.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> STLIWAE(2).rule(log_w, share).theta.ravel()          # a = w̃
    array([0.25, 0.75])
    """

    def rule(self, log_w, share):
        return Rule(share, np.ones_like(share), np.zeros_like(share))


@dataclass(frozen=True)
class DReG(_Importance):
    """Doubly reparameterized gradient of L_K (Tucker et al. 2018). Unbiased.

    The mean of IWAE's score term w̃_k ∂_φ log q can be reparameterized once more; together with
    the path that leaves w̃_k² ∂log w_k/∂z_k ∂z_k/∂φ. Where the weights have a finite fourth moment,
    its signal-to-noise ratio grows as √K; a q that is narrower than the posterior often has none
    (tutorial 10). For θ it is `IWAE`.

    Parameters
    ----------
    n_importance : int
        K; with K = 1 this is `STL`.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> DReG(2).rule(log_w, share).path.ravel()          # r = w̃
    array([0.25, 0.75])
    """

    def rule(self, log_w, share):
        return Rule(share, share, np.zeros_like(share))
