"""Checks of a VAE: its gradients, and log p(x) of models that other libraries made."""

from .foreign import ForeignVAE
from .foreign_jax import foreign_from_jax
from .foreign_torch import foreign_from_torch
from .gradcheck import (
    Check,
    central_difference,
    check_all,
    check_gradient,
    check_pullback,
    complex_step,
    relative_error,
)

__all__ = [
    "Check",
    "ForeignVAE",
    "central_difference",
    "check_all",
    "check_gradient",
    "check_pullback",
    "complex_step",
    "foreign_from_jax",
    "foreign_from_torch",
    "relative_error",
]
