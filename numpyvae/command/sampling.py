"""Draw from a saved model, in the unit of the data that it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.vae import VAE
from ..support.files import atomic_write
from .usage import UsageError

__all__ = ["write_samples"]


def write_samples(
    vae: VAE,
    output: Path,
    n: int,
    seed: int,
    mean: bool = False,
    image_shape: tuple[int, int] | None = None,
) -> None:
    """Write draws of x as an array, in the unit of the raw data, or as a picture.

    Parameters
    ----------
    vae : VAE
    output : Path
        A .npy or a .png file.
    n, seed : int
    mean : bool
        Write the mean of p(x|z) for each z.
    image_shape : (h, w), optional
        By default that of the training data, or a square. A model of a table gives bars or
        curves.

    Raises
    ------
    UsageError
        If the shape of an image is not known.
    OSError
        If the file cannot be written.
    """
    p = vae.preparation
    if output.suffix == ".npy":
        x = vae.sample(n, seed, mean=mean)
        if p is not None and p.reading == "fractions":
            x = p.invert(x).astype(x.dtype)
        with atomic_write(output) as file:
            np.save(file, x)
        return
    from .. import plotting

    if image_shape is None and p is not None and p.image_shape is None:
        picture = plotting.plot_row_samples(vae, names=p.names, n=n, seed=seed)
    else:
        shape = image_shape or (p and p.image_shape) or _square(vae.data_dim)
        x = vae.sample(n, seed, mean=mean)
        low, high = _range(vae, x)
        picture = plotting.image_grid(x, shape, minimum=low, maximum=high)
    plotting.save_figure(picture, output)


def _range(vae: VAE, x: np.ndarray) -> tuple[float, float]:
    """Return the values that are drawn white and darkest."""
    highest = vae.likelihood.support[1]
    if np.isfinite(highest):
        return 0, highest
    if vae.likelihood.integers:  # counts without an end
        return 0, max(1.0, float(x.max()))
    p = vae.preparation
    if p is None or p.ranges is None:
        return 0, 1
    low, high = p.ranges
    if p.mean is not None and p.std is not None:
        return float(((low - p.mean) / p.std).min()), float(((high - p.mean) / p.std).max())
    smallest = float(np.finfo(np.float32).tiny)
    least, most = float(low.min()) / p.maximum, float(high.max()) / p.maximum
    return min(0.0, least), max(most, smallest)


def _square(data_dim: int) -> tuple[int, int]:
    side = int(data_dim**0.5 + 0.5)
    if side * side != data_dim:
        raise UsageError(
            f"--image-shape: expected it for {data_dim} values that are not a square image, got "
            "none; give it as HEIGHTxWIDTH, or write --output FILE.npy"
        )
    return side, side
