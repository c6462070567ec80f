"""What was done to the columns of a file to become x: an object that the model file keeps.

Raw data become x by one of three rules, and log p(x) is a density of x, not of the raw data. A
`Preparation` repeats the rule on other rows, inverts it, and gives the term by which the two log
densities differ (change of variables):

    none         x = raw
    maximum      x = raw / maximum          log |dx/draw| = −log maximum in each dimension
    standardize  x = (raw − mean) / std     log |dx/draw| = −log std
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .checks import check_choice, check_count, check_positive, check_rows, row_blocks, shown
from .files import ArrayFile

__all__ = ["SCALES", "Preparation"]

SCALES = ("none", "maximum", "standardize")
READINGS = ("values", "fractions", "outcomes")  # as the likelihood's `reading`
_ARRAYS = ("mean", "std", "low", "high")
_MOST_COLUMNS = 1 << 24  # more are refused in a file


@dataclass(frozen=True, eq=False)
class Preparation:
    """How raw rows become x.

    Parameters
    ----------
    scale : {"none", "maximum", "standardize"}
        The rule.
    maximum : float
        The largest possible value; 1 if the scale is "none".
    reading : {"values", "fractions", "outcomes"}
        What the likelihood makes of the data: whole numbers as they are, real numbers, or
        outcomes 0 and 1.
    binarize : bool
        Whether each raw/maximum is a probability, from which 0 or 1 is drawn.
    mean, std : (D,) array, optional
        For "standardize": of the training rows. The standard deviation of a constant column is
        given as 1.
    low, high : (D,) array, optional
        The range of each column in the raw training rows.
    columns : tuple of int, optional
        The columns that are used, counted from 0; None for all.
    names : tuple of str, optional
        Their names.
    image_shape : (h, w), optional
        Of a row that is an image.

    Raises
    ------
    TypeError, ValueError
        If a field does not have such a value, or two of them do not agree.

    Examples
    --------
    >>> raw = np.array([[1.0, 100.0], [3.0, 300.0]])
    >>> preparation = Preparation.fitted(raw, "standardize")
    >>> preparation.apply(raw)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> round(preparation.log_jacobian, 4)                  # −log 1 − log 100
    -4.6052
    """

    scale: str = "none"
    maximum: float = 1.0
    reading: str = "fractions"
    binarize: bool = False
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    columns: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        check_choice("scale", self.scale, SCALES)
        check_choice("reading", self.reading, READINGS)
        set_(self, "maximum", check_positive("maximum", self.maximum))
        if not isinstance(self.binarize, bool):
            raise TypeError(f"binarize: expected True or False, got {shown(self.binarize)}")
        for name in ("columns", "names", "image_shape"):
            value = getattr(self, name)
            if value is not None:
                set_(self, name, _tuple(name, value))
        for name in _ARRAYS:
            value = getattr(self, name)
            if value is not None:
                set_(self, name, check_rows([value], name=name)[0].astype(float))
        if (self.scale == "standardize") != (self.mean is not None and self.std is not None):
            raise ValueError(
                "mean, std: expected them for the scale standardize and for no other, got "
                f"{self.scale}"
            )
        widths = {
            len(w) for w in (self.columns, self.names, *self._arrays().values()) if w is not None
        }
        if len(widths) > 1:
            raise ValueError(f"mean, std, columns: expected one length, got {sorted(widths)}")
        if self.std is not None and not (self.std > 0).all():
            raise ValueError("std: expected numbers above 0, got another; a constant column has 1")

    @classmethod
    def fitted(cls, raw: Any, scale: str = "none", **more: Any) -> Preparation:
        """Return the preparation whose means, deviations and ranges are those of the rows `raw`.

        Parameters
        ----------
        raw : (N, D) array_like
        scale : {"none", "maximum", "standardize"}
            With "maximum", the largest value of `raw` is the maximum, if none is given.
        **more : Any
            Other fields.
        """
        raw = check_rows(raw, name="raw")
        low, high = raw.min(axis=0).astype(float), raw.max(axis=0).astype(float)
        if scale == "maximum" and "maximum" not in more:
            more["maximum"] = check_positive("the largest value", float(high.max()))
        if scale == "standardize":
            mean = sum(b.sum(axis=0, dtype=float) for b in row_blocks(raw)) / len(raw)
            square = sum(((b - mean) ** 2).sum(axis=0) for b in row_blocks(raw)) / len(raw)
            varies = low < high
            more |= {"mean": mean, "std": np.where(varies, np.sqrt(square), 1.0)}
        return cls(scale=scale, low=low, high=high, **more)

    # Forward, backward, and the term between the two log densities.

    def apply(self, raw: Any, dtype: Any = "float32") -> np.ndarray:
        """Return x for rows of the used columns; outcomes stay the probabilities raw/maximum.

        Parameters
        ----------
        raw : (N, D) array_like
        dtype : floating dtype
            The dtype of the result, except for "values", which are not changed.

        Returns
        -------
        x : (N, D) array
        """
        width = None if self.low is None else len(self.low)
        raw = check_rows(raw, width, "raw")
        if self.reading == "values":
            return raw
        if self.scale != "standardize":
            return np.divide(raw, self.maximum, dtype=dtype)
        x = np.empty(raw.shape, dtype)
        start = 0
        for block in row_blocks(raw):  # in float64, so that a large mean costs no digits
            x[start : start + len(block)] = (block.astype(float) - self.mean) / self.std
            start += len(block)
        return x

    def invert(self, x: Any) -> np.ndarray:
        """Return the raw rows for x, in float64.

        Parameters
        ----------
        x : (N, D) array_like

        Returns
        -------
        raw : (N, D) array
        """
        x = check_rows(x).astype(float)
        if self.reading == "values":
            return x
        return x * self.std + self.mean if self.scale == "standardize" else x * self.maximum

    @property
    def continuous(self) -> bool:
        """Whether log p(x) is a density, and not the log probability of whole numbers."""
        return self.reading == "fractions"

    @property
    def log_jacobian(self) -> float:
        """Σ_d log |dx_d/draw_d|, in nats: log p(raw) = log p(x) + log_jacobian.

        It is 0 for probabilities of whole numbers, which no change of scale alters.
        """
        if not self.continuous:
            return 0.0
        if self.std is not None:
            return -float(np.log(self.std).sum())
        if self.low is None:
            raise ValueError("low: expected the ranges of the columns, from which D follows")
        return -len(self.low) * math.log(self.maximum)

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray] | None:
        """`low` and `high`, or None if the range of the training rows is not known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def rule(self) -> str:
        """The rule in a few words, for a report."""
        if self.binarize:
            return f"0 or 1 drawn with probability raw/{self.maximum:g}"
        if self.reading != "fractions":
            return "the data as they are"
        if self.scale == "standardize":
            return "(raw − mean)/std of each column"
        return "the data as they are" if self.maximum == 1 else f"raw/{self.maximum:g}"

    # Which columns of a file, and do its values look like those of the training?

    def positions(self, width: int, names: Sequence[str] | None, source: str) -> list[int] | None:
        """Return where the used columns stand in a source, by name if it has names.

        Parameters
        ----------
        width : int
            The number of columns of the source.
        names : sequence of str, optional
            Their names.
        source : str
            What a message calls the source.

        Returns
        -------
        positions : list of int, or None for all columns in their order

        Raises
        ------
        ValueError
            If a column is missing.
        """
        if names is not None and self.names is not None:
            missing = [name for name in self.names if name not in names]
            if missing:
                raise ValueError(
                    f"{source}: expected the columns {', '.join(self.names[:5])}"
                    f"{', …' if len(self.names) > 5 else ''} of the training, got none called "
                    f"{missing[0]!r} ({len(missing)} missing); check the header of the file"
                )
            return [list(names).index(name) for name in self.names]
        used = len(self.columns) if self.columns is not None else None
        if self.columns is None or width == used:
            return None
        if max(self.columns) >= width:
            raise ValueError(
                f"{source}: expected at least {max(self.columns) + 1} columns, of which the "
                f"training used {used}, got {width}; check that this is the right file"
            )
        return list(self.columns)

    def difference(self, raw: np.ndarray) -> str | None:
        """Return a sentence with both ranges if `raw` has another scale than the training rows.

        Images are compared as a whole, tables column by column.
        """
        if self.ranges is None:
            return None
        low, high = raw.min(axis=0).astype(float), raw.max(axis=0).astype(float)
        known = self.ranges
        if self.image_shape is not None or self.scale == "maximum":
            low, high = low.min(keepdims=True), high.max(keepdims=True)
            known = known[0].min(keepdims=True), known[1].max(keepdims=True)
        span = np.maximum(known[1] - known[0], np.finfo(float).tiny)
        away = (low < known[0] - 3 * span) | (high > known[1] + 3 * span)
        # A constant column is a group of rows rather than another scale.
        narrow = (low < high) & (high - low < span / 10) & (raw.size >= 20 * len(low))
        odd = np.flatnonzero(away | narrow)
        if not len(odd):
            return None
        i = int(odd[0])
        where = "" if len(low) == 1 else f" in {self._name(i)} ({len(odd)} of {len(low)} columns)"
        return (
            f"values from {low[i]:g} to {high[i]:g}{where}, where the model was trained on "
            f"{known[0][i]:g} to {known[1][i]:g}"
        )

    def _name(self, i: int) -> str:
        return f"column {i + 1}" if self.names is None else f"column {self.names[i]!r}"

    # In a model file: a part of the JSON header, and arrays.

    def _arrays(self) -> dict[str, np.ndarray]:
        return {n: getattr(self, n) for n in _ARRAYS if getattr(self, n) is not None}

    def stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the entry "preparation" of a model's header, and the arrays beside it."""
        arrays = self._arrays()
        header = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS}
        header["arrays"] = sorted(arrays)
        return {"preparation": header}, {f"preparation.{n}": a for n, a in arrays.items()}

    @staticmethod
    def stored_names(header: Any) -> set[str]:
        """Return the names of the arrays in a model file, as its header declares them.

        Raises
        ------
        ValueError
            If the entry is not one that `stored` made.
        """
        if header is None:
            return set()
        names = header.get("arrays") if isinstance(header, dict) else None
        if not isinstance(names, list) or not all(n in _ARRAYS for n in names):
            raise ValueError(f"preparation: expected what save writes, got {shown(header)}")
        return {f"preparation.{name}" for name in names}

    @classmethod
    def restored(cls, header: Any, data_dim: int, file: ArrayFile) -> Preparation | None:
        """Return the preparation of a model file, or None if it has none.

        Parameters
        ----------
        header : dict or None
            The entry that `stored` made.
        data_dim : int
            The number D of dimensions of x.
        file : ArrayFile
            Has the arrays.

        Raises
        ------
        ValueError
            If an entry or an array is not valid.
        """
        names = cls.stored_names(header)
        if header is None:
            return None
        more: dict[str, Any] = {
            n.partition(".")[2]: file.read(n, (data_dim,), "f") for n in sorted(names)
        }
        given = {key: value for key, value in header.items() if key != "arrays"}
        try:
            for key in ("columns", "names"):
                if isinstance(given.get(key), list) and len(given[key]) != data_dim:
                    raise ValueError(f"expected {data_dim} {key}, got {len(given[key])}")
            return cls(**given, **more)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{file.path}: expected the preparation that save writes, got another ({error}); "
                "save the model again or choose another file"
            ) from None


def _tuple(name: str, value: Any) -> tuple:
    """Return the entries of `columns`, `names` or `image_shape`, checked."""
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_COLUMNS:
        raise TypeError(f"{name}: expected a tuple, got {shown(value)}")
    if name == "names":
        if not all(isinstance(entry, str) for entry in value):
            raise TypeError(f"names: expected texts, got {shown(value)}")
        return tuple(value)
    minimum = 1 if name == "image_shape" else 0
    if name == "image_shape" and len(value) != 2:
        raise ValueError(f"image_shape: expected (height, width), got {shown(value)}")
    return tuple(check_count(name, entry, minimum=minimum) for entry in value)
