"""Checks of the values of data against the support of a likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .checks import row_blocks, warn_caller

__all__ = ["check_outcomes", "check_support"]


def check_support(likelihood: Any, x: np.ndarray, name: str) -> None:
    """Raise ValueError if a value of `x` (N, D), called `name`, is one that x cannot have."""
    (low, high), integers = likelihood.support, likelihood.integers
    if not integers and math.isinf(low) and math.isinf(high):
        return
    kind = "whole numbers" if integers else "values"
    for block in row_blocks(x):
        wrong = (block < low) | (block > high)
        if integers:
            wrong |= block != np.floor(block)
        if wrong.any():
            raise ValueError(
                f"{name}: expected {kind} from {low:g} to {high:g} for the likelihood "
                f"{likelihood.name}, got {block[wrong][0]:.10g}; "
                "round or scale the data, or choose another likelihood"
            )


def check_outcomes(x: np.ndarray, name: str) -> None:
    """Raise ValueError if a value of `x` (N, D) is outside [0, 1]; warn of grays between."""
    grays = False
    for block in row_blocks(x):
        if block.min() < 0 or block.max() > 1:
            raise ValueError(
                f"{name}: expected values in [0, 1] for the likelihood bernoulli, got values "
                f"from {block.min():.10g} to {block.max():.10g}; divide by the largest "
                "possible value and binarize (numpyvae.datasets.binarize), or choose "
                "binomial:N or gaussian"
            )
        grays = grays or bool(((block != 0) & (block != 1)).any())
    if grays:
        warn_caller(
            f"{name} contains grays, but a Bernoulli outcome is 0 or 1: the objective is then "
            "a cross-entropy, not log p(x). Draw outcomes with "
            f"numpyvae.datasets.binarize({name}, rng), or afresh in each epoch with "
            "fit(transform=numpyvae.datasets.binarize), or choose another likelihood"
        )
