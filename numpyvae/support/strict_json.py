"""JSON as its standard has it, without NaN and infinity, and files of it."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from .files import atomic_write

__all__ = ["to_json", "write_json"]


def to_json(value: Any, indent: int | None = None) -> str:
    """Return `value` as strict JSON: null for NaN and infinity, which JSON lacks.

    Examples
    --------
    >>> to_json({"kl": 1.5, "se": [math.nan]})
    '{"kl": 1.5, "se": [null]}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a file of strict JSON, which is replaced as a whole or not at all.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    """
    with atomic_write(path) as file:
        file.write(to_json(value, indent=2).encode() + b"\n")
