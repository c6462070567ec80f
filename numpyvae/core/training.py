"""`fit`: stochastic gradient ascent on the ELBO (Kingma & Welling 2013, algorithm 1).

`update` says which parameters move (notes, §3.6):

    "both"   variational inference and learning at once, §3.5: the variational auto-encoder
    "phi"    variational inference: argmax over φ with θ fixed, which minimizes the KL of Eq. (5)
    "theta"  the M-step of variational EM: argmax over θ with φ fixed

Random streams are identified by (seed, purpose, epoch), so a resumed run equals an
uninterrupted one; those of validation by (seed, purpose, row).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..support.checks import check_choice, check_count, check_kind, check_seed
from ..support.fit_checks import (
    check_batch_size,
    check_callbacks,
    check_factor,
    check_fit_data,
    check_functions,
    check_transformed,
)
from ..support.history import History, NonFiniteError, Snapshot, worst_parameter
from ..support.memory import keep_freed_memory
from ..support.streams import Purpose, row_noise, stream
from .elbo import Estimator, Terms, evidence_lower_bound
from .optimizers import Optimizer, make_optimizer
from .vae import VAE

__all__ = ["fit"]

Transform = Callable[[np.ndarray, "np.random.Generator"], np.ndarray]  # quoted: see `Seed`
_ROWS = 500  # in a block of `mean_elbo_terms`
_MAKE = "use one of numpyvae.estimators, or make_estimator"


def fit(
    vae: VAE,
    x: Any,
    *,
    epochs: int,
    batch_size: int | None = None,
    optimizer: str | Optimizer = "adam",
    schedule: Callable[[float], float] | None = None,
    estimator: Estimator | None = None,
    update: str = "both",
    transform: Transform | None = None,
    x_valid: Any = None,
    callbacks: Iterable[Callable[[VAE, History], Any]] = (),
    seed: int = 0,
    resume: History | None = None,
) -> History:
    """Train `vae` in place: maximize the ELBO, Eq. (11), or an estimator's objective.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
        Training data; a `numpy.memmap` stays on disk.
    epochs : int
        Number of passes over the data.
    batch_size : int, optional
        B; 100, or N if that is smaller.
    optimizer : str or Optimizer
        A name, or an object with its settings, as `Adam(3e-4, clip_norm=10)`.
    schedule : callable, optional
        Takes the number of epochs of this run (a float) to a factor of the learning rate, as
        `cosine_schedule`.
    estimator : Estimator, optional
        The objective and its gradient, as `estimators.DReG(5, n_samples=2)`; by default Eq. (11)
        with L = 1.
    update : {"both", "phi", "theta"}
        Which parameters move.
    transform : callable, optional
        `transform(rows, rng) -> (B, D)`, applied to each batch, as `datasets.binarize`: a fresh
        binarization in each epoch.
    x_valid : (M, D) array_like, optional
        Its ELBO is recorded after each epoch, with the same noise; it is not transformed.
    callbacks : iterable of callable
        Called as `callback(vae, history)` after each epoch; True ends the training. See
        `EarlyStopping`, which restores the best parameters, and `Progress`.
    seed : int
        The same seed gives the same parameters, on the same machine and library versions. Each
        epoch of a model has draws of its own: another call takes those of the next epoch.
    resume : History, optional
        Continue that run; `epochs` may then be 0.

    Returns
    -------
    history : History

    Raises
    ------
    TypeError, ValueError
        If an argument is not what the model can take.
    NonFiniteError
        If the ELBO, a gradient or a step is not finite; `vae` is set back.

    Warns
    -----
    UserWarning
        If a Bernoulli likelihood is given grays.

    Examples
    --------
    >>> from numpyvae import datasets
    >>> digits = datasets.load_digits()
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(32,))
    >>> history = fit(vae, digits.grays("train"), epochs=2, transform=datasets.binarize)
    >>> history["elbo"].shape
    (2,)
    """
    x, x_valid = check_fit_data(vae, x, x_valid, transform)
    check_functions(schedule=schedule, transform=transform)
    epochs = check_count("epochs", epochs, minimum=0 if resume else 1)
    callbacks = check_callbacks(callbacks, x_valid)
    run = _Run(
        vae,
        x,
        check_batch_size(batch_size, len(x)),
        make_optimizer(optimizer),
        schedule,
        check_kind("estimator", Estimator() if estimator is None else estimator, Estimator, _MAKE),
        check_choice("update", update, ("both", "phi", "theta")),
        transform,
        check_seed(seed),
    )
    parameters = vae.parameters
    history = History.start(parameters, run.optimizer.init(parameters.part(update)), resume)
    # Early stopping had already ended that run.
    if history.rows and any(c.finished(history) for c in callbacks if hasattr(c, "finished")):
        epochs, history.stopped_early = 0, True

    keep_freed_memory()  # fewer page faults
    start = time.perf_counter()
    try:
        with np.errstate(all="ignore"):  # what is not finite is found and named
            for _ in range(epochs):
                row = run.epoch(history)
                if x_valid is not None:
                    row |= run.validate(x_valid, history)
                history.rows.append(row | {"seconds": time.perf_counter() - start})
                parameters.epochs += 1
                answers = [callback(vae, history) for callback in callbacks]
                if any(isinstance(a, (bool, np.bool_)) and a for a in answers):
                    history.stopped_early = True
                    break
    except NonFiniteError:
        if run.safe is not None:
            run.safe.restore(parameters, history)
        raise
    if history.best_parameters is not None:
        history.last_parameters = parameters.flat.copy()
        parameters.flat[:] = history.best_parameters
    return history


@dataclass
class _Run:
    """The settings of one call of `fit`, and one pass over the data with them."""

    vae: VAE
    x: np.ndarray
    batch_size: int
    optimizer: Optimizer
    schedule: Callable[[float], float] | None
    estimator: Estimator
    update: str
    transform: Transform | None
    seed: int
    safe: Snapshot | None = None  # the last start of an epoch with a finite objective

    def epoch(self, history: History) -> dict[str, float]:
        """Take one step for each batch, and return the epoch's averages."""
        vae, optimizer, update = self.vae, self.optimizer, self.update
        moving, state = vae.parameters.part(update), history.optimizer_state
        totals, rows, scale = np.zeros(4), 0, 1.0
        for step, (x, eps) in enumerate(self.batches(vae.parameters.epochs + 1)):
            epochs = len(history) + step * self.batch_size / len(self.x)
            estimator = self.estimator.at(epochs)
            estimate = estimator.estimate(vae, x, eps, update)
            g = estimate.gradient.part(update)
            norm = math.sqrt(np.dot(g, g))
            if not math.isfinite(estimate.objective + estimate.elbo + norm):
                raise self.failure("ELBO and gradient", history, step, g)
            if step == 0:  # these parameters have a finite objective
                self.safe = Snapshot(vae.parameters, history)
            if self.schedule is not None:
                scale = check_factor(self.schedule(epochs))
            failed = optimizer.ascend(moving, g, state, scale)
            if failed is not None:
                raise self.failure("step", history, step, failed)
            totals += np.multiply(len(x), (*estimate[:3], norm))
            rows += len(x)
        objective, reconstruction, kl, norm = map(float, totals / rows)
        return {
            "epoch": vae.parameters.epochs + 1,
            "elbo": reconstruction - kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "objective": objective,
            "gradient_norm": norm,
            "learning_rate": scale * optimizer.learning_rate,
            "warm_up": estimator != self.estimator.at(math.inf),  # inf: after the warm-up
        }

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows in random order: batches (B, D) and their noise (L·K, B, J)."""
        vae, x, B = self.vae, self.x, self.batch_size
        shuffle, noise, draws = (
            stream(self.seed, purpose, epoch)
            for purpose in (Purpose.SHUFFLE, Purpose.NOISE, Purpose.TRANSFORM)
        )
        order = shuffle.permutation(x.shape[0])
        for start in range(0, x.shape[0], B):
            # sorted: a memmap is read in order
            batch = x[np.sort(order[start : start + B])]
            if self.transform is not None:
                made = self.transform(batch, draws)
                batch = check_transformed(made, len(batch), vae, start == 0)
            shape = self.estimator.n_draws, len(batch), vae.latent_dim
            yield np.asarray(batch, vae.dtype), noise.standard_normal(shape, vae.dtype)

    def validate(self, x_valid: np.ndarray, history: History) -> dict[str, float]:
        """Return the ELBO of the validation set and its two terms."""
        valid = mean_elbo_terms(self.vae, x_valid, 1, self.seed)
        if not math.isfinite(valid.elbo):
            last = math.ceil(len(self.x) / self.batch_size) - 1
            raise self.failure("validation ELBO", history, last, np.zeros(0))
        terms = {f"valid_{name}": value for name, value in valid._asdict().items()}
        return {"valid_elbo": valid.elbo} | terms

    def failure(self, what, history, step, vector) -> NonFiniteError:
        """Return the error: it names the parameter that is not finite, or largest."""
        parameters = self.vae.parameters
        views = parameters.zeros_like()
        # Without a gradient, the parameters themselves are too large.
        views.part(self.update)[:] = vector if vector.any() else parameters.part(self.update)
        return NonFiniteError(
            what, parameters.epochs + 1, step + 1, worst_parameter(views), history
        )


def mean_elbo_terms(vae: VAE, x: np.ndarray, n_samples: int, seed: int) -> Terms[float]:
    """Average the two terms of Eq. (11) over a data set (N, D), in blocks of rows."""
    totals = np.zeros(2)
    for start in range(0, x.shape[0], _ROWS):
        block = np.asarray(x[start : start + _ROWS], vae.dtype)
        eps = row_noise(seed, Purpose.EVALUATION, block, n_samples, vae.latent_dim)
        terms, _ = evidence_lower_bound(vae, block, eps)
        totals += [term.sum(dtype=float) for term in terms]
    return Terms(*map(float, totals / x.shape[0]))
