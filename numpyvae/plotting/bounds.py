"""Figures of bounds on log p(x), and of the two terms of the ELBO as rate and distortion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ..bounds.compare import KINDS, Comparison
from ..diagnostics import RateDistortion
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

__all__ = ["plot_bounds", "plot_comparisons", "plot_rate_distortion"]

# If the lines of AIS and reverse AIS coincide, each fills the spaces of the other.
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "ais": ("AIS", {"color": SKY, "linewidth": 2, "linestyle": (0, (3, 3))}),
    "reverse-ais": ("reverse AIS", {"color": ORANGE, "linewidth": 2, "linestyle": (3, (3, 3))}),
    "exact": ("log p(x)", {"color": "black", "linewidth": 1}),
    "elbo": ("ELBO", {"color": VERMILLION, "linewidth": 2}),
    "eubo": ("EUBO", {"color": PURPLE, "linewidth": 2, "dashes": (5, 2)}),
    "cubo": ("CUBO from K draws", {"color": GRAY, "linewidth": 2, "dashes": (2, 1)}),
    "appendix-d": ("appendix D", {"color": GREEN, "linewidth": 2, "dashes": (1, 1)}),
}
_FRAME = ("ais", "reverse-ais", "exact", "elbo", "iwae")  # these set the range of the y axis


def plot_bounds(
    comparison: Comparison, *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Plot the bounds of `compare_bounds`: L_k against k, the others as horizontal lines.

    Each value is a mean over the datapoints. Standard errors are not drawn: they come mainly from
    the differences between datapoints, which are the same for all bounds. An EUBO, CUBO or
    appendix-D estimate far from the other values appears only in the legend, with an arrow.

    Parameters
    ----------
    comparison : Comparison
    title : str, optional
        The title of the axes; by default it states the number of datapoints.

    Returns
    -------
    ax : Axes

    Examples
    --------
    >>> from numpyvae import VAE, bounds
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> found = bounds.compare_bounds(vae, vae.sample(5), ["elbo", "iwae"], n_importance=20)
    >>> plot_bounds(found).get_xscale()
    'log'
    """
    ax = make_axes(ax, 7, 4.2, left=0.85, bottom=0.6, top=0.4)
    estimates = comparison.estimates
    means = {name: estimate.mean[0] for name, estimate in estimates.items()}
    handles, labels = {}, {}
    for name, (words, style) in _LINES.items():
        if name in means:
            handles[name] = ax.axhline(means[name], **style)
            labels[name] = f"{words}, {KINDS[name]}  {number(means[name], 3)}"
    largest = 100
    if curve := estimates["iwae"].curve if "iwae" in estimates else None:
        k, values = curve.n_importance, curve.values.mean(axis=1)
        (handles["iwae"],) = ax.plot(k, values, "o-", color=BLUE, linewidth=2, markersize=5)
        labels["iwae"] = f"$L_k$, {KINDS['iwae']}  {number(values[-1], 3)} at k = {k[-1]}"
        means["L_1"], largest = values[0], max(int(k[-1]), 10)
    shown = [mean for name, mean in means.items() if name in (*_FRAME, "L_1")] or [*means.values()]
    bottom, top = min(shown), max(shown)
    space = 0.12 * (top - bottom) or 0.5
    ax.set(ylim=(bottom - space, top + 1.5 * space), xlim=(0.9, 1.1 * largest), xscale="log")
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    for name, mean in means.items():
        if not bottom - space <= mean <= top + 1.5 * space:
            labels[name] += "  ↑" if mean > top else "  ↓"
    order = sorted(handles, key=lambda name: -estimates[name].mean[0])
    ax.legend(
        [handles[name] for name in order],
        [labels[name] for name in order],
        loc="lower right",
        bbox_to_anchor=(1.0, 0.14),
        facecolor="white",
        edgecolor="none",
        fontsize=9,
    )
    n = comparison.n_rows
    title = title or f"Bounds on log p(x), mean of {n} datapoint{'s' * (n > 1)}"
    return label_axes(ax, title, "k, importance samples", "nats per datapoint")


def plot_comparisons(parts: Mapping[str, Comparison]) -> Figure:
    """Plot comparisons one above the other with the same scale: test data, and simulated data.

    Parameters
    ----------
    parts : mapping of str to Comparison
        The comparisons by name: "test" and "simulated", or one of them.

    Returns
    -------
    figure : Figure

    Raises
    ------
    ValueError
        If there is no comparison.

    Examples
    --------
    >>> from numpyvae import VAE, bounds
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, z = bounds.simulate(vae, 5)
    >>> found = bounds.compare_bounds(vae, x, ["elbo", "eubo"], posterior=z)
    >>> len(plot_comparisons({"simulated": found}).axes)
    1
    """
    if not parts:
        raise ValueError("parts: expected at least one comparison, got none")
    height = 3.9 * len(parts)
    figure = make_figure(7, height)
    axes = figure.subplots(len(parts), squeeze=False)[:, 0]
    figure.subplots_adjust(0.85 / 7, 0.6 / height, 0.97, 1 - 0.4 / height, hspace=0.33)
    for ax, (part, comparison) in zip(axes, parts.items()):
        ax.spines[["top", "right"]].set_visible(False)
        title = f"{_TITLES.get(part, part)}: bounds on log p(x), mean of {comparison.n_rows}"
        plot_bounds(comparison, ax=ax, title=title)
    # The same scale: equal gaps have equal heights in both panels.
    span = max(np.ptp(ax.get_ylim()) for ax in axes)
    for ax in axes:
        middle = np.mean(ax.get_ylim())
        ax.set_ylim(middle - span / 2, middle + span / 2)
    return figure


_TITLES = {
    "test": "Test data",
    "simulated": "Simulated data, with exact posterior draws",
}


def plot_rate_distortion(
    points: Sequence[RateDistortion],
    labels: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot the distortion of models against their rate, with one point for each model.

    A thin line joins points of equal ELBO = −(rate + distortion). The points are joined in the
    order of their rates, for example for models that were trained with different weights of the
    KL. Error bars are standard errors over the datapoints.

    Parameters
    ----------
    points : sequence of RateDistortion
    labels : sequence of str, optional
        One label for each point, for example "β = 2".

    Returns
    -------
    ax : Axes

    Raises
    ------
    ValueError
        If there is no point, or the number of labels is not the number of points.

    Examples
    --------
    >>> from numpyvae import VAE, diagnostics
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> point = diagnostics.rate_distortion(vae, vae.sample(5))
    >>> plot_rate_distortion([point], ["untrained"]).get_xlabel()
    'rate, nats per datapoint'
    """
    if len(points) == 0:
        raise ValueError("points: expected at least one RateDistortion, got none")
    if labels is not None and len(labels) != len(points):
        raise ValueError(
            f"labels: expected one for each of {len(points)} points, got {len(labels)}"
        )
    ax = make_axes(ax, 7, 4.6, left=0.85, bottom=0.6, top=0.4)
    (rate, rate_error), (distortion, distortion_error) = (
        np.array([getattr(p, name) for p in points]).T for name in ("rate", "distortion")
    )
    order = np.argsort(rate, kind="stable")
    ax.errorbar(
        rate[order],
        distortion[order],
        distortion_error[order],
        rate_error[order],
        fmt="o-",
        color=BLUE,
        linewidth=2,
        markersize=6,
        clip_on=False,  # a rate of 0 is on the axis
    )
    for x, y, label in zip(rate, distortion, labels or ()):
        place: dict[str, Any] = {"xytext": (7, 5), "textcoords": "offset points"}
        ax.annotate(label, (x, y), fontsize=9, **place)
    ax.margins(0.18, 0.12)
    ax.set_xlim(left=max(0, ax.get_xlim()[0]))  # a rate is a KL
    _equal_elbo(ax)
    title = "Rate and distortion; thin lines: equal ELBO"
    unit = "nats per datapoint"
    return label_axes(ax, title, f"rate, {unit}", f"distortion, {unit}")


def _equal_elbo(ax: Axes) -> None:
    """Draw the lines rate + distortion = −ELBO for round values of the ELBO."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    least, most = left + bottom, right + top
    step = _round_step((most - least) / 9)
    for total in np.arange(np.ceil(least / step) * step, most, step):
        ax.plot([left, right], [total - left, total - right], color="0.8", linewidth=0.8, zorder=0)
        # The label is at the lower right end of the line: no curve is in this margin.
        x = min(total - bottom, right - 0.05 * (right - left))
        ax.annotate(
            f"{-total:g}".replace("-", "−"),
            (x, total - x),
            xytext=(4, 1),
            textcoords="offset points",
            color="0.4",
            fontsize=8,
            va="bottom",
            annotation_clip=True,
        )
    ax.set(xlim=(left, right), ylim=(bottom, top))


def _round_step(length: float) -> float:
    """Return the smallest number of the form 1, 2 or 5 times 10^k that is at least `length`."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= length))
