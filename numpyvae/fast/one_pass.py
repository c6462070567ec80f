"""What the compiled optimizers have in common: flat ← flat + step(g, state), in one pass."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np

from ..core.optimizers import Optimizer, State
from .loading import needing_numba

__all__ = ["OnePass", "loop"]


class OnePass:
    """A mixin: list it before an optimizer among the base classes.

    A compiled loop computes a step and adds it in one pass. A parameter whose new value is not
    finite is left as it is, and `ascend` then returns the step.
    """

    kernel: ClassVar[str]  # the name of the loop in `optimizer_kernels`

    def __post_init__(self: Any) -> None:
        Optimizer.__post_init__(self)
        with needing_numba(type(self).__name__):
            loop(self.kernel)

    def numbers(self, t: int, rate: float) -> tuple[float, ...]:
        """Return the numbers that the loop takes in step t."""
        raise NotImplementedError

    def last_step(self, g: np.ndarray, state: State, *numbers: Any) -> np.ndarray:
        """Return the step (P,) that was just taken, from the state after it."""
        raise NotImplementedError

    def ascend(
        self: Any, flat: np.ndarray, gradient: np.ndarray, state: State, scale: float = 1.0
    ) -> np.ndarray | None:
        """Add the step to `flat` (P,); return it if a new value is not finite."""
        state["t"] += 1
        return self._pass(flat, self.clipped(gradient), state, float(scale) * self.learning_rate)

    def compute_step(self, g: np.ndarray, state: State, rate: float) -> np.ndarray:
        """Return the step (P,) for a gradient g (P,), and update `state`."""
        step = np.zeros_like(g)
        failed = self._pass(step, g, state, rate)
        return step if failed is None else failed

    def _pass(
        self: Any, flat: np.ndarray, g: np.ndarray, state: State, rate: float
    ) -> np.ndarray | None:
        """Add the step to `flat`, where the sum is finite; return it if a sum is not."""
        vectors = {"gradient": g, "parameters": flat} | {s: state[s] for s in self.slots}
        size = state[self.slots[0]].size
        for name, vector in vectors.items():
            if vector.shape != (size,) or vector.dtype.kind != "f":  # unchecked by the loop
                raise ValueError(
                    f"{name}: expected a vector of {size} floats, as in the state of "
                    f"{type(self).__name__}, got {vector.dtype} of shape {vector.shape}"
                )
        numbers = [g.dtype.type(number) for number in self.numbers(int(state["t"]), rate)]
        if loop(self.kernel)(g, *(state[s] for s in self.slots), flat, *numbers):
            return self.last_step(g, state, *numbers)
        return None


@cache  # so that a step does not execute an import statement
def loop(name: str) -> Any:
    """Return a compiled loop."""
    from . import optimizer_kernels

    return getattr(optimizer_kernels, name)
