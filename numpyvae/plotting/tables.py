"""Rows of tables: bars for a few columns, curves for many. They are no images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..core.vae import VAE
from ..support.checks import check_count, check_rows, check_vae
from .frames import BLUE, SKY, VERMILLION, label_axes, make_axes

__all__ = ["plot_row_samples", "plot_rows"]

_BARS = 24  # with more columns, rows are curves


def plot_rows(
    vae: VAE, x: Any, *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a few rows of a table, and the mean of p_θ(x|z) at z = μ(x) for each.

    Parameters
    ----------
    vae : VAE
    x : (B, D) array_like
        The rows to draw: a few, as `x_test[:6]`.
    names : sequence of str, optional
        The names of the columns.
    ax : Axes, optional

    Returns
    -------
    ax : Axes
        The rows stand below each other, each around a line of its own at 0.

    Raises
    ------
    TypeError, ValueError
        If `x` or `names` does not fit the model.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(8,), likelihood="gaussian:0.5")
    >>> ax = plot_rows(vae, np.eye(4))
    >>> ax.get_title(loc="left")
    'Rows of the data, and their reconstructions'
    """
    check_vae(vae)
    x = check_rows(x, vae.data_dim, dtype=vae.dtype)
    means = vae.reconstruct(x)
    ax = _frame(ax, len(x), names, vae.data_dim)
    step = 2.2 * max(float(np.abs(x).max()), float(np.abs(means).max()), 1e-9)
    at = np.arange(1, vae.data_dim + 1)
    for i in range(len(x)):
        base = -i * step
        ax.axhline(base, color="0.85", linewidth=0.8, zorder=0)
        first = i == 0
        if vae.data_dim <= _BARS:
            ax.bar(at - 0.2, x[i], 0.4, base, color=SKY, label="data" if first else None)
            label = "reconstruction" if first else None
            ax.bar(at + 0.2, means[i], 0.4, base, color=VERMILLION, label=label)
        else:
            ax.plot(at, base + x[i], color=BLUE, linewidth=1, label="data" if first else None)
            label = "reconstruction" if first else None
            ax.plot(at, base + means[i], color=VERMILLION, linewidth=1, dashes=(4, 2), label=label)
    ax.set_yticks([-i * step for i in range(len(x))], [f"row {i + 1}" for i in range(len(x))])
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
    unit = f"x; the rows are {step:.2g} apart"
    return label_axes(ax, "Rows of the data, and their reconstructions", "column", unit)


def plot_row_samples(
    vae: VAE,
    *,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    n: int = 200,
    seed: int = 0,
) -> Axes:
    """Draw what the model makes up, column by column: quantiles of draws x ~ p(x), and a few.

    Parameters
    ----------
    vae : VAE
    names : sequence of str, optional
        The names of the columns.
    ax : Axes, optional
    n : int
        Number of draws.
    seed : int

    Returns
    -------
    ax : Axes

    Raises
    ------
    TypeError, ValueError
        If `n` or `seed` is not a whole number in range, or `names` does not fit the model.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(8,), likelihood="gaussian:0.5")
    >>> ax = plot_row_samples(vae, n=50)
    >>> ax.get_ylabel()
    'value of x'
    """
    check_vae(vae)
    x = vae.sample(check_count("n", n), seed)
    ax = _frame(ax, 3, names, vae.data_dim)
    at = np.arange(1, vae.data_dim + 1)
    low, q1, middle, q3, high = np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    if vae.data_dim <= _BARS:
        ax.vlines(at, low, high, color=BLUE, linewidth=1, label="5 % to 95 %")
        ax.bar(at, q3 - q1, 0.5, q1, color=SKY, label="25 % to 75 %")
        ax.plot(at, middle, "_", color=BLUE, markersize=14, label="median")
        style: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none"}
    else:
        ax.fill_between(at, low, high, color=SKY, alpha=0.3, linewidth=0, label="5 % to 95 %")
        ax.plot(at, middle, color=BLUE, linewidth=1.5, label="median")
        style = {"linewidth": 0.8}
    for i, row in enumerate(x[:3]):
        ax.plot(at, row, color=VERMILLION, label="three draws" if i == 0 else None, **style)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8)
    return label_axes(ax, "Samples", "column", "value of x")


def _frame(ax: Axes | None, rows: int, names: Sequence[str] | None, D: int) -> Axes:
    """Return axes with a place for each of D columns, with their names if there is room."""
    if names is not None and len(names) != D:
        raise ValueError(f"names: expected {D} names, one for each column, got {len(names)}")
    long = names is not None and D <= _BARS and max(map(len, names)) * D > 60
    bottom = 1.3 if long else 0.6
    ax = make_axes(ax, 7, min(9.0, 1.2 + bottom + 0.8 * rows), left=0.85, bottom=bottom, top=0.5)
    if D <= _BARS:
        words = [str(i) for i in range(1, D + 1)] if names is None else [_short(n) for n in names]
        ax.set_xticks(range(1, D + 1), words)
        if long:
            ax.tick_params(axis="x", rotation=60)
    else:
        ax.locator_params(axis="x", integer=True)
    margin = max(0.6, 0.01 * D)
    ax.set_xlim(1 - margin, D + margin)
    ax.spines["left"].set_visible(True)
    ax.set_axisbelow(True)
    return ax


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"
