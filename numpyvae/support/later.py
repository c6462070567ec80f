"""Names that a package offers and loads when they are first used, so that it starts quickly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["later"]


def later(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions `__getattr__` and `__dir__` of a package (PEP 562).

    Python calls the first one for a name that the package does not have yet.

    Parameters
    ----------
    package : str
        Its `__name__`.
    names : dict of str to str
        The module below the package that defines each name; `{"ais": "ais"}` for a module itself.

    Examples
    --------
    >>> get, names = later("numpyvae", {"cubo": "bounds.upper", "bounds": "bounds"})
    >>> get("cubo").__module__, get("bounds").__name__
    ('numpyvae.bounds.upper', 'numpyvae.bounds')
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f".{names[name]}", package)
        return module if names[name] == name else getattr(module, name)

    return get, lambda: sorted({*vars(sys.modules[package]), *names})
