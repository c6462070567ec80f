"""What the decoder's outputs mean: log p_θ(x|z) as a distribution over data.

`VAE(likelihood=…)` takes any subclass of `Likelihood`; `register_likelihood` gives it a name, by
which a saved model finds it.

Symbols: x (B, D); decoder outputs `out` (L, B, heads·D); log p (L, B).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..support.checks import check_count, check_positive
from ..support.registry import LIKELIHOODS, find_numbered, register_likelihood
from ..support.value_checks import check_outcomes, check_support
from .distributions import binomial_logpmf, gaussian_logpdf, poisson_logpmf
from .layers import sigmoid
from .parameters import Parameters

__all__ = [
    "Bernoulli",
    "Binomial",
    "FixedGaussian",
    "GaussianHead",
    "LearnedGaussian",
    "Likelihood",
    "Poisson",
    "parse_likelihood",
]

_MOST_TRIALS = 1 << 16  # the largest n of a Binomial, whose log C(n, x) is a table
_VARIANCE = "decoder.logvar"  # the name of the learned log σ² among the parameters θ


class Likelihood:
    """The base class: override `name`, `log_prob`, `mean` and `draw`, and what else differs.

    Attributes
    ----------
    name : str
        The text from which `parse_likelihood` makes an equal likelihood.
    heads : int
        Number of decoder outputs for each dimension of x.
    support : (float, float)
        The smallest and the largest value of x.
    integers : bool
        Whether x must be whole numbers.
    reading : {"values", "fractions", "outcomes"}
        How data loaders make x from raw data: unchanged, divided by a maximum, or drawn as 0 or
        1 with probability value/maximum.
    smooth : bool
        Whether log p(x|z) has derivatives of all orders in the decoder's outputs.

    Examples
    --------
    >>> [parse_likelihood(name).heads for name in ("bernoulli", "gaussian:head")]
    [1, 2]
    """

    name: str
    heads: int = 1
    support: tuple[float, float] = (-math.inf, math.inf)
    integers: bool = False
    reading: str = "values"
    smooth: bool = True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def parameter_shapes(self, data_dim: int) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the parameters that the likelihood adds to θ."""
        return {}

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Raise ValueError if `x` (N, D), called `name`, has a value that it cannot have."""
        check_support(self, x, name)

    def log_prob(
        self, x: np.ndarray, out: np.ndarray, parameters: Parameters
    ) -> tuple[np.ndarray, Callable]:
        """Return log p(x|z), (L, B), and `pull(dlogp, gradient=None) -> dout`.

        If a gradient is given, `pull` must overwrite its entries of the likelihood's parameters,
        which are uninitialized.
        """
        raise NotImplementedError

    def mean(self, out: np.ndarray) -> np.ndarray:
        """Return E[x|z], (..., D)."""
        raise NotImplementedError

    def variance(self, out: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Return Var[x|z], (..., D)."""
        raise NotImplementedError

    def draw(
        self, out: np.ndarray, parameters: Parameters, rng: np.random.Generator
    ) -> np.ndarray:
        """Return one draw x ~ p(x|z) for each row of `out`, (..., D)."""
        raise NotImplementedError

    def noise_variance(self, parameters: Parameters) -> np.ndarray | float | None:
        """Return σ² if x|z ~ N(out, σ²) with the same σ² for every z, else None."""
        return None


def parse_likelihood(text: str | Likelihood) -> Likelihood:
    """Return the likelihood with this name; a `Likelihood` is returned as it is.

    Parameters
    ----------
    text : str or Likelihood
        `bernoulli`, `binomial:16` (n), `poisson`, `gaussian:0.1` (σ), `gaussian:learned` or
        `gaussian`, `gaussian:head`, or a name given to `register_likelihood`.

    Returns
    -------
    likelihood : Likelihood

    Raises
    ------
    ValueError
        For any other text.

    Examples
    --------
    >>> parse_likelihood("binomial:16")
    Binomial(n=16)
    """
    if isinstance(text, Likelihood):
        return text
    found = find_numbered(LIKELIHOODS, "gaussian:learned" if text == "gaussian" else str(text))
    if found is not None:
        return found
    raise ValueError(
        f"likelihood: expected {', '.join(LIKELIHOODS)} (N a whole number, SIGMA a number above 0)"
        f" or a Likelihood; got {text!r}. One of your own is found after register_likelihood"
    )


@register_likelihood("binomial:N")
@dataclass(frozen=True)
class Binomial(Likelihood):
    """Counts 0 … n in each dimension, from logits: log p = x·l − n softplus(l) + log C(n, x).

    Parameters
    ----------
    n : int
        Number of trials.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number from 1 to 65536.

    Examples
    --------
    >>> Binomial(16).mean(np.zeros((1, 3)))           # n sigmoid(l)
    array([[8., 8., 8.]])
    """

    n: int
    integers = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_count("binomial n", self.n))
        if self.n > _MOST_TRIALS:
            raise ValueError(f"binomial n: expected at most {_MOST_TRIALS}, got {self.n}")

    @property
    def name(self) -> str:
        return f"binomial:{self.n}"

    @property
    def support(self) -> tuple[float, float]:
        """From 0 to n."""
        return 0, self.n

    def log_prob(self, x, out, parameters):
        logp, pull_logits = binomial_logpmf(x, out, self.n)
        return logp, lambda dlogp, gradient=None: pull_logits(dlogp)

    def mean(self, out):
        return self.n * sigmoid(out)[0]

    def variance(self, out, parameters):
        return self.mean(out) * sigmoid(-out)[0]

    def draw(self, out, parameters, rng):
        return rng.binomial(self.n, sigmoid(out)[0]).astype(out.dtype)


@register_likelihood("bernoulli")
@dataclass(frozen=True)
class Bernoulli(Binomial):
    """Zeros and ones, from logits: the Binomial with n = 1 (K&W 2013, appendix C.1).

    Examples
    --------
    >>> Bernoulli().mean(np.array([[0.0, 800.0]]))    # sigmoid(l)
    array([[0.5, 1. ]])
    """

    n: int = field(default=1, init=False)
    name = "bernoulli"
    reading = "outcomes"

    def check(self, x: np.ndarray, name: str = "x") -> None:
        check_outcomes(x, name)

    def draw(self, out, parameters, rng):
        return np.heaviside(sigmoid(out)[0] - rng.random(out.shape), 0).astype(out.dtype)


@register_likelihood("poisson")
@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts without an upper end, from log rates l: log p = x·l − e^l − log x!.

    Examples
    --------
    >>> Poisson().mean(np.log([[3.0]])).round(6)      # e^l
    array([[3.]])
    """

    name = "poisson"
    support = (0, math.inf)
    integers = True

    def log_prob(self, x, out, parameters):
        logp, pull_log_rate = poisson_logpmf(x, out)
        return logp, lambda dlogp, gradient=None: pull_log_rate(dlogp)

    def mean(self, out):
        return np.exp(out)

    def variance(self, out, parameters):
        return np.exp(out)

    def draw(self, out, parameters, rng):
        return rng.poisson(np.exp(out.astype(float))).astype(out.dtype)


class _Gaussian(Likelihood):
    """N(μ(z), σ²) in each dimension; the three kinds below differ in where σ² comes from."""

    reading = "fractions"

    def moments(self, out: np.ndarray, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Return μ and log σ², which broadcast to (..., D)."""
        raise NotImplementedError

    def pull_moments(
        self, dmu: np.ndarray, dlogvar: np.ndarray, gradient: Parameters | None
    ) -> np.ndarray:
        """The pullback of `moments`: return dout, and write the parameters' gradient."""
        return dmu

    def log_prob(self, x, out, parameters):
        logp, pull_logp = gaussian_logpdf(x, *self.moments(out, parameters))

        def pull(dlogp, gradient=None):
            _, dmu, dlogvar = pull_logp(dlogp)
            return self.pull_moments(dmu, dlogvar, gradient)

        return logp, pull

    def mean(self, out):
        return out

    def variance(self, out, parameters):
        mu, logvar = self.moments(out, parameters)
        return np.broadcast_to(np.exp(logvar), mu.shape)

    def draw(self, out, parameters, rng):
        mu, logvar = self.moments(out, parameters)
        return mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape, mu.dtype)


@register_likelihood("gaussian:SIGMA")
@dataclass(frozen=True)
class FixedGaussian(_Gaussian):
    """Gaussian with one given σ; σ² = ½ gives minus the squared error, less a constant.

    Parameters
    ----------
    sigma : float
        σ, in the unit of x.

    Raises
    ------
    TypeError, ValueError
        If `sigma` is not a finite number above 0.

    Examples
    --------
    >>> FixedGaussian(0.1).name
    'gaussian:0.1'
    """

    sigma: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", check_positive("gaussian sigma", self.sigma))

    @property
    def name(self) -> str:
        return f"gaussian:{self.sigma!r}"

    def moments(self, out, parameters):
        return out, np.full(out.shape[-1], 2 * math.log(self.sigma), out.real.dtype)

    def noise_variance(self, parameters):
        return self.sigma**2


@register_likelihood("gaussian:learned")
@dataclass(frozen=True)
class LearnedGaussian(_Gaussian):
    """Gaussian with one learned σ_d for each dimension, the same for every z.

    Its parameter among θ is `decoder.logvar` (D,), which starts at log σ² = 0.

    Examples
    --------
    >>> LearnedGaussian().parameter_shapes(64)
    {'decoder.logvar': (64,)}
    """

    name = "gaussian:learned"

    def parameter_shapes(self, data_dim):
        return {_VARIANCE: (data_dim,)}

    def moments(self, out, parameters):
        return out, parameters[_VARIANCE]

    def pull_moments(self, dmu, dlogvar, gradient):
        if gradient is not None:
            gradient[_VARIANCE][:] = dlogvar
        return dmu

    def noise_variance(self, parameters):
        return np.exp(parameters[_VARIANCE].astype(float))


@register_likelihood("gaussian:head")
@dataclass(frozen=True)
class GaussianHead(_Gaussian):
    """Gaussian whose μ(z) and log σ²(z) both come from the decoder (K&W 2013, appendix C.2).

    Its density has no upper bound: where some x_d hardly varies, σ_d can shrink without limit.

    Examples
    --------
    >>> GaussianHead().mean(np.array([[0.2, 0.7, -1.0, -1.0]]))    # the first half is μ
    array([[0.2, 0.7]])
    """

    heads = 2
    name = "gaussian:head"

    def moments(self, out, parameters):
        mu, logvar = np.split(out, 2, axis=-1)
        return mu, logvar

    def mean(self, out):
        return out[..., : out.shape[-1] // 2]

    def pull_moments(self, dmu, dlogvar, gradient):
        return np.concatenate([dmu, dlogvar], axis=-1)
