"""log p(x) of a subject of the clinic: the bounds of `numpyvae.bounds` for any decoder.

    log p/(1 − p) for probabilities,   2 log σ for a standard deviation

turn what the subject returns into what the likelihood reads; the gradient follows by the chain
rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..support.checks import check_kind
from .calls import Calls
from .facts import establish
from .foreign import ForeignVAE
from .subject import Subject, log_variance

__all__ = ["DecoderOf", "model_of"]

_STEP = {"float64": 1e-5, "float32": 1e-2}  # of central differences


def model_of(
    subject: Subject, *, latent_dim: int | None = None, row_floats: int | None = None
) -> ForeignVAE:
    """Return a subject as a model for `numpyvae.bounds`.

    What the outputs mean is what the subject declares, else what the clinic finds by their values.
    Probabilities p become logits log p/(1 − p), with p at least ε and at most 1 − ε, where ε is
    the rounding error of the dtype (logits between −36 and 36 in float64, −16 and 16 in float32);
    a decoder that returns logits is more exact. Without `decode_vjp` the gradient of the decoder
    in z is that of central differences, 2J calls of `decode`: the bounds stay valid, since the
    moves of annealing are accepted by exact densities, but they take longer.

    Parameters
    ----------
    subject : Subject
        With `decode`. `encode`, if it has one, is the proposal of importance weights.
    latent_dim : int, optional
        J, for a subject that neither declares nor shows it by `encode`.
    row_floats : int, optional
        As for `ForeignVAE`.

    Returns
    -------
    model : ForeignVAE

    Raises
    ------
    TypeError
        If `subject` is not a `Subject`.
    ValueError
        If it has no decoder, J or D is not known, or σ of a Gaussian is not declared.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((2, 6))
    >>> subject = Subject(
    ...     decode=lambda z: z @ W, output="logits", latent_dim=2, data_dim=6
    ... )
    >>> model_of(subject)
    ForeignVAE(6 dimensions, 2 latents, bernoulli, float64, q is the prior)
    """
    check_kind("subject", subject, Subject, "make one with clinic.Subject(...)")
    calls = Calls(subject)
    if not calls.has("decode"):
        raise ValueError("model_of: expected a subject with decode, got one without it")
    facts = establish(calls, 0)
    known = calls.has("encode") and facts.x is not None
    j = latent_dim or subject.latent_dim or (facts.latent_dim if known else None)
    shape = subject.data_dim if facts.x is None else facts.x.shape[1:]
    if j is None or shape is None:
        raise ValueError(
            "model_of: expected a subject that declares latent_dim and data_dim, or has x and "
            f"encode, got latent_dim {j} and data_dim {subject.data_dim}"
        )
    decoder = DecoderOf(calls, facts.output)
    return ForeignVAE(
        decoder.outputs,
        decoder.pullback,
        latent_dim=j,
        data_dim=shape,
        likelihood=_likelihood(subject, facts.output),
        encode=_encoder(calls, facts.scale) if calls.has("encode") else None,
        dtype=subject.dtype,
        row_floats=row_floats,
    )


def _likelihood(subject: Subject, output: str) -> str:
    """The likelihood by the name that `VAE` takes."""
    if subject.family != "gaussian":
        return str(subject.likelihood)
    if output != "mean":
        return "gaussian:head"
    if subject.declared_sigma is None:
        raise ValueError(
            "model_of: expected a declared σ, without which a Gaussian decoder has no log p(x), "
            'got none; give sigma=, or likelihood="gaussian:σ"'
        )
    return f"gaussian:{subject.declared_sigma!r}"


def _encoder(calls: Calls, scale: str) -> Callable:
    """x → (mu, logvar), in the dtype of the subject."""

    def encode(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mu, second = calls.encode(x)
        return mu.astype(x.dtype), log_variance(second, scale).astype(x.dtype)

    return encode


class DecoderOf:
    """The outputs that the likelihood reads, and their pullback.

    Parameters
    ----------
    calls : Calls
    output : str
        What the decoder returns.

    Examples
    --------
    >>> subject = Subject(decode=lambda z: z / 4 + 0.5)
    >>> DecoderOf(Calls(subject), "probabilities").outputs(np.array([[0.0], [1.0]])).round(4)
    array([[0.    ],
           [1.0986]])
    """

    def __init__(self, calls: Calls, output: str) -> None:
        self.calls, self.output = calls, output

    def outputs(self, z: np.ndarray) -> Any:
        """Return the outputs for z (n, J): (n, D), or a pair (mean, logvar)."""
        first, second = self.calls.decode(z)
        if self.output == "probabilities":
            p = _inside(first, z.dtype)
            first = np.log(p) - np.log1p(-p)
        if second is None:
            return first.astype(z.dtype)
        if self.output == "mean_sigma":
            second = log_variance(second, "sigma")
        return first.astype(z.dtype), second.astype(z.dtype)

    def pullback(self, z: np.ndarray, dout: Any) -> np.ndarray:
        """Return dz (n, J), by `decode_vjp` or by central differences."""
        if not self.calls.has("decode_vjp"):
            return self._by_differences(z, dout)
        first, second = self.calls.decode(z)
        shape = (len(z), *self.calls.out_shape)
        pair = isinstance(dout, tuple)
        own = list(dout) if pair else [dout]
        if self.output == "probabilities":
            p = _inside(first, z.dtype)
            own[0] = np.where(p == first, own[0] / (p * (1 - p)), 0.0)
        if self.output == "mean_sigma":
            own[1] = 2 * own[1] / second
        parts = [part.reshape(shape).astype(z.dtype) for part in own]
        dz = self.calls.call("decode_vjp", z, tuple(parts) if pair else parts[0])
        return self.calls.shaped("decode_vjp", dz, z.shape).astype(z.dtype)

    def _by_differences(self, z: np.ndarray, dout: Any) -> np.ndarray:
        """∂/∂z_j Σ_d dout_d out_d (z) for each j."""
        h = z.dtype.type(_STEP[z.dtype.name])
        weights = dout if isinstance(dout, tuple) else (dout,)
        dz = np.empty_like(z)
        for j, unit in enumerate(h * np.eye(z.shape[1], dtype=z.dtype)):
            sides = [self.outputs(side) for side in (z + unit, z - unit)]
            above, below = (s if isinstance(s, tuple) else (s,) for s in sides)
            rise = sum(((a - b) * w).sum(1) for a, b, w in zip(above, below, weights))
            dz[:, j] = rise / (2 * h)
        return dz


def _inside(p: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Probabilities, at least the rounding error away from 0 and 1."""
    least = float(np.finfo(dtype).eps)
    return np.clip(p, least, 1 - least)
