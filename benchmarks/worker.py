"""The process of one library: it reads requests from standard input, one line of JSON each.

{"do": "setup", "workload": {…}, "data": "file.npz"}    build the step and run the first steps
{"do": "threads", "n": 1}                               set the number of threads
{"do": "run", "seconds": 0.25}                          time steps for this number of seconds
"""

from __future__ import annotations

import json
import os
import sys
import time

START = time.perf_counter()

import numpy as np  # noqa: E402

from benchmarks.contestants import CONTESTANTS, Workload  # noqa: E402
from benchmarks.peak import peak_megabytes  # noqa: E402

FIRST = 20  # number of steps whose objectives are compared
WARM = 2  # first steps of a turn, not counted: the caches still contain data of other processes


def main(name: str) -> None:
    contestant = CONTESTANTS[name]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of the library goes to standard error
    __import__(contestant.module)
    reply(out, {"import_seconds": time.perf_counter() - START})
    step, batches, at = None, [], 0
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "setup":
            w = Workload(**{**order["workload"], "hidden": tuple(order["workload"]["hidden"])})
            with np.load(order["data"]) as data:
                x, eps, flat = data["x"].astype("float32"), data["eps"], data["flat"]
            batches, at = list(zip(x, eps)), 0
            start = time.perf_counter()
            try:
                step = contestant.build(w, flat)
                objectives = [step(*batches[0])]
            except Exception as error:  # for example, no compiler: the other libraries continue
                reply(out, {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
                continue
            first = time.perf_counter() - start
            objectives += [step(*batches[i % len(batches)]) for i in range(1, FIRST)]
            reply(out, {"first_step": first, "objectives": objectives})
        elif order["do"] == "threads":
            set_threads(name, order["n"])
            reply(out, {})
        elif order["do"] == "run":
            seconds, stop = [], time.perf_counter() + order["seconds"]
            while len(seconds) < WARM + 3 or time.perf_counter() < stop:
                batch, at = batches[at % len(batches)], at + 1
                start = time.perf_counter()
                step(*batch)
                seconds.append(time.perf_counter() - start)
            reply(out, {"seconds": seconds[WARM:], "memory": peak_megabytes()})


def set_threads(name: str, n: int) -> None:
    """Set the number of threads of a library; JAX cannot change it in a running process."""
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(n)
    else:
        import threadpoolctl

        threadpoolctl.threadpool_limits(n)


def reply(out, message: dict) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
