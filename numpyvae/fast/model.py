"""A model whose networks and log p(x|z) are compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..estimators.weights import weigh
from .loading import needing_numba
from .parts import activation_kind, constants, likelihood_kind, methods, part_not_compiled, ready

__all__ = ["CompiledVAE", "compiled", "not_compiled", "weigh_draws"]


@cache  # so that a call does not execute import statements
def _loops() -> tuple[Any, Any, Any]:
    """Return the modules with the compiled functions."""
    with needing_numba("compiled"):
        from . import decoding, evaluation, networks
    return decoding, evaluation, networks


class CompiledVAE(VAE):
    """A `VAE` with compiled networks and log p(x|z); `compiled` makes it of another model.

    What is not compiled is computed by the methods of `VAE`: other activations than tanh, relu and
    softplus, other likelihoods than Bernoulli, Binomial and the Gaussians, complex numbers.

    Examples
    --------
    >>> vae = CompiledVAE(data_dim=784, latent_dim=20)                   # doctest: +SKIP
    """

    def encoder(self, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Callable]:
        if not self._computes(x, self.data_dim):
            return super().encoder(x)
        J, phi = self.latent_dim, self.parameters.phi
        out, pull_network = self._network("encoder", x, phi)

        def pull(dmu, dlogvar, gradient):
            dout = np.concatenate([dmu, dlogvar], axis=1)
            pull_network(dout, gradient.phi, input_gradient=False)

        return (out[:, :J], out[:, J:]), pull

    def decoder(self, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        L, B, J = z.shape
        if not self._computes(z, self.latent_dim):
            return super().decoder(z)
        out, pull_network = self._network("decoder", z.reshape(L * B, J), self.parameters.theta)

        def pull(dout, gradient=None, input_gradient=True):
            into = None if gradient is None else gradient.theta
            dz = pull_network(dout.reshape(L * B, -1), into, input_gradient)
            return dz.reshape(L, B, J) if input_gradient else None

        return out.reshape(L, B, -1), pull

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        if not self.log_likelihood_is_compiled(x, z):
            return super().log_likelihood(x, z)
        decoding, _, _ = _loops()
        L, B, J = z.shape
        x, z, theta = map(ready, (x, z.reshape(L * B, J), self.parameters.theta))
        parts = self._decoder_parts(x)
        log_px, outputs, out = decoding.decode(x, z, theta, *parts, True)
        down, kinds = parts[:2]
        log_px = log_px.reshape(L, B)

        def pull(dlog_px, gradient=None, input_gradient=True):
            a = _like(log_px, dlog_px).reshape(-1)
            into = theta[:0] if gradient is None else gradient.theta
            dz = decoding.pull_decode(
                *(x, z, theta, into, down, kinds, outputs, out.copy(), a),
                *(gradient is not None, input_gradient),
            )
            return dz.reshape(L, B, J) if input_gradient else None

        return log_px, pull

    def log_likelihood_is_compiled(self, x: np.ndarray, z: np.ndarray) -> bool:
        """Whether `log_likelihood` is compiled for these arrays: x (B, D) and z (L, B, J)."""
        fits = x.ndim == 2 and z.ndim == 3 and len(x) == z.shape[1]
        known = likelihood_kind(self.likelihood) is not None
        parts = (x, self.data_dim), (z, self.latent_dim)
        return fits and known and all(self._computes(*part) for part in parts)

    def _computes(self, rows: np.ndarray, width: int) -> bool:
        """Whether compiled functions can take these rows."""
        dtype = self.parameters.flat.dtype
        known = activation_kind(self.activation) is not None and dtype in (np.float32, np.float64)
        return known and rows.dtype == dtype and rows.shape[-1] == width

    def _decoder_parts(self, x: np.ndarray) -> tuple:
        """Return what `decode` takes after θ: widths, kinds, number, constant."""
        widths, _ = self.architecture.networks()["decoder"]
        kinds = activation_kind(self.activation), likelihood_kind(self.likelihood)
        return np.array(widths), kinds, *constants(self.likelihood, x)

    def _network(self, name: str, rows: np.ndarray, flat: np.ndarray) -> tuple:
        """Return the outputs of a network, and a pullback that writes into a vector."""
        _, _, networks = _loops()
        widths = np.array(self.architecture.networks()[name][0])
        kind = activation_kind(self.activation)
        rows, flat = map(ready, (rows, flat))
        size = int(((widths[:-1] + 1) * widths[1:]).sum())
        flat, m = flat[:size], widths[-1]
        outputs, out = networks.mlp(rows, flat, widths, kind)
        out += flat[-m:]

        def pull(dout, into, input_gradient):
            dout = _like(out, dout)
            dx = np.empty_like(rows if input_gradient else rows[:0])
            gradient = flat[:0] if into is None else into[:size]
            if into is not None:
                dout.sum(axis=0, out=gradient[-m:])
            networks.pull_mlp(
                *(rows, flat, gradient, widths, kind, outputs, dout, dx), into is not None
            )
            return dx

        return out, pull


@cache
def _has_compiled_methods(kind: type) -> bool:
    """Whether the networks and log p(x|z) of a class are those of VAE, which are compiled."""
    names = "encoder", "decoder", "log_likelihood"
    return methods(kind, *names) in (methods(VAE, *names), methods(CompiledVAE, *names))


def not_compiled(vae: VAE) -> str | None:
    """Return what of a model is not compiled, with what can be, or None if all of it is.

    Examples
    --------
    >>> not_compiled(VAE(data_dim=4, latent_dim=2))
    >>> not_compiled(VAE(data_dim=4, latent_dim=2, activation="sigmoid"))
    'expected tanh, relu or softplus to compile, got sigmoid'
    """
    # mypy takes no class for a hashable object
    if not _has_compiled_methods(type(vae)):  # type: ignore[arg-type]
        return f"expected the methods of VAE to compile, got those of {type(vae).__name__}"
    if (dtype := vae.parameters.flat.dtype) not in (np.float32, np.float64):
        return f"expected parameters of float32 or float64 to compile, got {dtype}"
    return part_not_compiled(vae)


def compiled(vae: VAE) -> VAE:
    """Return `vae` with compiled networks and a compiled log p(x|z).

    The two models share their parameters, so training one of them also trains the other. Values
    agree within a few rounding errors, so training runs and annealed chains are not bitwise
    identical. Several threads can use the model at the same time (`n_jobs` of `bounds`).

    NumPy computes what is not compiled: other activations than tanh, relu and softplus, and other
    likelihoods than Bernoulli, Binomial and the Gaussians. A model with methods of its own is
    returned as it is.

    Parameters
    ----------
    vae : VAE

    Returns
    -------
    twin : VAE

    Raises
    ------
    ImportError
        If Numba is not installed.
    TypeError
        If `vae` is not a VAE.

    Warns
    -----
    UserWarning
        If a part of the model is not compiled.

    Examples
    --------
    >>> vae = VAE(data_dim=784, latent_dim=20, hidden=(500,))
    >>> log_px = importance_log_likelihood(compiled(vae), x, 5000)       # doctest: +SKIP
    """
    if not isinstance(vae, VAE):
        raise TypeError(f"vae: expected a VAE to compile, got {type(vae).__name__}")
    _loops()
    if (missing := not_compiled(vae)) is not None:
        warnings.warn(f"compiled: {missing}; NumPy computes this part", stacklevel=2)
    if not _has_compiled_methods(type(vae)):  # type: ignore[arg-type] # as above
        return vae
    twin = CompiledVAE.__new__(CompiledVAE)
    vars(twin).update(vars(vae))
    return twin


def weigh_draws(
    vae: VAE, x: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray
) -> np.ndarray:
    """Return log w (L, B) of `estimators.weights.weigh`, with the same arguments.

    If `vae` is compiled, log w is computed in one compiled function.

    Examples
    --------
    >>> vae, zeros = VAE(data_dim=4, latent_dim=2, hidden=(3,)), np.zeros((1, 2), "float32")
    >>> weigh_draws(vae, np.ones((1, 4)), zeros, zeros, np.zeros((5, 1, 2), "float32")).shape
    (5, 1)
    """
    if not isinstance(vae, CompiledVAE) or not vae.log_likelihood_is_compiled(x, eps):
        return weigh(vae, x, mu, logvar, eps).log_w
    if mu.shape != eps.shape[1:] or mu.shape != logvar.shape:
        return weigh(vae, x, mu, logvar, eps).log_w
    _, evaluation, _ = _loops()
    L, B, J = eps.shape
    x, e, eps = map(ready, (x, np.concatenate([mu, logvar], axis=1), eps.reshape(L * B, J)))
    theta = ready(vae.parameters.theta)
    return evaluation.weigh(x, e, eps, theta, *vae._decoder_parts(x)).reshape(L, B)


def _like(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return ∂y with the shape and dtype of y; compiled loops do not check indices."""
    dy = np.broadcast_to(dy, y.shape)
    return ready(dy.astype(y.dtype, "C", casting="same_kind", copy=False))
