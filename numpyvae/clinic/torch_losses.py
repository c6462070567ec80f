"""The loss of a PyTorch VAE as a function of x, whatever its arguments are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from .foreign_calls import first_line
from .torch_parts import Parts
from .torch_results import flattened, role, total

__all__ = ["Loss", "find_loss"]

_NAMES = (
    "loss_function", "loss_fn", "vae_loss", "elbo_loss", "compute_loss", "loss", "elbo",
    "training_step", "step", "forward",
)  # fmt: skip
_MODULES = ("module", "model", "vae", "net", "self", "m")


class Loss:
    """A loss of x, and if it is one of a function of the outputs, this function too.

    Parameters
    ----------
    of_x : callable
        x → loss.
    text : str
        What was found, for the report.
    of_outputs : callable, optional
        (recon, x, mu, second) → loss.

    Examples
    --------
    >>> Loss(len, "loss(x)").of_outputs is None
    True
    """

    def __init__(self, of_x: Callable, text: str, of_outputs: Callable | None = None) -> None:
        self.of_x, self.text, self.of_outputs = of_x, text, of_outputs


def find_loss(parts: Parts, given: Callable | None) -> tuple[Loss | None, str]:
    """Find the loss of a module.

    Parameters
    ----------
    parts : Parts
    given : callable, optional
        The function that the user gives; by default methods of the module are tried.

    Returns
    -------
    loss : Loss or None
    reason : str
        Why none was found.

    Examples
    --------
    >>> import torch
    >>> from .torch_state import Session
    >>> model = torch.nn.Linear(2, 1)
    >>> parts = Parts(Session(torch, [model], "float32"), model, torch.ones(3, 2))
    >>> find_loss(parts, lambda x: model(x).sum())[0].text
    'loss(x)'
    """
    reason = ""  # the first one: later readings are less usual
    candidates = [("loss", given)] if given is not None else list(_methods(parts.module))
    for name, function in candidates:
        for text, of_x, of_outputs in _readings(parts, function):
            value, failure = _value(parts, of_x)
            if value is None:
                reason = reason or f"{name}{text} raised {failure}"
                continue
            terms = _are_terms(parts, of_outputs)
            try:
                _, taken = total(value, terms=terms)
            except TypeError as error:
                reason = reason or f"{name}{text}: {error}"
                continue
            return _loss(of_x, of_outputs, terms, f"{name}{text}" + (taken and f", {taken}")), ""
    return None, reason or "no function of a loss is known; pass loss="


def _loss(of_x: Callable, of_outputs: Callable | None, terms: bool | None, text: str) -> Loss:
    """The loss whose functions return its number."""
    inner = None if of_outputs is None else lambda *a: total(of_outputs(*a), terms=terms)[0]
    return Loss(lambda x: total(of_x(x), terms=terms)[0], text, inner)


def _methods(module: Any) -> Iterator[tuple[str, Callable]]:
    """The methods of a module that may be its loss."""
    for name in _NAMES:
        member = getattr(module, name, None)
        if callable(member):
            yield name, member


def _value(parts: Parts, of_x: Callable) -> tuple[Any, str]:
    """What a loss returns for x, or None and the first line of its error."""
    try:
        with parts.session.calling():
            return of_x(parts.x.clone()), ""
    except Exception as error:
        return None, first_line(error)


def _required(function: Callable) -> tuple[list[str], bool]:
    """The names of the arguments without a default, and whether there is *args."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ["x"], False
    kinds = inspect.Parameter
    names = [
        p.name
        for p in signature.parameters.values()
        if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        and p.default is kinds.empty
    ]
    return names, any(p.kind == kinds.VAR_POSITIONAL for p in signature.parameters.values())


def _readings(parts: Parts, function: Callable) -> Iterator[tuple[str, Callable, Callable | None]]:
    """The ways to call a function of a loss: (text, loss of x, loss of the outputs or None)."""
    names, many = _required(function)
    module, torch = parts.module, parts.session.torch
    if len(names) == 1 and not many:
        yield "(x)", function, None
        yield "((x, labels))", lambda x: function((x, torch.zeros(len(x), dtype=int))), None
    if len(names) == 2 and names[0] in _MODULES:
        yield f"({names[0]}, x)", lambda x: function(module, x), None
        return
    if len(names) == 2 and "batch" in names[0]:  # a step of Lightning
        labels = torch.zeros(len(parts.x), dtype=int)
        yield "((x, labels), 0)", lambda x: function((x, labels[: len(x)]), 0), None
        yield "(x, 0)", lambda x: function(x, 0), None
        return
    if parts.forward is None and (parts.encode is None or parts.decode is None):
        return
    yield from _of_outputs(parts, function, names, many)


def _of_outputs(
    parts: Parts, function: Callable, names: list[str], many: bool
) -> Iterator[tuple[str, Callable, Callable | None]]:
    """The ways to call a function of the outputs of the module."""
    roles = [role(n) for n in names]
    if not many and "" not in roles and len(set(roles)) == len(roles) > 2:
        yield _by_role(parts, function, roles, f"({', '.join(names)}), by these names")
        return
    if many or len(names) == _count(parts):
        yield "(*forward(x))", lambda x: function(*parts.module(x)), None
    if len(names) == 2 and not many:
        yield "(forward(x), x)", lambda x: function(parts.module(x), x), None
        yield "(x, forward(x))", lambda x: function(x, parts.module(x)), None
    if len(names) == 4 or many:
        conventional = ["recon", "x", "mu", "second"]
        text = f"({', '.join(conventional)}), by the order that is usual"
        yield _by_role(parts, function, conventional, text)


def _count(parts: Parts) -> int:
    """The number of outputs of the module."""
    with parts.session.calling():
        return 0 if parts.forward is None else len(parts.forward(parts.x.clone()))


def _by_role(parts: Parts, function: Callable, roles: list[str], text: str) -> tuple:
    """The reading of a function whose arguments have these roles."""

    def of_outputs(recon, x, mu, second, z=None):
        known = {"recon": recon, "x": x, "mu": mu, "second": second, "z": z}
        return function(*(known[r] for r in roles))

    return text, lambda x: of_outputs(*_outputs(parts, x)), of_outputs


def _outputs(parts: Parts, x: Any) -> tuple[Any, ...]:
    """(recon, x, mu, second, z) of one pass."""
    if parts.forward is None:
        mu, second = parts.found("encode")(x)
        z = parts.found("sample")(mu, second)
        return parts.found("decode")(z), x, mu, second, z
    outputs = parts.forward(x)
    place = _places(parts, outputs)
    return tuple(x if k == "x" else outputs[i] if i is not None else None for k, i in place)


def _places(parts: Parts, outputs: list[Any]) -> list[tuple[str, int | None]]:
    """Where the outputs of the module are in its list."""
    cached = parts.__dict__.setdefault("_places", [])
    if cached:
        return cached
    with parts.session.calling():
        first, again = (parts.found("forward")(parts.x.clone()) for _ in range(2))
        mu, second = parts.found("encode")(parts.x.clone())
    tensors = [hasattr(v, "reshape") for v in first]
    same = [
        t and a.shape == b.shape and bool((a == b).all()) for t, a, b in zip(tensors, first, again)
    ]

    def find(test: Callable) -> int | None:
        return next((i for i in range(len(first)) if test(i)), None)

    def equal(i: int, value: Any) -> bool:
        return same[i] and first[i].numel() == value.numel() and bool(
            (first[i].reshape(value.shape) - value).abs().max() <= 1e-6
        )  # fmt: skip

    at_mu, at_second = find(lambda i: equal(i, mu)), find(lambda i: equal(i, second))
    steady = [i for i in range(len(first)) if same[i] and first[i].numel() == mu.numel()]
    if at_mu is None or at_second is None or at_mu == at_second:
        at_mu, at_second = (*steady, None, None)[:2]
    size = parts.x.numel()
    recon = find(
        lambda i: (
            i not in (at_mu, at_second)
            and (not tensors[i] or first[i].numel() == size)
            and not (tensors[i] and first[i].numel() == size and equal(i, parts.x))
        )
    )
    z = find(
        lambda i: tensors[i] and not same[i] and i != recon and first[i].numel() == mu.numel()
    )
    cached.extend([("recon", recon), ("x", None), ("mu", at_mu), ("second", at_second), ("z", z)])
    return cached


def _are_terms(parts: Parts, of_outputs: Callable | None) -> bool | None:
    """Whether a loss with two values returns its two terms; None if this cannot be found.

    The reconstruction is the value that does not change with mu.
    """
    if of_outputs is None:
        return None
    try:
        with parts.session.calling():
            recon, x, mu, second, z = _outputs(parts, parts.x.clone())
            pairs = [flattened(of_outputs(recon, x, m, second, z)) for m in (mu, mu + 0.5)]
    except Exception:
        return None
    if any(len(p) != 2 for p in pairs):
        return None
    return any(bool((a == b).all()) for a, b in zip(*pairs))
