"""What training records, and the error it raises: rows of figures, and all it needs to go on."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .checks import check_kind, shown
from .files import ArrayFile, atomic_write, write_arrays

__all__ = ["History", "NonFiniteError", "Snapshot", "worst_parameter"]

_FORMAT = "numpyvae history, version 1"
_VECTORS = ("best_parameters", "last_parameters")
_SLOT = "optimizer_state."  # the prefix of its arrays in a file
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # JSON lacks them


@dataclass
class History:
    """What `fit` saw, a row for each epoch, and what it needs to go on.

    `history["elbo"]` is a column, as an array with one value for each epoch.

    Attributes
    ----------
    rows : list of dict
        `epoch`, the number of epochs that moved the model, this one included; `elbo`,
        `reconstruction`, `kl`, and `objective`, which is what the gradient ascends: the ELBO, L_K,
        or a weighted objective. They are means over the training set, nats per datapoint, taken
        while the parameters move. `gradient_norm` (mean over the steps, weighted by their rows,
        before clipping); `learning_rate` (at the epoch's end); `warm_up`, True while the objective
        still changes from step to step; with a validation set `valid_elbo`,
        `valid_reconstruction`, `valid_kl`; and `seconds` since the start of the call.
    optimizer_state : dict of (P,) arrays
        The optimizer's state after the last epoch.
    best_parameters : (P,) array or None
        The parameters that early stopping found best so far.
    last_parameters : (P,) array or None
        The parameters after the last epoch, if early stopping has set the model back to others.
    stopped_early : bool
        Whether a callback ended the run.

    Examples
    --------
    >>> history = History([{"epoch": 1, "elbo": -9.0}, {"epoch": 2, "elbo": -8.0}])
    >>> len(history), history["elbo"]
    (2, array([-9., -8.]))
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    optimizer_state: dict[str, np.ndarray] = field(default_factory=dict)
    best_parameters: np.ndarray | None = None
    last_parameters: np.ndarray | None = None
    stopped_early: bool = False

    def __getitem__(self, column: str) -> np.ndarray:
        if not isinstance(column, str):
            raise TypeError(
                f"column: expected a name, as history['elbo'], got {column!r}; "
                "the row of an epoch is history.rows[i]"
            )
        if self.rows and not any(column in row for row in self.rows):
            raise KeyError(f"{column}: expected one of {', '.join(self.rows[-1])}")
        return np.array([row.get(column, math.nan) for row in self.rows])

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def start(
        cls, parameters: Any, fresh: dict[str, np.ndarray], resume: History | None
    ) -> History:
        """Return the history of a new run, or that of a run to go on with.

        To go on, `parameters` are set to those where that run stopped.

        Parameters
        ----------
        parameters : Parameters
            Of the model.
        fresh : dict of array
            The optimizer's state before its first step.
        resume : History, optional

        Raises
        ------
        TypeError, ValueError
            If `resume` is not a history, or its optimizer state is not like the `fresh` one.
        """
        if resume is None:
            return cls(optimizer_state=fresh)
        check_kind("resume", resume, History, "pass what fit returned")
        state = resume.optimizer_state
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in fresh.items()}:
            raise ValueError(
                f"resume: expected an optimizer state with {sorted(fresh)} of this model's size, "
                f"got {sorted(state)}; resume with the same model, optimizer and update"
            )
        history = resume.copy()
        if history.last_parameters is not None:
            parameters.flat[:], history.last_parameters = history.last_parameters, None
        if history.rows:
            parameters.epochs = int(history.rows[-1]["epoch"])
        return history

    def copy(self) -> History:
        """Return a history that can be continued while this one stays as it is."""
        state = {name: array.copy() for name, array in self.optimizer_state.items()}
        return History(list(self.rows), state, self.best_parameters, self.last_parameters)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the rows as CSV with all digits, and 1 and 0 for True and False.

        The file is replaced as a whole or not at all.
        """
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in self.rows for name in row)) or ["epoch"]
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: int(v) if isinstance(v, bool) else v for k, v in row.items()})
        with atomic_write(path) as file:
            file.write(text.getvalue().encode())

    # On disk: an npz file of the arrays and one JSON text, without pickle.

    def save(self, path: str | os.PathLike) -> None:
        """Write all of this to `path` as npz; the file is replaced as a whole or not at all.

        `fit(resume=History.load(path))` then continues the run to the bit, with the model that
        `VAE.save` wrote, or with `last_parameters` if they are set.

        Raises
        ------
        OSError
            If the folder does not exist or cannot be written.
        TypeError
            If a row has a value that is not a number.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "history.npz"
        ...     History([{"epoch": 1, "elbo": -9.0}]).save(path)
        ...     History.load(path).rows
        [{'epoch': 1, 'elbo': -9.0}]
        """
        arrays = {f"{_SLOT}{name}": array for name, array in self.optimizer_state.items()}
        vectors = {name: getattr(self, name) for name in _VECTORS}
        arrays |= {name: array for name, array in vectors.items() if array is not None}
        header = {
            "format": _FORMAT,
            "rows": [{name: _to_json(name, v) for name, v in row.items()} for row in self.rows],
            "stopped_early": bool(self.stopped_early),
            "arrays": {name: np.shape(array) for name, array in arrays.items()},
        }
        text = json.dumps(header, allow_nan=False)
        write_arrays(path, {"header": np.array(text), **arrays})

    @classmethod
    def load(cls, path: str | os.PathLike) -> History:
        """Read a history that `save` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a history, is damaged, or contains arrays that are not finite.
        """
        with ArrayFile(path) as file:
            text = str(file.read("header", None, "U"))
            try:
                rows, stopped, shapes = _parse(text)
            except (TypeError, ValueError, KeyError, RecursionError) as error:
                why = " ".join(str(error).split())
                raise ValueError(
                    f"{path}: expected a history written by History.save, got another file ({why})"
                ) from None
            file.expect({"header", *shapes})
            arrays = {name: file.read(name, shape, "biufc") for name, shape in shapes.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError(f"{path}: expected finite arrays, got NaN or infinity")
        best, last = (arrays.pop(name, None) for name in _VECTORS)
        state = {name.removeprefix(_SLOT): array for name, array in arrays.items()}
        return cls(rows, state, best, last, stopped)


def _to_json(name: str, value: Any) -> Any:
    """Return a value of a row as JSON can have it."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"rows: expected numbers to save, got {shown(value)} in column {name!r}")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _parse(text: str) -> tuple[list[dict[str, Any]], bool, dict[str, tuple[int, ...]]]:
    """Return rows, `stopped_early` and the shapes of the arrays, after a check of the text."""
    header = json.loads(text, parse_constant=_refuse)
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    rows, stopped, shapes = (header[name] for name in ("rows", "stopped_early", "arrays"))
    parts = [(rows, list), (stopped, bool), (shapes, dict), *((row, dict) for row in rows)]
    if not all(isinstance(part, kind) for part, kind in parts):
        raise ValueError("its parts are of another kind")
    for row in rows:
        for name, value in row.items():
            if not isinstance(value, (bool, int, float)) and value not in _WORDS:
                raise ValueError(f"the value {shown(value)} in column {name!r} is not a number")
            row[name] = _WORDS[value] if isinstance(value, str) else value
    for name, shape in shapes.items():
        whole = all(type(n) is int and n >= 0 for n in shape)
        if not whole or not (name in _VECTORS or name.startswith(_SLOT)):
            raise ValueError(f"the array {name!r} of shape {shown(shape)}")
    return rows, stopped, {name: tuple(shape) for name, shape in shapes.items()}


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


class Snapshot:
    """A copy of the parameters and of the history, for `fit` to go back to after a failure.

    Parameters
    ----------
    parameters : Parameters
    history : History
    """

    def __init__(self, parameters: Any, history: History) -> None:
        self._values = parameters.flat.copy(), parameters.epochs, history.copy()

    def restore(self, parameters: Any, history: History) -> None:
        """Set both back, in place."""
        parameters.flat[:], parameters.epochs, before = self._values
        vars(history).update(vars(before))


class NonFiniteError(FloatingPointError):
    """Training met NaN or infinity, and went back to parameters with a finite objective.

    Attributes
    ----------
    epoch, step : int
        Where it happened, both counted from 1.
    parameter : str
        The first parameter, from the input on, whose gradient or step is not finite; if all are
        finite and the ELBO is not, the parameter with the largest entry.
    history : History
        The epochs up to the parameters that the model has now, for `fit(resume=…)`.

    Examples
    --------
    >>> NonFiniteError("ELBO", 2, 7, "encoder.W0", History()).epoch
    2
    """

    def __init__(self, what: str, epoch: int, step: int, parameter: str, history: History) -> None:
        self.epoch, self.step, self.parameter, self.history = epoch, step, parameter, history
        super().__init__(
            f"epoch {epoch}, step {step}: expected a finite {what}, got NaN, infinity or overflow "
            f"(first seen in {parameter}); the model is back at the last start of an epoch with a "
            "finite objective: lower the learning rate, or set the optimizer's clip_norm"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied and pickled by its arguments.
        what = str(self).partition("expected a finite ")[2].partition(", got NaN")[0]
        return NonFiniteError, (what, self.epoch, self.step, self.parameter, self.history)


def worst_parameter(gradient: Mapping[str, np.ndarray]) -> str:
    """Return the first name whose array is not finite, else that of the largest entry."""
    sizes = {name: float(np.abs(array).max(initial=0.0)) for name, array in gradient.items()}
    bad = (name for name, size in sizes.items() if not math.isfinite(size))
    return next(bad, None) or max(sizes, key=sizes.__getitem__)
