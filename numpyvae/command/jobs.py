"""Train a model with the settings of the command line, and write the run folder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.training import fit
from ..core.vae import VAE
from ..support.checkpoints import Checkpoints
from ..support.history import History, NonFiniteError
from ..support.progress import Progress
from ..support.schedules import cosine_schedule
from ..support.stopping import EarlyStopping
from . import ranks
from .advice import advice
from .checkpoints import kept_if_stopped
from .measuring import evaluate
from .plan import Job, accelerated, chosen_optimizer
from .preparation import Prepared
from .runs import RunFolder, claimed, recorded
from .settings import Settings, chosen_estimator, flag, read_settings, with_prior
from .usage import UsageError

__all__ = ["follow", "pictures", "resume", "train"]


def train(
    settings: Settings,
    output: Path,
    progress: bool = False,
    overwrite: bool = False,
    comm: Any = None,
) -> dict[str, Any]:
    """Train, evaluate on the test set, and write model, history, summary and pictures.

    Parameters
    ----------
    settings : Settings
    output : Path
        A folder; made if it does not exist, and removed again if the run fails before it writes.
    progress : bool
        Show a progress line on standard error.
    overwrite : bool
        Replace the run that is in the folder. Its results stay until the new ones are complete.
    comm : mpi4py.MPI.Comm, optional
        The ranks that work together. This is rank 0; the others call `follow`.

    Returns
    -------
    summary : dict
        The contents of `summary.json`.

    Raises
    ------
    UsageError
        If a setting does not suit the data or another setting, or the folder has a run.
    OSError, ValueError, TypeError, FloatingPointError
        If the folder cannot be written, the data are not usable, or training diverges.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = train(Settings(epochs=1, eval_importance=5, test_rows=20), Path(folder))
    >>> summary["test_rows"], summary["test_elbo"] < 0
    (20, True)
    """
    start = time.perf_counter()
    chosen_estimator(settings), chosen_optimizer(settings)  # wrong usage, before a folder is made
    with claimed(output) as run:
        if not overwrite:
            run.refuse_another()
        job = Job.of(settings, comm)
        with job.blas_threads():
            ranks.lead(comm, job, None)
            return _work(run, job, None, progress, start)


def resume(
    output: Path, given: dict[str, Any], progress: bool = False, comm: Any = None
) -> dict[str, Any] | None:
    """Continue a run that was stopped; it ends with the bytes of one that was not.

    Parameters
    ----------
    output : Path
        The run folder.
    given : dict
        Settings of the command line. The data may be found in another place; all others must be
        those of the run.
    progress : bool
        Show a progress line on standard error.
    comm : mpi4py.MPI.Comm, optional
        As for `train`; their number may be another than before.

    Returns
    -------
    summary : dict or None
        The contents of `summary.json`; None if the run was finished before.

    Raises
    ------
    UsageError
        If a setting is another than that of the run.
    OSError, ValueError
        If there is no run, its files are damaged, or the data have changed.

    Warns
    -----
    UserWarning
        If a version, or the number of BLAS threads, is another than when the run began.
    """
    start = time.perf_counter()
    if not output.is_dir():
        raise FileNotFoundError(f"{output}: expected a run folder, got none; check the path")
    with claimed(output) as run:
        folder = run.work if run.is_unfinished() else output
        saved = recorded(folder)
        if not saved:
            raise FileNotFoundError(
                f"{output}: expected a run that was begun there, got none; begin one with --output"
            )
        settings = read_settings(saved.get("settings"), folder / "settings.json")
        _refuse_other(settings, given, folder)
        if not run.is_unfinished():
            return None
        settings |= read_settings(saved.get("as_given", {}), folder / "settings.json")
        settings |= {name: given[name] for name in _PLACES if name in given}
        job = Job.of(Settings(**settings), comm)
        with job.blas_threads():
            _compare(saved, job.record(), folder)
            history = run.load_checkpoint() or History()
            ranks.lead(comm, job, history)
            return _work(run, job, history, progress, start)


def follow(comm: Any) -> None:
    """Train as a rank other than 0, which writes nothing: with the settings that rank 0 sends.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm

    Raises
    ------
    ValueError
        If this rank finds other data than rank 0, or as `train`.
    """
    order = ranks.received(comm)
    if order is None:  # rank 0 found nothing to do
        return
    settings, traits, history = order
    job = Job.of(settings, comm)
    if job.traits != traits:
        raise ValueError(
            f"{job.settings.dataset}: expected the data of rank 0, got others on rank "
            f"{comm.Get_rank()}; give all machines the same files"
        )
    with job.blas_threads():
        fast = accelerated(job.vae, job.settings.accelerator)
        _fit(job, fast, history or History(), [], False)


_PLACES = ("dataset", "folder")  # where the data are; that they are the same is checked


def _refuse_other(settings: dict[str, Any], given: dict[str, Any], folder: Path) -> None:
    """Raise UsageError for a setting that is not that of the run."""
    for name, value in given.items():
        if name not in _PLACES and settings.get(name) != value:
            raise UsageError(
                f"{flag(name)}: expected none, since the run in {folder} has its settings, got "
                f"{value}; leave it out, or begin another run with --settings "
                f"{folder / 'settings.json'} and this option"
            )


def _compare(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse data that have changed, and warn of other versions."""
    if saved.get("data") != now["data"]:
        raise ValueError(
            f"{now['settings']['dataset']}: expected the data with which the run in {folder} was "
            "begun, got others; restore them, or give their place with --dataset or --folder"
        )
    before, after = _surroundings(saved), _surroundings(now)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        what = ", ".join(f"{n} {before.get(n)} then, {after.get(n)} now" for n in changed)
        warnings.warn(
            f"{folder}: the run was begun elsewhere ({what}); it goes on, but its last digits can "
            "be others than without the stop",
            stacklevel=2,
        )


def _surroundings(record: dict[str, Any]) -> dict[str, Any]:
    """Return the versions and the machine of a record, flat."""
    found = dict(record.get("versions", {}))
    found |= {name: record.get(name) for name in ("machine", "blas_threads")}
    pools = [" ".join(map(str, pool.values())) for pool in record.get("blas", [])]
    return found | {"blas": "; ".join(pools)}


def _work(
    run: RunFolder, job: Job, history: History | None, progress: bool, start: float
) -> dict[str, Any]:
    """Do the work of a run from a history on, which is None for a new run."""
    _check_drawing()
    s, vae = job.settings, job.vae
    fast = accelerated(vae, s.accelerator)  # the two models share their parameters
    checkpoints = Checkpoints(run.save_checkpoint, history or History())
    start -= checkpoints.seconds
    with kept_if_stopped(run, checkpoints, s.epochs):
        if history is None:
            run.begin(job.record())
        history = _fit(job, fast, history or History(), [checkpoints], progress)
        checkpoints.write()
        summary = evaluate(fast, job.data, s.eval_importance, s.seed, s.test_rows, progress)
        summary |= _training_summary(s, history, len(job.data.x_train))
        summary["advice"] = advice(summary, job.data.preparation)
        vae.save(run.work / "model.npz")
        history.to_csv(run.work / "history.csv")
        summary["seconds"] = time.perf_counter() - start
        summary |= job.provenance()
        run.write_json("summary.json", summary)
        pictures(vae, history, job.data, run.work)
        run.publish()
    return summary


def _check_drawing() -> None:
    """Raise ImportError before the training if its pictures cannot be drawn after it."""
    try:
        from .. import plotting  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"matplotlib: expected it for the pictures of the run, got none ({error}); "
            "pip install matplotlib"
        ) from None


def _fit(job: Job, vae: VAE, history: History, kept: list[Checkpoints], progress: bool) -> History:
    """Train the model for the epochs that are left, with a progress line if that is wanted."""
    s = job.settings
    stops = [] if s.patience is None else [EarlyStopping(s.patience)]
    shown = Progress(s.epochs, len(history)) if progress else nullcontext()
    try:
        with shown as line:
            return fit(
                vae,
                job.data.x_train,
                epochs=s.epochs - len(history),
                batch_size=s.batch_size,
                optimizer=job.optimizer,
                schedule=cosine_schedule(s.epochs) if s.schedule == "cosine" else None,
                estimator=job.estimator,
                transform=job.data.transform,
                x_valid=job.x_valid,
                callbacks=[*stops, *kept, *([line] if line else [])],
                seed=s.seed,
                resume=history if history.rows else None,
            )
    except NonFiniteError as error:  # its own remedies are those of a program
        raise FloatingPointError(
            f"epoch {error.epoch}, step {error.step}: expected finite values, got NaN, infinity "
            f"or overflow (first seen in {error.parameter}); nothing is written: lower "
            "--learning-rate, or limit the gradient with --clip-norm"
        ) from None


def _training_summary(s: Settings, history: History, n_data: int) -> dict[str, Any]:
    """Return what the summary says about the training; "settings" has every option."""
    best = history.rows[-1]
    if history.best_parameters is not None:  # the model has those of another epoch
        counted = [row for row in history if not row["warm_up"]]
        best = max(counted, key=lambda row: row["valid_elbo"])
    return {
        "accelerator": s.accelerator,
        "train_elbo": best["elbo"],
        "train_objective": best["objective"],
        "validation_elbo": best.get("valid_elbo"),
        "estimator": repr(with_prior(chosen_estimator(s), s, n_data)),
        "kl_warmup": s.kl_warmup,
        "epochs": len(history),
        "best_epoch": best["epoch"],
        "stopped_early": history.stopped_early,
        "learning_rate": s.learning_rate,
        "optimizer": s.optimizer,
        "schedule": s.schedule,
        "batch_size": s.batch_size,
        "n_samples": s.n_samples,
        "settings": asdict(s),
        "training_seconds": history.rows[-1]["seconds"],
    }


def pictures(vae: VAE, history: History, data: Prepared, output: Path) -> None:
    """Draw what a reader expects to see beside a trained model, into PNG files.

    A picture that fails costs a warning, and no other picture.

    Warns
    -----
    UserWarning
        If a picture could not be drawn or written.
    """
    from .. import plotting  # here, since it brings matplotlib

    x, shape, labels = data.x_test, data.image_shape, data.labels_test
    if labels is not None and data.classes is not None and len(data.classes) <= 10:
        labels = np.array(data.classes)[labels]
    draw: dict[str, Callable[[], Any]] = {
        "elbo.png": partial(plotting.plot_history, history),
        "latent_space.png": partial(plotting.plot_latent_space, vae, x, labels),
    }
    if shape is None:
        names = data.preparation.names
        draw["reconstructions.png"] = partial(plotting.plot_rows, vae, x[:6], names=names)
        draw["samples.png"] = partial(plotting.plot_row_samples, vae, names=names)
    else:
        few: dict[str, Any] = {"labels": None if labels is None else labels[:20]}
        few["original"] = None if data.grays_test is None else data.grays_test[:20]
        pairs = partial(plotting.plot_reconstructions, vae, x[:20], shape, **few)
        draw["reconstructions.png"] = pairs
        draw["samples.png"] = partial(plotting.plot_samples, vae, shape)
        if vae.latent_dim == 2:
            draw["manifold.png"] = partial(plotting.plot_manifold, vae, shape)
    for name, figure in draw.items():
        try:
            plotting.save_figure(figure(), output / name)
        except Exception as error:  # of matplotlib, of odd labels, of a full disk
            why = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"{name}: this picture is left out ({why})", stacklevel=2)
