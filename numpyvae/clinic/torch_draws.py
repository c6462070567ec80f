"""The random numbers that PyTorch code draws: which they are, and others put in their place.

Every operation of PyTorch passes through a dispatcher. A mode of it sees `randn`, `randn_like`,
`normal`, `normal_` and the draws of `torch.distributions`, in any code.
"""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["draws_of"]

_NORMAL = ("randn", "randn_like", "normal", "normal_", "normal_functional")
_OTHER = (
    "rand", "rand_like", "uniform_", "uniform", "bernoulli", "multinomial", "poisson", "binomial",
    "exponential_", "randint", "randint_like", "random_", "randperm", "geometric_", "cauchy_",
    "log_normal_", "_standard_gamma", "_sample_dirichlet", "_fused_dropout", "rrelu_with_noise",
)  # fmt: skip
_UNIFORM = ("rand", "rand_like", "uniform_")
_DROPOUT = ("bernoulli_", "native_dropout")


@functools.cache
def draws_of(torch: Any) -> type:
    """Return the class of modes that see all draws; it needs PyTorch to be defined.

    Parameters
    ----------
    torch : module

    Returns
    -------
    Draws : type
        ``Draws(noise=None, no_dropout=False)``: with `noise`, the numbers of a tensor replace the
        normal draws in their order; with 0.0 all normal and uniform draws are 0. After use
        ``normal`` has the shapes of the normal draws, ``other`` the names of other random
        operations, ``seen`` those of all operations, and ``left`` how many numbers of the noise
        were not used.

    Examples
    --------
    >>> import torch
    >>> draws = draws_of(torch)(noise=torch.zeros(6))
    >>> with draws:
    ...     z = 1 + torch.randn(2, 3)
    >>> draws.normal, z.sum().item()
    ([(2, 3)], 6.0)
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Draws(TorchDispatchMode):
        def __init__(self, noise: Any = None, no_dropout: bool = False) -> None:
            super().__init__()
            self.noise = noise.reshape(-1) if hasattr(noise, "reshape") else noise
            self.no_dropout = no_dropout
            self.normal: list[tuple[int, ...]] = []
            self.other: set[str] = set()
            self.seen: set[str] = set()

        @property
        def left(self) -> int:
            return self.noise.numel() if hasattr(self.noise, "numel") else 0

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else the compiler is imported, which takes seconds

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            name = func.overloadpacket.__name__
            self.seen.add(name)
            if name in _DROPOUT:
                if self.no_dropout:
                    return _without_dropout(torch, name, args)
                self.other.add(name)
            elif name in _OTHER:
                self.other.add(name)
            out = func(*args, **kwargs)
            if name in _UNIFORM and isinstance(self.noise, float):
                return out.zero_()
            if name in _NORMAL:
                self.normal.append(tuple(out.shape))
                if self.noise is not None:
                    mean, std = _moments(name, args, kwargs)
                    out.copy_(mean + std * self._next(out))
            return out

        def _next(self, out: Any) -> Any:
            if isinstance(self.noise, float):
                return self.noise
            n = out.numel()
            if n > self.noise.numel():
                raise ValueError(
                    f"noise: expected at most {self.noise.numel()} more normal numbers, got a "
                    f"draw of shape {tuple(out.shape)}"
                )
            taken, self.noise = self.noise[:n], self.noise[n:]
            return taken.reshape(out.shape)

    return Draws


def _moments(name: str, args: tuple, kwargs: dict) -> tuple[Any, Any]:
    """The mean and the standard deviation of a draw."""
    if name.startswith("randn"):
        return 0.0, 1.0
    rest = args if name == "normal" else args[1:]
    mean = kwargs.get("mean", rest[0] if rest else 0.0)
    std = kwargs.get("std", rest[1] if len(rest) > 1 else 1.0)
    return mean, std


def _without_dropout(torch: Any, name: str, args: tuple) -> Any:
    """The result of dropout that drops nothing: a mask of 1, or of p before its division by p."""
    if name == "native_dropout":
        return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
    return args[0].fill_(args[1] if len(args) > 1 else 0.5)
