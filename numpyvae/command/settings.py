"""The options of `numpyvae train`, each declared once.

A field of `Settings` is an option: its default, and in its metadata the check, the help and what
the value is called. The parser, the settings in `summary.json` and the table in the README are
made from these fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..core.elbo import Estimator
from ..core.optimizers import OPTIMIZERS
from ..estimators import ESTIMATORS, SGVBB, DataParallel, WithWeightPrior, make_estimator
from ..support.preparation import SCALES
from ..support.registry import ACTIVATIONS
from .preparation import check_source
from .usage import (
    Check,
    UsageError,
    check_likelihood,
    choice,
    fraction,
    positive,
    shards,
    suggest,
    weight,
    whole,
)

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "Settings",
    "chosen_estimator",
    "default_text",
    "flag",
    "make_settings",
    "options_table",
    "read_settings",
    "with_prior",
]


def _text(name: str, text: str) -> str:
    return text


def _option(
    default: Any,
    help: str,
    check: Check = _text,
    *,
    value: str = "",
    choices: Iterable[str] = (),
    unset: str = "",
    many: bool = False,
    setting: str = "",
    bare: Any = None,
) -> Any:
    """Declare an option.

    Parameters
    ----------
    default : Any
        None where the default depends on something else; `unset` then says what it is.
    help : str
        A full phrase.
    check : callable
        `check(name, text)` returns the value, or raises ValueError or TypeError.
    value : str
        The name of the value in the help.
    choices : iterable of str
        The possible values, in place of `check` and `value`.
    unset : str
        What None means.
    many : bool
        Whether the option takes several values.
    setting : str
        The name of the estimator's setting that the option sets.
    bare : Any
        What the option alone stands for, if its value may be left out.
    """
    if choices:
        check, value = choice(choices), f"{{{','.join(choices)}}}"
    metadata = {
        "help": help,
        "check": check,
        "value": value,
        "unset": unset,
        "many": many,
        "setting": setting,
        "bare": bare,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What `train` needs to know; the defaults are those of the job on the embedded digits.

    The field `eval_importance` is the option `--eval-importance`, and so on.

    Examples
    --------
    >>> Settings(latent_dim=2).epochs
    100
    """

    dataset: str = _option(
        "digits",
        "data set: digits, wine, mnist, fashion, or the path of a .npy, .npz, .csv or IDX file or "
        "of a folder with PNG images",
        check_source,
        value="NAME",
    )
    folder: str | None = _option(
        None,
        "folder with the IDX files of mnist or fashion",
        value="DIR",
        unset="the variable NUMPYVAE_DATA, then the cache, then a download",
    )
    maximum: float | None = _option(
        None,
        "largest possible value in a file: values are divided by it, binarized with probability "
        "value/maximum, or counts from 0 to it",
        positive,
        value="MAX",
        unset="1 for a file; a named data set has its own",
    )
    scale: str | None = _option(
        None,
        "how real numbers (gaussian) are scaled: not at all, divided by the maximum, or each "
        "column to mean 0 and standard deviation 1",
        choices=SCALES,
        unset="maximum if it is known, else none",
    )
    columns: str | None = _option(
        None,
        "columns of a file that are used: names of the header or numbers from 1, as in 1,3-5; or "
        "varying, for all that are not constant",
        value="NAMES",
        unset="all",
    )
    label_column: str | None = _option(
        None,
        "column of a file with the classes, by name or number",
        value="NAME",
        unset="none",
    )
    delimiter: str | None = _option(
        None,
        "character between the cells of a text file, or tab or space",
        value="CHAR",
        unset="recognized from the first lines",
    )
    latent_dim: int = _option(10, "number of latent variables (J)", whole(), value="J")
    hidden: tuple[int, ...] = _option(
        (200,),
        "widths of the hidden layers of the encoder; the decoder has them in reverse order",
        whole(),
        value="H",
        many=True,
    )
    activation: str = _option("tanh", "activation of the hidden layers", choices=ACTIVATIONS)
    likelihood: str = _option(
        "bernoulli",
        "distribution p(x|z): bernoulli, binomial (with the maximum as number of trials), "
        "binomial:N, poisson, gaussian:SIGMA, gaussian:learned or gaussian:head",
        check_likelihood,
        value="NAME",
    )
    estimator: str = _option(
        "sgvb-b", "estimator of the gradient, with its objective", choices=ESTIMATORS
    )
    n_samples: int | None = _option(
        None,
        "number of terms (L) averaged for each row",
        whole(),
        value="L",
        unset=f"1; {ESTIMATORS['score-loo'].n_samples} for score-loo",
        setting="n_samples",
    )
    train_importance: int | None = _option(
        None,
        "number of importance samples (K) of the objective, for iwae, stl-iwae and dreg",
        whole(),
        value="K",
        unset=f"{ESTIMATORS['iwae'].n_importance}",
        setting="n_importance",
    )
    beta: float | None = _option(
        None,
        "weight of the KL in the objective, for sgvb-b",
        weight,
        value="BETA",
        unset=f"{SGVBB().beta:g}",
        setting="beta",
    )
    kl_warmup: float | None = _option(
        None,
        "number of epochs in which the weight of the KL rises from 0 to beta, for sgvb-b",
        positive,
        value="EPOCHS",
        unset="no warm-up",
        setting="kl_warmup",
    )
    free_bits: float | None = _option(
        None,
        "number of nats of KL for each latent variable that cost nothing, for sgvb-b",
        weight,
        value="NATS",
        unset=f"{SGVBB().free_bits:g}",
        setting="free_bits",
    )
    weight_prior: float | None = _option(
        None,
        "variance of a Gaussian prior of the decoder's parameters, with mean 0, whose log density "
        "is in the objective",
        positive,
        value="VARIANCE",
        unset="no prior",
    )
    optimizer: str = _option("adam", "rule for the steps of the parameters", choices=OPTIMIZERS)
    learning_rate: float = _option(
        3e-3, "learning rate at the start of training", positive, value="RATE"
    )
    schedule: str = _option(
        "cosine", "how the learning rate falls during training", choices=("cosine", "constant")
    )
    clip_norm: float | None = _option(
        None,
        "maximum norm of the gradient; a longer one is scaled down to it",
        positive,
        value="NORM",
        unset="no limit",
    )
    epochs: int = _option(100, "number of passes over the training data", whole(), value="N")
    validation: float | None = _option(
        None,
        "fraction of the training rows that is held out, always the same rows; its ELBO is "
        "recorded after each epoch",
        fraction,
        value="FRACTION",
        unset="none",
    )
    patience: int | None = _option(
        None,
        "number of epochs without a better validation ELBO after which training ends, with the "
        "best parameters; it needs --validation or a validation part",
        whole(),
        value="EPOCHS",
        unset="no early stop",
    )
    batch_size: int | None = _option(
        None,
        "number of rows per minibatch (B)",
        whole(),
        value="B",
        unset="100, or all rows if there are fewer",
    )
    seed: int = _option(0, "seed of every random number", whole(0), value="SEED")
    eval_importance: int = _option(
        500,
        "number of importance samples (K) of the estimate of log p(x) on the test set",
        whole(),
        value="K",
    )
    test_rows: int | None = _option(
        None,
        "number of rows of the test set that are evaluated, always the same ones",
        whole(),
        value="N",
        unset="all",
    )
    accelerator: str | None = _option(
        None,
        "compile the training step, the evaluation, adam and adagrad",
        choices=("numba",),
        unset="none",
    )
    data_parallel: int | None = _option(
        None,
        "divide each minibatch into so many shards, which the ranks of mpiexec share; without a "
        f"number {DataParallel.n_shards}",
        shards,
        value="SHARDS",
        unset="one process, no shards",
        bare=DataParallel.n_shards,
    )


OPTIONS = {option.name: option for option in dataclasses.fields(Settings)}

# The paper's network for the 28×28 sets; 1000 test images, since K = 500 samples for each of
# 10000 images take a minute.
DEFAULTS: dict[str, dict[str, Any]] = {
    name: {"latent_dim": 20, "hidden": (500,), "epochs": 20, "test_rows": 1000}
    for name in ("mnist", "fashion")
}


def make_settings(given: dict[str, Any]) -> Settings:
    """Return the settings for the options that were given, with the defaults of the data set.

    Examples
    --------
    >>> make_settings({"dataset": "mnist", "epochs": 3}).hidden
    (500,)
    """
    if "hidden" in given:
        given = given | {"hidden": tuple(given["hidden"])}
    return Settings(**{**DEFAULTS.get(given.get("dataset", ""), {}), **given})


def read_settings(saved: Any, source: Any) -> dict[str, Any]:
    """Return the settings that a file has, each after the check of its option.

    Parameters
    ----------
    saved : Any
        What the file has under "settings".
    source : path
        The file, for messages.

    Raises
    ------
    ValueError
        If it is not a dict of settings that this version has.

    Examples
    --------
    >>> read_settings({"epochs": 20, "hidden": [50, 20], "beta": None}, "settings.json")
    {'epochs': 20, 'hidden': (50, 20), 'beta': None}
    """
    if not isinstance(saved, dict):
        raise ValueError(
            f"{source}: expected the settings of a run, got none; choose another file"
        )
    found: dict[str, Any] = {}
    for name, value in saved.items():
        if name not in OPTIONS:
            raise ValueError(
                f"{source}: expected settings of train, got {name!r}{suggest(name, OPTIONS)}; "
                "correct its name, or remove it"
            )
        option = OPTIONS[name].metadata
        try:
            if option["many"]:
                found[name] = tuple(option["check"](name, str(part)) for part in value)
            else:
                found[name] = None if value is None else option["check"](name, str(value))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: {error}") from None
        if found[name] is None and option["unset"] == "":
            raise ValueError(f"{source}: {name}: expected a value, got null; remove the line")
    return found


def flag(name: str) -> str:
    """Return the option on the command line of a setting.

    Examples
    --------
    >>> flag("latent_dim")
    '--latent-dim'
    """
    return "--" + name.replace("_", "-")


def default_text(name: str, per_dataset: bool = True) -> str:
    """Return the default of an option in words.

    Examples
    --------
    >>> default_text("epochs")
    '100; mnist, fashion: 20'
    """

    def words(value: Any) -> str:
        if value is None:
            return OPTIONS[name].metadata["unset"]
        return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"

    others: dict[str, list[str]] = {}
    for dataset, defaults in DEFAULTS.items():
        if per_dataset and name in defaults:
            others.setdefault(words(defaults[name]), []).append(dataset)
    parts = [f"{', '.join(datasets)}: {value}" for value, datasets in others.items()]
    return "; ".join([words(OPTIONS[name].default), *parts])


def options_table() -> str:
    """Return the table of the options of `train`, as the README has it, in Markdown."""
    rows = ["| option | meaning | default |", "|---|---|---|"]
    for name, option in OPTIONS.items():
        value = option.metadata["value"].strip("{}").replace(",", ", ")
        help = option.metadata["help"].replace("|", "\\|")  # as in p(x|z); a bar ends a cell
        rows.append(f"| `{flag(name)}` {value} | {help} | {default_text(name)} |")
    return "\n".join(rows)


def chosen_estimator(settings: Settings) -> Estimator:
    """Return the estimator that the settings describe.

    Raises
    ------
    UsageError
        If it does not have one of the settings, or cannot take its value.

    Examples
    --------
    >>> chosen_estimator(Settings(estimator="dreg", train_importance=50))
    DReG(n_samples=1, n_importance=50)
    """
    fields = {name: _names(estimator) for name, estimator in ESTIMATORS.items()}
    chosen, given = settings.estimator, {}
    for name, option in OPTIONS.items():
        setting, value = option.metadata["setting"], getattr(settings, name)
        if not setting or value is None:
            continue
        if setting not in fields[chosen]:
            takers = ", ".join(e for e in ESTIMATORS if setting in fields[e])
            raise UsageError(
                f"{flag(name)}: expected an --estimator that has this setting ({takers}), "
                f"got {chosen}; leave {flag(name)} out or choose another --estimator"
            )
        given[setting] = value
    fewest = 2 if chosen == "score-loo" else 1  # its baseline is the mean of the other draws
    if given.get("n_samples", fewest) < fewest:
        raise UsageError(
            f"--n-samples: expected at least {fewest} for --estimator {chosen}, "
            f"got {given['n_samples']}; leave --n-samples out, or choose --estimator score"
        )
    return make_estimator(chosen, **given)


def with_prior(estimator: Estimator, settings: Settings, n_data: int) -> Estimator:
    """Return the estimator with the prior of the weights that the settings describe, if any.

    `n_data` is the number of training rows.

    Examples
    --------
    >>> with_prior(chosen_estimator(Settings()), Settings(weight_prior=1.0), 3823).n_data
    3823
    """
    if settings.weight_prior is None:
        return estimator
    return WithWeightPrior(estimator, n_data, settings.weight_prior)


def _names(estimator: Estimator) -> set[str]:
    return {field.name for field in dataclasses.fields(estimator)}
