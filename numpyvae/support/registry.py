"""Names of parts: how a model file leads back to an activation or a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from .checks import shown

__all__ = ["check_findable", "check_form", "find_numbered", "name_of", "register"]


def register(kind: str, table: dict[str, Any], name: str, part: Any) -> None:
    """Enter `part` in `table` under `name`; raise ValueError if another module has that name.

    The same module may enter it again, as a notebook does whose cell is run twice.
    """
    known = table.get(name, part)
    if known.__module__ != part.__module__:
        raise ValueError(
            f"{kind}: expected a new name, got {name!r}, which is that of a {kind} in "
            f"{known.__module__}; rename yours"
        )
    table[name] = part


def check_findable(kind: str, name: str, part: Any, find: Callable[[str], Any]) -> None:
    """Raise ValueError unless `find(name)` is `part`, so that a saved model can be loaded."""
    with suppress(ValueError):
        if find(name) == part:
            return
    raise ValueError(
        f"{kind}: expected one that VAE.load can find by its name, got {shown(part)}, which "
        f"{name!r} does not lead to; decorate it with numpyvae.register_{kind}, in a module "
        "imported before load"
    )


def check_form(f: Callable) -> Callable:
    """Return `f` if it has the form `y, pull = f(x)`, which `numpy.tanh` does not have."""
    one = np.zeros((1, 1))
    with suppress(TypeError, ValueError):
        y, pull = f(one)
        if np.shape(y) == np.shape(pull(one)) == one.shape:
            return f
    raise ValueError(
        f"activation: expected a function y, pull = f(x) of an array, with pull(dy) -> dx, got "
        f"{shown(f)}; see numpyvae.core.layers.tanh"
    )


def name_of(activation: Any) -> str:
    """Return the name under which an activation is found."""
    return getattr(activation, "__name__", type(activation).__name__)


def find_numbered(table: Mapping[str, Callable], name: str) -> Any:
    """Make the part that `name` says, or return None.

    A key of `table` is a whole name, or a name with a number: "binomial:16" is made by the entry
    "binomial:N", which is called with 16.
    """
    family, _, number = name.partition(":")
    with suppress(ValueError, TypeError):
        if name in table:
            return table[name]()
        for pattern, kind in table.items():
            if pattern.partition(":")[0] == family and pattern.partition(":")[2].isupper():
                return kind(int(number) if number.isdecimal() else float(number))
    return None
