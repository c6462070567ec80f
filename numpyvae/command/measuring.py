"""Measure a model on the test set: the ELBO, its terms and log p(x), or several bounds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bounds import importance_log_likelihood
from ..core.vae import VAE
from ..diagnostics import active_units
from ..estimators.evaluation import mean_terms
from ..support.statistics import mean_and_error
from ..support.streams import Purpose, stream
from .advice import log_density, unit
from .preparation import Prepared
from .usage import UsageError

if TYPE_CHECKING:
    from ..bounds import Comparison

__all__ = ["SLOW_ROWS", "compare", "evaluate"]


def evaluate(
    vae: VAE,
    data: Prepared,
    n_importance: int,
    seed: int,
    test_rows: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a model on the test set: the ELBO and its terms, log p(x), active units.

    The ELBO averages 10 draws of z for each row. All are means over the same rows, in nats per
    datapoint; `…_se` is the standard error over the rows. One row has no standard error and no
    variance over rows, so that `…_se` and `active_units` are then None.

    Parameters
    ----------
    vae : VAE
    data : Prepared
    n_importance : int
        K, the number of importance samples of the estimate of log p(x).
    seed : int
        The seed of the noise.
    test_rows : int, optional
        The number of rows of the test set that are used, always the same ones; all if left out.
    progress : bool
        Show a progress line on standard error.

    Returns
    -------
    summary : dict
        Figures in nats per datapoint, with the names of model and data.

    Examples
    --------
    >>> from numpyvae.command.preparation import prepare
    >>> data = prepare("digits", "bernoulli")
    >>> evaluate(VAE(64, 2, (20,)), data, n_importance=5, seed=0, test_rows=20)["latent_dim"]
    2
    """
    x = _pick(data.x_test, test_rows)
    terms = mean_terms(vae, x, n_samples=10, seed=seed)
    log_likelihood = importance_log_likelihood(vae, x, n_importance, seed=seed, progress=progress)
    mean, error = mean_and_error(log_likelihood)
    return {
        **_names(vae, data),
        "test_rows": len(x),
        "test_elbo": terms.elbo,
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
        "test_log_likelihood": mean,
        "test_log_likelihood_se": None if math.isnan(error) else error,
        "n_importance": n_importance,
        "gap_to_log_likelihood": mean - terms.elbo,
        "active_units": int(active_units(vae, x).sum()) if len(x) > 1 else None,
        **log_density(mean, vae.data_dim, data.preparation),
        "seed": seed,
    }


def _names(vae: VAE, data: Prepared) -> dict[str, Any]:
    """Return the names of the model and the data."""
    return {
        "dataset": data.name,
        "model": repr(vae),
        "likelihood": vae.likelihood.name,
        "n_parameters": int(vae.parameters.flat.size),
        "latent_dim": vae.latent_dim,
    }


def _pick(x: np.ndarray, n: int | None) -> np.ndarray:
    """Return n rows, always the same; all if there are no more, or n is None."""
    if n is None or n >= len(x):
        return x
    order = stream(0, Purpose.TEST_ROWS).permutation(len(x))
    return x[np.sort(order[:n])]


SLOW_ROWS = 100  # test rows for a bound that takes seconds or minutes for so many


def compare(
    vae: VAE,
    data: Prepared,
    names: Sequence[str],
    *,
    test_rows: int | None = None,
    output: Path | None = None,
    seed: int = 0,
    **effort: Any,
) -> dict[str, Any]:
    """Compute bounds on the test set, and on data that the model simulates.

    An upper bound requires exact posterior draws, which are known for simulated data only. There
    log p(x) lies between the bounds, and the gap says how close the same settings come on test
    data, as far as simulated data resemble them.

    Parameters
    ----------
    vae : VAE
    data : Prepared
    names : sequence of str
        Names of bounds, as for `compare_bounds`. "exact" is added if it has a closed form.
    test_rows : int, optional
        The number of test rows; as many are simulated. By default all, or 100 if a bound is slow.
    output : path, optional
        The file of a picture, .png, .svg or .pdf.
    seed : int
    **effort : Any
        Settings of `compare_bounds`.

    Returns
    -------
    summary : dict
        The parts "test" and "simulated" (None if no bound requires it) have "rows" and
        "bounds"; the other keys are the settings.

    Raises
    ------
    UsageError
        If a name or a setting is not one that `compare_bounds` can take.
    OSError
        If the picture cannot be written.

    Examples
    --------
    >>> from numpyvae.command.preparation import prepare
    >>> data = prepare("digits", "bernoulli")
    >>> effort = {"n_importance": 5, "n_temperatures": 2, "n_chains": 2}
    >>> summary = compare(VAE(64, 2, (20,)), data, ["elbo", "ais"], test_rows=3, **effort)
    >>> list(summary["test"]["bounds"]), list(summary["simulated"]["bounds"])
    (['elbo', 'ais'], ['elbo', 'ais', 'reverse-ais'])
    """
    from ..bounds import compare_bounds, simulate
    from ..exact import LinearGaussian, exact_model  # here, since it brings SciPy

    start = time.perf_counter()
    closed = isinstance(exact_model(vae), LinearGaussian)
    if closed and "exact" not in names:
        names = [*names, "exact"]
    slow = {"ais", "appendix-d"} | (set() if closed else {"exact"})
    if test_rows is None and slow.intersection(names):
        test_rows = SLOW_ROWS
    x = _pick(data.x_test, test_rows)
    known = [name for name in names if name != "eubo"]  # without posterior draws
    parts = {}
    try:
        if known:
            parts["test"] = compare_bounds(vae, x, known, seed=seed, **effort)
        if {"ais", "eubo"}.intersection(names):
            x, z = simulate(vae, len(x), seed)
            parts["simulated"] = compare_bounds(vae, x, names, posterior=z, seed=seed, **effort)
    except (TypeError, ValueError) as error:  # the model and the data are valid
        raise UsageError(f"--bounds {','.join(names)}: {error}") from None
    if output is not None:
        from .. import plotting

        plotting.save_figure(plotting.plot_comparisons(parts), output)
    made = next(iter(parts.values()))
    return {
        **_names(vae, data),
        **{part: _as_dict(parts[part]) if part in parts else None for part in _PARTS},
        "unit": unit(data.preparation),
        "n_importance": made.n_importance,
        "n_temperatures": made.n_temperatures,
        "n_chains": made.n_chains,
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }


_PARTS = ("test", "simulated")


def _as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a dict for JSON, which has no NaN."""

    def pair(values: tuple[float, float]) -> dict[str, float | None]:
        mean, error = values
        return {"mean": mean, "se": error if math.isfinite(error) else None}

    bounds = {}
    elbo = comparison.estimates.get("elbo")
    for name, estimate in comparison.estimates.items():
        row: dict[str, Any] = {
            "kind": estimate.kind,
            **pair(estimate.mean),
            "seconds": estimate.seconds,
        }
        if estimate.acceptance is not None:
            row["acceptance"] = estimate.acceptance
        if elbo is not None and name != "elbo":
            row["above_elbo"] = pair(estimate.above(elbo))
        if estimate.curve is not None:
            k, values = estimate.curve
            row["curve"] = {"k": k.tolist(), "mean": values.mean(axis=1).tolist()}
        bounds[name] = row
    found: dict[str, Any] = {"rows": comparison.n_rows, "bounds": bounds}
    if comparison.gap is not None:
        found["gap"] = pair(comparison.gap)
    return found
