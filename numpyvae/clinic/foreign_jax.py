"""A `ForeignVAE` of a decoder written in JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.likelihoods import Likelihood
from ..support.checks import check_dtype
from .foreign import ForeignVAE
from .foreign_calls import called

__all__ = ["foreign_from_jax"]


def foreign_from_jax(
    decode: Callable,
    *,
    latent_dim: int,
    data_dim: int | tuple[int, ...],
    likelihood: str | Likelihood,
    encode: Callable | None = None,
    parameters: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    row_floats: int | None = None,
) -> ForeignVAE:
    """Make a model of JAX functions, whose gradient and compilation are those of JAX.

    Parameters
    ----------
    decode : callable
        z (n, J) → outputs, as for `ForeignVAE`, with the weights bound:
        `lambda z: decoder.apply(weights, z)`. `jax.jit` must be able to compile it.
    latent_dim : int
    data_dim : int or tuple of int
    likelihood : str or Likelihood
    parameters : mapping of str to (D,) array, optional
        As for `ForeignVAE`, all four.
    encode : callable, optional
        x → (mu, logvar).
    dtype : {"float32", "float64"}
        float64 needs `jax.config.update("jax_enable_x64", True)`.
    row_floats : int, optional
        As for `ForeignVAE`; if left out, it is what JAX reports of the compiled decoder.

    Returns
    -------
    model : ForeignVAE

    Raises
    ------
    ImportError
        If JAX is not installed.
    TypeError, ValueError, RuntimeError
        As for `ForeignVAE`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> W = jnp.ones((2, 6))
    >>> foreign_from_jax(
    ...     lambda z: jnp.tanh(z) @ W, latent_dim=2, data_dim=6, likelihood="bernoulli"
    ... )
    ForeignVAE(6 dimensions, 2 latents, bernoulli, float32, q is the prior)
    """
    jax = _jax()
    if check_dtype(dtype) == "float64" and not jax.config.jax_enable_x64:
        raise ValueError(
            "dtype: expected float32, since JAX computes in float32, got float64; first call "
            'jax.config.update("jax_enable_x64", True)'
        )
    forward = jax.jit(lambda z: jax.vjp(decode, z))  # the pullback is an output, a pytree
    backward = jax.jit(lambda pull, dout: pull(dout)[0])

    def decode_rows(z: np.ndarray) -> tuple[Any, Callable]:
        out, pull = forward(z)
        return _to_numpy(jax, out), lambda dout: np.asarray(backward(pull, dout))

    if row_floats is None:
        row_floats = _compiled_floats(forward, backward, latent_dim, dtype)
    return ForeignVAE(
        decode_rows,
        latent_dim=latent_dim,
        data_dim=data_dim,
        likelihood=likelihood,
        encode=encode and _compiled_encoder(jax, encode),
        parameters={name: np.asarray(p) for name, p in (parameters or {}).items()},
        dtype=dtype,
        row_floats=row_floats,
    )


def _jax() -> Any:
    """Import JAX, which only users of it need."""
    try:
        import jax
    except ImportError as error:
        raise ImportError(
            'foreign_from_jax: expected JAX, which is not installed; pip install "numpyvae[jax]"'
        ) from error
    return jax


def _to_numpy(jax: Any, out: Any) -> Any:
    """Return the JAX arrays of an array, or of a pair of arrays, as NumPy arrays."""
    if isinstance(out, (tuple, list)):
        return tuple(_to_numpy(jax, part) for part in out)
    return np.asarray(out) if isinstance(out, jax.Array) else out


def _compiled_encoder(jax: Any, encode: Callable) -> Callable:
    """Return an encoder that is compiled, and returns NumPy arrays."""
    compiled = jax.jit(encode)
    return lambda x: _to_numpy(jax, compiled(x))


def _compiled_floats(forward: Any, backward: Any, latent_dim: int, dtype: str) -> int | None:
    """Return the floats of one row in both compiled functions, or None if JAX does not tell.

    It is the difference between 80 rows and 16, so that the weights do not count.
    """
    sizes = []
    for rows in (16, 80):
        z = np.zeros((rows, latent_dim), dtype)
        lowered = called("decode", forward.lower, z)
        out, pull = lowered.out_info
        stats = [
            compiled.memory_analysis()
            for compiled in (lowered.compile(), backward.lower(pull, out).compile())
        ]
        if None in stats:
            return None
        sizes.append(sum(s.temp_size_in_bytes + s.output_size_in_bytes for s in stats))
    return max(0, round((sizes[1] - sizes[0]) / 64 / z.itemsize))
