"""Calls of functions that are not ours: what they are given, and checks of what they return.

Each function gets a copy of its array, so that a change in place cannot reach a chain; such a
change is an error all the same. Whatever goes wrong becomes one line with the function's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Decoder", "Encoder", "called", "first_line"]

_MESSAGE = 200  # characters of a foreign error message that are repeated


def first_line(error: BaseException) -> str:
    """Return the class and the first line of the message of an error, at most 200 characters."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 3]}..."


def called(name: str, function: Callable, array: np.ndarray, *more: Any) -> Any:
    """Call function(copy of array, *more), which must not raise, or change the copy.

    Raises
    ------
    RuntimeError
        If the function raises an error.
    ValueError
        If it changes its array in place.
    """
    copy = array.copy()
    try:
        result = function(copy, *more)
    except Exception as error:
        raise RuntimeError(
            f"{name}: expected a result for an array of shape {array.shape} and dtype "
            f"{array.dtype}, got {first_line(error)}"
        ) from error
    if not np.array_equal(copy, array, equal_nan=True):
        raise ValueError(
            f"{name}: expected that its argument stays as it is, got a change in place; "
            "work on a copy of it"
        )
    return result


def checked(name: str, value: Any, rows: int, width: int, dtype: np.dtype) -> np.ndarray:
    """Return `value` if it is an array of this dtype with `width` values in each of its rows."""
    if not isinstance(value, np.ndarray) or type(value) is np.ma.MaskedArray:
        kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        raise TypeError(f"{name}: expected a NumPy array, got {kind}; {_remedy(kind)}")
    if value.shape[:1] != (rows,) or value.size != rows * width:
        raise ValueError(
            f"{name}: expected shape ({rows}, {width}), or one with {width} values in each of "
            f"{rows} rows, got {value.shape}"
        )
    if value.dtype != dtype:
        raise TypeError(
            f"{name}: expected dtype {dtype}, as the argument has, got {value.dtype}; convert the "
            f"result with .astype(z.dtype), or choose another dtype for the model"
        )
    return value


def _remedy(kind: str) -> str:
    """Return how to make a NumPy array of an object of this class."""
    if kind.startswith("torch."):
        return "use foreign_from_torch, or return value.detach().cpu().numpy()"
    if kind.startswith("jax"):
        return "use foreign_from_jax, or return numpy.asarray(value)"
    return "return numpy.asarray(value)"


class Decoder:
    """z (n, J) → outputs (n, heads·D), and `pull(dout) -> dz`, by the functions of a user.

    Parameters
    ----------
    decode : callable
    decode_vjp : callable, optional
        None if `decode` returns its own pullback.
    latent_dim, width, heads : int
        J, heads·D and the heads.
    dtype : numpy.dtype

    Examples
    --------
    >>> W = np.eye(2, 3)
    >>> decoder = Decoder(lambda z: z @ W, lambda z, dout: dout @ W.T, 2, 3, 1, W.dtype)
    >>> out, pull = decoder(np.ones((4, 2)))
    >>> out.shape, pull(out).shape
    ((4, 3), (4, 2))
    """

    def __init__(
        self,
        decode: Callable,
        decode_vjp: Callable | None,
        latent_dim: int,
        width: int,
        heads: int,
        dtype: np.dtype,
    ) -> None:
        self.decode, self.decode_vjp = decode, decode_vjp
        self.latent_dim, self.width, self.heads, self.dtype = latent_dim, width, heads, dtype

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        out, own_pull = self._forward(z)
        pair = isinstance(out, (tuple, list)) and len(out) == 2 == self.heads
        parts = tuple(out) if pair else (out,)
        width = self.width // len(parts)
        names = ("decode, mean", "decode, logvar") if pair else ("decode",)
        arrays = [checked(n, p, len(z), width, self.dtype) for n, p in zip(names, parts)]
        shapes = [array.shape for array in arrays]
        rows = [array.reshape(len(z), width) for array in arrays]  # (n, …) → (n, width)

        def pull(dout):
            pieces = np.split(dout, len(shapes), axis=1)
            given = [p.reshape(s).astype(self.dtype) for p, s in zip(pieces, shapes)]
            return self._backward(z, tuple(given) if pair else given[0], own_pull)

        return (np.concatenate(rows, axis=1) if pair else rows[0]), pull

    def _forward(self, z: np.ndarray) -> tuple[Any, Callable | None]:
        """Call `decode`; return its outputs, and its pullback if it gives one."""
        answer = called("decode", self.decode, z)
        if self.decode_vjp is not None:
            return answer, None
        if not (isinstance(answer, tuple) and len(answer) == 2 and callable(answer[1])):
            raise TypeError(
                "decode: expected outputs and their pullback, (out, pull), since there is no "
                f"decode_vjp, got {type(answer).__name__}; pass decode_vjp(z, dout) -> dz"
            )
        return answer

    def _backward(self, z: np.ndarray, dout: Any, own_pull: Any) -> np.ndarray:
        """Call `decode_vjp`, or the pullback that `decode` gave."""
        if self.decode_vjp is not None:
            dz = called("decode_vjp", self.decode_vjp, z, dout)
        else:
            dz = called("pull of decode", lambda _: own_pull(dout), z[:0])
        dz = checked("decode_vjp", dz, len(z), self.latent_dim, self.dtype)
        return np.array(dz).reshape(z.shape)  # a copy, since a bound adds to it in place


class Encoder:
    """x (n, D) → (mu, logvar), (n, J) each, by the function of a user, or the prior without one.

    Parameters
    ----------
    encode : callable, optional
    data_shape : tuple of int
        The shape in which `encode` gets one datapoint.
    latent_dim : int
    dtype : numpy.dtype

    Examples
    --------
    >>> prior = Encoder(None, (3,), 2, np.dtype(float))
    >>> mu, logvar = prior(np.ones((4, 3)))
    >>> mu.shape, mu.any() or logvar.any()
    ((4, 2), np.False_)
    """

    def __init__(
        self,
        encode: Callable | None,
        data_shape: tuple[int, ...],
        latent_dim: int,
        dtype: np.dtype,
    ) -> None:
        self.encode, self.data_shape = encode, data_shape
        self.latent_dim, self.dtype = latent_dim, dtype

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = len(x), self.latent_dim
        if self.encode is None:
            return np.zeros(shape, self.dtype), np.zeros(shape, self.dtype)
        answer = called("encode", self.encode, x.reshape(len(x), *self.data_shape))
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise TypeError(f"encode: expected (mu, logvar), got {type(answer).__name__}")
        parts = []
        for name, part in zip(("encode, mu", "encode, logvar"), answer):
            part = checked(name, part, *shape, self.dtype).reshape(shape)
            if not np.isfinite(part).all():
                raise ValueError(f"{name}: expected finite values, got NaN or infinity")
            parts.append(part)
        return parts[0], parts[1]
