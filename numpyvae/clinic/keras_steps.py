"""The loss of a Keras model that computes it in a `train_step` of its own.

A step is made with an optimizer that keeps the gradients and changes nothing. The loss is what the
step reports, from metrics that were reset before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .adapters import named_blocks
from .keras_calls import Session

__all__ = ["loss_of_step"]

_NAMES = ("loss", "total_loss", "elbo", "elbo_loss", "vae_loss")


def loss_of_step(session: Session, model: Any) -> dict[str, Any]:
    """Return the fields `loss` and `gradient` of a subject.

    Parameters
    ----------
    session : Session
    model : keras.Model

    Returns
    -------
    fields : dict of str to callable

    Examples
    --------
    >>> import keras
    >>> class Model(keras.Model):
    ...     def train_step(self, *arguments):
    ...         return {"loss": keras.ops.ones(())}, *arguments[:1]
    >>> model = Model()
    >>> sorted(loss_of_step(Session(keras, [model]), model))
    ['loss']
    """
    session.guarded = session.variables  # a step may write into each of them
    recorder = _recorder(session.keras)
    fields: dict[str, Any] = {"loss": lambda x: _step(session, model, recorder, x)[0]}
    if session.trainable and not session.normalized:
        fields["gradient"] = lambda x: _step(session, model, recorder, x)[1]
    return fields


def _step(
    session: Session, model: Any, recorder: Any, x: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """Make one step; return the loss that it reports, and the gradient."""
    kept = getattr(model, "optimizer", None)
    with session.calling(gradient=True):
        model.optimizer = recorder
        try:
            for metric in session.metrics:
                metric.reset_state()
            logs = _logs(session, model, recorder, session.tensor(x))
        finally:
            model.optimizer = kept
        loss = float(session.numpy(_reported(logs)))
        gradients = {i: session.numpy(g) for i, g in recorder.gradients.items() if g is not None}
    arrays = [gradients.get(id(v), np.zeros(tuple(v.shape))) for v in session.trainable]
    return loss, named_blocks([v.path for v in session.trainable], arrays)


def _logs(session: Session, model: Any, recorder: Any, x: Any) -> dict[str, Any]:
    """Call `train_step` as `fit` does."""
    if session.backend == "torch":
        return model.train_step(x)
    if not recorder.built:
        recorder.build(model.trainable_variables)
    recorder.order = model.trainable_variables
    kinds = (model.trainable_variables, model.non_trainable_variables, recorder.variables)
    state = [[v.value for v in kind] for kind in (*kinds, model.metrics_variables)]
    return model.train_step(tuple(state), x)[0]


def _reported(logs: Any) -> Any:
    """The loss among the figures that a step reports."""
    if not isinstance(logs, dict):
        return logs
    found = [n for n in _NAMES if n in logs] or [n for n in logs if len(logs) == 1]
    if not found:
        raise ValueError(
            f"train_step: expected a figure named {' or '.join(_NAMES[:2])}, got {sorted(logs)}; "
            "give the loss as a function, loss="
        )
    return logs[found[0]]


def _recorder(keras: Any) -> Any:
    """An optimizer that keeps the gradients, and changes nothing."""

    class Recorder(keras.optimizers.SGD):
        def __init__(self) -> None:
            super().__init__(learning_rate=0.0)
            self.gradients: dict[int, Any] = {}
            self.order: list[Any] = []

        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            self.gradients = {id(v): g for v, g in zip(trainable_variables or self.order, grads)}

        def apply_gradients(self, grads_and_vars: Any) -> None:
            grads, variables = zip(*grads_and_vars)
            self.apply(grads, variables)

        def stateless_apply(self, optimizer_variables, grads, trainable_variables):
            self.apply(grads, self.order)
            return trainable_variables, optimizer_variables

    return Recorder()
