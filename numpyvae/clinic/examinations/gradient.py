"""The gradient against central differences of the loss.

A gradient that is not the derivative of the value may still be right in its mean, as that of STL
or DReG is: its mean difference from the derivative of the value, over seeds, is then 0, and it is
no bug. Otherwise it is split into its parts, whose factors name the bug.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..differences import step
from ..facts import Facts, skipped
from ..findings import RIGHT, UNDECIDED, UNUSUAL, Finding
from ..names import bug, wrong
from .gradient_case import Case, compare
from .gradient_names import NOT, UNBIASED, name_of
from .paths import along, is_a_gradient

__all__ = ["examine"]

_TITLE = "gradient: derivative of the loss"
_PATH = "gradient: integral along a path"
_EQUATION = "Eq. (11)"


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield whether the gradient is that of the loss, and what is wrong with it if not."""
    calls = facts.calls
    missing = [n for n in ("gradient", "parameters", "loss") if not calls.has(n)]
    if missing or facts.x is None:
        yield skipped(_TITLE, f"{', '.join(missing) or 'x'} not given")
        return
    if not facts.frozen:
        yield skipped(_TITLE, "the noise is not frozen by a seed")
        return
    case = compare(facts)
    worst = {n: case.error(case.of(n)) for n in case.blocks.names}
    text = ", ".join(f"{n} {e:.2g}" for n, e in worst.items())
    probe = facts.probe(f"x {case.x.shape}, {len(case.blocks.index)} coordinates, h {step(facts)}")
    if not case.wrong:
        found = f"greatest relative error {max(worst.values()):.2g}"
        unseen = ", ".join(case.unseen)
        hidden = f"rounding errors of the loss hide the gradient of {unseen}" if unseen else ""
        verdict = UNDECIDED if len(case.unseen) == len(worst) else RIGHT
        yield Finding(_TITLE, verdict, "", "", "0", found, _EQUATION, hidden, probe)
        if verdict == RIGHT:
            yield from _along_a_path(case)
        return
    name = name_of(case)
    if name == NOT and is_a_gradient(case):
        name = "gradient is that of another value"
    if not name:
        advice = "it is not the derivative of the loss; its mean is not known well enough"
        yield Finding(_TITLE, UNDECIDED, "", "", "0", text, _EQUATION, advice, probe)
    elif name == UNBIASED:
        known = bug(name)
        yield Finding(
            _TITLE, UNUSUAL, known.severity, name, "0", text, _EQUATION, known.cure, probe
        )
    else:
        yield wrong(_TITLE, name, "relative errors 0", text, probe)


def _along_a_path(case: Case) -> Iterator[Finding]:
    """Yield whether a gradient that is right at the given parameters is so along a path."""
    integral, change, error = along(case)
    text, expected = f"{integral:.6g}", f"{change:.6g}"
    if abs(integral - change) <= error:
        yield Finding(_PATH, RIGHT, "", "", expected, text, _EQUATION)
    else:
        yield wrong(_PATH, "gradient is right at some parameters only", expected, text)
