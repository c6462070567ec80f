"""Adam in one pass over memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..core.optimizers import Adam, State
from .loading import needing_numba

__all__ = ["CompiledAdam"]


@dataclass(frozen=True)
class CompiledAdam(Adam):
    """`optimizers.Adam` in one pass over memory; the parameters have the same bits.

    In its state, entries below the smallest normal number are 0: to compute with them takes many
    times longer. The same pass adds the step to the parameters. If some entries of a step are not
    finite, `ascend` does not add these entries, so that all parameters stay finite; `fit` then
    restores the last finite parameters, as with `Adam`.

    Parameters
    ----------
    learning_rate, beta1, beta2, eps, clip_norm : float
        As for `Adam`.

    Raises
    ------
    ImportError
        If Numba is not installed.
    TypeError, ValueError
        If a setting is not valid for Adam; in a step, if the gradient is not a vector of floats
        with the size of the parameters and of the state.

    Examples
    --------
    >>> adam = CompiledAdam(learning_rate=3e-4)                          # doctest: +SKIP
    >>> history = fit(vae, x, epochs=20, optimizer=adam)                 # doctest: +SKIP
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _kernel()

    def ascend(
        self, flat: np.ndarray, gradient: np.ndarray, state: State, scale: float = 1.0
    ) -> np.ndarray | None:
        state["t"] += 1
        return self._pass(flat, self.clipped(gradient), state, float(scale) * self.learning_rate)

    def compute_step(self, g: np.ndarray, state: State, rate: float) -> np.ndarray:
        step = np.zeros_like(g)
        failed = self._pass(step, g, state, rate)
        return step if failed is None else failed

    def _pass(
        self, flat: np.ndarray, g: np.ndarray, state: State, rate: float
    ) -> np.ndarray | None:
        """Add the steps to `flat`; return them if a step or a new parameter is not finite."""
        t, m, v = int(state["t"]), state["m"], state["v"]
        for name, vector in (("gradient", g), ("parameters", flat), ("v", v)):
            if vector.shape != m.shape or vector.dtype.kind != "f":  # unchecked by the loop
                raise ValueError(
                    f"{name}: expected a vector of {m.size} floats, as in the state of Adam, got "
                    f"{vector.dtype} of shape {vector.shape}"
                )
        c1, c2 = 1 - self.beta1**t, 1 - self.beta2**t
        r = math.sqrt(c2 / (1 - self.beta2))
        numbers = (self.beta1, self.beta2, r * self.eps, rate * (1 - self.beta1) * r / c1)
        beta1, beta2, eps, rate = map(g.dtype.type, numbers)
        if _kernel()(g, m, v, flat, beta1, beta2, eps, rate):
            return m / (np.sqrt(v) + eps) * rate
        return None


@cache  # so that a step does not execute an import statement
def _kernel() -> Any:
    """Return the compiled loop."""
    with needing_numba("CompiledAdam"):
        from .adam_kernel import adam
    return adam
