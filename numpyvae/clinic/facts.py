"""What is known of a subject before it is examined, and what the examinations find out in turn."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..support.streams import Purpose, stream
from .calls import Calls
from .findings import SKIPPED, Finding
from .subject import SCALES, SubjectError

__all__ = ["Facts", "establish", "skipped"]

_ROWS = 24


@dataclass
class Facts:
    """The facts about a subject. Examinations read them, and add what they find.

    Parameters
    ----------
    calls : Calls
    seed : int
        Of all probes.
    x : (N, ...) array
        Rows of data, distinct as far as possible.
    data_dim, latent_dim : int
        D and J.
    tolerance : float
        Of exact comparisons: 1e-9 for float64, 1e-4 for float32.
    scale, output : str
        What `encode` and `decode` return, declared or guessed.
    frozen : bool
        Whether the noise is the same after the same seed.
    varies : bool or None
        Whether the loss depends on the seed; None if this is not known.
    batch_statistics : bool
        Whether a row depends on its company.
    law, kl_form, reconstruction_form : str
        The names of the formulas that the pieces compute.
    kl_factor, reconstruction_factor : float or None
        Their factors against −log p(x|z) and the KL.
    kl_mean, reconstruction_mean : bool or None
        Whether they are means over latents and pixels; None if this is not known.
    clipped : bool
        Whether the reconstruction of saturated pixels is cut off.
    factor : float or None
        The factor of the loss of one row against −ELBO.
    measured : Measured or None
        The mean losses of rows.
    formula : Hypothesis or None
        The formula that the loss follows, if there is one.
    weights : pair of (3,) arrays, or None
        c_rec, c_KL and b of the loss of many copies of a row, and their errors.
    floor : {"latent", "total"}
        What the floor of free bits is of.
    own_scale : bool
        Whether σ is a function of the second output that has no name here.
    own_density : bool
        Whether p(x|z) is a function of the output that has no name here.
    guesses : list of str
        What was assumed, for the report.

    Examples
    --------
    >>> from .subject import Subject
    >>> establish(Calls(Subject(kl=len, latent_dim=3)), 0).latent_dim
    3
    """

    calls: Calls
    seed: int
    x: np.ndarray | None
    data_dim: int
    latent_dim: int
    tolerance: float = 1e-9
    scale: str = "logvar"
    output: str = "logits"
    frozen: bool = False
    varies: bool | None = None
    batch_statistics: bool = False
    law: str = "right"
    kl_form: str = "right"
    reconstruction_form: str = "right"
    kl_factor: float | None = None
    reconstruction_factor: float | None = None
    kl_mean: bool | None = None
    reconstruction_mean: bool | None = None
    clipped: bool = False
    factor: float | None = None
    measured: Any = None
    formula: Any = None
    weights: tuple[np.ndarray, np.ndarray] | None = None
    floor: str = "latent"
    own_scale: bool = False
    own_density: bool = False
    guesses: list[str] = field(default_factory=list)

    @property
    def rows(self) -> np.ndarray:
        """x, for what is examined only where `missing` names nothing."""
        if self.x is None:
            raise SubjectError("x: expected rows of data, got none")
        return self.x

    @property
    def unknown(self) -> str:
        """What is legitimate, but of no known form, so that −ELBO cannot be computed; else ""."""
        if self.own_scale:
            return "σ is a function of the second output that is not known"
        return "p(x|z) is a function of the output that is not known" if self.own_density else ""

    def rng(self, *number: int) -> np.random.Generator:
        """Return the generator of one kind of probe."""
        return stream(self.seed, Purpose.CLINIC, *number)

    def missing(self, *names: str) -> str:
        """Return which of these functions, or x, is not given, as text; "" if all are."""
        absent = [n for n in names if not self.calls.has(n)] + ["x"] * (self.x is None)
        return f"{', '.join(absent)} not given" if absent else ""

    def probe(self, text: str = "") -> str:
        """Return the text that says how to repeat a probe."""
        return f"seed {self.seed}" + (f", {text}" if text else "")


def skipped(examination: str, reason: str) -> Finding:
    """Return the finding of a test that was not run.

    Parameters
    ----------
    examination, reason : str

    Returns
    -------
    finding : Finding

    Examples
    --------
    >>> skipped("KL", "kl is not given").verdict
    'not examined'
    """
    return Finding(examination, SKIPPED, advice=reason)


def establish(calls: Calls, seed: int) -> Facts:
    """Find the shapes of a subject, and guess what it does not declare.

    Parameters
    ----------
    calls : Calls
    seed : int

    Returns
    -------
    facts : Facts

    Examples
    --------
    >>> from .subject import Subject
    >>> establish(Calls(Subject(kl=len)), 0).guesses[0]
    'second output of encode: log σ² (assumed)'
    """
    subject = calls.subject
    rng = stream(seed, Purpose.CLINIC, 0)
    x = _rows(calls, rng)
    facts = Facts(calls, seed, x, subject.data_dim or 6, subject.latent_dim or 2)
    if subject.dtype != "float64":
        facts.tolerance = 1e-4
    facts.guesses.extend(subject.guesses)
    if x is not None:
        facts.data_dim = int(np.prod(x.shape[1:]))
    second = None
    if calls.has("encode") and x is not None:
        try:
            mu, second = calls.encode(x)
            facts.latent_dim = mu.shape[1]
            calls.refuse_random("encode", mu, calls.encode(x)[0])
        except SubjectError:
            second = None  # the examinations report it
    facts.tolerance = max(facts.tolerance, _precision(facts))
    _guess_scale(facts, second)
    _guess_output(facts)
    if calls.single:
        facts.tolerance = 1e-4
    return facts


def _rows(calls: Calls, rng: np.random.Generator) -> np.ndarray | None:
    """Rows of the user's data, or random ones."""
    subject = calls.subject
    if subject.x is not None:
        x = np.asarray(subject.x, dtype=float)
        distinct = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)[1]
        return x[np.sort(distinct)][:_ROWS]
    if subject.data_dim is None or subject.family == "custom":  # its values are not known
        return None
    shape = (_ROWS, subject.data_dim)
    if subject.family == "gaussian":
        return rng.standard_normal(shape)
    return rng.integers(0, subject.trials + 1, shape).astype(float)


def _precision(facts: Facts) -> float:
    """1e-4 if a function computes in float32, whatever it returns; else 1e-9.

    An adapter may convert what it returns. So the numbers are looked at, and not their type: a
    number that was computed in float64 is equal to one of float32 with a chance of 2⁻²⁹.
    """
    calls = facts.calls
    results = []
    for name, run in {
        "encode": lambda: np.concatenate(calls.encode(facts.rows[:2])),
        "decode": lambda: calls.decode(np.full((2, facts.latent_dim), np.pi / 3))[0],
        "loss": lambda: np.array(calls.loss(facts.rows[:2], 1, facts.latent_dim)),
    }.items():
        if calls.has(name) and (facts.x is not None or name == "decode"):
            try:
                results.append(run())
            except SubjectError:
                continue  # the examinations report it
    for value in results:
        fractional = value != np.round(8 * value) / 8
        if fractional.any() and (value == value.astype("float32")).all():
            return 1e-4
    return 1e-9


def _guess_scale(facts: Facts, second: np.ndarray | None) -> None:
    declared = facts.calls.subject.scale
    how = "declared" if declared else "assumed"
    if declared:
        facts.scale = declared
    elif second is not None and second.min() > 0:
        facts.scale, how = "sigma", "guessed: all values are positive"
    facts.guesses.append(f"second output of encode: {SCALES[facts.scale]} ({how})")


def _guess_output(facts: Facts) -> None:
    subject = facts.calls.subject
    how = "declared" if subject.output else "guessed from its values"
    first, second = None, None
    if facts.calls.has("decode"):
        z = 3 * facts.rng(2).standard_normal((200, facts.latent_dim))
        with suppress(SubjectError):  # the examinations report it
            first, second = facts.calls.decode(z)
            facts.calls.refuse_random("decode", first, facts.calls.decode(z)[0])
    if subject.family == "custom":
        facts.output, how = "mean", "declared: what the likelihood takes"
    elif subject.output:
        facts.output = subject.output
    elif facts.calls.has("decode"):
        if first is None:
            return
        if subject.family == "gaussian":
            pair = "mean_logvar" if second is not None and second.min() < 0 else "mean_sigma"
            facts.output = "mean" if second is None else pair
        else:
            outputs = [first]
            with suppress(SubjectError):  # logits near 0 may all lie in [0, 1], but not far away
                outputs.append(facts.calls.decode(30 * z)[0])
            inside = all(out.min() >= 0 and out.max() <= 1 for out in outputs)
            facts.output = "probabilities" if inside else "logits"
    else:
        facts.output, how = "mean" if subject.family == "gaussian" else "logits", "assumed"
    facts.guesses.append(f"output of decode: {facts.output.replace('_', ' and ')} ({how})")
