"""Estimators in which every term is sampled: one formula with six rules for its coefficients.

With log w = log p_θ(x, z) − log q_φ(z|x) and z = μ + σ ε, the objective is L_K,

    E[log (1/K) Σ_k w_k]                      (Burda et al. 2015; K = 1 is the ELBO, Eq. (7))

and each estimator of its gradient is the average, over L samples and the batch, of

    Σ_k a_k ∂_θ log p_θ(x|z_k)                                            for θ
    Σ_k r_k a_k (∂log w_k/∂z_k) ∂z_k/∂φ + s_k ∂_φ log q_φ(z|x)|z=z_k      for φ

A rule contains the coefficients a, r (the factor of the path) and s (the factor of the score).
The estimators differ only in these. w̃_k = w_k/Σ w are the normalized weights:

    | estimator     | K   | a  | r | s                    | estimates          |
    | SGVBA         | 1   | 1  | 1 | −1                   | ∇ELBO              |
    | STL           | 1   | 1  | 1 | 0                    | ∇ELBO              |
    | ScoreFunction | 1   | 1  | – | log w − baseline     | ∇ELBO              |
    | IWAE          | any | w̃  | 1 | −w̃                   | ∇L_K               |
    | STLIWAE       | any | w̃  | 1 | 0                    | ∇L_K; biased for φ if K > 1 |
    | DReG          | any | w̃  | w̃ | 0                    | ∇L_K               |

The score ∂_φ log q has mean zero under q. So for K = 1, adding to s a number that does not depend
on the draw changes the variance of the estimate, but not its mean. For K > 1, w̃_k depends on the
draw, and leaving out s = −w̃ makes the estimate biased. DReG replaces this term by reparameterizing
it a second time.

The estimators share these parameters:

- `n_samples : int`, L, the number of terms averaged for each datapoint
- `n_importance : int`, K, the number of weights in each logarithm. With K = 1, IWAE is SGVBA, and
  STLIWAE and DReG are STL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.distributions import gaussian_kl
from ..core.elbo import Estimate, Estimator
from ..core.vae import VAE
from ..support.checks import check_count
from .base import Pass

__all__ = ["IWAE", "SGVBA", "STL", "STLIWAE", "DReG", "Rule", "normalized_weights"]


class Rule(NamedTuple):
    """The coefficients of the draws in the formula of the module's docstring.

    Attributes
    ----------
    theta : (L, K, B) array
        a, the factor of ∂_θ log p_θ(x|z).
    path : (L, K, B) array, optional
        r; the factor of the path is r a. With None there is no gradient through z.
    score : (L, K, B) array
        s, the factor of the score ∂_φ log q_φ(z|x) at fixed z.
    """

    theta: np.ndarray
    path: np.ndarray | None
    score: np.ndarray


def normalized_weights(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithm of the mean weight, and the normalized weights, over the second axis.

    log (1/K) Σ_k w_k = m + log (1/K) Σ_k e^(log w_k − m),  w̃_k = e^(log w_k − m)/Σ e^(…)

    If m is the largest log w_k, the largest exponential is 1, so nothing overflows and the sum is
    not 0. The mean is that of the weights, not of their logarithms. `log_mean_exp` does the first
    part in float64; here the dtype is that of the model.

    Parameters
    ----------
    log_w : (L, K, B) array

    Returns
    -------
    log_mean_w : (L, B) array
        Nats.
    share : (L, K, B) array
        w̃, which sums to 1 over K.
    """
    top = log_w.max(axis=1, keepdims=True)
    share = np.exp(log_w - top)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    return (top + np.log(total / log_w.shape[1]))[:, 0], share


class SampledEstimator(Estimator):
    """The formula of the module's docstring; each subclass defines its `rule`."""

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        """Return the coefficients, from log w and w̃, both (L, K, B)."""
        raise NotImplementedError

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        run = Pass(vae, x, eps)
        log_w = run.log_w.reshape(-1, self.n_importance, len(x))  # (L·K, B) → (L, K, B)
        objective, share = normalized_weights(log_w)
        # Coefficients as rows (L·K, B); a and s are divided by L·B for the mean.
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
    """Return the derivatives of log p(z) and log q_φ(z|x) in z, μ and log σ².

    The coefficients are (L·K, B). The derivative of the prior in z is −a z. The derivatives of
    log q come from the path and from the score; with c = r a + s:

    path,  −r a ∂log q/∂z = r a ε/σ:  dμ = Σ r a ε/σ,  d log σ² = ½ Σ r a ε²
    score,  s ∂_φ log q:              dμ = Σ s ε/σ,    d log σ² = ½ Σ s (ε² − 1)
    sum:                              dμ = Σ c ε/σ,    d log σ² = ½ Σ (c ε² − s)

    r a and s are added before the division by σ. For the total derivatives (SGVBA, IWAE) they
    cancel exactly, c = 0, for every σ.
    """
    eps = run.eps
    c = (s if r is None else r * a + s)[..., None]
    dmu = (c * eps).sum(axis=0) * np.exp(-0.5 * run.logvar)
    dlogvar = 0.5 * (c * eps * eps - s[..., None]).sum(axis=0)
    return -a[..., None] * run.z, dmu, dlogvar


@dataclass(frozen=True)
class SGVBA(SampledEstimator):
    """Every term sampled, Eq. (7): estimator A of Kingma & Welling 2013, §2.3. Unbiased.

    It uses the total derivative of log w in φ, which includes the score of q.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> SGVBA().rule(log_w, share).score.ravel()          # s = −1
    array([-1., -1.])
    """

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        one = np.ones_like(log_w)
        return Rule(one, one, -one)


@dataclass(frozen=True)
class STL(SampledEstimator):
    """Sticking the landing (Roeder, Wu & Duvenaud 2017): SGVB-A without the score. Unbiased.

    The score −∂_φ log q, which is left out, has mean zero. The rest is ∂log w/∂z · ∂z/∂φ. If q is
    the posterior, log w does not depend on z, and the gradient in φ is 0 for every draw.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> STL().rule(log_w, share).score.ravel()          # s = 0
    array([0., 0.])
    """

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        one = np.ones_like(log_w)
        return Rule(one, one, np.zeros_like(one))


@dataclass(frozen=True)
class _Importance(SampledEstimator):
    """An estimator of ∇L_K, with the mean of K weights inside the logarithm."""

    n_importance: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        count = check_count("n_importance", self.n_importance)
        object.__setattr__(self, "n_importance", count)


@dataclass(frozen=True)
class IWAE(_Importance):
    """Gradient of the importance-weighted bound (Burda et al. 2015, §3). Unbiased.

    It uses the total derivative of log (1/K) Σ w_k. For φ its signal-to-noise ratio decreases as
    1/√K (Rainforth et al. 2018).

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> IWAE(2).rule(log_w, share).score.ravel()          # s = −w̃
    array([-0.25, -0.75])
    """

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        return Rule(share, np.ones_like(share), -share)


@dataclass(frozen=True)
class STLIWAE(_Importance):
    """IWAE without its score term (Roeder et al. 2017). Biased in φ for K > 1.

    It has little noise, but its mean is not ∇_φ L_K (Tucker et al. 2018). For θ it is `IWAE`.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> STLIWAE(2).rule(log_w, share).theta.ravel()          # a = w̃
    array([0.25, 0.75])
    """

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        return Rule(share, np.ones_like(share), np.zeros_like(share))


@dataclass(frozen=True)
class DReG(_Importance):
    """Doubly reparameterized gradient of L_K (Tucker et al. 2018). Unbiased.

    The score term w̃_k ∂_φ log q of IWAE is reparameterized, too. Its sum with the path term is
    w̃_k² ∂log w_k/∂z_k ∂z_k/∂φ. If the weights have a finite fourth moment, the signal-to-noise
    ratio grows as √K. If q is narrower than the posterior, they often do not (tutorial 10). For θ
    it is `IWAE`.

    Examples
    --------
    >>> log_w = np.log([[[1.0], [3.0]]])                  # (L, K, B) = (1, 2, 1)
    >>> _, share = normalized_weights(log_w)
    >>> DReG(2).rule(log_w, share).path.ravel()          # r = w̃
    array([0.25, 0.75])
    """

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        return Rule(share, share, np.zeros_like(share))
