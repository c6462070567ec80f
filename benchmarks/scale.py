"""How time and memory grow: `python -m benchmarks.scale [--json] [--chart FILE]`.

One size at a time is varied, the others stay at D = 256, H = 200, J = 10, L = 1, B = 100:

    N          `fit`, one pass over rows of 64 bytes in a memmap on disk
    D, H, J, L a training step within `fit`
    K          `importance_log_likelihood` of 20 rows

Time is processor time with one BLAS thread, the median of a few runs; memory is the peak of what
Python and NumPy allocate beside data and model. The pages of the memmap are not in it: they are
the system's cache. An exponent is the slope of log time, or log memory, against log size.
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
from numpyvae import VAE, fit, importance_log_likelihood

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
    """One epoch over N rows that were never in memory together."""
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
    """STEPS training steps."""
    s = BASE | size
    x = np.random.default_rng(0).integers(0, 2, (STEPS * B, s["D"])).astype(np.float32)
    vae = VAE(s["D"], s["J"], (s["H"],))
    return lambda: fit(vae, x, epochs=1, batch_size=B, n_samples=s["L"])


def evaluation(K: int) -> Callable[[], Any]:
    """L_K of 20 rows."""
    x = np.random.default_rng(0).integers(0, 2, (20, BASE["D"])).astype(np.float32)
    vae = VAE(BASE["D"], BASE["J"], (BASE["H"],))
    return lambda: importance_log_likelihood(vae, x, K, n_jobs=1)


def job_of(name: str, size: int, folder: Path) -> Callable[[], Any]:
    """Return the work of one point."""
    if name == "N":
        return passes_over_disk(size, folder)
    return evaluation(size) if name == "K" else step_of(**{name: size})


def measure(job: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds, a median, and megabytes at the peak."""
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
    """Return the exponent that fits best, in logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3) + 0.0  # no −0.00


def draw(report: dict[str, Any], path: str) -> None:
    """Draw time and memory against each size, relative to the smallest."""
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
        axis.set_ylabel("relative to the smallest")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    """Measure every point and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--chart", type=picture, metavar="FILE", help="draw them as well: .png, .svg or .pdf"
    )
    args = parser.parse_args(argv)
    report = {}
    with threadpool_limits(1, "blas"), tempfile.TemporaryDirectory() as folder:
        step_of()()  # what is made once for a process stays out of the first point
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
