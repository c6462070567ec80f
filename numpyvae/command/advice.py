"""What a reader should know about data and results, and what to try: one line for each.

`remarks` looks at the data before the training, `advice` at the figures after it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..datasets.columns import column_name
from ..support.precision import collapsed_columns
from ..support.preparation import Preparation

__all__ = ["advice", "log_density", "remarks", "unit"]

_FAR = 10.0  # |values| above this are far from the unit scale of the weights
_HIGH_KL = 6.0  # nats for each latent variable


def remarks(raw: np.ndarray, p: Preparation, free: bool) -> list[str]:
    """Return what is remarkable about the raw training rows, one line each.

    Parameters
    ----------
    raw : (N, D) array
    p : Preparation
    free : bool
        Whether the scale was left to its default.

    Examples
    --------
    >>> years = np.array([[1990.0], [2020.0]])
    >>> remarks(years, Preparation.fitted(years), True)[0][:57]
    '1 of 1 columns have values far from 0 (first: column 1, 1'
    """
    found = []
    low, high = p.ranges or (raw.min(axis=0), raw.max(axis=0))
    far = far_columns(p)
    if free and p.scale == "none" and len(far):
        i = int(far[0])
        remedy = "--scale standardize"
        if raw.dtype.kind == "u" and raw.dtype.itemsize == 1:
            remedy = (
                f"--maximum {255 if raw.max() > 127 else int(raw.max())} for images, or {remedy}"
            )
        found.append(
            f"{len(far)} of {len(low)} columns have values far from 0 (first: "
            f"{column_name(p.names, i)}, {low[i]:g} to {high[i]:g}), which trains badly; try "
            f"{remedy}"
        )
    if p.scale != "standardize":
        for i, before, after in collapsed_columns(raw, "float32")[:1]:
            found.append(
                f"{column_name(p.names, i)}: only {after} of {before} distinct values stay "
                f"distinct in float32 (range {low[i]:.10g} to {high[i]:.10g}); try "
                "--scale standardize, or subtract the smallest value"
            )
    return found


def far_columns(p: Preparation) -> np.ndarray:
    """Return the indices of columns of real numbers whose x is far from 0."""
    if p.reading != "fractions" or p.ranges is None:
        return np.zeros(0, int)
    largest = np.maximum(*np.abs(p.ranges)) / p.maximum
    return np.flatnonzero(largest > _FAR) if p.scale != "standardize" else np.zeros(0, int)


def advice(summary: dict[str, Any], p: Preparation | None) -> list[str]:
    """Return what the figures of a training suggest to try, one line each.

    Parameters
    ----------
    summary : dict
        Has "active_units", "latent_dim", "kl" and "likelihood".
    p : Preparation or None

    Examples
    --------
    >>> figures = {"active_units": 0, "latent_dim": 2, "kl": 0.0, "likelihood": "bernoulli"}
    >>> advice(figures, None)[0][:42]
    'No latent variable is used: the model igno'
    """
    found = []
    gaussian = summary["likelihood"].startswith("gaussian")
    unscaled = gaussian and p is not None and len(far_columns(p)) > 0
    if summary["active_units"] == 0:
        tries = ["--scale standardize"] if unscaled else []
        tries += ["more --epochs", "--kl-warmup", "a smaller --likelihood gaussian:SIGMA"][
            : 3 if gaussian else 2
        ]
        found.append(
            f"No latent variable is used: the model ignores z (KL {summary['kl']:.2f} nats). Try "
            f"{', '.join(tries)}; columns that are independent of each other need no latents."
        )
    if gaussian and summary["kl"] > _HIGH_KL * summary["latent_dim"]:
        try_ = "--scale standardize, or a larger --likelihood gaussian:SIGMA"
        found.append(
            f"The KL is {summary['kl']:.0f} nats for {summary['latent_dim']} latent variables: "
            f"q(z|x) is far from the prior, so that samples look unlike the data. Try {try_}."
        )
    if p is not None and p.low is not None and gaussian:
        constant = np.flatnonzero(p.low == p.high)
        if len(constant):
            first = column_name(p.names, int(constant[0]))
            other = "" if p.image_shape is not None else "--columns varying, or "
            found.append(
                f"{len(constant)} of {len(p.low)} columns are constant in the training set "
                f"(first: {first}): a learned variance shrinks to 0 there, and log p(x) grows "
                f"without limit. Try {other}--likelihood gaussian:SIGMA."
            )
    return found


def unit(p: Preparation | None) -> str:
    """Return the unit of log p(x) in words.

    Examples
    --------
    >>> unit(Preparation(scale="maximum", maximum=255))
    'nats per row of x = raw/255'
    """
    return "nats per row of x" if p is None else f"nats per row of x = {p.rule}"


def log_density(log_p: float, data_dim: int, p: Preparation | None) -> dict[str, Any]:
    """Return log p in other units: bits for each dimension, and the density of the raw data.

    Parameters
    ----------
    log_p : float
        Nats per row of x.
    data_dim : int
        The number D of dimensions of x.
    p : Preparation or None

    Returns
    -------
    figures : dict
        "unit"; "raw_log_likelihood", log p(raw) = log p(x) + Σ log |dx/draw|, None where outcomes
        are drawn, so that the raw data have no density; "bits_per_dimension" of the raw data, or
        of x where those have none.

    Examples
    --------
    >>> log_density(-2 * np.log(2), 2, None)["bits_per_dimension"]
    1.0
    """
    raw = None if p is None or p.binarize else log_p + p.log_jacobian
    bits = -(log_p if raw is None else raw) / (data_dim * math.log(2))
    return {"unit": unit(p), "raw_log_likelihood": raw, "bits_per_dimension": float(bits)}
