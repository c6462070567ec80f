"""The page *Check*: the equations of the notes, as `numpyvae equations` prints them."""

from __future__ import annotations

from typing import Any

from numpyvae.command.reports import equations_table
from numpyvae.equations import EQUATIONS, KINGMA_WELLING, check_equation, make_case
from numpyvae.equations.cases import DiscreteCase

__all__ = ["check", "register"]

REGISTER = (*EQUATIONS, *KINGMA_WELLING)


def register() -> dict[str, list[str]]:
    """Return the numbers of all equations, and what they say."""
    return {"numbers": [e.number for e in REGISTER], "texts": [e.text for e in REGISTER]}


def check(model: str, seed: int, number: str) -> dict[str, Any]:
    """Check one equation, or with an empty number all of them, on a model drawn with this seed."""
    case = make_case(model, seed)
    outcomes, left_out = [], []
    for equation in REGISTER:
        if number not in ("", equation.number):
            continue
        if equation in KINGMA_WELLING and isinstance(case, DiscreteCase):
            if number:
                left_out.append(f"{number}: needs a continuous z; choose another model.")
            continue
        try:
            outcomes.append(check_equation(equation, case))
        except ModuleNotFoundError as error:  # the search of Eq. (5)
            missing = error.name.partition(".")[0]
            left_out.append(f"({equation.number}) needs {missing}, which is not in the browser.")
    table = [equations_table(outcomes, model)] if outcomes else []
    return {
        "text": "\n".join([*table, *left_out]),
        "passed": sum(outcome.passed for outcome in outcomes),
        "checked": len(outcomes),
    }
