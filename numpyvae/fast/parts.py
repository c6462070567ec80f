"""Which parts of a model can be compiled, and the numbers that stand for them in compiled code.

A part is recognized by the methods that compiled code replaces. So a subclass that overrides one
of them is never taken for the original.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..core import layers
from ..core.likelihoods import Binomial, FixedGaussian, GaussianHead, LearnedGaussian
from ..support.registry import name_of
from ..support.special import log_binomial_coefficient

__all__ = [
    "BINOMIAL",
    "FIXED",
    "HEAD",
    "LEARNED",
    "RELU",
    "SOFTPLUS",
    "TANH",
    "activation_kind",
    "array_for",
    "constants",
    "likelihood_kind",
    "methods",
    "part_not_compiled",
    "ready",
]

TANH, RELU, SOFTPLUS = range(3)
BINOMIAL, FIXED, LEARNED, HEAD = range(4)

_ACTIVATIONS = (layers.tanh, layers.relu, layers.softplus)


def activation_kind(activation: Any) -> int | None:
    """Return the number of the activation, or None if it is not compiled."""
    return next((i for i, f in enumerate(_ACTIVATIONS) if f is activation), None)


def methods(kind: type, *names: str) -> tuple:
    """Return the methods of a class with these names; None where it has none."""
    return tuple(getattr(kind, name, None) for name in names)


_OF_LIKELIHOOD = ("log_prob", "moments", "pull_moments")
_LIKELIHOODS = {
    methods(kind, *_OF_LIKELIHOOD): number
    for kind, number in (
        (Binomial, BINOMIAL),
        (FixedGaussian, FIXED),
        (LearnedGaussian, LEARNED),
        (GaussianHead, HEAD),
    )
}


@cache
def _kind(of: type) -> int | None:
    return _LIKELIHOODS.get(methods(of, *_OF_LIKELIHOOD))


def likelihood_kind(likelihood: Any) -> int | None:
    """Return the number of the likelihood, or None if it is not compiled."""
    # mypy takes no class for a hashable object
    return _kind(type(likelihood))  # type: ignore[arg-type]


def part_not_compiled(vae: Any) -> str | None:
    """Return which part of a model is not compiled, with what can be, or None if all are."""
    if activation_kind(vae.activation) is None:
        return f"expected tanh, relu or softplus to compile, got {name_of(vae.activation)}"
    if likelihood_kind(vae.likelihood) is None:
        return (
            "expected a bernoulli, binomial or gaussian likelihood to compile, got "
            f"{vae.likelihood.name}"
        )
    return None


def constants(likelihood: Any, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return n or log σ², and the part of log p(x|z) that depends on x alone, (B,)."""
    kind, constant = likelihood_kind(likelihood), np.zeros(len(x), x.dtype)
    if kind == FIXED:
        return 2 * math.log(likelihood.sigma), constant
    if kind != BINOMIAL:
        return 0.0, constant
    if likelihood.n != 1:
        constant += log_binomial_coefficient(x, likelihood.n)
    return float(likelihood.n), constant


def array_for(name: str, array: np.ndarray, shape: tuple, dtype: np.dtype) -> np.ndarray:
    """Return a `ready` array; raise ValueError if it has another shape or dtype.

    Compiled loops do not check indices.
    """
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name}: expected {dtype} of shape {shape}, got {array.dtype} of shape {array.shape}"
        )
    return ready(array)


def ready(array: np.ndarray) -> np.ndarray:
    """Return the array contiguous and writable, the one form for which functions are compiled."""
    return array if array.flags.carray else np.require(array, requirements=("C", "A", "W"))
