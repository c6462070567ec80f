"""Is this VAE right? For now: are its gradients right?"""

from .gradcheck import (
    Check,
    central_difference,
    check_all,
    complex_step,
    dot_product_test,
    relative_error,
)

__all__ = [
    "Check",
    "central_difference",
    "check_all",
    "complex_step",
    "dot_product_test",
    "relative_error",
]
