"""Test whether training with more importance samples gives a better model of the digits.

    python -m benchmarks.importance [--json]

The same network (64-200-10, tanh) is trained on the binarized digits for the same number of epochs
by these objectives:

    K = 1           the ELBO (sgvb-b)
    K = 5, 50       L_K, by the IWAE gradient and by the DReG gradient

The models are compared by log p(x) of the test set, estimated by L_K with K = 5000. Training with
K = 50 makes q wide, and a wide q is a poor proposal for small K; with K = 5000 the estimate is
close to log p(x) for all models. A seed determines the weights, the order of the data and the
noise; the difference from K = 1 is computed for each seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np

from benchmarks.options import whole
from numpyvae import VAE, Adam, cosine_schedule, fit, importance_log_likelihood, mean_terms
from numpyvae.command.preparation import prepare
from numpyvae.core.likelihoods import parse_likelihood
from numpyvae.diagnostics import active_units
from numpyvae.estimators import make_estimator
from numpyvae.support.statistics import mean_and_error

RULES = [("sgvb-b", 1), ("iwae", 5), ("dreg", 5), ("iwae", 50), ("dreg", 50)]


def run(data, estimator: str, K: int, seed: int, epochs: int, n_importance: int) -> dict:
    """Train and measure one model; log-likelihood and ELBO are in nats per datapoint."""
    vae = VAE(64, 10, (200,), seed=seed)
    start = time.perf_counter()
    fit(
        vae,
        data.x_train,
        epochs=epochs,
        optimizer=Adam(3e-3),
        schedule=cosine_schedule(epochs),
        estimator=make_estimator(estimator, n_importance=K if K > 1 else None),
        transform=data.transform,
        seed=seed,
    )
    seconds = time.perf_counter() - start
    return {
        "estimator": estimator,
        "K": K,
        "seed": seed,
        "log_p": float(importance_log_likelihood(vae, data.x_test, n_importance).mean()),
        "elbo": mean_terms(vae, data.x_test, n_samples=10).elbo,
        "active_units": int(active_units(vae, data.x_test).sum()),
        "seconds": seconds,
    }


def table(rows: list[dict]) -> list[dict]:
    """Return the means over the seeds, and the gain over K = 1 with its standard error."""
    by_rule = {}
    for row in rows:
        by_rule.setdefault((row["estimator"], row["K"]), []).append(row)
    base = np.array([row["log_p"] for row in by_rule[RULES[0]]])
    result = []
    for (estimator, K), runs in by_rule.items():
        log_p = np.array([row["log_p"] for row in runs])
        gain, error = mean_and_error(log_p - base)
        means = {k: float(np.mean([row[k] for row in runs])) for k in ("elbo", "active_units")}
        result.append(
            {
                "estimator": estimator,
                "K": K,
                "log_p": float(log_p.mean()),
                **means,
                "gain": gain,
                "gain_se": error,
                "seconds": float(np.median([row["seconds"] for row in runs])),
            }
        )
    return result


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--seeds", type=whole, default=3, help="number of seeds for each estimator (default: 3)")
    add("--epochs", type=whole, default=100, help="number of training epochs (default: 100)")
    add(
        "--n-importance", type=whole, default=5000, metavar="K",
        help="number of importance samples in the evaluation (default: 5000)",
    )  # fmt: skip
    add("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(argv)
    data = prepare("digits", parse_likelihood("bernoulli"))
    rows = []
    for seed in range(args.seeds):
        for estimator, K in RULES:
            rows.append(run(data, estimator, K, seed, args.epochs, args.n_importance))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    summary = table(rows)
    if args.json:
        print(json.dumps({"epochs": args.epochs, "rows": rows, "table": summary}))
        return
    print(f"digits, 64-200-10, {args.epochs} epochs, {args.seeds} seeds; nats per test datapoint")
    print(
        f"{'':12}{'log p(x)':>9} {'ELBO':>8}{'gain over K = 1':>18} {'active':>7} {'seconds':>8}"
    )
    for row in summary:
        gain = f"{row['gain']:.3f} ± {row['gain_se']:.3f}" if row["K"] > 1 else ""
        print(
            f"{row['estimator']:7}{row['K']:4} {row['log_p']:9.3f} {row['elbo']:8.3f}{gain:>18}"
            f" {row['active_units']:7.1f} {row['seconds']:8.1f}"
        )


if __name__ == "__main__":
    main()
