"""Run a benchmark without AVX-512 in all libraries, on a processor that has it."""

from __future__ import annotations

import os
import sys

LIMITS = {
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy and SciPy
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+f16c",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",  # JAX
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch, and its two libraries for products
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def limit_to_avx2(module: str, argv: list[str]) -> None:
    """Start the module again with these variables; return if they are set."""
    from numpy._core._multiarray_umath import __cpu_dispatch__

    names = [name for name in __cpu_dispatch__ if "512" in name or name == "X86_V4"]
    limits = LIMITS | {"NPY_DISABLE_CPU_FEATURES": " ".join(names)}
    if not limits.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", module, *argv], os.environ | limits)
