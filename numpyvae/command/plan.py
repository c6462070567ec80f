"""What a run will do: from settings to data, model, estimator and optimizer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .. import __version__
from ..core.elbo import Estimator
from ..core.optimizers import Optimizer, make_optimizer
from ..core.vae import VAE
from ..estimators import DataParallel
from ..fast import compiled, compiled_estimator, compiled_optimizer
from ..support.blas import blas_threads
from ..support.streams import Purpose, stream
from ..support.versions import provenance
from .preparation import DATASETS, Prepared, prepare
from .runs import fingerprint
from .settings import Settings, chosen_estimator, with_prior
from .usage import UsageError

__all__ = ["Job", "accelerated", "chosen_optimizer", "prepared"]


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
        Compiled, and divided among ranks, if the settings say so.
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
    def of(cls, settings: Settings, comm: Any = None) -> Job:
        """Read the data, and make the model, for the ranks of `comm` if it is given."""
        settings = _located(settings)
        estimator, optimizer = chosen_estimator(settings), chosen_optimizer(settings)
        with _compiling(settings.accelerator):
            estimator = compiled_estimator(estimator) if settings.accelerator else estimator
        if settings.data_parallel is not None:
            estimator = _divided(estimator, settings.data_parallel, comm)
        data = prepared(settings)
        traits = fingerprint(data)
        data, x_valid = _hold_out(data, settings.validation)
        if settings.patience is not None and x_valid is None:
            raise UsageError(
                "--patience: expected it together with --validation, got no --validation; add "
                "--validation 0.1"
            )
        s = _completed(settings, estimator, data)
        estimator = with_prior(estimator, s, len(data.x_train))
        before, after = asdict(settings), asdict(s)
        as_given = {name: before[name] for name in before if before[name] != after[name]}
        D = data.x_train.shape[1]
        vae = VAE(D, s.latent_dim, s.hidden, s.activation, data.likelihood, seed=s.seed)
        vae.preparation = data.preparation
        return cls(s, as_given, data, x_valid, traits, vae, estimator, optimizer)

    def blas_threads(self) -> Any:
        """Return a context with one BLAS thread where more would gain nothing.

        Ranks have one each: they share the cores, and the bits must not depend on their number.
        """
        largest = max(view.size for view in self.vae.parameters.values())
        rows = self.settings.batch_size or len(self.data.x_train)
        small = rows * largest < _SMALL
        return blas_threads(1 if small or self.settings.data_parallel is not None else None)

    def given(self) -> Settings:
        """Return the settings as they were before the data completed them."""
        return replace(self.settings, **self.as_given)

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


def prepared(s: Settings) -> Prepared:
    """Load and prepare the data that the settings name.

    Raises
    ------
    OSError, ValueError, TypeError
        As `prepare`.
    """
    columns = {"columns": s.columns, "label_column": s.label_column, "delimiter": s.delimiter}
    return prepare(s.dataset, s.likelihood, s.maximum, s.folder, scale=s.scale, **columns)


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
        return data, data.x_valid
    if data.x_valid is not None:
        raise UsageError(
            f"--validation: expected data without a validation part, got {data.name} with one; "
            "leave it out: the part is used"
        )
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
        maximum=None if settings.scale in ("none", "standardize") else float(data.maximum),
    )


def _divided(estimator: Estimator, n_shards: int, comm: Any) -> Estimator:
    """Return the estimator that several ranks share."""
    try:
        divided = DataParallel(estimator, comm, n_shards)
    except (ImportError, ValueError) as error:
        raise UsageError(f"--data-parallel: {error}") from None
    if comm is None and divided.comm.Get_size() > 1:
        raise UsageError("--data-parallel: expected it with several ranks, got none; add it")
    return divided


@contextmanager
def _compiling(accelerator: str | None) -> Iterator[None]:
    """Turn what cannot be compiled into wrong usage of the option."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"--accelerator {accelerator}: {error}") from None
    except TypeError as error:
        raise UsageError(f"--accelerator {accelerator}: {error}; leave the option out") from None


def chosen_optimizer(s: Settings) -> Optimizer:
    """Return the optimizer that the settings name, compiled if they say so."""
    optimizer = replace(make_optimizer(s.optimizer, s.learning_rate), clip_norm=s.clip_norm)
    if s.accelerator is None:
        return optimizer
    with _compiling(s.accelerator):
        return compiled_optimizer(optimizer)


def accelerated(vae: VAE, accelerator: str | None) -> VAE:
    """Return `vae`, or its compiled twin with the same parameters if there is an accelerator.

    Raises
    ------
    UsageError
        If it cannot be compiled.
    """
    if accelerator is None:
        return vae
    with _compiling(accelerator):
        return compiled(vae)
