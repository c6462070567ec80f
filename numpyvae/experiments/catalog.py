"""The experiments by name."""

from __future__ import annotations

from .altosaar import ALTOSAAR
from .burda import BURDA
from .declaring import Experiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in (ALTOSAAR, BURDA)}
