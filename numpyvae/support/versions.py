"""What a result was made with: floating point is repeatable only on the same stack."""

from __future__ import annotations

import platform
from importlib import metadata

__all__ = ["provenance"]


def provenance(*more: str) -> dict[str, object]:
    """Return versions, machine type, and the BLAS with its thread count.

    Matrix products are not bit-equal across BLAS libraries, thread counts or CPU types, so
    results are promised to the bit only where all of this is equal.

    Parameters
    ----------
    *more : str
        Packages that took part beside those that always do.
    """
    import numpy  # noqa: F401  (its BLAS must be loaded to be seen)
    from threadpoolctl import threadpool_info

    packages = ("numpyvae", "numpy", "scipy", "matplotlib", *more)
    blas = [
        {key: pool.get(key) for key in ("internal_api", "version", "num_threads", "architecture")}
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    return {
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
        "machine": platform.machine(),
        "blas": blas,
        "blas_threads": max((pool["num_threads"] for pool in blas), default=None),
    }
