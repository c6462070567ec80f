"""Find the files of a data set in a folder, a cache or the network, and verify each of them.

A file is identified by the SHA-256 of its *decompressed* bytes: the plain file, the original
.gz and a .gz packed by another tool are then the same file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .idx import read_idx

__all__ = ["Source", "load_arrays"]


@dataclass(frozen=True)
class Source:
    """How the files of a data set are found and recognized.

    Parameters
    ----------
    name : str
        The name of the data set, used in messages.
    folders : tuple of str
        Names that its subfolder may have; the first is its place in the cache.
    mirrors : tuple of str
        Addresses of folders that hold the files with `.gz`, tried in this order.
    sha256 : dict
        File name -> SHA-256 of the decompressed bytes.
    """

    name: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


def load_arrays(
    source: Source, folder: str | os.PathLike[str] | None, download: bool
) -> list[np.ndarray]:
    """Return one array for each file of `source`, in its order.

    The search and the errors are those of `load_mnist`.
    """
    place = os.environ.get("NUMPYVAE_DATA") or None if folder is None else os.fspath(folder)
    root = None if place is None else Path(place).expanduser()
    # A subfolder comes first: the root may hold another data set under the same file names.
    searched = [root / name for name in (*source.folders, "")] if root else []
    cache = _cache_folder() / source.folders[0]
    if folder is None:
        searched.append(cache)

    paths = {file: _find(file, searched) for file in source.sha256}
    missing = [file for file, path in paths.items() if path is None]
    if missing and (folder is not None or not download):
        remedy = "allow the download" if folder is None else "leave folder out to download them"
        raise FileNotFoundError(
            f"{source.name}: expected {', '.join(missing)} (plain or .gz), found in none of "
            f"{', '.join(map(str, searched))}; put the files there, or {remedy}"
        )
    return [
        _download(source, file, cache) if path is None else _stored(source, file, path, cache)
        for file, path in paths.items()
    ]


def _cache_folder() -> Path:
    """Return this user's cache folder: XDG_CACHE_HOME, or what the platform uses."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification says to ignore a relative path
        return Path(xdg, "numpyvae")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.path.expanduser(base), "numpyvae")


def _find(file: str, folders: list[Path]) -> Path | None:
    # Many servers and tools write a dot in place of the last hyphen but one.
    names = (file, file.replace("-idx", ".idx"))
    suffixes = ("", ".gz")
    candidates = (
        folder / (n + suffix) for folder in folders for n in names for suffix in suffixes
    )
    return next((path for path in candidates if path.is_file()), None)


def _verified(source: Source, file: str, path: Path) -> np.ndarray:
    """Read one file and compare its hash, in one pass."""
    from hashlib import sha256

    digest = sha256()
    array = read_idx(path, digest=digest)
    if digest.hexdigest() != source.sha256[file]:
        raise ValueError(
            f"{path}: expected the {file} of {source.name}, with SHA-256 {source.sha256[file]} "
            f"when decompressed, found {digest.hexdigest()}"
        )
    return array


def _stored(source: Source, file: str, path: Path, cache: Path) -> np.ndarray:
    """Read a file that is there already. A bad one is removed only if the cache is its place."""
    try:
        return _verified(source, file, path)
    except ValueError as error:
        if path.parent == cache:
            path.unlink(missing_ok=True)
            remedy = "the cached file was removed, so call again to download it"
        else:
            remedy = f"replace it, or put the right files in a subfolder {source.folders[0]}"
        raise ValueError(f"{error}; {remedy}") from None


def _download(source: Source, file: str, cache: Path) -> np.ndarray:
    """Fetch one file from the first mirror that has the right bytes, and keep it in the cache.

    The cache only ever sees a verified file: a download lives in a scratch folder, which goes
    whatever happens, and the file moves out of it by a rename.
    """
    from tempfile import TemporaryDirectory

    elsewhere = "fetch the files yourself and name their folder in NUMPYVAE_DATA"
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"{source.name}: {file} is not on this machine and its download needs pooch; "
            f"pip install 'numpyvae[data]', or {elsewhere}"
        ) from None
    fetch = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=30)
    failures: list[str] = []
    kind: type[Exception] = OSError
    try:
        cache.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(dir=cache, prefix=".part-")
    except OSError as error:
        raise type(error)(
            f"{cache}: expected a folder to cache {source.name} in, got '{error.strerror}'; "
            f"point XDG_CACHE_HOME elsewhere, or {elsewhere}"
        ) from None
    with scratch as folder:
        path = Path(folder, file + ".gz")
        for mirror in source.mirrors:
            url = f"{mirror}/{path.name}"
            pooch.get_logger().info("Downloading %s", url)
            try:
                fetch(url, str(path), None)
                array = _verified(source, file, path)
                os.replace(path, cache / path.name)
                return array
            except OSError as error:
                failures.append(f"{url}: {error}")
            except ValueError as error:  # the mirror answered, with other bytes
                kind = ValueError
                failures.append(f"{url}: {str(error).removeprefix(f'{path}: ')}")
    raise kind(
        f"{source.name}: expected {file} from one of its mirrors, got {'; '.join(failures)}; "
        f"try again later, or {elsewhere}"
    )
