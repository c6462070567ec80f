"""Layers: values against SciPy, pullbacks against the complex step, gradients that add up."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
from scipy import special

from numpyvae.clinic.gradcheck import complex_step, relative_error
from numpyvae.core import layers
from numpyvae.support import registry

ACTIVATIONS = tuple(registry.ACTIVATIONS)
REFERENCE = {
    "tanh": np.tanh,
    "relu": lambda a: np.where(a > 0, a, 0.0),
    "softplus": lambda a: np.logaddexp(0.0, a),
    "sigmoid": special.expit,
    "identity": lambda a: a,
}


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def check_pullback(f, *inputs):
    """`f(*inputs) -> (y, pull)`: each gradient against the complex step of ⟨dy, f⟩.

    Also: gradients have their input's shape, a second pull gives the same, and neither the
    inputs nor dy are written to.
    """
    kept = [a.copy() for a in inputs]
    y, pull = f(*inputs)
    dy = draw(*np.shape(y), seed=5)
    kept_dy, kept_y = dy.copy(), np.copy(y)
    gradients = pull(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(inputs)
    for i, gradient in enumerate(gradients):

        def scalar(value, i=i):
            arguments = [a.astype(complex) for a in inputs]
            arguments[i] = value
            return (dy * f(*arguments)[0]).sum()

        assert np.shape(gradient) == inputs[i].shape
        assert relative_error(gradient, complex_step(scalar, inputs[i])) <= 1e-12
    again = pull(dy)
    again = again if isinstance(again, tuple) else (again,)
    assert all(np.array_equal(a, b) for a, b in zip(gradients, again))
    assert np.array_equal(dy, kept_dy)
    assert np.array_equal(y, kept_y)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, kept))


def collected(f):
    """Turn f(x, *weights), whose pull fills `into`, into one that returns all gradients."""

    def g(x, *weights):
        y, pull = f(x, *weights)

        def pull_all(dy):
            into = [np.full(w.shape, np.nan) for w in weights]
            return (pull(dy, into), *into)

        return y, pull_all

    return g


def check_activation_pullback(name):
    """Kills tanh′ on a sigmoid's output, σ′ on tanh, the wrong side of a relu."""
    check_pullback(registry.ACTIVATIONS[name], draw(5, 3))
    check_pullback(registry.ACTIVATIONS[name], 20 * draw(2, 3, 4))


def check_activation_values(name):
    x = np.concatenate([np.linspace(-40, 40, 401), [-1000.0, -800.0, 800.0, 1000.0]])
    y, pull = registry.ACTIVATIONS[name](x)
    np.testing.assert_allclose(y, REFERENCE[name](x), rtol=1e-14, atol=1e-16)
    assert np.isfinite(pull(np.ones_like(x))).all()


def check_dense_pullback():
    """Kills x for xᵀ, W for Wᵀ, a bias gradient that is averaged."""
    check_pullback(collected(layers.dense), draw(5, 3), draw(3, 4), draw(4))
    check_pullback(collected(layers.dense), draw(1, 1), draw(1, 1), draw(1))


def check_mlp_pullback(name="tanh", widths=(3, 4, 5, 2)):
    """Kills an old dy passed on, an activation after the last layer, layers out of order."""
    shapes = [s for n_in, n_out in pairwise(widths) for s in ((n_in, n_out), (n_out,))]

    def mlp(x, *flat):
        pairs = list(zip(flat[::2], flat[1::2]))
        y, pull = layers.mlp(x, pairs, registry.ACTIVATIONS[name])
        return y, lambda dy, into: pull(dy, list(zip(into[::2], into[1::2])))

    weights = [draw(*s, seed=i) for i, s in enumerate(shapes)]
    check_pullback(collected(mlp), draw(5, widths[0]), *weights)


def check_mlp_values(name="tanh"):
    """Kills an activation on the output layer, which complex steps cannot detect."""
    x, W0, b0, W1, b1 = draw(5, 3), draw(3, 4), draw(4), draw(4, 2), draw(2)
    y, _ = layers.mlp(x, [(W0, b0), (W1, b1)], registry.ACTIVATIONS[name])
    hidden = REFERENCE[name](np.einsum("ri,ij->rj", x, W0) + b0)
    np.testing.assert_allclose(y, np.einsum("ri,ij->rj", hidden, W1) + b1, rtol=1e-13, atol=1e-13)


def check_gradients_are_written():
    """Kills `dW = …` and `dW += …` in place of a write: old values must have no effect."""
    x, W, b, dy = draw(5, 3), draw(3, 2), draw(2), draw(5, 2)
    _, pull = layers.dense(x, W, b)
    into = np.full((3, 2), np.nan), np.full(2, 7.0)
    for _ in range(2):
        pull(dy, into)
    np.testing.assert_allclose(into[0], np.einsum("ri,rj->ij", x, dy), rtol=1e-13)
    np.testing.assert_allclose(into[1], dy.sum(0), rtol=1e-13)


def check_shared_layer():
    """One layer used twice, its gradients added: kills anything stored between the calls."""

    def twice(x, W, b):
        h, pull_first = layers.dense(x, W, b)
        a, pull_a = layers.tanh(h)
        y, pull_second = layers.dense(a, W, b)

        def pull(dy, into):
            first, second = ([np.empty_like(dw) for dw in into] for _ in range(2))
            dx = pull_first(pull_a(pull_second(dy, second)), first)
            for dw, *parts in zip(into, first, second):
                np.add(*parts, out=dw)
            return dx

        return y, pull

    check_pullback(collected(twice), draw(4, 3), draw(3, 3), draw(3))


def check_softplus_digits():
    """Kills log(1 + e^x), which loses the digits below −36 and overflows above 709."""
    for x in (-700.0, -40.0, -20.0, -1e-8, 0.0, 1e-8, 3.0, 40.0, 800.0):
        with localcontext() as context:
            context.prec = 360
            exact = float((1 + Decimal(x).exp()).ln())
        assert abs(layers.softplus(np.array([x]))[0][0] - exact) <= 4e-16 * exact


def check_sigmoid_digits():
    """Kills ½ (1 + tanh ½x), 44 % off at −17 in float32, and y (1 − y) at 17."""
    for dtype in ("float32", "float64"):
        x = np.array([-80.0, -30.0, -17.0, -9.0, -1e-3, 0.0, 1e-3, 9.0, 17.0, 30.0, 80.0], dtype)
        y, pull = layers.sigmoid(x)
        with localcontext() as context:
            context.prec = 120
            t = [Decimal(-float(a)).exp() for a in x]
            exact = [float(1 / (1 + a)) for a in t], [float(a / (1 + a) ** 2) for a in t]
        rtol = 4 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(y, exact[0], rtol=rtol)
        np.testing.assert_allclose(pull(np.ones_like(x)), exact[1], rtol=rtol)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_pullback_against_complex_step(name):
    check_activation_pullback(name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_values_against_scipy_up_to_1000(name):
    check_activation_values(name)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (3, 4, 5, 6, 2)])
def test_mlp_pullback_against_complex_step(name, widths):
    check_mlp_pullback(name, widths)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_mlp_last_layer_has_no_activation(name):
    check_mlp_values(name)


@pytest.mark.parametrize(
    "check",
    [
        check_dense_pullback,
        check_gradients_are_written,
        check_shared_layer,
        check_softplus_digits,
        check_sigmoid_digits,
    ],
)
def test_layer(check):
    check()


def test_softplus_and_relu_slope_at_their_corner():
    zero, one = np.zeros(1), np.ones(1)
    assert layers.softplus(zero)[1](one) == 0.5
    assert layers.relu(zero)[1](one) == 0.0


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (3, 4, 5, 2)])
def test_weight_gradients_are_the_same_without_the_input_gradient(widths):
    shapes = list(pairwise(widths))
    weights = [(draw(*s), draw(s[1])) for s in shapes]
    y, pull = layers.mlp(draw(5, 3), weights, layers.tanh)
    zeros = [[(np.zeros_like(W), np.zeros_like(b)) for W, b in weights] for _ in range(2)]
    assert pull(draw(*y.shape), zeros[0], input_gradient=False) is None
    assert pull(draw(*y.shape), zeros[1]).shape == (5, 3)
    for pair, other in zip(*zeros):
        assert np.array_equal(pair[0], other[0])
        assert np.array_equal(pair[1], other[1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_float32_stays_float32(name):
    x, W, b = (draw(*s).astype("float32") for s in ((5, 3), (3, 2), (2,)))
    y, pull = layers.mlp(x, [(W, b), (W[:2], b)], registry.ACTIVATIONS[name])
    assert y.dtype == pull(np.ones_like(y)).dtype == np.float32
