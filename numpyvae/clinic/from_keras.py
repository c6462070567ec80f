"""A `Subject` of a Keras 3 model, on its JAX or PyTorch backend.

The parts are found in the usual shapes: a model with `encoder` and `decoder`, and its loss in
`compute_loss`, in `train_step`, or added to by `add_loss`. The model is the same afterwards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..support.checks import shown
from ..support.fit_checks import check_functions
from ..support.streams import Purpose, stream
from .adapters import named_blocks
from .keras_calls import Session
from .keras_steps import loss_of_step
from .subject import Subject

__all__ = ["from_keras"]

_ENCODERS, _DECODERS = ("encoder", "encode"), ("decoder", "decode")
_SAMPLERS = ("reparameterize", "reparametrize", "sample", "sample_z")


def from_keras(
    model: Any = None,
    *,
    encoder: Callable | None = None,
    decoder: Callable | None = None,
    loss: Callable | None = None,
    sampling: Callable | None = None,
    kl: Callable | None = None,
    reconstruction: Callable | None = None,
    **declared: Any,
) -> Subject:
    """Make a subject of a Keras 3 model.

    Parameters
    ----------
    model : keras.Model, optional
        Its `encoder` and `decoder` (or `encode` and `decode`) are taken, and its loss: that of its
        own `train_step`, else that of its own `compute_loss`, else what `compile` and `add_loss`
        gave, with x as the target.
    encoder, decoder : keras.Layer or callable, optional
        ``encoder(x)`` returns [mu, second], or [mu, second, z]; ``decoder(z)`` the output.
    loss : callable, optional
        ``loss(x)`` takes and returns tensors, in place of the model's loss.
    sampling : keras.Layer or callable, optional
        ``sampling([mu, second])`` returns z. By default a layer of the encoder that takes its two
        outputs.
    kl, reconstruction : callable, optional
        As for `Subject`, of tensors.
    **declared : Any
        The other fields of `Subject`, such as `x`, `scale` and `likelihood`.

    Returns
    -------
    subject : Subject

    Raises
    ------
    ImportError
        If Keras 3 is not installed.
    TypeError, ValueError
        If an argument is not valid, or the backend is another one.

    Examples
    --------
    >>> import keras
    >>> x = keras.Input((6,))
    >>> encoder = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    >>> subject = from_keras(encoder=encoder, scale="logvar")
    >>> subject.encode(np.ones((3, 6), "float32"))[0].shape, subject.data_dim
    ((3, 2), 6)
    """
    keras = _keras()
    check_functions(encoder=encoder, decoder=decoder, loss=loss, sampling=sampling, kl=kl)
    check_functions(reconstruction=reconstruction)
    encoder = encoder or _member(model, _ENCODERS)
    decoder = decoder or _member(model, _DECODERS)
    roots = [r for r in (model, encoder, decoder, sampling) if isinstance(r, keras.Layer)]
    if not roots:
        raise TypeError(f"model: expected a Keras model, got {shown(model)}")
    session = Session(keras, roots)
    fields = _of_data(encoder, declared)
    _build(session, model, encoder, fields)
    session = Session(keras, roots)
    parts = {"encode": encoder, "decode": decoder, "kl": kl, "reconstruction": reconstruction}
    for name, part in parts.items():
        if part is not None:
            fields[name] = session.function(_still(part))
    if decoder is not None:
        fields["decode_vjp"] = session.pullback(_still(decoder))
    sampler = _sampler(session, model, encoder, sampling, fields)
    if sampler is not None:
        fields["sample_z"] = session.function(sampler)
    fields |= _of_loss(session, model, loss)
    fields |= {"seed": session.seeds.set, "dtype": session.dtype}
    if session.trainable:
        fields["parameters"] = session.get, session.set
    return Subject(**{**fields, **declared})


def _keras() -> Any:
    """Import Keras, which only users of it need."""
    try:
        import keras
    except ImportError as error:
        raise ImportError(
            'from_keras: expected Keras 3, which is not installed; pip install "numpyvae[keras]"'
        ) from error
    if not hasattr(keras, "ops"):
        raise ImportError(f"from_keras: expected Keras 3, got version {keras.__version__}")
    backend = keras.backend.backend()
    if backend not in ("jax", "torch"):
        raise ValueError(
            f'from_keras: expected the backend "jax" or "torch", got "{backend}"; set the '
            "environment variable KERAS_BACKEND before Keras is imported"
        )
    return keras


def _member(model: Any, names: tuple[str, ...]) -> Callable | None:
    """The first member of these names that can be called."""
    return next((f for n in names if callable(f := getattr(model, n, None))), None)


def _still(function: Callable) -> Callable:
    """A layer as a function in inference; any other function as it is."""
    if not hasattr(function, "trainable_variables"):
        return function
    return lambda *tensors: function(*tensors, training=False)


def _of_data(encoder: Any, declared: dict[str, Any]) -> dict[str, Any]:
    """Rows of x in the shape that the encoder takes, unless they are declared."""
    if declared.get("x") is not None or declared.get("data_dim"):
        return {k: declared[k] for k in ("x", "data_dim") if declared.get(k) is not None}
    shape = getattr(encoder, "input_shape", None)
    shape = tuple(shape[1:]) if isinstance(shape, tuple) else ()
    if not shape or not all(isinstance(n, int) for n in shape):
        return {}
    if len(shape) == 1:
        return {"data_dim": shape[0]}
    gaussian = str(declared.get("likelihood", "")).startswith("gaussian")
    rng = stream(0, Purpose.CLINIC, 90)
    size = (24, *shape)
    return {"x": rng.standard_normal(size) if gaussian else rng.integers(0, 2, size).astype(float)}


def _rows(fields: dict[str, Any]) -> np.ndarray | None:
    """Two rows of data, to try the functions on."""
    if "x" in fields:
        return np.asarray(fields["x"], dtype=float)[:2]
    return np.ones((2, fields["data_dim"])) if "data_dim" in fields else None


def _build(session: Session, model: Any, encoder: Any, fields: dict[str, Any]) -> None:
    """Call the model once, so that all its variables exist."""
    x = _rows(fields)
    for part in (model, encoder):
        if x is None or part is None or getattr(part, "built", True):
            continue
        try:
            session.function(_still(part))(x)
        except Exception:  # a model without `call` is built by its parts
            continue


def _sampler(
    session: Session, model: Any, encoder: Any, sampling: Any, fields: dict[str, Any]
) -> Callable | None:
    """The function that draws z from (mu, second): the one given, or one that is known to do so.

    A layer that is found is taken only if it draws, with the same seed, the z of the encoder, or
    if its inputs are the outputs of the encoder: it could be given another function of them.
    """
    x = _rows(fields)
    if x is None or encoder is None:
        return None if sampling is None else _pair(sampling)
    session.seeds.set(1)
    answer = session.function(_still(encoder))(x)
    if not isinstance(answer, tuple) or len(answer) < 2:
        return None
    candidates = [sampling] if sampling is not None else _candidates(session, model)
    for candidate in candidates:
        for call in (_pair(candidate), candidate):
            session.seeds.set(1)
            try:
                z = session.function(call)(*answer[:2])
            except Exception:
                continue
            if not isinstance(z, np.ndarray) or z.shape != answer[0].shape:
                continue
            same = len(answer) > 2 and np.allclose(z, answer[2], rtol=1e-4, atol=1e-5)
            if sampling is not None or same or _fed_by(encoder, candidate):
                return call
    if sampling is not None:
        raise TypeError(
            f"sampling: expected a function of [mu, second] that returns z of shape "
            f"{answer[0].shape}, got {shown(sampling)}"
        )
    return None


def _pair(function: Callable) -> Callable:
    """A function of one list [mu, second] as one of two arguments."""
    return lambda mu, second: function([mu, second])


def _candidates(session: Session, model: Any) -> list[Callable]:
    """The layers and methods that may draw z."""
    own = [layer for layer in session.layers if not type(layer).__module__.startswith("keras.")]
    inner = [layer for layer in own if not hasattr(layer, "layers")]
    return [*inner, *(f for n in _SAMPLERS if callable(f := getattr(model, n, None)))]


def _fed_by(encoder: Any, layer: Any) -> bool:
    """Whether the inputs of a layer are the first two outputs of a functional encoder."""
    inputs, outputs = getattr(layer, "input", None), getattr(encoder, "outputs", None)
    if not isinstance(inputs, (list, tuple)) or not outputs or len(inputs) != 2:
        return False
    return all(a is b for a, b in zip(inputs, outputs))


def _of_loss(session: Session, model: Any, loss: Callable | None) -> dict[str, Any]:
    """The loss, and its gradient if it has one that can be found."""
    keras = session.keras
    base = keras.Model
    if loss is None and isinstance(model, base):
        if type(model).train_step is not base.train_step:
            return loss_of_step(session, model)
        loss = _own_loss(model)
    if loss is None:
        return {}
    fields: dict[str, Any] = {"loss": session.function(loss)}
    if session.trainable and not session.normalized:
        names = [v.path for v in session.trainable]
        fields["gradient"] = lambda x: named_blocks(names, session.gradient(loss, x))
    return fields


def _own_loss(model: Any) -> Callable | None:
    """The loss of `compute_loss`, as `fit` computes it with x as the target, in inference."""
    accepted = inspect.signature(model.compute_loss).parameters

    def loss(x: Any) -> Any:
        try:
            y_pred = model(x, training=False)
        except NotImplementedError:  # a model without `call`
            y_pred = None
        given = {"x": x, "y": x, "y_pred": y_pred, "training": False}
        return model.compute_loss(**{k: v for k, v in given.items() if k in accepted})

    return loss
