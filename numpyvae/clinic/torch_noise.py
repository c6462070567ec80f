"""How the noise of a PyTorch loss is controlled: replaced by ε, or by a seed."""

from __future__ import annotations

from typing import Any

from ..support.streams import Purpose, stream
from .torch_draws import draws_of
from .torch_losses import Loss
from .torch_parts import Parts

__all__ = ["noise_of"]


def noise_of(
    parts: Parts, loss: Loss, n_samples: int, wanted: str | None
) -> tuple[str | None, str]:
    """Return "eps" where the noise is one draw in the shape of z, else None, and the reason.

    Parameters
    ----------
    parts : Parts
    loss : Loss
    n_samples : int
        L, the number of draws for each row.
    wanted : {"eps", "seed"}, optional

    Returns
    -------
    noise : str or None
    why : str

    Raises
    ------
    ValueError
        If "eps" is wanted and not possible, or `wanted` is another word.

    Examples
    --------
    >>> import torch
    >>> from .torch_state import Session
    >>> model = torch.nn.Linear(2, 1)
    >>> parts = Parts(Session(torch, [model], "float32"), model, torch.ones(3, 2))
    >>> noise_of(parts, Loss(lambda x: model(x).sum(), ""), 1, None)[1]
    'by a seed, since the encoder is not known'
    """
    if wanted not in (None, "eps", "seed"):
        raise ValueError(f'noise: expected "eps" or "seed", got {wanted!r}')
    if wanted == "seed":
        return None, "by a seed (declared)"
    reason = _why_not(parts, loss, n_samples)
    if reason and wanted == "eps":
        raise ValueError(f"noise: expected a loss whose noise can be replaced by ε, but {reason}")
    if reason:
        return None, f"by a seed, since {reason}"
    return "eps", "the normal draws of the loss are replaced by ε"


def _why_not(parts: Parts, loss: Loss, n_samples: int) -> str:
    """Why the noise cannot be replaced, or nothing."""
    if parts.encode is None:
        return "the encoder is not known"
    session = parts.session
    mu, _ = _called(parts, parts.encode)
    rows, width = mu.shape
    seeing = draws_of(session.torch)(no_dropout=session.no_dropout)
    first = _called(parts, loss.of_x, seeing, seed=1)
    if seeing.other:
        return f"the loss draws other numbers ({', '.join(sorted(seeing.other))})"
    if not seeing.normal:
        return "the loss draws no normal numbers"
    if sum(_size(s) for s in seeing.normal) != n_samples * rows * width:
        drawn = ", ".join(map(str, seeing.normal))
        return f"it draws {drawn} for {n_samples} × ({rows}, {width})"
    again = _called(parts, loss.of_x, seed=1)
    if not _equal(first, again):
        return "two calls with the same seed differ"
    if _equal(first, _called(parts, loss.of_x, seed=2)):
        return "the loss is the same for all seeds"
    return _misuse(parts, loss, (n_samples, rows, width))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _called(parts: Parts, function: Any, draws: Any = None, *, seed: int = 1) -> Any:
    """The result of a function for the rows at which the parts were found."""
    parts.session.seed(seed)
    with parts.session.calling(draws=draws):
        return function(parts.x.clone())


def _equal(a: Any, b: Any) -> bool:
    """Whether two losses are equal, each a number or one for each row."""
    return bool((a - b).abs().max() <= 1e-6 * (1 + b.abs().max()))


def _misuse(parts: Parts, loss: Loss, shape: tuple[int, int, int]) -> str:
    """Why a loss is not a function of all of ε, or nothing."""
    draws, off = draws_of(parts.session.torch), parts.session.no_dropout
    eps = parts.session.tensor(stream(0, Purpose.CLINIC, 81).standard_normal(shape))

    def value(noise: Any) -> Any:
        return _called(parts, loss.of_x, draws(noise, no_dropout=off))

    base, moved = value(eps), eps.clone()
    moved[:, -1] += 0.5
    if _equal(base, value(moved)):
        return "the noise of one row is used for others"
    return ""
