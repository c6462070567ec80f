"""Names of parts: how a model file leads back to an activation or a likelihood."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .checks import shown

__all__ = ["check_findable", "register"]


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
