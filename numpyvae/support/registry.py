"""Names of parts: how a model file leads back to an activation or a likelihood."""

from __future__ import annotations

from typing import Any

__all__ = ["register"]


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
