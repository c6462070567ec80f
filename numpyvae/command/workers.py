"""Where `evaluate` works: on threads, on processes, or on the workers of a Dask cluster."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import __version__
from ..support.blas import blas_threads
from ..support.parallel import default_jobs
from .usage import UsageError

__all__ = ["BACKENDS", "workers"]

BACKENDS = ("threads", "processes", "dask")
_PATIENCE = 10  # seconds until a scheduler must have answered


@contextmanager
def workers(backend: str, n_jobs: int | None, scheduler: str | None) -> Iterator[None]:
    """Let every parallel map in the block work on `n_jobs` workers of one BLAS thread each.

    Parameters
    ----------
    backend : {"threads", "processes", "dask"}
    n_jobs : int, optional
        By default the number of BLAS threads, and with Dask all cores of the cluster.
    scheduler : str, optional
        The address of the Dask scheduler.

    Raises
    ------
    UsageError
        If the backend is Dask without a scheduler, or the other way around.
    ImportError
        If Dask is not installed here.
    OSError
        If no scheduler answers, or it has no workers.
    ValueError
        If the address is malformed, or a worker has other versions.
    """
    if (backend == "dask") != (scheduler is not None):
        expected = "together with --scheduler ADDRESS" if scheduler is None else "--backend dask"
        given = "--backend dask" if scheduler is None else "--scheduler"
        raise UsageError(f"{given}: expected {expected}, got none")
    if backend == "dask":
        with (
            _client(scheduler) as client,
            blas_threads(1),
            _configured(backend="dask", client=client, n_jobs=n_jobs),
        ):
            yield
        return
    n_jobs = n_jobs or default_jobs()
    with blas_threads(1):  # also for what is not a parallel map: the same bits for any number
        if n_jobs == 1:  # without joblib, which takes a while to import
            yield
            return
        name = "loky" if backend == "processes" else "threading"
        with _configured(backend=name, n_jobs=n_jobs):
            yield


def _configured(**settings: Any) -> Any:
    from joblib import parallel_config

    return parallel_config(**settings)


@contextmanager
def _client(scheduler: str | None) -> Iterator[Any]:
    """Yield a client of the scheduler, if its workers have the same versions."""
    try:
        import logging

        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError:
        raise ImportError(
            "--backend dask: expected the package distributed, got none; pip install "
            "'numpyvae[dask]', here and on every machine of the cluster"
        ) from None
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        get_address_host_port(scheduler)
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except OSError:
        raise ConnectionError(
            f"--scheduler: expected the address of a Dask scheduler, got {scheduler}, where none "
            f"answers within {_PATIENCE} seconds; start one with `dask scheduler`, which prints "
            "its address"
        ) from None
    except ValueError as error:
        raise ValueError(
            "--scheduler: expected an address as tcp://127.0.0.1:8786, got "
            f"{scheduler!r} ({error})"
        ) from None
    with client:
        _check_versions(client)
        yield client


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), "NumPy": np.__version__, "numpyvae": __version__}


def _check_versions(client: Any) -> None:
    """Raise ValueError if a worker has another version of what the figures depend on."""
    expected = _versions()
    for address, got in client.run(_versions, on_error="return").items():
        if got != expected:
            if isinstance(got, dict):
                got = _listed(got)
            raise ValueError(
                f"--scheduler: expected {_listed(expected)} on each worker, got {got} on "
                f"{address}; install the same versions there"
            )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
