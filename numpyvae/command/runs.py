"""A run folder that is always whole: what a run writes, when, and what happens if it is killed.

A run works in the folder `unfinished` inside its run folder. There are its settings from the
start, and a checkpoint while it trains. When all results are written, they are moved into the run
folder itself, and take the place of those of an earlier run. So the run folder has the results of
one run, complete, or none.

Every file is written atomically. The moves are made in this order, so that a kill between any two
of them is seen, and the rest done, at the next start:

    unfinished → .finished     from here on the new results count
    the old results are removed
    .finished → .moving
    each file of .moving is moved; .moving is removed
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..support.files import TEMPORARY
from ..support.history import History
from ..support.locks import locked_folder, remove_unlocked
from ..support.strict_json import write_json
from ..support.versions import array_fingerprint
from .preparation import Prepared
from .usage import UsageError

__all__ = [
    "PICTURES",
    "RunFolder",
    "claimed",
    "fingerprint",
    "is_moving",
    "read_json",
    "recorded",
]

PICTURES = ("elbo.png", "latent_space.png", "reconstructions.png", "samples.png", "manifold.png")
RESULTS = ("settings.json", "model.npz", "history.csv", "summary.json", *PICTURES)
_CHECKPOINT = "checkpoint.npz"
_UNFINISHED, _FINISHED, _MOVING = "unfinished", ".finished", ".moving"


class RunFolder:
    """A run folder that this process alone writes to; `claimed` makes it.

    Attributes
    ----------
    path : Path
        The run folder.
    work : Path
        The folder inside it in which the run works until it is finished.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, claimed(Path(folder)) as run:
    ...     run.begin({"settings": {"epochs": 2}})
    ...     run.publish()
    ...     run.written()
    ['settings.json']
    """

    def __init__(self, path: Path) -> None:
        self.path, self.work = path, path / _UNFINISHED

    def is_unfinished(self) -> bool:
        """Tell whether there is a run that has begun and is not finished."""
        return (self.work / "settings.json").is_file()

    def written(self) -> list[str]:
        """Return the names of the results in the run folder, in the order of their writing."""
        return [name for name in RESULTS if (self.path / name).exists()]

    def refuse_another(self) -> None:
        """Raise UsageError if there is a run already, finished or not."""
        if self.is_unfinished():
            raise UsageError(
                f"{self.path}: expected a folder without a run, got an unfinished one "
                f"({self.progress()}); go on with --resume {self.path}, begin again with "
                "--overwrite, or choose another with --output"
            )
        if found := self.written():
            raise UsageError(
                f"{self.path}: expected a folder without a run, got one with {found[0]}; replace "
                "that run with --overwrite, or choose another with --output"
            )

    def progress(self) -> str:
        """Return how far the unfinished run is, in words."""
        epochs = dict(recorded(self.work).get("settings", {})).get("epochs", "?")
        history = self.load_checkpoint()
        return f"{0 if history is None else len(history)} of {epochs} epochs"

    def begin(self, record: dict[str, Any]) -> None:
        """Start a run: write its settings, in place of those of an unfinished run."""
        _clear(self.work)
        self.work.mkdir(exist_ok=True)
        self.write_json("settings.json", record)

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of the run as strict JSON."""
        write_json(self.work / name, value)

    def save_checkpoint(self, history: History) -> None:
        """Write what the run needs to go on."""
        history.save(self.work / _CHECKPOINT)

    def load_checkpoint(self) -> History | None:
        """Read what the run needs to go on; None if it has not come that far.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if not (self.work / _CHECKPOINT).exists():
            return None
        try:
            return History.load(self.work / _CHECKPOINT)
        except ValueError as error:
            raise ValueError(
                f"{error}; the run cannot go on: begin again with --overwrite"
            ) from None

    def discard(self) -> None:
        """Remove what the unfinished run has written."""
        _clear(self.work)

    def publish(self) -> None:
        """Move the results of the run into the run folder, in place of those of an earlier run."""
        os.replace(self.work, self.path / _FINISHED)
        self.settle()

    def settle(self) -> None:
        """Do what is left of `publish`, and remove what killed processes have left."""
        finished, moving = self.path / _FINISHED, self.path / _MOVING
        self._move(moving)
        if finished.exists():
            for name in RESULTS:
                (self.path / name).unlink(missing_ok=True)
            os.replace(finished, moving)
            self._move(moving)
        for folder in (self.path, self.work):
            remove_unlocked(folder, TEMPORARY)
        if not self.is_unfinished():
            _clear(self.work)

    def _move(self, moving: Path) -> None:
        if moving.exists():
            for name in RESULTS:
                if (moving / name).exists():
                    os.replace(moving / name, self.path / name)
            _clear(moving)


def _clear(folder: Path) -> None:
    """Remove the files of a run from `folder`, and the folder if nothing else is in it."""
    remove_unlocked(folder, TEMPORARY)
    for name in ("settings.json", _CHECKPOINT, *RESULTS):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it does not exist, or has files of somebody else's
        folder.rmdir()


@contextmanager
def claimed(path: Path) -> Iterator[RunFolder]:
    """Make the run folder if it does not exist, and keep other processes from writing to it.

    At the end, folders that were made here and are empty are removed again.

    Raises
    ------
    OSError
        If the folder cannot be made or written, or another process writes to it.
    """
    with locked_folder(path):
        _check_names(path)
        run = RunFolder(path)
        run.settle()
        yield run


def _check_names(path: Path) -> None:
    """Refuse a folder in which the name of a result is that of a folder."""
    for name in RESULTS:
        if (path / name).is_dir():
            raise IsADirectoryError(
                f"{path / name}: expected no folder with the name of a result, got one; "
                "rename it, or choose another folder with --output"
            )


def fingerprint(data: Prepared) -> dict[str, Any]:
    """Return the fingerprints of the prepared arrays, and the shape of an image.

    Examples
    --------
    >>> from numpyvae.command.preparation import prepare
    >>> fingerprint(prepare("digits", "bernoulli"))["x_train"]["shape"]
    [3823, 64]
    """
    return {
        "x_train": array_fingerprint(data.x_train),
        "x_test": array_fingerprint(data.x_test),
        "image_shape": None if data.image_shape is None else list(data.image_shape),
    }


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}: expected JSON, as train writes it, got {why}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, as train writes it, got {value!r:.60}")
    return value


def recorded(folder: Path) -> dict[str, Any]:
    """Return the contents of `settings.json` in a folder, {} if there is none."""
    file = folder / "settings.json"
    return read_json(file) if file.exists() else {}


def is_moving(path: Path) -> bool:
    """Tell whether the results of a run were being moved into its folder when it was killed.

    Examples
    --------
    >>> is_moving(Path("no such folder"))
    False
    """
    return (path / _FINISHED).exists() or (path / _MOVING).exists()
