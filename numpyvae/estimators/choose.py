"""Estimators by name, as the command line needs them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ..core.elbo import Estimator
from ..support.checks import check_choice
from .closed import SGVBB
from .sampled import IWAE, SGVBA, STL, STLIWAE, DReG
from .score import LEAVE_ONE_OUT, ScoreFunction
from .wake_sleep import WakeSleep

__all__ = ["ESTIMATORS", "make_estimator"]

ESTIMATORS: dict[str, Estimator] = {
    "sgvb-a": SGVBA(),
    "sgvb-b": SGVBB(),
    "score": ScoreFunction(),
    "score-loo": ScoreFunction(LEAVE_ONE_OUT, n_samples=2),
    "stl": STL(),
    "iwae": IWAE(),
    "stl-iwae": STLIWAE(),
    "dreg": DReG(),
    "wake-sleep": WakeSleep(),
}


def make_estimator(name: str, **settings: Any) -> Estimator:
    """Return the estimator with this name and these settings.

    Parameters
    ----------
    name : str
        A key of `ESTIMATORS`.
    **settings : Any
        Fields of its class, such as `n_samples`, `n_importance`, `beta`. None stands for the
        default.

    Returns
    -------
    estimator : Estimator

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, the estimator does not have a setting, or a value is out of range.

    Examples
    --------
    >>> make_estimator("dreg", n_importance=50)
    DReG(n_samples=1, n_importance=50)
    """
    estimator = ESTIMATORS[check_choice("estimator", name, tuple(ESTIMATORS))]
    given = {setting: value for setting, value in settings.items() if value is not None}
    for setting in sorted(given.keys() - {field.name for field in fields(estimator)}):
        takers = [k for k, e in ESTIMATORS.items() if setting in {f.name for f in fields(e)}]
        raise ValueError(
            f"{setting}: expected an estimator that has this setting ({', '.join(takers)}), "
            f"got {name}; leave {setting} out or choose another"
        )
    return replace(estimator, **given)
