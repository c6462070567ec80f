"""Do distinct values stay distinct in float32? Time stamps do not."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["collapsed_columns"]

_ROWS = 4096  # rows that are looked at
_FEW = 1e-4  # a column is looked at if float32 resolves less than a part in 10⁴ of its range


def collapsed_columns(x: np.ndarray, dtype: Any) -> list[tuple[int, int, int]]:
    """Return the columns in which distinct values become equal in `dtype`.

    Parameters
    ----------
    x : (N, D) array
        No more than its first 4096 rows are looked at.
    dtype : floating dtype

    Returns
    -------
    found : list of (column, distinct values, distinct values that are left)
        The columns that lose more than 1 in 100.

    Examples
    --------
    >>> stamps = np.array([[1.7e9], [1.7e9 + 1], [1.7e9 + 2]])
    >>> collapsed_columns(stamps, "float32")
    [(0, 3, 1)]
    """
    dtype = np.dtype(dtype)
    if x.dtype.kind not in "fiu" or x.dtype.itemsize < 4 or x.dtype == dtype:
        return []
    rows = x[:_ROWS]
    low, high = rows.min(axis=0).astype(float), rows.max(axis=0).astype(float)
    coarse = np.maximum(np.abs(low), np.abs(high)) * np.finfo(dtype).eps > _FEW * (high - low)
    found = []
    for i in np.flatnonzero(coarse & (low < high)):
        column = rows[:, i]
        before, after = len(np.unique(column)), len(np.unique(column.astype(dtype)))
        if after < 0.99 * before:
            found.append((int(i), before, after))
    return found
