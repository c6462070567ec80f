"""What the commands read from a run folder: the model, its settings, the shape of its images."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from ..support.versions import array_fingerprint
from .parser import OF_DATA, OF_RUN
from .preparation import Prepared
from .runs import RunFolder, is_moving, read_json, recorded
from .settings import OPTIONS, read_settings

__all__ = ["changed_data", "image_shape", "model_file", "settings_from", "take_settings_of_run"]


def model_file(path: Path) -> Path:
    """Return the file of a model, which is `model.npz` in a run folder.

    Raises
    ------
    FileNotFoundError
        If the folder has none.
    """
    if not path.is_dir():
        return path
    file, run = path / "model.npz", RunFolder(path)
    if file.is_file() and not is_moving(path):
        return file
    got, remedy = "none", f"train --output {path} writes one"
    if is_moving(path) or run.is_unfinished():
        done = "all epochs" if is_moving(path) else run.progress()
        got, remedy = f"an unfinished run ({done})", f"train --resume {path} finishes it"
    raise FileNotFoundError(f"{path}: expected a run folder with model.npz, got {got}; {remedy}")


def settings_from(file: Path) -> dict[str, Any]:
    """Return the settings of an earlier run from its folder or its `settings.json`.

    They are those that were given: what `train` found from the data or from the estimator, it
    finds again.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or has no settings of this version.
    """
    if file.is_dir():
        folders = [file, RunFolder(file).work]
        file = next((f for f in folders if recorded(f)), file) / "settings.json"
    record = read_json(file)
    found = read_settings(record.get("settings"), file)
    return found | read_settings(record.get("as_given", {}), file)


def take_settings_of_run(args: Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Set the options that were not given to those of the run.

    If data are named, the settings of the data are the defaults.

    Returns
    -------
    settings : dict
        Those of the run; empty if there is none.
    traits : dict
        What a run recorded of its data; empty if data are named.
    """
    record = recorded(args.model) if args.model.is_dir() else {}
    saved: dict[str, Any] = {}
    if record:
        saved = read_settings(record.get("settings"), args.model / "settings.json")
    of_run, named = dict(saved), hasattr(args, "dataset")
    if args.bounds is not None:
        saved.pop("test_rows", None)  # the bounds have their own default
    if named:
        saved = {name: value for name, value in saved.items() if name not in OF_DATA}
        record = {}
    for name in (*OF_RUN, "eval_importance"):
        if not hasattr(args, name):
            setattr(args, name, saved.get(name, OPTIONS[name].default))
    return of_run, dict(record.get("data", {}))


def changed_data(before: dict[str, Any], data: Prepared) -> bool:
    """Tell whether the test rows are others than `before`, what a run recorded, if anything."""
    return "x_test" in before and before["x_test"] != array_fingerprint(data.x_test)


def image_shape(path: Path) -> tuple[int, int] | None:
    """Return the shape of the images that a run was trained on, if it was on images.

    Examples
    --------
    >>> image_shape(Path("no such run")) is None
    True
    """
    shape = dict(recorded(path).get("data", {})).get("image_shape")
    return None if shape is None else (shape[0], shape[1])
