"""Calls of the functions of a subject, with checks of what goes in and what comes out.

Every array goes in as a copy, every result is converted to NumPy and checked, and whatever goes
wrong becomes a `SubjectError` of one line, so that one failing function costs only the
examinations that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..support.streams import Purpose, stream
from .subject import Subject, SubjectError

__all__ = ["Calls", "log_density"]

_FIGURES = ("log_p", "evaluate", "generate")  # whose precision says nothing of the others


class Calls:
    """The functions of a subject, with checks of what goes in and what comes out.

    Parameters
    ----------
    subject : Subject

    Attributes
    ----------
    changed : set of str
        The functions that changed an argument in place.
    counts : dict
        How often each function was called.
    refused : dict of str to str
        The functions that are not called any more, with the reason.
    single : bool
        Whether a function returned single precision.
    out_shape : tuple of int
        The shape of one row of what `decode` returns.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.changed: set[str] = set()
        self.counts: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.single = False
        self._sets = False
        self.out_shape: tuple[int, ...] = ()

    def has(self, *names: str) -> bool:
        """Return whether all these functions are given."""
        return all(getattr(self.subject, name) is not None for name in names)

    @property
    def draws(self) -> int:
        """How many draws the loss takes for each row: L, or K of an importance-weighted bound."""
        return max(self.subject.n_samples, self.subject.n_importance)

    def call(self, name: str, *arrays: Any) -> Any:
        """Call a function with copies of the arrays."""
        if name in self.refused:
            raise SubjectError(self.refused[name])
        dtype = self.subject.dtype
        copies = [_copied(a, dtype) for a in arrays]
        self.counts[name] = self.counts.get(name, 0) + 1
        try:
            with np.errstate(all="ignore"):
                value = getattr(self.subject, name)(*copies)
        except (Exception, SystemExit) as error:
            shapes = ", ".join(str(np.shape(a)) for a in arrays if isinstance(a, np.ndarray))
            where = f" (arguments of shape {shapes})" if shapes else ""
            raise SubjectError(f"{name}: raised {_in_one_line(error)}{where}") from error
        for copy, array in zip(copies, arrays):
            if isinstance(copy, np.ndarray) and _differ(copy, np.asarray(array, dtype)):
                self.changed.add(name)
        return value

    def array(self, name: str, value: Any, *, finite: bool = True) -> np.ndarray:
        """Return a result as an array of float64."""
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        try:
            found = np.asarray(value)
            if value is None or found.dtype.kind in "cSUmM":
                raise TypeError(found.dtype)
            if name not in _FIGURES:
                self.single |= found.dtype.itemsize < 8 and found.dtype.kind not in "biu"
            array = found.astype(float)  # a copy: the function may use its memory again
        except (TypeError, ValueError) as error:
            kind = type(value).__name__
            if isinstance(value, np.ndarray):
                kind += f" of {value.dtype}"
            raise SubjectError(
                f"{name}: expected numbers, got {kind}; return a NumPy array"
            ) from error
        if finite and not np.isfinite(array).all():
            raise SubjectError(f"{name}: expected finite numbers, got NaN or inf")
        return array

    def shaped(self, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return a result as an array of this shape."""
        array = self.array(name, value)
        if array.shape != shape:
            raise SubjectError(f"{name}: expected an array of shape {shape}, got {array.shape}")
        return array

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (mu, second), each (B, J)."""
        pair = self.call("encode", x)
        if not isinstance(pair, (tuple, list)) or len(pair) < 2:
            got = f"{type(pair).__name__} of shape {np.shape(pair)}"
            raise SubjectError(f"encode: expected (mu, second), got {got}")
        mu = self.array("encode", pair[0])
        if mu.ndim != 2 or len(mu) != len(x):
            raise SubjectError(f"encode: expected mu of shape ({len(x)}, J), got {mu.shape}")
        return mu, self.shaped("encode", pair[1], mu.shape)

    def decode(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (out, second), each (B, D); the second is None for a decoder of one output."""
        value = self.call("decode", z)
        pair = value if _is_pair(value) else (value, None)
        first = self.array("decode", pair[0])
        self.out_shape = first.shape[1:]
        if not first.ndim or len(first) != len(z):
            raise SubjectError(f"decode: expected {len(z)} rows, got shape {first.shape}")
        first = first.reshape(len(z), -1)
        if pair[1] is None:
            return first, None
        second = self.array("decode", pair[1])
        wide = second.reshape(len(z), -1) if second.ndim > 1 else second
        try:
            return first, np.broadcast_to(wide, first.shape)
        except ValueError as error:
            raise SubjectError(
                f"decode: expected two outputs of one shape, got {first.shape} and {second.shape}"
            ) from error

    def eps(self, rows: int, latent_dim: int, seed: int) -> np.ndarray:
        """Return the noise that belongs to a seed, (B, J), with L > 1 (L, B, J)."""
        draws = self.draws
        shape = (rows, latent_dim) if draws == 1 else (draws, rows, latent_dim)
        return stream(seed, Purpose.CLINIC, 1).standard_normal(shape)

    def noisy(self, name: str, x: np.ndarray, seed: int, latent_dim: int) -> Any:
        """Call `loss` or `gradient` with the noise that belongs to a seed."""
        if self.subject.noise == "eps":
            return self.call(name, x, self.eps(len(x), latent_dim, seed))
        if self.subject.noise == "seed":
            return self.call(name, x, int(seed))
        self.reseed(seed)
        return self.call(name, x)

    def reseed(self, seed: int) -> None:
        """Seed the random state of the subject, if it offers this."""
        if self.subject.seed is not None:
            self.call("seed", int(seed))

    def loss(self, x: np.ndarray, seed: int, latent_dim: int = 1, name: str = "loss") -> float:
        """Return the loss of a batch as one number; one number for each row is averaged."""
        return self.one_loss(self.noisy(name, x, seed, latent_dim), len(x), name)

    def one_loss(self, result: Any, rows: int, name: str = "loss") -> float:
        """Return the loss of some rows as one number."""
        value = self.array(name, result)
        if value.size not in (1, rows):
            raise SubjectError(f"{name}: expected a number or {rows} numbers, got {value.shape}")
        return float(value.mean())

    def gradient(self, x: np.ndarray, seed: int, latent_dim: int) -> dict[str, np.ndarray]:
        """Return the gradient as flat blocks by name."""
        value = self.noisy("gradient", x, seed, latent_dim)
        blocks = value if isinstance(value, dict) else {"all": value}
        return {k: self.array("gradient", v).ravel() for k, v in blocks.items()}

    def _access(self) -> tuple[Callable, Callable]:
        """Return the functions get() and set(vector) of the parameters."""
        if self.subject.parameters is None:
            raise SubjectError("parameters: expected (get, set), got none")
        return self.subject.parameters

    def vector(self) -> np.ndarray:
        """Return a copy of the parameters as a flat vector."""
        try:
            value = self._access()[0]()
        except (Exception, SystemExit) as error:
            raise SubjectError(f"parameters: get() raised {_in_one_line(error)}") from error
        return np.array(self.array("parameters", value)).ravel()

    def replace(self, vector: np.ndarray) -> None:
        """Replace the parameters."""
        try:
            self._access()[1](np.array(vector, self.subject.dtype))
        except (Exception, SystemExit) as error:
            raise SubjectError(f"parameters: set() raised {_in_one_line(error)}") from error
        if self._sets:
            return
        found, self._sets = self.vector(), True
        if found.shape != vector.shape or not np.allclose(found, vector, 2e-7, 1e-8):
            raise SubjectError(
                "parameters: expected get() to return what set() was given, got another vector; "
                "set(vector) must replace the parameters"
            )

    def sample_z(self, mu: np.ndarray, second: np.ndarray, seed: int) -> np.ndarray:
        """Return z (B, J), drawn with a seed."""
        self.reseed(seed)
        return self.shaped("sample_z", self.call("sample_z", mu, second), mu.shape)

    def term(self, name: str, *arrays: Any, finite: bool = True) -> np.ndarray:
        """Return `kl` or `reconstruction` for each row (B,), or the one number of a batch ()."""
        value = self.array(name, self.call(name, *arrays), finite=finite)
        rows = len(arrays[0])
        if value.size == 1 and rows > 1:
            return value.reshape(())
        if not value.ndim or len(value) != rows:
            if value.size == 1:
                return value.reshape(1)
            raise SubjectError(f"{name}: expected a number or {rows} rows, got {value.shape}")
        return value.reshape(rows, -1).sum(1)

    def row_terms(self, name: str, *arrays: Any, finite: bool = True) -> np.ndarray:
        """Return `kl` or `reconstruction` of each row, from batches of one row."""
        rows = range(len(arrays[0]))
        pieces = [[None if a is None else _row(a, i) for a in arrays] for i in rows]
        values = np.array([self.term(name, *p, finite=finite)[0] for p in pieces])
        self.refuse_random(name, values[:1], self.term(name, *pieces[0], finite=finite))
        return values

    def refuse_random(self, name: str, one: np.ndarray, other: np.ndarray) -> None:
        """Never call a function again whose results for the same argument differ."""
        allowed = (1e-3 if self.single else 1e-6) * (1 + np.abs(one).max())
        if one.shape != other.shape or np.abs(one - other).max() > allowed:
            self.refused[name] = (
                f"{name}: expected a function without noise, got two results for the same "
                "argument; switch dropout off, and do not draw"
            )
            raise SubjectError(self.refused[name])


def log_density(
    subject: Subject, x: np.ndarray, first: np.ndarray, second: np.ndarray | None
) -> np.ndarray:
    """Return log p(x|z) of each row by the function that is the likelihood of a subject.

    Parameters
    ----------
    subject : Subject
    x, first : (B, D) array
    second : (B, D) array or None
        The second output of the decoder, if it has one.

    Returns
    -------
    log_p : (B,) array

    Examples
    --------
    >>> poisson = Subject(kl=len, likelihood=lambda x, out: x * out - np.exp(out))
    >>> log_density(poisson, np.ones((1, 2)), np.zeros((1, 2)), None)
    array([-2.])
    """
    out = first if second is None else (first, second)
    x = np.broadcast_to(x, (len(first), x.shape[-1]))  # one row of x with many z
    calls = Calls(subject)
    value = calls.array("likelihood", calls.call("likelihood", x, out), finite=False)
    if not value.ndim or len(value) != len(x):
        raise SubjectError(
            f"likelihood: expected log p(x|z) of {len(x)} rows, got shape {value.shape}"
        )
    return value.reshape(len(x), -1).sum(1)


def _in_one_line(error: BaseException) -> str:
    """The kind of an exception, and the first line of its text."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])


def _is_pair(value: Any) -> bool:
    """Whether it is two arrays, and not a list of two rows."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and np.ndim(value[0]) > 1


def _row(array: Any, i: int) -> Any:
    """Row i of an array, or of each array of a pair."""
    if isinstance(array, tuple):
        return tuple(_row(a, i) for a in array)
    return array[i : i + 1]


def _copied(value: Any, dtype: str) -> Any:
    """A copy of an array, or of each array of a pair; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_copied(v, dtype) for v in value)
    return np.array(value, dtype) if isinstance(value, np.ndarray) else value


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays differ, where NaN is equal to NaN."""
    if a.shape == b.shape and (a == b).all():
        return False
    return not np.array_equal(a, b, equal_nan=True)
