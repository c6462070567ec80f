"""A multi-layer perceptron and its pullback, compiled: `layers.mlp` on a flat vector.

The flat vector contains W₀, b₀, W₁, b₁, … in this order, so that the widths determine where each
of them starts. One compiled function works for every depth. All arrays are contiguous, so that
`np.dot` passes them to BLAS without a copy. The bias of the last layer is added by the function
that reads the outputs, in the pass that it makes over them anyway.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401, the BLAS of np.dot in compiled code

from .compiling import compile_with
from .parts import RELU, TANH
from .scalars import exp_negative, log_one_plus, one_minus_exp, tanh

__all__ = ["activate", "add_bias", "add_rows", "mlp", "pull_activation", "pull_mlp"]


@compile_with()
def add_bias(y, b):
    """y ← y + b, row by row."""
    for r in range(y.shape[0]):
        for i in range(y.shape[1]):
            y[r, i] += b[i]


@compile_with()
def add_rows(dy, db):
    """db = Σ_r dy_r, the gradient of b."""
    db[:] = dy.dtype.type(0)
    for r in range(dy.shape[0]):
        for i in range(dy.shape[1]):
            db[i] += dy[r, i]


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
                y[r, i] = zero if a < 0 else a  # NaN remains NaN
        else:
            for i in range(y.shape[1]):
                a = y[r, i] + b[i]
                t = exp_negative(-abs(a))
                y[r, i] = (zero if a < 0 else a) + log_one_plus(t)  # max(a, 0) + log(1 + e^−|a|)


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
def layer(flat, start, n, m):
    """Return W (n, m) and b (m,), which begin at flat[start]."""
    end = start + n * m
    return flat[start:end].reshape(n, m), flat[end : end + m]


@compile_with()
def mlp(x, flat, widths, kind):
    """h_i = f(h_{i−1} W_i + b_i), and y = h W of the last layer, without its bias.

    Return the outputs of all layers in one vector, and y (R, m), which is the last part of it.
    """
    R, last = x.shape[0], widths.size - 2
    outputs = np.empty(R * widths[1:].sum(), x.dtype)
    h, p, at = x, 0, 0
    for i in range(last + 1):
        n, m = widths[i], widths[i + 1]
        W, b = layer(flat, p, n, m)
        y = outputs[at : at + R * m].reshape(R, m)
        np.dot(h, W, y)
        if i < last:
            activate(y, b, kind)
        h, p, at = y, p + (n + 1) * m, at + R * m
    return outputs, h


@compile_with()
def times_transposed(dy, W):
    """dy Wᵀ (R, n), as (W dyᵀ)ᵀ, which takes BLAS up to a quarter less time if R is small."""
    product = np.empty((W.shape[0], dy.shape[0]), dy.dtype)
    np.dot(W, dy.T, product)
    return np.ascontiguousarray(product.T)


@compile_with()
def pull_mlp(x, flat, gradient, widths, kind, outputs, dy, dx, for_weights):
    """Take dy (R, m) of the last layer back: dW_i = h_{i−1}ᵀ dy, dh_{i−1} = dy W_iᵀ, dx = dy W₀ᵀ.

    The gradient of b is Σ_r dy; that of the last layer is left to the caller, as its b is.
    Without `for_weights`, `gradient` is not written; with an empty dx, dx is not computed.
    """
    R, p, at = x.shape[0], 0, 0
    for i in range(widths.size - 1):
        p += (widths[i] + 1) * widths[i + 1]  # where the parameters of the layer end
        at += R * widths[i] if i > 0 else 0  # where the outputs of the layer below end
    unused = np.empty(widths.max(), flat.dtype)
    for i in range(widths.size - 2, -1, -1):
        n, m = widths[i], widths[i + 1]
        p -= (n + 1) * m
        W, _ = layer(flat, p, n, m)
        h = x
        if i > 0:
            at -= R * n
            h = outputs[at : at + R * n].reshape(R, n)
        if for_weights:
            dW, _ = layer(gradient, p, n, m)
            np.dot(h.T, dy, dW)
        if i > 0:
            dh = times_transposed(dy, W)
            pull_activation(h, dh, gradient[p - n : p] if for_weights else unused[:n], kind)
            dy = dh
        elif dx.size > 0:
            dx[:] = times_transposed(dy, W)
