"""Calls from the page: a name and arguments in JSON, and the answer in JSON with its arrays.

    text, arrays = call("train.epoch", '{"beta": 1}')

In the text an array is {"array": i, "shape": [...]}, where i is its place in the list of arrays.
"""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import numpy as np

__all__ = ["call", "pack"]


def call(name: str, arguments: str) -> tuple[str, list[np.ndarray]]:
    """Call `module.function` of this package with the arguments of a JSON object."""
    module, _, function = name.partition(".")
    found = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    return pack(found(**json.loads(arguments)))


def pack(value: Any) -> tuple[str, list[np.ndarray]]:
    """Return a value as JSON, and the arrays in it as contiguous float64 or text in JSON.

    Numbers that JSON does not have, NaN and infinities, become null.
    """
    arrays: list[np.ndarray] = []

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value, dtype=float).reshape(-1))
            return {"array": len(arrays) - 1, "shape": list(value.shape)}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return json.dumps(plain(value)), arrays
