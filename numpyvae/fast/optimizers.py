"""Adam and Adagrad in one pass over memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..core.optimizers import Adagrad, Adam, Optimizer, State
from .one_pass import OnePass

__all__ = ["CompiledAdagrad", "CompiledAdam", "compiled_optimizer"]


@dataclass(frozen=True)
class CompiledAdam(OnePass, Adam):
    """`optimizers.Adam` in one pass over memory; the parameters have the same bits.

    M ← β₁ M + g;  V ← β₂ V + g²;  flat ← flat + α (1 − β₁) r/c₁ · M/(√V + r ε)

    r and c₁ are those of the second form in `Adam`. Entries of M and V below 16 times the smallest
    normal number become 0, because a processor computes many times more slowly with numbers below
    the smallest normal one. The same pass adds the step to the parameters, each where its new
    value is finite. If one is not, `ascend` returns the step, and `fit` restores the parameters
    from the start of an epoch and raises NonFiniteError, as with `Adam`.

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

    kernel = "adam"

    def numbers(self, t: int, rate: float) -> tuple[float, ...]:
        c1, c2 = 1 - self.beta1**t, 1 - self.beta2**t
        r = math.sqrt(c2 / (1 - self.beta2))
        return self.beta1, self.beta2, r * self.eps, rate * (1 - self.beta1) * r / c1

    def last_step(self, g: np.ndarray, state: State, *numbers: Any) -> np.ndarray:
        *_, eps, rate = numbers
        return state["m"] / (np.sqrt(state["v"]) + eps) * rate


@dataclass(frozen=True)
class CompiledAdagrad(OnePass, Adagrad):
    """`optimizers.Adagrad` in one pass over memory; the parameters have the same bits.

    s ← s + g²;  flat ← flat + α g/(√s + ε)

    The same pass adds the step to the parameters, each where its new value is finite. If one is
    not, `ascend` returns the step, and `fit` restores the parameters from the start of an epoch
    and raises NonFiniteError, as with `Adagrad`.

    Parameters
    ----------
    learning_rate, eps, clip_norm : float
        As for `Adagrad`.

    Raises
    ------
    ImportError
        If Numba is not installed.
    TypeError, ValueError
        If a setting is not valid for Adagrad; in a step, if the gradient is not a vector of floats
        with the size of the parameters and of the state.

    Examples
    --------
    >>> adagrad = CompiledAdagrad(learning_rate=0.01)                    # doctest: +SKIP
    >>> history = fit(vae, x, epochs=20, optimizer=adagrad)              # doctest: +SKIP
    """

    kernel = "adagrad"

    def numbers(self, t: int, rate: float) -> tuple[float, ...]:
        return rate, self.eps

    def last_step(self, g: np.ndarray, state: State, *numbers: Any) -> np.ndarray:
        rate, eps = numbers
        return rate * g / (np.sqrt(state["sum"]) + eps)


def compiled_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the compiled optimizer with the same settings, or `optimizer` itself.

    Parameters
    ----------
    optimizer : Optimizer

    Returns
    -------
    optimizer : Optimizer
        Compiled if it is an `Adam` or `Adagrad`.

    Raises
    ------
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> compiled_optimizer(Adagrad(0.1, clip_norm=5.0))                  # doctest: +SKIP
    CompiledAdagrad(learning_rate=0.1, clip_norm=5.0, eps=1e-08)
    """
    kinds: dict[type, type[Optimizer]] = {Adam: CompiledAdam, Adagrad: CompiledAdagrad}
    kind = kinds.get(type(optimizer))
    if kind is None:
        return optimizer
    return kind(**{f.name: getattr(optimizer, f.name) for f in fields(optimizer)})
