"""Calls of PyTorch code that leave no trace: whatever a call changes is put back after it.

A user's loss is often a function that knows the module, so that a copy of the module would not
reach it. The module itself is called, with parameters of another dtype put in for the time of the
call, and with random numbers of the clinic's own.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from .torch_draws import draws_of

__all__ = ["Session", "load_torch", "one_thread"]

STILL, TRAIN, EVAL = "still", "train", "eval"  # modes of a session
_RANDOM = ("_DropoutNd", "Dropout")  # names of layers whose output is random


def load_torch(caller: str) -> Any:
    """Import PyTorch, which only users of it need.

    Parameters
    ----------
    caller : str
        For the message.

    Returns
    -------
    torch : module

    Raises
    ------
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> load_torch("foreign_from_torch").__name__
    'torch'
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f'{caller}: expected PyTorch, which is not installed; pip install "numpyvae[torch]"'
        ) from error
    return torch


class Session:
    """The modules of a user, called in one dtype with random numbers of their own.

    Parameters
    ----------
    torch : module
    roots : sequence of torch.nn.Module
    dtype : {"float64", "float32"}

    Attributes
    ----------
    mode : {"still", "train", "eval"}
        "still" is training without the layers whose output is random or depends on other rows:
        dropout is off, and batch normalization uses its running statistics. In "train" dropout is
        off.
    no_dropout : bool
        Whether also functions of dropout are off.

    Examples
    --------
    >>> import torch
    >>> session = Session(torch, [torch.nn.Linear(2, 1)], "float64")
    >>> with session.calling():
    ...     [p.dtype for p in session.parameters.values()]
    [torch.float64, torch.float64]
    >>> session.parameters["bias"].dtype
    torch.float32
    """

    def __init__(self, torch: Any, roots: Sequence[Any], dtype: str) -> None:
        self.torch, self.dtype, self.mode, self.no_dropout = torch, dtype, STILL, False
        self.modules = list(dict.fromkeys(m for root in roots for m in root.modules()))
        named = [(n, p) for root in roots for n, p in root.named_parameters()]
        self.parameters: dict[str, Any] = {}
        for name, p in named:
            if not any(p is other for other in self.parameters.values()):
                self.parameters[name if name not in self.parameters else f"{name}_"] = p
        tensors = [*self.parameters.values(), *(b for m in self.modules for b in m.buffers(False))]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        self._own = {n: self._converted(p.data) for n, p in self.parameters.items()}
        self._flat = np.concatenate([self.to_numpy(p).ravel() for p in self._own.values()] or [[]])
        self._random: Any = 0  # a seed, or the state after the last call

    @property
    def unsteady(self) -> list[str]:
        """The classes of layers that "still" switches off."""
        off = [m for m in self.modules if _is_random(m) or _has_statistics(m)]
        return sorted({type(m).__name__ for m in off})

    @property
    def has_statistics(self) -> bool:
        """Whether there are layers that use statistics of the batch in training."""
        return any(map(_has_statistics, self.modules))

    def _converted(self, tensor: Any) -> Any:
        floating = tensor.is_floating_point()
        return tensor.detach().to(getattr(self.torch, self.dtype) if floating else tensor.dtype)

    def tensor(self, array: Any) -> Any:
        """Return an array, or each array of a pair, as a tensor of the session."""
        if isinstance(array, tuple):
            return tuple(self.tensor(a) for a in array)
        if not isinstance(array, np.ndarray):
            return array
        return self._converted(self.torch.tensor(array, device=self.device))

    def to_numpy(self, value: Any) -> Any:
        """Return the tensors of a tensor, a list or a tuple as NumPy arrays."""
        if isinstance(value, (tuple, list)):
            return tuple(self.to_numpy(part) for part in value)
        return value.detach().cpu().numpy() if isinstance(value, self.torch.Tensor) else value

    @contextmanager
    def calling(self, *, grad: bool = False, draws: Any = None) -> Iterator[None]:
        """Make the settings of a call, and restore everything after it."""
        torch = self.torch
        with ExitStack() as stack:
            stack.enter_context(one_thread(torch))
            stack.enter_context(_default_dtype(torch, getattr(torch, self.dtype)))
            stack.enter_context(_kept_random(self))
            stack.enter_context(_kept_modules(self.modules, self.parameters))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(grad))
            self._put_in()
            if draws is None and self.no_dropout and self.mode != EVAL:
                draws = draws_of(torch)(no_dropout=True)
            if draws is not None:
                stack.enter_context(draws)
            yield

    def _put_in(self) -> None:
        """Put in the parameters and buffers of this session, and its mode."""
        for module in self.modules:
            off = _is_random(module) or (self.mode == STILL and _has_statistics(module))
            module.training = self.mode != EVAL and not off
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self._converted(buffer).clone()
        for name, p in self.parameters.items():
            p.grad = None
            p.data = self._own[name]

    def seed(self, number: int) -> None:
        """Seed the random numbers of the next call."""
        self._random = int(number)

    def get(self) -> np.ndarray:
        """Return the parameters as a flat vector, in their order."""
        return self._flat.copy()

    def set(self, vector: np.ndarray) -> None:
        """Replace the parameters; only tensors that change are written."""
        start = 0
        changed = np.flatnonzero(self._flat != vector)
        for name, p in self._own.items():
            stop = start + p.numel()
            low, high = np.searchsorted(changed, (start, stop))
            if high > low:
                # a few numbers are written one by one: a copy of all takes longer
                index = changed[low:high]
                values = self.torch.tensor(vector[index], device=p.device, dtype=p.dtype)
                places = self.torch.tensor(index - start, device=p.device)
                self._own[name] = p = p.clone() if not p.is_contiguous() else p
                p.view(-1)[places] = values
            start = stop
        self._flat[changed] = vector[changed]

    def gradient(self, value: Any) -> dict[str, np.ndarray]:
        """Return the gradient of a value in all parameters, by name."""
        tensors = list(self.parameters.values())
        free = [p for p in tensors if p.requires_grad]
        parts = iter(self.torch.autograd.grad(value, free, allow_unused=True))
        found = {n: next(parts) if p.requires_grad else None for n, p in self.parameters.items()}
        zero = self.torch.zeros_like
        return {
            n: self.to_numpy(zero(p) if found[n] is None else found[n])
            for n, p in self.parameters.items()
        }


def _is_random(module: Any) -> bool:
    return any(c.__name__ in _RANDOM for c in type(module).__mro__)


def _has_statistics(module: Any) -> bool:
    return hasattr(module, "running_mean")


@contextmanager
def _default_dtype(torch: Any, dtype: Any) -> Iterator[None]:
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(kept)


@contextmanager
def _kept_modules(modules: list[Any], parameters: dict[str, Any]) -> Iterator[None]:
    """Restore the attributes, parameters and buffers of modules."""
    attributes = [(m, dict(m.__dict__)) for m in modules]
    tables = [
        (table, dict(table)) for m in modules for table in (m._parameters, m._buffers, m._modules)
    ]
    kept = [(p, p.data, p.grad, p.requires_grad) for p in parameters.values()]
    try:
        yield
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)
        for table, before in tables:
            table.clear()
            table.update(before)
        for p, data, grad, requires_grad in kept:
            p.grad = None
            p.data, p.grad = data, grad
            p.requires_grad_(requires_grad)


def _states(torch: Any) -> tuple[Any, ...]:
    """The states of all global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()  # noqa: NPY002


@contextmanager
def _kept_random(session: Session) -> Iterator[None]:
    """Use the random state of the session, and restore that of the user."""
    torch = session.torch
    kept = _states(torch)
    try:
        _enter(torch, session._random)
        yield
    finally:
        session._random = _states(torch)
        _enter(torch, kept)


def _enter(torch: Any, state: Any) -> None:
    """Set all global generators, to a state or by a seed."""
    if isinstance(state, int):
        torch.default_generator.manual_seed(state)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(state)
        np.random.seed(state % 2**32)  # noqa: NPY002
        random.seed(state)
        return
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state_all(state[1])
    np.random.set_state(state[2])  # noqa: NPY002
    random.setstate(state[3])


class _OneThread:
    """One PyTorch thread for the calling thread; others may be inside at the same time.

    The number belongs to each thread, but a new thread takes the last one that any thread set.
    So each thread sets it, and each restores what it was before the first of them came.
    """

    def __init__(self) -> None:
        self._lock, self._count, self._before = threading.Lock(), 0, 1

    @contextmanager
    def __call__(self, torch: Any) -> Iterator[None]:
        with self._lock:
            if not self._count:
                self._before = torch.get_num_threads()
            self._count += 1
            torch.set_num_threads(1)
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                torch.set_num_threads(self._before)


one_thread = _OneThread()
