"""Checks of a VAE of any origin: its bugs named, its gradients checked, its log p(x) bounded."""

from .as_model import model_of
from .examine import check, examine, parametrize
from .findings import ClinicError, Finding, Report
from .foreign import ForeignVAE
from .foreign_jax import foreign_from_jax
from .foreign_torch import foreign_from_torch
from .from_jax import from_jax
from .from_keras import from_keras
from .from_torch import from_torch
from .gradcheck import (
    Check,
    central_difference,
    check_all,
    check_gradient,
    check_pullback,
    complex_step,
    relative_error,
)
from .own import own_subjects, subject_of
from .subject import Subject, SubjectError

__all__ = [
    "Check",
    "ClinicError",
    "Finding",
    "ForeignVAE",
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
    "foreign_from_jax",
    "foreign_from_torch",
    "from_jax",
    "from_keras",
    "from_torch",
    "model_of",
    "own_subjects",
    "parametrize",
    "relative_error",
    "subject_of",
]
