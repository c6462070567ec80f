"""The command `numpyvae`: what each of its commands does, and its exit codes.

Results go to standard output; progress, notes and errors go to standard error. Exit codes: 0 done,
1 failed at work, 2 wrong usage, 130 interrupted, 143 terminated. An error is one line.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.vae import VAE
from ..support.strict_json import to_json
from ..support.terminal import Terminated, prepare_streams, sigterm_interrupts
from ..support.versions import installed, versions_text
from . import clinic, completion, experiments, jobs, measuring, plan, ranks, reports, runs, saved
from .parser import DEFAULT_RUN, parse, parsers
from .preparation import Prepared
from .reapply import data_for, request_of
from .sampling import write_samples
from .settings import OPTIONS, flag, make_settings
from .usage import UsageError
from .workers import workers

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
        0 done, 1 failed at work, 2 wrong usage, 130 interrupted, 143 terminated by SIGTERM.

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
    prepare_streams()
    argv = sys.argv[1:] if argv is None else list(argv)
    comm = ranks.joined(argv)
    return _main(argv, None) if comm is None else ranks.together(comm, lambda: _main(argv, comm))


def _main(argv: list[str], comm: Any) -> int:
    """Run the command line, on one rank of `comm` if it is not None."""
    args = parse(argv)
    args.comm = comm
    try:
        with sigterm_interrupts(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(f"note: {message}")
            code = _RUN[args.command](args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        word = "terminated" if terminated else "interrupted"
        _say(f"{word}; {stop}" if str(stop) else word)
        return 143 if terminated else 130
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UsageError as error:
        _say(f"error: {error}; see {args.prog} --help")
        return 2
    except (OSError, ValueError, TypeError, ArithmeticError, ImportError, MemoryError) as error:
        _say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 1


def _say(text: str) -> None:
    print(f"numpyvae: {text}", file=sys.stderr)


def _train(args: Namespace) -> int:
    if args.comm is not None and args.comm.Get_rank() > 0:
        jobs.follow(args.comm)
        return 0
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    if "hidden" in given:
        given["hidden"] = tuple(given["hidden"])
    if args.resume is not None:
        output, summary = args.resume, _resume(args, given)
    else:
        output = args.output or DEFAULT_RUN
        earlier = {} if args.settings is None else saved.settings_from(args.settings)
        settings = make_settings(earlier | given)
        summary = jobs.train(settings, output, True, args.overwrite, args.comm)
    if summary is None:
        ranks.dismiss(args.comm)
        _say(f"{output}: the run is finished; there is nothing to do")
        summary = runs.read_json(output / "summary.json") if args.json else {}
    if args.json:
        print(to_json(summary))
    elif summary:
        print(reports.report(summary))
        print(f"Written to {output}: {', '.join(runs.RunFolder(output).written())}")
    return 0


def _resume(args: Namespace, given: dict[str, Any]) -> dict[str, Any] | None:
    """Continue a run and return its summary; None if it is finished."""
    others = {"--output": args.output, "--settings": args.settings, "--overwrite": args.overwrite}
    for name, value in others.items():
        if value not in (None, False):
            raise UsageError(f"{name}: expected it without --resume, got both; leave one out")
    return jobs.resume(args.resume, given, True, args.comm)


def _evaluate(args: Namespace) -> int:
    named = hasattr(args, "dataset")
    run, before = saved.take_settings_of_run(args)
    with workers(args.backend, args.n_jobs, args.scheduler):
        path = saved.model_file(args.model)
        vae = VAE.load(path)
        data = data_for(vae, request_of(args), run, named)
        _note_untrained(vae, path)
        if saved.changed_data(before, data):
            _say(f"note: {data.name}: the data have changed: the test rows are not the run's")
        vae = plan.accelerated(vae, args.accelerator)
        return (_measure if args.bounds is None else _compare)(args, vae, data)


_EFFORT = ("n_chains", "n_temperatures", "memory")  # settings of `compare_bounds`, if given


def _measure(args: Namespace, vae: VAE, data: Prepared) -> int:
    """Print the ELBO, its terms and log p(x)."""
    useless = [name for name in _EFFORT if hasattr(args, name)]
    useless += [] if args.output is None else ["output"]
    if useless:
        raise UsageError(
            f"{flag(useless[0])}: expected it together with --bounds, got no --bounds"
        )
    summary = measuring.evaluate(
        vae, data, args.eval_importance, args.seed, args.test_rows, progress=True
    )
    summary["accelerator"] = args.accelerator
    print(to_json(summary) if args.json else reports.report(summary))
    return 0


def _compare(args: Namespace, vae: VAE, data: Prepared) -> int:
    """Print several bounds on log p(x), and draw them."""
    if args.output is not None:
        _check_output(args.output, ".png", ".svg", ".pdf")
    summary = measuring.compare(
        vae,
        data,
        args.bounds,
        test_rows=args.test_rows,
        output=args.output,
        seed=args.seed,
        n_importance=args.eval_importance,
        progress=True,
        **{name: getattr(args, name) for name in _EFFORT if hasattr(args, name)},
    )
    summary["accelerator"] = args.accelerator
    print(to_json(summary) if args.json else reports.comparison(summary))
    if args.output is not None:
        _say(f"the bounds are drawn in {args.output}")
    return 0


def _check_output(path: Path, *suffixes: str) -> None:
    """Refuse a file that could not be written, before the work is begun."""
    if path.suffix not in suffixes:
        names = f"FILE{suffixes[0]}, {', '.join(suffixes[1:-1])}".rstrip(", ")
        raise UsageError(f"--output: expected {names} or {suffixes[-1]}, got {str(path)!r}")
    _check_writable(path)


def _check_writable(path: Path) -> None:
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


def _encode(args: Namespace) -> int:
    from .encode import encode

    vae = VAE.load(saved.model_file(args.model))
    _check_output(args.output, ".csv", ".npy")
    rows = encode(vae, request_of(args), args.output)
    _say(f"the codes of {rows} rows written to {args.output}")
    return 0


def _sample(args: Namespace) -> int:
    vae = VAE.load(saved.model_file(args.model))
    _check_output(args.output, ".npy", ".png")
    write_samples(vae, args.output, args.n, args.seed, args.mean, args.image_shape)
    _say(f"{args.n} samples written to {args.output}")
    return 0


def _clinic(args: Namespace) -> int:
    form = clinic.format_of(args.format, args.output)
    if args.output is not None:
        _check_writable(args.output)
    report = clinic.examined(args.subject, args.seed, args.only)
    text = clinic.rendered(report, form)
    if args.output is None:
        print(text)
    else:
        clinic.write_report(text, args.output)
        print(report.summary)
        _say(f"the report is in {args.output}")
    if not report.run:
        _say("error: nothing could be examined; the report says why")
        return 2
    return report.exit_code


def _equations(args: Namespace) -> int:
    from .. import equations  # here, since other commands do without it

    outcomes = equations.check_equations(equations.make_case(args.model, args.seed))
    if args.json:
        rows = reports.equation_rows(outcomes)
        print(to_json({"model": args.model, "seed": args.seed, "equations": rows}))
    else:
        print(reports.equations_table(outcomes, args.model))
    return 0 if all(o.passed for o in outcomes) else 1


def _reproduce(args: Namespace) -> int:
    if args.list:
        print(experiments.listing())
        return 0
    outcome = experiments.run(args)
    print(to_json(outcome.results) if args.json else experiments.report(outcome))
    return 0


def _versions(args: Namespace) -> int:
    found = installed(__version__)
    print(to_json(found) if args.json else versions_text(found))
    return 0


def _completion(args: Namespace) -> int:
    print(completion.script(parsers()[0], args.shell))
    return 0


_RUN: dict[str, Callable[[Namespace], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "encode": _encode,
    "sample": _sample,
    "clinic": _clinic,
    "equations": _equations,
    "reproduce": _reproduce,
    "versions": _versions,
    "completion": _completion,
}
