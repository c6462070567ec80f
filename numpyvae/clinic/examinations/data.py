"""The data: are they what their likelihood knows, and how are they coded?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..facts import Facts, skipped
from ..findings import RIGHT, Finding
from ..names import bug, unusual

__all__ = ["examine"]

_TITLE = "data: values"
_GRAY = 0.01  # the share of gray pixels that is told
_SIDE = 8  # the least side of a picture whose border is looked at


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the values of x belong to the likelihood, and whether its background is 1."""
    subject = facts.calls.subject
    if subject.x is None:
        yield skipped(_TITLE, "x is not given")
        return
    x = np.asarray(subject.x, dtype=float)
    most = float(subject.trials)
    found = f"x from {x.min():.4g} to {x.max():.4g}"
    if subject.family in ("gaussian", "custom"):
        yield Finding(_TITLE, RIGHT, found=found)
        return
    gray = float(np.mean(x != np.round(x)))
    allowed = "0 or 1" if most == 1 else f"0, 1, …, {most:g}"
    name = ""
    if x.min() < 0 or x.max() > most:
        name = "x outside the range of its likelihood"
    elif gray > _GRAY:
        name, found = (
            "gray pixels with a Bernoulli likelihood",
            f"{100 * gray:.0f} % are not whole",
        )
    elif most == 1 and _inverted(x):
        name, found = "inverted binarization", f"mean {x.mean():.2f}, of the border 1"
    if name:
        yield unusual(_TITLE, name, allowed, found)
    else:
        yield Finding(_TITLE, RIGHT, "", "", allowed, found, bug("(1−x) term missing").equation)


def _inverted(x: np.ndarray) -> bool:
    """Whether pictures have a border of ones, and more ones than zeros."""
    side = round(np.sqrt(x[0].size))
    shape = x.shape[-2:] if x.ndim > 2 else (side, side)
    if shape[0] * shape[1] != x[0].size or min(shape) < _SIDE:
        return False
    pictures = x.reshape(-1, *shape)
    edge = np.concatenate([pictures[:, [0, -1]].ravel(), pictures[:, :, [0, -1]].ravel()])
    return bool(edge.mean() > 0.95 and x.mean() > 0.6)
