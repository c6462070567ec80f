"""The command `numpyvae`: words in, numbers and pictures out.

Standard output carries results alone; progress, notes and errors go to standard error. Exit codes:
0 done, 1 failed at work, 2 wrong usage, 130 interrupted. An error is one line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..clinic import gradcheck
from ..core.layers import ACTIVATIONS
from ..core.likelihoods import parse_likelihood
from ..core.optimizers import OPTIMIZERS
from ..core.vae import VAE
from ..estimators import ESTIMATORS
from ..support.checks import check_count, check_positive, check_weight
from ..support.files import atomic_write
from . import jobs
from .preparation import DATASETS, prepare

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        `sys.argv[1:]` if left out.

    Returns
    -------
    code : int
        0 done, 1 failed at work, 2 wrong usage, 130 interrupted.

    Raises
    ------
    SystemExit
        From argparse: after `--help`, and for wrong usage.

    Examples
    --------
    >>> import contextlib, io
    >>> with contextlib.redirect_stdout(io.StringIO()) as table:
    ...     code = main(["equations", "--model", "discrete"])
    >>> code
    0
    """
    args = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(f"note: {message}")
            code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone; so do we, without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except jobs.UsageError as error:
        _say(f"error: {error}")
        return 2
    except (OSError, ValueError, TypeError, ArithmeticError, ImportError, MemoryError) as error:
        _say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 1


def _say(text: str) -> None:
    print(f"numpyvae: {text}", file=sys.stderr)


# The five commands.


def _train(args: argparse.Namespace) -> int:
    fields = {f.name: getattr(args, f.name, None) for f in dataclasses.fields(jobs.Settings)}
    given = {name: value for name, value in fields.items() if value is not None}
    settings = jobs.Settings(**{**jobs.DEFAULTS.get(args.dataset, {}), **given})
    if settings.likelihood == "binomial":
        settings = dataclasses.replace(settings, likelihood=_counts_of(settings))
    summary = jobs.train(settings, args.output, progress=sys.stderr.isatty())
    if args.json:
        print(json.dumps(summary))
    else:
        print(_report(summary))
        print(f"Written to {args.output}: {', '.join(sorted(p.name for p in _written(args)))}")
    return 0


def _written(args: argparse.Namespace) -> list[Path]:
    return [p for p in args.output.iterdir() if p.suffix in (".npz", ".csv", ".json", ".png")]


def _counts_of(settings: jobs.Settings) -> str:
    """Complete `binomial` with the largest count of the data set."""
    if settings.dataset in DATASETS:
        return f"binomial:{DATASETS[settings.dataset](settings.folder).maximum}"
    return f"binomial:{int(settings.maximum)}"


def _evaluate(args: argparse.Namespace) -> int:
    from threadpoolctl import threadpool_limits  # here, to keep the start short

    with threadpool_limits(args.n_jobs, "blas"):  # the bounds take as many workers
        return _measure(args)


def _measure(args: argparse.Namespace) -> int:
    """Do what `_evaluate` says, with the threads set."""
    vae = VAE.load(args.model)
    data = prepare(args.dataset, vae.likelihood, args.maximum, args.folder)
    if data.x_test.shape[1] != vae.data_dim:
        raise jobs.UsageError(
            f"--dataset: expected rows of {vae.data_dim} values, as {args.model} was trained on, "
            f"got {data.x_test.shape[1]} in {args.dataset}"
        )
    _note_untrained(vae, args.model)
    vae = jobs.accelerated(vae, args.accelerator)
    effort = {name: getattr(args, name) for name in _EFFORT if hasattr(args, name)}
    if args.bounds is None:
        if effort or args.output:
            first = next(iter(effort), "output").replace("_", "-")
            raise jobs.UsageError(f"--{first}: expected it with --bounds; see evaluate --help")
        summary = jobs.evaluate(vae, data, args.n_importance, args.seed, args.test_rows)
        print(json.dumps(summary) if args.json else _report(summary))
        return 0
    if args.output is not None:
        _check_picture(args.output)
    summary = jobs.compare(
        vae,
        data,
        [name.strip() for name in args.bounds.split(",")],
        test_rows=args.test_rows,
        output=args.output,
        seed=args.seed,
        n_importance=args.n_importance,
        progress=sys.stderr.isatty(),
        **effort,
    )
    print(json.dumps(summary) if args.json else _comparison(summary))
    if args.output is not None:
        _say(f"the bounds are drawn in {args.output}")
    return 0


_EFFORT = ("n_chains", "n_temperatures", "memory")  # of `compare_bounds`, if given


def _check_picture(path: Path) -> None:
    """Refuse a picture that could not be written, before the bounds take their time."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise jobs.UsageError(f"--output: expected FILE.png, .svg or .pdf, got {str(path)!r}")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(
            f"{path}: expected a folder that can be written, got {error.strerror or error}; "
            "choose another with --output"
        ) from None


def _note_untrained(vae: VAE, path: Path) -> None:
    """Say that a model is as `VAE` makes it: training moves every bias away from zero."""
    biases = [view for name, view in vae.parameters.items() if ".b" in name]
    if not any(bias.any() for bias in biases):
        _say(f"note: {path}: all biases are zero, as before training; is this the trained model?")


def _report(s: dict[str, Any]) -> str:
    """Turn a summary into sentences and a column of figures."""
    log_p, se = s["test_log_likelihood"], s["test_log_likelihood_se"]
    return "\n".join(
        [
            f"{s['model']} on {s['dataset']}",
            f"{s['test_rows']} test rows, nats per datapoint:",
            f"  log p(x)        {log_p:9.2f} ± {se:.2f}"
            f"   importance-weighted bound, K = {s['n_importance']}",
            f"  ELBO            {s['test_elbo']:9.2f}          reconstruction − KL, Eq. (11)",
            f"    reconstruction{s['reconstruction']:9.2f}",
            f"    KL            {s['kl']:9.2f}",
            f"  gap             {s['gap_to_log_likelihood']:9.2f}          log p(x) − ELBO",
            *_weighted(s),
            f"Active latents: {s['active_units']} of {s['latent_dim']}."
            + (f" {s['epochs']} epochs, {s['seconds']:.1f} s in all." if "epochs" in s else ""),
        ]
    )


def _weighted(s: dict[str, Any]) -> list[str]:
    """Say what was ascended where that was not the ELBO, beside the ELBO."""
    if s.get("estimator") in (None, repr(ESTIMATORS["sgvb-b"])) and not s.get("kl_warmup"):
        return []
    warm_up = f", KL warm-up over {s['kl_warmup']:g} epochs" if s["kl_warmup"] else ""
    return [
        f"Trained by {s['estimator']}{warm_up}: in the last epoch the objective was "
        f"{s['train_objective']:.2f}, the ELBO {s['train_elbo']:.2f} (training set)."
    ]


def _comparison(s: dict[str, Any]) -> str:
    """Turn a comparison of bounds into a table for each kind of data."""
    lines = [f"{s['model']} on {s['dataset']}", "Nats per datapoint, mean ± standard error:"]
    title = {
        "test": "{} test rows",
        "simulated": "{} rows simulated from the model, where exact posterior draws are known",
    }
    for part in title:
        if s[part] is None:
            continue
        lines.append(title[part].format(s[part]["rows"]))
        bounds = s[part]["bounds"]
        lines += [_line(name, row, "elbo" in bounds, s) for name, row in bounds.items()]
    gap = (s["simulated"] or {}).get("gap")
    if gap is not None:
        lines += [
            "On simulated rows AIS and reverse AIS hold log p(x) between them in expectation:",
            f"reverse AIS − AIS = {_pair(gap, 3)}. On test rows AIS is a lower bound alone,",
            "and that gap its calibration, as far as test rows resemble simulated ones.",
        ]
    return "\n".join([*lines, f"{s['seconds']:.1f} s in all."])


def _line(name: str, row: dict[str, Any], paired: bool, s: dict[str, Any]) -> str:
    """One row of the table."""
    what = {
        "elbo": "ELBO",
        "iwae": f"L_{s['n_importance']}",
        "ais": "AIS",
        "reverse-ais": "reverse AIS",
        "eubo": "EUBO",
        "cubo": f"CUBO, K = {s['n_importance']}",
        "appendix-d": "appendix D",
        "exact": "exact",
    }[name]
    above = f"ELBO + {_pair(row['above_elbo'], 3)}" if "above_elbo" in row else ""
    how = f"{row['seconds']:.1f} s"
    if name in ("ais", "reverse-ais"):
        how = f"{s['n_temperatures']} temperatures, {s['n_chains']} chains, {how}"
    if "acceptance" in row:
        how += f", acceptance {row['acceptance']:.2f}"
    columns = f"  {what:16}{_pair(row, 2):>17}   {row['kind']:14}"
    return f"{columns}{above:24}{how}" if paired else columns + how


def _pair(row: dict[str, Any], digits: int) -> str:
    """Write a mean with its standard error, which a single row does not have."""
    error = "" if row["se"] is None else f" ± {row['se']:.{digits}f}"
    return f"{row['mean']:.{digits}f}{error}"


def _sample(args: argparse.Namespace) -> int:
    vae = VAE.load(args.model)
    suffix = args.output.suffix
    if suffix not in (".npy", ".png"):
        raise jobs.UsageError(f"--output: expected FILE.npy or FILE.png, got {str(args.output)!r}")
    x = vae.sample(args.n, args.seed, mean=args.mean)
    if suffix == ".npy":
        with atomic_write(args.output) as file:
            np.save(file, x)
    else:
        from .. import plotting

        shape = args.image_shape or _square(vae.data_dim)
        maximum = getattr(vae.likelihood, "n", 1)
        plotting.save_figure(plotting.image_grid(x, shape, maximum=maximum), args.output)
    _say(f"{args.n} samples written to {args.output}")
    return 0


def _square(data_dim: int) -> tuple[int, int]:
    side = int(data_dim**0.5 + 0.5)
    if side * side != data_dim:
        raise jobs.UsageError(
            f"--image-shape: expected it for {data_dim} values that are not a square image; "
            "give it as HEIGHTxWIDTH, or write FILE.npy"
        )
    return side, side


def _gradcheck(args: argparse.Namespace) -> int:
    checks = []
    if not args.json:
        print(f"{'norm-relative error against':38}{'size':>6}{'complex step':>14}{'central':>10}")
    for check in gradcheck.check_all(args.seed):
        checks.append(check)
        if not args.json:
            mark = "ok" if check.passed else "WRONG"
            print(
                f"{check.name:38}{check.size:6d}{check.complex_error:14.1e}"
                f"{check.central_error:10.1e}  {mark}",
                flush=True,
            )
    failed = [c.name for c in checks if not c.passed]
    if args.json:
        rows = [c._asdict() | {"passed": c.passed} for c in checks]
        print(json.dumps({"checks": rows, "failed": failed}))
    else:
        print(
            f"{len(checks) - len(failed)} of {len(checks)} gradients are right to "
            f"{gradcheck.COMPLEX_TOLERANCE:g} (complex step) and "
            f"{gradcheck.CENTRAL_TOLERANCE:g} (central differences)"
        )
    return 1 if failed else 0


def _equations(args: argparse.Namespace) -> int:
    from .. import equations  # here, since it brings SciPy

    outcomes = equations.check_equations(equations.make_case(args.model, args.seed))
    failed = [o.equation.number for o in outcomes if not o.passed]
    if args.json:
        rows = [
            {
                "number": o.equation.number,
                "section": o.equation.section,
                "latex": o.equation.latex,
                "meaning": o.equation.meaning,
                "relation": o.equation.relation,
                "left": o.left,
                "right": o.right,
                "difference": o.difference,
                "tolerance": o.tolerance,
                "passed": o.passed,
            }
            for o in outcomes
        ]
        print(json.dumps({"model": args.model, "seed": args.seed, "equations": rows}))
        return 1 if failed else 0
    print(f"{'':12}{'left':>14}   {'right':>13} {'apart by':>9}")
    for o in outcomes:
        mark, e = "✓" if o.passed else "✗ WRONG", o.equation
        number = f"({e.number})" if e.number.isdecimal() else e.number
        print(
            f"{number:12}{o.left:14.8f} {e.relation} {o.right:13.8f} {o.difference:9.0e} {mark}"
            f"  {e.meaning}"
        )
    print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} hold on the model {args.model}; "
        "each row shows the datapoint where its sides differ most"
    )
    return 1 if failed else 0


# The parser.


def _typed(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse print the message of a check as its one line."""

    def convert(text: str) -> Any:
        try:
            return check(text)
        except (ValueError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _whole(name: str, minimum: int = 1) -> Callable[[str], int]:
    def check(text: str) -> int:
        try:
            value: Any = int(text)
        except ValueError:
            value = text
        return check_count(name, value, minimum=minimum)

    return _typed(check)


def _number(name: str, check: Callable[[str, Any], float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value: Any = float(text)
        except ValueError:
            value = text
        return check(name, value)

    return _typed(convert)


def _above_zero(name: str) -> Callable[[str], float]:
    return _number(name, check_positive)


def _at_least_zero(name: str) -> Callable[[str], float]:
    return _number(name, check_weight)


def _likelihood(text: str) -> str:
    return text if text == "binomial" else parse_likelihood(text).name


def _image_shape(text: str) -> tuple[int, int]:
    h, _, w = text.partition("x")
    if not (h.isdecimal() and w.isdecimal() and int(h) and int(w)):
        raise ValueError(f"expected HEIGHTxWIDTH, as 28x20, got {text!r}")
    return int(h), int(w)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="numpyvae", description="A variational auto-encoder in NumPy.")
    parser.add_argument("--version", action="version", version=f"numpyvae {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_sample(commands)
    _add_gradcheck(commands)
    _add_equations(commands)
    return parser


def _command(commands, name: str, run: Callable, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _add_data(command: argparse.ArgumentParser) -> None:
    names = ", ".join(DATASETS)
    add = command.add_argument
    add("--dataset", default="digits", help=f"{names}, FILE.npy or FILE.npz")
    add("--folder", metavar="DIR", help="where IDX files lie, before NUMPYVAE_DATA and the cache")
    add(
        "--maximum",
        type=_above_zero("maximum"),
        default=1.0,
        help="largest possible value in a FILE: grays are divided by it or drawn against it",
    )


def _add_measuring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--n-importance", type=_whole("n_importance"), default=500, metavar="K", help="of L_K")
    add("--test-rows", type=_whole("test_rows"), metavar="N", help="evaluate on N random rows")
    add("--seed", type=_whole("seed", 0), default=0, help="of every random number")
    add(
        "--accelerator",
        choices=("numba",),
        help="compile tanh, the Bernoulli and Binomial likelihoods, and the step of adam",
    )
    add("--json", action="store_true", help="print the summary alone, as JSON")


def _add_train(commands) -> None:
    d = jobs.Settings()
    command = _command(
        commands, "train", _train, "Train on a data set and write model, figures and pictures."
    )
    _add_data(command)
    add = command.add_argument
    # None means: the default of the data set, see jobs.DEFAULTS.
    per_dataset = "(default: {}; mnist, fashion: {})".format
    m = jobs.DEFAULTS["mnist"]
    add(
        "--latent-dim",
        type=_whole("latent_dim"),
        metavar="J",
        default=argparse.SUPPRESS,
        help="dimension of z " + per_dataset(d.latent_dim, m["latent_dim"]),
    )
    add(
        "--hidden",
        type=_whole("hidden"),
        nargs="*",
        metavar="H",
        default=argparse.SUPPRESS,
        help="widths of the encoder's hidden layers; the decoder has them in reverse "
        + per_dataset(d.hidden[0], m["hidden"][0]),
    )
    add("--activation", choices=tuple(ACTIVATIONS), default=d.activation, help="of hidden layers")
    add(
        "--likelihood",
        type=_typed(_likelihood),
        default=d.likelihood,
        help="bernoulli, binomial[:N], gaussian:SIGMA, gaussian:learned or gaussian:head",
    )
    add("--optimizer", choices=tuple(OPTIMIZERS), default=d.optimizer, help="ascends the ELBO")
    add(
        "--learning-rate",
        type=_above_zero("learning_rate"),
        default=argparse.SUPPRESS,
        help=f"of the first step (default: {d.learning_rate})",
    )
    add("--schedule", choices=("cosine", "constant"), default=d.schedule, help="of the rate")
    add(
        "--epochs",
        type=_whole("epochs"),
        default=argparse.SUPPRESS,
        help="passes over the data " + per_dataset(d.epochs, m["epochs"]),
    )
    add("--batch-size", type=_whole("batch_size"), default=d.batch_size, metavar="B", help="rows")
    add("--estimator", choices=tuple(ESTIMATORS), default=d.estimator, help="of the gradient")
    add(
        "--n-samples",
        type=_whole("n_samples"),
        default=d.n_samples,
        metavar="L",
        help="averages over draws of z for each row",
    )
    add(
        "--train-importance",
        type=_whole("train_importance"),
        metavar="K",
        help="draws in one average, for iwae, stl-iwae and dreg",
    )
    add("--beta", type=_at_least_zero("beta"), help="weight of the KL, for sgvb-b")
    add("--kl-warmup", type=_above_zero("kl_warmup"), metavar="EPOCHS", help="from 0 to beta")
    add(
        "--free-bits",
        type=_at_least_zero("free_bits"),
        metavar="NATS",
        help="of KL that each latent has for nothing, for sgvb-b",
    )
    add("--clip-norm", type=_above_zero("clip_norm"), help="longest gradient")
    add("--output", type=Path, default=Path("runs/vae"), metavar="DIR", help="written into")
    _add_measuring(command)


def _add_evaluate(commands) -> None:
    command = _command(commands, "evaluate", _evaluate, "Measure a saved model on a test set.")
    command.add_argument("model", type=Path, metavar="MODEL", help="a model.npz")
    _add_data(command)
    command.add_argument(
        "--n-jobs",
        type=_whole("n_jobs"),
        metavar="N",
        help="cores to work on, all by default; the bounds are the same to the bit for any N",
    )
    _add_measuring(command)
    add = command.add_argument
    add(
        "--bounds",
        metavar="NAMES",
        help="compare bounds on log p(x): some of elbo,iwae,ais,eubo,cubo,appendix-d,exact. What "
        "needs exact posterior draws (reverse AIS, eubo) is measured on simulated rows; exact is "
        f"known for linear models and J <= 2. With ais, {jobs.SLOW_ROWS} test rows are taken",
    )
    # None of these has a default here: compare_bounds knows them.
    more = {"default": argparse.SUPPRESS}
    add("--n-chains", type=_whole("n_chains"), metavar="C", help="of AIS (default: 8)", **more)
    add(
        "--n-temperatures",
        type=_whole("n_temperatures"),
        metavar="T",
        help="of AIS, between q and the posterior (default: 300)",
        **more,
    )
    add("--memory", type=_above_zero("memory"), metavar="MB", help="for each decoder pass", **more)
    add("--output", type=Path, metavar="FILE", help="draw the bounds: .png, .svg or .pdf")


def _add_sample(commands) -> None:
    command = _command(commands, "sample", _sample, "Draw x from a saved model.")
    add = command.add_argument
    add("model", type=Path, metavar="MODEL", help="a model.npz")
    add("-n", type=_whole("n"), default=64, help="how many")
    add("--seed", type=_whole("seed", 0), default=0, help="of the draws")
    add("--mean", action="store_true", help="the mean of p(x|z) for each z, not a draw of x")
    add("--image-shape", type=_typed(_image_shape), metavar="HxW", help="where it is not a square")
    add("--output", type=Path, default=Path("samples.png"), metavar="FILE", help=".png or .npy")


def _add_gradcheck(commands) -> None:
    command = _command(
        commands, "gradcheck", _gradcheck, "Check every hand-written gradient, and say how well."
    )
    command.add_argument("--seed", type=_whole("seed", 0), default=0, help="of the random cases")
    command.add_argument("--json", action="store_true", help="print the checks as JSON")


def _add_equations(commands) -> None:
    command = _command(
        commands, "equations", _equations, "Check every equation of the notes on an exact model."
    )
    add = command.add_argument
    families = ("linear-gaussian", "quadrature", "discrete")
    add("--model", choices=families, default=families[0], help="whose evidence is known")
    add("--seed", type=_whole("seed", 0), default=0, help="of parameters, data and q")
    add("--json", action="store_true", help="print both sides as JSON")
