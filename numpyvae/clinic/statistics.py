"""Decisions: exact comparisons, and statistical ones in two stages with a least effect.

*Exact*: where the noise is frozen, two formulas agree to rounding errors or they do not. A
formula is accepted if its misfit is below the tolerance at all probes, and rejected if it is
above 1000 times the tolerance; in between it is undecided.

*Statistical*: a deviation counts only if it exceeds 5.5 standard errors (a chance of 4e-8 for a
normal mean) and an effect that matters, in two stages with independent seeds.

Why all of them together raise less than one false alarm in 10⁴ runs:

- A right loss is refused if one of n ≤ 24 residuals exceeds 5.5 errors, or their root mean square
  2.2 errors, in both stages. The errors are the greatest of three estimates: over all rows (120
  degrees of freedom or more), of the row itself, and of the noise at the nodes, known for J ≤ 2.
  With t₁₂₀, 24 · 2e-7 = 5e-6 for a stage; the root mean square adds 2e-5 for 6 rows and 2e-14 for
  24. Both stages: below 1e-9. The stages share no seed, and rows share no random nodes: what they
  shared would not average over the rows. On random right models the residuals have a standard
  deviation of 0.6 (J ≤ 2) and 0.9, and no root mean square above 1.5.
- Bound of two forms, mean of a gradient, batches of different rows: a t statistic of 150 to 200
  values (2e-7) or of 16 (6e-5) in two stages: below 1e-8. Its direction comes from draws that
  neither stage has.
- log p(x): 20 means of 60 values or more, a log-mean-exp each, so no mean of weights: 20 · 9e-7
  in a stage. The figure of a data set: 30 values or more, 6e-6. Both in two stages: below 1e-9.
- The noise of z: three moments and a slope, at most 4e-8 each. The moments are those of 8192 J
  draws, which are normal if they are right, so that the errors are known.
- Generated data: 6 D means of 400 draws, at 6.5 errors or, for pixels, 0.15, which is 6 errors:
  at most 6 D · 2e-9, 1e-5 for D = 784. This is the greatest of all.

Heavy tails make a normal error too small. Means of hundreds of draws reduce skewness, two stages
square what is left, and each effect has a floor. What rests on a variance alone is not judged if
one draw in 512 makes up a fifth of it (`Measured.heavy`). The number of tests is in the sums
above; no other correction is made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["GAP", "SIGMAS", "Fit", "decide", "fit", "misfit", "two_stages"]

SIGMAS = 5.5
GAP = 1000.0  # between the tolerance of what is right and the misfit of what is wrong


def misfit(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the greatest |found − expected|, relative to 1 + the greatest |expected|.

    Parameters
    ----------
    found, expected : (N,) array

    Returns
    -------
    misfit : float
        inf if a value is not finite.

    Examples
    --------
    >>> misfit(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    0.5
    """
    if not np.isfinite(found).all() or not np.isfinite(expected).all():
        return np.inf
    return float(np.abs(found - expected).max() / (1 + np.abs(expected).max()))


def decide(misfits: Mapping[str, float], tolerance: float) -> list[str]:
    """Return the names of the hypotheses that hold, best first; all others are refused.

    Parameters
    ----------
    misfits : dict of str to float
    tolerance : float

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> decide({"right": 1e-3, "half": 1e-16}, 1e-9)
    ['half']
    """
    return sorted((n for n, m in misfits.items() if m <= tolerance), key=lambda n: misfits[n])


class Fit(NamedTuple):
    """A weighted least-squares fit: coefficients, their errors, and the misfit.

    Parameters
    ----------
    coefficients, errors : (P,) array
    worst : float
        The greatest residual in standard errors of its point.
    chi : float
        The root mean square of the residuals in standard errors.
    residual : float
        The root mean square of the residuals.
    condition : float
        The condition number of the columns, each of length 1.

    Examples
    --------
    >>> fit(np.ones((4, 1)), np.array([1.0, 2, 3, 2]), np.ones(4)).coefficients
    array([2.])
    """

    coefficients: np.ndarray
    errors: np.ndarray
    worst: float
    chi: float
    residual: float
    condition: float


def fit(columns: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Fit:
    """Fit values = columns · c, each point weighted by its standard error.

    Parameters
    ----------
    columns : (N, P) array
    values, errors : (N,) array

    Returns
    -------
    fit : Fit

    Examples
    --------
    >>> line = np.array([[0.0, 1.0], [1, 1], [2, 1]])
    >>> fit(line, np.array([1.0, 3, 5]), np.ones(3)).coefficients.round(6)
    array([2., 1.])
    """
    a, y = columns / errors[:, None], values / errors
    lengths = np.linalg.norm(a, axis=0)
    scale = np.where(lengths > 0, lengths, 1)
    u, singular, vt = np.linalg.svd(a / scale, full_matrices=False)
    condition = float(singular[0] / max(singular[-1], 1e-300))
    inverse = np.where(singular > 1e-12 * singular[0], 1 / np.maximum(singular, 1e-300), 0)
    coefficients = vt.T @ (inverse * (u.T @ y))
    residuals = y - (a / scale) @ coefficients
    return Fit(
        coefficients / scale,
        np.linalg.norm(vt.T * inverse, axis=1) / scale,
        float(np.abs(residuals).max()),
        float(np.sqrt(np.mean(residuals**2))),
        float(np.sqrt(np.mean((residuals * errors) ** 2))),
        condition,
    )


def two_stages(stage: Callable[[int], tuple[float, float]], floor: float) -> str:
    """Return "right", "wrong" or "undecided" for an effect that should be 0.

    Parameters
    ----------
    stage : callable
        ``stage(number)`` returns the effect and its standard error, from draws of its own.
    floor : float
        The least effect that matters.

    Returns
    -------
    verdict : str

    Examples
    --------
    >>> two_stages(lambda k: (0.5, 0.01), 0.1), two_stages(lambda k: (0.01, 0.01), 0.1)
    ('wrong', 'right')
    """
    effect, error = stage(0)
    if abs(effect) <= max(floor, SIGMAS * error):
        return "right" if SIGMAS * error < 10 * floor else "undecided"
    again, error = stage(1)
    agrees = again * effect > 0 and abs(again) > max(floor, SIGMAS * error)
    return "wrong" if agrees else "undecided"
