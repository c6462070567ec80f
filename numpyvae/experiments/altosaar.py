"""The tutorial of Jaan Altosaar, with its PyTorch code: a mean-field VAE on the binarized MNIST.

Settings of the code: J = 128, two hidden layers of 256, ReLU, centered RMSProp with 1e-3,
minibatches of 128, the fixed binarization. Every 5000 steps it measures the ELBO of the validation
set, and stops after five measurements without a better one; the published figures are those of the
best one, after 35000 steps. Both are estimated with 128 draws.

The KL of the training `mean-field` has its closed form, and its weights start as Glorot's. From
there to the code are two steps. The KL of `sampled-kl` is drawn: the objective L_K with K = 1 is
log p(x, z) − log q(z|x). The weights and biases of `as-in-the-code` start as PyTorch's, too.

What differs in all: the validation set is measured after each pass (391 steps), and the standard
deviation of q is exp(½ log σ²) where the code has a softplus.
"""

from __future__ import annotations

from typing import Any

from ..core.elbo import Estimator
from ..core.optimizers import RMSProp
from ..estimators.sampled import IWAE
from .declaring import Claim, Experiment, Plan, Published, Training
from .found import Found, Trained
from .measuring import elbo, log_likelihood, units

__all__ = ["ALTOSAAR"]

_RMSPROP = RMSProp(1e-3, rho=0.99, centered=True)


def _measure(trained: Trained) -> dict[str, Any]:
    return {
        "ELBO": elbo(trained),
        "log p(x)": log_likelihood(trained),
        "active units": units(trained),
    }


def _claims(found: list[Found]) -> list[Claim]:
    return [
        Claim(
            f"{f.training.name}, seed {f.seed}: the estimate of log p(x) is above the ELBO",
            f.figures["log p(x)"][0] > f.figures["ELBO"][0],
        )
        for f in found
    ]


def _draw(found: list[Found]) -> Any:
    from .. import plotting

    f = found[0]
    return plotting.plot_history(f.history)


def _training(name: str, estimator: Estimator, init: str = "glorot") -> Training:
    return Training(
        name,
        "mnist-fixed",
        latent_dim=128,
        hidden=(256, 256),
        activation="relu",
        init=init,
        epochs=166,  # 65000 steps
        patience=64,  # 25000 steps
        batch_size=128,
        estimator=estimator,
        optimizer=_RMSPROP,
    )


ALTOSAAR = Experiment(
    "altosaar",
    "A mean-field VAE reaches an ELBO of -103.31 and a log p(x) of -97.10 nats on MNIST.",
    "J. Altosaar, variational-autoencoder (GitHub), train_variational_autoencoder_pytorch.py",
    Plan(
        [
            _training("mean-field", Estimator()),
            _training("sampled-kl", IWAE(1)),
            _training("as-in-the-code", IWAE(1), init="pytorch"),
        ],
        effort={"n_importance": 128, "n_samples": 128},
        duration="20 minutes for each training and seed, with --accelerator numba",
        seeds=(0, 1),
    ),
    Plan(
        [
            Training(
                "mean-field",
                "digits",
                latent_dim=16,
                hidden=(64, 64),
                activation="relu",
                epochs=40,
                patience=10,
                batch_size=128,
                optimizer=_RMSPROP,
            )
        ],
        effort={"n_importance": 128, "n_samples": 32},
        duration="half a minute",
    ),
    _measure,
    _claims,
    _draw,
    [
        Published(name, quantity, value, 0.5)
        for name in ("mean-field", "sampled-kl", "as-in-the-code")
        for quantity, value in (("ELBO", -103.31), ("log p(x)", -97.10))
    ],
)
