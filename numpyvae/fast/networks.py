"""A multi-layer perceptron and its way back, compiled: `layers.mlp` on a flat vector.

The flat vector has W₀, b₀, W₁, b₁, … one behind the other, so that the widths alone say where each
is; h has the outputs of all layers one behind the other, R rows each. One compiled function
serves every depth. The slices are contiguous, and `np.dot` hands them to BLAS.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401, the BLAS of np.dot in compiled code

from .compiling import compile_with
from .scalars import exp_negative, log_one_plus, one_minus_exp, tanh

__all__ = ["RELU", "SOFTPLUS", "TANH", "activate", "mlp", "pull_activation", "pull_mlp"]

TANH, RELU, SOFTPLUS = 0, 1, 2


@compile_with("contract")
def activate(y, b, kind):
    """y ← f(y + b), row by row."""
    zero = y.dtype.type(0)
    for r in range(y.shape[0]):
        if kind == TANH:
            for i in range(y.shape[1]):
                y[r, i] = tanh(y[r, i] + b[i])
        elif kind == RELU:
            for i in range(y.shape[1]):
                a = y[r, i] + b[i]
                y[r, i] = zero if a < 0 else a
        else:
            for i in range(y.shape[1]):
                a = y[r, i] + b[i]
                above = zero if a < 0 else a
                y[r, i] = above + log_one_plus(
                    exp_negative(-abs(a))
                )  # max(a, 0) + log(1 + e^−|a|)


@compile_with("contract")
def pull_activation(y, dy, db, kind):
    """dy ← f′ dy, from the output y of f;  db = Σ_r dy_r."""
    zero, one = y.dtype.type(0), y.dtype.type(1)
    db[:] = zero
    for r in range(y.shape[0]):
        if kind == TANH:
            for i in range(y.shape[1]):
                dy[r, i] *= one - y[r, i] * y[r, i]  # 1 − y²
                db[i] += dy[r, i]
        elif kind == RELU:
            for i in range(y.shape[1]):
                dy[r, i] *= one if y[r, i] > 0 else zero  # [y > 0]
                db[i] += dy[r, i]
        else:
            for i in range(y.shape[1]):
                dy[r, i] *= one_minus_exp(y[r, i])  # sigmoid(a) = 1 − e^−y
                db[i] += dy[r, i]


@compile_with()
def mlp(x, flat, widths, kind, h):
    """h_i = f(h_{i−1} W_i + b_i); the last layer is h W alone: who reads it adds b."""
    R, last = x.shape[0], widths.size - 2
    at, p, below = 0, 0, x
    for i in range(last + 1):
        n, m = widths[i], widths[i + 1]
        W, b = flat[p : p + n * m].reshape(n, m), flat[p + n * m : p + n * m + m]
        y = h[at : at + R * m].reshape(R, m)
        np.dot(below, W, y)
        if i < last:
            activate(y, b, kind)
        at, p, below = at + R * m, p + (n + 1) * m, y


@compile_with()
def pull_mlp(x, flat, gradient, widths, kind, h, d, dy, dx, for_weights, for_input):
    """Take dy (R, m) of the last layer back: dW = h_{i−1}ᵀ dy, dh_{i−1} = dy Wᵀ, dx = dy W₀ᵀ.

    The gradient of each b but the last comes with that of f. `d` is scratch, as long as the hidden
    part of h. Without `for_weights`, the gradient is left alone.
    """
    R, last = x.shape[0], widths.size - 2
    at, p = 0, 0  # ends of the layers' parts of h and of the parameters
    for i in range(last + 1):
        p += (widths[i] + 1) * widths[i + 1]
        at += R * widths[i] if i > 0 else 0
    unused = np.empty(widths.max(), flat.dtype)
    for i in range(last, -1, -1):
        n, m = widths[i], widths[i + 1]
        p -= (n + 1) * m
        W = flat[p : p + n * m].reshape(n, m)
        if i > 0:
            at -= R * n
            below = h[at : at + R * n].reshape(R, n)
        else:
            below = x
        if for_weights:
            np.dot(below.T, dy, gradient[p : p + n * m].reshape(n, m))
        if i > 0:
            dh = d[at : at + R * n].reshape(R, n)
            np.dot(dy, W.T, dh)
            pull_activation(below, dh, gradient[p - n : p] if for_weights else unused[:n], kind)
            dy = dh
        elif for_input:
            np.dot(dy, W.T, dx)
