"""Measure how time and memory grow: `python -m benchmarks.scale [--json] [--chart FILE]`.

One size is varied at a time; the other sizes are D = 256, H = 200, J = 10, L = 1 and B = 100.

    N            one epoch of `fit` over rows of 64 bytes in a memmap on disk
    D, H, J, L   a training step of `fit`
    K            `importance_log_likelihood` of 20 rows

Time is processor time with one BLAS thread, the median of a few runs. Memory is the peak of the
memory that Python and NumPy allocate in addition to the data and the model; it does not include
the pages of the memmap, which belong to the file cache of the operating system. An exponent is the
slope of log time, or of log memory, against log size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.options import picture
from numpyvae import VAE, Estimator, fit, importance_log_likelihood

BASE = {"D": 256, "H": 200, "J": 10, "L": 1}
SIZES = {
    "N": (10_000, 100_000, 1_000_000),
    "D": (64, 256, 1024, 4096),
    "H": (50, 200, 800, 3200),
    "J": (2, 8, 32, 128, 512),
    "L": (1, 4, 16, 64),
    "K": (50, 200, 800, 3200, 12_800),
}
STEPS, B = 5, 100


def passes_over_disk(N: int, folder: Path) -> Callable[[], Any]:
    """Return a function that trains for one epoch on N rows that are stored on disk."""
    path = folder / f"{N}.u8"
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for start in range(0, N, 10_000):
            rows = min(10_000, N - start)
            file.write(rng.integers(0, 2, (rows, 64), np.uint8).tobytes())
    x = np.memmap(path, np.uint8, "r", shape=(N, 64))
    vae = VAE(64, 8, (64,))
    return lambda: fit(vae, x, epochs=1, batch_size=500)


def step_of(**size: int) -> Callable[[], Any]:
    """Return a function that makes STEPS training steps."""
    s = BASE | size
    x = np.random.default_rng(0).integers(0, 2, (STEPS * B, s["D"])).astype(np.float32)
    vae = VAE(s["D"], s["J"], (s["H"],))
    return lambda: fit(vae, x, epochs=1, batch_size=B, estimator=Estimator(n_samples=s["L"]))


def evaluation(K: int) -> Callable[[], Any]:
    """Return a function that evaluates L_K of 20 rows."""
    x = np.random.default_rng(0).integers(0, 2, (20, BASE["D"])).astype(np.float32)
    vae = VAE(BASE["D"], BASE["J"], (BASE["H"],))
    return lambda: importance_log_likelihood(vae, x, K, n_jobs=1)


def job_of(name: str, size: int, folder: Path) -> Callable[[], Any]:
    """Return the function that is measured for one size."""
    if name == "N":
        return passes_over_disk(size, folder)
    return evaluation(size) if name == "K" else step_of(**{name: size})


def measure(job: Callable[[], Any]) -> tuple[float, float]:
    """Return the median time in seconds and the peak memory in megabytes."""
    tracemalloc.start()
    try:
        start = time.process_time()
        job()
        first, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    seconds = []
    for _ in range(1 if first > 2 else 7):
        start = time.process_time()
        job()
        seconds.append(time.process_time() - start)
    return median(seconds), peak / 1e6


def slope(sizes: list[float], values: list[float]) -> float:
    """Return the slope of the least-squares line of log value against log size."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3) + 0.0  # no −0.00


def draw(report: dict[str, Any], path: str) -> None:
    """Plot time and memory against each size, relative to the smallest size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(7, 4.8), layout="constrained", sharey=True)
    for axis, (name, r) in zip(axes.flat, report.items()):
        for key, style in (("seconds", "o-"), ("megabytes", "s--")):
            values = np.array(r[key]) / r[key][0]
            label = {"seconds": "time", "megabytes": "memory"}[key]
            color = {"seconds": "#0072b2", "megabytes": "#d55e00"}[key]
            axis.loglog(r["sizes"], values, style, color=color, label=label)
        axis.set_title(
            f"time ∝ {name}$^{{{r['time_exponent']:.2f}}}$, "
            f"memory ∝ {name}$^{{{r['memory_exponent']:.2f}}}$",
            fontsize=9,
        )
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("relative to smallest size")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    """Measure all sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--chart", type=picture, metavar="FILE",
        help="also plot the results and write the plot to this .png, .svg or .pdf file",
    )  # fmt: skip
    args = parser.parse_args(argv)
    report = {}
    with threadpool_limits(1, "blas"), tempfile.TemporaryDirectory() as folder:
        step_of()()  # one-time setup of the process is excluded from the first measurement
        evaluation(1)()
        for name, sizes in SIZES.items():
            points = [measure(job_of(name, size, Path(folder))) for size in sizes]
            seconds, megabytes = (list(column) for column in zip(*points))
            report[name] = {
                "sizes": sizes,
                "seconds": seconds,
                "megabytes": megabytes,
                "time_exponent": slope(sizes, seconds),
                "last_time_exponent": slope(sizes[-2:], seconds[-2:]),
                "memory_exponent": slope(sizes, megabytes),
            }
            if not args.json:
                r = report[name]
                print(
                    f"{name}: time ∝ {name}^{r['time_exponent']:.2f}"
                    f" (last two points {r['last_time_exponent']:.2f}),"
                    f" memory ∝ {name}^{r['memory_exponent']:.2f}"
                )
                for size, second, megabyte in zip(sizes, seconds, megabytes):
                    print(f"  {size:9,d}{1e3 * second:12.2f} ms{megabyte:10.2f} MB", flush=True)
    if args.json:
        print(json.dumps(report))
    if args.chart:
        draw(report, args.chart)


if __name__ == "__main__":
    main()
