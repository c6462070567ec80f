"""Encode the rows of a file: μ and σ of q(z|x) for each, with its number and its class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.vae import VAE
from ..datasets.reading import RawData
from ..support.checks import warn_caller
from ..support.files import atomic_write
from ..support.preparation import Preparation
from .reapply import Request, chosen_preparation, compare_scales, raw_like, x_like

__all__ = ["encode"]

_BLOCK = 4096  # rows at a time


def encode(vae: VAE, request: Request, output: Path) -> int:
    """Write μ and σ of each row of a source, prepared as the model's training rows were.

    Parameters
    ----------
    vae : VAE
    request : Request
    output : Path
        A .csv file has the columns `row` (counted from 1), `part` if the source has parts,
        `label` if it has classes, `mu_1` ... and `sigma_1` ... A .npy file has a structured array
        with the same fields, `mu` and `sigma` with J values each.

    Returns
    -------
    rows : int
        How many rows were encoded.

    Raises
    ------
    OSError, ValueError
        If the data cannot be read or the file cannot be written.
    """
    raw = raw_like(vae, request)
    p = chosen_preparation(vae, raw, request)
    compare_scales(vae, raw, p)
    for note in raw.notes:
        warn_caller(note)
    parts = list(_parts(raw))
    codes = [np.concatenate(list(_codes(vae, part, p))) for _, part in parts]
    table = _table(vae.latent_dim, parts, codes)
    with atomic_write(output) as file:
        if output.suffix == ".npy":
            np.save(file, table)
        else:
            file.write(_csv(table).encode())
    return len(table)


def _parts(raw: RawData) -> Iterator[tuple[str, RawData]]:
    """Yield the parts of the data that are there, each as a training part."""
    for part in ("train", "valid", "test"):
        x, y = getattr(raw, f"x_{part}"), getattr(raw, f"y_{part}")
        if x is not None:
            alone: dict[str, Any] = {
                "x_valid": None,
                "x_test": None,
                "y_valid": None,
                "y_test": None,
            }
            yield part, replace(raw, **alone, x_train=x, y_train=y)


def _codes(vae: VAE, raw: RawData, p: Preparation) -> Iterator[np.ndarray]:
    """Yield μ and σ, (B, 2J), of each block of rows."""
    x = x_like(vae, raw, p)
    for start in range(0, len(x), _BLOCK):
        mu, logvar = vae.encode(x[start : start + _BLOCK])
        yield np.concatenate([mu, np.exp(0.5 * logvar)], axis=1)


def _table(J: int, parts: list[tuple[str, RawData]], codes: list[np.ndarray]) -> np.ndarray:
    """Return the rows as a structured array."""
    fields: list[tuple] = [("row", "i8")]
    if len(parts) > 1:
        fields.append(("part", "U5"))
    labels = [part.y_train for _, part in parts]
    if any(y is not None for y in labels):
        texts = [y for y in labels if y is not None and y.dtype.kind == "U"]
        width = max((y.dtype.itemsize // 4 for y in texts), default=0)
        fields.append(("label", f"U{max(width, 20)}" if texts else "i8"))
    fields += [("mu", codes[0].dtype, (J,)), ("sigma", codes[0].dtype, (J,))]
    table = np.zeros(sum(map(len, codes)), fields)
    start = 0
    for (part, _), y, code in zip(parts, labels, codes):
        rows = table[start : start + len(code)]
        rows["row"] = np.arange(1, len(code) + 1)
        if len(parts) > 1:
            rows["part"] = part
        if y is not None:
            rows["label"] = y
        elif "label" in (table.dtype.names or ()) and table.dtype["label"].kind == "i":
            rows["label"] = -1
        rows["mu"], rows["sigma"] = code[:, :J], code[:, J:]
        start += len(code)
    return table


def _csv(table: np.ndarray) -> str:
    """Return the rows as CSV, with all digits that the dtype has."""
    single = [name for name in table.dtype.names or () if name not in ("mu", "sigma")]
    J = table["mu"].shape[1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*single, *(f"{n}_{j}" for n in ("mu", "sigma") for j in range(1, J + 1))])
    for row in table:
        codes = [str(v) for name in ("mu", "sigma") for v in row[name]]
        writer.writerow([*(row[name] for name in single), *codes])
    return text.getvalue()
