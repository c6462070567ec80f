"""Several bounds on log p(x), compared on the same datapoints.

log p(x) varies far more between datapoints than between bounds, so the standard errors of the
means do not tell which bound is tighter. `Estimate.above` has the mean difference over the same
datapoints, with the standard error of that difference.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..core.vae import VAE
from ..support.checks import check_choice, check_count, check_data, check_seed, shown
from ..support.parallel import check_jobs
from ..support.statistics import mean_and_error
from ..support.streams import Purpose
from .ais import annealed_log_likelihood
from .appendix_d import fitted_log_likelihood
from .importance import ImportanceCurve, importance_curve
from .terms import row_terms
from .upper import cubo, eubo

__all__ = ["KINDS", "Comparison", "Estimate", "compare_bounds"]

KINDS = {
    "elbo": "lower bound",
    "iwae": "lower bound",
    "ais": "lower bound",
    "reverse-ais": "upper bound",
    "eubo": "upper bound",
    "cubo": "no bound",
    "appendix-d": "estimate",
    "exact": "exact",
}
_ELBO_SAMPLES = 100  # draws of z for each datapoint


@dataclass(frozen=True)
class Estimate:
    """A bound on log p(x), Eq. (2), or an estimate of it, for each datapoint.

    Attributes
    ----------
    name : str
        A key of `KINDS`, which gives its kind.
    values : (N,) array
        Nats per datapoint.
    seconds : float
        The running time; for "ais" and "reverse-ais" that of both together.
    acceptance : float or None
        Mean acceptance probability of the Hamiltonian moves; its target is 0.65.
    curve : ImportanceCurve or None
        L_k for k up to K, if the estimate is "iwae".

    Examples
    --------
    >>> a, b = Estimate("elbo", np.array([-3.0, -1.0])), Estimate("iwae", np.array([-2.5, -0.5]))
    >>> b.mean, b.above(a)
    ((-1.5, 1.0), (0.5, 0.0))
    """

    name: str
    values: np.ndarray
    seconds: float = math.nan
    acceptance: float | None = None
    curve: ImportanceCurve | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """The kind of the estimate: lower bound, upper bound, estimate, exact, or no bound."""
        return KINDS[self.name]

    @property
    def mean(self) -> tuple[float, float]:
        """Mean, and its standard error over the datapoints."""
        return mean_and_error(self.values)

    def above(self, other: Estimate) -> tuple[float, float]:
        """Mean of this − other, and its standard error over the same datapoints."""
        return mean_and_error(self.values - other.values)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_bounds`: lower ≤ log p(x) ≤ upper, in expectation.

    Attributes
    ----------
    estimates : dict of str to Estimate
    n_importance, n_temperatures, n_chains : int
        The settings of "iwae" and "cubo" (K), and of "ais" (T and C).

    Examples
    --------
    >>> from numpyvae.bounds import simulate
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, z = simulate(vae, 5)
    >>> found = compare_bounds(vae, x, ["ais"], posterior=z, n_temperatures=20, n_chains=4)
    >>> found.n_rows, list(found.estimates)
    (5, ['ais', 'reverse-ais'])
    """

    estimates: dict[str, Estimate]
    n_importance: int
    n_temperatures: int
    n_chains: int

    @property
    def n_rows(self) -> int:
        """N, the number of datapoints."""
        return len(next(iter(self.estimates.values())).values)

    @property
    def gap(self) -> tuple[float, float] | None:
        """Mean of reverse AIS − AIS, and its standard error; None without both."""
        if "reverse-ais" not in self.estimates:
            return None
        return self.estimates["reverse-ais"].above(self.estimates["ais"])


def compare_bounds(
    vae: VAE,
    x: Any,
    names: Iterable[str] = ("elbo", "iwae", "ais"),
    *,
    posterior: Any = None,
    n_importance: int = 500,
    n_temperatures: int = 300,
    n_chains: int = 8,
    seed: int = 0,
    memory: float | None = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Compute several bounds on log p(x) for the same datapoints.

    Parameters
    ----------
    names : iterable of str
        "elbo" (Eq. (7), 100 draws in pairs ±ε), "iwae" (L_k up to K), "ais", "eubo", "cubo",
        "appendix-d", "exact" (see `numpyvae.exact.exact_model`).
    posterior : (N, J) array_like, optional
        An exact draw from p(z|x) for each row, as from `simulate`. With it, "ais" adds the upper
        bound "reverse-ais"; "eubo" requires it.
    n_importance : int
        K of "iwae" and "cubo".
    memory : float, optional
        By default each bound has its own default.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    TypeError, ValueError
        Also if a name is unknown, or its bound is not available for the model.

    Examples
    --------
    >>> from numpyvae.bounds import simulate
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, z = simulate(vae, 5)
    >>> found = compare_bounds(vae, x, ["elbo", "iwae"], n_importance=20)
    >>> {name: estimate.kind for name, estimate in found.estimates.items()}
    {'elbo': 'lower bound', 'iwae': 'lower bound'}
    """
    names = _check_names(names)
    x = check_data(vae, x)
    K = check_count("n_importance", n_importance)
    T, C = check_count("n_temperatures", n_temperatures), check_count("n_chains", n_chains)
    seed = check_seed(seed)
    budget: dict[str, Any] = {"progress": progress, "n_jobs": check_jobs(n_jobs)}
    budget |= {} if memory is None else {"memory": memory}
    effort = _Effort(posterior, K, T, C, seed, budget)
    estimates: dict[str, Estimate] = {}
    for name in names[::-1]:  # so that a bound that is not available raises before AIS runs
        start = time.perf_counter()
        found = _MAKE[name](vae, x, effort)
        seconds = time.perf_counter() - start
        estimates |= {estimate.name: replace(estimate, seconds=seconds) for estimate in found}
    return Comparison({n: estimates[n] for n in KINDS if n in estimates}, K, T, C)


def _check_names(names: Iterable[str]) -> list[str]:
    """Return the names in the order of `KINDS`, each once."""
    if not isinstance(names, Iterable):
        raise TypeError(f"bounds: expected a list of names, got {shown(names)}")
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        check_choice("bounds", name, tuple(_MAKE))
    if not names:
        raise ValueError(f"bounds: expected some of {', '.join(_MAKE)}, got {shown(names)}")
    return [name for name in _MAKE if name in names]


class _Effort(NamedTuple):
    """The settings of the bounds."""

    posterior: Any
    n_importance: int
    n_temperatures: int
    n_chains: int
    seed: int
    budget: dict[str, Any]  # progress, n_jobs, and memory where it is set


def _elbo(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    settings: dict[str, Any] = {
        "n_samples": _ELBO_SAMPLES,
        "purpose": Purpose.ELBO,
        "seed": effort.seed,
    }
    (terms,) = row_terms(vae, x, vae.encode(x), **settings, **effort.budget)
    return [Estimate("elbo", terms.elbo)]


def _iwae(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    curve = importance_curve(vae, x, effort.n_importance, seed=effort.seed, **effort.budget)
    return [Estimate("iwae", curve.values[-1], curve=curve)]


def _ais(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    _, _, T, C, seed, budget = effort
    found = annealed_log_likelihood(vae, x, T, C, posterior=effort.posterior, seed=seed, **budget)
    sides = {"ais": found.log_lower, "reverse-ais": found.log_upper}
    acceptance = float(found.acceptance.mean())
    return [Estimate(n, v, acceptance=acceptance) for n, v in sides.items() if v is not None]


def _eubo(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    if effort.posterior is None:
        raise ValueError(
            "eubo: expected exact posterior draws for the rows of x, got none; pass posterior=z "
            "with data x, z = bounds.simulate(vae, n)"
        )
    return [Estimate("eubo", eubo(vae, x, effort.posterior, **effort.budget))]


def _cubo(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    values = cubo(vae, x, effort.n_importance, seed=effort.seed, **effort.budget)
    return [Estimate("cubo", values)]


def _appendix_d(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    found = fitted_log_likelihood(vae, x, seed=effort.seed, **effort.budget)
    acceptance = float(found.acceptance.mean())
    return [Estimate("appendix-d", found.log_likelihood, acceptance=acceptance)]


def _exact(vae: VAE, x: np.ndarray, effort: _Effort) -> list[Estimate]:
    from ..exact import exact_model  # here, since it imports SciPy

    model = exact_model(vae)
    if model is None:
        raise ValueError(
            "exact: expected a linear model with Gaussian noise, or at most 2 latents, got "
            f"{vae!r}; on simulated data its log p(x) lies between ais and reverse-ais"
        )
    return [Estimate("exact", model.log_evidence(x))]


_MAKE: dict[str, Callable[[VAE, np.ndarray, _Effort], list[Estimate]]] = {
    "elbo": _elbo,
    "iwae": _iwae,
    "ais": _ais,
    "eubo": _eubo,
    "cubo": _cubo,
    "appendix-d": _appendix_d,
    "exact": _exact,
}
