"""Early stopping, a callback of `fit`."""

from __future__ import annotations

import math
from typing import Any

from .checks import check_count
from .history import History

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """A callback that ends training when the validation ELBO has stopped rising.

    `fit(x_valid=…, callbacks=[EarlyStopping(10)])` then sets the model to the best parameters. The
    epochs of a warm-up do not count, since its objective still changes.

    Parameters
    ----------
    patience : int
        Number of epochs without a better validation ELBO after which training ends.

    Raises
    ------
    TypeError, ValueError
        If `patience` is not a whole number above 0, or `fit` has no validation set.

    Examples
    --------
    >>> import numpy as np
    >>> from numpyvae import VAE, fit
    >>> x, vae = np.eye(4), VAE(4, 2, (3,))
    >>> history = fit(vae, x, epochs=500, x_valid=1 - x, callbacks=[EarlyStopping(2)])
    >>> history.stopped_early
    True
    """

    def __init__(self, patience: int) -> None:
        self.patience = check_count("patience", patience)

    def __call__(self, vae: Any, history: History) -> bool:
        changing = history.rows[-1].get("warm_up")  # its parameters are of another objective
        if not changing and self.epochs_since_best(history) == 0:
            history.best_parameters = vae.parameters.flat.copy()
        return self.finished(history)

    def finished(self, history: History) -> bool:
        """Tell whether `patience` epochs have passed without a better validation ELBO."""
        return self.epochs_since_best(history) >= self.patience

    def epochs_since_best(self, history: History) -> int:
        """Return the number of epochs after the best one; −1 before there is any."""
        values = [row.get("valid_elbo", -math.inf) for row in history if not row.get("warm_up")]
        return len(values) - 1 - values.index(max(values)) if values else -1
