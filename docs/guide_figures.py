"""The first pictures of the pages for users, each in place of many words.

Each is a function of a `Palette`, as those of `figures.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import Palette, _axes
from matplotlib.figure import Figure

import numpyvae
from numpyvae import Adam, datasets

__all__ = ["DATA", "DRAWINGS"]

COSTS, SKLEARN, RESULTS = DATA = [
    Path(__file__).parent / name
    for name in ("measured/bug_costs.json", "scikit-learn.md", "results.md")
]
BUGS = {  # a name of `measured/bug_costs.json`, the line of the bug, a dash
    "right": ("right code", "-"),
    "exp(¼ log σ²) as standard deviation": ("σ = exp(¼ log σ²)", "--"),
    "KL averaged over latents": ("KL averaged over latents", "-."),
    "log σ² read as σ in the sampler": ("log σ² used as σ", ":"),
}


def bug_curves(palette: Palette) -> Figure:
    """Plot the loss of right code and of three bugs, and log p(x) of the decoders, for J = 8."""
    trained = json.loads(COSTS.read_text("utf-8"))["trained"]
    figure, (left, right) = _axes(palette, 7.2, 3.6, columns=2)
    colors = (palette.text, palette.phi, palette.theta, palette.muted)
    for row, ((name, (label, dash)), color) in enumerate(zip(BUGS.items(), colors)):
        runs = [run for key, run in trained.items() if key.startswith(f"{name}|8|")]
        curve = np.mean([run["curve"] for run in runs], axis=0)
        left.plot(1 + np.arange(len(curve)), curve, dash, color=color, label=label)
        log_p = np.mean([run["log_p"] for run in runs])
        right.plot(log_p, -row, "o", ms=8, color=color)
        number = f"{log_p:.1f}".replace("-", "−")
        right.annotate(number, (log_p, -row), (-14, 9), textcoords="offset points")
    left.set(xlabel="epoch", ylabel="loss of the code (nats)", ylim=(10, None))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.get_layout_engine().set(wspace=0.08)
    right.set(xlabel="log p(x) of the decoder (nats)", xlim=(-30, -22), ylim=(-3.5, 1), yticks=[])
    return figure


def wines(palette: Palette) -> Figure:
    """Plot μ(x) of the 178 wines on the plane of two latents, a mark for each cultivar."""
    wine = datasets.load_wine()
    x = (wine.x_train - wine.x_train.mean(axis=0)) / wine.x_train.std(axis=0)
    vae = numpyvae.VAE(data_dim=13, latent_dim=2, hidden=(20,), likelihood="gaussian:learned")
    numpyvae.fit(vae, x, epochs=200, batch_size=20, optimizer=Adam(3e-3))
    mu, _ = vae.encode(x)
    figure, ax = _axes(palette, 4.6, 3.4)
    for cultivar, mark, color in zip("ABC", "os^", (palette.phi, palette.theta, palette.muted)):
        mine = wine.y_train == cultivar
        ax.plot(*mu[mine].T, mark, ms=5, color=color, label=f"cultivar {cultivar}")
    ax.set(xlabel="mean of $z_1$", ylabel="mean of $z_2$", aspect="equal")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


LINES = {  # a model of the table of scikit-learn.md: its mark
    "VAE, binomial:16": "o-",
    "VAE, gaussian:learned": "s-",
    "FactorAnalysis": "^--",
    "PCA": "x--",
}


def linear_models(palette: Palette) -> Figure:
    """Plot the table of the page on scikit-learn: log p(x) and accuracy against J."""
    page = SKLEARN.read_text("utf-8")
    figure, axes = _axes(palette, 7.2, 3.6, columns=2)
    colors = (palette.theta, palette.phi, palette.text, palette.muted)
    for (model, mark), color in zip(LINES.items(), colors):
        rows = re.findall(rf"\| (\d+) \| {model} \| ([−\d.]+)\s±[^|]*\|[^|]*\| ([−\d.]+)\s±", page)
        latents, log_p, accuracy = np.array(
            [[float(cell.replace("−", "-")) for cell in row] for row in rows]
        ).T
        axes[0].plot(latents, log_p, mark, color=color, label=model)
        axes[1].plot(latents, accuracy, mark, color=color)
    axes[0].set(ylabel="log p(x) (nats per image)")
    axes[1].set(ylabel="accuracy (%)")
    for ax in axes:
        ax.set(xlabel="number of latents J", xticks=latents)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def gap_parts(palette: Palette) -> Figure:
    """Plot the table of the page on results: the two parts of log p(x) − ELBO, as shares."""
    page = RESULTS.read_text("utf-8")
    models = re.search(r"\n\| \|([^\n]+)\|\n\|[-|]+\n\| log p\(x\) − ELBO", page)[1].split("|")
    parts = {
        part: np.array([float(n) for n in re.findall(r"([\d.]+) ±", line)])
        for part, line in re.findall(r"\| (approximation|amortization) gap \|(.+)", page)
    }
    figure, ax = _axes(palette, 7.2, 2.4)
    start, total = np.zeros(len(models)), sum(parts.values())
    for (part, nats), color in zip(parts.items(), (palette.phi, palette.theta)):
        share = 100 * nats / total
        ax.barh(range(len(models)), share, left=start, color=color, label=f"{part} gap")
        for row, number in enumerate(nats):
            ax.text(start[row] + share[row] / 2, row, f"{number:.2f} nats", ha="center",
                    va="center", color=palette.background)  # fmt: skip
        start += share
    ax.set(xlabel="share of log p(x) − ELBO (%)", yticks=range(len(models)), xlim=(0, 100))
    ax.set_yticklabels([model.strip() for model in models])
    ax.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


DRAWINGS: dict[str, Callable[[Palette], Figure]] = {
    f.__name__: f for f in (bug_curves, wines, linear_models, gap_parts)
}
