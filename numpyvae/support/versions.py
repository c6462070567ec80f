"""The versions and the machine behind a result, to be kept with it.

Floating-point results are equal to the last bit only for the same libraries on the same kind of
machine. If a result cannot be reproduced exactly, this record shows what differs.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from importlib import metadata
from typing import Any

import numpy as np

from .checks import row_blocks

__all__ = ["array_fingerprint", "installed", "provenance", "show_versions", "versions_text"]


def provenance(version: str, *more: str) -> dict[str, object]:
    """Return versions, machine type, and the BLAS with its thread count.

    Matrix products are not bit-equal across BLAS libraries, thread counts or CPU types, so
    results are promised to the bit only where all of this is equal.

    Parameters
    ----------
    version : str
        The version of numpyvae. The caller knows it even if the package is not installed.
    *more : str
        Further packages that were used.
    """
    from threadpoolctl import threadpool_info

    packages = ("numpy", "scipy", "matplotlib", *more)
    blas = [
        {key: pool.get(key) for key in ("internal_api", "version", "num_threads", "architecture")}
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    return {
        "versions": {"python": platform.python_version(), "numpyvae": version}
        | {name: _version(name) for name in packages},
        "machine": platform.machine(),
        "blas": sorted(blas, key=str),  # in an order that does not change from start to start
        "blas_threads": max((pool["num_threads"] for pool in blas), default=None),
    }


def _version(package: str) -> str:
    """Return the installed version of a package, or the `__version__` of its loaded module."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # files on the path that are not installed
        return str(getattr(sys.modules.get(package), "__version__", "unknown"))


_DEVELOPMENT = {"test", "lint", "docs", "browser", "bench", "release"}  # extras of contributors


def installed(version: str) -> dict[str, Any]:
    """Return `provenance` with the system, and the versions of packages that extras bring.

    Parameters
    ----------
    version : str
        The version of numpyvae.

    Returns
    -------
    found : dict
        In `found["extras"]`, None stands for a package that is not installed. Without metadata of
        numpyvae, as in a checkout that is not installed, there are none.

    Examples
    --------
    >>> installed("1.2.3")["versions"]["numpyvae"]
    '1.2.3'
    """
    try:
        lines = metadata.requires("numpyvae") or []
    except metadata.PackageNotFoundError:
        lines = []
    extras: dict[str, str | None] = {}
    for line in lines:  # as 'tqdm; extra == "progress"'
        named = re.match(r"""([\w.-]+).*;.*extra == ["']([\w-]+)["']""", line)
        if named and named[2] not in _DEVELOPMENT:
            extras[named[1]] = None if _version(named[1]) == "unknown" else _version(named[1])
    system = {"executable": sys.executable, "platform": platform.platform()}
    found = provenance(version, "threadpoolctl")
    return found | {"system": system, "extras": dict(sorted(extras.items()))}


def versions_text(found: dict[str, Any]) -> str:
    """Return what `installed` found as lines for a report of a bug."""
    parts = {
        "System": found["system"],
        "Packages": found["versions"],
        "Extras": {name: version or "not installed" for name, version in found["extras"].items()},
        "BLAS": {
            f"{pool['internal_api']} {pool['version']}": f"{pool['architecture']} kernel, "
            f"threads: {pool['num_threads']}"
            for pool in found["blas"]
        },
    }
    width = max(len(name) for part in parts.values() for name in part)
    lines = []
    for title, part in parts.items():
        lines += [title, *(f"    {name:{width}}  {value}" for name, value in part.items())]
    return "\n".join(lines)


def show_versions() -> None:
    """Print the versions of numpyvae, Python, the packages and the BLAS, for a report of a bug.

    Examples
    --------
    >>> show_versions()                                                  # doctest: +ELLIPSIS
    System
    ...
    """
    package = sys.modules[__name__.partition(".")[0]]
    print(versions_text(installed(package.__version__)))


def array_fingerprint(x: np.ndarray) -> dict[str, Any]:
    """Return shape, dtype and SHA-256 of an array, which is read in blocks.

    Examples
    --------
    >>> array_fingerprint(np.zeros((2, 3), np.uint8))["dtype"]
    '|u1'
    """
    digest = hashlib.sha256()
    for block in row_blocks(x):
        digest.update(np.ascontiguousarray(block).data)
    return {"shape": list(x.shape), "dtype": x.dtype.str, "sha256": digest.hexdigest()}
