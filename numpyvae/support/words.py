"""A seed of a bit generator whose words are already random. It loads `numpy.random`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

__all__ = ["Words"]


class Words(ISeedSequence):
    """A seed that gives the words it was made of, as a digest is random enough itself.

    Examples
    --------
    >>> Words(np.array([3, 1, 2], np.uint64)).generate_state(3).tolist()
    [3, 1, 2]
    """

    def __init__(self, words: np.ndarray) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:
        """Return the words, whose number and dtype are those that SFC64 asks for."""
        return self._words
