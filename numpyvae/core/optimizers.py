"""Optimizers on flat vectors, with their state in plain sight.

An optimizer turns a gradient g into the step that is added to the parameters (we ascend the
ELBO): `flat += optimizer.step(g, state)`. Its hyper-parameters never change; what changes is
`state`, a dict of arrays that can be looked at, saved with `numpy.savez` and handed back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ..support.checks import check_choice, check_positive

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "Momentum",
    "Optimizer",
    "RMSProp",
    "burda_schedule",
    "cosine_schedule",
    "make_optimizer",
]

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Optimizer:
    """What all have in common: a learning rate, and a state that starts at zero.

    parameters ← parameters + step(gradient, state).

    Parameters
    ----------
    learning_rate : float
        Scales every step.

    Raises
    ------
    TypeError, ValueError
        If a setting is not a number in range.

    Examples
    --------
    >>> optimizer, flat = Adam(), np.zeros(3)
    >>> state = optimizer.init(flat)
    >>> flat += optimizer.step(np.ones(3), state)
    >>> sorted(state), int(state["t"])
    (['m', 't', 'v'], 1)
    """

    learning_rate: float
    slots: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        # Python floats: a NumPy float64 among them would lift float32 arrays to float64.
        for setting in fields(self):
            value = check_positive(setting.name, getattr(self, setting.name))
            if setting.name in ("rho", "beta1", "beta2") and value >= 1:
                raise ValueError(f"{setting.name}: expected a number in (0, 1), got {value}")
            object.__setattr__(self, setting.name, value)

    def init(self, flat: np.ndarray) -> State:
        """Return the state before the first step, for parameters like `flat` (P,)."""
        return {"t": np.zeros((), np.int64)} | {s: np.zeros_like(flat) for s in self.slots}

    def step(self, gradient: np.ndarray, state: State, scale: float = 1.0) -> np.ndarray:
        """Return the step (P,) to add for `gradient` (P,), and advance `state` in place.

        `scale` multiplies the learning rate: that is where a schedule enters.
        """
        state["t"] += 1
        return self._step(gradient, state, float(scale) * self.learning_rate)

    def ascend(
        self, flat: np.ndarray, gradient: np.ndarray, state: State, scale: float = 1.0
    ) -> np.ndarray | None:
        """Add the step to `flat` (P,) in place, and return None.

        A step that is not finite is returned, and not added.
        """
        step = self.step(gradient, state, scale)
        if not math.isfinite(np.dot(step, step)):
            return step
        flat += step
        return None

    def _step(self, g: np.ndarray, state: State, rate: float) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient ascent: step = α g.

    Parameters
    ----------
    learning_rate : float
        α.

    Examples
    --------
    >>> optimizer = SGD(learning_rate=0.1)
    >>> state = optimizer.init(np.zeros(2))
    >>> optimizer.step(np.array([3.0, -0.5]), state).round(4)
    array([ 0.3 , -0.05])
    """

    learning_rate: float = 1e-3

    def _step(self, g, state, rate):
        return rate * g


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient ascent with memory (Polyak 1964): v ← ρ v + g; step = α v.

    Parameters
    ----------
    learning_rate : float
        α.
    rho : float
        ρ, in (0, 1).

    Examples
    --------
    >>> optimizer = Momentum(learning_rate=0.1, rho=0.5)
    >>> state = optimizer.init(np.zeros(1))
    >>> [round(float(optimizer.step(np.ones(1), state)[0]), 4) for _ in range(3)]  # to α/(1 − ρ)
    [0.1, 0.15, 0.175]
    """

    learning_rate: float = 1e-3
    rho: float = 0.9
    slots: ClassVar[tuple[str, ...]] = ("v",)

    def _step(self, g, state, rate):
        v = state["v"]
        v *= self.rho
        v += g
        return rate * v


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Duchi et al. 2011, used in Kingma & Welling 2013: s ← s + g²; step = α g/(√s + ε).

    Parameters
    ----------
    learning_rate : float
        α.
    eps : float
        ε, which keeps the quotient finite.

    Examples
    --------
    >>> optimizer = Adagrad(learning_rate=0.1)
    >>> state = optimizer.init(np.zeros(1))
    >>> [round(float(optimizer.step(np.ones(1), state)[0]), 4) for _ in range(4)]    # α/√t
    [0.1, 0.0707, 0.0577, 0.05]
    """

    learning_rate: float = 1e-2
    eps: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def _step(self, g, state, rate):
        s = state["sum"]
        s += g * g
        return rate * g / (np.sqrt(s) + self.eps)


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Tieleman & Hinton 2012: s ← ρ s + (1 − ρ) g²; step = α g/(√s + ε).

    Parameters
    ----------
    learning_rate : float
        α.
    rho : float
        ρ, in (0, 1).
    eps : float
        ε, which keeps the quotient finite.

    Examples
    --------
    >>> optimizer = RMSProp(learning_rate=0.1)
    >>> state = optimizer.init(np.zeros(2))
    >>> optimizer.step(np.array([3.0, -0.5]), state).round(4)          # α/√(1 − ρ) at first
    array([ 0.3162, -0.3162])
    """

    learning_rate: float = 1e-3
    rho: float = 0.9
    eps: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("mean",)

    def _step(self, g, state, rate):
        s = state["mean"]
        s *= self.rho
        s += (1 - self.rho) * (g * g)
        return rate * g / (np.sqrt(s) + self.eps)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma & Ba 2015, algorithm 1.

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²
    step = α m̂/(√v̂ + ε),  m̂ = m/(1 − β₁ᵗ),  v̂ = v/(1 − β₂ᵗ)

    The state holds M = m/(1 − β₁) and V = v/(1 − β₂), and with c_i = 1 − β_iᵗ

    M ← β₁ M + g;  V ← β₂ V + g²;  step = α (1 − β₁) r/c₁ · M/(√V + r ε),  r = √(c₂/(1 − β₂))

    is the same number with every constant factor taken out of the long loops: nine walks over the
    vector. It is walked in pieces that stay in the cache.

    Parameters
    ----------
    learning_rate : float
        α.
    beta1, beta2 : float
        β₁ and β₂, in (0, 1).
    eps : float
        ε, which keeps the quotient finite.

    Examples
    --------
    >>> optimizer = Adam(learning_rate=0.1)
    >>> state = optimizer.init(np.zeros(2))
    >>> optimizer.step(np.array([3.0, -0.5]), state).round(4)          # α at first, whatever g
    array([ 0.1, -0.1])
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def _step(self, g, state, rate):
        t = int(state["t"])
        c1, c2 = 1 - self.beta1**t, 1 - self.beta2**t
        r = math.sqrt(c2 / (1 - self.beta2))
        step = np.empty_like(g)
        for start in range(0, g.size, _PIECE):
            piece = slice(start, start + _PIECE)
            m, v, s = state["m"][piece], state["v"][piece], step[piece]
            m *= self.beta1
            m += g[piece]
            np.multiply(g[piece], g[piece], out=s)
            v *= self.beta2
            v += s
            np.sqrt(v, out=s)
            s += r * self.eps
            np.divide(m, s, out=s)
            s *= rate * (1 - self.beta1) * r / c1
        return step


_PIECE = 1 << 17  # elements: long enough to hide the calls, four arrays of 512 KiB in float32

OPTIMIZERS: dict[str, type[Optimizer]] = {
    c.__name__.lower(): c for c in (SGD, Momentum, Adagrad, RMSProp, Adam)
}


def make_optimizer(name: str | Optimizer, learning_rate: float | None = None) -> Optimizer:
    """Return an optimizer by name; an `Optimizer` passes through.

    By name each has the default settings of its class.

    Parameters
    ----------
    name : {"sgd", "momentum", "adagrad", "rmsprop", "adam"} or Optimizer
    learning_rate : float, optional
        The default of each is its own.

    Returns
    -------
    optimizer : Optimizer

    Raises
    ------
    TypeError, ValueError
        For another name, a bad rate, or a rate beside an `Optimizer` that has its own.

    Examples
    --------
    >>> make_optimizer("adam", 3e-4)
    Adam(learning_rate=0.0003, beta1=0.9, beta2=0.999, eps=1e-08)
    """
    if isinstance(name, Optimizer):
        if learning_rate is not None:
            raise ValueError("learning_rate: give it to the optimizer, not beside it")
        return name
    kind = OPTIMIZERS[check_choice("optimizer", name, tuple(OPTIMIZERS))]
    return kind() if learning_rate is None else kind(learning_rate)


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
        Takes the epochs done to a factor of the learning rate: `fit(schedule=factor)`.

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
        Epochs done.

    Returns
    -------
    factor : float
        Of the learning rate: `fit(schedule=burda_schedule)`.

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
