"""Layers as functions, each with its backward directly under its forward.

Every differentiable piece of this package has one form,

    y, pull = f(x, …)

the value and the *pullback* (vector–Jacobian product), a function that takes dy = ∂ELBO/∂y to
dx = ∂ELBO/∂x. Where f has weights, `pull` also *writes* their gradients into the caller's arrays.
f takes complex x too, so that the complex step, f′(x) ≈ Im f(x + ih)/h, can check the pullback.

An *activation* is such a function, `y, pull = f(x)`, of each element of an array of any shape.
`VAE(activation=f)` takes any.

Symbols: x has D dimensions, z has J; B datapoints, L samples of z for each; R rows, B or L·B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..support.registry import register_activation
from ..support.special import exp_minus_abs, log1p

__all__ = ["dense", "identity", "mlp", "relu", "sigmoid", "softplus", "tanh"]

Pull = Callable[[np.ndarray], np.ndarray]
Weights = Sequence[tuple[np.ndarray, np.ndarray]]


@register_activation(smooth=True, increasing=True)
def tanh(x: np.ndarray) -> tuple[np.ndarray, Pull]:
    """y = tanh x;  y′ = 1 − y², computed from the output.

    >>> y, pull = tanh(np.array([0.0, 1.0]))
    >>> bool(np.allclose(pull(np.ones(2)), 1 / np.cosh([0.0, 1.0]) ** 2))
    True
    """
    y = np.tanh(x)

    def pull(dy):
        dx = y * y
        np.subtract(1, dx, out=dx)
        dx *= dy
        return dx

    return y, pull


@register_activation(smooth=False, increasing=True)
def relu(x: np.ndarray) -> tuple[np.ndarray, Pull]:
    """y = max(x, 0);  y′ = 1 where y > 0, else 0.

    >>> y, pull = relu(np.array([-2.0, 3.0]))
    >>> y, pull(np.ones(2))
    (array([0., 3.]), array([0., 1.]))
    """
    y = np.maximum(x, 0)

    def pull(dy):
        return dy * (y > 0)

    return y, pull


@register_activation(smooth=True, increasing=True)
def softplus(x: np.ndarray) -> tuple[np.ndarray, Pull]:
    """y = log(1 + e^x) = max(x, 0) + log(1 + t), t = e^−|x|;  y′ = sigmoid(x).

    >>> y, pull = softplus(np.array([-1000.0, 0.0, 1000.0]))
    >>> y[[0, 2]], pull(np.ones(3))
    (array([   0., 1000.]), array([0. , 0.5, 1. ]))
    """
    t = exp_minus_abs(x)
    one_t = 1 + t
    y = log1p(t, one_t)
    y += np.maximum(x, 0)

    def pull(dy):
        dx = np.maximum(t, x > 0)
        dx /= one_t
        dx *= dy
        return dx

    return y, pull


@register_activation(smooth=True, increasing=True)
def sigmoid(x: np.ndarray) -> tuple[np.ndarray, Pull]:
    """y = 1/(1 + e^−x) = max(t, [x > 0])/(1 + t), t = e^−|x|;  y′ = t/(1 + t)².

    Nothing overflows or cancels.

    >>> y, pull = sigmoid(np.array([-1000.0, 0.0]))
    >>> y, pull(np.ones(2))
    (array([0. , 0.5]), array([0.  , 0.25]))
    """
    t = exp_minus_abs(x)
    one_t = 1 + t
    y = np.maximum(t, x > 0)
    y /= one_t

    def pull(dy):
        dx = t / one_t
        dx /= one_t
        dx *= dy
        return dx

    return y, pull


@register_activation(smooth=True, increasing=True)
def identity(x: np.ndarray) -> tuple[np.ndarray, Pull]:
    """y = x;  y′ = 1.

    >>> y, pull = identity(np.array([2.0]))
    >>> y, pull(np.ones(1))
    (array([2.]), array([1.]))
    """
    return x, lambda dy: dy


def dense(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Apply y = x W + b to each row.

    Parameters
    ----------
    x : (R, n_in) array
    W : (n_in, n_out) array
    b : (n_out,) array

    Returns
    -------
    y : (R, n_out) array
    pull : callable
        `pull(dy, into=None, input_gradient=True)` writes the weights' gradients into a pair
        `into = (dW, db)` if there is one, and returns dx, or None if that is not wanted.

    Examples
    --------
    >>> x, W, b = np.ones((4, 3)), np.full((3, 2), 0.5), np.zeros(2)
    >>> y, pull = dense(x, W, b)
    >>> dW, db = np.empty((3, 2)), np.empty(2)
    >>> pull(np.ones((4, 2)), (dW, db)).shape, db
    ((4, 3), array([4., 4.]))
    """
    y = x @ W
    y += b

    def pull(dy, into=None, input_gradient=True):
        if into is not None:
            dW, db = into
            np.matmul(x.T, dy, out=dW)  # ∂/∂W_ij = Σ_r x_ri dy_rj
            dy.sum(axis=0, out=db)
        return dy @ W.T if input_gradient else None

    return y, pull


def mlp(x: np.ndarray, weights: Weights, activation: Callable) -> tuple[np.ndarray, Callable]:
    """Apply a multi-layer perceptron: dense and activation in turn, the last layer dense alone.

    h₀ = x,  h_i = f(h_{i−1} W_i + b_i),  y = h_m W + b   (Kingma & Welling 2013, appendix C)

    Parameters
    ----------
    x : (R, n_in) array
    weights : sequence of (W, b)
    activation : callable

    Returns
    -------
    y : (R, n_out) array
    pull : callable
        As that of `dense`, with a sequence of (dW, db) as `into`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = [(rng.normal(size=(3, 5)), np.zeros(5)), (rng.normal(size=(5, 2)), np.zeros(2))]
    >>> y, pull = mlp(np.ones((4, 3)), weights, tanh)
    >>> y.shape, pull(np.ones((4, 2))).shape
    ((4, 2), (4, 3))
    """
    pulls = []
    for W, b in weights[:-1]:
        x, pull_dense = dense(x, W, b)
        x, pull_activation = activation(x)
        pulls.append((pull_dense, pull_activation))
    y, pull_last = dense(x, *weights[-1])

    def pull(dy, into=None, input_gradient=True):
        into = into or [None] * len(weights)
        dy = pull_last(dy, into[-1], input_gradient or len(pulls) > 0)
        for i in reversed(range(len(pulls))):
            pull_dense, pull_activation = pulls[i]
            dy = pull_dense(pull_activation(dy), into[i], input_gradient or i > 0)
        return dy

    return y, pull
