"""Checks of a VAE: of its gradients, and of a whole VAE of any origin, whose bugs are named."""

from .examine import check, examine, parametrize
from .findings import ClinicError, Finding, Report
from .gradcheck import (
    Check,
    central_difference,
    check_all,
    check_gradient,
    check_pullback,
    complex_step,
    relative_error,
)
from .subject import Subject, SubjectError

__all__ = [
    "Check",
    "ClinicError",
    "Finding",
    "Report",
    "Subject",
    "SubjectError",
    "central_difference",
    "check",
    "check_all",
    "check_gradient",
    "check_pullback",
    "complex_step",
    "examine",
    "parametrize",
    "relative_error",
]
