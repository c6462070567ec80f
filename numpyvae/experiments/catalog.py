"""The experiments by name."""

from __future__ import annotations

from .altosaar import ALTOSAAR
from .burda import BURDA
from .cremer import CREMER
from .declaring import Experiment
from .kingma_welling_bounds import FIGURE_2
from .kingma_welling_images import FIGURE_4, FIGURE_5
from .kingma_welling_likelihood import FIGURE_3
from .lucas import LUCAS
from .tightness import TIGHTNESS
from .tucker import TUCKER

__all__ = ["EXPERIMENTS"]

_ALL = (FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5, ALTOSAAR, BURDA, TIGHTNESS, LUCAS, CREMER, TUCKER)
EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in _ALL}
