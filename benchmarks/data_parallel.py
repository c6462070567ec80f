"""Measure how much faster two ranks of MPI train than one process, with one and with two threads.

    python -m benchmarks.data_parallel [--json] [--batch B …] [--rounds N]

Each way of training runs in processes of its own, and the ways take turns, so that other load on
the machine affects all of them; ratios are computed for each round. A turn is a call of `fit` on
random binary images of 28×28 pixels, with a network of 500 hidden units and 20 latents. It takes
the fastest of its epochs, and includes what is not divided: the order of the rows, the noise, and
the step of Adam, which every rank takes. It needs the extra `mpi` and an `mpiexec`.

A second table has the ratios of the processor time of a thread, in which a process that waits for
another one works too. On an idle machine both tables are the same; where other programs use the
cores, the second one is closer to what an idle machine would give.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.options import whole

ROOT = Path(__file__).parents[1]
WAYS = {  # ranks, threads of each, data-parallel
    "1 process, 1 thread": (1, 1, False),
    "1 process, 2 threads": (1, 2, False),
    "1 rank, 1 thread": (1, 1, True),
    "2 ranks, 1 thread each": (2, 1, True),
}
BATCHES, ROUNDS, EPOCHS = (128, 1024, 4096), 7, 4


def clocks() -> tuple[float, float]:
    """Return the time, and the processor time of this process."""
    return time.perf_counter(), time.process_time()


def train(batch_size: int, parallel: bool) -> list[float]:
    """Return the smallest time and processor time of an epoch after the first."""
    from numpyvae import VAE, Estimator, fit
    from numpyvae.estimators import DataParallel

    x = np.random.default_rng(0).integers(0, 2, (2 * max(batch_size, 1024), 784), np.uint8)
    vae, ends = VAE(784, 20, (500,)), [clocks()]
    estimator = DataParallel(Estimator()) if parallel else Estimator()
    note = [lambda vae, history: ends.append(clocks())]
    fit(vae, x, epochs=EPOCHS, batch_size=batch_size, estimator=estimator, callbacks=note)
    return np.diff(ends, axis=0)[1:].min(axis=0).tolist()


def turn(way: str, batch_size: int) -> list[float]:
    """Run one way of training; return the time of an epoch, and the processor time of a thread."""
    ranks, threads, parallel = WAYS[way]
    words = [sys.executable, "-m", "benchmarks.data_parallel", "--worker", str(int(parallel))]
    mpiexec = Path(sys.executable).with_name("mpiexec")
    start = [str(mpiexec) if mpiexec.exists() else shutil.which("mpiexec") or "mpiexec"]
    start = [*start, "-n", str(ranks)] if parallel else []
    done = subprocess.run(
        [*start, *words, "--batch", str(batch_size)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    seconds, processor = json.loads(done.stdout)
    return [seconds, processor / threads]


Times = dict[str, list[list[float]]]  # for each way and round: time and processor time


def measure(batch_size: int, rounds: int) -> Times:
    """Return the times of an epoch; the ways take turns."""
    times: Times = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, found in times.items():
            found.append(turn(way, batch_size))
    return times


def table(entries: dict[int, Times], which: int) -> str:
    """Return the speed of each way, relative to one process with one thread, in Markdown.

    `which` is 0 for the time, and 1 for the processor time of a thread.
    """
    rows = [f"| B | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
    for batch_size, times in entries.items():
        base, cells = times["1 process, 1 thread"], []
        for found in times.values():
            ratios = sorted(b[which] / f[which] for b, f in zip(base, found))
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            cells.append(f"{statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})")
        rows.append(f"| {batch_size} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batch", type=whole, nargs="+", default=BATCHES, metavar="B")
    parser.add_argument("--rounds", type=whole, default=ROUNDS, metavar="N")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker is not None:
        seconds = train(args.batch[0], bool(args.worker))
        rank = 0
        if args.worker:
            from numpyvae.estimators.data_parallel import world

            rank = world().Get_rank()
        if rank == 0:
            print(json.dumps(seconds))
        return
    entries = {}
    for batch_size in args.batch:
        print(f"B = {batch_size}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        entries[batch_size] = measure(batch_size, args.rounds)
    if args.json:
        print(json.dumps(entries))
    else:
        print(f"time\n\n{table(entries, 0)}\n\nprocessor time\n\n{table(entries, 1)}")


if __name__ == "__main__":
    main()
