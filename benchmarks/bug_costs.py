"""Measure what each bug of the clinic costs: `python -m benchmarks.bug_costs [--seconds S]`.

A small VAE (64-100-J, tanh) is trained on the embedded digits with one bug in its code
(`benchmarks.planted`), for 40 epochs, binarized afresh in each. Then log p(x) of its decoder is
measured by right code on 500 test digits:

    J = 2   by quadrature on a grid of the latent plane: no encoder and no bound enters
    J = 8   by L_1000, with an encoder that is trained anew for the finished decoder

Bugs of reported figures leave the training right: both figures are computed for the right model.
The clinic examines a small copy of each VAE, and its findings are kept. All results go to one
file, after each training: a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.options import above_zero
from benchmarks.planted import BUGS, SLIPS, Planted, sigmoid
from numpyvae import VAE, datasets, fit, importance_log_likelihood
from numpyvae.clinic import Subject, examine
from numpyvae.support.files import atomic_write
from numpyvae.support.special import log_mean_exp

FILE = Path(__file__).parents[1] / "docs" / "measured" / "bug_costs.json"
EPOCHS, BATCH, RATE, TEST, SEEDS, LATENTS = 40, 100, 3e-3, 500, 3, (2, 8)
GRID, WIDTH = 121, 6.0  # nodes in each latent, and where the grid ends
SHOWN = 8  # samples that are kept

A = np.ndarray


def digits() -> tuple[A, A]:
    """Return the grays of the training digits and the binarized test digits."""
    data = datasets.load_digits()
    test = data.grays("test", dtype="float64")[:TEST]
    return data.grays("train", dtype="float64"), datasets.binarize(test, np.random.default_rng(0))


def train(bug: str, latent_dim: int, seed: int, grays: A) -> tuple[Planted, list[float]]:
    """Train with Adam and a cosine schedule; return the model and the curve of its own loss."""
    vae = Planted(bug, 64, latent_dim, 100, seed)
    rng = np.random.default_rng([seed, 3])
    moments = {k: (np.zeros_like(a), np.zeros_like(a)) for k, a in vae.p.items()}
    curve, step, total = [], 0, EPOCHS * -(-len(grays) // BATCH)
    for _ in range(EPOCHS):
        x = (rng.random(grays.shape) < grays).astype(float)[rng.permutation(len(grays))]
        losses = []
        for start in range(0, len(x), BATCH):
            batch = x[start : start + BATCH]
            loss, gradient = vae.loss_and_gradient(batch)
            losses.append(loss * len(batch))
            step += 1
            rate = 0.5 * RATE * (1 + np.cos(np.pi * step / total))
            for k, g in gradient.items():
                first, second = moments[k]
                first += 0.1 * (g - first)
                second += 0.001 * (g**2 - second)
                unbiased = second / (1 - 0.999**step)
                vae.p[k] = vae.p[k] - rate * first / (1 - 0.9**step) / (np.sqrt(unbiased) + 1e-8)
        curve.append(float(np.sum(losses) / len(x)))
        if not np.isfinite(curve[-1]):
            break
    return vae, curve


def converted(vae: Planted) -> VAE:
    """Return the same networks as a model of the package."""
    p = vae.p
    model = VAE(64, vae.latent_dim, hidden=(100,), dtype="float64")
    own = {"encoder.W0": p["W1"], "encoder.b0": p["b1"]}
    own |= {"encoder.W1": np.hstack([p["Wm"], p["Ws"]])}
    own |= {"encoder.b1": np.hstack([p["bm"], p["bs"]])}
    own |= {"decoder.W0": p["W2"], "decoder.b0": p["b2"]}
    own |= {"decoder.W1": p["W3"], "decoder.b1": p["b3"]}
    for name, value in own.items():
        model.parameters[name][:] = value
    return model


def on_grid(vae: Planted, x: A, nodes: int = GRID) -> A:
    """Return log p(x) (N,) for J = 2, by the trapezoidal rule: log Σ_g p(x|z_g) p(z_g) Δ²."""
    side = np.linspace(-WIDTH, WIDTH, nodes)
    z = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    log_prior = -0.5 * (z**2).sum(1)
    log_prior -= np.log(np.exp(log_prior).sum())
    total = np.full(len(x), -np.inf)
    for rows in np.array_split(np.arange(len(z)), 1 + len(z) // 4000):
        l = vae.decode(z[rows])
        log_joint = x @ l.T - np.logaddexp(0, l).sum(1) + log_prior[rows]
        top = log_joint.max(1)
        part = top + np.log(np.exp(log_joint - top[:, None]).sum(1))
        total = np.logaddexp(total, part)
    return total


def by_importance(vae: Planted, x: A, grays: A) -> A:
    """Return L_1000 (N,), with an encoder that is trained anew for this decoder."""
    model, fresh = converted(vae), VAE(64, vae.latent_dim, hidden=(100,), dtype="float64")
    phi = model.parameters.phi.size
    model.parameters.flat[:phi] = fresh.parameters.flat[:phi]
    fit(model, grays, epochs=20, transform=datasets.binarize, optimizer="adam", update="phi")
    return importance_log_likelihood(model, x, 1000, n_jobs=1)


def measure(bug: str, latent_dim: int, seed: int) -> dict[str, Any]:
    """Train once and return what is kept of it."""
    grays, x = digits()
    with np.errstate(all="ignore"):
        vae, curve = train(bug, latent_dim, seed, grays)
    result: dict[str, Any] = {"curve": [round(v, 3) if np.isfinite(v) else None for v in curve]}
    if result["curve"][-1] is None or not np.isfinite(vae.get()).all():
        return result | {"log_p": None}
    values = on_grid(vae, x) if latent_dim == 2 else by_importance(vae, x, grays)
    z = np.random.default_rng(1).standard_normal((SHOWN, latent_dim))
    pixels = np.rint(15 * sigmoid(vae.decode(z))).astype(int).ravel()
    m, s = vae.encode(x)
    own = 0.5 * (m**2 + np.exp(np.minimum(s, 50)) - s - 1)  # what the encoder's outputs say
    return result | {
        "log_p": round(float(values.mean()), 3),
        "kl": float(f"{own.sum(1).mean():.4g}"),
        "active": int((m.var(0) > 0.01).sum()),
        "samples": "".join(f"{v:x}" for v in pixels),
    }


def log_weights(model: VAE, x: A, k: int) -> dict[str, A]:
    """Return log p(x|z), log p(z) and log q(z|x), each (K, N), and the KL (N,)."""
    m, s = model.encode(x)
    eps = np.random.default_rng(2).standard_normal((k, *m.shape))
    z = m + np.exp(0.5 * s) * eps
    l = model.decoder(z)[0]
    tau = np.log(2 * np.pi)
    return {
        "x": (x * l - np.logaddexp(0, l)).sum(-1),
        "z": -0.5 * (z**2 + tau).sum(-1),
        "q": -0.5 * (eps**2 + s + tau).sum(-1),
        "kl": 0.5 * (m**2 + np.exp(s) - s - 1).sum(-1),
    }


def figures(w: dict[str, A], n: int, batch: int) -> Iterator[tuple[str, float, float]]:
    """Yield (bug, reported figure, right figure) for log p(x) and for the ELBO of a data set."""
    log_w = w["x"] + w["z"] - w["q"]
    k, right = len(log_w), log_mean_exp(log_w)
    normal = np.exp(log_w - right) / k
    for name, value in {
        "weights averaged in log space": log_w.mean(0),
        "log K not subtracted": right + np.log(k),
        "Σ w̃ log w reported as the value": (normal * log_w).sum(0),
        "greatest weight for the mean of weights": log_w.max(0),
        "sign in the weights": -log_mean_exp(-log_w),
        "analytic KL in the weights": log_mean_exp(w["x"] - w["kl"]),
        "rows mixed among the weights": log_mean_exp(log_w.reshape(n, k).T),
        "q missing in the weights": log_mean_exp(w["x"] + w["z"]),
        "prior missing in the weights": log_mean_exp(w["x"] - w["q"]),
    }.items():
        yield name, float(value.mean()), float(right.mean())
    rows = w["x"].mean(0) - w["kl"]
    elbos, starts = float(rows.mean()), range(0, n, batch)
    for name, value in {
        "first batch only": rows[:batch].mean(),
        "sum over rows reported": rows.sum(),
        "divisor of the reported mean": rows.sum() / (batch * (len(starts) - 1)),
        "mean of batch means": np.mean([rows[i : i + batch].mean() for i in starts]),
        "sign of the reported figure": -elbos,
    }.items():
        yield name, float(value), elbos


def reported(seed: int) -> dict[str, dict[str, float]]:
    """Return the reported and the right figure of each bug of an evaluation, for J = 8, K = 50."""
    grays, _ = digits()
    data = datasets.load_digits().grays("test", dtype="float64")
    x = datasets.binarize(data, np.random.default_rng(0))
    vae, _ = train("", 8, seed, grays)
    model = converted(vae)
    w = log_weights(model, x, 50)
    found = {b: {"found": f, "right": r} for b, f, r in figures(w, len(x), BATCH)}
    m, _ = model.encode(x)
    right = float((w["x"].mean(0) - w["kl"]).mean())
    l = vae.decode(m)
    still = float((x * l - np.logaddexp(0, l)).sum(1).mean() - w["kl"].mean())
    found["evaluation without noise"] = {"found": still, "right": right}
    return {b: {k: round(v, 3) for k, v in f.items()} for b, f in found.items()}


def subject_of(bug: str) -> Subject:
    """Return a small VAE with a bug, as the clinic takes it: 6 pixels, 2 latents."""
    vae, rng = Planted(bug, 6, 2, 5, seed=1, gain=2.0), np.random.default_rng(7)
    for name in vae.p:
        if name[0] == "b":
            vae.p[name] = rng.normal(0, 0.5, vae.p[name].shape)
    names = ("encode", "decode", "sample_z", "kl", "reconstruction", "loss")
    functions: dict[str, Any] = {name: getattr(vae, name) for name in names}
    if bug in SLIPS or not bug:
        functions |= {"gradient": vae.gradient, "parameters": (vae.get, vae.set)}
    x = rng.integers(0, 2, (40, 6)).astype(float)
    return Subject(**functions, seed=vae.reseed, scale="logvar", output="logits", sign="loss", x=x)


def findings() -> dict[str, dict[str, str]]:
    """Return the finding of the clinic that names each bug, for those that it names."""
    kept = ("examination", "expected", "found")
    return {
        bug: {k: getattr(finding, k) for k in kept}
        for bug in BUGS
        for finding in examine(subject_of(bug)).findings
        if finding.name == bug
    }


def missing(data: dict[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """Yield what is not in the data: the key, the bug, J and the seed; seed after seed."""
    for seed in range(SEEDS):
        for latent_dim in LATENTS:
            for bug in ("", *BUGS):
                key = f"{bug or 'right'}|{latent_dim}|{seed}"
                if key not in data["trained"]:
                    yield key, bug, latent_dim, seed


def load(path: Path) -> dict[str, Any]:
    """Return the results so far."""
    if path.exists():
        return json.loads(path.read_text("utf-8"))
    return {"trained": {}, "reported": {}, "found": {}}


def save(path: Path, data: dict[str, Any]) -> None:
    lines = [
        f" {json.dumps(part)}: {{\n"
        + ",\n".join(
            f"  {json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}"
            for k, v in sorted(values.items())
        )
        + "\n }"
        for part, values in data.items()
    ]
    with atomic_write(path) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=above_zero, default=float("inf"), help="start no training after S s"
    )
    parser.add_argument("--file", type=Path, default=FILE, help="the file of results")
    arguments = parser.parse_args(argv)
    data, start = load(arguments.file), time.monotonic()
    with threadpool_limits(1, "blas"):
        for seed in range(SEEDS):
            if str(seed) not in data["reported"]:
                data["reported"][str(seed)] = reported(seed)
        data["found"] = findings()
        save(arguments.file, data)
        for key, bug, latent_dim, seed in [*missing(data)]:
            if time.monotonic() - start > arguments.seconds:
                break
            data["trained"][key] = measure(bug, latent_dim, seed)
            save(arguments.file, data)
            print(key, data["trained"][key]["log_p"], flush=True)


if __name__ == "__main__":
    main()
