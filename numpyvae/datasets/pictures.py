"""Read a folder of PNG images as gray rows; subfolders are classes. Needs Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["has_pictures", "read_pictures"]

_MOST_PIXELS = 1 << 20  # in one image


def has_pictures(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder has PNG files, in itself or in its subfolders."""
    return next(_files(Path(folder)), None) is not None


def _files(folder: Path) -> Iterator[Path]:
    """Yield the PNG files of the folder, then those of each subfolder, in alphabetical order."""
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    for place in places:
        yield from sorted(p for p in place.iterdir() if p.suffix.lower() == ".png")


def read_pictures(
    folder: str | os.PathLike[str],
) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
    """Return the images of a folder, their classes, and their shape.

    Parameters
    ----------
    folder : path
        Has PNG files of one size, or a subfolder of them for each class. Colors become grays.

    Returns
    -------
    x : (N, D) array of uint8
    labels : (N,) array of str, or None
        The names of the subfolders.
    image_shape : (h, w)

    Raises
    ------
    OSError, ValueError
        If there are no images, they differ in size, or one is damaged or has 16 bits.
    ImportError
        If Pillow is not installed.
    """
    folder = Path(folder)
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            f"{folder}: reading PNG files needs Pillow; pip install 'numpyvae[images]', or save "
            "the images as one array with numpy.save"
        ) from None
    paths = list(_files(folder))
    if not paths:
        raise ValueError(
            f"{folder}: expected PNG files in the folder or its subfolders, got none; "
            "name a folder with images, or a file"
        )
    with _opened(Image, paths[0]) as image:
        w, h = image.size
    x = np.empty((len(paths), w * h), np.uint8)
    for i, path in enumerate(paths):
        with _opened(Image, path) as image:
            if image.size != (w, h):
                raise ValueError(
                    f"{path}: expected {h}x{w} pixels as in {paths[0].name}, got "
                    f"{image.size[1]}x{image.size[0]}; bring the images to one size"
                )
            try:
                x[i] = np.asarray(image.convert("L")).ravel()
            except Exception as error:  # Pillow raises many kinds on a damaged file
                raise _damaged(path, error) from None
    classes = np.array([p.parent.name for p in paths])
    nested = any(p.parent != folder for p in paths)
    return x, classes if nested else None, (h, w)


def _opened(Image: Any, path: Path) -> Any:
    """Open one image: nothing but its header is read, so that its size is known first."""
    try:
        image = Image.open(path, formats=["PNG"])
    except Exception as error:
        raise _damaged(path, error) from None
    if image.size[0] * image.size[1] > _MOST_PIXELS:
        image.close()
        raise ValueError(
            f"{path}: expected at most {_MOST_PIXELS} pixels, got {image.size[1]}x"
            f"{image.size[0]}; bring the images to a smaller size"
        )
    if image.mode.startswith("I"):
        image.close()
        raise ValueError(
            f"{path}: expected an image of 8 bits, got one of 16; convert it, or save the images "
            "as one array with numpy.save"
        )
    return image


def _damaged(path: Path, error: Exception) -> OSError:
    why = " ".join(str(error).split())[:80] or type(error).__name__
    return OSError(f"{path}: expected a PNG image, got another or a damaged file ({why})")
