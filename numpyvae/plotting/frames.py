"""What all pictures share: colors, frames, words, and the file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from ..support.files import atomic_write

__all__ = [
    "BLUE",
    "CLASSES",
    "GRAY",
    "GREEN",
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
CLASSES = (  # Petroff 2021: ten colors apart in normal vision and the three kinds of blindness
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
_FORMATS = {  # without dates; a PNG packed harder is a few per cent smaller and twice as slow
    ".png": {"pil_kwargs": {"compress_level": 3}},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}


def make_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches: pyplot's own, if pyplot is there to show it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    new = pyplot.figure if pyplot else Figure
    return new(figsize=(width, height), layout="none", facecolor="white")


def make_axes(
    ax: Axes | None, width: float, height: float, *, left: float, bottom: float, top: float,
    right: float = 0.2,
) -> Axes:  # fmt: skip
    """Return `ax`, or one on a new figure with these sizes and margins in inches."""
    if ax is not None:
        return ax
    figure = make_figure(width, height)
    box = (left, bottom, width - left - right, height - bottom - top)
    ax = figure.add_axes(np.divide(box, (width, height, width, height)))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def label_axes(ax: Axes, title: str, x: str = "", y: str = "") -> Axes:
    """Write the title and what the axes measure, with units; return `ax`."""
    # A place that is given: to search for one, matplotlib would lay out all ticks once more.
    ax.set_title(title, loc="left", fontsize=11, y=1.0)
    ax.set(xlabel=x, ylabel=y)
    return ax


def number(value: float, decimals: int = 2) -> str:
    """Return a number for a reader: few decimals and a true minus."""
    return f"{value:.{decimals}f}".replace("-", "−")


def save_figure(figure: Figure | Axes, path: str | os.PathLike, *, dpi: float = 150) -> None:
    """Write a figure, all or nothing, and close it. Equal figures give equal bytes.

    Parameters
    ----------
    figure : Figure or Axes
        With an Axes, the whole figure that holds it.
    path : path
        Its suffix is the format: .png, .svg or .pdf.
    dpi : float
        Pixels an inch.

    Raises
    ------
    TypeError, ValueError
        If `figure` is neither, or the suffix is another.
    OSError
        If the folder does not exist or cannot be written.

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
    figure = figure.get_figure().canvas.figure  # the whole, also of a part of a figure
    suffix = Path(path).suffix.lower()
    try:
        if suffix not in _FORMATS:
            raise ValueError(f"path: expected a suffix .png, .svg or .pdf; got {str(path)!r}")
        # The salt names the parts of an SVG, which are otherwise named by chance.
        with matplotlib.rc_context({"svg.hashsalt": "numpyvae"}), atomic_write(path) as file:
            figure.savefig(file, format=suffix[1:], dpi=dpi, **_FORMATS[suffix])
    finally:
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close(figure)
