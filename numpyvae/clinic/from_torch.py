"""A `Subject` of a VAE written in PyTorch, from its module and its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from ..support.checks import shown
from .foreign_calls import first_line
from .subject import Subject
from .torch_draws import draws_of
from .torch_losses import Loss, find_loss
from .torch_noise import noise_of
from .torch_parts import Parts, find_parts
from .torch_pieces import likelihood_of, pieces
from .torch_state import EVAL, STILL, TRAIN, Session, load_torch

__all__ = ["from_torch"]

_ROWS = 8
_OWN = {
    "encode", "decode", "loss", "sample_z", "gradient", "parameters", "train", "eval", "seed",
    "noise", "x", "dtype", "guesses", "likelihood", "train_fully",
}  # fmt: skip
_ARRAYS = ("kl", "reconstruction", "log_p", "generate", "evaluate", "reconstruct")


def from_torch(
    module: Any,
    loss: Callable | None = None,
    *,
    x: Any,
    likelihood: str | None = None,
    encode: Callable | None = None,
    decode: Callable | None = None,
    sample_z: Callable | None = None,
    noise: str | None = None,
    **declared: Any,
) -> Subject:
    """Make a subject of a VAE in PyTorch; what is not given is found, and told in the report.

    The module is called itself, so that a loss may be any function that knows it. During a call it
    has parameters in float64 (float32 where this fails) and random numbers of the clinic's own;
    after the call its parameters, buffers, attributes, gradients and modes, and the global
    generators, are as they were. Dropout is off, and batch normalization uses its running
    statistics, except where what they do is examined.

    Parameters
    ----------
    module : torch.nn.Module or sequence of them
        An encoder is looked for as `encode` or `encoder`, or in the outputs of `forward`; a
        decoder as `decode` or `decoder`; the draw as `reparameterize` and similar names.
    loss : callable, optional
        ``loss(x)``, ``loss(module, x)``, or a function of what `forward` returns and x, in any
        order, as ``loss(recon, x, mu, logvar)``. By default methods of the module are tried:
        `loss_function`, `loss`, `elbo`, `training_step` and others.
    x : (N, ...) array_like or tensor
        Rows of data in the shape that the module takes.
    likelihood : str, optional
        As for `Subject`. By default "bernoulli" or "gaussian", from how the loss depends on x.
    encode, decode, sample_z : callable, optional
        Functions of tensors, if they are not found.
    noise : {"eps", "seed"}, optional
        With "eps" the normal draws of the loss are replaced by ε, which makes its examination
        exact. It is the default where a loss draws ε once, in the shape of z.
    **declared : object
        Other fields of `Subject`, as `beta` or `scale`. Functions get tensors.

    Returns
    -------
    subject : Subject

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is not valid, or nothing can be called.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> class VAE(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.encode, self.decode = nn.Linear(6, 4), nn.Linear(2, 6)
    ...     def loss(self, x):
    ...         mu, s = self.encode(x).chunk(2, -1)
    ...         logits = self.decode(mu + (0.5 * s).exp() * torch.randn_like(s))
    ...         kl = 0.5 * (mu**2 + s.exp() - s - 1).sum()
    ...         return nn.functional.binary_cross_entropy_with_logits(logits, x) + kl
    >>> from numpyvae.clinic import examine
    >>> x = torch.bernoulli(torch.full((20, 6), 0.5))
    >>> examine(from_torch(VAE(), x=x)).names[0]
    'reconstruction averaged over pixels'
    """
    torch = load_torch("from_torch")
    _check_declared(declared)
    roots = _modules(torch, module)
    module = roots[0] if len(roots) == 1 else torch.nn.ModuleList(roots)
    if isinstance(loss, torch.nn.Module):
        roots.append(loss)
    data = _data(torch, x)
    given = encode, decode, sample_z
    session, parts, found = _opened(torch, module, roots, data, loss, given)
    _announce(session, parts, found)
    if likelihood is None:
        likelihood, how = likelihood_of(parts, found)
        parts.guesses.append(f"likelihood: {likelihood} ({how})")
    maker = _Maker(session, parts, found, declared)
    own = maker.functions(noise)
    own |= pieces(parts, found, likelihood) if "kl" not in declared else {}
    own |= {n: maker.wrapped(f) if n in _ARRAYS else f for n, f in declared.items()}
    own.setdefault("scale", parts.scale)
    own.setdefault("name", type(module).__name__)
    guesses = tuple(parts.guesses)
    return Subject(**own, x=data, dtype=session.dtype, likelihood=likelihood, guesses=guesses)


def _check_declared(declared: dict[str, Any]) -> None:
    """Raise TypeError for a name that `Subject` does not take from outside."""
    allowed = {f.name for f in fields(Subject)} - _OWN
    for name in declared:
        if name not in allowed:
            names = ", ".join(sorted(allowed))
            raise TypeError(f"from_torch: expected fields of Subject ({names}), got {name!r}")


def _modules(torch: Any, module: Any) -> list[Any]:
    """The modules that are given, one or several."""
    parts = list(module) if isinstance(module, (tuple, list)) else [module]
    for part in parts:
        if not isinstance(part, torch.nn.Module):
            raise TypeError(f"module: expected a torch.nn.Module, got {shown(part)}")
    if not parts:
        raise TypeError("module: expected a torch.nn.Module, got an empty sequence")
    return parts


def _data(torch: Any, x: Any) -> np.ndarray:
    """The rows of data as an array of float64."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().numpy()
    try:
        data = np.asarray(x, dtype=float)
    except (TypeError, ValueError):
        data = np.empty(0)
    if data.ndim < 2 or len(data) < 4 or not np.isfinite(data).all():
        raise ValueError(
            f"x: expected at least 4 rows of finite numbers, in the shape that the module takes, "
            f"got {shown(x) if not data.ndim else data.shape}"
        )
    return data


def _opened(
    torch: Any, module: Any, roots: list, data: np.ndarray, loss: Any, given: tuple
) -> Any:
    """The session in which most is found: in float64, or in float32 if this has a loss."""
    best, reason = None, ""
    for dtype in ("float64", "float32"):
        try:
            session = Session(torch, roots, dtype)
            x = session.tensor(data[:_ROWS])
            _switch_dropout_off(session, module, loss, x)
            parts = find_parts(session, module, x, *given)
            found, why = find_loss(parts, loss)
        except (TypeError, RuntimeError) as error:  # a device without float64
            reason = reason or first_line(error)
            continue
        reason = reason or why
        if found is not None:
            if dtype == "float32":
                parts.guesses.append("dtype: float32, since a call in float64 fails")
            return session, parts, found
        best = best or (session, parts, None)
    if best is None or loss is not None or best[1].encode is None:
        raise ValueError(
            f"from_torch: expected a loss of x {tuple(data[:_ROWS].shape)}, or of the outputs of "
            f"forward, got none: {reason}"
        )
    best[1].guesses.append(f"loss: none found ({reason})")
    return best


def _switch_dropout_off(session: Session, module: Any, loss: Any, x: Any) -> None:
    """See whether a function of dropout is used, and switch it off in the calls of the session."""
    draws = draws_of(session.torch)()
    for function in (module, loss):
        try:
            with session.calling(draws=draws):
                function(x.clone())
        except Exception:
            continue
    session.no_dropout = bool(draws.other & {"bernoulli_", "native_dropout"})


def _announce(session: Session, parts: Parts, found: Loss | None) -> None:
    """Say what was found, and what is switched off."""
    if found is not None:
        parts.guesses.append(f"loss: {found.text}")
    off = [*session.unsteady, *(["functions of dropout"] if session.no_dropout else [])]
    if off:
        parts.guesses.append(f"not in their mode of training: {', '.join(off)}")


class _Maker:
    """Functions over NumPy arrays of the parts of a module."""

    def __init__(
        self, session: Session, parts: Parts, found: Loss | None, declared: dict[str, Any]
    ) -> None:
        self.session, self.parts, self.declared = session, parts, declared
        self.found: Any = found  # what calls its functions is used where it is not None

    def functions(self, noise: str | None) -> dict[str, Any]:
        """The fields of the subject that are functions, and `noise`."""
        s, parts = self.session, self.parts
        own: dict[str, Any] = {"seed": s.seed}
        for name in ("encode", "decode"):
            if getattr(parts, name) is not None:
                own[name] = self.wrapped(getattr(parts, name))
        if parts.sample is not None:
            own["sample_z"] = self.wrapped(parts.sample)
        own |= {m: lambda mode=mode: self._switch(mode) for m, mode in _MODES.items()}
        if not s.has_statistics:
            del own["train_fully"]
        if self.found is None:
            return own
        kind, why = noise_of(parts, self.found, self._draws_per_row(), noise)
        parts.guesses.append(f"noise: {why}")
        own["noise"] = kind
        own["loss"] = self._loss if kind is None else self._loss_eps
        if s.parameters:
            own["gradient"] = self._gradient if kind is None else self._gradient_eps
            own["parameters"] = (s.get, s.set)
        return own

    def _draws_per_row(self) -> int:
        return max(self.declared.get(n, 1) for n in ("n_samples", "n_importance"))

    def _switch(self, mode: str) -> None:
        self.session.mode = mode

    def wrapped(self, function: Callable) -> Callable:
        """A function of tensors as one of arrays."""

        def call(*arrays):
            with self.session.calling():
                return self.session.to_numpy(function(*map(self.session.tensor, arrays)))

        return call

    def _draws(self, eps: np.ndarray | None) -> Any:
        if eps is None:
            return None
        noise = self.session.tensor(eps)
        return draws_of(self.session.torch)(noise, no_dropout=self.session.no_dropout)

    def _loss_eps(self, x: np.ndarray, eps: np.ndarray | None) -> np.ndarray:
        with self.session.calling(draws=self._draws(eps)):
            return self.session.to_numpy(self.found.of_x(self.session.tensor(x)))

    def _loss(self, x: np.ndarray) -> np.ndarray:
        return self._loss_eps(x, None)

    def _gradient_eps(self, x: np.ndarray, eps: np.ndarray | None) -> dict[str, np.ndarray]:
        with self.session.calling(grad=True, draws=self._draws(eps)):
            return self.session.gradient(self.found.of_x(self.session.tensor(x)).mean())

    def _gradient(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return self._gradient_eps(x, None)


_MODES = {"train": STILL, "eval": EVAL, "train_fully": TRAIN}
