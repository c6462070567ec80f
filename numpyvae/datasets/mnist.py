"""MNIST and Fashion-MNIST: what their four files are, and where they come from.

MNIST's SHA-256 were computed from the original files, whose MD5s are widely published.
Fashion-MNIST's were not computed here: they are taken from public lists made independently
of each other, which agree.
"""

from __future__ import annotations

import os

from .dataset import Dataset
from .fetch import Source, load_arrays

__all__ = ["load_fashion_mnist", "load_mnist"]

_MNIST = Source(
    name="mnist",
    folders=("mnist",),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    sha256={
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
)

_FASHION = Source(
    name="fashion",
    folders=("fashion", "fashion-mnist"),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    sha256={
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
)


def load_mnist(folder: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """Return MNIST: 60000 training and 10000 test digits, (N, 784) uint8, values 0 ... 255.

    Parameters
    ----------
    folder : path, optional
        The folder with the four IDX files (`train-images-idx3-ubyte` or the same with `.gz`,
        and so on), or with a subfolder `mnist` that has them. No other place is searched then.
        Without it, each file is taken from the folder in the variable NUMPYVAE_DATA if it is
        there, else from the per-user cache, else it is downloaded into that cache.
    download : bool
        Whether a missing file may be downloaded. This needs pooch (the extra `data`).

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    FileNotFoundError
        If files are missing in `folder`, or everywhere and `download` is False.
    ValueError
        If a file is damaged or not the one that its name says. A file of yours stays as it is;
        a damaged file in the cache is removed.
    ImportError
        If a download is needed and pooch is not installed.
    OSError
        If no mirror could be reached, or the cache cannot be written.

    Notes
    -----
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), "Gradient-based learning applied to
    document recognition", Proceedings of the IEEE 86(11).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         load_mnist(folder)
    ...     except FileNotFoundError as error:
    ...         print("train-images-idx3-ubyte" in str(error))
    True
    """
    return _load(_MNIST, folder, download)


def load_fashion_mnist(
    folder: str | os.PathLike[str] | None = None, *, download: bool = True
) -> Dataset:
    """Return Fashion-MNIST: clothes in the format of MNIST, (N, 784) uint8, values 0 ... 255.

    Parameters, search and errors are those of `load_mnist`; the subfolder is `fashion` or
    `fashion-mnist`.

    The search for it is that of `load_mnist`; the subfolder is `fashion` or `fashion-mnist`.

    Parameters
    ----------
    folder : path, optional
    download : bool
        Both as in `load_mnist`.

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, OSError
        As `load_mnist`.

    Notes
    -----
    H. Xiao, K. Rasul and R. Vollgraf (2017), "Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms", arXiv 1708.07747.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         load_fashion_mnist(folder)
    ...     except FileNotFoundError as error:
    ...         print("train-images-idx3-ubyte" in str(error))
    True
    """
    return _load(_FASHION, folder, download)


def _load(source: Source, folder: str | os.PathLike[str] | None, download: bool) -> Dataset:
    x_train, y_train, x_test, y_test = load_arrays(source, folder, download)
    return Dataset(
        name=source.name,
        x_train=x_train.reshape(len(x_train), -1),  # (N, h, w) -> (N, D)
        y_train=y_train,
        x_test=x_test.reshape(len(x_test), -1),
        y_test=y_test,
        maximum=255,
        image_shape=x_train.shape[1:],
    )
