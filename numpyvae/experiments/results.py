"""The figures of an experiment beside the published ones: as JSON, as a table, as a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .declaring import Claim, Experiment
from .found import Found

__all__ = ["Row", "as_dict", "rows", "table"]

_POINTS = 60  # of a curve in the results


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure of one training, as a mean over the seeds.

    Attributes
    ----------
    training : str
    epoch, epochs : int
        Of the model, and of the whole training.
    quantity : str
    ours : float
    se : float or None
        The standard error of the mean over the test rows.
    seeds : int
    spread : float or None
        The standard deviation over the seeds.
    published, tolerance : float or None

    Examples
    --------
    >>> Row("VAE", 3, 3, "log p(x)", -86.9, 0.2, 1, None, -86.76, 0.5).difference.__round__(2)
    -0.14
    """

    training: str
    epoch: int
    epochs: int
    quantity: str
    ours: float
    se: float | None
    seeds: int
    spread: float | None
    published: float | None
    tolerance: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus the published figure."""
        return None if self.published is None else self.ours - self.published

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance."""
        if self.difference is None or self.tolerance is None:
            return None
        return abs(self.difference) <= self.tolerance


def rows(experiment: Experiment, found: Sequence[Found], quick: bool) -> list[Row]:
    """Return the lines of the table: each figure that is a number or has a standard error.

    A figure of a training that is not finished, or of the quick version, is not compared.
    """
    published = {(p.training, p.quantity): p for p in experiment.published}
    lines: dict[tuple[str, int, str], list[tuple[Found, float, float | None]]] = {}
    for f in found:
        for quantity, value in f.figures.items():
            if (pair := _pair(value)) is not None:
                lines.setdefault((f.training.name, f.epoch, quantity), []).append((f, *pair))
    made = []
    for (name, epoch, quantity), group in lines.items():
        first = group[0][0]
        values = np.array([mean for _, mean, _ in group])
        errors = [se for _, _, se in group if se is not None and math.isfinite(se)]
        compared = None if quick or not first.last else published.get((name, quantity))
        made.append(
            Row(
                name,
                epoch,
                first.training.epochs,
                quantity,
                float(values.mean()),
                float(np.mean(errors)) if errors else None,
                len(values),
                float(values.std(ddof=1)) if len(values) > 1 else None,
                None if compared is None else compared.value,
                None if compared is None else compared.tolerance,
            )
        )
    return made


def _pair(value: Any) -> tuple[float, float | None] | None:
    """Return (mean, standard error or None) of a figure, or None if it is not one number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value, None
    if isinstance(value, (tuple, list)) and len(value) == 2:
        mean, error = value
        return mean, error
    return None


def as_dict(
    experiment: Experiment, found: Sequence[Found], claims: Sequence[Claim], quick: bool
) -> dict[str, Any]:
    """Return the results for JSON."""
    return {
        "experiment": experiment.name,
        "claim": experiment.claim,
        "source": experiment.source,
        "quick": quick,
        "table": [
            asdict(row) | {"difference": row.difference, "within": row.within}
            for row in rows(experiment, found, quick)
        ],
        "claims": [claim._asdict() for claim in claims],
        "models": [
            {"training": f.training.name, "seed": f.seed, "epoch": f.epoch}
            | {"figures": f.figures, "seconds": f.seconds}
            for f in found
        ],
        "curves": _curves(found),
    }


def _curves(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return the ELBO in the course of each training: some epochs, ever more apart."""
    longest = {(f.training.name, f.seed): f for f in found}
    curves = []
    for f in longest.values():
        steps = np.geomspace(1, len(f.history), _POINTS).round().astype(int)
        at = np.unique(steps) - 1
        curve: dict[str, Any] = {"training": f.training.name, "seed": f.seed}
        curve["rows"] = len(f.data.first(f.training.rows).x_train)
        curve["epoch"] = f.history["epoch"][at].astype(int).tolist()
        for name in ("elbo", "valid_elbo", "log_joint"):
            if name in f.history.rows[-1]:
                curve[name] = [round(float(v), 2) for v in f.history[name][at]]
        curves.append(curve)
    return curves


_HEAD = ("training", "passes", "figure", "ours", "± se", "spread", "published", "difference")


def table(experiment: Experiment, found: Sequence[Found], quick: bool) -> str:
    """Return the table as Markdown that also reads well as text.

    The column "spread" is the standard deviation over the seeds, if there are several.
    """
    cells = [
        (
            row.training,
            f"{row.epoch}" if row.epoch == row.epochs else f"{row.epoch} of {row.epochs}",
            row.quantity,
            _number(row.ours),
            *map(_number, (row.se, row.spread, row.published)),
            _number(row.difference, "+") + {None: "", True: "", False: " !"}[row.within],
        )
        for row in rows(experiment, found, quick)
    ]
    widths = [max(map(len, column)) for column in zip(_HEAD, *cells)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |"
        for line in (_HEAD, rule, *cells)
    )


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    return (
        f"{value:{sign}d}"
        if isinstance(value, int)
        else f"{value:{sign}.4g}"
        if (0 < abs(value) < 1)
        else f"{value:{sign}.2f}"
    )
