"""What the commands do: train, evaluate, sample. `cli.py` turns words into calls of these."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..bounds import importance_log_likelihood
from ..core.elbo import mean_terms
from ..core.likelihoods import parse_likelihood
from ..core.optimizers import Optimizer, cosine_schedule, make_optimizer
from ..core.training import History, fit
from ..core.vae import VAE
from ..diagnostics import active_units
from ..estimators import Estimator, make_estimator, warm_up
from ..fast import CompiledAdam, compiled
from ..fast.model import CompiledVAE
from ..support.files import atomic_write
from ..support.streams import Purpose, stream
from ..support.versions import provenance
from .preparation import Prepared, prepare

if TYPE_CHECKING:
    from ..bounds import Comparison

__all__ = ["Settings", "UsageError", "compare", "evaluate", "train"]


class UsageError(ValueError):
    """A setting that the command line should not have been given: exit code 2.

    Examples
    --------
    >>> issubclass(UsageError, ValueError)
    True
    """


@dataclass(frozen=True)
class Settings:
    """What `train` needs to know; the defaults are the job on the embedded digits.

    Attributes
    ----------
    dataset : str
        A name of `--dataset`, or the path of a file.
    latent_dim : int
        J.
    hidden : tuple of int
    activation, likelihood, optimizer : str
        As `VAE` and `fit` take them.
    learning_rate : float
    schedule : {"cosine", "constant"}
    epochs, batch_size, n_samples : int
        Passes, B and L.
    estimator : str
        A key of `ESTIMATORS`.
    train_importance : int, optional
        K of the estimators of L_K.
    beta, kl_warmup, free_bits : float, optional
        Of the KL's weight: β, the epochs until it is reached, and nats per latent that are free.
    accelerator : "numba", optional
        Compile tanh, the Bernoulli and Binomial log p, and Adam's step.
    clip_norm : float, optional
    seed : int
    n_importance : int
        K, of the estimate of log p(x).
    test_rows : int, optional
        How many rows of the test set are measured; all without it.
    maximum : float
        The value of full ink in a file.
    folder : str, optional
        Where the files of MNIST are.

    Examples
    --------
    >>> Settings(latent_dim=2).epochs
    100
    """

    dataset: str = "digits"
    latent_dim: int = 10
    hidden: tuple[int, ...] = (200,)
    activation: str = "tanh"
    likelihood: str = "bernoulli"
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    schedule: str = "cosine"
    epochs: int = 100
    batch_size: int = 100
    estimator: str = "sgvb-b"
    n_samples: int = 1
    train_importance: int | None = None
    beta: float | None = None
    kl_warmup: float | None = None
    free_bits: float | None = None
    clip_norm: float | None = None
    accelerator: str | None = None
    seed: int = 0
    n_importance: int = 500
    test_rows: int | None = None
    maximum: float = 1.0
    folder: str | None = None


# The paper's network for the 28×28 sets; 1000 test images, since L_500 of 10000 takes a minute.
DEFAULTS: dict[str, dict[str, Any]] = {
    name: {
        "latent_dim": 20,
        "hidden": (500,),
        "epochs": 20,
        "test_rows": 1000,
    }
    for name in ("mnist", "fashion")
}


def train(settings: Settings, output: Path, progress: bool = False) -> dict[str, Any]:
    """Train, evaluate on the test set, and write model, history, summary and pictures.

    Parameters
    ----------
    settings : Settings
    output : Path
        A folder; made if it is not there, and gone again if the run fails before it writes.
    progress : bool
        Show a line on standard error.

    Returns
    -------
    summary : dict
        What `summary.json` holds.

    Raises
    ------
    UsageError
        If a setting does not fit the data.
    OSError, ValueError, TypeError, FloatingPointError
        If the folder cannot be written, the data are not usable, or training diverges.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = train(Settings(epochs=1, n_importance=5, test_rows=20), Path(folder))
    >>> summary["test_rows"], summary["test_elbo"] < 0
    (20, True)
    """
    s, start = settings, time.perf_counter()
    likelihood = parse_likelihood(s.likelihood)
    estimator, optimizer = _estimator(s), _optimizer(s)
    data = prepare(s.dataset, likelihood, s.maximum, s.folder)
    N, D = data.x_train.shape
    if s.batch_size > N:
        raise UsageError(
            f"--batch-size: expected at most the {N} training rows, got {s.batch_size}"
        )
    vae = VAE(D, s.latent_dim, s.hidden, s.activation, likelihood, seed=s.seed)
    vae = accelerated(vae, s.accelerator)
    from threadpoolctl import threadpool_limits

    largest = max(view.size for view in vae.parameters.values())
    threads = 1 if s.batch_size * largest < _SMALL else None
    with _claimed(output), threadpool_limits(threads, "blas"):
        return _train(s, estimator, optimizer, vae, data, output, progress, start)


# Multiplications in the largest matrix product, below which a second BLAS thread gains nothing:
# on the digits it doubles the processor time, and on a busy machine it waits for a core.
_SMALL = 1 << 23


def _estimator(s: Settings) -> Estimator:
    """Return the estimator that the settings name, if they fit together."""
    try:
        estimator = make_estimator(
            s.estimator, s.train_importance, beta=s.beta, free_bits=s.free_bits
        )
        estimator.draws(s.n_samples)
        if s.kl_warmup is not None:
            warm_up(estimator, s.kl_warmup)
    except ValueError as error:
        message = str(error)
        if message.startswith("n_importance"):  # that option is the K of the evaluation
            message = message.replace("n_importance", "train_importance")
        raise UsageError(f"--estimator {s.estimator}: {message}") from None
    return estimator


def _optimizer(s: Settings) -> Optimizer:
    """Return the optimizer that the settings name, compiled if they say so."""
    if s.accelerator is None or s.optimizer != "adam":
        return make_optimizer(s.optimizer, s.learning_rate)
    try:
        return CompiledAdam(s.learning_rate)
    except ImportError as error:
        raise UsageError(f"--accelerator {s.accelerator}: {error}") from None


def accelerated(vae: VAE, accelerator: str | None) -> VAE:
    """Return `vae`, compiled if `accelerator` says so.

    Raises
    ------
    UsageError
        If it cannot be compiled.
    """
    if accelerator is None:
        return vae
    try:
        return compiled(vae)
    except (ImportError, TypeError) as error:
        raise UsageError(f"--accelerator {accelerator}: {error}") from None


def _train(
    s: Settings,
    estimator: Estimator,
    optimizer: Optimizer,
    vae: VAE,
    data: Prepared,
    output: Path,
    progress: bool,
    start: float,
) -> dict[str, Any]:
    """Do what `train` says, with the model made and the threads set."""
    history = fit(
        vae,
        data.x_train,
        epochs=s.epochs,
        batch_size=s.batch_size,
        optimizer=optimizer,
        schedule=cosine_schedule(s.epochs) if s.schedule == "cosine" else None,
        estimator=estimator,
        n_samples=s.n_samples,
        kl_warmup=s.kl_warmup,
        clip_norm=s.clip_norm,
        transform=data.transform,
        seed=s.seed,
        progress=progress,
    )
    trained = time.perf_counter() - start
    summary = evaluate(vae, data, s.n_importance, s.seed, s.test_rows)
    summary |= {
        "train_elbo": history.rows[-1]["elbo"],
        "train_objective": history.rows[-1]["objective"],
        "estimator": repr(estimator),
        "kl_warmup": s.kl_warmup,
        "epochs": len(history),
        "learning_rate": s.learning_rate,
        "optimizer": s.optimizer,
        "schedule": s.schedule,
        "batch_size": s.batch_size,
        "n_samples": s.n_samples,
        "training_seconds": trained,
    }
    vae.save(output / "model.npz")
    history.to_csv(output / "history.csv")
    pictures(vae, history, data, output)
    summary["seconds"] = time.perf_counter() - start
    summary |= provenance(__version__, *([s.accelerator] if s.accelerator else []))
    with atomic_write(output / "summary.json") as file:
        file.write(json.dumps(summary, indent=2).encode() + b"\n")
    return summary


@contextmanager
def _claimed(output: Path) -> Iterator[None]:
    """Make the folder and try to write in it, before training takes its time.

    If the block fails, the folders that were made here and are empty go again.
    """
    made: list[Path] = []
    try:
        try:
            made += [folder for folder in (output, *output.parents) if not folder.exists()]
            output.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=output):
                pass
        except OSError as error:
            raise OSError(
                f"{output}: expected a folder that can be written, got "
                f"{error.strerror or error}; choose another with --output"
            ) from None
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it holds something, or was never made
                folder.rmdir()
        raise


def evaluate(
    vae: VAE, data: Prepared, n_importance: int, seed: int, test_rows: int | None = None
) -> dict[str, Any]:
    """Measure a model on the test set: the ELBO and its terms, log p(x), active units.

    The ELBO averages 10 draws of z for each row. All are means over the same rows, in nats per
    datapoint; `…_se` is the standard error over the rows.

    Parameters
    ----------
    vae : VAE
    data : Prepared
    n_importance : int
        K.
    seed : int
        Of the noise.
    test_rows : int, optional
        So many rows of the test set, the same for everybody; all without it.

    Returns
    -------
    summary : dict
        Nats per datapoint, with the model and the sizes.

    Examples
    --------
    >>> data = prepare("digits", parse_likelihood("bernoulli"), 1.0, None)
    >>> evaluate(VAE(64, 2, (20,)), data, n_importance=5, seed=0, test_rows=20)["latent_dim"]
    2
    """
    x = _pick(data.x_test, test_rows)
    terms = mean_terms(vae, x, n_samples=10, seed=seed)
    log_likelihood = importance_log_likelihood(vae, x, n_importance, seed=seed)
    mean = float(log_likelihood.mean())
    return {
        **_names(vae, data),
        "test_rows": len(x),
        "test_elbo": terms.elbo,
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
        "test_log_likelihood": mean,
        "test_log_likelihood_se": float(log_likelihood.std() / math.sqrt(len(x))),
        "n_importance": n_importance,
        "gap_to_log_likelihood": mean - terms.elbo,
        "active_units": int(active_units(vae, x).sum()),
        "seed": seed,
    }


def _names(vae: VAE, data: Prepared) -> dict[str, Any]:
    """Say which model and which data."""
    return {
        "dataset": data.name,
        "model": repr(vae),
        "likelihood": vae.likelihood.name,
        "accelerator": "numba" if isinstance(vae, CompiledVAE) else None,
        "n_parameters": int(vae.parameters.flat.size),
        "latent_dim": vae.latent_dim,
    }


def _pick(x: np.ndarray, n: int | None) -> np.ndarray:
    """Return n rows, always the same; all if there are no more, or n is None."""
    if n is None or n >= len(x):
        return x
    order = stream(0, Purpose.TEST_ROWS).permutation(len(x))
    return x[np.sort(order[:n])]


SLOW_ROWS = 100  # for bounds that take seconds, or minutes, for each hundred datapoints


def compare(
    vae: VAE,
    data: Prepared,
    names: Sequence[str],
    *,
    test_rows: int | None = None,
    output: Path | None = None,
    seed: int = 0,
    **effort: Any,
) -> dict[str, Any]:
    """Compute bounds on the test set, and on data that the model simulates.

    A bound from above needs exact posterior draws, which simulated data alone have. There the
    bounds hold log p(x) between them, and the gap says how close the same effort comes on test
    data, as far as simulated data resemble them.

    Parameters
    ----------
    vae : VAE
    data : Prepared
    names : sequence of str
        As `compare_bounds` takes them. "exact" is added where it has a closed form.
    test_rows : int, optional
        How many, and as many are simulated; by default all, or 100 where a bound is slow.
    output : path, optional
        Of a picture, .png, .svg or .pdf.
    seed : int
    **effort : Any
        As `compare_bounds` takes it.

    Returns
    -------
    summary : dict
        The parts "test" and "simulated" (None where no bound asks for it) have "rows" and
        "bounds"; the rest says how they were made.

    Raises
    ------
    UsageError
        If a name or a setting is not one that `compare_bounds` can take.
    OSError
        If the picture cannot be written.

    Examples
    --------
    >>> data = prepare("digits", parse_likelihood("bernoulli"), 1.0, None)
    >>> effort = {"n_importance": 5, "n_temperatures": 2, "n_chains": 2}
    >>> summary = compare(VAE(64, 2, (20,)), data, ["elbo", "ais"], test_rows=3, **effort)
    >>> list(summary["test"]["bounds"]), list(summary["simulated"]["bounds"])
    (['elbo', 'ais'], ['elbo', 'ais', 'reverse-ais'])
    """
    from ..bounds import compare_bounds, simulate
    from ..exact import LinearGaussian, exact_model  # here, since it brings SciPy

    start = time.perf_counter()
    closed = isinstance(exact_model(vae), LinearGaussian)
    if closed and "exact" not in names:
        names = [*names, "exact"]
    slow = {"ais", "appendix-d"} | (set() if closed else {"exact"})
    if test_rows is None and slow.intersection(names):
        test_rows = SLOW_ROWS
    x = _pick(data.x_test, test_rows)
    known = [name for name in names if name != "eubo"]  # without posterior draws
    parts = {}
    try:
        if known:
            parts["test"] = compare_bounds(vae, x, known, seed=seed, **effort)
        if {"ais", "eubo"}.intersection(names):
            x, z = simulate(vae, len(x), seed)
            parts["simulated"] = compare_bounds(vae, x, names, posterior=z, seed=seed, **effort)
    except (TypeError, ValueError) as error:  # model and data have been checked: it is a setting
        raise UsageError(str(error)) from None
    if output is not None:
        from .. import plotting

        plotting.save_figure(plotting.plot_comparisons(parts), output)
    made = next(iter(parts.values()))
    return {
        **_names(vae, data),
        **{part: _as_dict(parts[part]) if part in parts else None for part in _PARTS},
        "n_importance": made.n_importance,
        "n_temperatures": made.n_temperatures,
        "n_chains": made.n_chains,
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }


_PARTS = ("test", "simulated")


def _as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return what JSON can hold of a comparison."""

    def pair(values: tuple[float, float]) -> dict[str, float | None]:
        mean, error = values
        return {"mean": mean, "se": error if math.isfinite(error) else None}

    bounds = {}
    elbo = comparison.estimates.get("elbo")
    for name, estimate in comparison.estimates.items():
        row = {"kind": estimate.kind, **pair(estimate.mean), "seconds": estimate.seconds}
        if estimate.acceptance is not None:
            row["acceptance"] = estimate.acceptance
        if elbo is not None and name != "elbo":
            row["above_elbo"] = pair(estimate.above(elbo))
        if estimate.curve is not None:
            k, values = estimate.curve
            row["curve"] = {"k": k.tolist(), "mean": values.mean(axis=1).tolist()}
        bounds[name] = row
    found: dict[str, Any] = {"rows": comparison.n_rows, "bounds": bounds}
    if comparison.gap is not None:
        found["gap"] = pair(comparison.gap)
    return found


def pictures(vae: VAE, history: History, data: Prepared, output: Path) -> None:
    """Draw what a reader expects to see beside a trained model, into PNG files."""
    from .. import plotting  # here, since it brings matplotlib

    plotting.save_figure(plotting.plot_history(history), output / "elbo.png")
    latent = plotting.plot_latent_space(vae, data.x_test, data.labels_test)
    plotting.save_figure(latent, output / "latent_space.png")
    if data.image_shape is None:
        return
    shape = data.image_shape
    pairs = plotting.plot_reconstructions(vae, data.x_test[:20], shape)
    plotting.save_figure(pairs, output / "reconstructions.png")
    plotting.save_figure(plotting.plot_samples(vae, shape), output / "samples.png")
    if vae.latent_dim == 2:
        plotting.save_figure(plotting.plot_manifold(vae, shape), output / "manifold.png")
