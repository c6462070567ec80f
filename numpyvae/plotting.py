"""Pictures of a VAE. The only module that imports matplotlib.

Each function draws on the `ax` it is given and returns it; without one it makes a figure of its
own, 7 inches (700 pixels on a page) wide or less. That figure belongs to pyplot if the program
has imported pyplot, so that notebooks and `plt.show()` find it; otherwise it has no window and
needs no display. No default of matplotlib is changed.

Colours are told apart by colour-blind readers: Okabe & Ito's for curves and bars, Petroff's ten
for classes, viridis for a scale. Images are ink on paper, dark where the value is high;
`ax.images[0].set_cmap("gray")` turns photographs the right way round.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke

from .checks import check_count, check_positive, check_rows
from .diagnostics import active_units
from .distributions import gaussian_kl
from .files import atomic_write
from .likelihoods import Binomial
from .training import History
from .vae import VAE

__all__ = [
    "image_grid",
    "plot_active_units",
    "plot_history",
    "plot_latent_space",
    "plot_manifold",
    "plot_reconstructions",
    "plot_samples",
    "save_figure",
]

BLUE, VERMILLION, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "#8C8C8C"  # Okabe & Ito 2008
CLASSES = (  # Petroff 2021: ten colours apart in normal vision and the three kinds of blindness
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
_FORMATS = {  # without dates; a PNG packed harder is a few per cent smaller and twice as slow
    ".png": {"pil_kwargs": {"compress_level": 3}},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}
_TILE = 24  # smaller images are enlarged, so that a gap of one pixel is thin
_GAP = 0.15  # shade of the gaps between tiles, as a part of full ink


def plot_history(history: History, *, ax: Axes | None = None) -> Axes:
    """Draw the ELBO and its two terms against the epoch.

    Eq. (11) as a picture: ELBO = reconstruction − KL, so the KL is the band between the two
    curves, in the same unit on the same axis. With a validation set the curves and the band are
    its values, and the training set's are dashed beside them. Where something else than the ELBO
    is ascended (L_K, another weight of the KL), that is the dotted line, on the training set.

    Parameters
    ----------
    history : History
        Of at least one epoch. Values in nats per datapoint.
    ax : Axes, optional

    Returns
    -------
    ax : Axes

    Raises
    ------
    ValueError
        If the history is empty.
    """
    if len(history) == 0:
        raise ValueError("history: expected at least one epoch, got none; train with fit first")
    ax = _axes(ax, 7, 4.2, left=0.85, bottom=0.6, top=0.4)
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
    labels = [f"{name}  {_number(y[-1])}" for name, y in zip(names, (upper, kl, lower))]
    if validated:
        for name, colour in (("reconstruction", BLUE), ("elbo", VERMILLION)):
            ax.plot(epoch, columns[name], color=colour, linewidth=1, dashes=(4, 2))
        handles.append(Line2D([], [], color="0.3", linewidth=1, dashes=(4, 2)))
        labels.append("training set")
    objective = [row.get("objective", row["elbo"]) for row in history.rows]
    if not np.allclose(objective, history["elbo"], rtol=1e-6):
        handles += ax.plot(epoch, objective, color="0.2", linewidth=1, dashes=(1, 1.5))
        labels.append(f"what is ascended  {_number(objective[-1])}")
    legend = {"loc": "lower right", "frameon": False, "alignment": "left"}
    ax.legend(handles, labels, title="at the last epoch", **legend)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    where = "validation" if validated else "training"
    title = f"ELBO = reconstruction − KL, {where} set"
    return _label(ax, title, "epoch", "nats per datapoint")


def image_grid(
    images: Any,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    columns: int | None = None,
    maximum: float = 1,
) -> Axes:
    """Draw grey images as tiles, row by row from the top left.

    Parameters
    ----------
    images : (N, D) array_like
        One image a row; values outside [0, maximum] are drawn as its ends.
    image_shape : (h, w)
        D = h * w.
    ax : Axes, optional
    columns : int, optional
        Tiles in a row; by default about as many as rows.
    maximum : float
        The value of full ink.

    Returns
    -------
    ax : Axes
        The tiles are one image, `ax.images[0]`.

    Raises
    ------
    TypeError, ValueError
        If `images` is not such an array, or `image_shape` does not fit it.
    """
    tiles = _tiles(images, image_shape)
    columns = _columns(len(tiles), columns)
    return _draw(_mosaic(tiles, columns, maximum), ax, maximum, top=0.1)


def plot_reconstructions(
    vae: VAE,
    x: Any,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    columns: int | None = None,
    maximum: float | None = None,
) -> Axes:
    """Draw each datapoint above the mean of p_θ(x|z) at z = μ(x).

    Parameters
    ----------
    vae : VAE
    x : (B, D) array_like
        The datapoints to draw: a few, as `x_test[:20]`.
    image_shape : (h, w)
        D = h * w.
    ax : Axes, optional
    columns : int, optional
        Pairs in a row; 10, or B if that is smaller.
    maximum : float, optional
        The value of full ink; n for a Binomial likelihood, otherwise 1.

    Returns
    -------
    ax : Axes
        The tiles are one image, `ax.images[0]`.

    Raises
    ------
    TypeError, ValueError
        If `x` does not fit the model, or `image_shape` does not fit x.
    """
    maximum = _maximum(vae, maximum)
    data = _tiles(check_rows(x, vae.data_dim), image_shape)
    means = _tiles(vae.reconstruct(x), image_shape)
    columns = _columns(len(data), min(10, len(data)) if columns is None else columns)
    gap = np.full((len(data), 1, data.shape[2]), _GAP * maximum)
    pairs = np.concatenate([data, gap, means], axis=1)  # (B, 2h + 1, w)
    ax = _draw(_mosaic(pairs, columns, maximum, gap=2), ax, maximum)
    return _label(ax, "Data, and below each its reconstruction")


def plot_samples(
    vae: VAE,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    n: int = 64,
    seed: int = 0,
    maximum: float | None = None,
) -> Axes:
    """Draw what the model makes up: the mean of p_θ(x|z) for draws z ~ p(z).

    Parameters
    ----------
    vae : VAE
    image_shape : (h, w)
        D = h * w.
    ax : Axes, optional
    n : int
        Number of draws.
    seed : int
    maximum : float, optional
        The value of full ink; n for a Binomial likelihood, otherwise 1.

    Returns
    -------
    ax : Axes
        The tiles are one image, `ax.images[0]`.

    Raises
    ------
    TypeError, ValueError
        If `n` or `seed` is not a whole number in range, or `image_shape` does not fit the model.
    """
    images = vae.sample(n, seed, mean=True)
    maximum = _maximum(vae, maximum)
    tiles = _tiles(images, image_shape)
    ax = _draw(_mosaic(tiles, _columns(n, None), maximum), ax, maximum)
    return _label(ax, "Samples: the mean of p(x|z) for z ~ p(z)")


def plot_manifold(
    vae: VAE,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    n: int = 20,
    maximum: float | None = None,
) -> Axes:
    """Draw the mean of p_θ(x|z) over the whole of a two-dimensional latent space.

    The unit square is cut into n × n cells, and the centre u of each taken through the inverse
    CDF of the unit Gaussian, z = Φ⁻¹(u): every tile then has the same probability under the
    prior (Kingma & Welling 2013, Figure 4).

    Parameters
    ----------
    vae : VAE
        With `latent_dim` 2.
    image_shape : (h, w)
        D = h * w.
    ax : Axes, optional
    n : int
        Tiles along each side.
    maximum : float, optional
        The value of full ink; n for a Binomial likelihood, otherwise 1.

    Returns
    -------
    ax : Axes
        z[0] grows to the right and z[1] upwards; the tiles are one image, `ax.images[0]`.

    Raises
    ------
    TypeError, ValueError
        If J is not 2, or `image_shape` does not fit the model.
    """
    if vae.latent_dim != 2:
        raise ValueError(
            f"vae: expected latent_dim 2 for a manifold on paper, got {vae.latent_dim}; "
            "see plot_samples and plot_latent_space for other models"
        )
    n = check_count("n", n)
    normal = NormalDist()
    axis = np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])  # Φ⁻¹(u)
    across, up = np.meshgrid(axis, axis[::-1])  # the first row of tiles has the largest z[1]
    tiles = _tiles(vae.decode(np.column_stack([across.ravel(), up.ravel()])), image_shape)
    maximum = _maximum(vae, maximum)
    mosaic = _mosaic(tiles, n, maximum)
    ax = _draw(mosaic, ax, maximum, left=0.7, bottom=0.6)
    # The image covers the unit square, so that a tick for z stands at u = Φ(z).
    ax.images[0].set_extent((0, 1, 0, 1))
    ax.set_aspect(mosaic.shape[0] / mosaic.shape[1])
    ax.set_axis_on()
    ticks = range(-2, 3)
    where, names = [normal.cdf(z) for z in ticks], [str(z).replace("-", "−") for z in ticks]
    ax.set_xticks(where, names)
    ax.set_yticks(where, names)
    unit = "prior standard deviations"
    return _label(ax, "Decoded manifold: the mean of p(x|z)", f"z[0]  ({unit})", f"z[1]  ({unit})")


def plot_latent_space(vae: VAE, x: Any, labels: Any = None, *, ax: Axes | None = None) -> Axes:
    """Draw the posterior means μ(x) in the two latents that move most with x.

    The circles hold 50 % and 95 % of the prior, from which samples are drawn: where data leave
    it, or leave it empty, samples and data differ. With J = 1 a histogram, or with labels a
    strip for each class.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    labels : (N,) array_like, optional
        Up to ten classes have their own colours; more, if they are numbers, share a scale.
    ax : Axes, optional
        Legend and scale stand to its right.

    Returns
    -------
    ax : Axes

    Raises
    ------
    TypeError, ValueError
        If `x` does not fit the model, or `labels` does not fit x.
    """
    mu, _ = vae.encode(x)
    labels = None if labels is None else _check_labels(labels, len(mu))
    if vae.latent_dim == 1:
        return _latent_line(mu[:, 0], labels, ax)
    # The most active first; in their own order where there are two.
    pair = [0, 1] if vae.latent_dim == 2 else np.argsort(-mu.var(axis=0), kind="stable")[:2]
    i, j = map(int, pair)
    mu = mu[:, [i, j]]
    right = 0.25 if labels is None else 0.85
    ax = _axes(ax, 6 + right, 6.25, left=0.8, right=right, bottom=0.65, top=0.4)
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
    return _label(ax, f"Posterior means μ(x){most}", f"μ[{i}]  ({unit})", f"μ[{j}]  ({unit})")


def plot_active_units(
    vae: VAE, x: Any, *, ax: Axes | None = None, threshold: float = 0.01
) -> Axes:
    """Draw how much each latent tells about x: its own part of the KL term, largest first.

    KL(q_φ(z|x) ‖ p(z)) is a sum over latents (Kingma & Welling 2013, appendix B); averaged over
    x, the bars add up to the KL of Eq. (11). Latents that fail Var(μ_j) > threshold have
    collapsed onto the prior (Burda et al. 2015, §5.2) and wear a ring.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    ax : Axes, optional
    threshold : float
        As in `active_units`.

    Returns
    -------
    ax : Axes

    Raises
    ------
    TypeError, ValueError
        If `x` does not fit the model.
    """
    active = active_units(vae, x, threshold)
    mu, logvar = vae.encode(x)
    kl, _ = gaussian_kl(mu[..., None], logvar[..., None])  # (N, J): each latent on its own
    kl = kl.mean(axis=0, dtype=float)
    order = np.argsort(-kl, kind="stable")
    J = len(kl)
    ax = _axes(ax, 7, 3.6, left=0.85, bottom=0.6, top=0.4)
    place, height = np.arange(J), kl[order]
    ax.bar(place, height, color=np.where(active[order], BLUE, GREY), width=0.8)
    # A ring on each collapsed bar, which alone would be too low to see.
    collapsed = ~active[order]
    rings = {"marker": "o", "color": GREY, "fillstyle": "none", "linestyle": ""}
    top = kl.max() or 1.0
    ax.plot(place[collapsed], height[collapsed] + 0.03 * top, **rings)
    ax.legend(
        [Patch(color=BLUE), Line2D([], [], **rings)],
        [f"{active.sum()} active: Var(μ) > {threshold:g}", f"{collapsed.sum()} collapsed"],
        frameon=False,
        loc="upper right",
    )
    ax.set_ylim(0, 1.3 * top)  # room for the legend
    step = math.ceil(J / 25)  # room for the numbers
    ax.set_xticks(np.arange(0, J, step), [str(j) for j in order[::step]])
    ax.set_xlim(-0.7, max(J, 4) - 0.3)
    title = f"KL(q(z|x) ‖ p(z)) = {_number(kl.sum())} nats, by latent"
    return _label(ax, title, "latent j, largest KL first", "KL, nats per datapoint")


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


# Images: tiles (N, h, w) → one mosaic → one call of imshow, since axes are slow and pixels fast.


def _tiles(images: Any, image_shape: Sequence[int]) -> np.ndarray:
    """Return rows (N, D) as tiles (N, k·h, k·w), k ≥ 1, or raise what does not fit."""
    images = check_rows(images, name="images")
    try:
        h, w = map(operator.index, image_shape)
    except (TypeError, ValueError):
        h = w = 0
    if min(h, w) < 1 or h * w != images.shape[1]:
        raise ValueError(
            f"image_shape: expected (h, w) with h * w = {images.shape[1]}, got {image_shape!r}"
        )
    k = math.ceil(_TILE / min(h, w))
    return images.reshape(-1, h, w).repeat(k, axis=1).repeat(k, axis=2)


def _columns(count: int, columns: int | None) -> int:
    """Return how many of `count` tiles stand in a row: about as many as rows, if None."""
    if columns is None:
        return math.ceil(math.sqrt(count))
    return check_count("columns", columns)


def _mosaic(tiles: np.ndarray, columns: int, maximum: float, gap: int = 1) -> np.ndarray:
    """Lay tiles (N, h, w) side by side, row by row; places without a tile are NaN."""
    N, h, w = tiles.shape
    rows = math.ceil(N / columns)
    mosaic = np.full((rows, h + gap, columns, w + gap), _GAP * check_positive("maximum", maximum))
    cells = mosaic.transpose(0, 2, 1, 3)  # (rows, columns, h + gap, w + gap), a view
    place = np.arange(N)
    cells[place // columns, place % columns, :h, :w] = tiles
    for empty in range(N, rows * columns):
        cells[empty // columns, empty % columns] = np.nan
    mosaic = mosaic.reshape(rows * (h + gap), columns * (w + gap))
    return mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]


def _draw(
    mosaic: np.ndarray, ax: Axes | None, maximum: float, *, left: float = 0.1,
    bottom: float = 0.1, top: float = 0.35,
) -> Axes:  # fmt: skip
    """Draw a mosaic with one pixel for one value, on a figure of its proportions."""
    h, w = mosaic.shape
    width = min(7.0, 6.0 * max(1.0, w / h))
    height = min(9.0, (width - left - 0.1) * h / w + bottom + top)
    ax = _axes(ax, width, height, left=left, right=0.1, bottom=bottom, top=top)
    ax.imshow(mosaic, cmap="gray_r", vmin=0, vmax=maximum)
    ax.set_axis_off()
    return ax


def _maximum(vae: VAE, maximum: float | None) -> float:
    """Return the value of full ink: as told, or n of a Binomial, or 1."""
    if maximum is not None:
        return check_positive("maximum", maximum)
    return vae.likelihood.n if isinstance(vae.likelihood, Binomial) else 1


# Latent space.


def _check_labels(labels: Any, count: int) -> np.ndarray:
    """Return labels (N,) that have at most ten classes or are numbers."""
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
            "there are no more colours that all readers can tell apart"
        )
    return labels


def _scatter(ax: Axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Draw points (N, 2), coloured by class or by value, smaller where there are many."""
    size = min(20.0, max(1.0, 25_000 / len(points)))
    style = {"s": size, "linewidths": 0, "alpha": 0.85}
    classes = [] if labels is None else np.unique(labels)
    if len(classes) > len(CLASSES):
        drawn = ax.scatter(*points.T, c=labels, cmap="viridis", **style)
        ax.figure.colorbar(drawn, cax=ax.inset_axes((1.02, 0, 0.03, 1)), label="label")
        return
    if labels is None:
        ax.scatter(*points.T, color=BLUE, **style)
        return
    # One scatter in the order of the data: no class lies on top of the others.
    colours = np.array(CLASSES)[np.searchsorted(classes, labels)]
    ax.scatter(*points.T, c=colours, **style)
    dots = [Line2D([], [], marker="o", linestyle="", color=c) for c in CLASSES[: len(classes)]]
    ax.legend(
        dots, classes, title="label", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False,
        handletextpad=0.1, borderaxespad=0.2,
    )  # fmt: skip
    # Named on the spot too: ten colours are many to look up.
    centres = np.array([np.median(points[labels == label], axis=0) for label in classes])
    for (x, y), label in zip(_apart(centres, 0.045 * np.ptp(ax.get_xlim())), classes):
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
    """Draw posterior means (N,) of the only latent: a strip for each class, or a histogram."""
    ax = _axes(ax, 7, 3.6, left=0.85, right=0.25, bottom=0.6, top=0.4)
    x_label = "μ[0]  (prior standard deviations)"
    if labels is not None:
        classes = np.unique(labels)
        if len(classes) > len(CLASSES):
            ax.plot(mu, labels, ".", color=BLUE, markersize=4, alpha=0.5)
            return _label(ax, "Posterior means μ(x)", x_label, "label")
        for row, (label, colour) in enumerate(zip(classes, CLASSES)):
            values = mu[labels == label]
            ax.plot(values, np.full(len(values), row), "|", color=colour, markersize=14, alpha=0.5)
        ax.set_yticks(range(len(classes)), classes)
        ax.invert_yaxis()
        return _label(ax, "Posterior means μ(x)", x_label, "label")
    ax.hist(mu, bins="auto", density=True, color=SKY, label="posterior means μ(x)")
    z = np.linspace(-3.5, 3.5, 200)
    ax.plot(z, np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi), color=VERMILLION, label="prior p(z)")
    ax.legend(frameon=False)
    return _label(ax, "Posterior means μ(x)", x_label, "density")


# Frames and words.


def _axes(
    ax: Axes | None, width: float, height: float, *, left: float, bottom: float, top: float,
    right: float = 0.2,
) -> Axes:  # fmt: skip
    """Return `ax`, or one on a new figure with these sizes and margins in inches."""
    if ax is not None:
        return ax
    pyplot = sys.modules.get("matplotlib.pyplot")
    new = pyplot.figure if pyplot else Figure
    figure = new(figsize=(width, height), layout="none", facecolor="white")
    box = (left, bottom, width - left - right, height - bottom - top)
    ax = figure.add_axes(np.divide(box, (width, height, width, height)))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _label(ax: Axes, title: str, x: str = "", y: str = "") -> Axes:
    """Write the title and what the axes measure, with units; return `ax`."""
    # A place that is given: to search for one, matplotlib would lay out all ticks once more.
    ax.set_title(title, loc="left", fontsize=11, y=1.0)
    ax.set(xlabel=x, ylabel=y)
    return ax


def _number(value: float) -> str:
    """Return a number for a reader: two decimals and a true minus."""
    return f"{value:.2f}".replace("-", "−")
