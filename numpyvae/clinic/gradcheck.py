"""Two methods to check a hand-written gradient, applied to the whole package.

*Complex step* (Squire & Trapp 1998): for a real analytic f,

    f(x + ih) = f(x) + ih f′(x) − ½ h² f″(x) − …   ⇒   f′(x) = Im f(x + ih)/h + O(h²)

There is no difference of close numbers, so h can be 1e-30, and the error is only the rounding
error of f, about 1e-16. *Central differences*, (f(x+h) − f(x−h))/2h, need no complex arithmetic,
but their error is at least about 1e-10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..core.distributions import (
    binomial_logpmf,
    gaussian_kl,
    gaussian_logpdf,
    log_prior,
    poisson_logpmf,
    reparameterize,
)
from ..core.elbo import Estimator, elbo, sampled_elbo
from ..core.layers import dense, mlp
from ..core.vae import VAE
from ..estimators import SGVBA
from ..estimators.weights import sampled_kl
from ..support.checks import check_seed
from ..support.registry import ACTIVATIONS, LIKELIHOODS
from ..support.streams import Purpose, stream

__all__ = [
    "Check",
    "central_difference",
    "check_all",
    "check_gradient",
    "check_pullback",
    "complex_step",
    "relative_error",
]

COMPLEX_TOLERANCE, CENTRAL_TOLERANCE = 1e-12, 1e-7


def complex_step(f: Callable, x: np.ndarray, h: float = 1e-30) -> np.ndarray:
    """Return the gradient of a real-analytic scalar function, to machine precision.

    ∂f/∂x_i = Im f(x + ih e_i)/h

    Parameters
    ----------
    f : callable
        A function from an array like `x`, of complex numbers, to a number. It must be analytic at
        `x`: with `abs`, comparisons of complex numbers or `.real` the result is wrong.
    x : (...) array of float
    h : float
        The step. h² must be negligible compared with 1.

    Returns
    -------
    gradient : (...) array of float64, like `x`

    Examples
    --------
    >>> complex_step(lambda x: np.exp(x).sum(), np.array([0.0, 1.0]))
    array([1.        , 2.71828183])
    """
    x = np.array(x, dtype=complex)
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + 1j * h
        gradient[i] = np.imag(f(x)) / h
        x[i] = kept
    return gradient


def central_difference(f: Callable, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Return the gradient of a scalar function by central differences.

    ∂f/∂x_i ≈ (f(x + h e_i) − f(x − h e_i))/2h, with an error of h² f‴/6 + |f| 1e-16/h

    Parameters
    ----------
    f : callable
        A function from an array like `x` to a number.
    x : (...) array of float
    h : float
        The step. For float64, 1e-5 is close to the best one, at which the two errors are equal.

    Returns
    -------
    gradient : (...) array of float64, like `x`

    Examples
    --------
    >>> central_difference(lambda x: np.exp(x).sum(), np.array([0.0, 1.0])).round(6)
    array([1.      , 2.718282])
    """
    x = np.array(x, dtype=float)
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + h
        upper = f(x)
        x[i] = kept - h
        gradient[i] = (upper - f(x)) / (2 * h)
        x[i] = kept
    return gradient


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return ‖found − expected‖ / ‖expected‖, or ‖found‖ if expected is 0.

    Parameters
    ----------
    found, expected : (...) array

    Returns
    -------
    error : float

    Examples
    --------
    >>> relative_error([3.0, 4.5], [3.0, 4.0])         # 0.5 / 5
    0.1
    """
    norm = float(np.linalg.norm(expected))
    return float(np.linalg.norm(np.subtract(found, expected))) / (norm or 1.0)


class Check(NamedTuple):
    """The result of comparing one gradient with the complex step and with central differences.

    Attributes
    ----------
    name : str
    size : int
        The number of derivatives that were compared.
    complex_error, central_error : float
        The norm of the difference from the complex step and from central differences, relative to
        the norm of the gradient.

    Examples
    --------
    >>> Check("a layer", 12, complex_error=1e-16, central_error=1e-9).passed
    True
    """

    name: str
    size: int
    complex_error: float
    central_error: float

    @property
    def passed(self) -> bool:
        """Whether both errors are within their tolerances; False if one is NaN."""
        return self.complex_error <= COMPLEX_TOLERANCE and self.central_error <= CENTRAL_TOLERANCE


def check_gradient(name: str, f: Callable, x: np.ndarray, gradient: np.ndarray) -> Check:
    """Compare `gradient` with two derivatives of the scalar function `f` at `x`.

    Parameters
    ----------
    name : str
        Name of the check.
    f : callable
        A function from an array like `x`, which can be complex, to a number.
    x, gradient : (...) array of float
        The point, and the gradient of `f` at this point, which is checked.

    Returns
    -------
    check : Check

    Examples
    --------
    >>> x = np.array([0.5, 2.0])
    >>> check_gradient("square", lambda x: (x * x).sum(), x, 2 * x).passed
    True
    """
    return Check(
        name,
        x.size,
        relative_error(gradient, complex_step(f, x)),
        relative_error(gradient, central_difference(f, x)),
    )


def check_pullback(name: str, f: Callable, *inputs: np.ndarray, seed: int = 0) -> Check:
    """Check the pullback of `f(*inputs) -> (y, pull)` for all inputs together.

    For a random w, Σ w·f is a scalar function, and its gradient must be `pull(w)`.

    Parameters
    ----------
    name : str
        Name of the check.
    f : callable
        `y, pull = f(*inputs)`; it must accept complex arrays.
    *inputs : (...) array of float
        `pull(w)` returns one gradient for each input.
    seed : int
        The seed of w.

    Returns
    -------
    check : Check

    Raises
    ------
    TypeError, ValueError
        If `seed` is not a whole number of at least 0.

    Examples
    --------
    >>> def cube(x):
    ...     return x**3, lambda dy: 3 * x**2 * dy
    >>> check_pullback("cube", cube, np.linspace(-1, 1, 5)).passed
    True
    """
    y, pull = f(*inputs)
    w = stream(seed, Purpose.GRADIENT_DIRECTIONS).standard_normal(y.shape)
    gradients = pull(w)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    stops = np.cumsum([a.size for a in inputs])[:-1]

    def scalar(flat):
        pieces = np.split(flat, stops)
        return (w * f(*(p.reshape(a.shape) for p, a in zip(pieces, inputs)))[0]).sum()

    flat = np.concatenate([a.ravel() for a in inputs])
    return check_gradient(name, scalar, flat, np.concatenate([g.ravel() for g in gradients]))


def check_all(seed: int = 0) -> Iterator[Check]:
    """Check every layer, density and likelihood, and the whole ELBO, on small random cases.

    Parameters
    ----------
    seed : int
        The seed of the random cases.

    Yields
    ------
    check : Check
        One result for each case, as soon as it has been computed.

    Raises
    ------
    TypeError, ValueError
        If `seed` is not a whole number of at least 0.

    Examples
    --------
    >>> next(check_all()).name
    'layer tanh'
    """
    rng = stream(check_seed(seed), Purpose.GRADIENT_CASES)
    draw = rng.standard_normal
    for name, activation in ACTIVATIONS.items():
        yield check_pullback(f"layer {name}", activation, draw((4, 3)))
    yield check_pullback("layer dense", _dense_in_all, draw((4, 3)), draw((3, 2)), draw(2))
    for name in ACTIVATIONS:
        f = _mlp_in_all(ACTIVATIONS[name])
        sizes = (4, 3), (3, 5), (5,), (5, 2), (2,)
        yield check_pullback(f"mlp {name}", f, *map(draw, sizes))
    eps = draw((2, 4, 3))
    yield check_pullback(
        "reparameterize", lambda m, s: reparameterize(m, s, eps), draw((4, 3)), draw((4, 3))
    )
    yield check_pullback("gaussian_kl", gaussian_kl, draw((4, 3)), draw((4, 3)))
    yield check_pullback(
        "sampled_kl", lambda z, s: sampled_kl(z, s, eps), draw((2, 4, 3)), draw((4, 3))
    )
    yield check_pullback(
        "gaussian_logpdf", gaussian_logpdf, draw((4, 3)), draw((2, 4, 3)), draw(3)
    )
    for n in (1, 16):
        counts = rng.integers(0, n + 1, (4, 3)).astype(float)
        yield check_pullback(
            f"binomial_logpmf n={n}",
            lambda logits, x=counts, n=n: binomial_logpmf(x, logits, n),
            3 * draw((2, 4, 3)),
        )
    yield check_pullback(
        "poisson_logpmf",
        lambda l: poisson_logpmf(np.full((4, 3), 3.0), l),
        draw((2, 4, 3)),
    )
    yield check_pullback("log_prior", log_prior, draw((2, 4, 3)))
    for likelihood in map(example, LIKELIHOODS):
        for kl in ("closed", "sampled"):
            yield _check_elbo(likelihood, "tanh", kl, rng)
    for name in sorted(ACTIVATIONS.keys() - {"tanh"}):
        yield _check_elbo("bernoulli", name, "closed", rng)


def example(pattern: str) -> str:
    """Return a likelihood's name for a registered pattern: binomial:16 for binomial:N."""
    family, _, number = pattern.partition(":")
    return f"{family}:{ {'N': 16, 'SIGMA': 0.3}.get(number, 3) }" if number.isupper() else pattern


def _dense_in_all(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Return `dense` with a pullback that returns the gradients in x, W and b together."""
    y, pull = dense(x, W, b)

    def pull_all(dy):
        into = np.zeros(W.shape), np.zeros(b.shape)
        return (pull(dy, into), *into)

    return y, pull_all


def _mlp_in_all(activation: Callable) -> Callable:
    """Return `mlp` with a pullback that returns the gradients in x and all weights together."""

    def f(x, *flat):
        weights = list(zip(flat[::2], flat[1::2]))
        y, pull = mlp(x, weights, activation)

        def pull_all(dy):
            into = [(np.zeros(W.shape), np.zeros(b.shape)) for W, b in weights]
            return (pull(dy, into), *(g for pair in into for g in pair))

        return y, pull_all

    return f


def _check_elbo(likelihood: str, activation: str, kl: str, rng: np.random.Generator) -> Check:
    """Check the gradient of the mean ELBO in every parameter of a small model."""
    vae = VAE(5, 2, (4, 3), activation, likelihood, "float64")
    flat = rng.normal(0, 0.5, vae.parameters.flat.size)
    x = rng.integers(0, 2, (6, 5)).astype(float)
    eps = rng.standard_normal((2, 6, 2))
    value, estimator = {"closed": (elbo, Estimator()), "sampled": (sampled_elbo, SGVBA())}[kl]
    gradient = estimator(vae.with_flat(flat), x, eps).gradient.flat
    equation = {"closed": "Eq. (11)", "sampled": "Eq. (7)"}[kl]
    return check_gradient(
        f"ELBO {equation} {likelihood} {activation}",
        lambda p: value(vae.with_flat(p), x, eps).mean(),
        flat,
        gradient,
    )
