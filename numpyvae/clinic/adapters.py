"""What the adapters of all frameworks share: the seed of a call, and results as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..support.streams import Purpose, stream

__all__ = ["Seeds", "as_numpy", "named_blocks"]


class Seeds:
    """The seeds of calls: that of the first call after `set` is given, the next ones are others.

    So no global random state is needed between two calls, and none is changed.

    Examples
    --------
    >>> seeds = Seeds()
    >>> seeds.set(5)
    >>> first = seeds.next(), seeds.next()
    >>> seeds.set(5)
    >>> first == (seeds.next(), seeds.next()), first[0]
    (True, 5)
    """

    def __init__(self) -> None:
        self._number, self._count = 0, 0

    def set(self, number: int) -> None:
        """Begin anew with this seed."""
        self._number, self._count = int(number), 0

    def next(self) -> int:
        """Return the seed of the next call."""
        count = self._count
        self._count += 1
        if not count:
            return self._number
        return int(stream(self._number, Purpose.CLINIC, count).integers(1 << 31))


def as_numpy(value: Any, convert: Callable = np.asarray) -> Any:
    """Return the arrays of an array, or of a tuple or list of arrays, as NumPy arrays.

    Parameters
    ----------
    value : array, or tuple or list of arrays
    convert : callable
        Converts one array of the framework.

    Returns
    -------
    arrays : array or tuple of arrays

    Examples
    --------
    >>> as_numpy([1.0, np.ones(2)])
    (array(1.), array([1., 1.]))
    """
    if isinstance(value, (tuple, list)):
        return tuple(as_numpy(part, convert) for part in value)
    return convert(value)


def named_blocks(names: list[str], arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays by name, where equal names get numbers.

    Parameters
    ----------
    names : list of str
    arrays : list of array

    Returns
    -------
    blocks : dict of str to array

    Examples
    --------
    >>> list(named_blocks(["W", "W"], [np.ones(1), np.ones(1)]))
    ['W', 'W (2)']
    """
    blocks: dict[str, np.ndarray] = {}
    for name, array in zip(names, arrays):
        count = 1 + sum(n == name or n.startswith(f"{name} (") for n in blocks)
        blocks[name if count == 1 else f"{name} ({count})"] = array
    return blocks
