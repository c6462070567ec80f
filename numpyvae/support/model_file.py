"""Model files: an npz archive of the named parameters and one JSON text, without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .checks import check_count
from .files import ArrayFile, write_arrays
from .preparation import Preparation

__all__ = ["ModelFile", "write_model"]

_FORMAT = "numpyvae model, version 1"


def write_model(
    path: str | os.PathLike,
    header: Mapping[str, Any],
    parameters: Mapping[str, np.ndarray],
    preparation: Preparation | None = None,
) -> None:
    """Write a model; the file is replaced as a whole or not at all.

    Parameters
    ----------
    path : path
    header : mapping
        The fields of the architecture and `epochs`, as JSON can represent them.
    parameters : mapping of str to array
    preparation : Preparation, optional
        How raw data became x.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written.
    ValueError
        If a parameter is not finite.
    """
    if not all(np.isfinite(array).all() for array in parameters.values()):
        raise ValueError("parameters: expected finite numbers to save, got NaN or infinity")
    more, arrays = ({}, {}) if preparation is None else preparation.stored()
    text = json.dumps({"format": _FORMAT, **header, **more})
    write_arrays(path, {"header": np.array(text), **parameters, **arrays})


class ModelFile(ArrayFile):
    """The file of a model, to be read in a `with` block: first `header`, then `vector`."""

    def header(self, make: Callable[..., Any]) -> tuple[Any, int, Preparation | None]:
        """Return the architecture, `make(**fields)`, the number of epochs, and the preparation.

        Raises
        ------
        ValueError
            If the file is not a model, or describes an impossible one.
        """
        text = self.read("header", None, "U")
        try:
            fields = json.loads(str(text))
            if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT!r}")
            epochs = check_count("epochs", fields.pop("epochs", None), minimum=0)
            prepared = fields.pop("preparation", None)
            self._others = {"header", *Preparation.stored_names(prepared)}
            architecture = make(**fields)
        except (TypeError, ValueError, RecursionError, SystemError) as error:
            why = " ".join(str(error).split())
            raise ValueError(
                f"{self.path}: expected a model written by VAE.save, got another file ({why})"
            ) from None
        return architecture, epochs, Preparation.restored(prepared, architecture.data_dim, self)

    def vector(self, shapes: Mapping[str, tuple[int, ...]]) -> np.ndarray:
        """Return the parameters of these names and shapes as one flat vector.

        Raises
        ------
        ValueError
            If other arrays are in the file, or they are damaged, not finite, or of another dtype
            than float32 or float64.
        """
        self.expect({*self._others, *shapes})
        arrays = [self.read(name, shape, "f") for name, shape in shapes.items()]
        dtypes = {array.dtype.name for array in arrays}
        if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
            raise ValueError(f"{self.path}: expected float32 or float64 throughout, got {dtypes}")
        flat = np.concatenate([array.ravel() for array in arrays])
        if not np.isfinite(flat).all():
            raise ValueError(f"{self.path}: expected finite parameters, got NaN or infinity")
        return flat
