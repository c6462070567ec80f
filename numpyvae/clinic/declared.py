"""Checks of what a subject declares, before any of its functions is called."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..support.checks import check_choice, check_count, check_positive, check_weight, shown

if TYPE_CHECKING:
    from .subject import Subject

__all__ = ["check_declared"]

_FAMILIES = ("bernoulli", "binomial", "gaussian", "custom")
_COUNTS = ("n_samples", "data_dim", "latent_dim", "batch_size")


def check_declared(
    subject: Subject, functions: Iterable[str], choices: dict[str, tuple[str, ...]]
) -> None:
    """Raise an error of one line if a field of a subject is not what it must be.

    Parameters
    ----------
    subject : Subject
    functions : iterable of str
        The fields that are functions.
    choices : dict of str to tuple of str
        The values that other fields can have.

    Raises
    ------
    TypeError, ValueError
        For the first field that is wrong.

    Examples
    --------
    >>> from .subject import Subject
    >>> Subject(loss=3.0)
    Traceback (most recent call last):
    TypeError: loss: expected a function, got 3.0; give one, or leave it out
    """
    for name in functions:
        value = getattr(subject, name)
        if value is not None and not callable(value):
            raise TypeError(
                f"{name}: expected a function, got {shown(value)}; give one, or leave it out"
            )
    if all(getattr(subject, name) is None for name in ("loss", "encode", "decode", "kl")):
        raise ValueError("expected one of loss, encode, decode and kl, got none; give one")
    _check_parameters(subject.parameters)
    for name, allowed in choices.items():
        if getattr(subject, name) is not None:
            check_choice(name, getattr(subject, name), allowed)
    _check_likelihood(subject)
    check_weight("beta", subject.beta)
    check_weight("free_bits", subject.free_bits)
    if subject.sigma is not None:
        check_positive("sigma", subject.sigma)
    for name in _COUNTS:
        if getattr(subject, name) is not None:
            check_count(name, getattr(subject, name))
    if subject.x is not None:
        _check_rows(subject.x)


def _check_parameters(pair: Any) -> None:
    if pair is None:
        return
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(callable, pair))):
        raise TypeError(
            f"parameters: expected a pair of functions (get, set), got {shown(pair)}; get() "
            "returns a flat vector, set(vector) replaces it"
        )


def _check_likelihood(subject: Subject) -> None:
    number = "" if callable(subject.likelihood) else str(subject.likelihood).partition(":")[2]
    right = subject.family in _FAMILIES
    if subject.family == "binomial":
        right = number.isdecimal() and int(number) > 0
    elif number:
        right = subject.family == "gaussian" and _is_positive(number)
    if not right:
        raise ValueError(
            'likelihood: expected "bernoulli", "binomial:n", "gaussian", "gaussian:σ" or a '
            f"function (x, out) that returns log p(x|z), got {subject.likelihood!r}"
        )


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _check_rows(x: Any) -> None:
    try:
        rows = np.asarray(x, dtype=float)
    except (TypeError, ValueError):
        rows = np.empty(0)
    if rows.ndim < 2 or not rows.size or not np.isfinite(rows).all():
        got = shown(x) if rows.ndim < 2 else f"NaN, inf or nothing, in shape {rows.shape}"
        raise ValueError(
            f"x: expected rows of finite numbers, shape (N, ...), got {got}; give some rows of "
            "the data"
        )
