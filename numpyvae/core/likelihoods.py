"""What the decoder's outputs mean: log p_θ(x|z) as a distribution over data.

A likelihood says how many outputs the decoder has for each dimension of x (`heads`), which
parameters it owns beside the network's, which data it accepts, and gives log p(x|z) with its
pullback, the mean E[x|z] and draws. To add one, write a class with these members, name it in
`parse_likelihood`, and add it to the cases of `gradcheck`.

Symbols: x (B, D); decoder outputs `out` (L, B, heads·D); log p (L, B).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..support.checks import check_count, check_positive, row_blocks, warn_caller
from .distributions import binomial_logpmf, gaussian_logpdf
from .layers import sigmoid
from .parameters import Parameters

__all__ = [
    "Bernoulli",
    "Binomial",
    "FixedGaussian",
    "GaussianHead",
    "LearnedGaussian",
    "Likelihood",
    "parse_likelihood",
]

_MOST_TRIALS = 1 << 16  # of a Binomial: its log C(n, x) is a table
_VARIANCE = "decoder.logvar"  # the name of the learned log σ² among the parameters θ


class Likelihood:
    """What every likelihood offers; `name` is the text that `parse_likelihood` reads back.

    Attributes
    ----------
    name : str
    heads : int
        Decoder outputs for each dimension of x.
    support : (float, float)
        The range that x must keep to.

    Examples
    --------
    >>> [parse_likelihood(name).heads for name in ("bernoulli", "gaussian:head")]
    [1, 2]
    """

    heads: ClassVar[int] = 1
    name: str

    def parameter_shapes(self, data_dim: int) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of parameters that the likelihood adds to θ."""
        return {}

    support: tuple[float, float] = (-math.inf, math.inf)  # the range that x must keep to

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Raise ValueError if a value of `x` (N, D), called `name`, is outside the support."""

    def log_prob(
        self, x: np.ndarray, out: np.ndarray, parameters: Parameters
    ) -> tuple[np.ndarray, Callable]:
        """Return log p(x|z), (L, B), and `pull(dlogp, gradient=None) -> dout`.

        What the likelihood adds to θ, `pull` writes into `gradient`, if one is given.
        """
        raise NotImplementedError

    def mean(self, out: np.ndarray) -> np.ndarray:
        """Return E[x|z], (..., D)."""
        raise NotImplementedError

    def draw(
        self, out: np.ndarray, parameters: Parameters, rng: np.random.Generator
    ) -> np.ndarray:
        """Return one draw x ~ p(x|z) for each row of `out`, (..., D)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Binomial(Likelihood):
    """Counts 0 … n in each dimension, from logits: log p = x·l − n softplus(l) + log C(n, x).

    Parameters
    ----------
    n : int
        Trials: 16 for the embedded digits, whose pixels count the ink in 4×4 blocks.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number above 0, or too large for a table of log C(n, x).

    Examples
    --------
    >>> Binomial(16).mean(np.zeros((1, 3)))           # n sigmoid(l)
    array([[8., 8., 8.]])
    """

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_count("binomial n", self.n))
        if self.n > _MOST_TRIALS:
            raise ValueError(f"binomial n: expected at most {_MOST_TRIALS}, got {self.n}")

    @property
    def name(self) -> str:
        return f"binomial:{self.n}"

    @property
    def support(self) -> tuple[float, float]:
        return 0, self.n

    def check(self, x: np.ndarray, name: str = "x") -> None:
        for block in row_blocks(x):
            wrong = (block < 0) | (block > self.n) | (block != np.floor(block))
            if wrong.any():
                raise ValueError(
                    f"{name}: expected whole counts in 0 … {self.n} for the likelihood "
                    f"{self.name}, got {block[wrong][0]:.10g}; "
                    "round the data or choose another n or likelihood"
                )

    def log_prob(self, x, out, parameters):
        logp, pull_logits = binomial_logpmf(x, out, self.n)
        return logp, lambda dlogp, gradient=None: pull_logits(dlogp)

    def mean(self, out):
        p, _ = sigmoid(out)
        return self.n * p

    def draw(self, out, parameters, rng):
        p, _ = sigmoid(out)
        return rng.binomial(self.n, p).astype(out.dtype)


@dataclass(frozen=True)
class Bernoulli(Binomial):
    """Zeros and ones, from logits: the Binomial with n = 1 (K&W 2013, appendix C.1).

    Parameters
    ----------
    n : int
        1; not to be changed.

    Examples
    --------
    >>> Bernoulli().mean(np.array([[0.0, 800.0]]))    # sigmoid(l)
    array([[0.5, 1. ]])
    """

    n: int = 1

    @property
    def name(self) -> str:
        return "bernoulli"

    def check(self, x: np.ndarray, name: str = "x") -> None:
        grays = False
        for block in row_blocks(x):
            if block.min() < 0 or block.max() > 1:
                raise ValueError(
                    f"{name}: expected values in [0, 1] for the likelihood bernoulli, got values "
                    f"from {block.min():.10g} to {block.max():.10g}; divide by the largest "
                    "possible value and binarize (numpyvae.datasets.binarize), or choose "
                    "binomial:n or gaussian"
                )
            grays = grays or bool(((block != 0) & (block != 1)).any())
        if grays:
            warn_caller(
                f"{name} holds grays, but a Bernoulli outcome is 0 or 1: the objective is then a "
                "cross-entropy, not log p(x). Pass transform=numpyvae.datasets.binarize to "
                "draw binary images afresh each epoch, or choose another likelihood"
            )


class _Gaussian(Likelihood):
    """N(μ(z), σ²) per dimension; the three kinds below differ in where σ² comes from."""

    def moments(self, out: np.ndarray, parameters: Parameters):
        """Return μ and log σ², which broadcast to (..., D)."""
        raise NotImplementedError

    def mean(self, out):
        return out

    def draw(self, out, parameters, rng):
        mu, logvar = self.moments(out, parameters)
        return mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape, mu.dtype)


@dataclass(frozen=True)
class FixedGaussian(_Gaussian):
    """Gaussian with one given σ. Squared error is this with σ² = ½, less a constant.

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
        return out, np.asarray(2 * math.log(self.sigma), out.real.dtype)

    def log_prob(self, x, out, parameters):
        logvar = np.full(x.shape[-1], 2 * math.log(self.sigma), out.real.dtype)
        logp, pull_logp = gaussian_logpdf(x, out, logvar)
        return logp, lambda dlogp, gradient=None: pull_logp(dlogp)[1]


@dataclass(frozen=True)
class LearnedGaussian(_Gaussian):
    """Gaussian with one learned σ_d per dimension, the same for every z.

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

    def log_prob(self, x, out, parameters):
        logp, pull_logp = gaussian_logpdf(x, out, parameters[_VARIANCE])

        def pull(dlogp, gradient=None):
            _, dout, dlogvar = pull_logp(dlogp)
            if gradient is not None:
                gradient[_VARIANCE][:] = dlogvar
            return dout

        return logp, pull


@dataclass(frozen=True)
class GaussianHead(_Gaussian):
    """Gaussian whose μ(z) and log σ²(z) both come from the decoder (K&W 2013, appendix C.2).

    Its density has no upper bound: where some x_d hardly varies, σ_d can shrink without end.

    Examples
    --------
    >>> GaussianHead().mean(np.array([[0.2, 0.7, -1.0, -1.0]]))    # the first half is μ
    array([[0.2, 0.7]])
    """

    heads: ClassVar[int] = 2
    name = "gaussian:head"

    def moments(self, out, parameters):
        mu, logvar = np.split(out, 2, axis=-1)
        return mu, logvar

    def mean(self, out):
        return out[..., : out.shape[-1] // 2]

    def log_prob(self, x, out, parameters):
        logp, pull_logp = gaussian_logpdf(x, *self.moments(out, parameters))

        def pull(dlogp, gradient=None):
            _, dmu, dlogvar = pull_logp(dlogp)
            return np.concatenate([dmu, dlogvar], axis=-1)

        return logp, pull


def parse_likelihood(text: str | Likelihood) -> Likelihood:
    """Return the likelihood that a text names; a `Likelihood` passes through.

    Parameters
    ----------
    text : str
        `bernoulli`, `binomial:16` (n), `gaussian:0.1` (σ), `gaussian:learned` (one σ for each
        dimension; `gaussian` alone means this) or `gaussian:head` (σ from the decoder).

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
    family, _, detail = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        if family == "bernoulli" and not detail:
            return Bernoulli()
        if family == "binomial" and detail:
            return Binomial(int(detail))
        if family == "gaussian" and detail in ("", "learned"):
            return LearnedGaussian()
        if family == "gaussian" and detail == "head":
            return GaussianHead()
        if family == "gaussian":
            return FixedGaussian(float(detail))
    except (ValueError, TypeError):
        pass
    raise ValueError(
        "likelihood: expected bernoulli, binomial:N, gaussian:SIGMA, gaussian:learned or "
        f"gaussian:head (N a whole number, SIGMA a number above 0); got {text!r}"
    )
