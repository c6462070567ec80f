"""The model: an encoder q_φ(z|x), a decoder p_θ(x|z), and the prior p(z) = N(0, I).

Both networks are multi-layer perceptrons (Kingma & Welling 2013, appendix C):

    encoder:  x → (μ, log σ²)                q_φ(z|x) = N(z; μ, diag σ²)
    decoder:  z → outputs of the likelihood  p_θ(x|z)

A `VAE` has a fixed `Architecture` and `Parameters`, which training changes.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..support.blocks import in_blocks, in_decoder_blocks
from ..support.checks import check_count, check_dtype, check_positive, check_rows, check_widths
from ..support.model_file import ModelFile, write_model
from ..support.preparation import Preparation
from ..support.registry import check_findable, find_activation, name_of
from ..support.streams import Purpose, Seed, generator, stream
from .layers import mlp
from .likelihoods import Likelihood, parse_likelihood
from .parameters import Parameters, Shapes, glorot_uniform

__all__ = ["VAE"]


@dataclass(frozen=True)
class Architecture:
    """The shape of a VAE: all that it needs, beside its parameters, to compute.

    The fields are the first parameters of `VAE`, where their forms are explained.

    >>> phi, theta = Architecture(64, 2, (32,), "tanh", "bernoulli").shapes()
    >>> phi["encoder.W1"], theta["decoder.W0"]
    ((32, 4), (2, 32))
    """

    data_dim: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: Callable
    likelihood: Likelihood

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "data_dim", check_count("data_dim", self.data_dim))
        set_(self, "latent_dim", check_count("latent_dim", self.latent_dim))
        set_(self, "hidden", check_widths(self.hidden))
        set_(self, "activation", find_activation(self.activation))
        set_(self, "likelihood", parse_likelihood(self.likelihood))

    def networks(self) -> dict[str, tuple[list[int], int]]:
        """Return, for each network, the widths from input to output and its output's heads."""
        heads = self.likelihood.heads
        return {
            "encoder": ([self.data_dim, *self.hidden, 2 * self.latent_dim], 2),
            "decoder": ([self.latent_dim, *self.hidden[::-1], heads * self.data_dim], heads),
        }

    def shapes(self) -> tuple[Shapes, Shapes]:
        """Return names and shapes of the parameters φ and θ."""
        phi, theta = (
            {
                f"{network}.{name}{i}": shape
                for i, (n_in, n_out) in enumerate(pairwise(widths))
                for name, shape in (("W", (n_in, n_out)), ("b", (n_out,)))
            }
            for network, (widths, _) in self.networks().items()
        )
        own = self.likelihood.parameter_shapes(self.data_dim)
        if taken := own.keys() & {*phi, *theta}:
            raise ValueError(f"parameter_shapes: expected names no layer has, got {min(taken)!r}")
        return phi, theta | own

    def initial(self, init: str | float, dtype: str, seed: int) -> Parameters:
        """Draw initial weights; all other parameters start at zero.

        `init` is "glorot", or the standard deviation of N(0, σ²).
        """
        rng = stream(check_count("seed", seed, minimum=0), Purpose.INIT)
        glorot = isinstance(init, str) and init == "glorot"
        sigma = None if glorot else check_positive('init ("glorot" or a sigma)', init)
        parameters = Parameters(*self.shapes(), dtype=dtype)
        for network, (_, heads) in self.networks().items():
            layers = getattr(parameters, network)
            for i, (W, _) in enumerate(layers):
                n_in, n_out = W.shape
                k = heads if i == len(layers) - 1 else 1  # the last layer has the heads
                W[:] = (
                    glorot_uniform(rng, n_in, n_out // k, k)
                    if sigma is None
                    else rng.normal(0.0, sigma, W.shape)
                )
        return parameters

    def to_dict(self) -> dict[str, Any]:
        """Describe it by numbers and names, from which `Architecture(**fields)` makes it again.

        Raises ValueError if a name does not lead back to the same activation or likelihood.
        """
        activation, likelihood = name_of(self.activation), self.likelihood.name
        check_findable("activation", activation, self.activation, find_activation)
        check_findable("likelihood", likelihood, self.likelihood, parse_likelihood)
        return vars(self) | {"activation": activation, "likelihood": likelihood}


class VAE:
    """A variational auto-encoder with dense layers and a diagonal-Gaussian posterior.

    Parameters
    ----------
    data_dim, latent_dim : int
        D and J, the dimensions of x and z.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    activation : str or callable
        `tanh`, `relu`, `softplus`, `sigmoid`, `identity`, or a function `y, pull = f(x)`.
    likelihood : str or Likelihood
        `bernoulli`, `binomial:N`, `poisson`, `gaussian:SIGMA`, `gaussian:learned`,
        `gaussian:head`, or a `Likelihood`.
    dtype : {"float32", "float64"}
        float32 to train, float64 to check.
    seed : int
        Of the initial weights.
    init : "glorot" or float
        Glorot's uniform weights, or σ of N(0, σ²).

    Attributes
    ----------
    architecture : Architecture
    parameters : Parameters
        `.flat`, `.phi`, `.theta`, and views by name, as in `vae.parameters["decoder.W0"]`.
    preparation : Preparation, optional
        How data became x.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or a name is unknown.

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(32,))
    >>> vae
    VAE(64-32-2, tanh, bernoulli, float32, 4420 parameters)
    >>> vae.sample(3, seed=0).shape
    (3, 64)
    """

    preparation: Preparation | None = None

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (200,),
        activation: str | Callable = "tanh",
        likelihood: str | Likelihood = "bernoulli",
        dtype: str = "float32",
        seed: int = 0,
        init: str | float = "glorot",
    ) -> None:
        self.architecture = Architecture(
            data_dim, latent_dim, hidden, find_activation(activation), parse_likelihood(likelihood)
        )
        self.parameters = self.architecture.initial(init, check_dtype(dtype), seed)

    def with_parts(
        self, architecture: Architecture | None = None, parameters: Parameters | None = None
    ) -> VAE:
        """Return a model with another architecture of the same shapes, or other parameters."""
        twin = copy.copy(self)
        twin.architecture = architecture or self.architecture
        twin.parameters = self.parameters if parameters is None else parameters
        return twin

    def with_flat(self, flat: np.ndarray) -> VAE:
        """Return a model with another parameter vector (P,), not copied.

        It may be of any dtype: float64 for a check, complex for the complex step.
        """
        return self.with_parts(parameters=self.parameters.like(flat))

    @property
    def dtype(self) -> np.dtype:
        """The real dtype in which the model computes."""
        return self.parameters.flat.real.dtype

    @property
    def data_dim(self) -> int:
        """Dimension D."""
        return self.architecture.data_dim

    @property
    def latent_dim(self) -> int:
        """Dimension J."""
        return self.architecture.latent_dim

    @property
    def activation(self) -> Callable:
        """A callable."""
        return self.architecture.activation

    @property
    def likelihood(self) -> Likelihood:
        """p_θ(x|z)."""
        return self.architecture.likelihood

    def __repr__(self) -> str:
        a = self.architecture
        widths = "-".join(map(str, (a.data_dim, *a.hidden, a.latent_dim)))
        return (
            f"VAE({widths}, {name_of(a.activation)}, {a.likelihood.name}, "
            f"{self.parameters.flat.dtype}, {self.parameters.flat.size} parameters)"
        )

    # The differentiable pieces: y, pull = f(…). They do not check their arrays.

    def encoder(self, x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Callable]:
        """Map x (B, D) to the parameters of q_φ(z|x).

        Returns
        -------
        (mu, logvar) : (B, J) arrays
        pull : callable
            `pull(dmu, dlogvar, gradient)` writes the gradient in φ, not in x.
        """
        out, pull_mlp = mlp(x, self.parameters.encoder, self.activation)
        J = self.latent_dim

        def pull(dmu, dlogvar, gradient):
            dout = np.concatenate([dmu, dlogvar], axis=1)
            pull_mlp(dout, gradient.encoder, input_gradient=False)

        return (out[:, :J], out[:, J:]), pull

    def decoder(self, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Map z (L, B, J) to the outputs that the likelihood reads (logits, means, …).

        The L samples become rows, so that each layer is one matrix product.

        Returns
        -------
        out : (L, B, heads·D) array
        pull : callable
            `pull(dout, gradient=None, input_gradient=True) -> dz` writes the gradient in
            θ, if one is given.
        """
        L, B, J = z.shape
        rows = z.reshape(L * B, J)  # (L, B, J) → (L·B, J)
        out, pull_mlp = mlp(rows, self.parameters.decoder, self.activation)

        def pull(dout, gradient=None, input_gradient=True):
            into = None if gradient is None else gradient.decoder
            dz = pull_mlp(dout.reshape(L * B, -1), into, input_gradient)
            return dz.reshape(L, B, J) if input_gradient else None

        return out.reshape(L, B, -1), pull

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, Callable]:
        """Log-likelihood log p_θ(x|z) of x (B, D) for z (L, B, J), summed over all x_d.

        Returns
        -------
        log_px : (L, B) array
        pull : callable
            `pull(dlog_px, gradient=None, input_gradient=True) -> dz`.
        """
        out, pull_decoder = self.decoder(z)
        log_px, pull_logp = self.likelihood.log_prob(x, out, self.parameters)

        def pull(dlog_px, gradient=None, input_gradient=True):
            return pull_decoder(pull_logp(dlog_px, gradient), gradient, input_gradient)

        return log_px, pull

    # For users: these check their arguments.

    def encode(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the parameters of the approximate posterior q_φ(z|x).

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        mu, logvar : (B, J) arrays
        """
        x = check_rows(x, self.data_dim, dtype=self.dtype)
        both = in_blocks(self, lambda rows: np.hstack(self.encoder(rows)[0]), x)
        return both[:, : self.latent_dim].copy(), both[:, self.latent_dim :].copy()

    def decode(self, z: Any) -> np.ndarray:
        """Return the mean of p_θ(x|z).

        Parameters
        ----------
        z : (B, J) array_like

        Returns
        -------
        mean : (B, D) array
            Probabilities, expected counts, or μ.
        """
        z = check_rows(z, self.latent_dim, "z", self.dtype)
        return in_decoder_blocks(self, self.likelihood.mean, z)

    def reconstruct(self, x: Any) -> np.ndarray:
        """Return the mean of p_θ(x|z) at z = μ(x).

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        mean : (B, D) array
        """
        return self.decode(self.encode(x)[0])

    def sample(self, n: int, seed: Seed = 0, *, mean: bool = False) -> np.ndarray:
        """Draw from the model: z ~ p(z), then x ~ p_θ(x|z).

        Parameters
        ----------
        n : int
        seed : int, numpy.random.Generator or None
            An int repeats its draws; the others give new ones.
        mean : bool
            Return the mean of p_θ(x|z) in place of a draw of x.

        Returns
        -------
        x : (n, D) array
        """
        rng = generator(seed, Purpose.SAMPLE)
        z = rng.standard_normal((check_count("n", n), self.latent_dim), self.dtype)
        likelihood, parameters = self.likelihood, self.parameters
        read = likelihood.mean if mean else lambda out: likelihood.draw(out, parameters, rng)
        return in_decoder_blocks(self, read, z)

    def save(self, path: str | os.PathLike) -> None:
        """Write the model as npz; the file is replaced as a whole or not at all.

        Raises
        ------
        OSError
            If the folder does not exist or cannot be written.
        ValueError
            If a parameter is not finite, or `load` could not find a part by its name.
        """
        header = self.architecture.to_dict() | {"epochs": self.parameters.epochs}
        write_model(path, header, self.parameters, self.preparation)

    @classmethod
    def load(cls, path: str | os.PathLike) -> VAE:
        """Read a model that `save` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If the file is damaged or does not contain a model.
        """
        with ModelFile(path) as file:
            architecture, epochs, preparation = file.header(Architecture)
            phi, theta = architecture.shapes()
            flat = file.vector({**phi, **theta})
        vae = cls.__new__(cls)
        vae.architecture, vae.parameters = architecture, Parameters(phi, theta, flat)
        vae.parameters.epochs, vae.preparation = epochs, preparation
        return vae
