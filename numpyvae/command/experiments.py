"""The command `reproduce`: which experiments there are, running one, and its report."""

from __future__ import annotations

from argparse import Namespace

from .. import __version__
from ..experiments import EXPERIMENTS, Experiment, Outcome, reproduce
from ..support.versions import provenance
from .parser import DEFAULT_EXPERIMENTS
from .usage import UsageError, suggest

__all__ = ["listing", "report", "run"]


def listing() -> str:
    """Return the experiments, with their sources and durations.

    Examples
    --------
    >>> "burda-table1" in listing()
    True
    """
    parts = []
    for name, e in EXPERIMENTS.items():
        parts += [
            name,
            f"  {e.claim}",
            f"  {e.source}",
            f"  time: {e.full.duration}; --quick: {e.quick.duration}",
            f"  trainings: {', '.join(training.name for training in e.full.trainings)}",
        ]
    return "\n".join(parts)


def run(args: Namespace) -> Outcome:
    """Run the experiment that the arguments name, or go on with it.

    Raises
    ------
    UsageError
        If there is no name, or a training has another one.
    KeyboardInterrupt
        With how to go on as its text.
    """
    if args.name is None:
        raise UsageError(
            f"NAME: expected an experiment ({', '.join(EXPERIMENTS)}), got none; --list says what "
            "each one is"
        )
    experiment = EXPERIMENTS[args.name]
    _check_trainings(experiment, args)
    quick = "-quick" if args.quick else ""
    output = args.output or DEFAULT_EXPERIMENTS / f"{args.name}{quick}"
    try:
        return reproduce(
            experiment,
            output,
            quick=args.quick,
            seeds=args.seed,
            only=args.only,
            until=args.until,
            folder=args.folder,
            accelerator=args.accelerator,
            models=args.models,
            record=provenance(__version__),
            progress=True,
        )
    except KeyboardInterrupt as stop:
        stop.args = (f"what is finished is kept in {output}; the same command goes on",)
        raise


def _check_trainings(experiment: Experiment, args: Namespace) -> None:
    names = [training.name for training in experiment.plan(args.quick).trainings]
    for name in args.only or ():
        if name not in names:
            raise UsageError(
                f"--only: expected some of {', '.join(names)}, got {name!r}{suggest(name, names)}"
            )


def report(outcome: Outcome) -> str:
    """Return the table, and the claims with whether they hold."""
    r = outcome.results
    what = f"{r['experiment']}, {'quick version' if r['quick'] else 'as published'}: {r['source']}"
    claims = [f"{'holds' if c.holds else 'FAILS'}: {c.text}" for c in outcome.claims]
    state = [] if r["complete"] else ["Not all is measured yet; the same command goes on."]
    return "\n".join([what, outcome.table, *claims, *state])
