"""The passes over the data of methods that `fit` does not have, with its histories and errors.

`fit` ascends an `Estimator`. Monte-Carlo EM and full variational Bayes move more than the model's
parameters, chains and variances, and put them into the optimizer's state: `History.save` then
writes all that a run needs to go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.optimizers import Optimizer
from ..core.vae import VAE
from ..support.fit_checks import check_factor
from ..support.history import History, NonFiniteError, Snapshot, worst_parameter
from ..support.streams import Purpose, stream

__all__ = ["Ascent", "batch_rows", "run_epochs"]


def batch_rows(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield the numbers of the rows of each minibatch, in the order of `fit`."""
    order = stream(seed, Purpose.SHUFFLE, epoch).permutation(n)
    for start in range(0, n, batch_size):
        yield np.sort(order[start : start + batch_size])


@dataclass
class Ascent:
    """The steps of an optimizer on one vector, with the checks of `fit`.

    Attributes
    ----------
    vae : VAE
    optimizer : Optimizer
    schedule : callable, optional
    history : History
        Its optimizer state moves.
    update : {"both", "phi", "theta"}
        The slice of the parameters at the start of the vector.
    scale : float
        The last factor of the schedule.
    """

    vae: VAE
    optimizer: Optimizer
    schedule: Callable[[float], float] | None
    history: History
    update: str
    scale: float = 1.0

    def step(
        self, flat: np.ndarray, objective: float, g: np.ndarray, epochs: float, step: int
    ) -> float:
        """Add the step for a gradient to `flat`, and return the norm of the gradient.

        Raises
        ------
        NonFiniteError
            If the objective, the gradient or the step is not finite.
        """
        norm = math.sqrt(np.dot(g, g))
        if not math.isfinite(objective + norm):
            raise self.failure("objective and gradient", step, g)
        if self.schedule is not None:
            self.scale = check_factor(self.schedule(epochs))
        failed = self.optimizer.ascend(flat, g, self.history.optimizer_state, self.scale)
        if failed is not None:
            raise self.failure("step", step, failed)
        return norm

    def failure(self, what: str, step: int, vector: np.ndarray) -> NonFiniteError:
        """Return the error, which names the parameter that is not finite, or largest."""
        parameters = self.vae.parameters
        views = parameters.zeros_like()
        part = views.part(self.update)
        # Without a gradient, the parameters themselves are too large; variances may follow μ
        part[:] = vector[: part.size] if vector.any() else parameters.part(self.update)
        epoch = parameters.epochs + 1
        return NonFiniteError(what, epoch, step + 1, worst_parameter(views), self.history)


def run_epochs(
    vae: VAE,
    history: History,
    epochs: int,
    one: Callable[[int], dict[str, float]],
    callbacks: Iterable[Callable[[VAE, History], Any]] = (),
) -> None:
    """Call `one(epoch)`, which returns a row of the history, for each epoch.

    If it raises `NonFiniteError`, the model and the history are set back to the last start of an
    epoch whose first step was finite.
    """
    start = time.perf_counter()
    before = now = Snapshot(vae.parameters, history)
    try:
        with np.errstate(all="ignore"):  # what is not finite is found and named
            for _ in range(epochs):
                before, now = now, Snapshot(vae.parameters, history)
                epoch = vae.parameters.epochs + 1
                row = {"epoch": epoch} | one(epoch)
                history.rows.append(row | {"seconds": time.perf_counter() - start})
                vae.parameters.epochs = epoch
                answers = [callback(vae, history) for callback in callbacks]
                if any(isinstance(a, (bool, np.bool_)) and a for a in answers):
                    history.stopped_early = True
                    break
    except NonFiniteError as error:
        safe = before if error.step == 1 else now
        safe.restore(vae.parameters, history)
        raise
