"""Measure what `docs/many-machines.md` tells: `python -m benchmarks.many_machines --output FILE`.

- what a task costs beside its work: the processor time of the process that gives out the tasks,
  which with Dask includes the scheduler;
- how many times as fast two workers are as one, for annealed importance sampling; the two take
  turns;
- the processor time of one move of one chain of one datapoint, from which `estimate` computes the
  time of a large evaluation.

The model is 784-500-20, as for MNIST. Each worker has one BLAS thread. Processor times, unlike the
others, hardly depend on what else the machine has to do.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.options import whole
from numpyvae import VAE
from numpyvae.bounds import annealed_log_likelihood, simulate
from numpyvae.bounds.annealing import PILOT_CHAINS, n_moves, sigmoid_temperatures
from numpyvae.bounds.streams import decoder_megabytes, row_slices
from numpyvae.support.packing import pack
from numpyvae.support.parallel import map_rows

BACKENDS = ("threads", "processes", "dask")
_TASKS, _ROWS = 200, 20  # of the tasks without work
_CHAINS, _SHARED_ROWS = 16, 10


class Estimate(NamedTuple):
    """How long an evaluation takes, from the measured costs."""

    tasks: int
    rounds: int
    task_seconds: float
    seconds: float


def model() -> VAE:
    """The model of the measurements: 784-500-20, as for MNIST."""
    return VAE(784, 20, (500,))


def chain_moves(temperatures: int, chains: int) -> int:
    """The moves of all chains of a datapoint, those of the pilot run included."""
    pilot, moves = n_moves(sigmoid_temperatures(temperatures))
    return pilot * PILOT_CHAINS + moves * chains


def estimate(
    measured: dict[str, Any], images: int, temperatures: int, chains: int, cores: int
) -> Estimate:
    """Estimate the time of `annealed_log_likelihood` on a Dask cluster.

    seconds = start + tasks · overhead + rounds · rows · moves · cost,  rounds = ⌈tasks / cores⌉

    A task is a block of rows, all chains of which are annealed by one worker. The overhead of the
    tasks is that of the scheduler, which handles one after the other; the cores work in rounds.
    """
    blocks = row_slices(model(), images, max(chains, PILOT_CHAINS), None)
    rows = max(block.stop - block.start for block in blocks)
    task = rows * chain_moves(temperatures, chains) * measured["chain_move_seconds"]
    rounds = math.ceil(len(blocks) / cores)
    start, overhead = (measured["dask"][name] for name in ("start_seconds", "task_seconds"))
    return Estimate(len(blocks), rounds, task, start + len(blocks) * overhead + rounds * task)


@contextmanager
def on(backend: str, n: int) -> Iterator[None]:
    """Let the maps in the block work on n workers."""
    from joblib import parallel_config

    if backend != "dask":
        name = {"threads": "threading", "processes": "loky"}[backend]
        with parallel_config(backend=name, n_jobs=n):
            yield
        return
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=n, threads_per_worker=1, dashboard_address=None, silence_logs=50
    )
    with cluster, Client(cluster) as client, parallel_config(backend="dask", client=client):
        yield


def nothing(rows: np.ndarray, advance: Callable[..., None]) -> float:
    """A task without work."""
    advance("")
    return float(rows[0, 0])


def seconds_of(function: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cpu_seconds(function: Callable[[], Any]) -> float:
    """Return the processor time of this process in a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def empty_tasks(n: int) -> None:
    """Map `nothing` over n blocks of 20 rows of 784 values."""
    x = np.zeros((n * _ROWS, 784), np.float32)
    blocks = [slice(i, i + _ROWS) for i in range(0, len(x), _ROWS)]
    map_rows(nothing, blocks, [x], None, lambda note, steps=1: None)


def task_cost(repeats: int) -> float:
    """Measure the processor time that this process needs for a task without work."""
    several = []
    for _ in range(repeats):
        few, many = (cpu_seconds(lambda n=n: empty_tasks(n)) for n in (2, _TASKS))
        several.append((many - few) / (_TASKS - 2))
    return median(several)


def move_cost(repeats: int) -> float:
    """Measure the processor time of one move of one chain of one datapoint."""
    vae = model()
    x, _ = simulate(vae, row_slices(vae, 10**6, _CHAINS, None)[0].stop)
    found = [
        cpu_seconds(lambda: annealed_log_likelihood(vae, x, 1, _CHAINS, n_jobs=1))
        for _ in range(repeats + 1)
    ]
    return median(found[1:]) / (len(x) * chain_moves(1, _CHAINS))


def once(vae: VAE, x: np.ndarray) -> float:
    """Return how long the work takes that is shared out for `scaling`."""
    memory = _SHARED_ROWS * _CHAINS * decoder_megabytes(vae) * 1.01
    annealed_log_likelihood(vae, x[:2], 1, _CHAINS, memory=memory)  # starts the workers
    return seconds_of(lambda: annealed_log_likelihood(vae, x, 1, _CHAINS, memory=memory))


def scaling(backend: str, repeats: int) -> dict[str, float]:
    """Measure one worker against two, in turn, on eight tasks."""
    vae = model()
    x, _ = simulate(vae, 8 * _SHARED_ROWS)
    ratios = []
    for _ in range(repeats):
        with on(backend, 1):
            one = once(vae, x)
        with on(backend, 2):
            ratios.append(one / once(vae, x))
    return {"speedup": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the file of the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=whole, default=3, help="number of repeats (default: 3)")
    parser.add_argument("--output", type=Path, help="JSON file to write (default: print it)")
    args = parser.parse_args(argv)
    measured: dict[str, Any] = {"packed_model_bytes": len(pack(model())), "repeats": args.repeats}
    measured["chain_move_seconds"] = move_cost(args.repeats)
    for backend in BACKENDS:
        with on(backend, 2):
            start = seconds_of(lambda: empty_tasks(2))
            costs = {"start_seconds": start, "task_seconds": task_cost(args.repeats)}
        measured[backend] = costs | scaling(backend, args.repeats)
    text = json.dumps(measured, indent=1) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
