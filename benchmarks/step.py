"""Compare a training step and a whole job with PyTorch, JAX and HIPS autograd.

    python -m benchmarks.step [--json] [--chart FILE] [--workload NAME …] [--only NAME …]
                                 [--rounds N] [--no-job] [--avx2]

Each library runs in its own process. In a single process, the thread pools of OpenBLAS, OpenMP and
XLA would compete for the cores, and the memory of each library could not be measured. The
processes run until the end of the benchmark. They take turns, with a short block of steps in each
turn, so that other load on the machine affects all of them equally; ratios are computed for each
round. A process that waits for its turn sleeps.

Every library starts from the same weights and uses the same batches and the same noise. The
objectives of the first 20 steps must agree. Each library runs with one or two threads, whichever
is faster in a few short tests before the rounds. JAX fixes its number of threads when it starts,
so it has one process for each number. The ELBO is computed and read in each step. The time of a
step does not include drawing data and noise; the time of a job does. Compilation starts with empty
caches.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import CONTESTANTS, Workload
from benchmarks.instructions import limit_to_avx2
from benchmarks.options import picture, whole

WORKLOADS = {
    w.name: w
    for w in (
        Workload("digits 64-128-8, B = 100", 64, (128,), 8, 100),
        Workload("Burda 784-200-200-50, B = 20, K = 1", 784, (200, 200), 50, 20, 1),
        Workload("784-500-20, B = 100", 784, (500,), 20, 100),
        Workload("Burda 784-200-200-50, B = 20, K = 50", 784, (200, 200), 50, 20, 50),
        Workload("784-500-20, B = 1000", 784, (500,), 20, 1000),
    )
}
ROOT = Path(__file__).parents[1]
ROUNDS, BLOCK, PAUSE = 7, 0.25, 0.05  # rounds; seconds of a turn; seconds of pause before a turn
AGREE = 1e-4  # relative tolerance; float32 objectives differ by about 1e-6 after 20 steps
PROBES = 5  # short tests of each number of threads, each for half the time of a turn
EPOCHS, JOBS = 100, 3


class Worker:
    """A subprocess that runs `benchmarks.worker`."""

    def __init__(self, name: str, cores: int, scratch: Path) -> None:
        self.name, self.cores = name, cores
        self.threads = cores
        self.log = scratch / f"{name}-{cores}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment(scratch, cores),
                preexec_fn=pinned(name, cores),
            )
        self.import_seconds = self._reply()["import_seconds"]

    def ask(self, **order: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def use_threads(self, n: int) -> None:
        if self.name != "jax" and n != self.threads:
            self.ask(do="threads", n=n)
        self.threads = n

    def block(self, seconds: float) -> tuple[float, float]:
        """Run steps for this time; return their median in seconds and the peak memory in MB."""
        time.sleep(PAUSE)
        answer = self.ask(do="run", seconds=seconds)
        return statistics.median(answer["seconds"]), answer["memory"]


def environment(scratch: Path, cores: int) -> dict[str, str]:
    """Return the environment variables of a process: threads and empty compiler caches."""
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "NUMBA_CACHE_DIR": str(scratch / "numba"),
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": str(cores),
        "OMP_NUM_THREADS": str(cores),
    }
    threads = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OMP_") and k not in threads}
    return kept | caches


def pinned(name: str, cores: int):
    """Return a function that restricts JAX to one core if it must use one thread, else None.

    XLA starts one thread for each core that the process may use.
    """
    if name == "jax" and cores == 1 and hasattr(os, "sched_setaffinity"):
        return lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return None


def data_for(w: Workload, path: Path) -> None:
    """Write weights, batches and noise; for 784 pixels the digits are enlarged to 28×28."""
    from numpyvae import VAE, datasets

    rng = np.random.default_rng(0)
    grays = datasets.load_digits().grays("train")
    if w.data_dim == 784:
        images = grays.reshape(-1, 8, 8)
        grays = np.kron(images, np.ones((4, 4)))[:, 2:30, 2:30].reshape(len(images), 784)
    count = max(4, min(20, 4000 // w.batch_size))
    rows = rng.integers(0, len(grays), (count, w.batch_size))
    x = (rng.random((*rows.shape, w.data_dim)) < grays[rows]).astype(np.uint8)
    eps = rng.standard_normal((count, w.draws, w.batch_size, w.latent_dim), "float32")
    flat = VAE(w.data_dim, w.latent_dim, w.hidden).parameters.flat
    np.savez(path, x=x, eps=eps, flat=flat)


def measure(w: Workload, workers: list[Worker], scratch: Path, rounds: int) -> dict[str, Any]:
    """Time one workload; return the rows of the table, each with the best number of threads."""
    path = scratch / "data.npz"
    data_for(w, path)
    rows: dict[str, dict[str, Any]] = {}
    chosen: dict[str, Worker] = {}
    failed: dict[str, str] = {}
    for worker in workers:
        if worker.name == "torch-compile" and "torch" in rows:
            worker.use_threads(rows["torch"]["threads"])  # compiled code depends on this number
        first = worker.ask(do="setup", workload=asdict(w), data=str(path))
        if "error" in first:
            failed[worker.name] = first["error"]
            continue
        probes = {}
        options = [worker.threads] if worker.name in ("jax", "torch-compile") else [1, 2]
        options = [n for n in options if n <= os.cpu_count()]
        for _ in range(PROBES):
            for n in options:
                worker.use_threads(n)
                probes.setdefault(n, []).append(worker.block(BLOCK / 2)[0])
        speed = {
            n: min(times) for n, times in probes.items()
        }  # the minimum is not affected by tests that other load slowed down
        best = min(speed, key=speed.__getitem__)
        if worker.name in rows and rows[worker.name]["probe"] <= speed[best]:
            continue
        worker.use_threads(best)
        chosen[worker.name] = worker
        rows[worker.name] = {
            "label": CONTESTANTS[worker.name].label,
            "threads": best,
            "probe": speed[best],
            "import_seconds": worker.import_seconds,
            "first_step_seconds": first["first_step"],
            "objectives": first["objectives"],
            "rounds": [],
        }
    for _ in range(rounds):
        for name, worker in chosen.items():
            seconds, memory = worker.block(BLOCK)
            rows[name]["rounds"].append(seconds)
            rows[name]["memory_MB"] = memory
    return {"workload": asdict(w), "rows": summarize(w, rows), "failed": failed}


def summarize(w: Workload, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add medians, ratios with quartiles, and the agreement of the objectives to the rows."""
    ours, floor = rows.get("numpyvae"), rows.get("floor")
    for name, row in rows.items():
        row["step_seconds"] = statistics.median(row["rounds"])
        row["samples_per_second"] = w.batch_size / row["step_seconds"]
        for key, base in (("to_ours", ours), ("to_floor", floor)):
            if base is not None:
                row[key] = quartiles([a / b for a, b in zip(row["rounds"], base["rounds"])])
        del row["probe"]
        if ours is not None and name != "floor":
            a, b = np.array(row["objectives"]), np.array(ours["objectives"])
            row["curve_error"] = float(np.max(np.abs(a / b - 1)))
            row["curve_agrees"] = row["curve_error"] <= AGREE
        if name == "floor":
            row["objectives"] = []
    return rows


def quartiles(values: list[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile of the values."""
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]


def jobs(names: list[str], scratch: Path) -> dict[str, dict[str, Any]]:
    """Time whole jobs in new processes, in turn, with the faster of one and two threads."""
    from numpyvae import datasets

    grays = scratch / "grays.npy"
    np.save(grays, datasets.load_digits().grays("train").astype("float32"))
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    cores = [n for n in (1, 2) if n <= os.cpu_count()]
    for name in names:
        for n in cores:
            runs[name, n] = [job(name, n, grays, scratch)]
    best = {
        name: min(cores, key=lambda n, name=name: runs[name, n][0]["seconds"]) for name in names
    }
    for _ in range(JOBS - 1):
        for name, n in best.items():
            runs[name, n].append(job(name, n, grays, scratch))
    result = {}
    for name, n in best.items():
        seconds = [run["seconds"] for run in runs[name, n]]
        result[name] = {
            "label": CONTESTANTS[name].label,
            "threads": n,
            "seconds": statistics.median(seconds),
            "range": [min(seconds), max(seconds)],
            "memory_MB": statistics.median(run["memory_MB"] for run in runs[name, n]),
            "elbo": runs[name, n][0]["elbo"],
        }
    return result


def job(name: str, cores: int, grays: Path, scratch: Path) -> dict[str, float]:
    """Run one job in a new process; return its time, peak memory and ELBO."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.job", name, str(grays), str(EPOCHS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment(scratch, cores),
        preexec_fn=pinned(name, cores),
    )
    answer, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"the job of {name} ended with exit code {process.returncode}")
    elbo, peak = map(float, answer.split())
    return {"seconds": seconds, "memory_MB": peak, "elbo": elbo}


def run(
    workloads: list[str],
    only: list[str] | None,
    rounds: int,
    whole_jobs: bool,
    show: Callable[[str], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run the benchmark and return what `--json` prints; show each table when it is finished."""
    start = time.perf_counter()
    present = {n: importlib.util.find_spec(c.module) is not None for n, c in CONTESTANTS.items()}
    wanted = [name for name in CONTESTANTS if only is None or name in ("numpyvae", *only)]
    names = [name for name in wanted if present[name]]
    result: dict[str, Any] = {
        "machine": machine(),
        "missing": {n: CONTESTANTS[n].module for n in wanted if not present[n]},
        "workloads": [],
    }
    show(heading(result))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = []
        for name in names:
            for cores in (1, 2) if name == "jax" else (2,):
                say(f"starting {CONTESTANTS[name].label}")
                workers.append(Worker(name, cores, scratch))
                stack.callback(workers[-1].close)
        for title in workloads:
            say(title)
            result["workloads"].append(measure(WORKLOADS[title], workers, scratch, rounds))
            show(table(result["workloads"][-1]))
    if whole_jobs:
        with tempfile.TemporaryDirectory() as folder:
            say(f"whole jobs, {EPOCHS} epochs on the digits")
            able = [name for name in names if name in ("numpyvae", "torch", "jax")]
            result["job"] = jobs(able, Path(folder))
    result["seconds"] = time.perf_counter() - start
    show(job_table(result))
    return result


def machine() -> dict[str, Any]:
    """Return the processor, its cores, the versions of the libraries and the OpenBLAS kernel."""
    from importlib import metadata

    from threadpoolctl import threadpool_info

    versions = {}
    for package in ("numpy", "torch", "jax", "autograd", "numba"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((li.split(":")[1].strip() for li in lines if li.startswith("model name")), "")
    blas = [pool.get("architecture") for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "blas_kernel": blas[0] if blas else None,
        "python": platform.python_version(),
        "versions": versions,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def heading(result: dict[str, Any]) -> str:
    """Return the text above the tables: the machine, the columns, and missing libraries."""
    m = result["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines = [
        f"{m['processor']}, {m['cores']} cores, OpenBLAS kernels {m['blas_kernel']}; "
        f"Python {m['python']}, {versions}; system load at the start {m['load']:.1f}",
        "float32, tanh, Adam. ratio: time divided by the time of numpyvae, median (quartiles) "
        "over the rounds; values above 1 are slower than numpyvae.",
        "/floor: time divided by the time of the matrix products only. first step: includes "
        "building and compiling. peak MB: peak memory of the process so far.",
    ]
    lines += [
        f"not measured: {CONTESTANTS[name].label}, because {module} is not installed "
        '(pip install "numpyvae[bench,fast]")'
        for name, module in result["missing"].items()
    ]
    return "\n".join(lines)


def table(entry: dict[str, Any]) -> str:
    """Return the table of one workload, with the fastest library first."""
    lines = [
        "",
        entry["workload"]["name"],
        f"  {'':34}{'threads':>8}{'ms/step':>9}{'samples/s':>11}{'ratio (quartiles)':>24}"
        f"{'/floor':>8}{'first step':>12}{'peak MB':>9}  objective, 20 steps",
    ]
    for row in sorted(entry["rows"].values(), key=lambda r: r["step_seconds"]):
        low, mid, high = row.get("to_ours", [math.nan] * 3)
        floor = row.get("to_floor", [0, math.nan])[1]
        curve = ""
        if "curve_error" in row:
            curve = f"{'agrees' if row['curve_agrees'] else 'DIFFERS'} to {row['curve_error']:.0e}"
        lines.append(
            f"  {row['label']:34}{row['threads']:>8}{row['step_seconds'] * 1e3:>9.3f}"
            f"{row['samples_per_second']:>11.0f}"
            f"{f'{mid:.2f} ({low:.2f} – {high:.2f})':>24}{floor:>8.2f}"
            f"{row['first_step_seconds']:>10.2f} s{row['memory_MB']:>9.0f}  {curve}"
        )
    for name, error in entry["failed"].items():
        lines.append(f"  {CONTESTANTS[name].label:34}not measured: {error}")
    return "\n".join(lines)


def job_table(result: dict[str, Any]) -> str:
    """Return the table of import times and whole jobs."""
    lines = ["", f"Import time in a new process: {imports(result)}"]
    if "job" not in result:
        return "\n".join([*lines, f"total time {result['seconds']:.0f} s"])
    lines.append("")
    lines.append(
        f"Whole job: start of the process, import, compilation, {EPOCHS} epochs on the digits, "
        f"64-128-8; median (range) of {JOBS} runs"
    )
    ours = result["job"].get("numpyvae", {"seconds": math.nan})["seconds"]
    for row in sorted(result["job"].values(), key=lambda r: r["seconds"]):
        low, high = row["range"]
        lines.append(
            f"  {row['label']:34}{row['threads']:>8}{row['seconds']:>8.2f} s "
            f"({low:.2f} – {high:.2f})  ratio {row['seconds'] / ours:.2f}  "
            f"peak {row['memory_MB']:.0f} MB  ELBO {row['elbo']:.2f} nats"
        )
    lines.append(f"\ntotal time {result['seconds']:.0f} s")
    return "\n".join(lines)


def imports(result: dict[str, Any]) -> str:
    """Return the import times, each from its own process; variants of torch are listed once."""
    seen = {}
    for entry in result["workloads"]:
        for name, row in entry["rows"].items():
            if not name.startswith("torch-"):
                seen[name] = row["import_seconds"]
    return ", ".join(f"{CONTESTANTS[n].module} {s:.2f} s" for n, s in seen.items())


def chart(result: dict[str, Any], path: str) -> None:
    """Plot the times divided by the time of numpyvae, with one panel for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colors = {
        "numba": "#56b4e9",
        "torch": "#d55e00",
        "torch-compile": "#e69f00",
        "torch-default": "#cc79a7",
        "jax": "#009e73",
        "autograd": "#999999",
        "floor": "#000000",
        "numpyvae": "#0072b2",
    }
    entries = result["workloads"]
    heights = [len(entry["rows"]) + 1.6 for entry in entries]
    figure, axes = plt.subplots(
        len(entries),
        1,
        figsize=(8, 0.27 * sum(heights) + 0.8),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for ax, entry in zip(axes[:, 0], entries):
        rows = sorted(entry["rows"].items(), key=lambda item: -item[1]["step_seconds"])
        for i, (name, row) in enumerate(rows):
            low, mid, high = row["to_ours"]
            ax.plot([low, high], [i, i], color=colors[name], lw=3, solid_capstyle="butt")
            ax.plot(mid, i, "s" if name == "floor" else "o", color=colors[name], ms=6)
            label = f"{mid:.2f}  ({1e3 * row['step_seconds']:.3g} ms)"
            ax.annotate(label, (high, i), (8, 0), textcoords="offset points", va="center", size=8)
        ax.set_yticks(range(len(rows)), [row["label"] for _, row in rows], fontsize=8)
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_title(entry["workload"]["name"], fontsize=10, loc="left")
        ax.axvline(1, color="0.6", lw=0.8, zorder=0)
        ax.grid(axis="x", color="0.9", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    ratios = [r["to_ours"] for e in entries for r in e["rows"].values()]
    axes[-1, 0].set_xscale("log", base=2)
    axes[-1, 0].set_xlim(0.8 * min(r[0] for r in ratios), 2.2 * max(r[2] for r in ratios))
    axes[-1, 0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[-1, 0].set_xlabel("time of a step divided by that of numpyvae: median and quartiles")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--json", action="store_true",
        help="print the results as JSON; the tables are printed to standard error",
    )  # fmt: skip
    parser.add_argument(
        "--chart", type=picture, metavar="FILE",
        help="plot the ratios and write the plot to this .png, .svg or .pdf file",
    )  # fmt: skip
    parser.add_argument(
        "--workload", nargs="+", choices=WORKLOADS, metavar="NAME",
        help="measure only these workloads: " + "; ".join(WORKLOADS),
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", choices=CONTESTANTS, metavar="NAME",
        help="compare numpyvae only with these: " + ", ".join(CONTESTANTS),
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=whole, default=ROUNDS,
        help=f"number of rounds, each with one turn per library (default: {ROUNDS})",
    )  # fmt: skip
    parser.add_argument("--no-job", action="store_true", help="do not measure the whole jobs")
    parser.add_argument(
        "--avx2", action="store_true",
        help="measure all libraries without AVX-512, on a processor that has it",
    )  # fmt: skip
    options = parser.parse_args(argv)
    if options.avx2:
        limit_to_avx2("benchmarks.step", sys.argv[1:] if argv is None else argv)
    result = run(
        options.workload or list(WORKLOADS),
        options.only,
        options.rounds,
        not options.no_job,
        partial(print, file=sys.stderr if options.json else sys.stdout, flush=True),
        partial(print, file=sys.stderr, flush=True),
    )
    if options.json:
        print(json.dumps(result, indent=2))
    if options.chart:
        chart(result, options.chart)
    rows = [row for entry in result["workloads"] for row in entry["rows"].values()]
    return 0 if all(row.get("curve_agrees", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
