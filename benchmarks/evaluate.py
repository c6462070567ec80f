"""Compare L_K with PyTorch and JAX at the same memory limit: `python -m benchmarks.evaluate`.

    L_K = E[log (1/K) Σ_k w_k],  log w = log p_θ(x|z) + log p(z) − log q_φ(z|x),  z ~ q_φ(z|x)

The code for PyTorch and JAX follows the usual practice of their users: one array contains draws ×
datapoints, with as many draws at a time as the memory limit allows. It computes no gradients, uses
all cores, and is compiled by jit in JAX. Each library runs in its own process, and the processes
take turns. Peak memory is the peak of the process. The matrix products of the decoder, on the same
number of cores, give a lower limit of the time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

import numpy as np

from benchmarks.options import above_zero, whole
from benchmarks.peak import peak_megabytes
from numpyvae import VAE, datasets, importance_log_likelihood
from numpyvae.bounds import simulate
from numpyvae.bounds.streams import decoder_megabytes, rows_in_cache
from numpyvae.support.parallel import map_rows
from numpyvae.support.statistics import mean_and_error, plus_minus

Contestant = Callable[[np.ndarray, int], np.ndarray]


def ours(vae: VAE, rows_of_z: int) -> Contestant:
    """`importance_log_likelihood` with its default memory, which is less than the limit."""
    return lambda x, K: importance_log_likelihood(vae, x, K)


def with_numba(vae: VAE, rows_of_z: int) -> Contestant:
    """`importance_log_likelihood` of the model that `fast.compiled` returns."""
    from numpyvae.fast import compiled

    return ours(compiled(vae), rows_of_z)


def with_torch(vae: VAE, rows_of_z: int) -> Contestant:
    """PyTorch in eager mode and inference mode."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    encoder, decoder = (
        [tuple(map(torch.tensor, pair)) for pair in network]
        for network in (vae.parameters.encoder, vae.parameters.decoder)
    )
    draw = torch.Generator().manual_seed(1)

    def mlp(x, layers):
        for W, b in layers[:-1]:
            x = torch.tanh(x @ W + b)
        return x @ layers[-1][0] + layers[-1][1]

    @torch.inference_mode()
    def log_likelihood(x, K):
        x, result = torch.from_numpy(x), []
        B = min(len(x), 100)
        for part in x.split(B):
            mu, logvar = mlp(part, encoder).chunk(2, dim=1)
            log_w = []
            for done in range(0, K, most := max(1, rows_of_z // B)):
                L = min(most, K - done)
                eps = torch.randn(L, *mu.shape, generator=draw)
                z = mu + torch.exp(0.5 * logvar) * eps
                logits = mlp(z, decoder)
                target = part.expand_as(logits)
                log_px = -cross_entropy(logits, target, reduction="none").sum(-1)
                log_w.append(log_px + 0.5 * (eps * eps + logvar - z * z).sum(-1))
            result.append(torch.logsumexp(torch.cat(log_w).double(), 0) - math.log(K))
        return torch.cat(result).numpy()

    return log_likelihood


def with_jax(vae: VAE, rows_of_z: int) -> Contestant:
    """JAX; jit compiles the function that computes the log weights of one block of draws."""
    import jax
    import jax.numpy as jnp

    encoder, decoder = (
        [tuple(map(jnp.asarray, pair)) for pair in network]
        for network in (vae.parameters.encoder, vae.parameters.decoder)
    )

    def mlp(x, layers):
        for W, b in layers[:-1]:
            x = jnp.tanh(x @ W + b)
        return x @ layers[-1][0] + layers[-1][1]

    def piece(key, x, L):
        mu, logvar = jnp.split(mlp(x, encoder), 2, axis=1)
        eps = jax.random.normal(key, (L, *mu.shape))
        z = mu + jnp.exp(0.5 * logvar) * eps
        logits = mlp(z, decoder)
        log_px = (x * logits - jax.nn.softplus(logits)).sum(-1)
        return log_px + 0.5 * (eps * eps + logvar - z * z).sum(-1)

    jitted = jax.jit(piece, static_argnums=2)

    def log_likelihood(x, K):
        key, result = jax.random.key(1), []
        B = min(len(x), 100)
        for start in range(0, len(x), B):
            log_w = []
            for done in range(0, K, most := max(1, rows_of_z // B)):
                key, use = jax.random.split(key)
                L = min(most, K - done)
                log_w.append(np.asarray(jitted(use, x[start : start + B], L), float))
            log_w = np.concatenate(log_w)
            top = log_w.max(axis=0)
            result.append(top + np.log(np.exp(log_w - top).mean(axis=0)))
        return np.concatenate(result)

    return log_likelihood


LIBRARIES = {"numpyvae": ours, "numba": with_numba, "torch": with_torch, "jax": with_jax}
PRODUCTS = "matrix products"


def products(vae: VAE, rows_of_z: int) -> Contestant:
    """Only the matrix products of the decoder, in place, on the same number of cores."""
    weights = [W for W, _ in vae.parameters.decoder]
    rows = rows_in_cache(vae)
    rng = np.random.default_rng(0)

    def multiply(x, K):
        def work(pieces, advance):
            (pieces,) = pieces
            arrays = [rng.standard_normal((rows, W.shape[0]), vae.dtype) for W in weights]
            outs = [np.empty((rows, W.shape[1]), vae.dtype) for W in weights]
            for _ in range(pieces):
                for a, W, out in zip(arrays, weights, outs):
                    np.matmul(a, W, out=out)

        pieces = len(x) * K // rows
        eighths = [slice(i, i + 1) for i in range(8)]
        map_rows(work, eighths, [np.full(8, pieces // 8)], None, lambda note: None)

    return multiply


def serve(end: Connection, name: str, flat: np.ndarray, x: np.ndarray, K: int, z: int) -> None:
    """Evaluate L_K in one library for each request from the other process; send the seconds."""
    vae = VAE(784, 20, (500,)).with_flat(flat)
    evaluate = (LIBRARIES | {PRODUCTS: products})[name](vae, z)
    end.send(evaluate(x, K))  # the first call, which includes compilation
    while end.recv():
        start = time.perf_counter()
        evaluate(x, K)
        end.send(time.perf_counter() - start)
    end.send(peak_megabytes())


def main(argv: list[str] | None = None) -> None:
    """Measure all libraries, check that their values agree, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--rows", type=whole, default=100, help="number of datapoints (default: 100)")
    add(
        "--n-importance", type=whole, default=1000, metavar="K",
        help="number of importance samples per datapoint (default: 1000)",
    )  # fmt: skip
    add("--repeats", type=whole, default=5, help="number of runs of each library (default: 5)")
    add(
        "--memory", type=above_zero, default=16.0,
        help="memory limit for the arrays of the decoder, in megabytes (default: 16)",
    )  # fmt: skip
    add(
        "--model",
        help="file of a trained 784-500-20 model, evaluated on the test images of MNIST "
        "(default: an untrained model and data simulated from it)",
    )
    add("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(argv)
    if args.model:
        try:
            vae = VAE.load(args.model)
            images = datasets.load_mnist()
        except (OSError, ValueError) as error:
            parser.error(f"--model: {error}")
        if repr(vae.architecture) != repr(VAE(784, 20, (500,)).architecture):
            parser.error(f"--model: expected a VAE(784-500-20) with Bernoulli pixels, got {vae}")
        x = images.grays("test")[: args.rows]
        x = datasets.binarize(x, np.random.default_rng(0)).astype(np.float32)
    else:
        vae = VAE(784, 20, (500,))
        x, _ = simulate(vae, args.rows)
    K, rows_of_z = args.n_importance, max(1, int(args.memory / decoder_megabytes(vae)))

    missing = [name for name in LIBRARIES if name != "numpyvae" and find_spec(name) is None]
    names = [name for name in (*LIBRARIES, PRODUCTS) if name not in missing]
    context, ends, processes = get_context("spawn"), {}, []
    for name in names:
        ends[name], theirs = context.Pipe()
        work = (theirs, name, vae.parameters.flat, x, K, rows_of_z)
        processes.append(context.Process(target=serve, args=work, daemon=True))
        processes[-1].start()
    values = {name: end.recv() for name, end in ends.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.repeats):
        for name, end in ends.items():
            end.send(True)
            seconds[name].append(end.recv())
    for end in ends.values():
        end.send(False)
    peaks = {name: end.recv() for name, end in ends.items()}

    report = {}
    for name in names:
        ratios = [t / o for t, o in zip(seconds[name], seconds["numpyvae"])]
        floors = [t / f for t, f in zip(seconds[name], seconds[PRODUCTS])]
        report[name] = {
            "seconds": median(seconds[name]),
            "ratio_to_numpyvae": median(ratios),
            "spread": [min(ratios), max(ratios)],
            "ratio_to_products": median(floors),
        }
        if name in LIBRARIES:
            apart, error = mean_and_error(values[name] - values["numpyvae"])
            if abs(apart) > 5 * error + 1e-4:
                how_far = plus_minus(apart, error, 3)
                sys.exit(f"{name}: L_{K} is {how_far} nats from numpyvae's")
            report[name]["log_likelihood"] = float(values[name].mean())
            report[name]["peak_megabytes"] = peaks[name]
    if args.json:
        print(json.dumps({"rows": args.rows, "K": K, "results": report, "missing": missing}))
        return
    print(f"L_{K} of {len(x)} rows, {vae}, {args.repeats} runs, {rows_of_z} rows of z at a time")
    print(f"{'':16}{'seconds':>9}{'/ numpyvae':>24}{'/ products':>12}{'peak MB':>9}{'L_K':>10}")
    for name, r in report.items():
        spread = "{:.2f} ({:.2f} … {:.2f})".format(r["ratio_to_numpyvae"], *r["spread"])
        rest = (
            f"{r['peak_megabytes']:9.0f}{r['log_likelihood']:10.3f}" if name in LIBRARIES else ""
        )
        print(f"{name:16}{r['seconds']:9.2f}{spread:>24}{r['ratio_to_products']:12.2f}{rest}")
    for name in missing:
        print(f"{name} is not installed and was not measured")


if __name__ == "__main__":
    main()
