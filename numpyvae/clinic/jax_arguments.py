"""Which argument of a JAX function is which: by the names of the arguments, then by trial."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import permutations

__all__ = ["DATA", "named_order", "orders"]

DATA = {  # the arrays that each function takes, beside the parameters and the key
    "loss": ("x",),
    "encode": ("x",),
    "decode": ("z",),
    "kl": ("mu", "second"),
    "reconstruction": ("x", "out"),
    "sample_z": ("mu", "second"),
    "log_p": ("x", "n_importance"),
    "generate": ("z",),
}
_KNOWN = {
    "params": "params parameters param variables weights theta model state ps",
    "key": "key rng rng_key prng_key prng random_key z_rng seed",
    "eps": "eps epsilon noise",
    "x": "x data images image batch inputs targets target labels y xs",
    "out": "out logits recon recon_x reconstruction x_hat x_recon p probs mean pred preds",
    "mu": "mu mean z_mean loc",
    "second": "second logvar log_var sigma sigmasq std stddev log_std log_sigma scale var",
    "z": "z latent latents code",
    "n_importance": "n_importance k K n n_samples num_samples",
}
_ROLES = {role: set(names.split()) for role, names in _KNOWN.items()}


def orders(name: str, function: Callable) -> Iterator[tuple[str, ...]]:
    """Yield the orders of arguments that a function may have, the most likely first.

    Parameters
    ----------
    name : str
        One of `DATA`.
    function : callable

    Yields
    ------
    order : tuple of str
        The role of each argument: "params", "key", "eps" or one of the arrays.

    Examples
    --------
    >>> next(orders("loss", lambda rng, params, images: 0.0))
    ('key', 'params', 'x')
    >>> list(orders("encode", lambda a, b: 0.0))[:2]
    [('params', 'x'), ('x', 'params')]
    """
    told = named_order(name, function)
    if told is not None:
        yield told
    yield from (o for o in _by_trial(*_required(function), DATA[name]) if o != told)


def named_order(name: str, function: Callable) -> tuple[str, ...] | None:
    """Return the order of arguments that their names tell, None if they do not.

    Parameters
    ----------
    name : str
        One of `DATA`.
    function : callable

    Returns
    -------
    order : tuple of str or None

    Examples
    --------
    >>> named_order("reconstruction", lambda logits, x: 0.0)
    ('out', 'x')
    """
    return _by_names(*_required(function), DATA[name])


def _required(function: Callable) -> tuple[list[str], bool]:
    """The names of the positional arguments that have no default, and whether there is *args."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], True
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [a.name for a in arguments if a.kind in kinds and a.default is a.empty]
    return names, any(a.kind is a.VAR_POSITIONAL for a in arguments)


def _by_names(names: list[str], more: bool, data: tuple[str, ...]) -> tuple[str, ...] | None:
    """The order that the names tell; arguments with other names are the arrays that remain."""
    allowed = ("params", "key", "eps", *data)
    roles: list[str | None] = []
    for name in names:
        fitting = [r for r in allowed if name in _ROLES[r] and r not in roles]
        roles.append(fitting[0] if fitting else None)
    remaining = [r for r in data if r not in roles]
    if roles.count(None) > len(remaining):
        return None
    filled = tuple(r if r is not None else remaining.pop(0) for r in roles)
    if remaining and not more:
        return None
    return (*filled, *remaining)


def _by_trial(names: list[str], more: bool, data: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All orders of the arrays with none, one or two of the parameters, the key and ε."""
    extra = [("params",), ("key",), (), ("params", "key"), ("params", "eps"), ("eps",)]
    for with_extra in extra:
        roles = (*with_extra, *data)
        if len(roles) == len(names) or (more and len(roles) >= len(names)):
            yield from permutations(roles)
