"""Kingma & Welling 2013, section 5: what Figures 2 to 5 have in common.

Settings of the paper: one hidden layer, 500 units for MNIST and 200 for the Frey faces,
minibatches of 100, L = 1, weights from N(0, 0.01), Adagrad with a step from {0.01, 0.02, 0.1}, and
a prior N(0, I) of the weights. Figure 3 has 100 units and three latents.

The step of Adagrad is, as in the paper, that of {0.01, 0.02, 0.1} with the best objective on the
training rows in the first iterations, for each data set and method. It is 0.01 for Figures 2, 4
and 5 (0.02 for wake-sleep on the faces), and 0.02 for Figure 3 (0.1 for Monte-Carlo EM). Each
model is also measured after a tenth and a hundredth of the samples.

What differs: the digits are those of the fixed binarization, the prior is that of the decoder's
weights alone (Monte-Carlo EM has none), and the mean of p(x|z) of the faces is not limited to
(0, 1).
"""

from __future__ import annotations

from typing import Any

from ..core.elbo import Estimator
from ..core.optimizers import Adagrad
from ..estimators.wake_sleep import WakeSleep
from ..estimators.weight_prior import WithWeightPrior
from .declaring import Claim, Training
from .found import Found, Trained
from .measuring import elbo

__all__ = ["DIGITS", "FREY", "METHODS", "MNIST", "PAPER", "above", "final_bounds", "training"]

PAPER = "Kingma & Welling 2013 (arXiv 1312.6114), Figure {}"
METHODS = {"aevb": Estimator(), "wake-sleep": WakeSleep()}
_SIGMA = 0.1  # the weights start from N(0, 0.01)
_FREY_RATES = {"aevb": 0.01, "wake-sleep": 0.02}


def training(name: str, method: str, rows: int, **settings: Any) -> Training:
    """Return a training by AEVB, wake-sleep or Monte-Carlo EM, with the settings of the paper."""
    rate = _FREY_RATES[method] if settings["data"] == "frey" else 0.01
    given: dict[str, Any] = {"batch_size": 100, "init": _SIGMA, "rows": rows}
    given |= {"optimizer": Adagrad(rate)}
    given |= settings
    if method == "mcem":
        return Training(name, method="monte-carlo-em", **given)
    return Training(name, estimator=WithWeightPrior(METHODS[method], rows), **given)


# The passes of 1e5, 1e6 and 1e7 samples
MNIST = {"hidden": (500,), "epochs": 200, "keep": (2, 20)}
DIGITS = {"hidden": (50,), "epochs": 40, "optimizer": Adagrad(0.1)}
FREY = {"hidden": (200,), "epochs": 5666, "keep": (57, 567), "likelihood": "gaussian:head"}


def final_bounds(trained: Trained) -> dict[str, Any]:
    """Return the mean ELBO of the test rows, and its error."""
    return {"test bound": elbo(trained)}


def above(found: list[Found], quantity: str) -> list[Claim]:
    """Return, for each model and number of samples, whether AEVB is above wake-sleep."""
    values = {(f.training.name, f.seed, f.epoch): f.figures[quantity][0] for f in found}
    return [
        Claim(
            f"{quantity}: {name} is above wake-sleep after {epoch} passes (seed {seed})",
            value > values[name.replace("aevb", "wake-sleep"), seed, epoch],
        )
        for (name, seed, epoch), value in values.items()
        if "aevb" in name
    ]
