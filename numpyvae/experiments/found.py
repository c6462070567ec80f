"""What an experiment has found so far: models, their histories, their figures, kept in files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..support.files import ArrayFile, write_arrays
from ..support.history import History
from .data import Data
from .declaring import Training

__all__ = ["Found", "Keeper", "Trained"]


class Keeper:
    """Arrays that are computed once: an experiment that goes on reads those that it has.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    seconds : float
        How long the arrays took that were there already.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keeper = Keeper(Path(folder))
    ...     keeper.array("ones", (2,), lambda: np.ones(2))
    ...     keeper.array("ones", (2,), lambda: 1 / 0)
    array([1., 1.])
    array([1., 1.])
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds = folder, 0.0

    def array(
        self, name: str, shape: tuple[int, ...], make: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Return the array with this name, which `make()` computes if there is no file of it."""
        path = self.folder / f"{name}.npz"
        if not (known := path.exists()):
            start = time.perf_counter()
            made = np.asarray(make(), float)
            write_arrays(path, {"array": made, "seconds": np.array(time.perf_counter() - start)})
        with ArrayFile(path) as file:
            self.seconds += known * float(file.read("seconds", None, "f"))
            return file.read("array", shape, "f")


@dataclass(frozen=True)
class Trained:
    """A trained model, with all that is needed to measure it.

    Attributes
    ----------
    training : Training
    seed, epoch : int
    vae : VAE
        Compiled if the experiment is accelerated.
    data : Data
    effort : mapping
        That of the `Plan`.
    keeper : Keeper
    progress : bool
    """

    training: Training
    seed: int
    epoch: int
    vae: VAE
    data: Data
    effort: Mapping[str, Any]
    keeper: Keeper
    progress: bool = False

    @property
    def last(self) -> bool:
        """Whether the training is finished."""
        return self.epoch == self.training.epochs


@dataclass(frozen=True)
class Found:
    """What was measured on a trained model.

    Attributes
    ----------
    training : Training
    seed, epoch : int
    figures : dict
        What `Experiment.measure` returned, as JSON has it.
    history : History
        Up to this epoch.
    vae : VAE
    data : Data
    seconds : dict
        Of the training up to this epoch, and of the measurement.
    """

    training: Training
    seed: int
    epoch: int
    figures: dict[str, Any]
    history: History
    vae: VAE
    data: Data
    seconds: dict[str, float]

    @property
    def last(self) -> bool:
        """Whether the training is finished."""
        return self.epoch == self.training.epochs
