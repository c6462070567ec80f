"""Stochastic ascent on the bound of full variational Bayes (K&W 2013, appendix F)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core.optimizers import Optimizer, make_optimizer
from ..core.vae import VAE
from ..support.checks import (
    check_choice,
    check_count,
    check_data,
    check_positive,
    check_seed,
    check_vae,
)
from ..support.fit_checks import check_batch_size, check_callbacks, check_functions
from ..support.history import History
from ..support.streams import Purpose, stream
from .epochs import Ascent, batch_rows, run_epochs
from .full_bayes import WeightPosterior, full_bound

__all__ = ["FullBayes", "full_variational_bayes"]

_LOGVAR = "weights_logvar"  # its name in the optimizer's state


class FullBayes(NamedTuple):
    """The result of `full_variational_bayes` (Kingma & Welling 2013, appendix F).

    Attributes
    ----------
    posterior : WeightPosterior
        q(θ).
    history : History
        A row for each epoch, with `elbo` (the mean over draws of θ), `reconstruction`, `kl`,
        `kl_theta`, `objective` (the bound), `gradient_norm`, `learning_rate` and `seconds`.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=1, hidden=(3,))
    >>> q, history = full_variational_bayes(vae, np.eye(4), epochs=2)
    >>> bool((vae.parameters.theta == q.mu).all()), history["kl_theta"].shape
    (True, (2,))
    """

    posterior: WeightPosterior
    history: History


def full_variational_bayes(
    vae: VAE,
    x: Any,
    *,
    epochs: int,
    batch_size: int | None = None,
    n_samples: int = 1,
    prior_variance: float = 1.0,
    start_sigma: float = 0.01,
    optimizer: str | Optimizer = "adagrad",
    schedule: Callable[[float], float] | None = None,
    update: str = "both",
    callbacks: Iterable[Callable[[VAE, History], Any]] = (),
    seed: int = 0,
    resume: History | None = None,
) -> FullBayes:
    """Learn q_φ(z|x) and q(θ) together (Kingma & Welling 2013, appendix F).

    (1/N) log p(X) ≥ E_{q(θ)}[mean ELBO] − (1/N) KL(q(θ) ‖ p(θ))

    φ changes in place, and θ of `vae` becomes μ_θ, the mean of q(θ).

    Parameters
    ----------
    vae : VAE
        Its θ is where μ_θ starts.
    x : (N, D) array_like
    epochs : int
        Number of passes over the data.
    batch_size : int, optional
        B; 100, or N if that is smaller.
    n_samples : int
        S, the number of draws of θ for a minibatch, each with one draw of z for each row.
    prior_variance : float
        v, of the prior θ ~ N(0, v I).
    start_sigma : float
        σ_θ at the start.
    optimizer : str or Optimizer
    schedule : callable, optional
        Takes the number of epochs of this run (a float) to a factor of the learning rate.
    update : {"both", "phi", "theta"}
        "theta" moves q(θ) alone, "phi" the encoder alone.
    callbacks : iterable of callable
        Called as `callback(vae, history)` after each epoch; True ends the run.
    seed : int
    resume : History, optional
        Continue that run: it has the variances of q(θ).

    Returns
    -------
    posterior : WeightPosterior
    history : History

    Raises
    ------
    TypeError, ValueError
        If an argument is not what the model can take.
    NonFiniteError
        If the bound, a gradient or a step is not finite; `vae` is set back.

    Examples
    --------
    >>> vae, x = VAE(data_dim=4, latent_dim=1, hidden=(3,)), [[0, 1, 1, 0], [1, 1, 0, 0]]
    >>> q, history = full_variational_bayes(vae, x, epochs=3)
    >>> decoders = q.draw(vae, 10)
    >>> len(decoders), history["objective"].shape
    (10, (3,))
    """
    check_vae(vae)
    x = check_data(vae, x).astype(vae.dtype, "C", copy=False)  # its rows are taken one by one
    check_functions(schedule=schedule)
    optimizer = make_optimizer(optimizer)
    update = check_choice("update", update, ("both", "phi", "theta"))
    logvar = np.full_like(
        vae.parameters.theta, 2 * math.log(check_positive("start_sigma", start_sigma))
    )
    moving = _moving(update, vae.parameters.phi.size)
    fresh = optimizer.init(np.concatenate([vae.parameters.flat, logvar])[moving])
    history = History.start(vae.parameters, fresh | {_LOGVAR: logvar}, resume)
    run = _Run(
        vae,
        x,
        check_batch_size(batch_size, len(x)),
        check_count("n_samples", n_samples),
        check_positive("prior_variance", prior_variance),
        update,
        check_seed(seed),
        history,
        Ascent(vae, optimizer, schedule, history, update),
    )
    epochs = check_count("epochs", epochs, minimum=0 if resume else 1)
    run_epochs(vae, history, epochs, run.epoch, check_callbacks(callbacks, None))
    mu, logvar = vae.parameters.theta, history.optimizer_state[_LOGVAR]
    return FullBayes(WeightPosterior(mu.copy(), logvar.copy()), history)


def _moving(update: str, n_phi: int) -> slice:
    """Return the part of the vector [φ, μ_θ, log σ_θ²] that moves."""
    return {"both": slice(None), "phi": slice(n_phi), "theta": slice(n_phi, None)}[update]


@dataclass
class _Run:
    """The settings of one call, and one pass over the data with them."""

    vae: VAE
    x: np.ndarray
    batch_size: int
    n_samples: int
    prior_variance: float
    update: str
    seed: int
    history: History
    ascent: Ascent

    def epoch(self, epoch: int) -> dict[str, float]:
        """Take one step for each minibatch, and return the epoch's averages."""
        vae, N, S = self.vae, len(self.x), self.n_samples
        parameters, logvar = vae.parameters, self.history.optimizer_state[_LOGVAR]
        moving, totals = _moving(self.update, parameters.phi.size), np.zeros(4)
        noise, weights = (
            stream(self.seed, p, epoch) for p in (Purpose.NOISE, Purpose.WEIGHT_NOISE)
        )
        for step, rows in enumerate(batch_rows(N, self.batch_size, self.seed, epoch)):
            eps = noise.standard_normal((1, len(rows), vae.latent_dim), vae.dtype)
            zeta = weights.standard_normal((S, logvar.size), vae.dtype)
            q = WeightPosterior(parameters.theta, logvar)
            bound, pull = full_bound(vae, q, self.x[rows], eps, zeta, N, self.prior_variance)
            flat = np.concatenate([parameters.flat, logvar])  # φ, μ_θ and log σ_θ²
            epochs = len(self.history) + step * self.batch_size / N
            gradient = pull(self.update).flat[moving]
            norm = self.ascent.step(flat[moving], bound.value, gradient, epochs, step)
            parameters.flat[:], logvar[:] = np.split(flat, [parameters.flat.size])
            totals += np.multiply(len(rows), (*bound, norm))
        reconstruction, kl, kl_theta, norm = map(float, totals / N)
        return {
            "elbo": reconstruction - kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "kl_theta": kl_theta,
            "objective": reconstruction - kl - kl_theta,
            "gradient_norm": norm,
            "learning_rate": self.ascent.scale * self.ascent.optimizer.learning_rate,
        }
