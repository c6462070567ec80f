"""Argument types for argparse: invalid numbers and file names are rejected before measuring."""

from __future__ import annotations

import argparse
import os


def whole(text: str) -> int:
    """Return the text as an integer of at least 1."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def above_zero(text: str) -> float:
    """Return the text as a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text!r}")
    return number


def picture(text: str) -> str:
    """Return the text if it names an image file in a writable folder."""
    folder = os.path.dirname(text) or "."
    if not text.endswith((".png", ".svg", ".pdf")) or not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(
            f"expected FILE.png, .svg or .pdf in a folder that can be written, got {text!r}"
        )
    return text
