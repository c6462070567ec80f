"""Estimators whose forward and backward pass are one compiled function.

Each replaces an estimator of NumPy, with its objective and its gradient:

    CompiledSGVB → Estimator, Eq. (11);   CompiledIWAE → IWAE, L_K;   CompiledDReG → DReG, L_K

A model of which a part is not compiled is computed by NumPy, and a warning of one line says so.
The estimators share these parameters, and raise ImportError if Numba is not installed:

- `n_samples : int`, L, the number of terms averaged for each datapoint
- `n_importance : int`, K, the number of draws inside one logarithm
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ..core.elbo import Estimate, Estimator
from ..core.vae import VAE
from ..estimators.closed import SGVBB
from ..estimators.sampled import IWAE, DReG
from ..estimators.weight_prior import WithWeightPrior
from .loading import needing_numba
from .model import CompiledVAE, not_compiled
from .parts import activation_kind, array_for, constants, likelihood_kind, ready

__all__ = ["CompiledDReG", "CompiledIWAE", "CompiledSGVB", "compiled_estimator"]


@cache  # so that a step does not execute an import statement
def _whole(who: str) -> Any:
    """Return the module with the compiled step."""
    with needing_numba(who):
        from . import whole
    return whole


class Compiled(Estimator):
    """What the compiled estimators share: `estimate` in one compiled function."""

    _flags = (False, False, False)  # sampled, squared, scored, as in `whole.coefficients`

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(type(self).__name__)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        if (missing := not_compiled(vae)) is not None:
            if not isinstance(vae, CompiledVAE):  # `compiled` has said it
                warnings.warn(f"{type(self).__name__}: {missing}; NumPy computes it", stacklevel=2)
            return super().estimate(vae, x, eps, update)
        flat, D, J = vae.parameters.flat, vae.data_dim, vae.latent_dim
        x = array_for("x", x, (len(x), D), flat.dtype)
        eps = array_for("eps", eps, (self.n_draws, len(x), J), flat.dtype)
        (up, _), (down, _) = vae.architecture.networks().values()
        gradient = vae.parameters.empty_gradient(update)
        kinds = activation_kind(vae.activation), likelihood_kind(vae.likelihood)
        objective, reconstruction, kl = _whole(type(self).__name__).step(
            *(ready(flat), gradient.flat, x, eps.reshape(-1, J), np.array(up), np.array(down)),
            *(vae.parameters.phi.size, kinds, *constants(vae.likelihood, x), self.n_importance),
            (*self._flags, update != "theta", update != "phi"),
        )
        return Estimate(objective, reconstruction, kl, gradient)


@dataclass(frozen=True)
class CompiledSGVB(Compiled):
    """The ELBO of Eq. (11) with its gradient in one compiled function: `Estimator`, but faster.

    Examples
    --------
    >>> fit(vae, x, estimator=CompiledSGVB(), optimizer=CompiledAdam())  # doctest: +SKIP
    """


@dataclass(frozen=True)
class CompiledIWAE(Compiled, IWAE):
    """`estimators.IWAE` in one compiled function.

    Examples
    --------
    >>> fit(vae, x, estimator=CompiledIWAE(50))                          # doctest: +SKIP
    """

    _flags = (True, False, True)


@dataclass(frozen=True)
class CompiledDReG(Compiled, DReG):
    """`estimators.DReG` in one compiled function.

    Examples
    --------
    >>> fit(vae, x, estimator=CompiledDReG(50))                          # doctest: +SKIP
    """

    _flags = (True, True, False)


def compiled_estimator(estimator: Estimator) -> Estimator:
    """Return the compiled estimator of the same objective and gradient, or `estimator` itself.

    Inside `WithWeightPrior`, the estimator that it has is compiled.

    Parameters
    ----------
    estimator : Estimator

    Returns
    -------
    estimator : Estimator

    Raises
    ------
    ImportError
        If Numba is not installed.

    Warns
    -----
    UserWarning
        If the estimator is not compiled.

    Examples
    --------
    >>> from numpyvae.estimators import IWAE
    >>> compiled_estimator(IWAE(50))                                     # doctest: +SKIP
    CompiledIWAE(n_importance=50, n_samples=1)
    """
    if isinstance(estimator, Compiled):
        return estimator
    if isinstance(estimator, WithWeightPrior):
        return replace(estimator, estimator=compiled_estimator(estimator.estimator))
    L, K = estimator.n_samples, estimator.n_importance
    if type(estimator) is Estimator or estimator == SGVBB(n_samples=L):
        return CompiledSGVB(n_samples=L)
    if type(estimator) is IWAE:
        return CompiledIWAE(K, n_samples=L)
    if type(estimator) is DReG:
        return CompiledDReG(K, n_samples=L)
    warnings.warn(
        f"compiled_estimator: expected the plain ELBO, IWAE or DReG to compile, got {estimator}; "
        "NumPy computes its step, and only the model is compiled",
        stacklevel=2,
    )
    return estimator
