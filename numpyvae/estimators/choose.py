"""Estimators by name, as a command line or `fit` asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from ..support.checks import check_choice, check_positive
from .base import Estimator
from .closed import SGVBB
from .sampled import IWAE, SGVBA, STL, STLIWAE, DReG
from .score import LEAVE_ONE_OUT, ScoreFunction

__all__ = ["ESTIMATORS", "make_estimator", "warm_up"]

ESTIMATORS: dict[str, Estimator] = {
    "sgvb-a": SGVBA(),
    "sgvb-b": SGVBB(),
    "score": ScoreFunction(),
    "score-loo": ScoreFunction(LEAVE_ONE_OUT),
    "stl": STL(),
    "iwae": IWAE(),
    "stl-iwae": STLIWAE(),
    "dreg": DReG(),
}


def make_estimator(
    estimator: str | Estimator,
    n_importance: int | None = None,
    *,
    beta: float | None = None,
    free_bits: float | None = None,
) -> Estimator:
    """Return the estimator that a name stands for, with settings; an `Estimator` passes through.

    Parameters
    ----------
    estimator : str or Estimator
        A key of `ESTIMATORS`, or an object with its settings, as `IWAE(n_importance=50)`.
    n_importance : int, optional
        K, for `iwae`, `stl-iwae` and `dreg`. 5 if nothing is said.
    beta, free_bits : float, optional
        β and λ, for `sgvb-b`; see `SGVBB`.

    Returns
    -------
    estimator : Estimator

    Raises
    ------
    TypeError, ValueError
        For another name, a setting that this estimator does not have, or a bad value.

    Examples
    --------
    >>> make_estimator("dreg", 50)
    DReG(n_importance=50)
    """
    if not isinstance(estimator, Estimator):
        estimator = ESTIMATORS[check_choice("estimator", estimator, tuple(ESTIMATORS))]
    given = {"n_importance": n_importance, "beta": beta, "free_bits": free_bits}
    given = {name: value for name, value in given.items() if value is not None}
    for name in sorted(given.keys() - {field.name for field in fields(estimator)}):
        takers = (k for k, e in ESTIMATORS.items() if name in {f.name for f in fields(e)})
        raise ValueError(
            f"{name}: expected an estimator that has this setting ({', '.join(takers)}), "
            f"got {estimator!r}; leave {name} out or choose another"
        )
    return replace(estimator, **given)


def warm_up(estimator: Estimator, kl_warmup: float) -> Callable[[float], Estimator]:
    """Return the estimator as a function of the epochs done: β min(1, epochs/kl_warmup).

    The KL is let in by and by (Bowman et al. 2016; Sønderby et al. 2016), so that a latent is not
    given up before the decoder has learned to use it.

    Parameters
    ----------
    estimator : Estimator
        One with a β: `SGVBB`.
    kl_warmup : float
        Epochs until β has its value.

    Returns
    -------
    warmed : callable
        `warmed(epochs_done) -> Estimator`.

    Raises
    ------
    TypeError, ValueError
        If the estimator has no β, or `kl_warmup` is not a number above 0.

    Examples
    --------
    >>> warmed = warm_up(SGVBB(beta=2.0), kl_warmup=10)
    >>> [warmed(epochs).beta for epochs in (0, 2.5, 10, 30)]
    [0.0, 0.5, 2.0, 2.0]
    """
    kl_warmup = check_positive("kl_warmup", kl_warmup)
    if not isinstance(estimator, SGVBB):
        raise ValueError(
            f"kl_warmup: expected an estimator whose KL has a weight (sgvb-b), got {estimator!r}; "
            "leave kl_warmup out or choose sgvb-b"
        )
    return lambda epochs: replace(estimator, beta=estimator.beta * min(1.0, epochs / kl_warmup))
