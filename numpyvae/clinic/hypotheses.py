"""The formulas that a VAE should compute, and those that it computes with one known bug.

Each table maps names to functions; "right" is the formula that is right for what the subject
declares. All functions of the second output of the encoder take it as it is, with its scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..support.special import log_binomial_coefficient
from .calls import log_density
from .names import misreading
from .subject import SCALES, Subject, log_variance

__all__ = [
    "KL_READINGS",
    "gaussian_constant",
    "gaussian_kl_terms",
    "kl_forms",
    "laws",
    "reconstruction_forms",
    "sigmoid",
    "wrong_constants",
]

_READ = ("logvar", "log_sigma", "sigma", "variance")
KL_READINGS = _READ
AFTER_DRAW = 0.18215  # a public code scales z with this factor of latent diffusion


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1/(1 + exp(−l)), without overflow.

    Parameters
    ----------
    logits : (...) array

    Returns
    -------
    probabilities : (...) array

    Examples
    --------
    >>> float(sigmoid(np.array(0.0)))
    0.5
    """
    return 0.5 * (1 + np.tanh(0.5 * logits))


def gaussian_kl_terms(
    mu: np.ndarray, logvar: np.ndarray, weights: tuple[float, ...] = (1, 1, 1, 1)
) -> np.ndarray:
    """Return ½ Σ_j (a μ² + b σ² − c log σ² − d), the KL of Eq. (11) for a = b = c = d = 1.

    Parameters
    ----------
    mu, logvar : (B, J) array
    weights : (a, b, c, d)

    Returns
    -------
    kl : (B,) array

    Examples
    --------
    >>> gaussian_kl_terms(np.array([[1.0]]), np.array([[0.0]]))
    array([0.5])
    """
    a, b, c, d = weights
    with np.errstate(all="ignore"):
        return 0.5 * (a * mu**2 + b * np.exp(logvar) - c * logvar - d).sum(-1)


def kl_forms(scale: str) -> dict[str, Callable]:
    """Return the KL term, right and with each known bug, as functions (mu, second) → (B,).

    Parameters
    ----------
    scale : str
        One of `SCALES`.

    Returns
    -------
    forms : dict of str to callable

    Examples
    --------
    >>> float(kl_forms("sigma")["right"](np.zeros((1, 2)), np.ones((1, 2)))[0])
    0.0
    """

    def weighted(mu, second, weights):
        return gaussian_kl_terms(mu, log_variance(second, scale), weights)

    def misread(mu, second, read):
        return gaussian_kl_terms(mu, log_variance(second, read))

    def one_for_all(mu, second):
        return weighted(mu, second, (1, 1, 1, 0)) - 0.5

    def squared(mu, second):
        s = log_variance(second, scale)
        with np.errstate(all="ignore"):
            return 0.5 * (mu**2 + np.exp(2 * s) - s - 1).sum(-1)

    weights = {
        "right": (1, 1, 1, 1),
        "KL without its −1": (1, 1, 1, 0),
        "μ² missing in the KL": (0, 1, 1, 1),
        "sign of μ² in the KL": (-1, 1, 1, 1),
        "variance missing in the KL": (1, 0, 1, 1),
        "log σ² missing in the KL": (1, 1, 0, 1),
        # KL(N(μ, σ²) ‖ N(0, v)) = ½ Σ (μ²/v + σ²/v − log σ² + log v − 1), v = e²
        "prior of another variance": (np.exp(-2), np.exp(-2), 1, -1),
    }
    forms: dict[str, Callable] = {n: partial(weighted, weights=w) for n, w in weights.items()}
    forms["KL with one −1 for all latents"] = one_for_all
    forms["σ² squared in the KL"] = squared
    for read in _READ:
        if read != scale:
            forms[misreading(scale, read, "KL")] = partial(misread, read=read)
    return forms


def laws(scale: str) -> dict[str, Callable]:
    """Return z, right and with each known bug, as functions (mu, second, eps) → (..., J).

    Parameters
    ----------
    scale : str
        One of `SCALES`.

    Returns
    -------
    laws : dict of str to callable

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> laws("sigma")["right"](one, one, 0.5 * one)
    array([[1.5]])
    """

    def deviation(second, read=scale):
        if read == "sigma":  # which may be negative: z = μ − |σ| ε has the same distribution
            return second
        with np.errstate(all="ignore"):
            return np.exp(0.5 * log_variance(second, read))

    def uniform(eps):
        # Φ(ε) by its logistic approximation would do; the nodes need no more than 1e-4
        t = np.tanh(np.sqrt(2 / np.pi) * (eps + 0.044715 * eps**3))
        return 0.5 * (1 + t)

    table: dict[str, Callable] = {
        "right": lambda mu, s, eps: mu + deviation(s) * eps,
        "mean decoded": lambda mu, s, eps: mu + 0 * eps,
        "μ + σ decoded, without noise": lambda mu, s, eps: mu + deviation(s) + 0 * eps,
        "exp(¼ log σ²) as standard deviation": lambda mu, s, eps: (
            mu + np.abs(deviation(s)) ** 0.5 * eps
        ),
        "noise of the wrong size": lambda mu, s, eps: mu + 0.01 * deviation(s) * eps,
        "uniform noise": lambda mu, s, eps: mu + deviation(s) * uniform(eps),
        "one ε for all latents": lambda mu, s, eps: mu + deviation(s) * eps[..., :1],
        "z scaled after the draw": lambda mu, s, eps: AFTER_DRAW * (mu + deviation(s) * eps),
    }
    for read in _READ:
        if read != scale:
            name = misreading(scale, read, "sampler")
            table[name] = lambda mu, s, eps, read=read: mu + _real(deviation(s, read)) * eps
    return table


def _real(deviation: np.ndarray) -> np.ndarray:
    """NaN, of the root of a negative number, spoils a comparison: it becomes inf."""
    return np.where(np.isnan(deviation), np.inf, deviation)


def reconstruction_forms(subject: Subject, output: str) -> dict[str, Callable]:
    """Return −log p(x|z), right and with each known bug, as functions (x, first, second) → (B,).

    Constants of a Gaussian are left out. A likelihood of the user's own has no known bugs.

    Parameters
    ----------
    subject : Subject
    output : str
        What the decoder returns.

    Returns
    -------
    forms : dict of str to callable

    Examples
    --------
    >>> subject = Subject(kl=len)
    >>> form = reconstruction_forms(subject, "logits")["right"]
    >>> form(np.ones((1, 2)), np.zeros((1, 2)), None).round(4)
    array([1.3863])
    """
    if subject.family == "custom":
        return {"right": lambda x, first, second: -log_density(subject, x, first, second)}
    return dict(
        _gaussian(subject, output) if subject.family == "gaussian" else _pixels(subject, output)
    )


def _pixels(subject: Subject, output: str) -> Iterator[tuple[str, Callable]]:
    """The forms of a Bernoulli or binomial likelihood."""
    n = subject.trials

    def logits(first):
        if output == "logits":
            return first
        p = np.clip(first, 1e-300, 1 - 1e-16)
        return np.log(p) - np.log1p(-p)

    def entropy(x, l):
        return (n * np.logaddexp(0, l) - x * l).sum(-1)

    def coefficient(x):
        return log_binomial_coefficient(x, n) if n > 1 else 0.0

    def p(first):
        return sigmoid(logits(first))

    def swapped(x, first, second):
        with np.errstate(all="ignore"):
            return -(p(first) * np.log(x) + (1 - p(first)) * np.log1p(-x)).sum(-1)

    yield "right", lambda x, f, s: entropy(x, logits(f)) - coefficient(x)
    if n > 1:
        yield "right, without its coefficient", lambda x, f, s: entropy(x, logits(f))
    yield "sigmoid applied twice", lambda x, f, s: entropy(x, p(f))
    yield "(1−x) term missing", lambda x, f, s: (x * np.logaddexp(0, -logits(f))).sum(-1)
    yield "x term missing", lambda x, f, s: ((n - x) * np.logaddexp(0, logits(f))).sum(-1)
    yield (
        "squared error in place of the log-likelihood",
        lambda x, f, s: 0.5 * ((x - n * p(f)) ** 2).sum(-1),
    )
    yield (
        "absolute error in place of the log-likelihood",
        lambda x, f, s: np.abs(x - n * p(f)).sum(-1),
    )
    if n == 1:
        yield "x and reconstruction swapped", swapped


def _gaussian(subject: Subject, output: str) -> Iterator[tuple[str, Callable]]:
    """The forms of a Gaussian likelihood, without constants."""
    sigma = subject.declared_sigma or 1.0

    def density(x, f, s, read, weight=1.0):
        logvar = log_variance(s, read)
        with np.errstate(all="ignore"):
            return 0.5 * ((x - f) ** 2 / np.exp(logvar) + weight * logvar).sum(-1)

    if not output.startswith("mean_"):
        yield "right", lambda x, f, s: 0.5 * ((x - f) ** 2).sum(-1) / sigma**2
        if subject.family == "gaussian":
            yield (
                "absolute error in place of the log-likelihood",
                lambda x, f, s: np.abs(x - f).sum(-1),
            )
        return
    declared = output.removeprefix("mean_")
    yield "right", partial(density, read=declared)
    for read in _READ:
        if read != declared:
            yield misreading(declared, read, "decoder"), partial(density, read=read)
    twice = "½ missing in the log variance of the decoder"
    yield twice, partial(density, read=declared, weight=2.0)
    yield "log variance missing in the decoder", partial(density, read=declared, weight=0.0)


def gaussian_constant(subject: Subject, output: str, data_dim: int) -> float | None:
    """Return what −log p(x|z) has beside its form: D/2 log 2πσ², None if σ is not known.

    Parameters
    ----------
    subject : Subject
    output : str
        What the decoder returns.
    data_dim : int
        The number D of dimensions of x.

    Returns
    -------
    constant : float or None
        0 for pixels, None for a likelihood of the user's own without its constants.

    Examples
    --------
    >>> subject = Subject(kl=len, likelihood="gaussian:1")
    >>> float(round(gaussian_constant(subject, "mean", 2), 4))
    1.8379
    """
    if subject.family == "custom" and subject.constants is False:
        return None
    if subject.family != "gaussian":
        return 0.0
    if output.startswith("mean_"):
        return 0.5 * data_dim * np.log(2 * np.pi)
    sigma = subject.declared_sigma
    return None if sigma is None else 0.5 * data_dim * np.log(2 * np.pi * sigma**2)


def wrong_constants(subject: Subject, output: str, data_dim: int) -> Iterator[tuple[str, float]]:
    """Yield the name of a wrong constant of a Gaussian log density, and the constant.

    Parameters
    ----------
    subject : Subject
    output : str
    data_dim : int

    Returns
    -------
    names : iterator of (str, float)

    Examples
    --------
    >>> list(wrong_constants(Subject(kl=len), "logits", 2))
    []
    """
    right = gaussian_constant(subject, output, data_dim)
    if not right:
        return
    scale = right - 0.5 * data_dim * np.log(2 * np.pi)
    yield "Gaussian constant missing", 0.0
    if scale:
        yield "log 2π missing in the Gaussian constant", scale
        yield "log σ² missing in the Gaussian constant", right - scale
    if data_dim > 1:
        yield "Gaussian constant of one pixel", right / data_dim
        yield "Gaussian constant counted D times", right * data_dim
    yield "π = 3.14 in the Gaussian constant", right + 0.5 * data_dim * np.log(3.14 / np.pi)


assert set(_READ) < set(SCALES)
