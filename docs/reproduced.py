"""The pictures of the page "Reproductions", from the results in `docs/measured/reproduce`.

Each is a function of a `Palette`, as those of `figures.py`. The figures come from runs of
`numpyvae reproduce`; nothing is computed here. No picture shows faces: they must not be passed on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from figures import Palette, _axes
from matplotlib.figure import Figure

__all__ = ["DRAWINGS", "FOLDER"]

FIGURE_2 = "kingma-welling-fig2"
FOLDER = Path(__file__).parent / "measured" / "reproduce"
DRAWINGS: dict[str, Callable[[Palette], Figure]] = {}


def _drawing(name: str):
    """Register a drawing of an experiment, if there are results of it."""

    def register(draw):
        if (FOLDER / f"{name}.json").exists():
            DRAWINGS[name] = draw
        return draw

    return register


@cache
def _results(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def _figures(name: str) -> list[dict[str, Any]]:
    """Return what was measured of each model: its training, seed, epoch and figures."""
    return _results(name)["models"]


def _value(figure: Any) -> float:
    return figure[0] if isinstance(figure, list) else figure


def _legend(figure: Figure, ax, columns: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


@_drawing("altosaar")
def altosaar(palette: Palette) -> Figure:
    """Plot the ELBO of the validation set after each pass, and the published ELBO."""
    figure, ax = _axes(palette, 6.4, 3.4)
    labels = {
        "mean-field": "KL in closed form",
        "sampled-kl": "KL drawn",
        "as-in-the-code": "KL drawn, PyTorch's initial weights",
    }
    colors = dict(zip(labels, (palette.phi, palette.theta, palette.muted)))
    for curve in _results("altosaar")["curves"]:
        steps = np.array(curve["epoch"]) * -(-curve["rows"] // 128) / 1000
        name, first = curve["training"], curve["seed"] == 0
        style, label = ("-", labels[name]) if first else ("--", None)
        ax.plot(steps, curve["valid_elbo"], style, color=colors[name], label=label)
    ax.axhline(-103.31, color=palette.text, ls=":", label="published, test set")
    ax.set(xlabel="training steps (thousands)", ylabel="validation ELBO (nats)")
    ax.set(xlim=(0, 66), ylim=(-115, -100), yticks=range(-115, -99, 5))
    _legend(figure, ax, 2)
    return figure


@_drawing("burda-table1")
def burda(palette: Palette) -> Figure:
    """Plot −L_5000 after each stage, and the published one after the last; −ELBO of `vae-1`."""
    figure, ax = _axes(palette, 6.4, 3.6)
    for training, quantity, mark, color in (
        ("vae-1", "-L_K", "o-", palette.phi),
        ("vae-1", "-ELBO", "s:", palette.phi),
        ("vae-1-fixed", "-L_K", "D-", palette.muted),
        ("iwae-1", "-L_K", "^--", palette.theta),
    ):
        models = [m for m in _figures("burda-table1") if m["training"] == training]
        label = {"-L_K": "−L₅₀₀₀", "-ELBO": "−ELBO"}[quantity]
        values = [_value(m["figures"][quantity]) for m in models]
        passes = [m["epoch"] for m in models]
        ax.plot(passes, values, mark, color=color, ms=5, label=f"{label}, {training}")
    published = {"color": palette.text, "ls": "", "ms": 8, "mfc": "none"}
    ax.plot(3280, 86.76, "*", label="published, vae-1", **published)
    ax.plot(3280, 88.71, "s", label="published, vae-1-fixed", **published)
    ax.set(xlabel="passes over the data", ylabel="nats", xscale="log", xlim=(0.8, 5000))
    _legend(figure, ax, 2)
    return figure


@_drawing(FIGURE_2)
def bounds(palette: Palette) -> Figure:
    """Plot the bounds of AEVB and wake-sleep against the training samples, in the paper's axes."""
    panels: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for curve in _results(FIGURE_2)["curves"]:
        words = curve["training"].split("-")
        panels.setdefault((words[0], int(words[-1])), []).append(curve)
    columns = 3
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(7, 2.1 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, ((data, J), curves) in zip(axes, panels.items()):
        for curve in curves:
            method = "wake-sleep" if "wake-sleep" in curve["training"] else "AEVB"
            color = palette.theta if method == "wake-sleep" else palette.phi
            label = method if curve["seed"] == 0 else "_"  # not in the legend
            samples = np.array(curve["epoch"]) * curve["rows"]
            ax.plot(samples, curve["elbo"], color=color, label=f"{label}, training")
            whose = curve["training"], curve["seed"]
            measured = [m for m in _figures(FIGURE_2) if (m["training"], m["seed"]) == whose]
            x = [m["epoch"] * curve["rows"] for m in measured]
            y = [_value(m["figures"]["test bound"]) for m in measured]
            mark = "s" if method == "wake-sleep" else "o"
            ax.plot(x, y, mark, ms=5, color=color, label=f"{label}, test")
        ax.set_title(f"{data.replace('mnist', 'MNIST').replace('frey', 'Frey faces')}, J = {J}")
        shown = (-210, -95) if data == "mnist" else (400, 1250)
        ax.set(xscale="log", xlim=(8e4, 1.3e7), ylim=shown)
        ax.title.set(color=palette.text, fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    for ax in axes[: len(panels)][-columns:]:
        ax.set_xlabel("training samples")
    figure.supylabel("bound (nats)", color=palette.text)
    _legend(figure, axes[0], 2)
    return figure


@_drawing("kingma-welling-fig3")
def marginal(palette: Palette) -> Figure:
    """Plot log p(x) of the training and of the test rows against the training samples."""
    groups: dict[int, dict[tuple[str, int], list]] = {}
    for m in _figures("kingma-welling-fig3"):
        method, _, rows = m["training"].rpartition("-")
        point = m["epoch"] * int(rows), m["figures"]
        groups.setdefault(int(rows), {}).setdefault((method, m["seed"]), []).append(point)
    figure = Figure(figsize=(7, 2.7 * len(groups) + 0.5), layout="constrained")
    axes = figure.subplots(len(groups), 2, squeeze=False)
    styles = {"aevb": ("o-", palette.phi), "wake-sleep": ("s--", palette.theta)}
    styles["mcem"] = ("^:", palette.text)
    for across, (N, curves) in zip(axes, sorted(groups.items())):
        for ax, part in zip(across, ("training", "test")):
            for (method, seed), points in curves.items():
                mark, color = styles[method]
                samples, figures = zip(*points)
                mean, error = np.transpose([f[f"log p(x), {part}"] for f in figures])
                label = method if method == "wake-sleep" else method.upper()
                label = label if seed == 0 else None
                ax.errorbar(samples, mean, error, fmt=mark, color=color, label=label, capsize=2)
            ax.set_title(f"N = {N:,}, {part} rows", color=palette.text, fontsize=11)
            ax.set(xlabel="training samples", ylabel="log p(x) (nats)", xscale="log")
            ax.spines[["top", "right"]].set_visible(False)
    _legend(figure, axes[0, 0], 3)
    return figure


@_drawing("kingma-welling-fig4")
def digits(palette: Palette) -> Figure:
    """Show the means of p(x|z) on a grid of the unit square of u, z = Φ⁻¹(u)."""
    with_images = [m for m in _figures("kingma-welling-fig4") if "images" in m["figures"]]
    return _mosaics(palette, {"": {"": with_images[-1]["figures"]["images"]}}, 4.6)


@_drawing("kingma-welling-fig5")
def samples(palette: Palette) -> Figure:
    """Show the means of p(x|z) at draws from the prior, for each number of latents and samples."""
    images: dict[str, dict[str, list[str]]] = {}
    for m in _figures("kingma-welling-fig5"):
        if "images" in m["figures"]:
            J, samples = m["training"].rpartition("-")[2], m["epoch"] * 50_000
            row = images.setdefault(f"{samples:,} samples", {})
            row[f"J = {J}"] = m["figures"]["images"]
    return _mosaics(palette, images, 7.0)


def _mosaics(palette: Palette, images: dict[str, dict[str, list[str]]], width: float) -> Figure:
    """Show rows of groups of square images, each a text with a hexadecimal digit for a pixel."""
    rows, columns = len(images), len(next(iter(images.values())))
    figure = Figure(figsize=(width, width / columns * rows + 0.2), layout="constrained")
    shades = [palette.background, palette.text]
    cmap = mpl.colors.LinearSegmentedColormap.from_list("shades", shades)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax, title in zip(axes[:, 0], images):
        ax.set_ylabel(title, color=palette.text)
    for ax, title in zip(axes[0], next(iter(images.values()))):
        ax.set_title(title, color=palette.text)
    groups = [tiles for row in images.values() for tiles in row.values()]
    for ax, tiles in zip(axes.ravel(), groups):
        side, across = int(len(tiles[0]) ** 0.5), int(len(tiles) ** 0.5)
        x = np.array([[int(c, 16) for c in tile] for tile in tiles])
        x = x.reshape(across, across, side, side)
        x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1))).transpose(0, 2, 1, 3)  # a gap of one pixel
        ax.imshow(x.reshape(across * (side + 1), -1), cmap=cmap, vmin=0, vmax=15)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


@_drawing("tightness")
def tightness(palette: Palette) -> Figure:
    """Plot, for each model, what annealing adds to L_5000, and the width of the bracket."""
    models = _figures("tightness")
    figure, ax = _axes(palette, 6.4, 0.55 * len(models) + 1.5)
    y = np.arange(len(models))[::-1]
    marks = {
        "test, annealed - L_K": ("o", palette.phi, "test set: annealing − L₅₀₀₀"),
        "simulated, upper - lower": ("s", palette.theta, "simulated data: upper − lower bound"),
    }
    for shift, (name, (mark, color, label)) in zip((0.12, -0.12), marks.items()):
        mean, error = np.transpose([m["figures"][name] for m in models])
        ax.errorbar(mean, y + shift, xerr=error, fmt=mark, color=color, label=label, capsize=3)
    ax.axvline(0, color=palette.muted, lw=1)
    ax.set_yticks(y, [m["training"] for m in models])
    ax.set(xlabel="nats", ylim=(-0.6, len(models) - 0.4))
    _legend(figure, ax, 1)
    return figure


@_drawing("lucas-collapse")
def collapse(palette: Palette) -> Figure:
    """Plot the variance of the posterior mean of each latent, as predicted and as trained."""
    trainings: dict[str, list[dict[str, Any]]] = {}
    for m in _figures("lucas-collapse"):
        trainings.setdefault(m["training"], []).append(m)
    figure, axes = _axes(palette, 7, 3.2, columns=len(trainings))
    for ax, (training, models) in zip(np.atleast_1d(axes), trainings.items()):
        sigma, f = float(training.partition("-")[2]), models[0]["figures"]
        place = np.arange(1, len(f["eigenvalues"]) + 1)
        predicted = np.maximum(1 - sigma**2 / np.maximum(f["eigenvalues"], 1e-12), 0)
        ax.plot(place, predicted, "-", color=palette.theta, label="probabilistic PCA")
        for m, mark in zip(models, ("o", "x")):
            label = f"trained VAE, seed {m['seed']}"
            variances = m["figures"]["posterior means"]
            ax.plot(place, variances, mark, ms=4, color=palette.phi, mfc="none", label=label)
        ax.set_title(f"σ = {sigma}", color=palette.text)
        ax.set(xlabel="latent, sorted", ylim=(-0.03, 1.03))
    np.atleast_1d(axes)[0].set_ylabel("variance of the posterior mean")
    _legend(figure, np.atleast_1d(axes)[0], 3)
    return figure


@_drawing("cremer-gaps")
def gaps(palette: Palette) -> Figure:
    """Plot the two parts of log p(x) − ELBO after the stages of the training."""
    models = _figures("cremer-gaps")
    figure, ax = _axes(palette, 5.4, 3.2)
    styles = {
        "gap": ("o-", palette.text),
        "amortization gap": ("s--", palette.phi),
        "approximation gap": ("^:", palette.theta),
    }
    trainings = dict.fromkeys(m["training"] for m in models)
    for i, (name, (mark, color)) in enumerate(styles.items()):
        for training in trainings:
            of = [j for j, m in enumerate(models) if m["training"] == training]
            mean, error = np.transpose([models[j]["figures"][name] for j in of])
            label, place = (name if 0 in of else None), np.array(of) + 0.06 * (i - 1)
            ax.errorbar(place, mean, error, fmt=mark, color=color, label=label, capsize=2)
    names = [f"{m['epoch']:,}\n{m['training']}" for m in models]
    ax.set_xticks(range(len(models)), names, fontsize=10)
    ax.set(xlabel="passes over the data", ylabel="nats", xlim=(-0.5, len(models) - 0.5))
    ax.set_ylim(0, None)
    _legend(figure, ax, 3)
    return figure


@_drawing("tucker-snr")
def ratios(palette: Palette) -> Figure:
    """Plot the signal-to-noise ratios of the gradients of L_K against K."""
    figure, ax = _axes(palette, 6.0, 3.4)
    styles = {
        "theta": ("θ", "o-", palette.text),
        "phi, IWAE": ("φ, IWAE", "s--", palette.theta),
        "phi, STL": ("φ, STL", "^:", palette.muted),
        "phi, DReG": ("φ, DReG", "v-.", palette.phi),
    }
    for m in _figures("tucker-snr"):
        curves: dict[str, list[tuple[int, float]]] = {}
        for name, value in m["figures"].items():
            which, _, K = name.partition(", K = ")
            curves.setdefault(which, []).append((int(K), value))
        first = m["seed"] == 0
        for which, points in curves.items():
            label, mark, color = styles[which]
            style = {"label": label} if first else {"alpha": 0.45}
            ax.plot(*zip(*points), mark, color=color, **style)
    ax.set(
        xlabel="importance samples K", ylabel="signal-to-noise ratio", xscale="log", yscale="log"
    )
    ticks = (0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    _legend(figure, ax, 4)
    return figure
