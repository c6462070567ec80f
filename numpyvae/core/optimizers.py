"""Optimizers on flat vectors, whose state is a dict of arrays.

An optimizer turns a gradient g into the step that is added to the parameters (we ascend the
ELBO): `flat += optimizer.step(g, state)`. Its settings never change; `state` does. For another
optimizer, inherit from `Optimizer`, name its arrays in `slots`, and override `compute_step`.

Settings, which raise TypeError or ValueError if they are not numbers in their range:

- `learning_rate : float`, α, the factor of every step
- `clip_norm : float, optional`: a gradient with a longer norm is scaled down to this norm
- `rho : float`, ρ in (0, 1)
- `beta1 : float`, β₁ in (0, 1)
- `beta2 : float`, β₂ in (0, 1)
- `eps : float`, ε, which prevents a division by zero
- `centered : bool`, subtract g's mean m
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from ..support.checks import check_choice, check_settings

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "Momentum",
    "Optimizer",
    "RMSProp",
    "make_optimizer",
]

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Optimizer:
    """What all optimizers have: a learning rate, a limit to the gradient, a state from zeros.

    flat ← flat + step(g, state).

    Examples
    --------
    >>> optimizer, flat = Adam(), np.zeros(3)
    >>> state = optimizer.init(flat)
    >>> flat += optimizer.step(np.ones(3), state)
    >>> sorted(state), int(state["t"])
    (['m', 't', 'v'], 1)
    """

    learning_rate: float
    clip_norm: float | None = field(default=None, kw_only=True)
    slots: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(self, fractions=("rho", "beta1", "beta2"))

    def init(self, flat: np.ndarray) -> State:
        """Return the state before the first step, for parameters like `flat` (P,)."""
        return {"t": np.zeros((), np.int64)} | {s: np.zeros_like(flat) for s in self.slots}

    def step(self, gradient: np.ndarray, state: State, scale: float = 1.0) -> np.ndarray:
        """Return the step (P,) to add for `gradient` (P,), and advance `state` in place.

        `scale` is a schedule's factor of the learning rate.
        """
        state["t"] += 1
        return self.compute_step(self.clipped(gradient), state, float(scale) * self.learning_rate)

    def ascend(
        self, flat: np.ndarray, gradient: np.ndarray, state: State, scale: float = 1.0
    ) -> np.ndarray | None:
        """Add the step to `flat` (P,); if its squared norm is not finite, return it instead."""
        step = self.step(gradient, state, scale)
        if not math.isfinite(np.dot(step, step)):
            return step
        flat += step
        return None

    def clipped(self, gradient: np.ndarray) -> np.ndarray:
        """Return g · min(1, clip_norm/‖g‖) (Pascanu et al. 2013, §3.2)."""
        if self.clip_norm is None:
            return gradient
        norm = math.sqrt(np.dot(gradient, gradient))
        return gradient if norm <= self.clip_norm else gradient * (self.clip_norm / norm)

    def compute_step(self, g: np.ndarray, state: State, rate: float) -> np.ndarray:
        """Return the step (P,) number `state["t"]` for a gradient g (P,), and update `state`."""
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient ascent: step = α g.

    Examples
    --------
    >>> optimizer = SGD(learning_rate=0.1)
    >>> state = optimizer.init(np.zeros(2))
    >>> optimizer.step(np.array([3.0, -0.5]), state).round(4)
    array([ 0.3 , -0.05])
    """

    learning_rate: float = 1e-3

    def compute_step(self, g, state, rate):
        return rate * g


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient ascent with momentum (Polyak 1964): v ← ρ v + g; step = α v.

    Examples
    --------
    >>> optimizer = Momentum(learning_rate=0.1, rho=0.5)
    >>> state = optimizer.init(np.zeros(1))
    >>> [round(float(optimizer.step(np.ones(1), state)[0]), 4) for _ in range(3)]  # to α/(1 − ρ)
    [0.1, 0.15, 0.175]
    """

    learning_rate: float = 1e-3
    rho: float = 0.9
    slots = ("v",)

    def compute_step(self, g, state, rate):
        state["v"] *= self.rho
        state["v"] += g
        return rate * state["v"]


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Duchi et al. 2011, used in Kingma & Welling 2013: s ← s + g²; step = α g/(√s + ε).

    Examples
    --------
    >>> optimizer = Adagrad(learning_rate=0.1)
    >>> state = optimizer.init(np.zeros(1))
    >>> [round(float(optimizer.step(np.ones(1), state)[0]), 4) for _ in range(4)]    # α/√t
    [0.1, 0.0707, 0.0577, 0.05]
    """

    learning_rate: float = 1e-2
    eps: float = 1e-8
    slots = ("sum",)

    def compute_step(self, g, state, rate):
        state["sum"] += g * g
        return rate * g / (np.sqrt(state["sum"]) + self.eps)


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Tieleman & Hinton 2012: s ← ρ s + (1 − ρ) g²; step = α g/(√s + ε).

    Centered (Graves 2013): s ← ρ s + ρ (1 − ρ)(g − m)².

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
    centered: bool = False
    slots = property(lambda self: ("mean", "center")[: 1 + self.centered])

    def compute_step(self, g, state, rate):
        s, d, share = state["mean"], g, 1 - self.rho
        if self.centered:
            d = g - state["center"]
            state["center"] += share * d
            share *= self.rho
        s *= self.rho
        s += share * (d * d)
        return rate * g / (np.sqrt(s) + self.eps)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma & Ba 2015, algorithm 1.

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²
    step = α m̂/(√v̂ + ε),  m̂ = m/(1 − β₁ᵗ),  v̂ = v/(1 − β₂ᵗ)

    `state["m"]` is M = m/(1 − β₁), `state["v"]` is V = v/(1 − β₂). With c_i = 1 − β_iᵗ,

    M ← β₁ M + g;  V ← β₂ V + g²;  step = α (1 − β₁) r/c₁ · M/(√V + r ε),  r = √(c₂/(1 − β₂))

    is the same step, in fewer passes over the vector and in pieces that fit into the cache.

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
    slots = ("m", "v")

    def compute_step(self, g, state, rate):
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


_PIECE = 1 << 17  # elements, 512 KiB in float32

OPTIMIZERS = {c.__name__.lower(): c for c in (SGD, Momentum, Adagrad, RMSProp, Adam)} | {
    "rmsprop-centered": partial(RMSProp, rho=0.99, centered=True)
}


def make_optimizer(name: str | Optimizer, learning_rate: float | None = None) -> Optimizer:
    """Return the optimizer with this name; an `Optimizer` is returned as it is.

    Parameters
    ----------
    name : key of `OPTIMIZERS`, or Optimizer
    learning_rate : float, optional
        By default the class's.

    Returns
    -------
    optimizer : Optimizer

    Raises
    ------
    TypeError, ValueError
        For another name, a rate out of range, or a rate beside an `Optimizer`.

    Examples
    --------
    >>> make_optimizer("adam", 3e-4).learning_rate
    0.0003
    """
    if isinstance(name, Optimizer):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate: expected none beside {name!r}, which has its own; set it there"
            )
        return name
    kind = OPTIMIZERS[check_choice("optimizer", name, tuple(OPTIMIZERS))]
    return kind() if learning_rate is None else kind(learning_rate)
