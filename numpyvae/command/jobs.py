"""Train a model with the settings of the command line, and write the run folder."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.elbo import Estimator
from ..core.optimizers import Optimizer, make_optimizer
from ..core.training import fit
from ..core.vae import VAE
from ..fast import CompiledAdam, compiled, compiled_estimator
from ..support.files import atomic_write
from ..support.history import History, NonFiniteError
from ..support.progress import Progress
from ..support.schedules import cosine_schedule
from ..support.versions import provenance
from .measuring import evaluate
from .preparation import Prepared, prepare
from .settings import Settings, chosen_estimator
from .usage import UsageError

__all__ = ["accelerated", "pictures", "train"]


def train(settings: Settings, output: Path, progress: bool = False) -> dict[str, Any]:
    """Train, evaluate on the test set, and write model, history, summary and pictures.

    Parameters
    ----------
    settings : Settings
    output : Path
        A folder; made if it does not exist, and removed again if the run fails before it writes.
    progress : bool
        Show a progress line on standard error.

    Returns
    -------
    summary : dict
        The contents of `summary.json`.

    Raises
    ------
    UsageError
        If a setting does not suit the data or another setting.
    OSError, ValueError, TypeError, FloatingPointError
        If the folder cannot be written, the data are not usable, or training diverges.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = train(Settings(epochs=1, eval_importance=5, test_rows=20), Path(folder))
    >>> summary["test_rows"], summary["test_elbo"] < 0
    (20, True)
    """
    start = time.perf_counter()
    estimator, optimizer = chosen_estimator(settings), _optimizer(settings)
    data = prepare(settings.dataset, settings.likelihood, settings.maximum, settings.folder)
    s = _completed(settings, estimator, data)
    D = data.x_train.shape[1]
    vae = VAE(D, s.latent_dim, s.hidden, s.activation, data.likelihood, seed=s.seed)
    fast = accelerated(vae, s.accelerator)  # the two models share their parameters
    # Before the limit, which is that of the BLAS libraries loaded by then.
    rule = compiled_estimator(estimator) if s.accelerator else estimator
    from threadpoolctl import threadpool_limits

    largest = max(view.size for view in vae.parameters.values())
    threads = 1 if s.batch_size * largest < _SMALL else None
    with _claimed(output), threadpool_limits(threads, "blas"):
        history = _fit(s, fast, data, rule, optimizer, progress)
        trained = time.perf_counter() - start
        summary = evaluate(fast, data, s.eval_importance, s.seed, s.test_rows)
        summary |= _training_summary(s, history, estimator) | {"training_seconds": trained}
        vae.save(output / "model.npz")
        history.to_csv(output / "history.csv")
        pictures(vae, history, data, output)
        summary["seconds"] = time.perf_counter() - start
        summary |= provenance(__version__, *([s.accelerator] if s.accelerator else []))
        with atomic_write(output / "summary.json") as file:
            file.write(json.dumps(summary, indent=2).encode() + b"\n")
    return summary


# Multiplications in the largest matrix product, below which a second BLAS thread gains nothing:
# on the digits it doubles the processor time, and on a busy machine it waits for a core.
_SMALL = 1 << 23


def _completed(settings: Settings, estimator: Estimator, data: Prepared) -> Settings:
    """Return the settings with the values that depend on the data and on the estimator."""
    N, B = len(data.x_train), settings.batch_size
    if B is not None and B > N:
        raise UsageError(f"--batch-size: expected at most the {N} training rows, got {B}")
    return replace(
        settings,
        batch_size=min(100, N) if B is None else B,
        n_samples=estimator.n_samples,
        likelihood=data.likelihood.name,
        maximum=float(data.maximum),
    )


def _optimizer(s: Settings) -> Optimizer:
    """Return the optimizer that the settings name, compiled if they say so."""
    if s.accelerator is None or s.optimizer != "adam":
        optimizer = make_optimizer(s.optimizer, s.learning_rate)
        return replace(optimizer, clip_norm=s.clip_norm)
    try:
        return CompiledAdam(s.learning_rate, clip_norm=s.clip_norm)
    except ImportError as error:
        raise UsageError(f"--accelerator {s.accelerator}: {error}") from None


def accelerated(vae: VAE, accelerator: str | None) -> VAE:
    """Return `vae`, or its compiled twin with the same parameters if there is an accelerator.

    Raises
    ------
    UsageError
        If it cannot be compiled.
    """
    if accelerator is None:
        return vae
    try:
        return compiled(vae)
    except ImportError as error:
        raise UsageError(f"--accelerator {accelerator}: {error}") from None
    except TypeError as error:
        raise UsageError(f"--accelerator {accelerator}: {error}; leave the option out") from None


def _fit(
    s: Settings,
    vae: VAE,
    data: Prepared,
    estimator: Estimator,
    optimizer: Optimizer,
    progress: bool,
) -> History:
    """Train the model, with a progress line if that is wanted."""
    try:
        with Progress(s.epochs) if progress else nullcontext() as line:
            return fit(
                vae,
                data.x_train,
                epochs=s.epochs,
                batch_size=s.batch_size,
                optimizer=optimizer,
                schedule=cosine_schedule(s.epochs) if s.schedule == "cosine" else None,
                estimator=estimator,
                transform=data.transform,
                callbacks=[line] if line else [],
                seed=s.seed,
            )
    except NonFiniteError as error:  # its own remedies are those of a program
        raise FloatingPointError(
            f"epoch {error.epoch}, step {error.step}: expected finite values, got NaN, infinity "
            f"or overflow (first seen in {error.parameter}); nothing is written: lower "
            "--learning-rate, or limit the gradient with --clip-norm"
        ) from None


def _training_summary(s: Settings, history: History, estimator: Estimator) -> dict[str, Any]:
    """Return what the summary says about the training; "settings" has every option."""
    return {
        "accelerator": s.accelerator,
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
        "settings": asdict(s),
    }


@contextmanager
def _claimed(output: Path) -> Iterator[None]:
    """Make the folder and try to write in it, before training takes its time.

    If the block fails, the folders that were made here and are empty are removed again.
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
            with suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()
        raise


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
