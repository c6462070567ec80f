"""Train a declared model up to an epoch, from the last finished epoch of a process before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..core.training import fit
from ..core.vae import VAE
from ..fast import compiled, compiled_estimator, compiled_optimizer
from ..inference import monte_carlo_em
from ..support.blas import blas_threads
from ..support.checkpoints import Checkpoints
from ..support.history import History
from ..support.progress import Progress
from ..support.stopping import EarlyStopping
from .data import Data
from .declaring import Training

__all__ = ["history_of", "model_path", "trained_model"]


def model_path(folder: Path, epoch: int) -> Path:
    """Return the file of the model after an epoch.

    Examples
    --------
    >>> model_path(Path("vae-seed0"), 40).name
    'model-00040.npz'
    """
    return folder / f"model-{epoch:05}.npz"


def history_of(folder: Path) -> History:
    """Return the history of the training in a folder, an empty one if it has not begun."""
    path = folder / "checkpoint.npz"
    return History.load(path) if path.exists() else History()


def trained_model(
    training: Training,
    data: Data,
    seed: int,
    folder: Path,
    epoch: int,
    accelerator: str | None = None,
    progress: bool = False,
) -> VAE:
    """Return the model after an epoch; train it, and keep it in `folder`, if it is not there.

    A training that is stopped keeps its last finished epoch and goes on from there, with the bits
    that it would have had without the stop.

    Parameters
    ----------
    training : Training
    data : Data
    seed : int
        Of the weights and of the training.
    folder : Path
        Its files are `checkpoint.npz`, of `History.save`, and a model for each epoch asked for.
    epoch : int
        At least as many as were asked for before.
    accelerator : {None, "numba"}
        Compile the training step, or the model for Monte-Carlo EM, and Adam or Adagrad.
    progress : bool
        Show a progress line on standard error.

    Returns
    -------
    vae : VAE

    Raises
    ------
    ImportError
        If Numba is not installed and the training is accelerated.
    NonFiniteError
        If the training diverges.
    OSError, ValueError
        If a file cannot be written, or is damaged.
    """
    path = model_path(folder, epoch)
    if path.exists():
        return VAE.load(path)
    data = data.first(training.rows)
    vae = training.model(data, seed)
    _train(training, data, seed, vae, epoch, folder, accelerator, progress)
    vae.save(path)
    return vae


def _train(
    training: Training,
    data: Data,
    seed: int,
    vae: VAE,
    epoch: int,
    folder: Path,
    accelerator: str | None,
    progress: bool,
) -> None:
    """Train the model in place up to an epoch, with a checkpoint after an epoch."""
    optimizer = training.optimizer
    if accelerator is not None:
        optimizer = compiled_optimizer(optimizer)
    history = history_of(folder)
    checkpoints = Checkpoints(lambda kept: kept.save(folder / "checkpoint.npz"), history)
    shown = Progress(epoch, len(history)) if progress else nullcontext()
    # One thread: more gain nothing for these widths, and would change the last bits.
    with blas_threads(1), _written(checkpoints), shown as line:
        settings: dict[str, Any] = {
            "epochs": max(epoch - len(history), 0),
            "batch_size": training.batch_size,
            "optimizer": optimizer,
            "schedule": training.schedule,
            "callbacks": [checkpoints, *([line] if line else [])],
            "seed": seed,
            "resume": history if history.rows else None,
        }
        if training.method == "monte-carlo-em":
            model = vae if accelerator is None else compiled(vae)  # with the same parameters
            monte_carlo_em(model, data.x_train, **settings)
        else:
            _fit(training, data, vae, accelerator, settings)


def _fit(
    training: Training, data: Data, vae: VAE, accelerator: str | None, settings: dict[str, Any]
) -> None:
    """Call `fit`."""
    estimator, x_valid = training.estimator, None
    if accelerator is not None:
        estimator = compiled_estimator(estimator)
    if training.patience is not None:
        x_valid = data.x_test if data.x_valid is None else data.x_valid
        settings["callbacks"].insert(0, EarlyStopping(training.patience))
    elif training.curve:
        x_valid = data.some_test_rows(training.curve)
    fit(
        vae,
        data.x_train,
        estimator=estimator,
        transform=data.transform,
        x_valid=x_valid,
        **settings,
    )


@contextmanager
def _written(checkpoints: Checkpoints) -> Iterator[None]:
    """Write the last finished epoch at the end, also if the training is stopped."""
    try:
        yield
    finally:
        checkpoints.write()
