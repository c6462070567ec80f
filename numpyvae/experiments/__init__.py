"""Published experiments, each a page of settings: `numpyvae reproduce NAME`.

    outcome = reproduce(EXPERIMENTS["burda-table1"], Path("runs/burda"), quick=True)
    print(outcome.table)

An experiment declares its trainings, what is measured on them, and the published figures. What is
trained and measured is kept after each epoch and each part, so that an experiment that is stopped
goes on with the same bits.
"""

from .catalog import EXPERIMENTS
from .declaring import Claim, Experiment, Plan, Published, Training
from .reproduce import Outcome, reproduce

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Experiment",
    "Outcome",
    "Plan",
    "Published",
    "Training",
    "reproduce",
]
