"""Whether a function for JAX may be compiled: its program must be the same each time it is made.

Noise that does not come from a key, such as that of NumPy, would become a constant of the compiled
program, and the same in every call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["is_compilable"]


def is_compilable(jax: Any, function: Callable, *arguments: Any) -> bool:
    """Return whether JAX makes the same program of a function twice.

    Parameters
    ----------
    jax : module
    function : callable
    *arguments : pytree
        Arrays, or their shapes and dtypes.

    Returns
    -------
    compilable : bool

    Raises
    ------
    Exception
        Whatever the function raises when JAX traces it.

    Examples
    --------
    >>> import jax
    >>> noise = np.random.Generator(np.random.PCG64(0))
    >>> is_compilable(jax, lambda x: x + 1, 1.0)
    True
    >>> is_compilable(jax, lambda x: x + noise.standard_normal(2), 1.0)
    False
    """
    first, second = (_program(jax, function, *arguments) for _ in range(2))
    return first == second


def _program(jax: Any, function: Callable, *arguments: Any) -> tuple:
    """The program that JAX makes of a function, with its constants."""
    made = jax.make_jaxpr(lambda *a: function(*a))(*arguments)
    text = re.sub(r"0x[0-9a-f]+", "", str(made.jaxpr))
    return text, *(_bytes(c) for c in (*made.consts, *_literals(made.jaxpr)))


def _bytes(constant: Any) -> bytes:
    """The value of a constant; keys have no bytes of their own."""
    try:
        return np.asarray(constant).tobytes()
    except TypeError:
        return repr(constant).encode()


def _literals(jaxpr: Any) -> Iterator[Any]:
    """Yield the constants that stand in the equations of a program."""
    for equation in jaxpr.eqns:
        yield from (v.val for v in equation.invars if hasattr(v, "val"))
