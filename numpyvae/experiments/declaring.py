"""What an experiment declares: its trainings, what is measured, and the published figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.elbo import Estimator
from ..core.optimizers import Adam, Optimizer
from ..core.vae import VAE
from ..support.streams import Purpose, stream
from .data import Data

if TYPE_CHECKING:
    from .found import Found, Trained

__all__ = ["Claim", "Experiment", "Plan", "Published", "Training"]


@dataclass(frozen=True)
class Training:
    """The settings of one training: the model, the data, and the arguments of `fit`.

    Parameters
    ----------
    name : str
        Its name in the table, and that of its folder.
    data : str
        A name of `load_data`.
    latent_dim : int
    hidden : tuple of int
    activation, likelihood : str
    init : "glorot", "pytorch" or float
        All from `latent_dim` are arguments of `VAE`, but for "pytorch": weights and biases from
        U(-1/√n, 1/√n), where n is the number of inputs of the layer.
    epochs, batch_size : int
    estimator : Estimator
    optimizer : Optimizer
    schedule : callable, optional
        These five are arguments of `fit`.
    rows : int, optional
        Only so many training rows, the first ones.
    mean_bias : bool
        Start the biases of the decoder's output at the logits of the mean image.
    keep : tuple of int
        Epochs, beside the last one, whose models are measured.
    curve : int
        The number of test rows whose ELBO is recorded after each epoch.
    patience : int, optional
        The number of epochs without a better ELBO on the validation part after which training
        ends, with the best parameters.
    method : {"fit", "monte-carlo-em"}
        The function that trains: `fit`, or `inference.monte_carlo_em`.

    Examples
    --------
    >>> Training("small", "digits", 2, (20,), 3).stages
    (3,)
    """

    name: str
    data: str
    latent_dim: int
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int = 100
    activation: str = "tanh"
    likelihood: str = "bernoulli"
    init: str | float = "glorot"
    estimator: Estimator = field(default_factory=Estimator)
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Callable[[float], float] | None = None
    rows: int | None = None
    mean_bias: bool = False
    keep: tuple[int, ...] = ()
    curve: int = 0
    patience: int | None = None
    method: str = "fit"

    @property
    def stages(self) -> tuple[int, ...]:
        """The epochs whose models are measured, in their order."""
        return (*self.keep, self.epochs)

    def final(self) -> Training:
        """Return the same training, of which the last model alone is measured."""
        return replace(self, keep=())

    def model(self, data: Data, seed: int) -> VAE:
        """Return the model before its training."""
        widths = data.x_train.shape[1], self.latent_dim, self.hidden
        model = self.activation, self.likelihood
        pytorch = self.init == "pytorch"
        vae = VAE(*widths, *model, seed=seed, init="glorot" if pytorch else self.init)
        if pytorch:
            _draw_as_pytorch(vae, seed)
        if self.mean_bias:
            p = np.clip(data.mean, 0.001, 0.999)
            vae.parameters[f"decoder.b{len(self.hidden)}"][:] = np.log(p / (1 - p))
        return vae

    def describe(self) -> dict[str, Any]:
        """Return, as JSON has them, the settings that are not the defaults.

        Examples
        --------
        >>> Training("small", "digits", 2, (20,), 3).describe()["hidden"]
        [20]
        """
        found = {}
        for f in fields(self.final()):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if (value := getattr(self.final(), f.name)) != default:
                found[f.name] = _words(value)
        return found


def _draw_as_pytorch(vae: VAE, seed: int) -> None:
    """Draw all parameters as PyTorch's `nn.Linear` does: U(-1/√n, 1/√n), n the inputs."""
    rng = stream(seed, Purpose.INIT)
    for layers in (vae.parameters.encoder, vae.parameters.decoder):
        for W, b in layers:
            limit = 1 / np.sqrt(len(W))
            W[:] = rng.uniform(-limit, limit, W.shape)
            b[:] = rng.uniform(-limit, limit, b.shape)


def _words(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        return list(value)
    return getattr(value, "__name__", None) or repr(value)


class Published(NamedTuple):
    """A figure of a paper.

    Attributes
    ----------
    training, quantity : str
        The row of the table, and the name of the figure that `measure` returns.
    value : float
    tolerance : float
        The difference within which it counts as reproduced.

    Examples
    --------
    >>> Published("vae-1", "-L_K", 86.76, 0.5).value
    86.76
    """

    training: str
    quantity: str
    value: float
    tolerance: float


class Claim(NamedTuple):
    """A statement about the figures, and whether they agree with it.

    Attributes
    ----------
    text : str
    holds : bool

    Examples
    --------
    >>> Claim("the bound has risen", True).holds
    True
    """

    text: str
    holds: bool


@dataclass(frozen=True)
class Plan:
    """The trainings of an experiment, and how much work is spent on measuring them.

    Parameters
    ----------
    trainings : sequence of Training
    effort : mapping
        What `Experiment.measure` reads, as `{"n_importance": 5000}`.
    seeds : tuple of int
    duration : str
        What to expect on two cores.

    Examples
    --------
    >>> Plan([Training("small", "digits", 2, (20,), 3)], {}, "a second").seeds
    (0,)
    """

    trainings: Sequence[Training]
    effort: Mapping[str, Any]
    duration: str
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Experiment:
    """A published experiment: a page of settings.

    Parameters
    ----------
    name : str
    claim : str
        What the paper shows, in a sentence.
    source : str
        The paper, and the table or figure in it.
    full, quick : Plan
        As published, and a version of a minute or two that shows the same effect.
    measure : callable
        `measure(trained) -> dict` of figures: numbers, pairs (mean, standard error), or lists.
    claims : callable
        `claims(found) -> list of Claim`, about the `Found` of all trainings and seeds.
    draw : callable
        `draw(found) -> matplotlib figure or axes`.
    published : sequence of Published
        The figures to compare those of the full version with.

    Examples
    --------
    >>> from numpyvae.experiments import EXPERIMENTS
    >>> EXPERIMENTS["altosaar"].plan(quick=True).trainings[0].data
    'digits'
    """

    name: str
    claim: str
    source: str
    full: Plan
    quick: Plan
    measure: Callable[[Trained], dict[str, Any]]
    claims: Callable[[list[Found]], list[Claim]]
    draw: Callable[[list[Found]], Any]
    published: Sequence[Published] = ()

    def plan(self, quick: bool) -> Plan:
        """Return the quick plan or the full one."""
        return self.quick if quick else self.full
