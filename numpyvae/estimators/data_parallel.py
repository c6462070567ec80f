"""Data-parallel training: several processes compute the gradient of one minibatch together.

Each process, a *rank* of MPI, has the same model and draws the same minibatch x and noise ε. The
rows are cut into S shards of nearly equal size, whatever the number R of ranks, and each rank
computes S/R of them. With B_s rows in shard s and its objective f_s, a mean over these rows,

    f = Σ_s (B_s/B) f_s,    ∇f = Σ_s (B_s/B) ∇f_s

Floating-point addition is not associative, so the order of this sum must not depend on R. It is
that of a binary tree, with the shards as its leaves:

    ((s_0 + s_1) + (s_2 + s_3)) + ((s_4 + s_5) + (s_6 + s_7))

R is a power of two. A rank adds up the subtree of its own shards, and log2 R exchanges with a
partner add up the levels above it (an all-reduce by recursive doubling). Both partners have the
same bits after an exchange, since a + b = b + a, and therefore every R gives the same bits. A rank
sends P log2 R numbers in a step. `MPI_Allreduce` would send as many or fewer, but the order of its
sum is that of the MPI library; to gather the gradients of all shards and add them up in order, a
rank would receive P (S − S/R) numbers. (Thakur, Rabenseifner & Gropp 2005, "Optimization of
collective communication operations in MPICH", compare the methods.)
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.elbo import Estimate
from ..core.vae import VAE
from ..support.checks import check_batch, check_choice, check_count, shown
from .wrapping import Wrapping

__all__ = ["DataParallel", "world"]

_TAG = 2013  # of the messages of this module
_VALUES, _HEAD = 24, 32  # bytes of objective, reconstruction and KL; the same with the check


def world() -> Any:
    """Return the communicator of all ranks, `mpi4py.MPI.COMM_WORLD`.

    Raises
    ------
    ImportError
        If mpi4py, or the MPI that it needs, is not installed.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "DataParallel: expected mpi4py and an MPI library, which cannot be imported "
            f'({error}); pip install "numpyvae[mpi]" mpich'
        ) from error
    return MPI.COMM_WORLD


@dataclass(frozen=True)
class DataParallel(Wrapping):
    """Any estimator, whose minibatches are divided among the ranks of MPI: f = Σ_s (B_s/B) f_s.

    Every rank calls `fit` with the same arguments, and ends with the same parameters: the same
    bits for 1, 2, 4, … ranks, if all have the same processor and number of BLAS threads. In each
    step it is checked that the ranks have the same parameters and minibatch.

    An objective that is a mean over rows is the same as without shards, up to rounding. That of
    free bits has a maximum of a mean, which is taken over the rows of a shard.

    Parameters
    ----------
    estimator : Estimator
        Also one of your own, or a compiled one.
    comm : mpi4py.MPI.Comm, optional
        The ranks that work together, a power of two; `mpi4py.MPI.COMM_WORLD` if left out.
    n_shards : int
        S, a power of two and at least the number of ranks. Another S gives other last digits.

    Raises
    ------
    ImportError
        If `comm` is left out and mpi4py is not installed.
    TypeError, ValueError
        If an argument is of another kind or out of range; while it trains, if the ranks have other
        parameters or rows.
    ConnectionError
        If MPI finds that another rank is gone.

    Examples
    --------
    >>> fit(vae, x, epochs=20, estimator=DataParallel(Estimator()))      # doctest: +SKIP
    """

    comm: Any = field(default=None, repr=False, compare=False)
    n_shards: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        S = check_count("n_shards", self.n_shards)
        if S & (S - 1):
            raise ValueError(f"n_shards: expected a power of two, as 8, got {S}")
        comm = world() if self.comm is None else self.comm
        if not hasattr(comm, "Irecv"):
            raise TypeError(
                f"comm: expected a communicator of mpi4py, got {shown(comm)}; leave it out for "
                "all ranks"
            )
        R = comm.Get_size()
        if S % R:
            raise ValueError(
                f"comm: expected 1, 2, 4, … ranks, at most the {S} shards, got {R}; start another "
                "number, or take more shards"
            )
        object.__setattr__(self, "n_shards", S)
        object.__setattr__(self, "comm", comm)

    def __call__(self, vae: VAE, x: Any, eps: Any, update: str = "both") -> Estimate:
        x, eps = check_batch(vae, x, eps, K=self.n_importance)
        check_choice("update", update, ("both", "phi", "theta"))
        return self._estimated(self.estimator, vae, x, eps, update)

    def estimate(self, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str = "both") -> Estimate:
        return self._estimated(self.estimator.estimate, vae, x, eps, update)

    def _estimated(
        self, estimate: Callable, vae: VAE, x: np.ndarray, eps: np.ndarray, update: str
    ) -> Estimate:
        """Add up the shards of this rank, then those of the others."""

        def shard(s: int) -> _Sum:
            first, last = s * B // S, (s + 1) * B // S  # the same for every number of ranks
            part = _Sum(moving)
            if first < last:
                noise = np.ascontiguousarray(eps[:, first:last])
                part.set(estimate(vae, x[first:last], noise, update), update, (last - first) / B)
            return part

        def tree(first: int, count: int) -> _Sum:
            if count == 1:
                return shard(first)
            total = tree(first, count // 2)
            return total.add(tree(first + count // 2, count // 2))

        B, S, moving = len(x), self.n_shards, vae.parameters.part(update)
        rank, R = self.comm.Get_rank(), self.comm.Get_size()
        total = tree(rank * (S // R), S // R)
        total.check[0] = _fingerprint(vae, x, eps)
        distance = 1
        while distance < R:
            total.add(_exchanged(self.comm, total, rank ^ distance))
            distance *= 2
        gradient = vae.parameters.empty_gradient(update)
        gradient.part(update)[:] = total.gradient
        objective, reconstruction, kl = map(float, total.values)
        return Estimate(objective, reconstruction, kl, gradient)


class _Sum:
    """A sum over shards, as one message: objective, reconstruction, KL, a check, gradient."""

    def __init__(self, like: np.ndarray) -> None:
        self.buffer = np.zeros(_HEAD + like.nbytes, np.uint8)
        self.values = self.buffer[:_VALUES].view(np.float64)
        self.check = self.buffer[_VALUES:_HEAD].view(np.uint64)
        self.gradient = self.buffer[_HEAD:].view(like.dtype)

    def set(self, estimate: Estimate, update: str, share: float) -> None:
        """Take the estimate of a shard, with its share of the rows as weight."""
        self.values[:] = np.multiply(estimate[:3], share)
        np.multiply(estimate.gradient.part(update), share, out=self.gradient)

    def add(self, other: _Sum) -> _Sum:
        """Add another sum, and return this one."""
        self.values += other.values
        self.gradient += other.gradient
        return self


def _exchanged(comm: Any, mine: _Sum, partner: int) -> _Sum:
    """Return the sum of the partner, which receives this one.

    The loop ends as soon as both messages are done. Between its rounds Python handles signals, as
    that of Ctrl-C, which a blocking call of MPI would keep waiting.
    """
    theirs = _Sum(mine.gradient)
    requests = [
        comm.Irecv(theirs.buffer, source=partner, tag=_TAG),
        comm.Isend(mine.buffer, dest=partner, tag=_TAG),
    ]
    try:
        while not all([r.Test() for r in requests]):  # noqa: C419 (both make progress)
            time.sleep(0)  # where there are more ranks than cores, another one works
    except RuntimeError as error:  # mpi4py.MPI.Exception
        raise ConnectionError(
            f"comm: expected the gradient of rank {partner}, got an error of MPI ("
            f"{' '.join(str(error).split())}); start all ranks again"
        ) from error
    if theirs.check[0] != mine.check[0]:
        raise ValueError(
            f"comm: expected the same parameters and minibatch on all ranks, got others on ranks "
            f"{comm.Get_rank()} and {partner}; call fit on every rank with the same model, data "
            "and seed: each rank takes its shards of a minibatch by itself"
        )
    return theirs


def _fingerprint(vae: VAE, x: np.ndarray, eps: np.ndarray) -> int:
    """Return a number that differs, almost certainly, if a parameter, row or draw does.

    All parameters count, and the first and last rows of x and ε. It costs a pass over the
    parameters, a small part of what the optimizer needs.
    """
    words = np.bitwise_xor.reduce(vae.parameters.flat.view(np.uint32))
    parts = np.array([len(x), words], np.uint64), x[0], x[-1], eps[0, 0], eps[-1, -1]
    check = 0
    for part in parts:
        check = zlib.crc32(np.ascontiguousarray(part).tobytes(), check)
    return check
