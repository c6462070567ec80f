"""`fit`: stochastic gradient ascent on the ELBO (Kingma & Welling 2013, algorithm 1).

The gradient comes from an estimator; by default it is that of `elbo`, Eq. (11). `update` says
which parameters move (notes, §3.6):

    "both"   variational inference and learning at once, §3.5: the variational auto-encoder
    "phi"    variational inference: argmax over φ, θ fixed; on the bound's other side, Eq. (5)
    "theta"  the M-step of variational EM: argmax over θ, φ fixed

Every random number comes from a stream named by (seed, purpose, epoch), so a run is a function of
its seed, and a run that is resumed sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..support.checks import (
    check_choice,
    check_count,
    check_positive,
    check_rows,
    check_seed,
    check_vae,
    shown,
)
from ..support.memory import keep_freed_memory
from ..support.progress import progress_line
from .elbo import mean_terms
from .likelihoods import Binomial
from .optimizers import Optimizer, State, make_optimizer
from .parameters import Parameters
from .vae import VAE

if TYPE_CHECKING:
    from ..estimators import Estimator

__all__ = ["History", "NonFiniteError", "fit"]

_SHUFFLE, _NOISE, _TRANSFORM = 1, 2, 3  # purposes of the random streams

Transform = Callable[[np.ndarray, "np.random.Generator"], np.ndarray]


class NonFiniteError(FloatingPointError):
    """Training met NaN or infinity; the model holds the last finite parameters.

    Attributes
    ----------
    epoch, step : int
        Where, both counted from 1.
    parameter : str
        The first parameter, from the input on, whose gradient or step is not finite; where all
        are finite and the ELBO is not, the one with the largest.

    Examples
    --------
    >>> from numpyvae.core.optimizers import SGD
    >>> try:
    ...     fit(VAE(4, 2, (3,)), np.eye(4), epochs=5, optimizer=SGD(1e30))
    ... except NonFiniteError as error:
    ...     print(error.epoch)
    1
    """

    def __init__(self, what: str, epoch: int, step: int, parameter: str) -> None:
        self.epoch, self.step, self.parameter = epoch, step, parameter
        super().__init__(
            f"epoch {epoch}, step {step}: expected a finite {what}, got NaN, infinity or overflow "
            f"(first seen in {parameter}); the model keeps its last finite parameters: lower the "
            "learning rate or set clip_norm"
        )


@dataclass
class History:
    """What `fit` saw, a row per epoch, and what it needs to go on.

    `history["elbo"]` is a column, as an array with a value per epoch.

    Attributes
    ----------
    rows : list of dict
        `epoch` (from 1); `elbo`, `reconstruction`, `kl`, and `objective`, which is what the
        gradient ascends: the ELBO, L_K, or the ELBO with another weight on its KL. They are means
        over the training set, nats per datapoint, taken while the parameters move.
        `gradient_norm` (mean over the steps, each counted by its rows, before clipping);
        `learning_rate` (at the epoch's end); with a validation set `valid_elbo`,
        `valid_reconstruction`, `valid_kl`; and last `seconds` since the start.
    optimizer_state : dict of (P,) arrays
        For `fit(resume=history)`.
    stopped_early : bool
        Whether patience or a callback ended the run.

    Examples
    --------
    >>> history = fit(VAE(4, 2, (3,)), np.eye(4), epochs=3)
    >>> len(history), history["elbo"].shape
    (3, (3,))
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    optimizer_state: State = field(default_factory=dict)
    stopped_early: bool = False

    def __getitem__(self, column: str) -> np.ndarray:
        return np.array([row[column] for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the rows as CSV, numbers in full, all or nothing."""
        import csv  # here, to keep the import of the package short
        import io

        from ..support.files import atomic_write

        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in self.rows for name in row)) or ["epoch"]
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(path) as file:
            file.write(text.getvalue().encode())


def fit(
    vae: VAE,
    x: Any,
    *,
    epochs: int,
    batch_size: int | None = None,
    optimizer: str | Optimizer = "adam",
    schedule: Callable[[float], float] | None = None,
    update: str = "both",
    estimator: str | Estimator = "sgvb-b",
    n_samples: int = 1,
    n_importance: int | None = None,
    beta: float | None = None,
    kl_warmup: float | None = None,
    free_bits: float | None = None,
    transform: Transform | None = None,
    x_valid: Any = None,
    patience: int | None = None,
    clip_norm: float | None = None,
    callbacks: Iterable[Callable[[VAE, History], Any]] = (),
    seed: int = 0,
    progress: bool = False,
    resume: History | None = None,
) -> History:
    """Train `vae` in place by maximizing the ELBO, Eq. (11), or its kin, on minibatches.

    Parameters
    ----------
    vae : VAE
        Its parameters are moved in place.
    x : (N, D) array_like
        Training data. A read-only `numpy.memmap` or uint8 is fine: rows are copied out a batch
        at a time, and memory beside `x` is 8 bytes a row.
    epochs : int
        Passes over the data.
    batch_size : int, optional
        B; 100, or N if that is smaller. A short last batch counts by its size in the averages.
    optimizer : str or Optimizer
        `"adam"`, `"sgd"`, … or one with its settings, as `Adam(learning_rate=3e-4)`.
    schedule : callable, optional
        Takes the epochs done so far, a float, to a factor of the learning rate; see
        `optimizers.cosine_schedule`.
    update : {"both", "phi", "theta"}
        Which parameters move: §3.5, variational inference, or the M-step (notes, §3.6).
    estimator : str or Estimator
        Of the gradient: "sgvb-b" is Eq. (11) with the KL in closed form, "sgvb-a" is Eq. (7) with
        every term sampled; "stl", "score", "score-loo", "iwae", "stl-iwae", "dreg": see
        `estimators`.
    n_samples : int
        L, averages over draws of z per datapoint.
    n_importance : int, optional
        K of "iwae", "stl-iwae" and "dreg"; 5 if left out. Each of the L averages takes K draws.
    beta : float, optional
        β of "sgvb-b", the weight of the KL; 1, the ELBO, if left out.
    kl_warmup : float, optional
        Epochs over which β rises in a straight line, step by step, from 0 to its value.
    free_bits : float, optional
        λ of "sgvb-b": nats that each latent may carry free of charge.
    transform : callable, optional
        `transform(rows, rng) -> (B, D)` applied to each batch as it is drawn, as
        `datasets.binarize` for a fresh binarization in each epoch.
    x_valid : (M, D) array_like, optional
        Its ELBO is recorded after each epoch, always with the same noise. Not transformed.
    patience : int, optional
        Stop after so many epochs without a better validation ELBO, and go back to the best
        parameters.
    clip_norm : float, optional
        Scale the gradient down to this norm where it is longer.
    callbacks : iterable of callable
        Each is called as `callback(vae, history)` after each epoch; True ends training.
    seed : int
        The same seed gives the same parameters, on the same machine and library versions.
    progress : bool
        Show a line on standard error.
    resume : History, optional
        Go on where that run ended: its epoch count, its optimizer state, its rows.

    Returns
    -------
    history : History

    Raises
    ------
    TypeError, ValueError
        If `x` or a setting is not what the model can take.
    NonFiniteError
        If the ELBO, a gradient or a step is not finite.

    Warns
    -----
    UserWarning
        If grays reach a Bernoulli likelihood.

    Examples
    --------
    >>> from numpyvae import datasets
    >>> digits = datasets.load_digits()
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(32,))
    >>> history = fit(vae, digits.grays("train"), epochs=2, transform=datasets.binarize)
    >>> history["elbo"].shape
    (2,)
    """
    from ..estimators import (  # here, to keep the import of the package short
        make_estimator,
        warm_up,
    )

    check_vae(vae)
    x = check_rows(x, vae.data_dim, dtype=vae.dtype if transform is None else None)
    N = x.shape[0]
    epochs = check_count("epochs", epochs)
    batch_size = min(100, N) if batch_size is None else check_count("batch_size", batch_size)
    if batch_size > N:
        raise ValueError(f"batch_size: expected at most the {N} rows of x, got {batch_size}")
    optimizer = make_optimizer(optimizer)
    check_choice("update", update, ("both", "phi", "theta"))
    estimator = make_estimator(estimator, n_importance, beta=beta, free_bits=free_bits)
    n_draws = estimator.draws(n_samples)
    warmed = None if kl_warmup is None else warm_up(estimator, kl_warmup)
    seed = check_seed(seed)
    clip_norm = None if clip_norm is None else check_positive("clip_norm", clip_norm)
    if transform is None:
        vae.likelihood.check(x)
    if x_valid is not None:
        x_valid = check_rows(x_valid, vae.data_dim, "x_valid", vae.dtype)
        vae.likelihood.check(x_valid, "x_valid")
    if patience is not None:
        patience = check_count("patience", patience)
        if x_valid is None:
            raise ValueError(
                "patience: expected a validation set to watch, got none; pass x_valid"
            )

    for name, function in (("transform", transform), ("schedule", schedule)):
        _check_callable(name, function)
    callbacks = _check_callbacks(callbacks)
    history = History(optimizer_state=optimizer.init(_slice(vae.parameters, update)))
    if resume is not None:
        history = _continued(resume, history.optimizer_state)
    done = len(history)
    watch = _Patience(patience, vae, history)
    keep_freed_memory()
    start = time.perf_counter()
    with progress_line(epochs, "epoch", progress) as advance, np.errstate(all="ignore"):
        for epoch in range(done + 1, done + epochs + 1):
            batches = _batches(vae, x, batch_size, n_draws, transform, seed, epoch)
            rate = schedule and (lambda step, e=epoch: schedule(e - 1 + step * batch_size / N))
            rule = warmed and (lambda step, e=epoch: warmed(e - 1 + step * batch_size / N))
            rule = rule or (lambda step: estimator)
            state = history.optimizer_state
            row = _run_epoch(vae, batches, epoch, optimizer, state, rate, update, rule, clip_norm)
            if x_valid is not None:
                valid = mean_terms(vae, x_valid, seed=seed)
                if not math.isfinite(valid.elbo):
                    last = -(-N // batch_size) - 1
                    moved = _slice(vae.parameters, update)
                    raise _non_finite("validation ELBO", epoch, last, vae, moved, update)
                row |= {"valid_elbo": valid.elbo}
                row |= {f"valid_{name}": value for name, value in valid._asdict().items()}
            history.rows.append(row | {"seconds": time.perf_counter() - start})
            advance(f"ELBO {row.get('valid_elbo', row['elbo']):.2f} nats")
            enough = watch.exhausted(vae, row)
            answers = [callback(vae, history) for callback in callbacks]
            if enough or any(isinstance(a, (bool, np.bool_)) and a for a in answers):
                history.stopped_early = True
                break
    watch.restore_best(vae)
    return history


def _run_epoch(
    vae: VAE,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    epoch: int,
    optimizer: Optimizer,
    state: State,
    rate: Callable[[int], float] | None,
    update: str,
    rule: Callable[[int], Estimator],
    clip_norm: float | None,
) -> dict[str, float]:
    """Take one step up the objective for each batch; return the epoch's averages over the rows."""
    moving = _slice(vae.parameters, update)
    totals, rows, scale = np.zeros(4), 0, 1.0
    for step, (x, eps) in enumerate(batches):
        estimate = rule(step).estimate(vae, x, eps, update)
        g = _slice(estimate.gradient, update)
        norm = math.sqrt(np.dot(g, g))
        if not math.isfinite(estimate.objective + estimate.elbo + norm):
            raise _non_finite("ELBO and gradient", epoch, step, vae, g, update)
        if clip_norm is not None and norm > clip_norm:
            g *= clip_norm / norm
        if rate is not None:
            scale = _check_factor(rate(step))
        failed = optimizer.ascend(moving, g, state, scale)
        if failed is not None:
            raise _non_finite("step", epoch, step, vae, failed, update)
        totals += np.multiply(len(x), (*estimate[:3], norm))
        rows += len(x)
    objective, reconstruction, kl, norm = map(float, totals / rows)
    return {
        "epoch": epoch,
        "elbo": reconstruction - kl,
        "reconstruction": reconstruction,
        "kl": kl,
        "objective": objective,
        "gradient_norm": norm,
        "learning_rate": scale * optimizer.learning_rate,
    }


def _batches(
    vae: VAE,
    x: np.ndarray,
    batch_size: int,
    n_draws: int,
    transform: Transform | None,
    seed: int,
    epoch: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk over x once in random order: batches (B, D) and their noise (L·K, B, J)."""
    shuffle, noise, draws = (
        np.random.default_rng(np.random.SeedSequence([seed, purpose, epoch]))
        for purpose in (_SHUFFLE, _NOISE, _TRANSFORM)
    )
    order = shuffle.permutation(x.shape[0])
    for start in range(0, x.shape[0], batch_size):
        # Sorted within the batch, so that a memmap is read in the order of the disk.
        batch = x[np.sort(order[start : start + batch_size])]
        if transform is not None:
            batch = _check_transformed(transform(batch, draws), len(batch), vae, start == 0)
        eps = noise.standard_normal((n_draws, len(batch), vae.latent_dim), vae.dtype)
        yield np.asarray(batch, vae.dtype), eps


class _Patience:
    """Early stopping: remember the best validation ELBO and its parameters."""

    def __init__(self, patience: int | None, vae: VAE, history: History) -> None:
        self.patience, self.waited = patience, 0
        self.best, self.best_flat = -math.inf, None
        for row in history.rows:  # a resumed run goes on from what it has seen
            self.waited += 1
            if row.get("valid_elbo", -math.inf) > self.best:
                self.best, self.waited = row["valid_elbo"], 0
        if patience is not None and self.best > -math.inf and self.waited == 0:
            self.best_flat = vae.parameters.flat.copy()

    def exhausted(self, vae: VAE, row: dict[str, float]) -> bool:
        """Tell whether `patience` epochs have passed without a better validation ELBO."""
        if self.patience is None:
            return False
        self.waited += 1
        if row["valid_elbo"] > self.best:
            self.best, self.best_flat = row["valid_elbo"], vae.parameters.flat.copy()
            self.waited = 0
        return self.waited >= self.patience

    def restore_best(self, vae: VAE) -> None:
        """Go back to the best parameters seen."""
        if self.best_flat is not None:
            vae.parameters.flat[:] = self.best_flat


def _slice(parameters: Parameters, update: str) -> np.ndarray:
    """Return the part of the flat vector that moves, as a view."""
    return {"both": parameters.flat, "phi": parameters.phi, "theta": parameters.theta}[update]


def _check_transformed(batch: Any, rows: int, vae: VAE, first: bool) -> np.ndarray:
    """Return what a transform made, if the model can take it.

    The first batch of an epoch is looked at in full; of the others only the shape and the range.
    """
    name = "the result of transform"
    alike = type(batch) is np.ndarray and batch.shape == (rows, vae.data_dim)
    counts = type(vae.likelihood) is Binomial  # in range is not enough: they must be whole
    if not first and alike and not counts and batch.dtype.kind in "buif":
        (low, high), least, most = vae.likelihood.support, batch.min(), batch.max()
        if low <= least <= most <= high and math.isfinite(least) and math.isfinite(most):
            return batch
    batch = check_rows(batch, vae.data_dim, name, vae.dtype)
    if len(batch) != rows:
        raise ValueError(f"{name}: expected the {rows} rows of its batch, got {len(batch)}")
    vae.likelihood.check(batch, name)
    return batch


def _check_callable(name: str, function: Any) -> None:
    if function is not None and not callable(function):
        raise TypeError(f"{name}: expected a function, got {shown(function)}")


def _check_callbacks(callbacks: Any) -> list[Callable]:
    """Return the callbacks as a list, since an iterator would serve one epoch only."""
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks: expected a list of functions, got {shown(callbacks)}; put it in a list"
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks: expected functions, got {shown(callback)}")
    return callbacks


def _check_factor(factor: Any) -> float:
    """Return what a schedule gave, if it is a finite number of at least 0."""
    if isinstance(factor, (bool, str)) or not isinstance(factor, (int, float, np.number)):
        raise TypeError(f"schedule: expected a number from it, got {shown(factor)}")
    if not (math.isfinite(factor) and factor >= 0):
        raise ValueError(f"schedule: expected a finite factor of at least 0, got {factor}")
    return float(factor)


def _continued(resume: History, fresh: State) -> History:
    """Return a copy of an earlier run to append to, if its optimizer state fits this run's."""
    if not isinstance(resume, History):
        raise TypeError(f"resume: expected a History that fit returned, got {shown(resume)}")
    state = resume.optimizer_state
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in fresh.items()}:
        raise ValueError(
            f"resume: expected an optimizer state with {sorted(fresh)} of this model's size, "
            f"got {sorted(state)}; resume with the same model, optimizer and update"
        )
    return History(list(resume.rows), {k: v.copy() for k, v in state.items()})


def _non_finite(
    what: str, epoch: int, step: int, vae: VAE, vector: np.ndarray, update: str
) -> NonFiniteError:
    """Say in which parameter a gradient or step is not finite, or else is largest."""
    if not vector.any():  # a saturated model: no gradient, but parameters far out
        vector = _slice(vae.parameters, update)
    views = vae.parameters.zeros_like()
    _slice(views, update)[:] = vector
    worst = {name: float(np.abs(view).max(initial=0.0)) for name, view in views.items()}
    first = next((n for n, size in worst.items() if not math.isfinite(size)), None)
    return NonFiniteError(what, epoch, step + 1, first or max(worst, key=worst.__getitem__))
