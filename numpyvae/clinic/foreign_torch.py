"""A `ForeignVAE` of a decoder written in PyTorch.

During a call the modules are in evaluation mode and PyTorch has one thread, as NumPy has: the
bounds use the cores by `n_jobs`, and their result depends on it by no bit. Both are restored after
the call. Gradients are computed in z alone; nothing is kept on the parameters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.likelihoods import Likelihood
from ..support.checks import shown
from .foreign import ForeignVAE
from .foreign_calls import called
from .torch_state import load_torch, one_thread

__all__ = ["foreign_from_torch"]

_COPIES = 3  # arrays in memory for each one that autograd keeps, measured on small networks


def foreign_from_torch(
    decoder: Callable,
    *,
    latent_dim: int,
    data_dim: int | tuple[int, ...],
    likelihood: str | Likelihood,
    encoder: Callable | None = None,
    module: Any = None,
    parameters: Mapping[str, Any] | None = None,
    row_floats: int | None = None,
) -> ForeignVAE:
    """Make a model of PyTorch modules, whose gradient is that of autograd.

    Parameters
    ----------
    decoder : torch.nn.Module or callable
        z (n, J) → outputs, as for `ForeignVAE`: a module, a method of one, or a function, such as
        `lambda z: net(z[:, :, None, None])`, which needs `module=net`.
    latent_dim : int
    data_dim : int or tuple of int
    likelihood : str or Likelihood
        As for `ForeignVAE`, all three.
    encoder : torch.nn.Module or callable, optional
        x → (mu, logvar).
    module : torch.nn.Module, optional
        The module that is put into evaluation mode, and whose dtype and device are used. By
        default those that the decoder and the encoder are, or are methods of.
    parameters : mapping of str to (D,) tensor, optional
        As for `ForeignVAE`.
    row_floats : int, optional
        As for `ForeignVAE`; if left out, it is measured by what autograd keeps.

    Returns
    -------
    model : ForeignVAE

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError, RuntimeError
        As for `ForeignVAE`; also for parameters of another dtype than float32 and float64.

    Examples
    --------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 6))
    >>> foreign_from_torch(net, latent_dim=2, data_dim=6, likelihood="bernoulli")
    ForeignVAE(6 dimensions, 2 latents, bernoulli, float32, q is the prior)
    """
    runner = _Runner(load_torch("foreign_from_torch"), _modules(decoder, encoder, module))
    if row_floats is None:
        row_floats = runner.saved_floats(decoder, latent_dim)
    return ForeignVAE(
        lambda z: runner.forward(decoder, z),
        latent_dim=latent_dim,
        data_dim=data_dim,
        likelihood=likelihood,
        encode=encoder and (lambda x: runner.values(encoder, x)),
        parameters={n: runner.to_numpy(p) for n, p in (parameters or {}).items()},
        dtype=runner.dtype,
        row_floats=row_floats,
    )


def _modules(*parts: Any) -> list[Any]:
    """Return the modules that the parts are, or are methods of."""
    torch = load_torch("foreign_from_torch")
    owners = [
        part if isinstance(part, torch.nn.Module) else getattr(part, "__self__", None)
        for part in parts
    ]
    if parts[-1] is not None and not isinstance(parts[-1], torch.nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {shown(parts[-1])}")
    return [owner for owner in owners if isinstance(owner, torch.nn.Module)]


class _Runner:
    """Calls of PyTorch functions on NumPy arrays, in evaluation mode and on one thread."""

    def __init__(self, torch: Any, modules: list[Any]) -> None:
        self.torch, self.modules = torch, modules
        tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        floats = [t for t in tensors if t.is_floating_point()]
        dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in floats}) or ["float32"]
        if len(dtypes) > 1 or dtypes[0] not in ("float32", "float64"):
            raise ValueError(
                f"module: expected parameters that are all float32 or all float64, got "
                f"{' and '.join(dtypes)}; convert it with module.float() or module.double()"
            )
        self.dtype = dtypes[0]
        self.device = floats[0].device if floats else torch.device("cpu")
        self._evaluation = _Shared(self._evaluate)

    def _evaluate(self) -> Callable[[], None]:
        """Put all modules into evaluation mode; return a function that restores their modes."""
        training = [m for root in self.modules for m in root.modules() if m.training]
        for module in training:
            module.training = False

        def restore():
            for module in training:
                module.training = True

        return restore

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Make the settings of a call; the end of inference mode enables gradients, too."""
        with one_thread(self.torch), self._evaluation, self.torch.inference_mode(False):
            yield

    def to_numpy(self, value: Any) -> Any:
        """Return the tensors of a tensor, or of a pair of tensors, as NumPy arrays."""
        if isinstance(value, (tuple, list)):
            return tuple(self.to_numpy(part) for part in value)
        tensor = isinstance(value, self.torch.Tensor)
        return value.detach().cpu().numpy() if tensor else value

    def _leaf(self, z: np.ndarray) -> Any:
        return self.torch.tensor(z, device=self.device, requires_grad=True)

    def forward(self, decoder: Callable, z: np.ndarray) -> tuple[Any, Callable]:
        """Return the outputs, and their pullback by autograd."""
        torch = self.torch
        with self._calling():
            leaf = self._leaf(z)
            out = decoder(leaf.clone())  # a module may work in place on a copy, but not on a leaf
        parts = out if isinstance(out, (tuple, list)) else [out]

        def pull(dout):
            douts = dout if isinstance(dout, tuple) else [dout]
            with one_thread(torch):
                given = [torch.tensor(d, device=self.device) for d in douts]
                (dz,) = torch.autograd.grad(parts, leaf, given)
            return self.to_numpy(dz)

        return self.to_numpy(out), pull

    def values(self, function: Callable, x: np.ndarray) -> Any:
        """Return the values of a function, without a gradient."""
        with self._calling(), self.torch.no_grad():
            return self.to_numpy(function(self.torch.tensor(x, device=self.device)))

    def saved_floats(self, decoder: Callable, latent_dim: int) -> int:
        """Return the floats of one row: three times what autograd keeps, gradients and all.

        It is the difference between six rows and two, so that the weights do not count.
        """
        sizes = []
        for rows in (2, 6):
            kept: dict[int, int] = {}

            def keep(tensor, kept=kept):
                kept[tensor.data_ptr()] = tensor.numel()
                return tensor

            z = np.zeros((rows, latent_dim), self.dtype)
            with self.torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                called("decode", lambda z: self.forward(decoder, z), z)
            sizes.append(sum(kept.values()))
        return _COPIES * max(0, sizes[1] - sizes[0]) // 4


class _Shared:
    """A state that several threads need at once: the first sets it, the last restores it."""

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        self._change, self._lock, self._count = change, threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._count:
                self._restore = self._change()
            self._count += 1

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._restore()
