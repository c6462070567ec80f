"""Learning curves: the ELBO and its terms during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..core.training import History
from .frames import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    label_axes,
    make_axes,
    make_figure,
    number,
)

__all__ = ["plot_curves", "plot_history", "plot_panels"]

_STYLES = ("-", "--", ":", "-.")
_COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GRAY)


def plot_history(history: History, *, ax: Axes | None = None) -> Axes:
    """Plot the ELBO and its two terms against the epoch.

    By Eq. (11), ELBO = reconstruction − KL, so the KL is the height of the band between the two
    curves. If there is a validation set, the solid curves and the band show its values, and dashed
    curves show those of the training set. If training maximizes another objective than the ELBO
    (L_K, or a KL with another weight), a dotted curve shows it for the training set.

    Parameters
    ----------
    history : History
        The values of at least one epoch, in nats per datapoint.

    Returns
    -------
    ax : Axes

    Raises
    ------
    ValueError
        If the history is empty.

    Examples
    --------
    >>> rows = [{"epoch": 1, "reconstruction": -20.0, "kl": 3.0, "elbo": -23.0}]
    >>> ax = plot_history(History(rows))
    >>> ax.get_ylabel()
    'nats per datapoint'
    """
    if len(history) == 0:
        raise ValueError("history: expected at least one epoch, got none; train with fit first")
    ax = make_axes(ax, 7, 4.2, left=0.85, bottom=0.6, top=0.4)
    columns = {
        name: np.array([row.get(name, np.nan) for row in history.rows])
        for prefix in ("", "valid_")
        for name in (f"{prefix}reconstruction", f"{prefix}elbo", f"{prefix}kl")
    }
    epoch, marker = history["epoch"], "o" if len(history) == 1 else None
    validated = "valid_elbo" in history.rows[-1]
    prefix = "valid_" if validated else ""
    upper, lower, kl = (columns[prefix + name] for name in ("reconstruction", "elbo", "kl"))
    band = ax.fill_between(epoch, lower, upper, color=SKY, alpha=0.3, linewidth=0)
    (top,) = ax.plot(epoch, upper, color=BLUE, linewidth=2, marker=marker)
    (bottom,) = ax.plot(epoch, lower, color=VERMILLION, linewidth=2, marker=marker)
    handles = [top, band, bottom]
    names = ("reconstruction", "KL", "ELBO")
    labels = [f"{name}  {number(y[-1])}" for name, y in zip(names, (upper, kl, lower))]
    if validated:
        for name, color in (("reconstruction", BLUE), ("elbo", VERMILLION)):
            ax.plot(epoch, columns[name], color=color, linewidth=1, dashes=(4, 2))
        handles.append(Line2D([], [], color="0.3", linewidth=1, dashes=(4, 2)))
        labels.append("training set")
    objective = [row.get("objective", row["elbo"]) for row in history.rows]
    if not np.allclose(objective, history["elbo"], rtol=1e-6):
        handles += ax.plot(epoch, objective, color="0.2", linewidth=1, dashes=(1, 1.5))
        labels.append(f"training objective  {number(objective[-1])}")
    legend: dict[str, Any] = {"loc": "lower right", "frameon": False, "alignment": "left"}
    ax.legend(handles, labels, title="at the last epoch", **legend)
    ax.locator_params(axis="x", integer=True)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    where = "validation" if validated else "training"
    title = f"ELBO = reconstruction − KL, {where} set"
    return label_axes(ax, title, "epoch", "nats per datapoint")


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    title: str = "",
    log: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Plot several curves with a legend; they differ in color, in style and in marker.

    Parameters
    ----------
    curves : mapping of str to (x, y)
        The points of each curve, by its name in the legend.
    x, y, title : str
        The labels of the axes, and the title.
    log : {"", "x", "xy"}
        The axes that are logarithmic.

    Returns
    -------
    ax : Axes

    Raises
    ------
    ValueError
        If there is no curve.

    Examples
    --------
    >>> ax = plot_curves({"AEVB": ([1, 2], [-3.0, -2.0])}, x="epoch", y="ELBO (nats)")
    >>> len(ax.lines)
    1
    """
    if not curves:
        raise ValueError("curves: expected at least one, got none")
    ax = make_axes(ax, 7, 4.2, left=0.85, bottom=0.6, top=0.4)
    for i, (name, (across, up)) in enumerate(curves.items()):
        style: dict[str, Any] = {"color": _COLORS[i % len(_COLORS)], "label": name}
        few = len(across) <= 20
        style |= {
            "linestyle": _STYLES[i % len(_STYLES)],
            "marker": "osv^D"[i % 5] if few else None,
        }
        ax.plot(across, up, linewidth=1.8, markersize=5, **style)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=9)
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    return label_axes(ax, title, x, y)


def plot_panels(panels: Mapping[str, Callable[[Axes], Any]], columns: int = 2) -> Figure:
    """Draw several pictures beside each other, each with its title.

    Parameters
    ----------
    panels : mapping of str to callable
        `draw(ax)` for each title.
    columns : int

    Returns
    -------
    figure : Figure
        At most 7 inches wide.

    Examples
    --------
    >>> curve = {"AEVB": ([1, 2], [-3.0, -2.0])}
    >>> draw = lambda ax: plot_curves(curve, x="epoch", y="ELBO (nats)", ax=ax)
    >>> len(plot_panels({"one": draw, "two": draw}).axes)
    2
    """
    rows = -(-len(panels) // columns)
    figure = make_figure(7, 0.3 + 7 / columns * rows)
    figure.set_layout_engine("constrained")
    for i, (title, draw) in enumerate(panels.items()):
        ax = figure.add_subplot(rows, columns, i + 1)
        draw(ax)
        ax.set_title(title, loc="left", fontsize=10)
    return figure
