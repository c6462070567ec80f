"""A `Subject` of functions written in JAX, for whatever library their parameters come from.

The functions are pure: the adapter keeps parameters of its own, and those of the user stay as they
are. The gradient is that of `jax.grad`, the noise that of a key made from each seed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..support.checks import check_dtype, shown
from ..support.fit_checks import check_functions
from .adapters import Seeds, as_numpy, named_blocks
from .foreign_calls import first_line
from .jax_arguments import DATA, named_order, orders
from .jax_programs import is_compilable
from .subject import Subject

__all__ = ["from_jax"]

_ROWS = 2  # of the arrays with which functions are tried


def from_jax(
    loss: Callable | None = None,
    params: Any = None,
    *,
    encode: Callable | None = None,
    decode: Callable | None = None,
    kl: Callable | None = None,
    reconstruction: Callable | None = None,
    sample_z: Callable | None = None,
    log_p: Callable | None = None,
    generate: Callable | None = None,
    key: Callable | None = None,
    dtype: str | None = None,
    **declared: Any,
) -> Subject:
    """Make a subject of JAX functions, as those that Flax, Haiku and Equinox give.

    Each function takes the arrays that it has in a `Subject`, and beside them, if it needs them,
    the parameters and a key, in any order. What is what is found by the names of the arguments
    (`params`, `key`, `rng`, `x`, …), else by trial. A loss that takes `eps` in place of a key gets
    ε. Functions of one datapoint need `jax.vmap` first.

    Parameters
    ----------
    loss : callable, optional
        ``loss(params, x, key)``: a number, or one for each row; of a tuple, its first entry.
    params : pytree, optional
        The parameters. Leaves that are not arrays of floating-point numbers stay as they are.
    encode, decode, kl, reconstruction, sample_z, log_p, generate : callable, optional
        As for `Subject`, such as ``encode(params, x)``, ``decode(params, z)`` and
        ``sample_z(key, mu, second)``.
    key : callable, optional
        Makes a key of a seed: `jax.random.key` or `jax.random.PRNGKey`. By default the first of
        them with which the functions work.
    dtype : {"float64", "float32"}, optional
        By default the functions are computed in float64 even where JAX is not set to it, since
        this shows much smaller errors, and in float32 if they work in that alone. "float32" shows
        what rounding errors do, too.
    **declared : Any
        The other fields of `Subject`, such as `x`, `scale` and `likelihood`.

    Returns
    -------
    subject : Subject

    Raises
    ------
    ImportError
        If JAX is not installed.
    TypeError
        If a function works with no order of its arguments.
    ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> encode = lambda params, x: (x @ params["W"], jnp.zeros((len(x), 2)))
    >>> subject = from_jax(encode=encode, params={"W": jnp.ones((6, 2))}, data_dim=6)
    >>> subject.encode(np.ones((1, 6)))[0]
    array([[6., 6.]])
    """
    functions = {
        **{"loss": loss, "encode": encode, "decode": decode, "kl": kl, "sample_z": sample_z},
        **{"reconstruction": reconstruction, "log_p": log_p, "generate": generate},
    }
    check_functions(key=key, **functions)
    given = {n: f for n, f in functions.items() if f is not None}
    model = _Model(params, key, dtype or "float64")
    try:
        calls = model.bind(given, declared)
    except TypeError:
        if dtype:
            raise
        model = _Model(params, key, "float32")
        calls = model.bind(given, declared)
    fields: dict[str, Any] = {name: call.plain for name, call in calls.items()}
    fields |= {"seed": model.seeds.set, "dtype": model.dtype_of(calls)}
    if "loss" in calls:
        fields |= _fields_of_loss(model, calls["loss"])
    if "decode" in calls:
        fields["decode_vjp"] = calls["decode"].vjp
    if model.size:
        fields["parameters"] = model.get, model.set
    return Subject(**{**fields, **declared})


def _fields_of_loss(model: _Model, loss: _Call) -> dict[str, Any]:
    """The loss with its noise as an argument, and its gradient."""
    fields: dict[str, Any] = {"loss": loss.plain}
    if "key" in loss.order:
        fields |= {"noise": "seed", "loss": loss.seeded}
    elif "eps" in loss.order:
        fields["noise"] = "eps"
    if "params" in loss.order and model.size:
        fields["gradient"] = loss.gradient
    return fields


def _jax() -> Any:
    """Import JAX, which only users of it need."""
    try:
        import jax
    except ImportError as error:
        raise ImportError(
            'from_jax: expected JAX, which is not installed; pip install "numpyvae[jax]"'
        ) from error
    return jax


class _Model:
    """The parameters, the keys and the dtype that the functions are called with."""

    def __init__(self, params: Any, key: Callable | None, dtype: str) -> None:
        self.jax = jax = _jax()
        self.dtype = check_dtype(dtype)
        self.makers = [key] if key else [jax.random.key, jax.random.PRNGKey]
        self.seeds = Seeds()
        paths, self.tree = jax.tree_util.tree_flatten_with_path(params)
        self.leaves = [leaf for _, leaf in paths]
        self.free = [i for i, leaf in enumerate(self.leaves) if self._is_free(leaf)]
        self.names = [jax.tree_util.keystr(paths[i][0]) or "params" for i in self.free]
        with self.precision():
            self.values = [self._array(self.leaves[i]) for i in self.free]
        self.size = sum(value.size for value in self.values)

    def _is_free(self, leaf: Any) -> bool:
        dtype = getattr(leaf, "dtype", None)
        return dtype is not None and self.jax.numpy.issubdtype(dtype, np.floating)

    def _array(self, leaf: Any) -> Any:
        if str(leaf.dtype) not in ("float32", "float64"):
            raise ValueError(
                f"params: expected float32 or float64, got {leaf.dtype}; convert them first"
            )
        return self.jax.numpy.asarray(leaf, self.dtype)

    def precision(self) -> AbstractContextManager:
        """Set JAX to the dtype for the time of a call."""
        place = self.jax if hasattr(self.jax, "enable_x64") else self.jax.experimental
        return place.enable_x64(self.dtype == "float64")

    def params(self, values: list[Any]) -> Any:
        """Return the pytree with these arrays in it."""
        leaves = list(self.leaves)
        for i, value in zip(self.free, values):
            leaves[i] = value
        return self.jax.tree_util.tree_unflatten(self.tree, leaves)

    def get(self) -> np.ndarray:
        """Return all parameters as one vector."""
        return np.concatenate([np.ravel(v) for v in self.values])

    def set(self, vector: np.ndarray) -> None:
        """Replace the parameters."""
        ends = np.cumsum([v.size for v in self.values])[:-1]
        with self.precision():
            self.values = [
                self.jax.numpy.asarray(part.reshape(v.shape), self.dtype)
                for part, v in zip(np.split(np.asarray(vector), ends), self.values)
            ]

    def bind(self, functions: dict[str, Callable], declared: dict[str, Any]) -> dict[str, _Call]:
        """Return all functions as calls; those of `encode` and `decode` show the others shapes."""
        first = ["encode", "decode", *(n for n in functions if n not in ("encode", "decode"))]
        arrays, calls = self._examples(declared), {}
        for name in (n for n in first if n in functions):
            call = calls[name] = _bound(self, name, functions[name], arrays)
            if name == "encode" and isinstance(call.result, (tuple, list)):
                mu = call.result[0]
                arrays |= dict.fromkeys(("mu", "second", "z", "eps"), np.zeros(mu.shape, mu.dtype))
            elif name == "decode":
                arrays["out"] = self.jax.tree_util.tree_map(
                    lambda a: np.full(a.shape, 0.5, a.dtype), call.result
                )
        return calls

    def _examples(self, declared: dict[str, Any]) -> dict[str, Any]:
        """Arrays with the shapes of x and of the latents, as far as they are known."""
        arrays: dict[str, Any] = {"n_importance": 2}
        shape = np.shape(declared["x"])[1:] if declared.get("x") is not None else None
        if shape is None and declared.get("data_dim"):
            shape = (declared["data_dim"],)
        if shape is not None:
            arrays["x"] = np.zeros((_ROWS, *shape), self.dtype)
        if declared.get("latent_dim"):
            latents = np.zeros((_ROWS, declared["latent_dim"]), self.dtype)
            arrays |= dict.fromkeys(("mu", "second", "z", "eps"), latents)
        return arrays

    def dtype_of(self, calls: dict[str, _Call]) -> str:
        """Return float32 if one of the functions computes in it, whatever it is given."""
        for name in ("loss", "encode", "decode"):
            if name in calls:
                result = self.jax.tree_util.tree_leaves(calls[name].result)
                if any(str(r.dtype) == "float32" for r in result):
                    return "float32"
        return self.dtype


def _bound(model: _Model, name: str, function: Callable, arrays: dict[str, Any]) -> _Call:
    """Return a function with the first order of arguments that works, compiled if that works."""
    failed: Exception | None = None
    told = named_order(name, function)
    for compiled in (True, False):
        for order in orders(name, function):
            known = all(role in arrays or role in ("params", "key") for role in order)
            if not known and order != told:
                continue
            for maker in model.makers if "key" in order else model.makers[:1]:
                call = _Call(model, function, order, maker, compiled)
                if not known:
                    return call
                try:
                    call.try_with([arrays[r] for r in call.roles], len(DATA[name]))
                except Exception as error:
                    failed = failed or error
                else:
                    return call
    got = first_line(failed) if failed else f"{shown(function)}, and no x, or other arguments"
    raise TypeError(
        f"{name}: expected a function of {', '.join(DATA[name])} and, if it needs them, params "
        f"and key, got {got}"
    )


class _Call:
    """A JAX function on NumPy arrays, with the parameters and a key in their places."""

    def __init__(
        self,
        model: _Model,
        function: Callable,
        order: tuple[str, ...],
        maker: Callable,
        compiled: bool,
    ) -> None:
        self.model, self.function, self.order = model, function, order
        self.maker, self.compiled = maker, compiled
        self.roles = [r for r in order if r not in ("params", "key")]
        self.natural = sorted(self.roles, key=_place)
        self.result: Any = None
        jax = model.jax
        fixed = tuple(2 + i for i, r in enumerate(self.natural) if r == "n_importance")
        self._forward = jax.jit(self.value, static_argnums=fixed) if compiled else self.value
        gradient = jax.grad(lambda *a: jax.numpy.mean(self.value(*a)))
        self._gradient = jax.jit(gradient) if compiled else gradient
        self._backward = jax.jit(self._pulled) if compiled else self._pulled

    def value(self, values: list[Any], key: Any, *arrays: Any) -> Any:
        """Return the result: arrays in their natural order go where the function wants them."""
        given = dict(zip(self.natural, arrays))
        if "params" in self.order:
            given["params"] = self.model.params(values)
        given["key"] = key
        result = self.function(*(given[role] for role in self.order))
        scalar_first = isinstance(result, tuple) and np.ndim(result[0]) == 0
        return result[0] if scalar_first else result

    def _pulled(self, values: list[Any], key: Any, z: Any, dout: Any) -> Any:
        jax = self.model.jax
        out, pull = jax.vjp(lambda z: self.value(values, key, z), z)
        if isinstance(out, (tuple, list)):
            dout = type(out)(dout)
        return pull(dout)[0]

    def try_with(self, arrays: list[Any], count: int) -> None:
        """Call the function once, without computing anything if it is compiled."""
        model = self.model
        with model.precision():
            key = self.maker(0)
            given = dict(zip(self.roles, arrays))
            arguments = [given[r] for r in self.natural]
            if not self.compiled:
                self.result = self._forward(model.values, key, *map(self._on_device, arguments))
                return
            function, arrays = self._traced(arguments)
            self.result = model.jax.eval_shape(function, model.values, key, *arrays)
            if not is_compilable(model.jax, function, model.values, key, *arrays):
                raise ValueError("expected noise that comes from the key")

    def _traced(self, arguments: list[Any]) -> tuple[Callable, list[Any]]:
        """The function of the arrays alone: a number of draws is not one of them."""
        arrays = [a for a in arguments if not isinstance(a, int)]

        def function(values, key, *arrays):
            rest = iter(arrays)
            return self.value(
                values, key, *(a if isinstance(a, int) else next(rest) for a in arguments)
            )

        return function, arrays

    def _on_device(self, array: Any) -> Any:
        if isinstance(array, tuple):
            return tuple(self._on_device(a) for a in array)
        is_array = isinstance(array, np.ndarray)
        return self.model.jax.numpy.asarray(array) if is_array else array

    def _run(self, function: Callable, seed: int | None, *arrays: Any) -> Any:
        model = self.model
        with model.precision():
            key = self.maker(model.seeds.next() if seed is None else seed)
            given = arrays if self.compiled else map(self._on_device, arrays)
            return function(model.values, key, *given)

    def plain(self, *arrays: Any) -> Any:
        """Call the function; the key is that of the next seed."""
        return as_numpy(self._run(self._forward, None, *arrays))

    def seeded(self, x: np.ndarray, seed: int) -> Any:
        """Call the function with the key of a seed."""
        return as_numpy(self._run(self._forward, seed, x))

    def gradient(self, x: np.ndarray, noise: Any = None) -> dict[str, np.ndarray]:
        """Return the gradient of the mean, by blocks; `noise` is a seed or ε."""
        seeded = "key" in self.order
        arrays = (x,) if seeded or noise is None else (x, noise)
        blocks = self._run(self._gradient, noise if seeded else None, *arrays)
        return named_blocks(self.model.names, [np.asarray(b) for b in blocks])

    def vjp(self, z: np.ndarray, dout: Any) -> np.ndarray:
        """Return Σ_d dout_d ∂out_d/∂z for each row."""
        return np.asarray(self._run(self._backward, None, z, dout))


def _place(role: str) -> int:
    """The place of an array among the arguments of a `Subject`."""
    return ("x", "mu", "z", "second", "out", "eps", "n_importance").index(role)
