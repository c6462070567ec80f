"""Train a 64-128-8 network on the digits in one library; `benchmarks.step` times the process.

    python -m benchmarks.job NAME grays.npy EPOCHS

In each epoch every library draws a new order of the rows, a new binarization and new noise. The
command prints the mean ELBO of the last epoch, in nats per datapoint, and the peak memory in MB.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np

from benchmarks.peak import peak_megabytes

B, J = 100, 8


def ours(grays: str, epochs: int) -> float:
    from numpyvae import VAE, datasets, fit

    vae = VAE(64, J, (128,))
    return fit(vae, np.load(grays), epochs=epochs, transform=datasets.binarize)["elbo"][-1]


def peer(name: str, grays: str, epochs: int) -> float:
    from benchmarks.contestants import CONTESTANTS, Workload

    w = Workload("digits", 64, (128,), J, B)
    rng = np.random.default_rng(0)
    layers = [pair for widths in w.widths() for pair in pairwise(widths)]
    size = sum((n_in + 1) * n_out for n_in, n_out in layers)
    flat = 0.1 * rng.standard_normal(size, "float32")
    step = CONTESTANTS[name].build(w, flat)
    x = np.load(grays)
    for _ in range(epochs):
        order, total = rng.permutation(len(x)), 0.0
        for start in range(0, len(x), B):
            rows = x[order[start : start + B]]
            batch = (rng.random(rows.shape, "float32") < rows).astype("float32")
            eps = rng.standard_normal((1, len(rows), J), "float32")
            total += len(rows) * step(batch, eps)
    return total / len(x)


if __name__ == "__main__":
    name, grays, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    elbo = ours(grays, epochs) if name == "numpyvae" else peer(name, grays, epochs)
    print(elbo, peak_megabytes())
