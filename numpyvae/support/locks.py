"""Locks on files, which end with the process that has them, however it ends.

A lock tells a process that works from one that was killed: what a killed process left behind has
no lock, and may be removed. A number of a process in a file would not tell, since numbers are used
again, and a folder may be shared by several machines.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["remove_unlocked", "try_lock"]


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
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
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
