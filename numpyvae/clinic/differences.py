"""Derivatives of a subject's functions by central differences in its parameters.

The parts of the gradient of the loss are found without knowledge of the network. With frozen
noise ε, for each parameter θ,

    path through μ:    Σ g · ∂μ/∂θ,            g = ∂(−log p(x|z))/∂z
    path through σ:    Σ g ε · ∂σ/∂θ
    KL in μ, in σ:     Σ μ · ∂μ/∂θ,            ½ Σ (σ² − 1) · ∂log σ²/∂θ
    decoder:           Σ ∂(−log p)/∂out · ∂out/∂θ at fixed z

A block in which only the first and third are not zero is the head of μ, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .calls import Calls
from .facts import Facts
from .hypotheses import gaussian_kl_terms, reconstruction_forms
from .subject import log_variance

__all__ = [
    "Blocks",
    "Parts",
    "choose",
    "differences",
    "encoder_parts",
    "parts",
    "sides",
    "slope",
    "step",
]

_EACH = 24  # coordinates of a block


@dataclass(frozen=True)
class Blocks:
    """Chosen coordinates of the parameters, by block.

    Parameters
    ----------
    names : tuple of str
    index : (N,) array of int
        The coordinates in the flat vector.
    block : (N,) array of int
        The block of each.

    Examples
    --------
    >>> choose({"W": 2, "b": 1}, np.random.Generator(np.random.PCG64(0))).index
    array([0, 1, 2])
    """

    names: tuple[str, ...]
    index: np.ndarray
    block: np.ndarray


def choose(sizes: dict[str, int], rng: np.random.Generator) -> Blocks:
    """Choose coordinates of each block, all if they are few.

    Parameters
    ----------
    sizes : dict of str to int
    rng : numpy.random.Generator

    Returns
    -------
    blocks : Blocks

    Examples
    --------
    >>> choose({"W": 100}, np.random.Generator(np.random.PCG64(0))).index.size
    24
    """
    index, block, start = [], [], 0
    for number, size in enumerate(sizes.values()):
        chosen = np.sort(rng.choice(size, min(size, _EACH), replace=False))
        index.append(start + chosen)
        block.append(np.full(len(chosen), number))
        start += size
    return Blocks(tuple(sizes), np.concatenate(index), np.concatenate(block))


def step(facts: Facts) -> float:
    """Return the step of central differences: 1e-5 for float64, 2e-2 for float32.

    Parameters
    ----------
    facts : Facts

    Returns
    -------
    h : float

    Examples
    --------
    >>> from .facts import establish
    >>> from .subject import Subject
    >>> step(establish(Calls(Subject(kl=len)), 0))
    1e-05
    """
    return 1e-5 if facts.tolerance < 1e-6 else 2e-2


@contextmanager
def _restored(calls: Calls) -> Iterator[np.ndarray]:
    """Hand out the parameters, and put them back at the end."""
    vector = calls.vector()
    try:
        yield vector.copy()
    finally:
        calls.replace(vector)


def differences(calls: Calls, index: np.ndarray, f: Callable[[], Any], h: float) -> np.ndarray:
    """Return ∂f/∂θ_i for the chosen coordinates by central differences.

    Parameters
    ----------
    calls : Calls
    index : (N,) array of int
    f : callable
        Without arguments, returns an array or a number.
    h : float

    Returns
    -------
    derivatives : (N, ...) array

    Examples
    --------
    >>> from .subject import Subject
    >>> theta = np.array([3.0])
    >>> get_set = (lambda: theta, lambda v: theta.__setitem__(slice(None), v))
    >>> calls = Calls(Subject(kl=len, parameters=get_set))
    >>> differences(calls, np.array([0]), lambda: theta[0] ** 2, 1e-3).round(6)
    array([6.])
    """
    values = sides(calls, index, f, h)
    return (values[:, 0] - values[:, 1]) / (2 * h)


def sides(calls: Calls, index: np.ndarray, f: Callable[[], Any], h: float) -> np.ndarray:
    """Return f at θ_i + h and at θ_i − h for the chosen coordinates.

    Parameters
    ----------
    calls : Calls
    index : (N,) array of int
    f : callable
        Without arguments, returns an array or a number.
    h : float

    Returns
    -------
    values : (N, 2, ...) array

    Examples
    --------
    >>> from .subject import Subject
    >>> theta = np.array([3.0])
    >>> get_set = (lambda: theta, lambda v: theta.__setitem__(slice(None), v))
    >>> calls = Calls(Subject(kl=len, parameters=get_set))
    >>> sides(calls, np.array([0]), lambda: theta[0], 0.5)
    array([[3.5, 2.5]])
    """
    rows = []
    with _restored(calls) as vector:
        for i in index:
            kept = vector[i]
            pair = []
            for sign in (1, -1):
                vector[i] = kept + sign * h
                calls.replace(vector)
                pair.append(np.asarray(f(), dtype=float))
            vector[i] = kept
            rows.append(pair)
    return np.array(rows) if rows else np.zeros((0, 2, *np.shape(f())))


class Parts(NamedTuple):
    """The parts of the gradient at the chosen coordinates, each (N,), for the mean over rows.

    Parameters
    ----------
    path_mu, path_sigma, kl_mu, kl_sigma, decoder : (N,) array
    prior_mu, prior_sigma, entropy : (N,) array
        In Eq. (7): of −log p(z) through μ and σ, and of log q(z|x).
    out : (N, B, D) array
        ∂out/∂θ at fixed z.
    value, sampled : float
        −ELBO in the forms of Eq. (11) and Eq. (7).

    Examples
    --------
    >>> Parts(*range(11)).decoder
    4
    """

    path_mu: np.ndarray
    path_sigma: np.ndarray
    kl_mu: np.ndarray
    kl_sigma: np.ndarray
    decoder: np.ndarray
    prior_mu: np.ndarray
    prior_sigma: np.ndarray
    entropy: np.ndarray
    out: np.ndarray
    value: float
    sampled: float


def _cost(facts: Facts, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """−log p(x|z) for each row."""
    form = reconstruction_forms(facts.calls.subject, facts.output)["right"]
    return form(x.reshape(len(x), -1), *facts.calls.decode(z))


def slope(facts: Facts, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return ∂(−log p(x|z))/∂z (B, J).

    Parameters
    ----------
    facts : Facts
    x : (B, ...) array
    z : (B, J) array

    Returns
    -------
    slope : (B, J) array

    Examples
    --------
    >>> from .facts import establish
    >>> from .subject import Subject
    >>> facts = establish(Calls(Subject(decode=lambda z: z, output="logits", data_dim=2)), 0)
    >>> slope(facts, np.ones((1, 2)), np.zeros((1, 2))).round(4)
    array([[-0.5, -0.5]])
    """
    h = step(facts)
    unit = np.eye(z.shape[1]) * h
    return np.stack([_cost(facts, x, z + e) - _cost(facts, x, z - e) for e in unit], 1) / (2 * h)


def encoder_parts(facts: Facts, x: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return μ and log σ² (B, J), and their derivatives (N, B, J).

    Parameters
    ----------
    facts : Facts
    x : (B, ...) array
    index : (N,) array of int

    Returns
    -------
    mu, logvar, d_mu, d_logvar : array

    Examples
    --------
    >>> from .facts import establish
    >>> from .subject import Subject
    >>> theta = np.array([3.0])
    >>> get_set = (lambda: theta, lambda v: theta.__setitem__(slice(None), v))
    >>> subject = Subject(encode=lambda x: (x * theta, x), parameters=get_set)
    >>> facts = establish(Calls(subject), 0)
    >>> encoder_parts(facts, np.ones((1, 1)), np.array([0]))[2].round(6)
    array([[[1.]]])
    """

    def encoded() -> np.ndarray:
        mu, second = facts.calls.encode(x)
        return np.stack([mu, log_variance(second, facts.scale)])

    mu, logvar = encoded()
    d = differences(facts.calls, index, encoded, step(facts))
    return mu, logvar, d[:, 0], d[:, 1]


def parts(facts: Facts, x: np.ndarray, z: np.ndarray, index: np.ndarray) -> Parts:
    """Return the parts of the gradient of −ELBO for one draw z.

    Parameters
    ----------
    facts : Facts
    x : (B, ...) array
    z : (B, J) array
    index : (N,) array of int

    Returns
    -------
    parts : Parts

    Examples
    --------
    >>> Parts._fields[:2]
    ('path_mu', 'path_sigma')
    """
    calls, h, beta, n = facts.calls, step(facts), facts.calls.subject.beta, len(x)

    def cost(z: np.ndarray) -> np.ndarray:
        return _cost(facts, x, z)

    mu, logvar, d_mu, d_logvar = encoder_parts(facts, x, index)
    sigma = np.exp(0.5 * logvar)
    eps = (z - mu) / sigma
    g = slope(facts, x, z)
    d_sigma = 0.5 * sigma * d_logvar

    def over_rows(a: np.ndarray) -> np.ndarray:
        return a.sum((1, 2)) / n

    rec = cost(z)
    kl = gaussian_kl_terms(mu, logvar)
    sampled = 0.5 * (z**2 - logvar - eps**2).sum(1)
    return Parts(
        over_rows(g * d_mu),
        over_rows(g * eps * d_sigma),
        beta * over_rows(mu * d_mu),
        beta * over_rows(0.5 * (sigma**2 - 1) * d_logvar),
        differences(calls, index, lambda: cost(z).mean(), h),
        beta * over_rows(z * d_mu),
        beta * over_rows(z * eps * d_sigma),
        beta * over_rows(-0.5 * d_logvar),
        differences(calls, index, lambda: calls.decode(z)[0], h),
        float((rec + beta * kl).mean()),
        float((rec + beta * sampled).mean()),
    )
