"""Locks on files, which end with the process that has them, however it ends.

A lock tells a process that works from one that was killed: what a killed process left behind has
no lock, and may be removed. A number of a process in a file would not tell, since numbers are used
again, and a folder may be shared by several machines.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked_folder", "remove_unlocked", "try_lock"]

_LOCK = ".lock"


def try_lock(handle: int) -> bool:
    """Lock an open file until it is closed, and tell whether that succeeded.

    Parameters
    ----------
    handle : int
        The file descriptor of a file that is open for writing.

    Returns
    -------
    locked : bool
        False if another open file, of this process or of another one, has the lock.

    Raises
    ------
    OSError
        If the file system has no locks.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as one, open(one.name, "r+b") as other:
    ...     try_lock(one.fileno()), try_lock(other.fileno())
    (True, False)
    """
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def remove_unlocked(folder: str | os.PathLike, prefix: str) -> None:
    """Remove the files of a folder whose names begin with `prefix` and that no process has locked.

    Files that cannot be removed stay.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, ".writing-1").touch()
    ...     remove_unlocked(folder, ".writing-")
    ...     os.listdir(folder)
    []
    """
    names: list[str] = []
    with suppress(OSError):
        names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    for name in names:
        path = os.path.join(folder, name)
        with suppress(OSError):
            if fcntl is None:  # Windows refuses to remove a file that is open
                os.unlink(path)
                continue
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if try_lock(handle):
                    os.unlink(path)
            finally:
                os.close(handle)


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Make the folder if it does not exist, and keep other processes from this block.

    At the end, folders that were made here and are empty are removed again.

    Raises
    ------
    OSError
        If the folder cannot be made or written, or another process is in such a block.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked_folder(Path(folder, "run")):
    ...     pass
    """
    made: list[Path] = []
    try:
        try:
            made += [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            lock = _lock(path / _LOCK)
        except BlockingIOError:
            raise
        except OSError as error:
            raise OSError(
                f"{path}: expected a folder that can be written, got "
                f"{error.strerror or error}; choose another with --output"
            ) from None
        try:
            yield
        finally:
            _unlock(path / _LOCK, lock)
    finally:
        for folder in made:
            with suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()


def _lock(path: Path) -> int:
    """Return the descriptor of a file that this process has locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = try_lock(handle)
        except OSError:  # a file system without locks
            locked = True
        if not locked:
            os.close(handle)
            raise BlockingIOError(
                f"{path.parent}: expected a run folder that no other process writes to, got one "
                "in use; wait until that run ends, or stop it"
            )
        with suppress(OSError):  # another process may have removed it before it was locked
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        os.close(handle)


def _unlock(path: Path, handle: int) -> None:
    with suppress(OSError):  # while it is locked: afterwards it may be the lock of another
        path.unlink()
    os.close(handle)
    if os.name == "nt":  # there an open file cannot be removed
        with suppress(OSError):
            path.unlink()
