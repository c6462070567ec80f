"""The parser: from the words of a command line to the name of a command and its arguments.

A word that is not known is answered with the one that is spelled most like it, and with the help
that lists what there is. Abbreviations of options are refused, since a new option could change
their meaning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..clinic.examine import EXAMINATIONS
from ..experiments import EXPERIMENTS
from .clinic import FORMATS, SUFFIXES, WITHOUT_FILE
from .completion import SHELLS
from .measuring import SLOW_ROWS
from .preparation import DATASETS
from .settings import OPTIONS, default_text, flag
from .usage import BOUNDS, Check, bound_names, choice, image_shape, positive, suggest, whole
from .workers import BACKENDS

__all__ = ["DEFAULT_EXPERIMENTS", "DEFAULT_RUN", "OF_DATA", "OF_RUN", "parse", "parsers"]

DEFAULT_RUN = Path("runs/vae")
DEFAULT_EXPERIMENTS = Path("runs/reproduce")
# The settings of a run with which `evaluate` measures it, with `eval_importance`.
OF_DATA = ("dataset", "folder", "maximum", "label_column", "delimiter", "test_rows")
OF_RUN = (*OF_DATA, "seed", "accelerator")

_EXACT_MODELS = ("linear-gaussian", "quadrature", "discrete")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments; `command` is the name of the command, `prog` that of its help.

    Options of `train` that were not given are absent, since their defaults depend on the data.

    Raises
    ------
    SystemExit
        After `--help` and `--version`, and for wrong usage.

    Examples
    --------
    >>> parse(["train", "--latent-dim", "2"]).latent_dim
    2
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser, commands = parsers()
    first = argv[0] if argv else None
    if first is None or (first not in commands and first not in ("-h", "--help", "--version")):
        names = ", ".join(commands)
        got = "none" if first is None else repr(first)
        parser.error(f"expected a command first ({names}), got {got}{suggest(first, commands)}")
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(args.command, unknown, commands)
    args.prog = commands[args.command].prog
    return args


def _refuse(name: str, unknown: list[str], commands: dict[str, _Parser]) -> NoReturn:
    """Exit with a line about the first word that the command does not have."""
    parser = commands[name]
    word = next((w for w in unknown if w.startswith("-")), unknown[0]).partition("=")[0]
    if not word.startswith("-"):
        hint = suggest(word, DATASETS).replace("mean ", "mean --dataset ")
        parser.error(f"expected no argument without an option, got {word!r}{hint}")
    hint = suggest(word, parser.options(), most=2)
    others = [f"numpyvae {n}" for n, p in commands.items() if word in p.options()]
    if others:
        hint += f"; it is an option of {', '.join(others)}"
    parser.error(f"expected an option of {parser.prog}, got {word}{hint}")


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviations, whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")

    def options(self) -> list[str]:
        """Return the options, each as it is typed."""
        return [name for action in self._actions for name in action.option_strings]

    def add(self, name: str, help: str, check: Check | None = None, **settings: Any) -> None:
        """Add an option or argument; the help ends with its default, if there is one."""
        default = settings.get("default")
        if default not in (None, argparse.SUPPRESS):
            help += f" (default: {default})"
        if check is not None:
            settings["type"] = _typed(name, check)
        self.add_argument(name, help=help, **settings)

    def add_setting(self, setting: str, of_run: bool = False, **settings: Any) -> None:
        """Add an option that `Settings` declares; it is absent unless it is given.

        With `of_run` its default is the setting of the run that is evaluated.
        """
        option, name = OPTIONS[setting].metadata, settings.pop("name", setting)
        if option["many"]:
            settings["nargs"] = "*"
        if option["bare"] is not None:
            settings |= {"nargs": "?", "const": option["bare"]}
        default = default_text(setting, per_dataset=not of_run)
        if of_run:
            default = f"that of the run; for a model file {default}"
        self.add_argument(
            flag(name),
            type=_typed(flag(name), option["check"]),
            metavar=option["value"],
            help=f"{option['help']} (default: {default})",
            **{"default": argparse.SUPPRESS} | settings,
        )


def _typed(name: str, check: Check) -> Callable[[str], Any]:
    """Return a converter for argparse, which prints the message of the check as its one line."""

    def convert(text: str) -> Any:
        try:
            return check(name, text)
        except (ValueError, TypeError) as error:
            raise argparse.ArgumentError(None, str(error)) from None

    return convert


def parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser, and that of each command.

    Examples
    --------
    >>> "train" in parsers()[1]
    True
    """
    parser = _Parser(prog="numpyvae", description="A variational auto-encoder in NumPy.")
    parser.add_argument("--version", action="version", version=f"numpyvae {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    commands = {}
    for name, (summary, add_arguments) in _COMMANDS.items():
        commands[name] = subparsers.add_parser(name, help=summary, description=summary)
        add_arguments(commands[name])
    return parser, commands


def _add_train(command: _Parser) -> None:
    for name in OPTIONS:
        command.add_setting(name)
    command.add(
        "--output",
        f"folder to write the model, the figures and the pictures into (default: {DEFAULT_RUN})",
        type=Path,
        metavar="DIR",
    )
    command.add(
        "--overwrite",
        "replace the run that is in the folder; its results stay until the new ones are complete",
        action="store_true",
    )
    command.add(
        "--resume",
        "run folder of a run that was stopped; it goes on as if it had not been",
        type=Path,
        metavar="RUN",
    )
    command.add(
        "--settings",
        "settings.json or run folder of an earlier run, whose settings are taken; other options "
        "change single ones",
        type=Path,
        metavar="FILE",
    )
    command.add("--json", "print the summary alone, as JSON", action="store_true")


def _add_evaluate(command: _Parser) -> None:
    command.add("model", _MODEL, type=Path, metavar="RUN")
    for name in OF_RUN:
        command.add_setting(name, of_run=True)
    more = {"name": "n_importance", "dest": "eval_importance"}
    command.add_setting("eval_importance", of_run=True, **more)
    command.add(
        "--n-jobs",
        "number of cores to work on; the figures are the same to the bit for any number "
        "(default: all cores)",
        whole(),
        metavar="N",
    )
    command.add(
        "--backend",
        f"where the work is done: {', '.join(BACKENDS)}; the figures are the same to the bit",
        choice(BACKENDS),
        default=BACKENDS[0],
        metavar="NAME",
    )
    command.add(
        "--scheduler",
        "address of the Dask scheduler for --backend dask, as tcp://127.0.0.1:8786",
        metavar="ADDRESS",
    )
    command.add(
        "--bounds",
        f"compare bounds on log p(x): some of {','.join(BOUNDS)}. What needs exact posterior "
        "draws (reverse AIS, eubo) is measured on simulated rows; exact is known for linear "
        f"models and J <= 2. With ais, appendix-d or exact, {SLOW_ROWS} test rows are taken",
        bound_names,
        metavar="NAMES",
    )
    # None of these has a default here: compare_bounds knows them.
    more = {"default": argparse.SUPPRESS}
    command.add(
        "--n-chains",
        "number of AIS chains for each row (default: 8)",
        whole(),
        metavar="C",
        **more,
    )
    command.add(
        "--n-temperatures",
        "number of temperatures of AIS between q and the posterior (default: 300)",
        whole(),
        metavar="T",
        **more,
    )
    command.add(
        "--memory",
        "megabytes for the arrays of one pass through the decoder (default: each bound has its "
        "own)",
        positive,
        metavar="MB",
        **more,
    )
    command.add(
        "--output", "file to draw the bounds into: .png, .svg or .pdf", type=Path, metavar="FILE"
    )
    command.add("--json", "print the summary alone, as JSON", action="store_true")


def _add_encode(command: _Parser) -> None:
    command.add("model", _MODEL, type=Path, metavar="RUN")
    option = OPTIONS["dataset"].metadata
    command.add("--dataset", option["help"], option["check"], metavar="NAME", required=True)
    for name in OF_DATA[1:-1]:
        command.add_setting(name, default=None)
    command.add(
        "--output",
        "file to write: a table .csv, or a structured array .npy",
        type=Path,
        default=Path("codes.csv"),
        metavar="FILE",
    )


def _add_sample(command: _Parser) -> None:
    command.add("model", _MODEL, type=Path, metavar="RUN")
    command.add("-n", "number of samples", whole(), default=64, metavar="N")
    command.add(
        "--seed",
        "seed of the draws: the same number gives the same samples, another one new samples",
        whole(0),
        default=0,
        metavar="SEED",
    )
    command.add(
        "--mean", "write the mean of p(x|z) for each z, not a draw of x", action="store_true"
    )
    command.add(
        "--image-shape",
        "height and width of an image (default: that of the training data, or a square)",
        image_shape,
        metavar="HxW",
    )
    command.add(
        "--output",
        "file to write: a picture .png or an array .npy",
        type=Path,
        default=Path("samples.png"),
        metavar="FILE",
    )


_EXAMINATIONS = (*EXAMINATIONS, WITHOUT_FILE)


def _examination(name: str, text: str) -> str:
    """Return the name of an examination; a file after --only would be taken for one."""
    if ".py" in text:
        raise ValueError(
            f"{name}: expected names of examinations, got {text!r}; write the file before {name}"
        )
    return choice(_EXAMINATIONS)(name, text)


def _add_clinic(command: _Parser) -> None:
    command.add(
        "subject",
        "Python file with a clinic.Subject; NAME is that of the Subject, or of a function without "
        "arguments that returns it, if there are several. Without a file, the VAE of this package "
        "is examined with every likelihood, and all its gradients",
        metavar="FILE.py[:NAME]",
        nargs="?",
    )
    command.add("--seed", "seed of all probes", whole(0), default=0, metavar="SEED")
    command.add(
        "--only",
        f"examinations that are reported: some of {', '.join(_EXAMINATIONS)}; the last one is for "
        "the VAE of this package (default: all)",
        _examination,
        metavar="EXAMINATION",
        nargs="+",
    )
    command.add(
        "--format",
        f"format of the report: {', '.join(FORMATS)} (default: that of the suffix of --output, "
        f"one of {', '.join(SUFFIXES)}; text on the terminal)",
        choice(FORMATS),
        metavar="FORMAT",
    )
    command.add_argument(
        "--output", "--out", help="file to write the report into", type=Path, metavar="FILE"
    )


def _add_equations(command: _Parser) -> None:
    command.add(
        "--model",
        "model whose evidence is known",
        choice(_EXACT_MODELS),
        default=_EXACT_MODELS[0],
        metavar=f"{{{','.join(_EXACT_MODELS)}}}",
    )
    command.add(
        "--seed", "seed of the parameters, the data and q", whole(0), default=0, metavar="SEED"
    )
    command.add("--json", "print both sides of each equation as JSON", action="store_true")


def _add_versions(command: _Parser) -> None:
    command.add("--json", "print the versions as JSON", action="store_true")


def _add_completion(command: _Parser) -> None:
    command.add("shell", f"shell: {', '.join(SHELLS)}", choice(SHELLS), metavar="SHELL")


def _add_reproduce(command: _Parser) -> None:
    names = tuple(EXPERIMENTS)
    command.add(
        "name",
        f"the experiment: {', '.join(names)}; --list says what each one is",
        choice(names),
        nargs="?",
        metavar="NAME",
    )
    command.add("--list", "list the experiments and their durations", action="store_true")
    command.add(
        "--quick",
        "a version of a minute or two that shows the same effect, on the embedded digits",
        action="store_true",
    )
    command.add(
        "--output",
        "folder to work in; an experiment that was stopped goes on there (default: "
        f"{DEFAULT_EXPERIMENTS}/NAME, or NAME-quick)",
        type=Path,
        metavar="DIR",
    )
    command.add(
        "--seed",
        "seeds; each training is repeated with each of them (default: those of the experiment)",
        whole(0),
        nargs="+",
        metavar="SEED",
    )
    command.add(
        "--only",
        "names of trainings that are wanted now (default: all)",
        nargs="+",
        metavar="NAME",
    )
    command.add(
        "--until",
        "last epoch that is wanted now (default: the last one)",
        whole(),
        metavar="EPOCH",
    )
    command.add(
        "--models",
        "folders of other experiments, whose trained models are taken if their settings are the "
        "same (default: none)",
        type=Path,
        nargs="+",
        default=(),
        metavar="DIR",
    )
    command.add_setting("folder", default=None)
    command.add_setting("accelerator", default=None)
    command.add("--json", "print the results as JSON", action="store_true")


_MODEL = "run folder that train wrote, or its model.npz"
_COMMANDS: dict[str, tuple[str, Callable[[_Parser], None]]] = {
    "train": (
        "Train on a data set and write a run folder: model, figures and pictures.",
        _add_train,
    ),
    "evaluate": ("Measure a saved model on a test set.", _add_evaluate),
    "encode": ("Write the mean and the deviation of q(z|x) of each row of a file.", _add_encode),
    "sample": ("Draw x from a saved model.", _add_sample),
    "clinic": (
        "Examine a VAE, yours or that of this package, and name its bugs; exit code 1 if there is "
        "one.",
        _add_clinic,
    ),
    "reproduce": (
        "Run a published experiment again, and compare its figures with the published ones.",
        _add_reproduce,
    ),
    "equations": ("Check every equation of the notes on an exact model.", _add_equations),
    "versions": (
        "Print the versions of the packages, Python and the BLAS, for a report of a bug.",
        _add_versions,
    ),
    "completion": (
        "Print a script with which a shell completes commands, options and their values.",
        _add_completion,
    ),
}
