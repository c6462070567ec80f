"""A VAE in plain NumPy whose code can have one of the bugs that the clinic names.

    x → tanh → (μ, s = log σ²) → z = μ + σ ε → tanh → logits

The loss is the mean over the rows of −log p(x|z) + KL. The tables below replace one piece of it by
the piece with the bug, together with its derivatives, as an automatic differentiation would give
them; the bugs of gradients leave the value right and change the backward pass alone. The code uses
nothing of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["BUGS", "Planted"]

A = np.ndarray


def sigmoid(a: A) -> A:
    return 0.5 * (1 + np.tanh(0.5 * a))


def softplus(a: A) -> A:
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


# KL: (mu, s) → its elements (B, J), and their derivatives in mu and s


def weighted(a: float = 1, b: float = 1, c: float = 1, d: float = 1) -> Callable:
    """½ (a μ² + b σ² − c log σ² − d)."""
    return lambda m, s: (
        0.5 * (a * m**2 + b * np.exp(s) - c * s - d),
        a * m,
        0.5 * (b * np.exp(s) - c),
    )


KL: dict[str, Callable] = {
    "KL without its −1": weighted(d=0),
    "KL with one −1 for all latents": lambda m, s: weighted(d=1 / m.shape[1])(m, s),
    "μ² missing in the KL": weighted(a=0),
    "sign of μ² in the KL": weighted(a=-1),
    "variance missing in the KL": weighted(b=0),
    "log σ² missing in the KL": weighted(c=0),
    "prior of another variance": weighted(np.exp(-2), np.exp(-2), 1, -1),
    "σ² squared in the KL": lambda m, s: (
        0.5 * (m**2 + np.exp(2 * s) - s - 1),
        m,
        np.exp(2 * s) - 0.5,
    ),
    "log σ² read as log σ in the KL": lambda m, s: (
        0.5 * (m**2 + np.exp(2 * s) - 2 * s - 1),
        m,
        np.exp(2 * s) - 1,
    ),
    "log σ² read as σ in the KL": lambda m, s: (
        0.5 * (m**2 + s**2 - np.log(s**2) - 1),
        m,
        s - 1 / s,
    ),
}

# Draws: (mu, s, eps) → z, ∂z/∂mu, ∂z/∂s


def deviation(scale: Callable) -> Callable:
    """z = μ + f(s) ε, from f(s) and f′(s)."""

    def draw(m: A, s: A, e: A) -> tuple:
        f, slope = scale(s)
        return m + f * e, 1.0, slope * e

    return draw


RIGHT_DRAW = deviation(lambda s: (np.exp(0.5 * s), 0.5 * np.exp(0.5 * s)))
SCALED = 0.18215
DRAWS: dict[str, Callable] = {
    "log σ² read as log σ in the sampler": deviation(lambda s: (np.exp(s), np.exp(s))),
    "log σ² read as σ in the sampler": deviation(lambda s: (s, 1.0)),
    "exp(¼ log σ²) as standard deviation": deviation(
        lambda s: (np.exp(0.25 * s), 0.25 * np.exp(0.25 * s))
    ),
    "mean decoded": lambda m, s, e: (m + 0, 1.0, 0 * s),
    "μ + σ decoded, without noise": lambda m, s, e: RIGHT_DRAW(m, s, 1 + 0 * e),
    "z scaled after the draw": lambda m, s, e: tuple(SCALED * a for a in RIGHT_DRAW(m, s, e)),
}
NOISE: dict[str, Callable] = {
    "noise of the wrong size": lambda rng, b, j: 0.01 * rng.standard_normal((b, j)),
    "uniform noise": lambda rng, b, j: rng.random((b, j)),
    "one ε for the whole batch": lambda rng, b, j: np.repeat(rng.standard_normal((1, j)), b, 0),
    "one ε for all latents": lambda rng, b, j: np.repeat(rng.standard_normal((b, 1)), j, 1),
    "same ε in every call": lambda rng, b, j: np.random.default_rng(5).standard_normal((b, j)),
}

# Pixels: (x, logits) → their costs (B, D), and the derivatives in the logits


def of_probabilities(cost: Callable, slope: Callable) -> Callable:
    """A cost of p = sigmoid(l), from its value and its derivative in p."""

    def pixels(x: A, l: A) -> tuple:
        p = sigmoid(l)
        return cost(x, p), slope(x, p) * p * (1 - p)

    return pixels


def clipped(least: float) -> Callable:
    def pixels(x: A, l: A) -> tuple:
        p = sigmoid(l)
        q = np.clip(p, least, 1 - least)
        return -x * np.log(q) - (1 - x) * np.log1p(-q), (p - x) * (p == q)

    return pixels


def unbounded(x: A, l: A) -> tuple:
    """The logits in the place of the probabilities, clipped as frameworks do."""
    q = np.clip(l, 1e-7, 1 - 1e-7)
    cost = -x * np.log(q) - (1 - x) * np.log1p(-q)
    return cost, np.where(q == l, (q - x) / (q * (1 - q)), 0.0)


def twice(x: A, l: A) -> tuple:
    p = sigmoid(l)
    return softplus(p) - x * p, (sigmoid(p) - x) * p * (1 - p)


def swapped(x: A, l: A) -> tuple:
    p, y = sigmoid(l), np.clip(x, 1e-7, 1 - 1e-7)
    a, b = np.log(y), np.log1p(-y)
    return -p * a - (1 - p) * b, (b - a) * p * (1 - p)


def cross_entropy(x: A, l: A) -> tuple:
    return softplus(l) - x * l, sigmoid(l) - x


PIXELS: dict[str, Callable] = {
    "(1−x) term missing": lambda x, l: (x * softplus(-l), -x * sigmoid(-l)),
    "x term missing": lambda x, l: ((1 - x) * softplus(l), (1 - x) * sigmoid(l)),
    "sigmoid applied twice": twice,
    "logits taken for probabilities": unbounded,
    "x and reconstruction swapped": swapped,
    "squared error in place of the log-likelihood": of_probabilities(
        lambda x, p: 0.5 * (x - p) ** 2, lambda x, p: p - x
    ),
    "absolute error in place of the log-likelihood": of_probabilities(
        lambda x, p: np.abs(x - p), lambda x, p: np.sign(p - x)
    ),
    "clipped cross-entropy": clipped(1e-3),
}

# Weights of the two terms, from B, D and J; the right ones are (1, 1)

WEIGHTS: dict[str, Callable] = {
    "KL without ½": lambda b, d, j: (1, 2),
    "sign of the KL": lambda b, d, j: (1, -1),
    "KL averaged over latents": lambda b, d, j: (1, 1 / j),
    "KL missing": lambda b, d, j: (1, 0),
    "reconstruction averaged over pixels": lambda b, d, j: (1 / d, 1),
    "KL summed over the batch, reconstruction averaged": lambda b, d, j: (1, b),
    "reconstruction summed over the batch, KL averaged": lambda b, d, j: (b, 1),
    "reconstruction divided by the batch twice": lambda b, d, j: (1 / b, 1),
    "KL divided by the batch twice": lambda b, d, j: (1, 1 / b),
    "sign of the loss": lambda b, d, j: (-1, -1),
}

# Activations on the heads of the encoder: their values and derivatives

HEADS: dict[str, tuple[str, Callable]] = {
    "σ ≥ 1 everywhere": ("s", lambda a: (softplus(a), sigmoid(a))),
    "μ ≥ 0 everywhere": ("m", lambda a: (np.maximum(a, 0), (a > 0) * 1.0)),
}

# Changes of the backward pass: factors of its parts; b is the number of rows

SLIPS: dict[str, dict[str, Any]] = {
    "sign of the gradient": {"whole": -1},
    "gradient summed, value averaged": {"whole": "b"},
    "gradient off by a factor": {"whole": 3},
    "½ missing in ∂σ": {"path_s": 2},
    "path through σ detached": {"path_s": 0},
    "path through μ detached": {"path_m": 0},
    "z detached": {"path_m": 0, "path_s": 0},
    "gradient of the KL missing": {"kl_m": 0, "kl_s": 0},
    "gradient of the KL in log σ² missing": {"kl_s": 0},
    "gradient of the KL in μ missing": {"kl_m": 0},
    "gradient of the KL not divided by the batch": {"kl_m": "b", "kl_s": "b"},
    "sign of the gradient of the KL": {"kl_m": -1, "kl_s": -1},
    "½ missing in the gradient of the KL": {"kl_s": 2},
    "noise drawn again in the backward pass": {"redraw": True},
    "path of log p(z) missing": {"sampled": True},
    "half the derivative of the output": {"output": lambda p: 0.5},
    "derivative of the sigmoid twice": {"output": lambda p: p * (1 - p)},
    "derivative of tanh at a sigmoid output": {"output": lambda p: 1 - p**2},
    "derivative of an activation in the decoder": {"decoder": True},
    "derivative of an activation in the encoder": {"encoder": True},
    "updated weights in the backward pass": {"updated": 0.3},
    "only the branch of μ sent back": {"branches": (1, 0)},
    "only the branch of log σ² sent back": {"branches": (0, 1)},
    "bias averaged over the batch": {"bias": True},
}
BUGS = (*KL, *DRAWS, *NOISE, *PIXELS, *WEIGHTS, *HEADS, *SLIPS)


class Planted:
    """A VAE with one bug, or with none.

    Parameters
    ----------
    bug : str
        A name of the clinic's, or "".
    data_dim, latent_dim, hidden : int
        D, J and the width of the two hidden layers.
    seed : int
    gain : float
        The standard deviation of a weight is gain/√(number of inputs).
    """

    def __init__(
        self,
        bug: str = "",
        data_dim: int = 64,
        latent_dim: int = 8,
        hidden: int = 100,
        seed: int = 0,
        gain: float = 1.0,
    ) -> None:
        self.bug, self.latent_dim = bug, latent_dim
        self.rng = np.random.default_rng([seed, 1])
        weights = np.random.default_rng([seed, 2])
        d, j, h = data_dim, latent_dim, hidden
        shapes = {"1": (d, h), "m": (h, j), "s": (h, j), "2": (j, h), "3": (h, d)}
        self.p = {}
        for name, (n, k) in shapes.items():
            self.p["W" + name] = weights.normal(0, gain / np.sqrt(n), (n, k))
            self.p["b" + name] = np.zeros(k)

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    # The pieces

    def heads(self, h: A) -> tuple[A, A, A | float, A | float]:
        """mu and s, and the derivatives of the activations on them."""
        p = self.p
        m, s, dm, ds = h @ p["Wm"] + p["bm"], h @ p["Ws"] + p["bs"], 1.0, 1.0
        head, f = HEADS.get(self.bug, ("", None))
        if head == "m":
            m, dm = f(m)
        if head == "s":
            s, ds = f(s)
        return m, s, dm, ds

    def encode(self, x: A) -> tuple[A, A]:
        return self.heads(np.tanh(x @ self.p["W1"] + self.p["b1"]))[:2]

    def decode(self, z: A) -> A:
        return np.tanh(z @ self.p["W2"] + self.p["b2"]) @ self.p["W3"] + self.p["b3"]

    def noise(self, b: int) -> A:
        draw = NOISE.get(self.bug, lambda rng, b, j: rng.standard_normal((b, j)))
        return draw(self.rng, b, self.latent_dim)

    def sample_z(self, m: A, s: A) -> A:
        return DRAWS.get(self.bug, RIGHT_DRAW)(m, s, self.noise(len(m)))[0]

    def kl(self, m: A, s: A) -> A:
        return KL.get(self.bug, weighted())(m, s)[0].sum(1)

    def reconstruction(self, x: A, l: A) -> A:
        return PIXELS.get(self.bug, cross_entropy)(x, l)[0].sum(1)

    # The loss

    def loss(self, x: A, eps: A | None = None) -> float:
        return self.loss_and_gradient(x, eps)[0]

    def gradient(self, x: A, eps: A | None = None) -> dict[str, A]:
        return self.loss_and_gradient(x, eps)[1]

    def loss_and_gradient(self, x: A, eps: A | None = None) -> tuple[float, dict[str, A]]:
        """Return the loss of a batch (B, D), and its gradient."""
        p, b, slip = self.p, len(x), SLIPS.get(self.bug, {})
        w_rec, w_kl = WEIGHTS.get(self.bug, lambda *_: (1, 1))(b, x.shape[1], self.latent_dim)
        h1 = np.tanh(x @ p["W1"] + p["b1"])
        m, s, head_m, head_s = self.heads(h1)
        eps = self.noise(b) if eps is None else eps
        draw = DRAWS.get(self.bug, RIGHT_DRAW)
        z, z_m, z_s = draw(m, s, eps)
        h2 = np.tanh(z @ p["W2"] + p["b2"])
        l = h2 @ p["W3"] + p["b3"]
        cost, d_l = PIXELS.get(self.bug, cross_entropy)(x, l)
        kl, kl_m, kl_s = KL.get(self.bug, weighted())(m, s)
        if slip.get("sampled"):  # log q(z|x) − log p(z), without ∂log p(z)/∂z
            kl, kl_m, kl_s = 0.5 * (z**2 - s - eps**2), 0.0, -0.5
        value = (w_rec * cost.sum(1) + w_kl * kl.sum(1)).mean()
        factor = {k: b if v == "b" else v for k, v in slip.items()}

        d3 = w_rec * d_l * slip.get("output", lambda _: 1.0)(sigmoid(l)) / b
        W3 = p["W3"] - slip.get("updated", 0.0) * (h2.T @ d3)
        d2 = (d3 @ W3.T) * (1.0 if slip.get("decoder") else 1 - h2**2)
        dz = d2 @ p["W2"].T
        if slip.get("redraw"):
            z_s = draw(m, s, self.noise(b))[2]
        d_m = factor.get("path_m", 1) * dz * z_m + factor.get("kl_m", 1) * w_kl * kl_m / b
        d_s = factor.get("path_s", 1) * dz * z_s + factor.get("kl_s", 1) * w_kl * kl_s / b
        d_m, d_s = d_m * head_m, d_s * head_s
        on_m, on_s = slip.get("branches", (1, 1))
        d1 = on_m * d_m @ p["Wm"].T + on_s * d_s @ p["Ws"].T
        d1 *= 1.0 if slip.get("encoder") else 1 - h1**2
        layers = {"1": (x, d1), "m": (h1, d_m), "s": (h1, d_s), "2": (z, d2), "3": (h2, d3)}
        g = {}
        for name, (a, d) in layers.items():
            g["W" + name], g["b" + name] = a.T @ d, d.sum(0)
        if slip.get("bias"):
            g["b2"] = g["b2"] / b
        return float(value), {k: factor.get("whole", 1) * v for k, v in g.items()}

    # The parameters as one vector

    def get(self) -> A:
        return np.concatenate([a.ravel() for a in self.p.values()])

    def set(self, flat: A) -> None:
        start = 0
        for k, a in self.p.items():
            self.p[k] = flat[start : start + a.size].reshape(a.shape)
            start += a.size
