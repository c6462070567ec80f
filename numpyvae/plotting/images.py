"""Figures made of small images, called tiles: data, reconstructions, samples, a manifold.

All tiles (N, h, w) are copied into one array, which one call of `imshow` draws. This is much
faster than one Axes for each tile.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..core.vae import VAE
from ..support.checks import check_count, check_positive, check_rows, check_vae
from .frames import label_axes, make_axes

__all__ = ["image_grid", "plot_manifold", "plot_reconstructions", "plot_samples"]

_TILE = 24  # smaller images are enlarged, so that a gap of one pixel is narrow in comparison
_GAP = 0.15  # shade of the gaps between tiles, as a fraction of the range of values
_LABEL = 12  # rows of pixels above a tile for its class
_NEAR, _FEW = 0.1, 0.02  # real numbers are drawn from 0 to 1 if fewer lie farther outside


def image_grid(
    images: Any,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    columns: int | None = None,
    maximum: float = 1,
    minimum: float = 0,
) -> Axes:
    """Draw gray images as tiles, row by row from the top left.

    Parameters
    ----------
    images : (N, D) array_like
        Each row is an image. Values outside [minimum, maximum] are drawn as its ends.
    columns : int, optional
        The number of tiles in a row; by default about as many as there are rows of tiles.
    maximum : float
        The value that is drawn darkest.
    minimum : float
        The value that is drawn white.

    Returns
    -------
    ax : Axes
        All tiles together are one image, `ax.images[0]`.

    Examples
    --------
    >>> ax = image_grid(np.eye(4), (2, 2), columns=2)
    >>> len(ax.images)
    1
    """
    tiles = _tiles(images, image_shape)
    columns = _columns(len(tiles), columns)
    if minimum == 0:
        maximum = check_positive("maximum", maximum)
    if not minimum < maximum:
        raise ValueError(
            f"minimum: expected a number below the maximum {maximum:g}, got {minimum:g}"
        )
    limits = (minimum, maximum)
    return _draw(_mosaic(tiles, columns, limits), ax, limits, top=0.1)


def plot_reconstructions(
    vae: VAE,
    x: Any,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    columns: int | None = None,
    maximum: float | None = None,
    original: Any = None,
    labels: Any = None,
) -> Axes:
    """Draw each datapoint, and below it its reconstruction: the mean of p_θ(x|z) at z = μ(x).

    All rows of x are drawn, so pass only a few, for example `x_test[:20]`.

    Parameters
    ----------
    columns : int, optional
        The number of pairs in a row; by default 10, or N if that is smaller.
    original : (N, D) array_like, optional
        The gray images from which the binary `x` were drawn. They are drawn above x.
    labels : (N,) array_like, optional
        The classes, written above the images.

    Returns
    -------
    ax : Axes
        All tiles together are one image, `ax.images[0]`.

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(8,))
    >>> ax = plot_reconstructions(vae, np.zeros((10, 64)), (8, 8))
    >>> ax.get_title(loc="left")
    'Data (above) and reconstructions (below)'
    """
    check_vae(vae)
    data = _tiles(check_rows(x, vae.data_dim), image_shape)
    means = _tiles(vae.reconstruct(x), image_shape)
    limits = _limits(vae, maximum, data)
    B, _, w = data.shape
    columns = _columns(B, min(10, B) if columns is None else columns)
    gap = np.full((B, 1, w), _shade(limits))
    stack, title = [data, gap, means], "Data (above) and reconstructions (below)"
    if original is not None:
        grays = _tiles(check_rows(original, vae.data_dim, "original", rows=B), image_shape)
        stack = [grays, gap, *stack]
        title = "Gray data, binary data drawn from them, reconstructions"
    if labels is not None:
        stack = [np.full((B, _LABEL, w), np.nan), *stack]
    tiles = np.concatenate(stack, axis=1)  # (B, 2h + 1, w) for pairs
    ax = _draw(_mosaic(tiles, columns, limits, gap=2), ax, limits)
    if labels is not None:
        _write_labels(ax, labels, columns, tiles.shape)
    return label_axes(ax, title + _range_note(limits))


def _write_labels(ax: Axes, labels: Any, columns: int, shape: tuple[int, int, int]) -> None:
    """Write the class of each tile into the free rows at its top."""
    B, h, w = shape
    labels = np.asarray(labels)
    if labels.shape != (B,):
        raise ValueError(f"labels: expected shape ({B},), one a row of x, got {labels.shape}")
    for i, label in enumerate(labels):
        y, x = (i // columns) * (h + 2), (i % columns) * (w + 2)
        text = str(label)
        text = text if len(text) <= 8 else f"{text[:7]}…"
        ax.text(
            x + w / 2, y + 0.45 * _LABEL, text, fontsize=8, color="0.2", ha="center", va="center"
        )


def plot_samples(
    vae: VAE,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    n: int = 64,
    seed: int = 0,
    maximum: float | None = None,
) -> Axes:
    """Draw samples of the model: the mean of p_θ(x|z) for draws z ~ p(z).

    Parameters
    ----------
    n : int
        The number of draws.
    seed : int

    Returns
    -------
    ax : Axes
        All tiles together are one image, `ax.images[0]`.

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(8,))
    >>> ax = plot_samples(vae, (8, 8), n=16)
    >>> ax.get_title(loc="left")
    'Samples: the mean of p(x|z) for z ~ p(z)'
    """
    check_vae(vae)
    images = vae.sample(n, seed, mean=True)
    limits = _limits(vae, maximum, images)
    tiles = _tiles(images, image_shape)
    ax = _draw(_mosaic(tiles, _columns(n, None), limits), ax, limits)
    return label_axes(ax, "Samples: the mean of p(x|z) for z ~ p(z)" + _range_note(limits))


def plot_manifold(
    vae: VAE,
    image_shape: tuple[int, int],
    *,
    ax: Axes | None = None,
    n: int = 20,
    maximum: float | None = None,
) -> Axes:
    """Draw the mean of p_θ(x|z) on a grid of z, for a model with two latents.

    The unit square is divided into n × n cells. The center u of each cell is mapped to z by the
    inverse CDF of the standard normal, z = Φ⁻¹(u), so that every tile has the same probability
    under the prior (Kingma & Welling 2013, Figure 4). The model must have `latent_dim` 2.

    Parameters
    ----------
    n : int
        The number of tiles along each side.

    Returns
    -------
    ax : Axes
        z[0] increases to the right and z[1] upwards. All tiles together are one image,
        `ax.images[0]`.

    Examples
    --------
    >>> vae = VAE(data_dim=64, latent_dim=2, hidden=(8,))
    >>> ax = plot_manifold(vae, (8, 8), n=5)
    >>> ax.get_title(loc="left")
    'Decoded manifold: the mean of p(x|z)'
    """
    check_vae(vae)
    if vae.latent_dim != 2:
        raise ValueError(
            f"vae: expected latent_dim 2 for a figure of the manifold, got {vae.latent_dim}; "
            "use plot_samples or plot_latent_space for this model"
        )
    n = check_count("n", n)
    normal = NormalDist()
    axis = np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])  # Φ⁻¹(u)
    across, up = np.meshgrid(axis, axis[::-1])  # the first row of tiles has the largest z[1]
    tiles = _tiles(vae.decode(np.column_stack([across.ravel(), up.ravel()])), image_shape)
    limits = _limits(vae, maximum, tiles)
    mosaic = _mosaic(tiles, n, limits)
    ax = _draw(mosaic, ax, limits, left=0.7, bottom=0.6)
    # The image covers the unit square, so a tick for z is at u = Φ(z).
    ax.images[0].set_extent((0, 1, 0, 1))
    ax.set_aspect(mosaic.shape[0] / mosaic.shape[1])
    ax.set_axis_on()
    ticks = range(-2, 3)
    where, names = [normal.cdf(z) for z in ticks], [str(z).replace("-", "−") for z in ticks]
    ax.set_xticks(where, names)
    ax.set_yticks(where, names)
    unit = "prior standard deviations"
    title = "Decoded manifold: the mean of p(x|z)" + _range_note(limits)
    return label_axes(ax, title, f"z[0]  ({unit})", f"z[1]  ({unit})")


def _tiles(images: Any, image_shape: Sequence[int]) -> np.ndarray:
    """Return rows (N, D) as tiles (N, k·h, k·w), enlarged by k ≥ 1; raise if h · w is not D."""
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
    """Return the number of columns for `count` tiles; by default about the number of rows."""
    if columns is None:
        return math.ceil(math.sqrt(count))
    return check_count("columns", columns)


def _shade(limits: tuple[float, float]) -> float:
    """Return the value of the gaps between tiles."""
    return limits[0] + _GAP * (limits[1] - limits[0])


def _mosaic(
    tiles: np.ndarray, columns: int, limits: tuple[float, float], gap: int = 1
) -> np.ndarray:
    """Copy tiles (N, h, w) into one array, row by row; places without a tile are NaN."""
    N, h, w = tiles.shape
    rows = math.ceil(N / columns)
    mosaic = np.full((rows, h + gap, columns, w + gap), _shade(limits))
    cells = mosaic.transpose(0, 2, 1, 3)  # (rows, columns, h + gap, w + gap), a view
    place = np.arange(N)
    cells[place // columns, place % columns, :h, :w] = tiles
    for empty in range(N, rows * columns):
        cells[empty // columns, empty % columns] = np.nan
    mosaic = mosaic.reshape(rows * (h + gap), columns * (w + gap))
    return mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]


def _draw(
    mosaic: np.ndarray, ax: Axes | None, limits: tuple[float, float], *, left: float = 0.1,
    bottom: float = 0.1, top: float = 0.35,
) -> Axes:  # fmt: skip
    """Draw a mosaic; a new figure gets its proportions."""
    h, w = mosaic.shape
    width = min(7.0, 6.0 * max(1.0, w / h))
    height = min(9.0, (width - left - 0.1) * h / w + bottom + top)
    ax = make_axes(ax, width, height, left=left, right=0.1, bottom=bottom, top=top)
    ax.imshow(mosaic, cmap="gray_r", vmin=limits[0], vmax=limits[1])
    ax.set_axis_off()
    return ax


def _limits(vae: VAE, maximum: float | None, shown: np.ndarray) -> tuple[float, float]:
    """Return the values that are drawn white and darkest.

    The maximum is as given, or the end of the support, or the largest of counts without an end.
    Real numbers are drawn from 0 to 1, or over their range if some lie well outside.
    """
    if maximum is not None:
        return 0, check_positive("maximum", maximum)
    highest = vae.likelihood.support[1]
    if np.isfinite(highest):
        return 0, highest
    if vae.likelihood.integers:
        return 0, float(max(1, np.max(shown)))
    outside = (shown < -_NEAR) | (shown > 1 + _NEAR)
    if outside.mean() < _FEW:
        return 0, 1
    low, high = float(shown.min()), float(shown.max())
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _range_note(limits: tuple[float, float]) -> str:
    """Return what a title says about the range, if that is not one of whole numbers from 0."""
    if limits[0] == 0 and float(limits[1]).is_integer():
        return ""
    low, high = (f"{v:.3g}".replace("-", "−") for v in limits)
    return f" (white {low}, black {high})"
