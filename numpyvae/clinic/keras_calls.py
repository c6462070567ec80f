"""Calls of Keras models on NumPy arrays: with a seed, and with everything restored afterwards.

During a call dropout is off and batch normalization uses its moving statistics, whatever the code
of the user asks for, so that the loss, the encoder and the decoder are those of one model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from .adapters import Seeds, as_numpy
from .foreign_torch import one_thread
from .jax_programs import is_compilable

__all__ = ["Session"]

_NOISY = {"rate": 0.0, "stddev": 0.0}  # the settings of Dropout and GaussianNoise


class Session:
    """Keras models, and their variables, which stay as they are.

    Parameters
    ----------
    keras : module
    roots : list of keras.Layer
        The model, the encoder and the decoder, as far as they are Keras layers.

    Attributes
    ----------
    trainable : list of keras.Variable
    guarded : list of keras.Variable
        Those that are restored after each call; by default all but the trainable ones.
    normalized : bool
        Whether a layer uses the statistics of a batch in training.
    dtype : str
        Of the computations.

    Examples
    --------
    >>> import keras
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> Session(keras, [layer]).get().size
    8
    """

    def __init__(self, keras: Any, roots: list[Any]) -> None:
        self.keras, self.backend = keras, keras.backend.backend()
        self.seeds = Seeds()
        self.layers = _unique(layer for root in roots for layer in _layers(keras, root))
        self.trainable = _unique(v for layer in roots for v in layer.trainable_variables)
        self.variables = _unique(v for layer in self.layers for v in layer.variables)
        self.metrics = _unique(
            m for m in _attributes(self.layers) if isinstance(m, keras.metrics.Metric)
        )
        self.variables = _unique(
            [*self.variables, *(v for m in self.metrics for v in m.variables)]
        )
        generator = keras.random.SeedGenerator
        self.generators = _unique(a for a in _attributes(self.layers) if isinstance(a, generator))
        states = [g.state for g in self.generators]
        self.variables = _unique([*self.variables, *states])
        self.normalized = any(hasattr(layer, "moving_mean") for layer in self.layers)
        free = {id(v) for v in self.trainable}
        self.guarded = [v for v in self.variables if id(v) not in free]
        self.dtype = _dtype([r for r in self.layers if not hasattr(r, "layers")] or roots)
        self._compiled: dict[Any, Callable] = {}

    # Settings of a call

    @contextmanager
    def calling(self, *, gradient: bool = False) -> Iterator[None]:
        """Set the seed and the mode of a call; restore them, all variables and global states."""
        seed = self.seeds.next()
        with ExitStack() as stack:
            stack.enter_context(_global_states(self.backend))
            stack.enter_context(self._still())
            stack.enter_context(self._unchanged())
            if self.backend == "torch":
                import torch

                stack.enter_context(one_thread(torch))
                stack.enter_context(torch.set_grad_enabled(gradient))
            self._sow(seed)
            yield

    def _sow(self, seed: int) -> None:
        """Seed the global random state, and each generator by its own seed and the given one."""
        keras = self.keras
        keras.utils.set_random_seed(int(seed) % (1 << 31))
        for generator in self.generators:
            own = self._one(generator.state.value).astype(np.int64)
            number = (int(own[0]) * 7919 + int(seed) * 104729 + 1) % (1 << 31)
            generator.state.assign(np.array([number, 0], dtype="uint32"))

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Switch dropout off, and batch normalization to its moving statistics."""
        kept = []
        for layer in self.layers:
            for name, value in _NOISY.items():
                if type(layer).__module__.startswith("keras.") and hasattr(layer, name):
                    kept.append((layer, name, getattr(layer, name)))
                    setattr(layer, name, value)
            if hasattr(layer, "moving_mean"):
                kept.append((layer, "trainable", layer.trainable))
                layer.trainable = False
        try:
            yield
        finally:
            for layer, name, value in reversed(kept):
                setattr(layer, name, value)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Restore all variables that the call changes."""
        jax = self.backend == "jax"  # whose arrays cannot change
        kept = [(v, v.value if jax else v.value.detach().clone()) for v in self.guarded]
        try:
            yield
        finally:
            for variable, value in kept:
                if not jax or variable.value is not value:
                    variable.assign(value)

    # Values and gradients

    def numpy(self, value: Any) -> Any:
        """Return the tensors of a result as NumPy arrays."""
        if isinstance(value, dict):
            value = list(value.values())
        return as_numpy(value, self._one)

    def _one(self, tensor: Any) -> np.ndarray:
        if hasattr(tensor, "detach"):
            return tensor.detach().cpu().numpy()
        return np.asarray(self.keras.ops.convert_to_numpy(tensor))

    def tensor(self, array: Any) -> Any:
        """Return an array as a tensor, a tuple of arrays as a tuple of tensors."""
        if isinstance(array, tuple):
            return tuple(self.tensor(a) for a in array)
        return self.keras.ops.convert_to_tensor(array, self.dtype)

    def function(self, function: Callable) -> Callable:
        """Return a function of tensors as one of NumPy arrays."""

        def on_arrays(*arrays: Any) -> Any:
            with self.calling():
                return self.numpy(self.run(function, *map(self.tensor, arrays)))

        return on_arrays

    def run(self, function: Callable, *tensors: Any) -> Any:
        """Call a function, compiled on the JAX backend where this works."""
        if self.backend != "jax":
            return function(*tensors)
        values = [v.value for v in self.variables]
        compiled = self._compile(function, values, tensors)
        return compiled(values, *tensors) if compiled else function(*tensors)

    def _compile(self, function: Callable, values: list[Any], tensors: Any) -> Any:
        """Compile a function once; False where its noise would become a constant."""
        if function not in self._compiled:
            self._compiled[function] = self._compile_first(function, values, tensors)
        return self._compiled[function]

    def _compile_first(self, function: Callable, values: list[Any], tensors: Any) -> Any:
        import jax

        def pure(values, *tensors):
            return self._pure(function, values, *tensors)

        try:
            return jax.jit(pure) if is_compilable(jax, pure, values, *tensors) else False
        except Exception:  # the function itself tells what is wrong when it is called as it is
            return False

    def _pure(self, function: Callable, values: list[Any], *tensors: Any) -> Any:
        """The function with these values of all variables, none of which changes."""
        mapping = list(zip(self.variables, values))
        with self.keras.StatelessScope(state_mapping=mapping, collect_losses=True):
            return function(*tensors)

    def gradient(self, loss: Callable, x: np.ndarray) -> list[np.ndarray]:
        """Return the gradient of a loss in the trainable variables, by automatic derivatives."""
        with self.calling(gradient=True):
            tensor = self.tensor(x)
            found = self._by_torch(loss, tensor) if self.backend == "torch" else None
            return found if found is not None else self._by_jax(loss, tensor)

    def _by_torch(self, loss: Callable, x: Any) -> list[np.ndarray]:
        import torch

        leaves = [v.value for v in self.trainable]
        found = torch.autograd.grad(loss(x).mean(), leaves, allow_unused=True)
        return [
            np.zeros(tuple(v.shape)) if g is None else self.numpy(g)
            for v, g in zip(self.trainable, found)
        ]

    def _by_jax(self, loss: Callable, x: Any) -> list[np.ndarray]:
        import jax

        numbers = {id(v): i for i, v in enumerate(self.variables)}
        places = [numbers[id(v)] for v in self.trainable]
        values = [v.value for v in self.variables]

        def value(free: list[Any], values: list[Any], x: Any) -> Any:
            whole = list(values)
            for place, one in zip(places, free):
                whole[place] = one
            return jax.numpy.mean(self._pure(loss, whole, x))

        key = "gradient", loss
        if key not in self._compiled:
            compiled = self._compile(loss, values, (x,))
            self._compiled[key] = jax.jit(jax.grad(value)) if compiled else jax.grad(value)
        return self.numpy(self._compiled[key]([values[p] for p in places], values, x))

    def pullback(self, function: Callable) -> Callable:
        """Return (z, dout) → dz of a function of tensors."""

        def vjp(z: np.ndarray, dout: Any) -> np.ndarray:
            with self.calling(gradient=True):
                at, cotangent = self.tensor(z), self.tensor(dout)
                if self.backend == "torch":
                    import torch

                    leaf = at.detach().clone().requires_grad_(True)
                    out = function(leaf)
                    out = list(out) if isinstance(out, (tuple, list)) else [out]
                    given = list(cotangent) if isinstance(cotangent, tuple) else [cotangent]
                    return self.numpy(torch.autograd.grad(out, leaf, given)[0])
                import jax

                out, pull = jax.vjp(function, at)
                same = type(out)(cotangent) if isinstance(out, (tuple, list)) else cotangent
                return self.numpy(pull(same)[0])

        return vjp

    # Parameters

    def get(self) -> np.ndarray:
        """Return all trainable variables as one vector."""
        return np.concatenate([self.numpy(v.value).ravel() for v in self.trainable])

    def set(self, vector: np.ndarray) -> None:
        """Replace all trainable variables."""
        ends = np.cumsum([int(np.prod(v.shape)) for v in self.trainable])[:-1]
        for variable, part in zip(self.trainable, np.split(np.asarray(vector), ends)):
            variable.assign(part.reshape(tuple(variable.shape)))


def _unique(things: Any) -> list[Any]:
    """Each object once, in the order in which it came."""
    return list({id(thing): thing for thing in things}.values())


def _layers(keras: Any, root: Any) -> Iterator[Any]:
    """Yield a layer and all layers in it."""
    yield root
    inner = [*getattr(root, "layers", ()), *_attributes([root])]
    for layer in inner:
        if isinstance(layer, keras.Layer) and layer is not root:
            yield from _layers(keras, layer)


def _attributes(layers: list[Any]) -> Iterator[Any]:
    """Yield what the attributes of layers are, also inside lists and dicts."""
    for layer in layers:
        for name, value in vars(layer).items():
            if name.startswith("_"):
                continue
            items = value.values() if isinstance(value, dict) else value
            yield from items if isinstance(items, (list, tuple)) else [value]


def _dtype(layers: list[Any]) -> str:
    """The dtype of the computations of all layers."""
    found = sorted({layer.compute_dtype for layer in layers})
    if len(found) != 1 or found[0] not in ("float32", "float64"):
        raise ValueError(
            f"model: expected layers that all compute in float32 or all in float64, got "
            f"{' and '.join(found)}; set their dtype policy"
        )
    return found[0]


@contextmanager
def _global_states(backend: str) -> Iterator[None]:
    """Restore the global random states of Python, NumPy and PyTorch."""
    own, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    tensors = None
    if backend == "torch":
        import torch

        tensors = torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)  # noqa: NPY002
        if tensors is not None:
            torch.set_rng_state(tensors)
