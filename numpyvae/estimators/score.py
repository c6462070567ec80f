"""The score function estimator (REINFORCE, Williams 1992), without a gradient through z.

    ∇_φ ELBO = E_q[(log w − b) ∂_φ log q_φ(z|x)],   log w = log p_θ(x, z) − log q_φ(z|x)

It needs only the derivative of log q in φ, so z could be discrete; but its variance is large. The
control variate is b ∂_φ log q. Its mean is zero, since E_q[∂_φ log q] = ∂_φ ∫ q = 0, *if the
baseline b does not depend on this draw of z*. Two such baselines:

- a constant, for example the objective of the previous step;
- leave-one-out: for draw l the mean of log w over the other L − 1 draws, which are independent of
  draw l given x (Mnih & Rezende 2016; Kool et al. 2019). The mean over all L draws contains
  draw l, and multiplies the mean gradient by (L − 1)/L.

- `n_samples : int`, L, the number of terms averaged for each datapoint
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.elbo import Estimate
from ..core.vae import VAE
from .sampled import Rule, SampledEstimator

__all__ = ["LEAVE_ONE_OUT", "ScoreFunction"]

LEAVE_ONE_OUT = "leave-one-out"


@dataclass(frozen=True)
class ScoreFunction(SampledEstimator):
    """Score function estimator of ∇ELBO, with or without a control variate. Unbiased.

    For θ it is `SGVBA`, because the gradient of the decoder needs no score.

    ∇_φ ELBO = E_q[(log w − b) ∂_φ log q_φ(z|x)]   (Williams 1992)

    Parameters
    ----------
    baseline : {"leave-one-out"} or float
        b in nats per datapoint: computed from the other draws (L ≥ 2), or a constant. With 0 there
        is no control variate.

    Raises
    ------
    ValueError
        If `baseline` is not one of these, or there are too few draws for it.

    Examples
    --------
    >>> import numpy as np
    >>> from numpyvae import VAE
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> estimator = ScoreFunction("leave-one-out", n_samples=3)
    >>> eps = np.random.default_rng(0).standard_normal((estimator.n_draws, 1, 2))
    >>> estimator(vae, [[0, 1, 1, 0]], eps).gradient.flat.shape == vae.parameters.flat.shape
    True
    """

    baseline: str | float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.baseline, str) and self.baseline == LEAVE_ONE_OUT:
            if self.n_samples < 2:
                raise ValueError(
                    f"n_samples: expected at least 2 draws for the baseline {LEAVE_ONE_OUT!r}, "
                    f"got {self.n_samples}; draw more, or set a constant baseline"
                )
            return
        try:
            number = float(self.baseline)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(
                f"baseline: expected {LEAVE_ONE_OUT!r} or a finite number of nats, "
                f"got {self.baseline!r}"
            )
        object.__setattr__(self, "baseline", number)

    def __call__(self, vae: VAE, x: Any, eps: Any, update: str = "both") -> Estimate:
        if self.baseline == LEAVE_ONE_OUT and np.ndim(eps) == 3 and len(eps) < 2:
            raise ValueError(
                f"eps: expected at least 2 draws for {LEAVE_ONE_OUT!r}, got {len(eps)}"
            )
        return super().__call__(vae, x, eps, update)

    def rule(self, log_w: np.ndarray, share: np.ndarray) -> Rule:
        if self.baseline == LEAVE_ONE_OUT:
            L = len(log_w)
            # log w_l − mean of the others = (log w_l − mean of all) L/(L − 1)
            signal = (log_w - log_w.mean(axis=0)) * (L / (L - 1))
        else:
            signal = log_w - self.baseline
        return Rule(np.ones_like(log_w), None, signal)
