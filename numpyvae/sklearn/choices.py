"""From the parameters of a `VAETransformer` to the model, the objective and the optimizer.

The parameters are options of `numpyvae train`, with their checks and, where nothing is said here,
with their defaults. Where the option takes a name, the transformer also takes an object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..command.settings import OPTIONS
from ..core.elbo import Estimator
from ..core.optimizers import Optimizer, make_optimizer
from ..core.vae import VAE
from ..estimators import ESTIMATORS, WithWeightPrior, make_estimator
from ..fast import compiled, compiled_estimator, compiled_optimizer
from ..support.checks import check_choice, check_count, check_kind, shown
from ..support.schedules import cosine_schedule

__all__ = [
    "DECLARED",
    "check_parameters",
    "evaluated",
    "make_model",
    "make_objective",
    "make_rule",
    "make_schedule",
    "make_seed",
]

# The options of `numpyvae train` that are parameters under the same name.
DECLARED = (
    *("latent_dim", "hidden", "activation", "likelihood"),
    *("estimator", "n_samples", "train_importance", "beta", "kl_warmup", "free_bits"),
    *("weight_prior", "optimizer", "learning_rate", "schedule", "clip_norm"),
    *("epochs", "batch_size", "eval_importance", "accelerator"),
)
# These may be objects or functions, and are checked by what uses them.
_PARTS = ("hidden", "activation", "likelihood", "estimator", "optimizer", "schedule")


def check_parameters(own: Any) -> None:
    """Check the parameters of a `VAETransformer` whose values are numbers or fixed names.

    Raises
    ------
    TypeError, ValueError
        With one line that begins with the name of the parameter.
    """
    for name in DECLARED:
        value, option = getattr(own, name), OPTIONS[name].metadata
        if name not in _PARTS and not (value is None and option["unset"]):
            option["check"](name, str(value))
    OPTIONS["validation"].metadata["check"]("validation_fraction", str(own.validation_fraction))
    OPTIONS["patience"].metadata["check"]("n_iter_no_change", str(own.n_iter_no_change))
    check_choice("bound", own.bound, ("iwae", "elbo"))
    for name in ("early_stopping", "warm_start"):
        check_kind(name, getattr(own, name), bool, "set True or False")


def make_seed(random_state: Any) -> int:
    """Return the seed of all draws; a whole number is the seed itself.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState or None
        The last two draw a seed; None draws it from NumPy's global state, as in all of
        scikit-learn.
    """
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        return check_count("random_state", random_state, minimum=0)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def make_model(own: Any, data_dim: int, dtype: np.dtype, seed: int) -> VAE:
    """Return a model with fresh weights for data of this width and dtype."""
    parts = own.latent_dim, own.hidden, own.activation, own.likelihood
    return VAE(data_dim, *parts, dtype=np.dtype(dtype).name, seed=seed)


def make_objective(own: Any, n_data: int) -> Estimator:
    """Return the estimator of the gradient for a training set of `n_data` rows.

    Raises
    ------
    TypeError, ValueError
        If there is no such estimator, or it does not have a setting that is given.
    """
    estimator = own.estimator
    named = not isinstance(estimator, Estimator)
    if named:
        check_choice("estimator (a name or an Estimator)", estimator, tuple(ESTIMATORS))
    found = {name: OPTIONS[name].metadata["setting"] for name in DECLARED}
    given = {name: setting for name, setting in found.items() if getattr(own, name) is not None}
    fields = {f.name for f in dataclasses.fields(ESTIMATORS[estimator])} if named else set()
    for name, setting in given.items():
        if setting and setting not in fields:
            raise ValueError(
                f"{name}: expected None for estimator={shown(estimator)}, got "
                f"{shown(getattr(own, name))}; leave it out, or "
                + ("choose an estimator that has it" if named else "set it in the object")
            )
    if named:
        settings = {setting: getattr(own, name) for name, setting in given.items() if setting}
        estimator = make_estimator(estimator, **settings)
    if own.accelerator is not None:
        estimator = compiled_estimator(estimator)
    if own.weight_prior is not None:
        estimator = WithWeightPrior(estimator, n_data, float(own.weight_prior))
    return estimator


def make_rule(own: Any) -> Optimizer:
    """Return the optimizer, compiled if the parameters say so; an object is returned as it is."""
    if isinstance(own.optimizer, Optimizer):
        return own.optimizer
    rule = make_optimizer(own.optimizer, own.learning_rate)
    rule = dataclasses.replace(rule, clip_norm=own.clip_norm)
    return rule if own.accelerator is None else compiled_optimizer(rule)


def make_schedule(own: Any) -> Callable[[float], float] | None:
    """Return the factor of the learning rate as a function of the epochs of a call of `fit`."""
    if callable(own.schedule):
        return own.schedule
    choices = "cosine", "constant"
    name = check_choice("schedule (a name or a function)", own.schedule, choices)
    return cosine_schedule(own.epochs) if name == "cosine" else None


def evaluated(own: Any) -> VAE:
    """Return the fitted model, or its compiled twin if the parameters say so."""
    return own.vae_ if own.accelerator is None else compiled(own.vae_)
