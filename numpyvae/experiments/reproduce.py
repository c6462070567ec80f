"""Run a declared experiment: train, measure, compare; each finished part is kept in a file.

The folder of an experiment:

    settings.json                    what it was begun with; so in each TRAINING-seedS
    TRAINING-seedS/checkpoint.npz    the last finished epoch, a file of `History.save`
    TRAINING-seedS/model-E.npz       the model after a stage of E epochs
    TRAINING-seedS/figures-E.json    what was measured on it
    results.json, table.md           all figures so far, beside the published ones
    picture.png                      when all is measured
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.vae import VAE
from ..fast import compiled
from ..support.files import atomic_write
from ..support.history import History
from ..support.locks import locked_folder
from ..support.strict_json import to_json, write_json
from ..support.versions import array_fingerprint
from .data import Data, load_data
from .declaring import Claim, Experiment, Plan, Training
from .found import Found, Keeper, Trained
from .results import as_dict, table
from .training import history_of, model_path, trained_model

__all__ = ["Outcome", "reproduce"]


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes
    ----------
    found : list of Found
    claims : list of Claim
        Empty as long as not all is measured.
    results : dict
        The contents of `results.json`.
    table : str

    Examples
    --------
    >>> Outcome([], [], {"complete": False}, "").results["complete"]
    False
    """

    found: list[Found]
    claims: list[Claim]
    results: dict[str, Any]
    table: str


def reproduce(
    experiment: Experiment,
    output: Path,
    *,
    quick: bool = False,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    until: int | None = None,
    folder: Path | None = None,
    accelerator: str | None = None,
    models: Sequence[Path] = (),
    record: dict[str, Any] | None = None,
    progress: bool = False,
) -> Outcome:
    """Run an experiment, or go on with it; if it is finished, read what it found.

    Parameters
    ----------
    experiment : Experiment
    output : Path
        Its folder; made if it does not exist.
    quick : bool
        The quick version.
    seeds : sequence of int, optional
        By default those of the plan.
    only : sequence of str, optional
        The names of the trainings that are wanted now; by default all.
    until : int, optional
        The last epoch whose model is wanted now; by default all.
    folder : Path, optional
        That of the data.
    accelerator : {None, "numba"}
        Compile training steps and evaluations.
    models : sequence of Path
        Folders of other experiments. A model that is there, of the same settings and after as many
        epochs, is not made again.
    record : dict, optional
        Versions and machine, to be kept with the settings.
    progress : bool
        Show progress lines on standard error.

    Returns
    -------
    outcome : Outcome

    Raises
    ------
    ValueError
        If the folder has another experiment, or one with other settings, or data have changed.
    OSError
        If the folder cannot be written, or data are missing.

    Examples
    --------
    >>> import tempfile
    >>> from numpyvae.experiments import EXPERIMENTS
    >>> with tempfile.TemporaryDirectory() as folder:                    # doctest: +SKIP
    ...     outcome = reproduce(EXPERIMENTS["altosaar"], Path(folder), quick=True)
    """
    places = output, folder
    plan = experiment.plan(quick)
    work = _Work(experiment, plan, quick, *places, accelerator, record, progress)
    seeds = tuple(seeds or work.plan.seeds)
    work.models = models
    with locked_folder(output):
        work.settle()
        for trained in work.wanted(seeds, only, until):
            work.measure(*trained)
            work.write(seeds)
        return work.write(seeds)


@dataclass
class _Work:
    experiment: Experiment
    plan: Plan
    quick: bool
    output: Path
    data_folder: Path | None
    accelerator: str | None
    record: dict[str, Any] | None
    progress: bool

    def __post_init__(self) -> None:
        self._data: dict[str, Data] = {}
        self.models: Sequence[Path] = ()

    def settle(self) -> None:
        """Refuse the folder of another experiment."""
        now = {"experiment": self.experiment.name, "quick": self.quick}
        _agree(self.output, now, self.record)

    def data(self, name: str) -> Data:
        """Return a data set, which is read once."""
        if name not in self._data:
            self._data[name] = load_data(name, self.data_folder)
        return self._data[name]

    def folder(self, training: Training, seed: int) -> Path:
        """Return the folder of a training."""
        return self.output / f"{training.name}-seed{seed}"

    def wanted(
        self, seeds: tuple[int, ...], only: Sequence[str] | None, until: int | None
    ) -> Iterator[tuple[Training, int, int]]:
        """Yield what has to be measured now: a training, a seed, an epoch."""
        for training in self.plan.trainings:
            if only is None or training.name in only:
                for seed in seeds:
                    for epoch in training.stages:
                        if until is None or epoch <= until:
                            yield training, seed, epoch

    def measure(self, training: Training, seed: int, epoch: int) -> None:
        """Train up to an epoch and measure the model, and write its figures."""
        folder, data = self.folder(training, seed), self.data(training.data)
        folder.mkdir(exist_ok=True)
        settings = self.settings(training, data)
        _agree(folder, settings)
        if self.figures(folder, epoch):
            return
        for other in self.models:
            _adopt(folder, other / folder.name, settings, epoch)
        how = self.accelerator, self.progress
        vae = trained_model(training, data, seed, folder, epoch, *how)
        fast = vae if self.accelerator is None else compiled(vae)
        keeper, start = Keeper(folder), time.perf_counter()
        figures = self.experiment.measure(
            Trained(training, seed, epoch, fast, data, self.plan.effort, keeper, self.progress)
        )
        seconds = {
            "training": history_of(folder).rows[:epoch][-1]["seconds"],
            "measurement": time.perf_counter() - start + keeper.seconds,
        }
        effort = {"effort": self.plan.effort}
        write_json(_figures(folder, epoch), {"figures": figures, "seconds": seconds} | effort)

    def settings(self, training: Training, data: Data) -> dict[str, Any]:
        """Return all that the bits of a training depend on, beside its seed and the machine."""
        print_ = array_fingerprint(data.first(training.rows).x_train)["sha256"]
        given = {"accelerator": self.accelerator, "x_train": print_}
        return given | {"training": training.describe()}

    def figures(self, folder: Path, epoch: int) -> dict[str, Any]:
        """Return the figures of a model and their seconds, {} if it is not measured."""
        path = _figures(folder, epoch)
        read = _read(path) if path.exists() else {}
        if read.pop("effort", None) != json.loads(to_json(self.plan.effort)):
            return {}  # with another effort they are measured again
        return read

    def found(self, seeds: tuple[int, ...]) -> Iterator[Found]:
        """Yield what is measured so far."""
        for training, seed, epoch in self.wanted(seeds, None, None):
            folder = self.folder(training, seed)
            if figures := self.figures(folder, epoch):
                history = History(history_of(folder).rows[:epoch])
                vae = VAE.load(model_path(folder, epoch))
                yield Found(
                    training, seed, epoch, history=history, vae=vae,
                    data=self.data(training.data), **figures,
                )  # fmt: skip

    def write(self, seeds: tuple[int, ...]) -> Outcome:
        """Write the results, and the picture if all is measured."""
        found = list(self.found(seeds))
        complete = len(found) == len(list(self.wanted(seeds, None, None)))
        claims = self.experiment.claims(found) if complete else []
        claims = [Claim(claim.text, bool(claim.holds)) for claim in claims]
        results = as_dict(self.experiment, found, claims, self.quick)
        text = table(self.experiment, found, self.quick)
        write_json(self.output / "results.json", results | {"complete": complete})
        with atomic_write(self.output / "table.md") as file:
            file.write(text.encode() + b"\n")
        if complete:
            from .. import plotting  # here, since it brings matplotlib

            plotting.save_figure(self.experiment.draw(found), self.output / "picture.png")
        return Outcome(found, claims, results | {"complete": complete}, text)


def _figures(folder: Path, epoch: int) -> Path:
    return folder / f"figures-{epoch:05}.json"


def _adopt(folder: Path, other: Path, settings: dict[str, Any], epoch: int) -> None:
    """Copy a model from the folder of another experiment, if its settings are these.

    The number of epochs may differ: unless training stops early, a model does not depend on those
    that follow.
    """
    source, target = model_path(other, epoch), model_path(folder, epoch)
    if target.exists() or not source.exists():
        return
    theirs, ours = _read(other / "settings.json"), json.loads(to_json(settings))
    if "patience" not in ours["training"]:
        for each in (theirs, ours):
            each["training"].pop("epochs", None)
    if theirs == ours:
        for path in (other / "checkpoint.npz", source):  # the model last
            with atomic_write(folder / path.name) as file:
                file.write(path.read_bytes())


def _agree(folder: Path, now: dict[str, Any], more: dict[str, Any] | None = None) -> None:
    """Write the settings of what is begun in a folder, or refuse others than it was begun with."""
    path, now = folder / "settings.json", json.loads(to_json(now))
    if not path.exists():
        write_json(path, now | (more or {}))
        return
    before = _read(path)
    for name, value in now.items():
        if before.get(name) != value:
            raise ValueError(
                f"{folder}: expected what was begun there, with {name} "
                f"{to_json(before.get(name))}, got {to_json(value)}; choose another folder with "
                "--output"
            )


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a file that reproduce wrote, got a damaged one ({error}); remove "
            "it, or choose another folder with --output"
        ) from None
