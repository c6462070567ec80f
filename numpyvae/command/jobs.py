"""Train a model with the settings of the command line, and write the run folder."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..core.elbo import Estimator
from ..core.optimizers import Optimizer, make_optimizer
from ..core.training import fit
from ..core.vae import VAE
from ..fast import CompiledAdam, compiled
from ..support.history import History, NonFiniteError
from ..support.progress import Progress
from ..support.schedules import cosine_schedule
from ..support.stopping import EarlyStopping
from ..support.streams import Purpose, stream
from ..support.versions import provenance
from .checkpoints import Checkpoints, kept_if_stopped
from .measuring import evaluate
from .preparation import DATASETS, Prepared, prepare
from .runs import RunFolder, claimed, fingerprint, recorded
from .settings import Settings, chosen_estimator, flag, read_settings
from .usage import UsageError

__all__ = ["Job", "accelerated", "pictures", "resume", "train"]


def train(
    settings: Settings, output: Path, progress: bool = False, overwrite: bool = False
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
    chosen_estimator(settings), _optimizer(settings)  # wrong usage, before a folder is made
    with claimed(output) as run:
        if not overwrite:
            run.refuse_another()
        job = Job.of(settings)
        with job.blas_threads():
            return _work(run, job, None, progress, start)


def resume(output: Path, given: dict[str, Any], progress: bool = False) -> dict[str, Any] | None:
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
        job = Job.of(Settings(**settings))
        with job.blas_threads():
            _compare(saved, job.record(), folder)
            return _work(run, job, run.load_checkpoint() or History(), progress, start)


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


@dataclass(frozen=True)
class Job:
    """All that the settings and the data determine.

    Attributes
    ----------
    settings : Settings
        With the values that depend on the data and on the estimator.
    as_given : dict
        The values of these settings before that.
    data : Prepared
        Without the validation rows.
    x_valid : (M, D) array or None
        In the support of the likelihood; binarized once, with a fixed seed.
    traits : dict
        The fingerprint of all data.
    vae : VAE
    estimator : Estimator
    optimizer : Optimizer

    Examples
    --------
    >>> job = Job.of(Settings(validation=0.1))
    >>> job.data.x_train.shape, job.x_valid.shape, job.as_given["batch_size"]
    ((3441, 64), (382, 64), None)
    """

    settings: Settings
    as_given: dict[str, Any]
    data: Prepared
    x_valid: np.ndarray | None
    traits: dict[str, Any]
    vae: VAE
    estimator: Estimator
    optimizer: Optimizer

    @classmethod
    def of(cls, settings: Settings) -> Job:
        """Read the data, and make the model."""
        if settings.patience is not None and settings.validation is None:
            raise UsageError(
                "--patience: expected it together with --validation, got no --validation; add "
                "--validation 0.1"
            )
        settings = _located(settings)
        estimator, optimizer = chosen_estimator(settings), _optimizer(settings)
        data = prepare(settings.dataset, settings.likelihood, settings.maximum, settings.folder)
        traits = fingerprint(data)
        data, x_valid = _hold_out(data, settings.validation)
        s = _completed(settings, estimator, data)
        before, after = asdict(settings), asdict(s)
        as_given = {name: before[name] for name in before if before[name] != after[name]}
        D = data.x_train.shape[1]
        vae = VAE(D, s.latent_dim, s.hidden, s.activation, data.likelihood, seed=s.seed)
        return cls(s, as_given, data, x_valid, traits, vae, estimator, optimizer)

    def blas_threads(self) -> Any:
        """Return a context with one BLAS thread where more would gain nothing."""
        from threadpoolctl import threadpool_limits

        largest = max(view.size for view in self.vae.parameters.values())
        threads = 1 if self.settings.batch_size * largest < _SMALL else None
        return threadpool_limits(threads, "blas")

    def provenance(self) -> dict[str, Any]:
        """Return the versions and the machine."""
        accelerator = self.settings.accelerator
        return provenance(__version__, *([accelerator] if accelerator else []))

    def record(self) -> dict[str, Any]:
        """Return what `settings.json` contains, as JSON has it."""
        settings = asdict(self.settings)
        settings["hidden"] = list(settings["hidden"])
        parts = {"settings": settings, "as_given": self.as_given, "data": self.traits}
        return {"format": "numpyvae run, version 1", **parts, **self.provenance()}


# Multiplications in the largest matrix product, below which a second BLAS thread gains nothing:
# on the digits it doubles the processor time, and on a busy machine it waits for a core.
_SMALL = 1 << 23


def _located(settings: Settings) -> Settings:
    """Return the settings with absolute paths, so that they are valid in any folder."""
    dataset, folder = settings.dataset, settings.folder
    return replace(
        settings,
        dataset=dataset if dataset in DATASETS else os.path.abspath(dataset),
        folder=None if folder is None else os.path.abspath(folder),
    )


def _hold_out(data: Prepared, fraction: float | None) -> tuple[Prepared, np.ndarray | None]:
    """Split the training rows into those to train on and a validation set."""
    if fraction is None:
        return data, None
    N = len(data.x_train)
    M = round(fraction * N)
    if not 0 < M < N:
        raise UsageError(
            f"--validation: expected a fraction that leaves rows in both parts, got {fraction:g} "
            f"of {N} training rows, which is {M}; choose another"
        )
    order = stream(0, Purpose.VALIDATION).permutation(N)
    valid, train = (data.x_train[np.sort(part)] for part in (order[:M], order[M:]))
    if data.transform is not None:
        valid = data.transform(valid, stream(0, Purpose.BINARIZE_VALIDATION))
    return replace(data, x_train=train), valid


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


def _work(
    run: RunFolder, job: Job, history: History | None, progress: bool, start: float
) -> dict[str, Any]:
    """Do the work of a run from a history on, which is None for a new run."""
    s, vae = job.settings, job.vae
    fast = accelerated(vae, s.accelerator)  # the two models share their parameters
    checkpoints = Checkpoints(run, history or History())
    start -= checkpoints.seconds
    with kept_if_stopped(run, checkpoints, s.epochs):
        if history is None:
            run.begin(job.record())
        history = _fit(job, fast, history or History(), checkpoints, progress)
        checkpoints.write()
        summary = evaluate(fast, job.data, s.eval_importance, s.seed, s.test_rows, progress)
        summary |= _training_summary(s, history, job.estimator)
        vae.save(run.work / "model.npz")
        history.to_csv(run.work / "history.csv")
        summary["seconds"] = time.perf_counter() - start
        summary |= job.provenance()
        run.write_json("summary.json", summary)
        pictures(vae, history, job.data, run.work)
        run.publish()
    return summary


def _fit(
    job: Job, vae: VAE, history: History, checkpoints: Checkpoints, progress: bool
) -> History:
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
                callbacks=[*stops, checkpoints, *([line] if line else [])],
                seed=s.seed,
                resume=history if history.rows else None,
            )
    except NonFiniteError as error:  # its own remedies are those of a program
        raise FloatingPointError(
            f"epoch {error.epoch}, step {error.step}: expected finite values, got NaN, infinity "
            f"or overflow (first seen in {error.parameter}); nothing is written: lower "
            "--learning-rate, or limit the gradient with --clip-norm"
        ) from None


def _training_summary(s: Settings, history: History, estimator: Estimator) -> dict[str, Any]:
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
        "estimator": repr(estimator),
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

    x, shape = data.x_test, data.image_shape
    draw: dict[str, Callable[[], Any]] = {
        "elbo.png": partial(plotting.plot_history, history),
        "latent_space.png": partial(plotting.plot_latent_space, vae, x, data.labels_test),
    }
    if shape is not None:
        draw["reconstructions.png"] = partial(plotting.plot_reconstructions, vae, x[:20], shape)
        draw["samples.png"] = partial(plotting.plot_samples, vae, shape)
        if vae.latent_dim == 2:
            draw["manifold.png"] = partial(plotting.plot_manifold, vae, shape)
    for name, figure in draw.items():
        try:
            plotting.save_figure(figure(), output / name)
        except Exception as error:  # of matplotlib, of odd labels, of a full disk
            why = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"{name}: this picture is left out ({why})", stacklevel=2)
