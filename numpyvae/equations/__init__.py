"""The notes, executable: each numbered equation with its code and a check that has two sides.

    outcomes = check_equations(make_case("linear-gaussian"))

`derivations` has appendices A and B line by line and the two routes to the bound; `registry` has
the table of all 22.
"""

from .cases import CASES, make_case
from .registry import EQUATIONS, KINGMA_WELLING, Equation, Outcome, check_equation, check_equations

__all__ = [
    "CASES",
    "EQUATIONS",
    "KINGMA_WELLING",
    "Equation",
    "Outcome",
    "check_equation",
    "check_equations",
    "make_case",
]
