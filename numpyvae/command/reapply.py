"""The data of a saved model: the preparation that it was trained with, applied to other rows."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..datasets.reading import RawData, with_columns
from ..datasets.tables import is_text
from ..support.checks import warn_caller
from ..support.preparation import Preparation
from .preparation import (
    DATASETS,
    Prepared,
    check_maximum,
    check_range,
    draw_outcomes,
    is_binary,
    load,
    prepare,
    with_classes,
)
from .usage import UsageError

__all__ = [
    "Request",
    "chosen_preparation",
    "compare_scales",
    "data_for",
    "prepare_like",
    "raw_like",
    "request_of",
    "x_like",
]


@dataclass(frozen=True)
class Request:
    """Which rows a command is given, by its options.

    Attributes
    ----------
    dataset : str
    folder : str or None
    maximum : float or None
    label_column, delimiter : str or None
    """

    dataset: str
    folder: str | None = None
    maximum: float | None = None
    label_column: str | None = None
    delimiter: str | None = None


def request_of(args: Any) -> Request:
    """Return the request that the options of a command make."""
    return Request(**{f.name: getattr(args, f.name) for f in fields(Request)})


def data_for(vae: VAE, request: Request, run: dict[str, Any], named: bool) -> Prepared:
    """Return the test rows for a saved model: of the source that is named, else of its run.

    Parameters
    ----------
    vae : VAE
    request : Request
    run : dict
        The settings of the run; empty if they are not known.
    named : bool
        Whether the source was named, and not taken from the run.

    Raises
    ------
    UsageError, OSError, ValueError
        As `prepare_like`.
    """
    if run and not named:
        names = ("scale", "columns", "label_column", "delimiter")
        options = {name: run.get(name) for name in names}
        return prepare(request.dataset, vae.likelihood, request.maximum, request.folder, **options)
    if run and _same_file(run["dataset"], request.dataset):
        warn_caller(
            f"{request.dataset}: all rows are measured, and most of them were in the training "
            "set; without --dataset the rows that it held out are measured"
        )
    return prepare_like(vae, request)


def _same_file(a: str, b: str) -> bool:
    try:
        return a not in DATASETS and b not in DATASETS and os.path.samefile(a, b)
    except OSError:
        return False


def prepare_like(vae: VAE, request: Request) -> Prepared:
    """Return the test rows of a source, prepared as the model's training rows were.

    A source with a test part gives that part; a named data set too. Another file gives all rows.

    Parameters
    ----------
    vae : VAE
    request : Request

    Raises
    ------
    UsageError
        If the maximum is not that of the training, or the rows have another width.
    OSError, ValueError
        If the data cannot be read, or the model cannot have them.
    """
    raw = raw_like(vae, request)
    if raw.x_test is not None:
        test, labels = raw.x_test, raw.y_test
    else:
        test, labels = raw.x_train, raw.y_train
    raw = replace(raw, x_train=test, y_train=labels, x_valid=None, x_test=None, y_test=None)
    p = chosen_preparation(vae, raw, request)
    compare_scales(vae, raw, p)
    x = x_like(vae, raw, p)
    return with_classes(
        Prepared(
            name=raw.name,
            likelihood=vae.likelihood,
            maximum=p.maximum,
            x_train=x[:0],
            x_test=x,
            labels_test=labels,
            image_shape=raw.image_shape or p.image_shape,
            transform=None,
            preparation=p,
        )
    )


def raw_like(vae: VAE, request: Request) -> RawData:
    """Return the raw rows of a source, in the columns that the model was trained on."""
    p = vae.preparation
    options = {"label_column": request.label_column, "delimiter": request.delimiter}
    table = request.dataset not in DATASETS and is_text(Path(request.dataset))
    if p is not None and table and p.names is not None:
        # By name, so that columns that are not used may be anything; without them, by position.
        try:
            raw = load(request.dataset, request.folder, **options, columns=list(p.names))
        except ValueError as error:
            if "expected columns among" not in str(error):
                raise
            raw = load(request.dataset, request.folder, **options)
    else:
        raw = load(request.dataset, request.folder, **options)
    if p is not None:
        raw = _positioned(raw, p)
    width = raw.x_train.shape[1]
    if width != vae.data_dim:
        raise UsageError(
            f"--dataset: expected rows of {vae.data_dim} values, as the model was trained on, "
            f"got {width} in {request.dataset}; name the model's data with --dataset"
        )
    return raw


def _positioned(raw: RawData, p: Preparation) -> RawData:
    """Return the used columns in the order of the training."""
    used = p.positions(raw.x_train.shape[1], raw.names, raw.name)
    if used is None or used == list(range(raw.x_train.shape[1])):
        return raw
    return replace(with_columns(raw, used), names=p.names)


def chosen_preparation(vae: VAE, raw: RawData, request: Request) -> Preparation:
    """Return the model's preparation; of an old model, what `--maximum` says."""
    p, reading = vae.preparation, vae.likelihood.reading
    given = request.maximum
    if p is None:
        known = raw.maximum if given is None else given
        check_maximum(raw.name, raw, given)
        scaled = reading != "values" and known is not None and not is_binary(raw)
        return Preparation.fitted(
            raw.x_train,
            "maximum" if scaled else "none",
            maximum=known if scaled else 1.0,
            reading=reading,
            binarize=reading == "outcomes" and not is_binary(raw),
        )
    if reading == "outcomes" and p.scale == "none" and not is_binary(raw):
        # Trained on outcomes, and given grays.
        known = given or raw.maximum or 1.0
        return replace(p, scale="maximum", maximum=known, binarize=True)
    if given is not None and reading != "values" and given != p.maximum:
        raise UsageError(
            f"--maximum: expected {p.maximum:g}, with which the model was trained, got {given:g}; "
            "leave it out: the model file keeps it"
        )
    if reading == "outcomes" and is_binary(raw):
        return replace(p, scale="none", maximum=1.0, binarize=False)
    return p


def compare_scales(vae: VAE, raw: RawData, p: Preparation) -> None:
    """Warn, with both ranges, about data of another scale than those of the training."""
    if p.reading == "outcomes":
        return  # they are compared with the maximum
    kept = vae.preparation
    if kept is not None:
        text = kept.difference(raw.x_train)
    else:
        text = _unlike_the_model(vae, p.apply(raw.x_train))
    if text is not None:
        warn_caller(
            f"{raw.name}: {text}; log p(x) is that of data on another scale: bring the file to "
            "the scale of the training data"
        )


def _unlike_the_model(vae: VAE, x: np.ndarray) -> str | None:
    """Compare data with draws of a model that does not keep its preparation."""
    drawn = vae.sample(200, seed=0)
    low, high = float(drawn.min()), float(drawn.max())
    span = max(high - low, float(np.finfo(np.float32).tiny))
    if x.min() > low - 3 * span and x.max() < high + 3 * span:
        return None
    return (
        f"values from {x.min():g} to {x.max():g}, where the model gives {low:g} to {high:g}; if "
        "they were divided by a maximum in the training, give it with --maximum"
    )


def x_like(vae: VAE, raw: RawData, p: Preparation) -> np.ndarray:
    """Return the training part of `raw` as the model reads it: scaled, or outcomes drawn."""
    if p.binarize:
        check_range(replace(raw, x_valid=None, x_test=None), p.maximum)
        return draw_outcomes(raw.x_train, p.maximum)
    x = p.apply(raw.x_train) if p.reading == "fractions" else raw.x_train
    vae.likelihood.check(x, raw.name)
    return x
