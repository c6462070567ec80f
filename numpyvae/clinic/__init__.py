"""Checks of a VAE. At present they check its gradients."""

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
    "central_difference",
    "check_all",
    "check_gradient",
    "check_pullback",
    "complex_step",
    "relative_error",
]
