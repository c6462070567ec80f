"""Checks of what a user typed, each with the signature `check(name, text) -> value`.

A check raises ValueError or TypeError with one line: what was expected, what came, what to do.
`name` is the name of the option in that line, as in "--epochs".
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from ..bounds.compare import KINDS
from ..core.likelihoods import Binomial, Likelihood, parse_likelihood
from ..support.checks import check_choice, check_count, check_positive, check_weight, shown
from ..support.registry import LIKELIHOODS

__all__ = [
    "UsageError",
    "bound_names",
    "check_likelihood",
    "choice",
    "fraction",
    "image_shape",
    "positive",
    "shards",
    "suggest",
    "weight",
    "whole",
]

Check = Callable[[str, str], Any]
BOUNDS = tuple(name for name in KINDS if name != "reverse-ais")  # "ais" adds that one


class UsageError(ValueError):
    """A setting that does not suit the command: exit code 2.

    Examples
    --------
    >>> issubclass(UsageError, ValueError)
    True
    """


def suggest(text: Any, names: Iterable[str], most: int = 1) -> str:
    """Return "; did you mean …?" with the names that are spelled like `text`, or "".

    Examples
    --------
    >>> suggest("digit", ["digits", "mnist"])
    '; did you mean digits?'
    """
    text, names = str(text), list(names)
    begun = [name for name in names if text.strip("-") and name.startswith(text)]
    close = begun[:most] or difflib.get_close_matches(text, names, most, cutoff=0.65)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def whole(minimum: int = 1) -> Check:
    """Return a check for a whole number of at least `minimum`.

    Examples
    --------
    >>> whole()("--epochs", "20")
    20
    """

    def check(name: str, text: str) -> int:
        try:
            value: Any = int(text)
        except ValueError:
            value = text
        return check_count(name, value, minimum=minimum)

    return check


def shards(name: str, text: str) -> int:
    """Return the number of shards, a power of two, so that 1, 2, 4, … ranks can share them.

    Examples
    --------
    >>> shards("--data-parallel", "4")
    4
    """
    value = whole()(name, text)
    if value & (value - 1):
        raise ValueError(f"{name}: expected a power of two, as 8, got {value}; choose another")
    return value


def positive(name: str, text: str) -> float:
    """Return the number, if it is finite and above 0."""
    return check_positive(name, _number(text))


def weight(name: str, text: str) -> float:
    """Return the number, if it is finite and at least 0."""
    return check_weight(name, _number(text))


def fraction(name: str, text: str) -> float:
    """Return the number, if it is above 0 and below 1.

    Examples
    --------
    >>> fraction("--validation", "0.1")
    0.1
    """
    value = positive(name, text)
    if value >= 1:
        raise ValueError(f"{name}: expected a number above 0 and below 1, got {text}")
    return value


def _number(text: str) -> Any:
    """Return the number, or the text itself, for a check to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def choice(choices: Iterable[str]) -> Check:
    """Return a check for one of some words.

    Examples
    --------
    >>> choice(["cosine", "constant"])("--schedule", "cosin")
    Traceback (most recent call last):
    ValueError: --schedule: expected one of cosine, constant; got 'cosin'; did you mean cosine?
    """
    choices = tuple(choices)
    return lambda name, text: check_choice(name, text, choices)


def check_likelihood(name: str, value: str | Likelihood) -> str | Likelihood:
    """Return the full name of a likelihood; "binomial" alone and a `Likelihood` are unchanged.

    "binomial" alone is completed by `prepare` with the maximum value of the data.

    Examples
    --------
    >>> check_likelihood("--likelihood", "gaussian")
    'gaussian:learned'
    """
    if isinstance(value, Likelihood) or value == "binomial":
        return value
    try:
        return parse_likelihood(value).name
    except ValueError:
        family, _, number = str(value).partition(":")
        if family == "binomial" and number.isdecimal():
            Binomial(int(number))  # raises an error that says which N it can take
        names = ["binomial", *LIKELIHOODS]
        words = [n for n in names if n == n.lower()]  # "binomial:N" is a pattern
        hint = "" if any(map(str.isdecimal, number)) else suggest(value, words)
        raise ValueError(
            f"{name}: expected {', '.join(names)} (N a whole number, SIGMA a number above 0); "
            f"got {shown(value)}{hint}"
        ) from None


def bound_names(name: str, text: str) -> list[str]:
    """Return the names of bounds in a list with commas.

    Examples
    --------
    >>> bound_names("--bounds", "elbo, ais")
    ['elbo', 'ais']
    """
    return [check_choice(name, part.strip(), BOUNDS) for part in text.split(",")]


def image_shape(name: str, text: str) -> tuple[int, int]:
    """Return (height, width).

    Examples
    --------
    >>> image_shape("--image-shape", "28x20")
    (28, 20)
    """
    h, _, w = text.partition("x")
    if not (h.isdecimal() and w.isdecimal() and int(h) and int(w)):
        raise ValueError(f"{name}: expected HEIGHTxWIDTH, as 28x20, got {text!r}")
    return int(h), int(w)
