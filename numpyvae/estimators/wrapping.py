"""What estimators share that change the result of another estimator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from ..core.elbo import Estimator
from ..support.checks import check_kind

__all__ = ["Wrapping"]


@dataclass(frozen=True)
class Wrapping(Estimator):
    """An estimator with another one inside, whose draws and warm-up it has.

    Parameters
    ----------
    estimator : Estimator

    Raises
    ------
    TypeError
        If it is not an estimator.
    """

    estimator: Estimator
    n_samples: int = field(default=1, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inner = check_kind("estimator", self.estimator, Estimator, "use one, as Estimator()")
        object.__setattr__(self, "n_samples", inner.n_samples)

    @property
    def n_importance(self) -> int:
        """K of the estimator."""
        return self.estimator.n_importance

    @property
    def n_draws(self) -> int:
        """The number of draws of the estimator."""
        return self.estimator.n_draws

    def at(self, epochs: float) -> Self:
        now = self.estimator.at(epochs)
        return self if now is self.estimator else replace(self, estimator=now)
