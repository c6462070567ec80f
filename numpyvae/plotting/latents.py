"""Figures of the latent space: the posterior means, and the KL of each latent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke

from ..core.distributions import gaussian_kl
from ..core.vae import VAE
from ..diagnostics import active_units
from ..support.checks import check_vae
from .frames import BLUE, CLASSES, GRAY, MARKERS, SKY, VERMILLION, label_axes, make_axes, number

__all__ = ["plot_active_units", "plot_latent_space"]


def plot_latent_space(vae: VAE, x: Any, labels: Any = None, *, ax: Axes | None = None) -> Axes:
    """Plot the posterior means μ(x) of the two latents whose means vary most with x.

    The circles contain 50 % and 95 % of the prior, the distribution from which `VAE.sample` draws.
    If many posterior means are outside, or a part of the circles is empty, samples of the model
    differ from the data. If J = 1, the figure is a histogram, or with labels one row of marks for
    each class.

    Parameters
    ----------
    labels : (N,) array_like, optional
        A class or a number for each row of x. Up to ten classes have one color each; more than ten
        must be numbers, which are shown by a color scale.

    Returns
    -------
    ax : Axes
        The legend or the color scale is on its right.

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(8,))
    >>> ax = plot_latent_space(vae, np.eye(64), np.arange(64) % 2)
    >>> ax.get_title(loc="left")
    'Posterior means μ(x)'
    """
    check_vae(vae)
    mu, _ = vae.encode(x)
    labels = None if labels is None else _check_labels(labels, len(mu))
    if vae.latent_dim == 1:
        return _latent_line(mu[:, 0], labels, ax)
    # The latent with the largest variance first; if there are only two, in their own order.
    pair = [0, 1] if vae.latent_dim == 2 else np.argsort(-mu.var(axis=0), kind="stable")[:2]
    i, j = map(int, pair)
    mu = mu[:, [i, j]]
    right = 0.25 if labels is None else 0.85
    ax = make_axes(ax, 6 + right, 6.25, left=0.8, right=right, bottom=0.65, top=0.4)
    reach = max(2.7, 1.04 * float(np.abs(mu).max()))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    for probability, dashes in ((0.5, (1, 2)), (0.95, (4, 2))):
        # P(|z| < r) = 1 − exp(−r²/2) in two dimensions.
        radius = math.sqrt(-2 * math.log(1 - probability))
        circle = Circle((0, 0), radius, fill=False, color="0.35", linewidth=1, zorder=3)
        circle.set_linestyle((0, dashes))
        ax.add_patch(circle)
    words = "circles: 50 % and 95 % of the prior p(z)"
    ax.text(0.015, 0.015, words, transform=ax.transAxes, fontsize=9, color="0.2")
    _scatter(ax, mu, labels)
    most = "" if vae.latent_dim == 2 else f", the two most active of {vae.latent_dim} latents"
    unit = "prior standard deviations"
    return label_axes(ax, f"Posterior means μ(x){most}", f"μ[{i}]  ({unit})", f"μ[{j}]  ({unit})")


def plot_active_units(
    vae: VAE, x: Any, *, ax: Axes | None = None, threshold: float = 0.01
) -> Axes:
    """Plot the KL of each latent, the largest first, and mark the collapsed latents.

    KL(q_φ(z|x) ‖ p(z)) is a sum over latents (Kingma & Welling 2013, appendix B). Each bar is the
    mean over x for one latent, so the bars add up to the KL of Eq. (11). A latent j with
    Var(μ_j) ≤ threshold has collapsed to the prior (Burda et al. 2015, §5.2); a ring marks it.

    Parameters
    ----------
    threshold : float
        As in `active_units`.

    Returns
    -------
    ax : Axes

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(8,))
    >>> ax = plot_active_units(vae, np.eye(64))
    >>> ax.get_xlabel()
    'latent j, largest KL first'
    """
    active = active_units(vae, x, threshold)
    mu, logvar = vae.encode(x)
    kl, _ = gaussian_kl(mu[..., None], logvar[..., None])  # (N, J): not summed over latents
    kl = kl.mean(axis=0, dtype=float)
    order = np.argsort(-kl, kind="stable")
    J = len(kl)
    ax = make_axes(ax, 7, 3.6, left=0.85, bottom=0.6, top=0.4)
    place, height = np.arange(J), kl[order]
    ax.bar(place, height, color=np.where(active[order], BLUE, GRAY), width=0.8)
    # The bar of a collapsed latent can be too low to be visible; the ring is always visible.
    collapsed = ~active[order]
    rings: dict[str, Any] = {"marker": "o", "color": GRAY, "fillstyle": "none", "linestyle": ""}
    top = kl.max() or 1.0
    ax.plot(place[collapsed], height[collapsed] + 0.03 * top, **rings)
    ax.legend(
        [Patch(color=BLUE), Line2D([], [], **rings)],
        [f"{active.sum()} active: Var(μ) > {threshold:g}", f"{collapsed.sum()} collapsed"],
        frameon=False,
        loc="upper right",
    )
    ax.set_ylim(0, 1.3 * top)  # space for the legend
    step = math.ceil(J / 25)  # at most 25 numbers fit
    ax.set_xticks(np.arange(0, J, step), [str(j) for j in order[::step]])
    ax.set_xlim(-0.7, max(J, 4) - 0.3)
    title = f"KL(q(z|x) ‖ p(z)) = {number(kl.sum())} nats, by latent"
    return label_axes(ax, title, "latent j, largest KL first", "KL, nats per datapoint")


def _check_labels(labels: Any, count: int) -> np.ndarray:
    """Return the labels (N,) after a check: numbers, or at most ten classes."""
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(
            f"labels: expected shape ({count},), one for each row of x, got {labels.shape}"
        )
    if labels.dtype.kind not in "buifU":
        raise TypeError(
            f"labels: expected numbers or texts, got dtype {labels.dtype}; "
            "convert them with numpy.asarray(labels, dtype=str)"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("labels: expected finite numbers, got NaN or infinity")
    if labels.dtype.kind == "U" and (classes := len(np.unique(labels))) > len(CLASSES):
        raise ValueError(
            f"labels: expected numbers or at most {len(CLASSES)} classes, got {classes}; "
            "color-blind readers cannot distinguish more colors"
        )
    return labels


def _scatter(ax: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Draw points (N, 2), colored by class or by value; many points are drawn smaller."""
    size = min(20.0, max(1.0, 25_000 / len(points)))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.85}
    classes = np.unique([] if labels is None else labels)
    if len(classes) > len(CLASSES):
        drawn = ax.scatter(points[:, 0], points[:, 1], c=labels, cmap="viridis", **style)
        ax.figure.colorbar(drawn, cax=ax.inset_axes((1.02, 0, 0.03, 1)), label="label")
        return
    if labels is None:
        ax.scatter(points[:, 0], points[:, 1], color=BLUE, **style)
        return
    # One scatter in the order of the data, so that no class covers the others.
    which = np.searchsorted(classes, labels)
    outlines = map(MarkerStyle, MARKERS)
    shapes = [outline.get_path().transformed(outline.get_transform()) for outline in outlines]
    ax.scatter(points[:, 0], points[:, 1], c=np.array(CLASSES)[which], **style).set_paths(
        [shapes[i] for i in which]
    )
    dots = [
        Line2D([], [], marker=marker, linestyle="", color=color)
        for marker, color, _ in zip(MARKERS, CLASSES, classes)
    ]
    ax.legend(
        dots, classes, title="label", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False,
        handletextpad=0.1, borderaxespad=0.2,
    )  # fmt: skip
    # Each class also has a label at its center, since ten colors are hard to look up in a legend.
    centers = np.array([np.median(points[labels == label], axis=0) for label in classes])
    for (x, y), label in zip(_apart(centers, 0.045 * np.ptp(ax.get_xlim())), classes):
        ax.text(
            x, y, str(label), fontsize=15, fontweight="bold", ha="center", va="center", zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def _apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Move points (N, 2) that are closer than `distance` away from one another."""
    for _ in range(50):
        away = points[:, None] - points  # (N, N, 2)
        length = np.hypot(*away.T).T
        short = np.clip(distance - length, 0, None) / np.maximum(length, 1e-9)
        points = points + 0.25 * (short[..., None] * away).sum(axis=1)
    return points


def _latent_line(mu: np.ndarray, labels: np.ndarray | None, ax: Axes | None) -> Axes:
    """Draw posterior means (N,) of the only latent: a row for each class, or a histogram."""
    ax = make_axes(ax, 7, 3.6, left=0.85, right=0.25, bottom=0.6, top=0.4)
    x_label = "μ[0]  (prior standard deviations)"
    if labels is not None:
        classes = np.unique(labels)
        if len(classes) > len(CLASSES):
            ax.plot(mu, labels, ".", color=BLUE, markersize=4, alpha=0.5)
            return label_axes(ax, "Posterior means μ(x)", x_label, "label")
        for row, (label, color) in enumerate(zip(classes, CLASSES)):
            values = mu[labels == label]
            ax.plot(values, np.full(len(values), row), "|", color=color, markersize=14, alpha=0.5)
        ax.set_yticks(range(len(classes)), classes)
        ax.invert_yaxis()
        return label_axes(ax, "Posterior means μ(x)", x_label, "label")
    ax.hist(mu, bins="auto", density=True, color=SKY, label="posterior means μ(x)")
    z = np.linspace(-3.5, 3.5, 200)
    ax.plot(z, np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi), color=VERMILLION, label="prior p(z)")
    ax.legend(frameon=False)
    return label_axes(ax, "Posterior means μ(x)", x_label, "density")
