"""Functions that all figures share: colors, axes, labels, numbers, and saving to a file."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from ..support.files import atomic_write

__all__ = [
    "BLUE",
    "CLASSES",
    "GRAY",
    "GREEN",
    "MARKERS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "label_axes",
    "make_axes",
    "make_figure",
    "number",
    "save_figure",
]

# Okabe & Ito 2008, and a gray.
BLUE, VERMILLION, SKY, GRAY = "#0072B2", "#D55E00", "#56B4E9", "#8C8C8C"
ORANGE, GREEN, PURPLE = "#E69F00", "#009E73", "#CC79A7"
# The ten colors of Petroff 2021. The most similar color of each in the first row is below it; the
# classes of the second row have another marker.
CLASSES = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#a96b59"),
    *("#92dadd", "#e76300", "#832db6", "#717581", "#b9ac70"),
)
MARKERS = ("o",) * 5 + ("^",) * 5
_SETTINGS = threading.Lock()
_FORMATS: dict[
    str, dict[str, Any]
] = {  # no dates; more compression saves a few percent of a PNG and doubles the time
    ".png": {"pil_kwargs": {"compress_level": 3}},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}


def make_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches, made by pyplot if pyplot has been imported."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    new: Any = pyplot.figure if pyplot else Figure
    return new(figsize=(width, height), layout="none", facecolor="white")


def make_axes(
    ax: Axes | None, width: float, height: float, *, left: float, bottom: float, top: float,
    right: float = 0.2,
) -> Axes:  # fmt: skip
    """Return `ax`, or axes on a new figure with this size and these margins in inches."""
    if ax is not None:
        return ax
    figure = make_figure(width, height)
    size = (width - left - right) / width, (height - bottom - top) / height
    ax = figure.add_axes((left / width, bottom / height, *size))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def label_axes(ax: Axes, title: str, x: str = "", y: str = "") -> Axes:
    """Write the title and the labels of the axes; return `ax`."""
    # With a given y, matplotlib does not lay out all ticks again to find a place for the title.
    ax.set_title(title, loc="left", fontsize=11, y=1.0)
    ax.set(xlabel=x, ylabel=y)
    return ax


def number(value: float, decimals: int = 2) -> str:
    """Return a number as text for a reader, rounded, with a minus sign instead of a hyphen."""
    return f"{value:.{decimals}f}".replace("-", "−")


def save_figure(figure: Figure | Axes, path: str | os.PathLike, *, dpi: float = 150) -> None:
    """Save a figure by an atomic file write, and close it. Equal figures give equal bytes.

    Parameters
    ----------
    figure : Figure or Axes
        For an Axes, the whole figure that contains it is saved.
    path : path
        The suffix determines the format: .png, .svg or .pdf.
    dpi : float
        Pixels per inch.

    Raises
    ------
    TypeError, ValueError
        If `figure` is not a Figure or an Axes, or the suffix is not one of these.
    OSError
        If the folder does not exist or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "line.svg")
    ...     save_figure(Figure(figsize=(4, 3)), path)
    ...     path.stat().st_size > 0
    True
    """
    if not isinstance(figure, (Axes, FigureBase)):
        raise TypeError(f"figure: expected a Figure or an Axes, got {type(figure).__name__}")
    owner = figure.get_figure()
    if owner is None:
        raise ValueError("figure: expected Axes on a figure, got Axes removed from theirs")
    figure = owner.canvas.figure  # the whole figure, also for a subfigure
    suffix = Path(path).suffix.lower()
    try:
        if suffix not in _FORMATS:
            raise ValueError(f"path: expected a suffix .png, .svg or .pdf; got {str(path)!r}")
        # With a fixed salt the parts of an SVG have the same names every time. The settings belong
        # to the process: two threads that change and restore them must not overlap.
        salt: Any = {"svg.hashsalt": "numpyvae"}
        with _SETTINGS, matplotlib.rc_context(salt), atomic_write(path) as file:
            figure.savefig(file, format=suffix[1:], dpi=dpi, **_FORMATS[suffix])
    finally:
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close(figure)
