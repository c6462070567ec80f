"""The command `numpyvae`: its parser, what its commands do, and the data they prepare."""

from .cli import main

__all__ = ["main"]
