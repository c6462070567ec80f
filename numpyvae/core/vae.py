"""The model: an encoder q_φ(z|x), a decoder p_θ(x|z), and the prior p(z) = N(0, I).

Both networks are multi-layer perceptrons (Kingma & Welling 2013, appendix C):

    encoder:  x → (μ, log σ²)                q_φ(z|x) = N(z; μ, diag σ²)
    decoder:  z → outputs of the likelihood  p_θ(x|z)

A `VAE` is an `Architecture`, which never changes, and `Parameters`, which training moves.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..support.checks import (
    check_choice,
    check_count,
    check_noise,
    check_positive,
    check_rows,
    check_seed,
    shown,
)
from .layers import ACTIVATIONS, mlp
from .likelihoods import Likelihood, parse_likelihood
from .parameters import Parameters, glorot_uniform

__all__ = ["VAE", "Architecture"]

_FORMAT = "numpyvae model, version 1"
_INIT, _SAMPLE = 101, 102  # purposes of the random streams SeedSequence([seed, purpose])


@dataclass(frozen=True)
class Architecture:
    """Everything about a VAE but its numbers.

    Parameters
    ----------
    data_dim, latent_dim : int
        D and J.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse. Empty for a
        linear model.
    activation : str
        A key of `layers.ACTIVATIONS`.
    likelihood : str
        See `parse_likelihood`.

    Examples
    --------
    >>> architecture = Architecture(64, 2, (32,), "tanh", "bernoulli")
    >>> phi, theta = architecture.shapes()
    >>> phi["encoder.W1"], theta["decoder.W0"]
    ((32, 4), (2, 32))
    """

    data_dim: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: str
    likelihood: str

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "data_dim", check_count("data_dim", self.data_dim))
        set_(self, "latent_dim", check_count("latent_dim", self.latent_dim))
        set_(self, "hidden", _widths(self.hidden))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        set_(self, "likelihood", parse_likelihood(self.likelihood).name)

    def networks(self) -> dict[str, tuple[list[int], int]]:
        """Return, for each network, the widths from input to output and its output's heads."""
        heads = parse_likelihood(self.likelihood).heads
        return {
            "encoder": ([self.data_dim, *self.hidden, 2 * self.latent_dim], 2),
            "decoder": ([self.latent_dim, *self.hidden[::-1], heads * self.data_dim], heads),
        }

    def shapes(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """Return names and shapes of the parameters φ and θ."""
        phi, theta = (
            {
                f"{network}.{name}{i}": shape
                for i, (n_in, n_out) in enumerate(pairwise(widths))
                for name, shape in (("W", (n_in, n_out)), ("b", (n_out,)))
            }
            for network, (widths, _) in self.networks().items()
        )
        return phi, theta | parse_likelihood(self.likelihood).parameter_shapes(self.data_dim)

    def initial(self, init: str | float, dtype: str, seed: int) -> Parameters:
        """Draw initial weights; biases and log-variances start at zero.

        `init` is "glorot", or the standard deviation of N(0, σ²).
        """
        rng = np.random.default_rng(np.random.SeedSequence([check_seed(seed), _INIT]))
        glorot = isinstance(init, str) and init == "glorot"
        sigma = None if glorot else check_positive('init ("glorot" or a sigma)', init)
        parameters = Parameters(*self.shapes(), dtype=dtype)
        for network, (_, heads) in self.networks().items():
            layers = parameters.layers(network)
            for i, (W, _) in enumerate(layers):
                n_in, n_out = W.shape
                k = heads if i == len(layers) - 1 else 1
                W[:] = (
                    glorot_uniform(rng, n_in, n_out // k, k)
                    if sigma is None
                    else rng.normal(0.0, sigma, W.shape)
                )
        return parameters


def _widths(hidden: Any) -> tuple[int, ...]:
    """Return the hidden widths as a tuple; one number is one layer."""
    if isinstance(hidden, (int, np.integer)):
        hidden = (hidden,)
    if isinstance(hidden, np.ndarray) and hidden.ndim == 1:
        hidden = tuple(hidden)
    if not isinstance(hidden, (tuple, list)):
        raise TypeError(f"hidden: expected a tuple of whole numbers, got {shown(hidden)}")
    return tuple(check_count("hidden", width) for width in hidden)


class VAE:
    """A variational auto-encoder with dense layers and a diagonal-Gaussian posterior.

    Parameters
    ----------
    data_dim : int
        D, the dimension of x.
    latent_dim : int
        J, the dimension of z.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    activation : {"tanh", "relu", "softplus", "sigmoid", "identity"}
    likelihood : str or Likelihood
        `bernoulli`, `binomial:N`, `gaussian:SIGMA`, `gaussian:learned`, `gaussian:head`.
    dtype : {"float32", "float64"}
        float32 to train, float64 to check.
    seed : int
        Of the initial weights.
    init : "glorot" or float
        Glorot's uniform weights, or the standard deviation σ of N(0, σ²).

    Attributes
    ----------
    parameters : Parameters
        `.flat`, `.phi`, `.theta`, and views by name, as in `vae.parameters["decoder.W0"]`.
    architecture : Architecture
    likelihood : Likelihood

    Raises
    ------
    TypeError, ValueError
        If a dimension is not a whole number above 0, or a name is unknown.

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(32,))
    >>> vae
    VAE(64-32-2, tanh, bernoulli, float32, 4420 parameters)
    >>> vae.sample(3, seed=0).shape
    (3, 64)
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (200,),
        activation: str = "tanh",
        likelihood: str | Likelihood = "bernoulli",
        dtype: str = "float32",
        seed: int = 0,
        init: str | float = "glorot",
    ) -> None:
        likelihood = parse_likelihood(likelihood)
        with suppress(TypeError):  # what is no dtype at all is refused with the other names
            dtype = np.dtype(dtype).name
        dtype = check_choice("dtype", dtype, ("float32", "float64"))
        self.architecture = Architecture(data_dim, latent_dim, hidden, activation, likelihood.name)
        self.likelihood = likelihood
        self.parameters = self.architecture.initial(init, dtype, seed)

    def with_flat(self, flat: np.ndarray) -> VAE:
        """Return the same architecture around another parameter vector, which is not copied.

        Parameters
        ----------
        flat : (P,) array
            Of any dtype: float64 for a check, complex for the complex step.
        """
        twin = copy.copy(self)
        twin.parameters = self.parameters.like(flat)
        return twin

    @property
    def dtype(self) -> np.dtype:
        """The real dtype in which the model computes."""
        return self.parameters.flat.real.dtype

    @property
    def data_dim(self) -> int:
        """D."""
        return self.architecture.data_dim

    @property
    def latent_dim(self) -> int:
        """J."""
        return self.architecture.latent_dim

    def __repr__(self) -> str:
        a = self.architecture
        widths = "-".join(map(str, (a.data_dim, *a.hidden, a.latent_dim)))
        return (
            f"VAE({widths}, {a.activation}, {a.likelihood}, {self.parameters.flat.dtype}, "
            f"{self.parameters.flat.size} parameters)"
        )

    @property
    def activation(self) -> Callable:
        """What follows each hidden layer, one of `layers.ACTIVATIONS`."""
        return ACTIVATIONS[self.architecture.activation]

    # The differentiable pieces: y, pull = f(…). Inputs are clean arrays of the model's dtype.

    def encoder(self, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Callable]:
        """Map x to the parameters of q_φ(z|x).

        Parameters
        ----------
        x : (B, D) array

        Returns
        -------
        mu, logvar : (B, J) arrays
        pull : callable
            `pull(dmu, dlogvar, gradient)` writes the gradient in φ. None is needed in x.
        """
        out, pull_mlp = mlp(x, self.parameters.layers("encoder"), self.activation)
        J = self.latent_dim

        def pull(dmu, dlogvar, gradient):
            dout = np.concatenate([dmu, dlogvar], axis=1)
            pull_mlp(dout, gradient.layers("encoder"), input_gradient=False)

        return (out[:, :J], out[:, J:]), pull

    def decoder(self, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Map z to the outputs that the likelihood reads (logits, means, …).

        The L samples are folded into the rows: one matrix product per layer.

        Parameters
        ----------
        z : (L, B, J) array

        Returns
        -------
        out : (L, B, heads·D) array
        pull : callable
            `pull(dout, gradient=None, input_gradient=True) -> dz`; with a gradient given, that
            in θ is written into it.
        """
        L, B, J = z.shape
        rows = z.reshape(L * B, J)  # (L, B, J) → (L·B, J)
        out, pull_mlp = mlp(rows, self.parameters.layers("decoder"), self.activation)

        def pull(dout, gradient=None, input_gradient=True):
            into = None if gradient is None else gradient.layers("decoder")
            dz = pull_mlp(dout.reshape(L * B, -1), into, input_gradient)
            return dz.reshape(L, B, J) if input_gradient else None

        return out.reshape(L, B, -1), pull

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Log-likelihood log p_θ(x|z), the sum over the dimensions of x.

        Parameters
        ----------
        x : (B, D) array
        z : (L, B, J) array

        Returns
        -------
        log_px : (L, B) array
            Nats per datapoint.
        pull : callable
            `pull(dlog_px, gradient=None, input_gradient=True) -> dz`.
        """
        out, pull_decoder = self.decoder(z)
        log_px, pull_logp = self.log_prob(x, out)

        def pull(dlog_px, gradient=None, input_gradient=True):
            return pull_decoder(pull_logp(dlog_px, gradient), gradient, input_gradient)

        return log_px, pull

    def log_prob(self, x: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Log-likelihood from the decoder's outputs, as the likelihood has it.

        Parameters
        ----------
        x : (B, D) array
        out : (L, B, heads·D) array

        Returns
        -------
        log_px : (L, B) array
            Nats per datapoint.
        pull : callable
            `pull(dlog_px, gradient=None) -> dout`.
        """
        return self.likelihood.log_prob(x, out, self.parameters)

    # The public doors: they check what comes in.

    def check_batch(self, x: Any, eps: Any, name: str = "eps") -> tuple[np.ndarray, np.ndarray]:
        """Return x (B, D) and ε (L, B, J) in the model's dtype, or raise what is wrong.

        `name` is what a message calls the second: "z" where latents stand in for noise.
        """
        x = check_rows(x, self.data_dim, dtype=self.dtype)
        self.likelihood.check(x)
        eps = check_noise(eps, x.shape[0], self.latent_dim, name)
        return x.astype(self.dtype, copy=False), eps.astype(self.dtype, copy=False)

    def encode(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the parameters of the approximate posterior q_φ(z|x).

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        mu, logvar : (B, J) arrays
        """
        x = check_rows(x, self.data_dim, dtype=self.dtype).astype(self.dtype, copy=False)
        return self.encoder(x)[0]

    def decode(self, z: Any) -> np.ndarray:
        """Return the mean of p_θ(x|z).

        Parameters
        ----------
        z : (B, J) array_like

        Returns
        -------
        mean : (B, D) array
            Probabilities for Bernoulli, expected counts for Binomial, μ for Gaussians.
        """
        z = check_rows(z, self.latent_dim, "z", self.dtype).astype(self.dtype, copy=False)
        return self.likelihood.mean(self.decoder(z[None])[0][0])

    def reconstruct(self, x: Any) -> np.ndarray:
        """Return the mean of p_θ(x|z) at z = μ(x).

        A picture of what the code keeps. Its likelihood is not a term of the ELBO, which
        averages over z ~ q_φ(z|x).

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        mean : (B, D) array
        """
        mu, _ = self.encode(x)
        return self.decode(mu)

    def sample(self, n: int, seed: int = 0, *, mean: bool = False) -> np.ndarray:
        """Draw from the model: z ~ p(z), then x ~ p_θ(x|z).

        Parameters
        ----------
        n : int
        seed : int
        mean : bool
            Return the mean of p_θ(x|z) for each drawn z in place of a draw of x. It is what
            papers print, since it looks smoother.

        Returns
        -------
        x : (n, D) array
        """
        n = check_count("n", n)
        rng = np.random.default_rng(np.random.SeedSequence([check_seed(seed), _SAMPLE]))
        z = rng.standard_normal((1, n, self.latent_dim), self.dtype)
        out, _ = self.decoder(z)
        if mean:
            return self.likelihood.mean(out[0])
        return self.likelihood.draw(out[0], self.parameters, rng)

    # On disk: an npz of the named arrays and one JSON text, without pickle.

    def save(self, path: str | os.PathLike) -> None:
        """Write the model to `path` as npz, all or nothing.

        Raises
        ------
        OSError
            If the folder does not exist or cannot be written.
        ValueError
            If a parameter is not finite: `load` would refuse it.
        """
        if not np.isfinite(self.parameters.flat).all():
            raise ValueError("parameters: expected finite numbers to save, got NaN or infinity")
        import json  # here and below, to keep the import of the package short

        from ..support.files import write_arrays

        header = {"format": _FORMAT, **asdict(self.architecture)}
        write_arrays(path, {"header": np.array(json.dumps(header)), **self.parameters})

    @classmethod
    def load(cls, path: str | os.PathLike) -> VAE:
        """Read a model that `save` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a model, is damaged, or holds non-finite parameters.
        """
        import json

        from ..support.files import ArrayFile

        with ArrayFile(path) as file:
            header = file.read("header", None, "U")
            try:
                fields = json.loads(str(header))
                if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
                    raise ValueError(f"its format is not {_FORMAT!r}")
                architecture = Architecture(**fields)
            except (TypeError, ValueError, RecursionError, SystemError) as error:
                why = shown(str(error))
                raise ValueError(
                    f"{path}: expected a model written by VAE.save, got another file ({why})"
                ) from None
            phi, theta = architecture.shapes()
            file.expect({"header", *phi, *theta})
            arrays = {name: file.read(name, s, "f") for name, s in (phi | theta).items()}
        dtypes = {a.dtype.name for a in arrays.values()}
        if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
            raise ValueError(f"{path}: expected float32 or float64 throughout, got {dtypes}")
        flat = np.concatenate([a.ravel() for a in arrays.values()])
        if not np.isfinite(flat).all():
            raise ValueError(f"{path}: expected finite parameters, got NaN or infinity")
        vae = cls.__new__(cls)
        vae.architecture = architecture
        vae.likelihood = parse_likelihood(architecture.likelihood)
        vae.parameters = Parameters(phi, theta, flat)
        return vae
