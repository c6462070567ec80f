"""The training step of the same network in each library, as timed by `benchmarks.step`.

    encoder x → tanh layers → (μ, log σ²);  z = μ + σ ε;  decoder z → tanh layers → logits
    objective: the ELBO, Eq. (11), or L_K = E[log (1/K) Σ w_k], all terms sampled
    Adam, learning rate 1e-3, float32

A builder takes the workload and the initial weights and returns `step(x, eps) -> objective`, which
updates its own copy of the weights. The objective of each step is converted to a Python float, so
that asynchronous libraries must finish the step. The code for each library follows the usual
practice of its users for fast code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Workload:
    """A network, a batch and an objective. `K` is None for the ELBO."""

    name: str
    data_dim: int
    hidden: tuple[int, ...]
    latent_dim: int
    batch_size: int
    K: int | None = None

    @property
    def draws(self) -> int:
        return self.K or 1

    def widths(self) -> tuple[list[int], list[int]]:
        J, hidden = self.latent_dim, list(self.hidden)
        return [self.data_dim, *hidden, 2 * J], [J, *hidden[::-1], self.data_dim]


Step = Callable[[np.ndarray, np.ndarray], float]


def numpyvae_step(w: Workload, flat: np.ndarray, compiled: bool = False) -> Step:
    """numpyvae: the training loop of `fit`, including its checks for NaN and its averages."""
    from importlib import import_module

    from numpyvae import VAE, fast
    from numpyvae.core.optimizers import Adam
    from numpyvae.estimators import IWAE, SGVBB
    from numpyvae.support.history import History
    from numpyvae.support.memory import keep_freed_memory

    training = import_module("numpyvae.core.training")
    vae = VAE(w.data_dim, w.latent_dim, w.hidden)
    vae.parameters.flat[:] = flat
    adam = Adam(RATE)
    if compiled:
        adam = fast.CompiledAdam(RATE)
    history = History(optimizer_state=adam.init(vae.parameters.flat))
    rule = SGVBB() if w.K is None else IWAE(w.K)
    if compiled:
        rule = fast.compiled_estimator(rule)
    keep_freed_memory()

    def step(x, eps):
        run = training._Run(vae, x, len(x), adam, None, rule, "both", None, 0)
        run.batches = lambda epoch: [(x, eps)]
        run.snapshot = lambda history: None  # it is taken once an epoch
        return run.epoch(history)["objective"]

    return step


def numba_step(w: Workload, flat: np.ndarray) -> Step:
    """numpyvae with the whole step and Adam compiled by Numba (the extra `fast`)."""
    return numpyvae_step(w, flat, compiled=True)


def floor_step(w: Workload, flat: np.ndarray) -> Step:
    """Only the matrix products of a step, in NumPy, without any other operation."""
    rng = np.random.default_rng(0)
    products = []
    for widths, rows in zip(w.widths(), (w.batch_size, w.batch_size * w.draws)):
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            x, W, y = (
                rng.standard_normal(shape).astype("float32")
                for shape in ((rows, n_in), (n_in, n_out), (rows, n_out))
            )
            dx = None if i == 0 and n_in == w.data_dim else np.empty_like(x)
            products.append((x, W, y, np.empty_like(y), np.empty_like(W), dx))

    def step(x, eps):
        for x, W, _, out, _, _ in products:
            np.matmul(x, W, out=out)
        for x, W, y, _, dW, dx in reversed(products):
            np.matmul(x.T, y, out=dW)
            if dx is not None:
                np.matmul(y, W.T, out=dx)
        return math.nan

    return step


def autograd_step(w: Workload, flat: np.ndarray) -> Step:
    """HIPS autograd: gradients are traced again in each step; Adam updates each array in place."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    encoder, decoder = _split(w, flat)

    def mlp(h, layers):
        for W, b in layers[:-1]:
            h = anp.tanh(anp.dot(h, W) + b)
        W, b = layers[-1]
        return anp.dot(h, W) + b

    def objective(layers, x, eps):
        out = mlp(x, layers[0])
        mu, logvar = out[:, : w.latent_dim], out[:, w.latent_dim :]
        z = mu + anp.exp(0.5 * logvar) * eps
        logits = mlp(anp.reshape(z, (-1, w.latent_dim)), layers[1])
        logits = anp.reshape(logits, (w.draws, *x.shape))
        softplus = anp.maximum(logits, 0) + anp.log1p(anp.exp(-anp.abs(logits)))
        log_px = anp.sum(x * logits - softplus, axis=-1)
        if w.K is None:
            kl = 0.5 * anp.sum(mu**2 + anp.exp(logvar) - 1 - logvar, axis=-1)
            return anp.mean(log_px) - anp.mean(kl)
        log_w = log_px + 0.5 * anp.sum(eps**2 + logvar - z**2, axis=-1)
        top = anp.max(log_w, axis=0)
        return anp.mean(top + anp.log(anp.mean(anp.exp(log_w - top), axis=0)))

    gradient = value_and_grad(objective)
    weights = (encoder, decoder)
    slots = [
        (a, np.zeros_like(a), np.zeros_like(a)) for part in weights for pair in part for a in pair
    ]
    count = 0

    def step(x, eps):
        nonlocal count
        count += 1
        value, grads = gradient(weights, x, eps)
        c1, c2 = 1 - BETA1**count, math.sqrt(1 - BETA2**count)
        flat_grads = (g for part in grads for pair in part for g in pair)
        for (a, m, v), g in zip(slots, flat_grads):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * g * g
            a += RATE / c1 * m / (np.sqrt(v) / c2 + EPS)
        return float(value)

    return step


def torch_step(
    w: Workload, flat: np.ndarray, compiled: bool = False, fused: bool | None = True
) -> Step:
    """PyTorch: linear layers by addmm, numerically stable losses, and Adam fused or by default."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    def tensors(layers):
        return [[torch.tensor(a, requires_grad=True) for a in pair] for pair in layers]

    encoder, decoder = map(tensors, _split(w, flat))

    def mlp(h, layers):
        for W, b in layers[:-1]:
            h = torch.tanh(torch.addmm(b, h, W))
        W, b = layers[-1]
        return torch.addmm(b, h, W)

    def objective(x, eps):
        mu, logvar = mlp(x, encoder).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * eps
        logits = mlp(z.reshape(-1, w.latent_dim), decoder)
        if w.K is None:
            log_px = -binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(dim=1).mean()
            return log_px - kl
        logits = logits.reshape(w.draws, *x.shape)
        targets = x.expand(logits.shape)
        log_px = -binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)
        log_w = log_px + 0.5 * (eps**2 + logvar - z**2).sum(-1)
        return (torch.logsumexp(log_w, 0) - math.log(w.draws)).mean()

    weights = [a for part in (encoder, decoder) for pair in part for a in pair]
    adam = torch.optim.Adam(weights, RATE, (BETA1, BETA2), EPS, fused=fused, maximize=True)
    value_of = torch.compile(objective, dynamic=False) if compiled else objective

    def step(x, eps):
        adam.zero_grad(set_to_none=True)
        value = value_of(torch.from_numpy(x), torch.from_numpy(eps))
        value.backward()
        adam.step()
        return value.item()

    return step


def torch_compiled_step(w: Workload, flat: np.ndarray) -> Step:
    """PyTorch with torch.compile."""
    return torch_step(w, flat, compiled=True)


def torch_default_step(w: Workload, flat: np.ndarray) -> Step:
    """PyTorch with the default optimizer `torch.optim.Adam(parameters)`."""
    return torch_step(w, flat, fused=None)


def jax_step(w: Workload, flat: np.ndarray) -> Step:
    """JAX: jit compiles the whole step; the buffers of weights and moments are donated."""
    import jax
    import jax.numpy as jnp

    def mlp(h, layers):
        for W, b in layers[:-1]:
            h = jnp.tanh(h @ W + b)
        W, b = layers[-1]
        return h @ W + b

    def objective(weights, x, eps):
        encoder, decoder = weights
        mu, logvar = jnp.split(mlp(x, encoder), 2, axis=1)
        z = mu + jnp.exp(0.5 * logvar) * eps
        logits = mlp(z.reshape(-1, w.latent_dim), decoder).reshape(w.draws, *x.shape)
        softplus = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        log_px = (x * logits - softplus).sum(-1)
        if w.K is None:
            kl = 0.5 * (mu**2 + jnp.exp(logvar) - 1 - logvar).sum(-1)
            return log_px.mean() - kl.mean()
        log_w = log_px + 0.5 * (eps**2 + logvar - z**2).sum(-1)
        return (jax.scipy.special.logsumexp(log_w, axis=0) - math.log(w.draws)).mean()

    def update(weights, m, v, count, x, eps):
        value, g = jax.value_and_grad(objective)(weights, x, eps)
        count = count + 1
        c1, c2 = 1 - BETA1**count, jnp.sqrt(1 - BETA2**count)
        tree = jax.tree_util.tree_map
        m = tree(lambda a, b: BETA1 * a + (1 - BETA1) * b, m, g)
        v = tree(lambda a, b: BETA2 * a + (1 - BETA2) * b * b, v, g)
        weights = tree(lambda a, m, v: a + RATE / c1 * m / (jnp.sqrt(v) / c2 + EPS), weights, m, v)
        return weights, m, v, count, value

    jitted = jax.jit(update, donate_argnums=(0, 1, 2, 3))
    weights = jax.tree_util.tree_map(jnp.array, _split(w, flat))
    m, v = (jax.tree_util.tree_map(jnp.zeros_like, weights) for _ in range(2))
    carried = weights, m, v, jnp.zeros((), jnp.float32)

    def step(x, eps):
        nonlocal carried
        *carried, value = jitted(*carried, x, eps)
        return float(value)

    return step


def _split(w: Workload, flat: np.ndarray) -> tuple[list, list]:
    """Return the flat vector as two lists of copies (W, b), in the storage order of numpyvae."""
    parts, start = [], 0
    for widths in w.widths():
        layers = []
        for n_in, n_out in pairwise(widths):
            W = flat[start : start + n_in * n_out].reshape(n_in, n_out).copy()
            start += n_in * n_out
            layers.append((W, flat[start : start + n_out].copy()))
            start += n_out
        parts.append(layers)
    return parts[0], parts[1]


@dataclass(frozen=True)
class Contestant:
    """A library: its name, its builder, the module that it needs, and its label in the tables."""

    name: str
    build: Callable[[Workload, np.ndarray], Step]
    module: str
    label: str


CONTESTANTS = {
    c.name: c
    for c in (
        Contestant("numpyvae", numpyvae_step, "numpyvae", "numpyvae"),
        Contestant("numba", numba_step, "numba", "numpyvae with Numba"),
        Contestant("torch", torch_step, "torch", "PyTorch eager, fused Adam"),
        Contestant(
            "torch-compile", torch_compiled_step, "torch", "PyTorch torch.compile, fused Adam"
        ),
        Contestant("torch-default", torch_default_step, "torch", "PyTorch eager, default Adam"),
        Contestant("jax", jax_step, "jax", "JAX jit, donated buffers"),
        Contestant("autograd", autograd_step, "autograd", "HIPS autograd, NumPy Adam"),
        Contestant("floor", floor_step, "numpy", "matrix products only, NumPy"),
    )
}
