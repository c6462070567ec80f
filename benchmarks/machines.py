"""Run the tests, the tutorials, the equations and the gradient checks as other machines would.

    python -m benchmarks.machines
    python -m benchmarks.machines --only Haswell "no AVX-512"

OpenBLAS is told to use the kernel of another processor, and NumPy not to use instructions that
this processor has. Each combination takes five minutes of one core; it prints a row of a table in
Markdown as soon as it is done. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).resolve().parent.parent
# The command line, the readers of files and the pages do not depend on the arithmetic.
NOT_NUMERIC = ("docs", "cli", "reading", "own_data", "runs", "machines", "files", "mnist", "idx")


def combinations() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of each combination and its environment."""
    every = [f for f in __cpu_dispatch__ if __cpu_features__[f]]
    wide = [f for f in every if "512" in f or f == "X86_V4"]
    for kernel in ("native", "Haswell", "Nehalem"):
        for threads in ("1", "2"):
            core = {} if kernel == "native" else {"OPENBLAS_CORETYPE": kernel}
            name = f"{kernel}, {threads} thread{'s' * (threads != '1')}"
            yield name, core | {"OPENBLAS_NUM_THREADS": threads}
    one = {"OPENBLAS_NUM_THREADS": "1"}
    yield "no AVX-512", one | {"NPY_DISABLE_CPU_FEATURES": " ".join(wide)}
    yield "no AVX-512, AVX2, FMA3", one | {"NPY_DISABLE_CPU_FEATURES": " ".join(every)}


def jobs() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the columns of the table, with the commands that must succeed."""
    python = [sys.executable, "-W", "error"]
    left_out = [f"--ignore=tests/test_{name}.py" for name in NOT_NUMERIC]
    yield "tests", [[sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *left_out]]
    yield "tutorials", [[*python, str(path)] for path in sorted(ROOT.glob("tutorials/plot_*.py"))]
    command, models = [*python, "-m", "numpyvae"], ("linear-gaussian", "quadrature", "discrete")
    checks = [
        [*command, "equations", "--model", m, "--seed", f"{n}"] for m in models for n in range(5)
    ]
    yield "checks", [*checks, [*command, "clinic"]]


def passed(commands: list[list[str]], environment: dict[str, str]) -> str:
    """Return how many of the commands succeed; show the end of what the others print."""
    done = 0
    for command in commands:
        run = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
        )
        done += run.returncode == 0
        if run.returncode:
            print(f"{command}: {run.stdout[-2000:]}{run.stderr[-2000:]}", file=sys.stderr)
    return f"{done} of {len(commands)}"


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="parts of the names of combinations")
    only = parser.parse_args().only
    columns = [name for name, _ in jobs()]
    print(f"| machine | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}", flush=True)
    environment, failed = {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}, False
    for name, settings in combinations():
        if only and not any(part in name for part in only):
            continue
        results = [passed(commands, environment | settings) for _, commands in jobs()]
        failed |= any(len(set(result.split(" of "))) > 1 for result in results)
        print(f"| {name} | {' | '.join(results)} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
