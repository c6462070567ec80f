"""The embedded table: 178 wines with 13 measured quantities each, in different units.

It is small and real, and needs what tables need: its columns are standardized, and its likelihood
is a Gaussian. `LICENSE-wine.md` beside this file names the authors and the license.
"""

from __future__ import annotations

from dataclasses import replace

from .reading import RawData, read_data

__all__ = ["load_wine"]


def load_wine() -> RawData:
    """Return the data set "Wine" of Aeberhard and Forina.

    Returns
    -------
    RawData
        178 rows, (N, 13) float64, in the units of the measurements, with the names of the columns
        and with the cultivars A, B and C as classes. The rows are sorted by cultivar, and there is
        no test part.

    Notes
    -----
    S. Aeberhard and M. Forina (1991), UCI Machine Learning Repository,
    https://doi.org/10.24432/C5PC7J, licensed under CC BY 4.0.

    Examples
    --------
    >>> wine = load_wine()
    >>> wine.x_train.shape, wine.names[0], float(wine.x_train[0, 0]), str(wine.y_train[0])
    ((178, 13), 'alcohol', 14.23, 'A')
    """
    from importlib.resources import as_file, files  # here, for it would double the import time

    with as_file(files(__package__).joinpath("wine.csv")) as path:
        return replace(read_data(path, label_column="cultivar"), name="wine")
