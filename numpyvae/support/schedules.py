"""Schedules: factors of the learning rate as functions of the number of epochs, for `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable

from .checks import check_positive

__all__ = ["burda_schedule", "cosine_schedule"]


def cosine_schedule(epochs: float, final: float = 0.0) -> Callable[[float], float]:
    """Return a factor that falls from 1 to `final` along half a cosine over `epochs`.

    factor(t) = final + ½ (1 − final)(1 + cos πt/T)   (Loshchilov & Hutter 2017, §3, one cycle)

    Parameters
    ----------
    epochs : float
        T, after which the factor stays at `final`.
    final : float
        From 0 to 1.

    Returns
    -------
    factor : callable
        `factor(epochs)` of the learning rate after so many epochs: `fit(schedule=factor)`.

    Raises
    ------
    TypeError, ValueError
        If `epochs` is not a number above 0, or `final` is outside [0, 1].

    Examples
    --------
    >>> factor = cosine_schedule(10)
    >>> factor(0.0), round(factor(5.0), 3), factor(10.0)
    (1.0, 0.5, 0.0)
    """
    epochs = check_positive("epochs", epochs)
    if not 0 <= final <= 1:
        raise ValueError(f"final: expected a factor from 0 to 1, got {final}")

    def factor(epoch: float) -> float:
        fraction = min(epoch / epochs, 1.0)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * fraction))

    return factor


def burda_schedule(epoch: float) -> float:
    """Return the factor 10^(−i/7) for the 3^i passes of stage i = 0 … 7 (Burda et al. 2015).

    The stages end after 1, 4, 13, 40, 121, 364, 1093 and 3280 epochs.

    Parameters
    ----------
    epoch : float
        The number of epochs done.

    Returns
    -------
    factor : float
        The factor of the learning rate: `fit(schedule=burda_schedule)`.

    Examples
    --------
    >>> [round(burda_schedule(epoch), 3) for epoch in (0, 1, 4, 3279)]
    [1.0, 0.72, 0.518, 0.1]
    """
    stage, end = 0, 1
    while epoch >= end and stage < 7:
        stage += 1
        end += 3**stage
    return 10.0 ** (-stage / 7)
