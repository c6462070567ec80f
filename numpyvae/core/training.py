"""`fit`: stochastic gradient ascent on the ELBO (Kingma & Welling 2013, algorithm 1).

An estimator gives the gradient; by default it is that of Eq. (11). `update` says which parameters
move (notes, §3.6):

    "both"   variational inference and learning at once, §3.5: the variational auto-encoder
    "phi"    variational inference: argmax over φ with θ fixed, which minimizes the KL of Eq. (5)
    "theta"  the M-step of variational EM: argmax over θ with φ fixed

Every random number comes from a stream that is identified by (seed, purpose, epoch), so that a
run depends on its seed alone, and a resumed run is the uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..support.checks import (
    check_callbacks,
    check_choice,
    check_count,
    check_data,
    check_factor,
    check_function,
    check_rows,
    check_seed,
    check_vae,
    shown,
)
from ..support.history import History, NonFiniteError
from ..support.memory import keep_freed_memory
from ..support.streams import Purpose, row_noise, stream
from .elbo import Estimator, Terms, evidence_lower_bound
from .optimizers import Optimizer, make_optimizer
from .vae import VAE

__all__ = ["EarlyStopping", "fit", "mean_terms"]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
_ROWS = 500  # rows in a block of `mean_terms`


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
        Its parameters are changed in place.
    x : (N, D) array_like
        Training data. A read-only `numpy.memmap` or uint8 is fine: rows are copied a batch at a
        time, and memory beside `x` is 8 bytes a row.
    epochs : int
        Number of passes over the data.
    batch_size : int, optional
        B; 100, or N if that is smaller. The averages weight a short last batch by its size.
    optimizer : str or Optimizer
        A name, as `"adam"`, or an object with its settings, as `Adam(3e-4, clip_norm=10)`.
    schedule : callable, optional
        Takes the number of epochs of this run (a float, with those of `resume`) to a factor of the
        learning rate; see `optimizers.cosine_schedule`.
    estimator : Estimator, optional
        The objective and its gradient, with its settings, as `estimators.DReG(5, n_samples=2)`;
        by default Eq. (11) with one draw of z for each datapoint.
    update : {"both", "phi", "theta"}
        Which parameters move: §3.5, variational inference, or the M-step (notes, §3.6).
    transform : callable, optional
        `transform(rows, rng) -> (B, D)`, applied to each batch as it is drawn, as
        `datasets.binarize` for a fresh binarization in each epoch.
    x_valid : (M, D) array_like, optional
        Its ELBO is recorded after each epoch, always with the same noise. It is not transformed.
    callbacks : iterable of callable
        Each is called as `callback(vae, history)` after each epoch; True ends the training. See
        `EarlyStopping` and `support.progress.Progress`.
    seed : int
        The same seed gives the same parameters, on the same machine and library versions. Each
        epoch of a model has draws of its own: another call goes on where the last one stopped.
    resume : History, optional
        Continue that run: its optimizer state, its rows, its best parameters.

    Returns
    -------
    history : History

    Raises
    ------
    TypeError, ValueError
        If an argument is not what the model can take.
    NonFiniteError
        If the ELBO, a gradient or a step is not finite.

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
    check_vae(vae)
    x = check_rows(x, vae.data_dim, dtype=vae.dtype if transform is None else None)
    epochs = check_count("epochs", epochs)
    N = x.shape[0]
    batch_size = min(100, N) if batch_size is None else check_count("batch_size", batch_size)
    if batch_size > N:
        raise ValueError(f"batch_size: expected at most the {N} rows of x, got {batch_size}")
    optimizer = make_optimizer(optimizer)
    estimator = _check_estimator(estimator)
    check_choice("update", update, ("both", "phi", "theta"))
    seed = check_seed(seed)
    if transform is None:
        vae.likelihood.check(x)
    check_function("transform", transform)
    check_function("schedule", schedule)
    callbacks = check_callbacks(callbacks)
    x_valid = _check_valid(vae, x_valid, callbacks)
    history = _start(vae, resume, optimizer.init(vae.parameters.part(update)))
    if history.rows and any(getattr(c, "finished", _never)(history) for c in callbacks):
        epochs, history.stopped_early = 0, True

    keep_freed_memory()
    start = time.perf_counter()
    run = _Run(vae, x, batch_size, optimizer, schedule, estimator, update, transform, seed)
    try:
        with np.errstate(all="ignore"):  # what is not finite is found and named
            for _ in range(epochs):
                row = run.epoch(history)
                row |= {} if x_valid is None else run.validate(x_valid, history)
                history.rows.append(row | {"seconds": time.perf_counter() - start})
                vae.parameters.epochs = row["epoch"]
                answers = [callback(vae, history) for callback in callbacks]
                if any(isinstance(a, (bool, np.bool_)) and a for a in answers):
                    history.stopped_early = True
                    break
    except NonFiniteError:
        if run.safe is not None:
            _restore(vae, history, run.safe)
        raise
    if history.best_parameters is not None:
        history.last_parameters = vae.parameters.flat.copy()
        vae.parameters.flat[:] = history.best_parameters
    return history


class EarlyStopping:
    """A callback that ends training when the validation ELBO has stopped rising.

    `fit(x_valid=…, callbacks=[EarlyStopping(10)])` then sets the model to the best parameters. The
    epochs of a warm-up do not count, since its objective still changes.

    Parameters
    ----------
    patience : int
        Number of epochs without a better validation ELBO after which training ends.

    Raises
    ------
    TypeError, ValueError
        If `patience` is not a whole number above 0, or `fit` has no validation set.

    Examples
    --------
    >>> x, vae = np.eye(4), VAE(4, 2, (3,))
    >>> history = fit(vae, x, epochs=500, x_valid=1 - x, callbacks=[EarlyStopping(2)])
    >>> history.stopped_early
    True
    """

    def __init__(self, patience: int) -> None:
        self.patience = check_count("patience", patience)

    def __call__(self, vae: VAE, history: History) -> bool:
        changing = history.rows[-1].get("warm_up")  # its parameters are of another objective
        if not changing and self.epochs_since_best(history) == 0:
            history.best_parameters = vae.parameters.flat.copy()
        return self.finished(history)

    def finished(self, history: History) -> bool:
        """Tell whether `patience` epochs have passed without a better validation ELBO."""
        return self.epochs_since_best(history) >= self.patience

    def epochs_since_best(self, history: History) -> int:
        """Return the number of epochs after the best one; −1 before there is any."""
        values = [row.get("valid_elbo", -math.inf) for row in history if not row.get("warm_up")]
        return len(values) - 1 - values.index(max(values)) if values else -1


def mean_terms(vae: VAE, x: Any, *, n_samples: int = 1, seed: int = 0) -> Terms:
    """Average the two terms of Eq. (11) over a data set, in blocks of rows.

    The noise of a row depends on `seed` and its values alone: models are compared with the same
    draws.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    n_samples : int
        L, draws of z per datapoint.
    seed : int

    Returns
    -------
    reconstruction, kl : float
        Nats per datapoint.

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not what the model can take.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> terms = mean_terms(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], n_samples=100)
    >>> terms.elbo == terms.reconstruction - terms.kl
    True
    """
    x = check_data(vae, x)
    return mean_elbo_terms(vae, x, check_count("n_samples", n_samples), check_seed(seed))


def mean_elbo_terms(vae: VAE, x: np.ndarray, n_samples: int, seed: int) -> Terms:
    """Do what `mean_terms` says, without checks."""
    totals = np.zeros(2)
    for start in range(0, x.shape[0], _ROWS):
        block = np.asarray(x[start : start + _ROWS], vae.dtype)
        eps = row_noise(seed, Purpose.EVALUATION, block, n_samples, vae.latent_dim)
        terms, _ = evidence_lower_bound(vae, block, eps)
        totals += [term.sum(dtype=float) for term in terms]
    return Terms(*map(float, totals / x.shape[0]))


class _Run:
    """The settings of one call of `fit`, and one pass over the data with them."""

    def __init__(
        self, vae, x, batch_size, optimizer, schedule, estimator, update, transform, seed
    ) -> None:
        self.vae, self.x, self.batch_size, self.seed = vae, x, batch_size, seed
        self.optimizer, self.schedule, self.estimator = optimizer, schedule, estimator
        self.update, self.transform = update, transform
        self.safe: tuple | None = None  # the last start of an epoch with a finite objective

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
                self.safe = self.snapshot(history)
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
            "warm_up": estimator != self.estimator.at(math.inf),
        }

    def validate(self, x_valid: np.ndarray, history: History) -> dict[str, float]:
        """Return the ELBO of the validation set and its two terms."""
        valid = mean_elbo_terms(self.vae, x_valid, 1, self.seed)
        if not math.isfinite(valid.elbo):
            last = -(-len(self.x) // self.batch_size) - 1
            raise self.failure("validation ELBO", history, last)
        terms = {f"valid_{name}": value for name, value in valid._asdict().items()}
        return {"valid_elbo": valid.elbo} | terms

    def snapshot(self, history: History) -> tuple:
        """Copy what a failure must set back."""
        parameters = self.vae.parameters
        return parameters.flat.copy(), parameters.epochs, history.copy()

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows in random order: batches (B, D) and their noise (L·K, B, J)."""
        vae, x, B = self.vae, self.x, self.batch_size
        shuffle, noise, draws = (
            stream(self.seed, purpose, epoch)
            for purpose in (Purpose.SHUFFLE, Purpose.NOISE, Purpose.TRANSFORM)
        )
        order = shuffle.permutation(x.shape[0])
        for start in range(0, x.shape[0], B):
            # Sorted within the batch, so that a memmap is read in the order of the disk.
            batch = x[np.sort(order[start : start + B])]
            if self.transform is not None:
                made = self.transform(batch, draws)
                batch = _check_transformed(made, len(batch), vae, start == 0)
            shape = self.estimator.n_draws, len(batch), vae.latent_dim
            yield np.asarray(batch, vae.dtype), noise.standard_normal(shape, vae.dtype)

    def failure(self, what, history, step, vector=None) -> NonFiniteError:
        """Say in which parameter a gradient or step is not finite, or else is largest."""
        vae = self.vae
        views = vae.parameters.zeros_like()
        if vector is None or not vector.any():  # no gradient: the parameters are too large
            vector = vae.parameters.part(self.update)
        views.part(self.update)[:] = vector
        worst = {name: float(np.abs(view).max(initial=0.0)) for name, view in views.items()}
        first = next((n for n, size in worst.items() if not math.isfinite(size)), None)
        name = first or max(worst, key=worst.__getitem__)
        return NonFiniteError(what, vae.parameters.epochs + 1, step + 1, name, history)


def _restore(vae: VAE, history: History, safe: tuple) -> None:
    """Set the model and the history back to a snapshot."""
    vae.parameters.flat[:], vae.parameters.epochs, before = safe
    history.rows[:] = before.rows
    history.optimizer_state = before.optimizer_state
    history.best_parameters = before.best_parameters


def _start(vae: VAE, resume: History | None, fresh: dict[str, np.ndarray]) -> History:
    """Return the history to append to; to continue a run, put the model where that run stopped."""
    if resume is None:
        return History(optimizer_state=fresh)
    if not isinstance(resume, History):
        raise TypeError(f"resume: expected a History that fit returned, got {shown(resume)}")
    state = resume.optimizer_state
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in fresh.items()}:
        raise ValueError(
            f"resume: expected an optimizer state with {sorted(fresh)} of this model's size, "
            f"got {sorted(state)}; resume with the same model, optimizer and update"
        )
    history = resume.copy()
    if history.last_parameters is not None:
        vae.parameters.flat[:], history.last_parameters = history.last_parameters, None
    if history.rows:
        vae.parameters.epochs = int(history.rows[-1]["epoch"])
    return history


def _check_valid(vae: VAE, x_valid: Any, callbacks: list[Callable]) -> np.ndarray | None:
    """Return the validation set, if there is one; early stopping needs it."""
    if x_valid is None and any(isinstance(c, EarlyStopping) for c in callbacks):
        raise ValueError("patience: expected a validation set in fit, got none; pass x_valid")
    if x_valid is not None:
        x_valid = check_rows(x_valid, vae.data_dim, "x_valid", vae.dtype)
        vae.likelihood.check(x_valid, "x_valid")
    return x_valid


def _never(history: History) -> bool:
    return False


def _check_estimator(estimator: Any) -> Estimator:
    if estimator is None:
        return Estimator()
    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"estimator: expected an Estimator, as numpyvae.estimators.DReG(5), got "
            f"{shown(estimator)}; numpyvae.estimators.make_estimator finds one by its name"
        )
    return estimator


def _check_transformed(batch: Any, rows: int, vae: VAE, first: bool) -> np.ndarray:
    """Return what a transform made, if the model can take it.

    The first batch of an epoch is checked in full; of the others only the shape and the range,
    unless the data must be whole numbers.
    """
    name, likelihood = "the result of transform", vae.likelihood
    alike = type(batch) is np.ndarray and batch.shape == (rows, vae.data_dim)
    whole = likelihood.integers and likelihood.reading != "outcomes"
    if not first and alike and not whole and batch.dtype.kind in "buif":
        (low, high), least, most = likelihood.support, batch.min(), batch.max()
        if low <= least <= most <= high and math.isfinite(least) and math.isfinite(most):
            return batch
    batch = check_rows(batch, vae.data_dim, name, vae.dtype, rows=rows)
    likelihood.check(batch, name)
    return batch
