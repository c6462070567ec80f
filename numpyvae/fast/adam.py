"""Adam in one walk over memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..optimizers import Adam

__all__ = ["CompiledAdam"]


@dataclass(frozen=True)
class CompiledAdam(Adam):
    """`optimizers.Adam` in one walk over memory, to the same bits; its state is Adam's.

    Parameters
    ----------
    learning_rate, beta1, beta2, eps : float
        As for `Adam`.

    Raises
    ------
    ImportError
        If Numba is not installed.
    TypeError, ValueError
        If a setting is not what Adam can take.

    Examples
    --------
    >>> adam = CompiledAdam(learning_rate=3e-4)                          # doctest: +SKIP
    >>> history = fit(vae, x, epochs=20, optimizer=adam)                 # doctest: +SKIP
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        kernels("CompiledAdam")

    def _step(self, g, state, rate):
        t = int(state["t"])
        c1, c2 = 1 - self.beta1**t, 1 - self.beta2**t
        r = math.sqrt(c2 / (1 - self.beta2))
        step = np.empty_like(g)
        numbers = (self.beta1, self.beta2, r * self.eps, rate * (1 - self.beta1) * r / c1)
        adam = kernels("CompiledAdam").adam
        adam(g, state["m"], state["v"], step, *map(g.dtype.type, numbers))
        return step


def kernels(who: str):
    """Return the module `kernels`, or say that `who` needs Numba."""
    try:
        from . import kernels
    except ImportError as error:
        raise ImportError(
            f"{who}: expected Numba, which is not installed; "
            'pip install "numpyvae[fast]", or do without what is compiled'
        ) from error
    return kernels
