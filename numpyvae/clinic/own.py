"""The package's own VAE as a subject of the clinic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..bounds.importance import importance_log_likelihood
from ..core.distributions import gaussian_kl, gaussian_logpdf, reparameterize
from ..core.elbo import elbo, elbo_and_grad, sampled_elbo
from ..core.vae import VAE
from ..estimators.evaluation import mean_terms
from ..support.checks import check_data, check_seed
from ..support.registry import LIKELIHOODS
from ..support.special import log_factorial
from ..support.streams import Purpose, stream
from .findings import RIGHT, Finding
from .gradcheck import CENTRAL_TOLERANCE, COMPLEX_TOLERANCE, check_all, example
from .names import wrong
from .subject import Subject

__all__ = ["complex_steps", "own_subjects", "subject_of"]

_DATA_DIM, _LATENT_DIM, _ROWS = 6, 2, 24


def subject_of(vae: VAE, x: Any, name: str = "") -> Subject:
    """Return a VAE of this package as a subject of the clinic.

    Its functions compute in float64, on a copy of the parameters. For a likelihood that the
    clinic does not know, the reference is the likelihood's own `log_prob`: then the value of
    log p(x|z) itself is not examined, and all that is built on it is.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
        Rows of data.
    name : str
        Shown in the report; by default that of the likelihood.

    Returns
    -------
    subject : Subject

    Raises
    ------
    TypeError, ValueError
        If `vae` is not a `VAE`, or `x` is not data for it.

    Examples
    --------
    >>> subject = subject_of(VAE(4, 2, (3,)), np.eye(4))
    >>> subject.likelihood, subject.noise
    ('bernoulli', 'eps')
    """
    x = check_data(vae, x)
    model = _Model(vae)
    return Subject(
        encode=model.encode,
        decode=model.decode,
        loss=model.loss,
        loss_sampled=model.loss_sampled,
        kl=model.kl,
        reconstruction=None if model.known is None else model.reconstruction,
        sample_z=model.sample_z,
        gradient=model.gradient,
        parameters=(model.get, model.set),
        log_p=model.log_p,
        evaluate=model.evaluate,
        generate=model.vae.decode,
        seed=model.seed,
        noise="eps",
        likelihood=model.log_density if model.known is None else model.known,
        output=model.output,
        scale="logvar",
        sign="loss",
        reduction="mean",
        constants=True,
        x=x,
        name=name or vae.likelihood.name,
    )


def _poisson(x: np.ndarray, log_rate: np.ndarray) -> np.ndarray:
    """log p(x|z) = Σ x l − e^l − log x!, as the clinic's reference."""
    return (x * log_rate - np.exp(log_rate) - log_factorial(x)).sum(-1)


def _gaussian(name: str) -> tuple[str, str]:
    """A σ in the name is one for all dimensions; "learned" and "head" have one for each."""
    setting = name.partition(":")[2]
    return ("gaussian", "mean_logvar") if setting in ("learned", "head") else (name, "mean")


_DECLARED = {  # by the first part of the name: what the clinic has formulas of its own for
    "bernoulli": lambda name: (name, "logits"),
    "binomial": lambda name: (name, "logits"),
    "poisson": lambda name: (_poisson, None),
    "gaussian": _gaussian,
}


def _declared(vae: VAE) -> tuple[str | Callable | None, str | None]:
    """The likelihood and the output as a subject declares them, None for one that is not known."""
    name = vae.likelihood.name
    declare = _DECLARED.get(name.partition(":")[0])
    return declare(name) if declare else (None, None)


class _Model:
    """The functions of a VAE in the form in which a subject has them.

    `known` is the likelihood as the clinic knows it, None if it does not; `output` is what
    `decode` returns.
    """

    def __init__(self, vae: VAE) -> None:
        self.vae = vae.with_flat(vae.parameters.flat.astype(float))
        self.known, self.output = _declared(self.vae)
        self.seed(0)

    def get(self) -> np.ndarray:
        return self.vae.parameters.flat

    def set(self, flat: np.ndarray) -> None:
        self.vae.parameters.flat = flat

    def seed(self, number: int) -> None:
        self.number, self.rng = number, stream(number, Purpose.CLINIC, 2)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.vae.encode(x)

    def decode(self, z: np.ndarray) -> Any:
        out = self.vae.decoder(z[None])[0][0]
        if self.output != "mean_logvar":
            return out
        likelihood: Any = self.vae.likelihood
        mean, logvar = likelihood.moments(out, self.vae.parameters)
        return mean, np.broadcast_to(logvar, mean.shape)

    def loss(self, x: np.ndarray, eps: np.ndarray) -> float:
        return -float(elbo(self.vae, x, eps[None]).mean())

    def loss_sampled(self, x: np.ndarray, eps: np.ndarray) -> float:
        return -float(sampled_elbo(self.vae, x, eps[None]).mean())

    def gradient(self, x: np.ndarray, eps: np.ndarray) -> dict[str, np.ndarray]:
        gradient = elbo_and_grad(self.vae, x, eps[None])[1]
        return dict(self.vae.parameters.like(-gradient))

    def kl(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        return gaussian_kl(mu, logvar)[0]

    def log_density(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        return self.vae.likelihood.log_prob(x, out[None], self.vae.parameters)[0][0]

    def reconstruction(self, x: np.ndarray, out: Any) -> np.ndarray:
        if self.output == "mean_logvar":
            mean, logvar = out
            return -gaussian_logpdf(x, mean[None], logvar[None])[0][0]
        return -self.log_density(x, out)

    def sample_z(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        return reparameterize(mu, logvar, self.rng.standard_normal((1, *mu.shape)))[0][0]

    def log_p(self, x: np.ndarray, n_importance: int) -> np.ndarray:
        return importance_log_likelihood(self.vae, x, n_importance, seed=self.number, n_jobs=1)

    def evaluate(self, x: np.ndarray) -> float:
        return -float(mean_terms(self.vae, x, seed=self.number).elbo)


def own_subjects(seed: int = 0) -> Iterator[Subject]:
    """Return a small VAE of this package for each registered likelihood, as subjects.

    Parameters
    ----------
    seed : int
        Of the parameters and the data.

    Yields
    ------
    subject : Subject

    Raises
    ------
    TypeError, ValueError
        If `seed` is not a whole number of at least 0.

    Examples
    --------
    >>> [subject.name for subject in own_subjects()][:2]
    ['binomial:16', 'bernoulli']
    """
    rng = stream(check_seed(seed), Purpose.CLINIC, 3)
    for likelihood in map(example, LIKELIHOODS):
        vae = VAE(_DATA_DIM, _LATENT_DIM, (5,), "tanh", likelihood, "float64")
        vae.parameters.flat = rng.normal(0, 0.6, vae.parameters.flat.size)
        z = rng.standard_normal((1, _ROWS, _LATENT_DIM))
        x = vae.likelihood.draw(vae.decoder(z)[0], vae.parameters, rng)[0]
        yield subject_of(vae, x)


def complex_steps(seed: int = 0) -> Iterator[Finding]:
    """Compare every hand-written gradient of this package with the complex step.

    Parameters
    ----------
    seed : int
        Of the random cases.

    Yields
    ------
    finding : Finding

    Raises
    ------
    TypeError, ValueError
        If `seed` is not a whole number of at least 0.

    Examples
    --------
    >>> next(complex_steps()).verdict
    'right'
    """
    expected = f"errors to {COMPLEX_TOLERANCE:g} (complex step), {CENTRAL_TOLERANCE:g} (central)"
    for check in check_all(seed):
        title = f"complex step: {check.name}"
        found = f"error {check.complex_error:.1e}, central {check.central_error:.1e}"
        if check.passed:
            yield Finding(title, RIGHT, "", "", expected, found)
        else:
            name = "gradient is not that of the value"
            yield wrong(title, name, expected, found, f"seed {seed}, {check.size} derivatives")
