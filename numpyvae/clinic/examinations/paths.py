"""Integrals of the gradient along paths of the parameters, with the noise frozen.

    ∫ g(θ) · dθ = loss(θ₁) − loss(θ₀)

if g is the gradient of the loss; around a closed path the integral is 0 if g is the gradient of
any function.
"""

from __future__ import annotations

import numpy as np

from .gradient_case import SEED, Case

__all__ = ["along", "is_a_gradient"]

_LENGTH = 0.3  # of a step, in units of the root mean square of the parameters
_NODES = 8, 12


def along(case: Case) -> tuple[float, float, float]:
    """Return the integral along a straight path, the change of the loss, and what may differ."""
    calls, flat = case.facts.calls, case.facts.calls.vector()
    (step,) = _steps(case, flat, 1)
    rough, fine = (_integral(case, flat, step, n) for n in _NODES)
    try:
        ends = []
        for theta in (flat, flat + step):
            calls.replace(theta)
            ends.append(calls.loss(case.x, SEED, case.facts.latent_dim))
    finally:
        calls.replace(flat)
    size = abs(ends[0]) + abs(ends[1]) + abs(fine)
    # where the gradient jumps, the two rules differ
    error = 50 * abs(fine - rough) + max(1e-6, 10 * case.facts.tolerance) * size
    return fine, ends[1] - ends[0], error


def is_a_gradient(case: Case) -> bool:
    """Return whether the integral around a triangle is 0, beside those along its sides."""
    flat = case.facts.calls.vector()
    a, b = _steps(case, flat, 2)
    corners = [(flat, a), (flat + a, b - a), (flat + b, -b)]
    sides = [_integral(case, start, step, _NODES[1]) for start, step in corners]
    return abs(sum(sides)) <= max(1e-6, case.facts.tolerance) * sum(np.abs(sides))


def _steps(case: Case, flat: np.ndarray, number: int) -> np.ndarray:
    size = _LENGTH * np.sqrt(np.mean(flat**2))
    return size * case.facts.rng(62).standard_normal((number, len(flat)))


def _integral(case: Case, start: np.ndarray, step: np.ndarray, order: int) -> float:
    """∫ g · dθ from `start` along `step`, by the rule of Gauss and Legendre."""
    calls, j = case.facts.calls, case.facts.latent_dim
    kept, total = calls.vector(), 0.0
    points, weights = np.polynomial.legendre.leggauss(order)
    try:
        for t, w in zip(0.5 + 0.5 * points, 0.5 * weights):
            calls.replace(start + t * step)
            gradient = calls.gradient(case.x, SEED, j)
            total += float(w * (np.concatenate(list(gradient.values())) @ step))
    finally:
        calls.replace(kept)
    return total
