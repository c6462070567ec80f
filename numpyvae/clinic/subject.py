"""What a user hands over to be examined: functions over arrays, and what is declared of them.

A `Subject` holds the functions as they are; `calls.Calls` calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .declared import check_declared

__all__ = ["SCALES", "Subject", "SubjectError", "log_variance"]

SCALES = {  # the meanings of the second output of `encode`, and their symbols
    "logvar": "log σ²",
    "log_sigma": "log σ",
    "sigma": "σ",
    "variance": "σ²",
    "softplus": "softplus⁻¹ σ",
}
FUNCTIONS = (
    *("loss", "loss_sampled", "encode", "decode", "kl", "reconstruction", "sample_z", "gradient"),
    *("log_p", "generate", "evaluate", "reconstruct", "train", "eval", "seed"),
)
OUTPUTS = (
    "logits",
    "probabilities",
    "mean",
    "mean_logvar",
    "mean_sigma",
    "mean_variance",
    "mean_log_sigma",
)


class SubjectError(Exception):
    """A function of the subject raised an exception, or returned what it should not.

    Examples
    --------
    >>> str(SubjectError("encode: expected (mu, second), got ndarray"))
    'encode: expected (mu, second), got ndarray'
    """


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A VAE to be examined. Every field is optional, but one of loss, encode, decode and kl.

    Arrays are NumPy arrays of `dtype`. B is the number of rows, J the number of latents. What is
    not given is not examined.

    Parameters
    ----------
    loss : callable, optional
        ``loss(x)``, ``loss(x, eps)`` or ``loss(x, seed)``, according to `noise`: a number, or one
        number for each row.
    loss_sampled : callable, optional
        The same bound in the form of Eq. (7), where log q(z|x) − log p(z) at the draw takes the
        place of the KL. Its arguments are those of `loss`.
    encode : callable, optional
        ``encode(x)`` returns (mu, second), each (B, J).
    decode : callable, optional
        ``decode(z)`` returns the output for each row of z (B, J), or a pair (mean, second).
    decode_vjp : callable, optional
        ``decode_vjp(z, dout)`` returns Σ_d dout_d ∂out_d/∂z (B, J); dout has the form of the
        output. Bounds on log p(x) use it (`model_of`).
    kl : callable, optional
        ``kl(mu, second)``, as the loss adds it: a number, (B,) or (B, J).
    reconstruction : callable, optional
        ``reconstruction(x, out)``, as the loss adds it: a number, (B,) or like x.
    sample_z : callable, optional
        ``sample_z(mu, second)`` returns z (B, J).
    gradient : callable, optional
        The arguments of `loss`; returns the gradient, a dict of arrays or one flat array, in the
        order of `parameters`.
    parameters : pair of callables, optional
        ``get()`` returns a flat vector of all parameters, ``set(vector)`` replaces them.
    log_p : callable, optional
        ``log_p(x, n_importance)`` returns an estimate of log p(x) for each row, or its mean.
    generate : callable, optional
        ``generate(z)`` returns the generated data.
    evaluate : callable, optional
        ``evaluate(x)`` returns the figure that is reported for a data set.
    reconstruct : callable, optional
        ``reconstruct(x)`` returns the reconstructed data.
    train, eval : callable, optional
        Switch to training and to evaluation.
    train_fully : callable, optional
        Switch on what `train` leaves off: layers whose output depends on the other rows.
    seed : callable, optional
        ``seed(number)`` seeds the global random state that the functions draw from.
    noise : {"eps", "seed"}, optional
        What `loss`, `loss_sampled` and `gradient` take beside x: ε of shape (B, J), with
        `n_samples` > 1 (L, B, J), with `n_importance` > 1 (K, B, J), or a seed.
    scale : {"logvar", "log_sigma", "sigma", "variance", "softplus"}, optional
        What the second output of `encode` is.
    output : {"logits", "probabilities", "mean", "mean_logvar", "mean_sigma", ...}, optional
        What `decode` returns; the second of a pair may also be "variance" and "log_sigma".
    likelihood : str or callable
        "bernoulli", "binomial:n", "gaussian", "gaussian:σ", or for any other distribution a
        function ``likelihood(x, out)`` that returns log p(x|z), (B,) or (B, D). It takes x (B, D)
        and what `decode` returns, each row of it flat.
    sign : {"loss", "elbo"}, optional
        Whether `loss` is minimized or maximized.
    figure : {"loss", "elbo"}, optional
        What `evaluate` returns: a mean of −ELBO, or of the ELBO.
    reduction : {"mean", "sum"}, optional
        How `loss` goes over the rows of a batch.
    constants : bool, optional
        Whether constants of the log densities are kept.
    beta : float
        The weight of the KL term.
    sigma : float, optional
        The standard deviation of a Gaussian decoder.
    n_samples : int
        L, the number of draws for each row, over which the loss is averaged.
    n_importance : int
        K, if the loss is the importance-weighted bound −L_K.
    free_bits : float
        The floor of the KL term for each latent, in nats.
    data_dim, latent_dim, batch_size : int, optional
        D, J, and the size of the training batches.
    x : (N, ...) array, optional
        Rows of data. Without it they are drawn at random.
    dtype : str
        The type of the arrays that go in.
    name : str
        Shown in the report.
    guesses : tuple of str
        What an adapter found out; the first lines of the report.

    Examples
    --------
    >>> Subject(kl=lambda mu, logvar: 0.5 * (mu**2 + np.exp(logvar) - logvar - 1).sum(-1)).given
    ('kl',)
    """

    loss: Callable | None = None
    loss_sampled: Callable | None = None
    encode: Callable | None = None
    decode: Callable | None = None
    decode_vjp: Callable | None = None
    kl: Callable | None = None
    reconstruction: Callable | None = None
    sample_z: Callable | None = None
    gradient: Callable | None = None
    parameters: tuple[Callable, Callable] | None = None
    log_p: Callable | None = None
    generate: Callable | None = None
    evaluate: Callable | None = None
    reconstruct: Callable | None = None
    train: Callable | None = None
    eval: Callable | None = None
    train_fully: Callable | None = None
    seed: Callable | None = None
    noise: str | None = None
    scale: str | None = None
    output: str | None = None
    likelihood: str | Callable = "bernoulli"
    sign: str | None = None
    figure: str | None = None
    reduction: str | None = None
    constants: bool | None = None
    beta: float = 1.0
    sigma: float | None = None
    n_samples: int = 1
    n_importance: int = 1
    free_bits: float = 0.0
    data_dim: int | None = None
    latent_dim: int | None = None
    batch_size: int | None = None
    x: Any = None
    dtype: str = "float64"
    name: str = "subject"
    guesses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choices = {
            "noise": ("eps", "seed"),
            "scale": tuple(SCALES),
            "output": OUTPUTS,
            "sign": ("loss", "elbo"),
            "figure": ("loss", "elbo"),
            "reduction": ("mean", "sum"),
        }
        check_declared(self, FUNCTIONS, choices)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the functions that are given."""
        return tuple(name for name in FUNCTIONS if getattr(self, name) is not None)

    @property
    def family(self) -> str:
        """The likelihood without its parameter; "custom" for a function."""
        return "custom" if callable(self.likelihood) else str(self.likelihood).partition(":")[0]

    @property
    def trials(self) -> int:
        """n of a binomial likelihood, 1 for the Bernoulli."""
        return int(str(self.likelihood).partition(":")[2] or 1) if self.family == "binomial" else 1

    @property
    def declared_sigma(self) -> float | None:
        """σ of a Gaussian decoder, from `sigma` or from the likelihood; None if not declared."""
        text = "" if self.family != "gaussian" else str(self.likelihood).partition(":")[2]
        return float(text) if text else self.sigma


def log_variance(second: np.ndarray, scale: str) -> np.ndarray:
    """Return log σ² from the second output of an encoder.

    Parameters
    ----------
    second : (B, J) array
    scale : str
        One of `SCALES`.

    Returns
    -------
    logvar : (B, J) array

    Examples
    --------
    >>> log_variance(np.array([1.0, 2.0]), "log_sigma")
    array([2., 4.])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if scale == "logvar":
            return second
        if scale == "log_sigma":
            return 2 * second
        if scale == "softplus":
            second = np.logaddexp(0, second)
        # a negative σ is the σ of −ε, which has the same distribution
        return (1 if scale == "variance" else 2) * np.log(np.abs(second))
