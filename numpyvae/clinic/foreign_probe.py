"""A first look at a foreign decoder: is it a function of z alone, and is its gradient right?

The bounds are wrong, or useless, without any sign of it, if the decoder draws noise (dropout), if
a row depends on the others (batch normalization in training mode), or if its gradient in z is
that of something else. A few evaluations at z ~ N(0, I) tell.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np

from ..core.likelihoods import Likelihood
from ..support.checks import warn_caller
from ..support.streams import Purpose, stream

__all__ = ["check_decoder", "measured_floats"]

_ROWS = 5  # draws of z
_SAME = {"float32": 1e-3, "float64": 1e-6}  # relative to the outputs, far above rounding
_STEP = {"float32": 1e-2, "float64": 1e-4}  # of the central differences
_WRONG = 0.05  # a gradient is wrong if it differs by more than that, and by more than their error
_MANY = 64  # logits of which one at least is outside [0, 1], if they are logits
_ROOM = 1.2  # memory of a row, relative to the measured one


def check_decoder(
    decoder: Callable, latent_dim: int, dtype: np.dtype, likelihood: Likelihood
) -> None:
    """Check that the decoder is a function of each row alone, and its pullback the gradient.

    Parameters
    ----------
    decoder : callable
        `out, pull = decoder(z)`.
    latent_dim : int
    dtype : numpy.dtype
    likelihood : Likelihood

    Raises
    ------
    ValueError
        If it is not.

    Warns
    -----
    UserWarning
        If the outputs look like probabilities, but the likelihood reads logits.

    Examples
    --------
    >>> from numpyvae.core.likelihoods import Bernoulli
    >>> square = lambda z: (z * z, lambda dout: 2 * z * dout)
    >>> check_decoder(square, 3, np.dtype(float), Bernoulli())
    """
    rng = stream(0, Purpose.GRADIENT_CASES)
    z = rng.standard_normal((_ROWS, latent_dim)).astype(dtype)
    out, pull = decoder(z)
    if not np.isfinite(out).all():
        raise ValueError(
            "decode: expected finite outputs for z ~ N(0, I), got NaN or infinity; check its "
            "parameters"
        )
    _check_same(decoder(z)[0], out, "the same outputs for the same z", "dropout")
    alone = np.stack([decoder(np.stack([row, row]))[0][0] for row in z])
    _check_same(alone, out, "outputs that do not depend on the other rows", "normalization")
    _check_gradient(decoder, z, out, pull)
    _warn_of_probabilities(out, likelihood)


def _warn_of_probabilities(out: np.ndarray, likelihood: Likelihood) -> None:
    """Warn if all outputs lie in [0, 1], but the likelihood maps them to a bounded mean."""
    bounded = likelihood.heads == 1 and np.isfinite(likelihood.support).all()
    if not bounded or out.size < _MANY or out.min() < 0 or out.max() > 1:
        return
    if not np.array_equal(likelihood.mean(out), out):
        warn_caller(
            f"decode: all of {out.size} outputs lie in [0, 1], as probabilities do, but the "
            f"likelihood {likelihood.name} reads logits; return the values before the sigmoid"
        )


def _check_same(found: np.ndarray, out: np.ndarray, expected: str, cause: str) -> None:
    """Raise ValueError if two evaluations of the decoder differ by more than rounding."""
    difference = float(np.abs(found - out).max())
    if difference > _SAME[out.dtype.name] * (1 + float(np.abs(out).max())):
        raise ValueError(
            f"decode: expected {expected}, got a difference of {difference:.2g}; put the model "
            f"into evaluation mode ({cause})"
        )


def _check_gradient(decoder: Callable, z: np.ndarray, out: np.ndarray, pull: Callable) -> None:
    """Compare the pullback with central differences in a random direction, one for each row.

    ⟨pull(u), v⟩ = d/dh ⟨u, out(z + h v)⟩ at h = 0

    The differences with h and h/2 tell their own error. Only a gradient that is wrong in most rows
    is refused, so that a kink of a rectifier near z does no harm.
    """
    rng = stream(0, Purpose.GRADIENT_DIRECTIONS)
    u, v = (rng.standard_normal(a.shape).astype(z.dtype) for a in (out, z))
    dz = pull(u)
    if not np.isfinite(dz).all():
        raise ValueError("decode_vjp: expected a finite gradient for z ~ N(0, I), got NaN or inf")
    found = (dz * v).sum(axis=1, dtype=float)

    def difference(h):
        rise = decoder(z + z.dtype.type(h) * v)[0] - decoder(z - z.dtype.type(h) * v)[0]
        return (u * rise).sum(axis=1, dtype=float) / (2 * h)

    h = _STEP[z.dtype.name]
    coarse, fine = difference(h), difference(h / 2)
    rounding = 8 * np.finfo(z.dtype).eps * np.abs(u * out).sum(axis=1, dtype=float) / h
    allowed = _WRONG * np.maximum(np.abs(found), np.abs(fine))
    wrong = np.abs(found - fine) > allowed + 10 * np.abs(coarse - fine) + rounding
    if wrong.sum() > _ROWS // 2:
        i = int(np.argmax(np.abs(found - fine)))
        raise ValueError(
            f"decode_vjp: expected the gradient of decode in z, {fine[i]:.4g} along a random "
            f"direction by central differences, got {found[i]:.4g}; it must return "
            "Σ_d dout_d ∂out_d/∂z for each row"
        )


def measured_floats(decoder: Callable, latent_dim: int, width: int, dtype: np.dtype) -> int:
    """Return how many floats a row of z needs in the decoder and its gradient.

    It is the growth of the memory that NumPy allocates, from 16 rows to 80. What other libraries
    allocate is not seen.

    Parameters
    ----------
    decoder : callable
    latent_dim, width : int
        J, and the outputs of a row.
    dtype : numpy.dtype

    Returns
    -------
    floats : int

    Examples
    --------
    >>> square = lambda z: (z * z, lambda dout: 2 * z * dout)
    >>> measured_floats(square, 1000, 1000, np.dtype(float)) >= 2000       # outputs and gradient
    True
    """
    began = not tracemalloc.is_tracing()
    if began:
        tracemalloc.start()
    try:
        peaks = [_peak(decoder, rows, latent_dim, width, dtype) for rows in (16, 16, 80)]
    finally:
        if began:
            tracemalloc.stop()
    return max(0, round(_ROOM * (peaks[2] - peaks[1]) / 64 / dtype.itemsize))


def _peak(decoder: Callable, rows: int, latent_dim: int, width: int, dtype: np.dtype) -> int:
    """Return the bytes that one pass and its gradient add at their peak."""
    z = stream(0, Purpose.GRADIENT_CASES).standard_normal((rows, latent_dim)).astype(dtype)
    dout = np.ones((rows, width), dtype)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    out, pull = decoder(z)
    pull(dout)
    del out  # not earlier: the likelihood needs the outputs, too
    return tracemalloc.get_traced_memory()[1] - before
