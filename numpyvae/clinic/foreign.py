"""log p(x) of a model that another library made, of any architecture.

`numpyvae.bounds` needs of a model its decoder, the gradient of the decoder in z, and what the
outputs mean. A `ForeignVAE` makes a model of these functions, which take and return NumPy arrays.
`foreign_from_torch` and `foreign_from_jax` make the functions, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.likelihoods import Likelihood, parse_likelihood
from ..core.vae import VAE
from ..support.blocks import in_blocks
from ..support.checks import check_count, check_dtype, check_rows, shown
from ..support.contract import RowSize
from ..support.fit_checks import check_functions
from .foreign_calls import Decoder, Encoder
from .foreign_probe import check_decoder, measured_floats

__all__ = ["ForeignVAE"]

_WIDEST_SHARE = 3  # blocks are made as if the widest layer had 1/3 of the floats of a row


class ForeignVAE:
    """A model of which only functions are known: log p(x) between bounds, for any decoder.

    The functions are called with many rows at once, and from several threads if `n_jobs` of a
    bound is above 1. The first calls check them, at z ~ N(0, I): shapes, dtypes, the gradient
    against central differences, and whether equal z give equal outputs.

    Parameters
    ----------
    decode : callable
        z (n, J) → what the likelihood reads, for Bernoulli and Binomial logits: an array
        (n, heads·D), or (n, …) with as many values in each row, or a pair (mean, logvar).
    decode_vjp : callable, optional
        (z, dout) → dz, (n, J): the vector–Jacobian product Σ_d dout_d ∂out_d/∂z; dout has the form
        of the outputs. Without it `decode` returns `(out, pull)` with `pull(dout) -> dz`, so that
        the outputs need not be computed twice.
    latent_dim : int
        J; the prior is N(0, I).
    data_dim : int or tuple of int
        D, or the shape of a datapoint, as (1, 28, 28), in which `encode` gets it. The bounds take
        x as (N, D).
    likelihood : str or Likelihood
        As for `VAE`.
    encode : callable, optional
        x → (mu, logvar), (n, J) each. Without it q is the prior: the bounds are valid, but that of
        importance weights is loose; annealing needs no encoder.
    parameters : mapping of str to (D,) array, optional
        Those of the likelihood: "decoder.logvar", log σ², for `gaussian:learned`.
    dtype : {"float32", "float64"}
        The dtype of z, and that of the outputs.
    row_floats : int, optional
        The floating-point numbers that a pass of the decoder and its gradient keep for one row. If
        left out, they are measured, which sees only what NumPy allocates.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        If an argument is not valid, or a function raises, or returns something else.

    Warns
    -----
    UserWarning
        If the outputs look like probabilities, but the likelihood reads logits.

    Examples
    --------
    >>> from numpyvae import bounds
    >>> W = np.random.default_rng(0).standard_normal((2, 6))
    >>> model = ForeignVAE(
    ...     lambda z: z @ W, lambda z, dout: dout @ W.T,
    ...     latent_dim=2, data_dim=6, likelihood="gaussian:0.5",
    ... )
    >>> model
    ForeignVAE(6 dimensions, 2 latents, gaussian:0.5, float64, q is the prior)
    >>> result = bounds.sandwich(model, n=3, n_temperatures=20, n_chains=4)
    >>> result.log_lower.shape, result.log_upper.shape
    ((3,), (3,))
    """

    def __init__(
        self,
        decode: Callable,
        decode_vjp: Callable | None = None,
        *,
        latent_dim: int,
        data_dim: int | tuple[int, ...],
        likelihood: str | Likelihood,
        encode: Callable | None = None,
        parameters: Mapping[str, Any] | None = None,
        dtype: str = "float64",
        row_floats: int | None = None,
    ) -> None:
        if not callable(decode):
            raise TypeError(f"decode: expected a function of z, got {shown(decode)}")
        check_functions(decode_vjp=decode_vjp, encode=encode)
        shape = data_dim if isinstance(data_dim, (tuple, list)) else (data_dim,)
        shape = tuple(check_count("data_dim", n) for n in shape)
        self.data_dim, self.latent_dim = math.prod(shape), check_count("latent_dim", latent_dim)
        self.likelihood = parse_likelihood(likelihood)
        self.dtype = np.dtype(check_dtype(dtype))
        self.parameters = _own_parameters(self, parameters or {})
        heads, J = self.likelihood.heads, self.latent_dim
        width = heads * self.data_dim
        self._decoder = Decoder(decode, decode_vjp, J, width, heads, self.dtype)
        self._encoder = Encoder(encode, shape, J, self.dtype)
        check_decoder(self._decoder, J, self.dtype, self.likelihood)
        if row_floats is None:
            row_floats = measured_floats(self._decoder, J, width, self.dtype)
        row_floats = check_count("row_floats", row_floats, minimum=0)
        widest = max(self.data_dim, row_floats // _WIDEST_SHARE)
        self.row_size = RowSize.of_decoder(row_floats, width, J, widest)

    def __repr__(self) -> str:
        q = "q is the prior" if self._encoder.encode is None else "with an encoder"
        return (
            f"ForeignVAE({self.data_dim} dimensions, {self.latent_dim} latents, "
            f"{self.likelihood.name}, {self.dtype}, {q})"
        )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_missing(name))

    # What needs only the members below is computed as in a `VAE`.

    log_likelihood, decode = VAE.log_likelihood, VAE.decode
    reconstruct, sample = VAE.reconstruct, VAE.sample

    def encoder(self, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Callable]:
        """Map x (B, D) to the parameters (mu, logvar) of q(z|x), the prior without `encode`."""

        def pull(*gradients):
            raise TypeError(_missing("gradient of its encoder"))

        return self._encoder(x), pull

    def decoder(self, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Map z (L, B, J) to the outputs (L, B, heads·D); `pull(dout) -> dz` is their pullback."""
        L, B, J = z.shape
        out, pull_rows = self._decoder(z.reshape(L * B, J))  # (L, B, J) → (L·B, J)

        def pull(dout, gradient=None, input_gradient=True):
            if gradient is not None:
                raise TypeError(_missing("gradient in its parameters"))
            dz = pull_rows(dout.reshape(L * B, -1)) if input_gradient else None
            return None if dz is None else dz.reshape(z.shape)

        return out.reshape(L, B, -1), pull

    def encode(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mu and logvar, (B, J) each, for x (B, D).

        Raises
        ------
        ValueError
            If the model has no encoder.
        """
        if self._encoder.encode is None:
            raise ValueError(
                "encode: expected a model with an encoder, got one whose q is the prior; make it "
                "with encode=, or use the annealed bounds, which need none"
            )
        x = check_rows(x, self.data_dim, dtype=self.dtype)
        both = in_blocks(self, lambda rows: np.hstack(self._encoder(rows)), x)
        return both[:, : self.latent_dim].copy(), both[:, self.latent_dim :].copy()


def _missing(name: str) -> str:
    """Return the message for a member of a `VAE` that a foreign model does not have."""
    return (
        f"ForeignVAE: expected a use that needs only its functions, got one that needs the "
        f"{name}, which it has not; numpyvae.bounds takes it, training and exact models do not"
    )


class _Parameters(dict):
    """The parameters of the likelihood by name; those of the networks are not known."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_missing(f"parameters ({name})"))


def _own_parameters(model: ForeignVAE, given: Mapping[str, Any]) -> _Parameters:
    """Return the parameters of the likelihood, after a check of names, shapes and values."""
    shapes = model.likelihood.parameter_shapes(model.data_dim)
    if not isinstance(given, Mapping) or shapes.keys() != given.keys():
        names = sorted(given) if isinstance(given, Mapping) else shown(given)
        raise ValueError(
            f"parameters: expected the arrays {sorted(shapes)} for the likelihood "
            f"{model.likelihood.name}, got {names}"
        )
    found = _Parameters()
    for name, shape in shapes.items():
        value = np.asarray(given[name])
        if value.dtype.kind not in "iuf" or value.shape != shape or not np.isfinite(value).all():
            raise ValueError(
                f"parameters, {name}: expected {shape} finite numbers, got {value.dtype} of "
                f"shape {value.shape}, or NaN or infinity among them"
            )
        found[name] = value.astype(model.dtype)
    return found
