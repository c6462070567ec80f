"""The figures of the site. Each is a function of a `Palette`; there is a light and a dark version.

    python docs/figures.py               write the figure of the README, docs/computation.svg
    python docs/figures.py FOLDER        write all figures as SVG files

There are three diagrams (the graphical models of the notes' Figure 1 and section 3.7, and the
computation with its forward and backward paths) and four plots of results that the code on the
pages of the site computes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets, plotting
from numpyvae.exact import Gaussian, LinearGaussian, ppca_maximum_likelihood
from numpyvae.inference import variational_em

__all__ = ["DARK", "DRAWINGS", "LIGHT", "README_PICTURE", "Palette", "draw", "draw_for_readme"]

README_PICTURE = Path(__file__).with_name("computation.svg")


@dataclass(frozen=True)
class Palette:
    """Colors of text, background, observed variables, and the two sets of parameters."""

    name: str
    text: str
    muted: str
    background: str
    observed: str
    phi: str
    theta: str


LIGHT = Palette("light", "#1f2328", "#656d76", "#ffffff", "#d8dee4", "#0a58b0", "#a33b00")
DARK = Palette("dark", "#e6edf3", "#9ea7b3", "#14181e", "#3d444d", "#79b8ff", "#ffa657")

Node = tuple[float, float]


# The graphical models


def _figure(width: float, height: float):
    """Return a figure and axes that fill it; one unit of the axes is one inch."""
    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return figure, ax


def _arrow(ax, tail: Node, head: Node, color: str, *, dashed=False, gap=0.36, bend=0.0) -> None:
    tail, head = np.array(tail), np.array(head)
    step = (head - tail) / np.linalg.norm(head - tail) * gap
    ax.add_patch(
        FancyArrowPatch(
            tail + step,
            head - step,
            arrowstyle="-|>",
            mutation_scale=16,
            linewidth=1.8,
            linestyle=(0, (4, 2.5)) if dashed else "-",
            connectionstyle=f"arc3,rad={bend}",
            color=color,
            shrinkA=0,
            shrinkB=0,
        )
    )


def _plate_model(palette: Palette, *, with_q: bool) -> Figure:
    figure, ax = _figure(5.2, 3.2)
    z, x, theta, phi = (2.6, 2.3), (2.6, 1.0), (4.5, 1.65), (0.7, 1.65)
    plate = FancyBboxPatch(
        (1.55, 0.35), 2.1, 2.55, boxstyle="round,pad=0,rounding_size=0.12",
        fill=False, edgecolor=palette.muted, linewidth=1.4,
    )  # fmt: skip
    ax.add_patch(plate)
    ax.text(3.55, 0.47, "$N$", ha="right", va="bottom", fontsize=17, color=palette.text)
    for at, name, observed in ((z, "z", False), (x, "x", True)):
        color = palette.observed if observed else palette.background
        ax.add_patch(Circle(at, 0.32, facecolor=color, edgecolor=palette.text, linewidth=1.8))
        ax.text(
            *at, rf"$\mathbf{{{name}}}$", ha="center", va="center", fontsize=19, color=palette.text
        )
    ax.text(*theta, r"$\theta$", ha="center", va="center", fontsize=21, color=palette.theta)
    _arrow(ax, z, x, palette.theta)
    _arrow(ax, theta, z, palette.theta)
    _arrow(ax, theta, x, palette.theta)
    if with_q:
        ax.text(*phi, r"$\varphi$", ha="center", va="center", fontsize=21, color=palette.phi)
        _arrow(ax, phi, z, palette.phi, dashed=True)
        _arrow(ax, (2.34, 1.2), (2.34, 2.1), palette.phi, dashed=True, bend=-0.7, gap=0.0)
    return figure


def graphical_model(palette: Palette) -> Figure:
    """Draw the notes' Figure 1: x is observed N times, z is latent, and both depend on θ."""
    return _plate_model(palette, with_q=False)


def both_models(palette: Palette) -> Figure:
    """Draw the model of section 3.7: the generative model and the encoder q_φ(z|x)."""
    return _plate_model(palette, with_q=True)


# The computation


def computation(palette: Palette) -> Figure:
    """Draw the computation from x to the ELBO, and the gradient back through the same boxes."""
    figure, ax = _figure(6.9, 4.5)
    boxes = {
        "x": ((0.75, 3.7), (0.9, 0.62), r"$\mathbf{x}$", palette.text),
        "encoder": ((2.55, 3.7), (1.5, 0.62), "encoder $\\varphi$", palette.phi),
        "q": ((4.95, 3.7), (1.75, 0.62), r"$\mu,\ \log\,\sigma^2$", palette.phi),
        "z": (
            (4.95, 2.25),
            (1.75, 0.62),
            r"$\mathbf{z} = \mu + \sigma\,\varepsilon$",
            palette.text,
        ),
        "decoder": ((2.55, 2.25), (1.5, 0.62), r"decoder $\theta$", palette.theta),
        "logp": (
            (2.55, 0.8),
            (1.9, 0.62),
            r"$\log\, p_\theta(\mathbf{x}|\mathbf{z})$",
            palette.theta,
        ),
        "elbo": ((4.95, 0.8), (1.75, 0.62), "ELBO", palette.text),
    }
    for (cx, cy), (w, h), text, color in boxes.values():
        ax.add_patch(
            FancyBboxPatch(
                (cx - w / 2, cy - h / 2),
                w,
                h,
                boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=palette.background,
                edgecolor=color,
                linewidth=1.8,
            )
        )
        ax.text(cx, cy, text, ha="center", va="center", fontsize=14, color=palette.text)

    def edge(name, dx, dy):
        (cx, cy), (w, h), _, _ = boxes[name]
        return np.array([cx + dx * w / 2, cy + dy * h / 2])

    def join(tail, head, side, back=True):
        """Draw an arrow for the value and, next to it, an arrow for the gradient."""
        (dx, dy) = side
        a, b = edge(tail, dx, dy), edge(head, -dx, -dy)
        shift = 0.13 * np.array([abs(dy), abs(dx)])
        _arrow(ax, a + shift, b + shift, palette.text, gap=0.05)
        if back:
            _arrow(ax, b - shift, a - shift, palette.muted, gap=0.05, dashed=True)

    join("x", "encoder", (1, 0), back=False)
    join("encoder", "q", (1, 0))
    join("q", "z", (0, -1))
    join("z", "decoder", (-1, 0))
    join("decoder", "logp", (0, -1))
    join("logp", "elbo", (1, 0))
    # log p(x|z) also depends on x directly.
    ax.plot([0.75, 0.75], [3.34, 0.8], color=palette.text, lw=1.8)
    _arrow(ax, (0.75, 0.8), (1.55, 0.8), palette.text, gap=0.0)
    # The KL depends on q and not on z, so its arrows connect q and the ELBO directly.
    right = edge("q", 1, 0)[0] + 0.28
    for offset, color, dashed in ((0.0, palette.text, False), (0.22, palette.muted, True)):
        x0, top, bottom = right + offset, 3.7 - offset / 2, 0.8 + offset / 2
        ends = edge("q", 1, 0)[0], edge("elbo", 1, 0)[0]
        path = [
            (ends[0], top + 0.05),
            (x0, top + 0.05),
            (x0, bottom - 0.05),
            (ends[1], bottom - 0.05),
        ]
        if dashed:
            path = [(ends[0], 3.58), (x0 - 0.4, 3.58), (x0 - 0.4, 0.92), (ends[1], 0.92)]
            path = path[::-1]
        ax.plot(*zip(*path), color=color, lw=1.8, ls=(0, (4, 2.5)) if dashed else "-")
        _arrow(ax, path[-2], path[-1], color, gap=0.0)
    ax.text(right + 0.1, 1.52, "$-$KL", ha="left", va="center", fontsize=13, color=palette.text)
    ax.text(
        3.72,
        2.98,
        r"noise $\varepsilon$",
        ha="right",
        va="center",
        fontsize=13,
        color=palette.text,
    )
    _arrow(ax, (3.75, 2.93), (4.35, 2.6), palette.text, gap=0.04)
    _arrow(ax, (0.2, 0.34), (0.85, 0.34), palette.text, gap=0.0)
    ax.text(0.95, 0.34, "value", va="center", fontsize=12, color=palette.text)
    _arrow(ax, (0.85, 0.1), (0.2, 0.1), palette.muted, gap=0.0, dashed=True)
    ax.text(0.95, 0.1, "gradient", va="center", fontsize=12, color=palette.muted)
    return figure


# Plots of results that the pages compute


def _axes(palette: Palette, width: float, height: float, columns: int = 1):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for ax in np.atleast_1d(axes):
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


@cache
def _plane() -> numpyvae.VAE:
    """Train a VAE with two latents on the embedded digits."""
    digits = datasets.load_digits()
    vae = numpyvae.VAE(data_dim=64, latent_dim=2, hidden=(200, 100), likelihood="binomial:16")
    numpyvae.fit(
        vae, digits.x_train, epochs=60, optimizer=Adam(3e-3), schedule=cosine_schedule(60)
    )
    return vae


def manifold(palette: Palette) -> Figure:
    """Plot decoded points of a two-dimensional latent space (Kingma & Welling 2013, Figure 4)."""
    figure = Figure(figsize=(4.2, 4.2))
    ax = figure.add_axes((0, 0, 1, 1))
    plotting.plot_manifold(_plane(), (8, 8), ax=ax, n=12)
    shades = mpl.colors.LinearSegmentedColormap.from_list(
        "shades", [palette.background, palette.text]
    )
    for image in ax.images:
        image.set(cmap=shades, interpolation="nearest")
    ax.axis("off")
    ax.set_title("")
    return figure


def cost(palette: Palette) -> Figure:
    """Plot the cost of log p(x) of a digit, on a grid and by draws from the prior, against J."""
    latents, grid, draws = cost_table()
    figure, ax = _axes(palette, 6.0, 3.4)
    ax.semilogy(latents, grid, "o-", color=palette.phi, label="equally spaced grid")
    ax.semilogy(latents, draws, "s-", color=palette.theta, label="draws from the prior")
    ax.semilogy(
        latents, np.ones(len(latents)), "^-", color=palette.muted, label="draws from the posterior"
    )
    ax.set(xlabel="number of latents J", ylabel="evaluations of p(x|z)", xticks=latents)
    ax.legend(frameon=False)
    return figure


def cost_table(latents=(1, 2, 4, 8, 16, 32)):
    """Return the evaluations of p(x|z) that give log p(x) of a digit to about 0.1 nats, for PPCA.

    On an equally spaced grid: the covariance of the posterior is diagonal here, so the sum over
    the grid is a product of J sums in one dimension, and its error is known without evaluating
    all n^J points. With draws from the prior: the variance of the weight p(x|z), z ~ p(z), is
    known in closed form.
    """
    x = datasets.load_digits().grays("train", "float64")
    grid, draws = [], []
    for J in latents:
        model = ppca_maximum_likelihood(x, J)
        posterior = model.posterior(x[:1])
        sd = np.sqrt(np.diagonal(posterior.cov))
        n = next(n for n in range(2, 10_000) if _grid_error(posterior.mean[0], sd, n) < 0.1)
        grid.append(float(n) ** J)
        draws.append(float(np.exp(_log_square(model, x[:1]))[0] - 1) / 0.1**2)
    return latents, grid, draws


def _grid_error(mean, sd, n: int) -> float:
    """Return a bound of the error of log p̂(x) on a grid with n points per axis on [−5, 5]^J.

    The bound is the sum over j of the absolute errors of the one-dimensional sums.
    """
    axis = np.linspace(-5, 5, n)[:, None]
    density = np.exp(-0.5 * ((axis - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    with np.errstate(divide="ignore"):
        return np.abs(np.log(density.sum(axis=0) * 10 / (n - 1))).sum()


def _log_square(model: LinearGaussian, x) -> np.ndarray:
    """Return log E_p(z)[p(x|z)²] − 2 log p(x).

    The square of a Gaussian density is proportional to a Gaussian density of half the variance.
    """
    narrow = LinearGaussian(model.W, model.mean, model.sigma2 / 2)
    log_constant = -0.5 * model.data_dim * np.log(4 * np.pi * model.sigma2)
    return log_constant + narrow.log_evidence(x) - 2 * model.log_evidence(x)


def two_gaps(palette: Palette) -> Figure:
    """Plot the best diagonal q for a diagonal posterior and for a correlated posterior."""
    figure, axes = _axes(palette, 6.4, 3.2, columns=2)
    x = np.array([[1.0, 0.6]])
    for ax, W in zip(axes, ([[1.5, 0.0], [0.0, 1.5]], [[1.5, 1.2], [1.2, 1.5]])):
        model = LinearGaussian(W, [0.0, 0.0], 1.0)
        posterior, q = model.posterior(x), model.best_diagonal(x)
        for density, color, style in ((posterior, palette.theta, "-"), (q, palette.phi, "--")):
            z1, z2, p = _on_a_grid(density)
            ax.contour(z1, z2, p, 4, colors=color, linestyles=style)
        gap = model.log_evidence(x) - model.elbo_kl_form(x, q)
        ax.set_title(f"gap {abs(gap[0]):.2f} nats", color=palette.text)
        ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    handles = [
        mpl.lines.Line2D([], [], color=palette.theta, label="posterior"),
        mpl.lines.Line2D([], [], color=palette.phi, ls="--", label="best diagonal q"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _on_a_grid(density: Gaussian):
    z1, z2 = np.meshgrid(np.linspace(-1.2, 2.0, 121), np.linspace(-1.6, 1.6, 121))
    z = np.stack([z1, z2], axis=-1).reshape(-1, 1, 2)
    return z1, z2, np.exp(density.log_pdf(z)).reshape(z1.shape)


def em_steps(palette: Palette) -> Figure:
    """Plot the ELBO after each half-step of variational EM, and log p(x) of the final model."""
    x = em_data()
    vae = numpyvae.VAE(5, 1, (), likelihood="gaussian:learned", dtype="float64")
    _, steps = variational_em(vae, x, rounds=12)
    figure, ax = _axes(palette, 6.0, 3.2)
    elbos = np.array([step.elbo for step in steps])
    ax.plot(1 + np.arange(len(elbos)), elbos, color=palette.muted, lw=1)
    for half, color, mark in (("phi", palette.phi, "o"), ("theta", palette.theta, "s")):
        at = [i for i, step in enumerate(steps) if step.half == half]
        name = "after variational inference (φ)" if half == "phi" else "after the M-step (θ)"
        ax.plot(1 + np.array(at), elbos[at], mark, color=color, label=name)
    evidence = LinearGaussian.from_vae(vae).log_evidence(x).mean()
    ax.axhline(evidence, color=palette.text, lw=1, ls=":", label="log p(x) of the final model")
    ax.set(xlabel="half-step", ylabel="ELBO (nats per datapoint)")
    ax.legend(frameon=False)
    return figure


def em_data() -> np.ndarray:
    """Return 200 draws from a factor model with one latent, (200, 5)."""
    W = np.array([[1.0], [0.8], [0.6], [-0.4], [0.2]])
    return LinearGaussian(W, np.zeros(5), 0.3).sample(200, seed=1)


DRAWINGS: dict[str, Callable[[Palette], Figure]] = {
    f.__name__: f
    for f in (graphical_model, both_models, computation, manifold, cost, two_gaps, em_steps)
}


def draw(name: str, folder: Path, palettes=(LIGHT, DARK)) -> None:
    """Write one figure as NAME-light.svg and NAME-dark.svg."""
    for palette in palettes:
        _write(name, palette, folder / f"{name}-{palette.name}.svg", transparent=True)


def draw_for_readme(path: Path = README_PICTURE) -> None:
    """Write the computation with a background color: a README is shown on light and dark pages."""
    _write("computation", LIGHT, path, facecolor=LIGHT.background)


def _write(name: str, palette: Palette, path: Path, **settings) -> None:
    style = {
        "svg.hashsalt": "numpyvae", "font.size": 12, "mathtext.fontset": "cm",
        "text.color": palette.text, "axes.labelcolor": palette.text,
        "axes.edgecolor": palette.muted,
        "xtick.color": palette.text, "ytick.color": palette.text, "axes.facecolor": "none",
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = DRAWINGS[name](palette)
        figure.savefig(path, dpi=200, metadata={"Date": None, "Creator": None}, **settings)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        draw_for_readme()
    else:
        out = Path(sys.argv[1])
        out.mkdir(parents=True, exist_ok=True)
        for each in DRAWINGS:
            draw(each, out)
