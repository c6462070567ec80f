"""Names of parts: how a model file leads back to an activation or a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from .checks import check_choice, shown

__all__ = [
    "ACTIVATIONS",
    "LIKELIHOODS",
    "check_findable",
    "check_form",
    "find_activation",
    "find_numbered",
    "name_of",
    "register",
    "register_activation",
    "register_likelihood",
]

ACTIVATIONS: dict[str, Callable] = {}
LIKELIHOODS: dict[str, type] = {}

Activation = TypeVar("Activation", bound=Callable)
Kind = TypeVar("Kind", bound=type)


def register(kind: str, table: dict[str, Any], name: str, part: Any) -> None:
    """Enter `part` in `table` under `name`; raise ValueError if another module has that name.

    The same module may enter it again, as a notebook does whose cell is run twice.
    """
    known = table.get(name, part)
    if known.__module__ != part.__module__:
        raise ValueError(
            f"{kind}: expected a new name, got {name!r}, which is that of a {kind} in "
            f"{known.__module__}; rename yours"
        )
    table[name] = part


def check_findable(kind: str, name: str, part: Any, find: Callable[[str], Any]) -> None:
    """Raise ValueError unless `find(name)` is `part`, so that a saved model can be loaded."""
    with suppress(ValueError):
        if find(name) == part:
            return
    raise ValueError(
        f"{kind}: expected one that VAE.load can find by its name, got {shown(part)}, which "
        f"{name!r} does not lead to; decorate it with numpyvae.register_{kind}, in a module "
        "imported before load"
    )


def check_form(f: Callable) -> Callable:
    """Return `f` if it has the form `y, pull = f(x)`, which `numpy.tanh` does not have."""
    one = np.zeros((1, 1))
    with suppress(TypeError, ValueError):
        y, pull = f(one)
        if np.shape(y) == np.shape(pull(one)) == one.shape:
            return f
    raise ValueError(
        f"activation: expected a function y, pull = f(x) of an array, with pull(dy) -> dx, got "
        f"{shown(f)}; see numpyvae.core.layers.tanh"
    )


def name_of(activation: Any) -> str:
    """Return the name under which an activation is found."""
    return getattr(activation, "__name__", type(activation).__name__)


def find_numbered(table: Mapping[str, Callable], name: str) -> Any:
    """Make the part that `name` says, or return None.

    A key of `table` is a whole name, or a name with a number: "binomial:16" is made by the entry
    "binomial:N", which is called with 16.
    """
    family, _, number = name.partition(":")
    with suppress(ValueError, TypeError):
        if name in table:
            return table[name]()
        for pattern, kind in table.items():
            if pattern.partition(":")[0] == family and pattern.partition(":")[2].isupper():
                return kind(int(number) if number.isdecimal() else float(number))
    return None


def register_activation(*, smooth: bool, increasing: bool) -> Callable[[Activation], Activation]:
    """Make an activation known by its name, so that a model that uses it can be saved and loaded.

    Parameters
    ----------
    smooth : bool
        Whether it has derivatives of all orders.
    increasing : bool
        Whether it never decreases.

    Returns
    -------
    decorator : callable
        It raises ValueError if another module has registered the name.

    Examples
    --------
    >>> import numpy as np
    >>> @register_activation(smooth=True, increasing=False)
    ... def bump(x):
    ...     y = np.exp(-x * x)
    ...     return y, lambda dy: dy * -2 * x * y
    >>> find_activation("bump") is bump, ACTIVATIONS.pop("bump").smooth
    (True, True)
    """

    def decorate(f: Activation) -> Activation:
        register("activation", ACTIVATIONS, f.__name__, f)
        marked: Any = f
        marked.smooth, marked.increasing = smooth, increasing
        return f

    return decorate


def find_activation(activation: str | Callable) -> Callable:
    """Return the activation with this name; a function is returned as it is.

    Parameters
    ----------
    activation : str or callable

    Returns
    -------
    f : callable

    Raises
    ------
    ValueError
        For a name that is not registered, or a function of another form.

    Examples
    --------
    >>> find_activation("tanh").__name__
    'tanh'
    """
    if callable(activation):
        return check_form(activation)
    return ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]


def register_likelihood(pattern: str) -> Callable[[Kind], Kind]:
    """Make a likelihood known by its name, so that a model that uses it can be saved and loaded.

    Parameters
    ----------
    pattern : str
        Its name, as `"poisson"`, or a name with a number, as `"binomial:N"`: the class is then
        called with that number.

    Returns
    -------
    decorator : callable
        It raises ValueError if another module has registered the name.

    Examples
    --------
    >>> from numpyvae.core.likelihoods import FixedGaussian
    >>> @register_likelihood("unit")
    ... class UnitGaussian(FixedGaussian):
    ...     name = "unit"
    ...     sigma: float = 1.0
    >>> LIKELIHOODS.pop("unit").__name__
    'UnitGaussian'
    """

    def decorate(kind: Kind) -> Kind:
        register("likelihood", LIKELIHOODS, pattern, kind)
        return kind

    return decorate
