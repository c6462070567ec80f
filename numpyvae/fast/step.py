"""Estimators whose forward and backward pass are one compiled function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..core import layers
from ..core.elbo import Estimate, Estimator
from ..core.likelihoods import (
    Bernoulli,
    Binomial,
    FixedGaussian,
    GaussianHead,
    LearnedGaussian,
)
from ..core.vae import VAE
from ..estimators.closed import SGVBB
from ..estimators.sampled import IWAE, DReG
from ..support.special import log_binomial_coefficient
from .adam import kernels
from .model import CompiledBernoulli, CompiledBinomial

__all__ = ["CompiledDReG", "CompiledIWAE", "CompiledSGVB", "compiled_estimator"]

# The numbers by which the loops know the parts; what is not here is computed by NumPy.
_ACTIVATIONS = (layers.tanh, layers.relu, layers.softplus)
_LIKELIHOODS = (
    (Binomial, Bernoulli, CompiledBinomial, CompiledBernoulli),
    (FixedGaussian,),
    (LearnedGaussian,),
    (GaussianHead,),
)
_METHODS = ("encoder", "decoder", "log_likelihood")


@cache
def _whole(who: str):
    """Return the module `whole`, or say that `who` needs Numba."""
    kernels(who)
    from . import whole

    return whole


def _kinds(vae: VAE) -> tuple[int, int] | None:
    """Return the numbers of activation and likelihood, or None if a part is not compiled."""
    if any(getattr(type(vae), name) is not getattr(VAE, name) for name in _METHODS):
        return None
    if vae.parameters.flat.dtype not in (np.float32, np.float64):
        return None
    a = [i for i, f in enumerate(_ACTIVATIONS) if vae.activation == f]
    b = [i for i, types in enumerate(_LIKELIHOODS) if type(vae.likelihood) in types]
    return (a[0], b[0]) if a and b else None


def _constants(likelihood, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return n or log σ², and the part of log p(x|z) that depends on x alone, (B,)."""
    constant = np.zeros(len(x), x.dtype)
    if isinstance(likelihood, Binomial):
        if likelihood.n != 1:
            constant += log_binomial_coefficient(x, likelihood.n)
        return float(likelihood.n), constant
    if isinstance(likelihood, FixedGaussian):
        return 2 * math.log(likelihood.sigma), constant
    return 0.0, constant


def _array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return `array`, contiguous and writable; the loops check no bounds."""
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name}: expected {dtype} of shape {shape}, got {array.dtype} of shape {array.shape}"
        )
    return np.require(array, requirements=("C", "W"))


class Compiled(Estimator):
    """What the compiled estimators share: `estimate` in one compiled function.

    A model of which a part is not compiled is computed by NumPy: other activations than tanh, relu
    and softplus, other likelihoods than Bernoulli, Binomial and the Gaussians, own methods.
    """

    _flags = (False, False, False)  # sampled, squared, scored, as in `whole.coefficients`

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(type(self).__name__)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        kinds = _kinds(vae)
        if kinds is None:
            return super().estimate(vae, x, eps, update)
        whole = _whole(type(self).__name__)
        D, J, dtype = vae.data_dim, vae.latent_dim, vae.dtype
        x = _array("x", x, (len(x), D), dtype)
        eps = _array("eps", eps, (self.n_draws, len(x), J), dtype)
        (up, _), (down, _) = vae.architecture.networks().values()
        R = self.n_draws * len(x)
        gradient = vae.parameters.empty_gradient(update)
        number, constant = _constants(vae.likelihood, x)
        terms = whole.step(
            *(vae.parameters.flat, gradient.flat, x, eps.reshape(R, J)),
            *(np.array(up), np.array(down), vae.parameters.phi.size),
            *(kinds, number, constant, self.n_importance),
            (*self._flags, update != "theta", update != "phi"),
        )
        return Estimate(*terms, gradient)


@dataclass(frozen=True)
class CompiledSGVB(Compiled):
    """The ELBO of Eq. (11) with its gradient in one compiled function: `Estimator`, but faster.

    Parameters
    ----------
    n_samples : int
        L, the number of averages over draws of z for each datapoint.

    Raises
    ------
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> fit(vae, x, estimator=CompiledSGVB(), optimizer=CompiledAdam())  # doctest: +SKIP
    """


@dataclass(frozen=True)
class CompiledIWAE(Compiled, IWAE):
    """`estimators.IWAE` in one compiled function.

    Parameters
    ----------
    n_importance : int
        K, the number of draws inside one logarithm.
    n_samples : int
        L, the number of averages over them.

    Raises
    ------
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> fit(vae, x, estimator=CompiledIWAE(50))                          # doctest: +SKIP
    """

    _flags = (True, False, True)


@dataclass(frozen=True)
class CompiledDReG(Compiled, DReG):
    """`estimators.DReG` in one compiled function.

    Parameters
    ----------
    n_importance : int
        K, the number of draws inside one logarithm.
    n_samples : int
        L, the number of averages over them.

    Raises
    ------
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> fit(vae, x, estimator=CompiledDReG(50))                          # doctest: +SKIP
    """

    _flags = (True, True, False)


def compiled_estimator(estimator: Estimator) -> Estimator:
    """Return the compiled estimator of the same objective and gradient, or `estimator` itself.

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

    Examples
    --------
    >>> from numpyvae.estimators import STL
    >>> compiled_estimator(STL())                              # not compiled
    STL(n_samples=1)
    """
    L, K = estimator.n_samples, estimator.n_importance
    if type(estimator) is Estimator or estimator == SGVBB(n_samples=L):
        return CompiledSGVB(n_samples=L)
    kinds = {IWAE: CompiledIWAE, DReG: CompiledDReG}
    return kinds[type(estimator)](K, n_samples=L) if type(estimator) in kinds else estimator
