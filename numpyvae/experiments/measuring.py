"""Figures that several experiments measure, each with the functions of the package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..bounds import importance_log_likelihood
from ..bounds.terms import row_terms
from ..diagnostics.units import active_units
from ..support.statistics import mean_and_error
from ..support.streams import Purpose
from ..support.versions import array_fingerprint
from .found import Trained

__all__ = [
    "elbo",
    "importance_bounds",
    "in_parts",
    "log_likelihood",
    "test_rows",
    "units",
]

_ROWS = 500  # test rows whose figures are kept together


def test_rows(trained: Trained) -> np.ndarray:
    """Return the test rows that are measured: `effort["rows"]`, or all of them.

    A stage that is not the last one has `effort["stage_rows"]`.
    """
    return trained.data.some_test_rows(
        trained.effort.get("rows" if trained.last else "stage_rows")
    )


def importance_bounds(trained: Trained) -> np.ndarray:
    """Return the importance-weighted bound L_K on log p(x) of each test row, (M,).

    K is `effort["n_importance"]`.
    """
    K = trained.effort["n_importance"]

    def estimate(x):
        return importance_log_likelihood(
            trained.vae, x, K, seed=trained.seed, progress=trained.progress
        )

    return in_parts(trained, f"L{K}", estimate, test_rows(trained))


def log_likelihood(trained: Trained) -> tuple[float, float]:
    """Return the mean of L_K over the test rows, and its error."""
    return mean_and_error(importance_bounds(trained))


def in_parts(
    trained: Trained, name: str, estimate: Callable[[np.ndarray], np.ndarray], x: np.ndarray
) -> np.ndarray:
    """Return `estimate(x)` (M,), part by part: a part is computed once, and kept by its name.

    The name ends with a fingerprint of the rows: others of the same number are not the same part.
    """
    found = []
    for start in range(0, len(x), _ROWS):
        part = x[start : start + _ROWS]
        fingerprint = array_fingerprint(part)["sha256"][:12]
        name_of_part = f"{name}-{trained.epoch:05}-{fingerprint}"
        found.append(trained.keeper.array(name_of_part, (len(part),), partial(estimate, part)))
    return np.concatenate(found)


def elbo(trained: Trained) -> tuple[float, float]:
    """Return the mean ELBO of the test rows, and its error.

    There are `effort["n_samples"]` draws for each row, or 10.
    """
    n, x = trained.effort.get("n_samples", 10), test_rows(trained)
    settings = {"n_samples": n, "purpose": Purpose.EVALUATION, "seed": trained.seed}
    (terms,) = row_terms(trained.vae, x, trained.vae.encode(x), **settings)
    return mean_and_error(terms.elbo)


def units(trained: Trained) -> int:
    """Return the number of active units (Burda et al. 2015, §5.2)."""
    return int(active_units(trained.vae, test_rows(trained)).sum())
