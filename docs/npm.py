"""Download packages of the npm registry, each in a fixed version."""

import hashlib
import shutil
import subprocess
from pathlib import Path

__all__ = ["pack", "sha256"]


def pack(package: str, scratch: Path, need: str) -> Path:
    """Download a package, as "mathjax@3.2.2", into the folder `scratch`, and return its archive.

    Raises OSError if it cannot be had; `need` says what else the reader can do.
    """
    if (npm := shutil.which("npm")) is None:
        raise OSError(
            f"npm: expected this program, to download {package}; install Node.js with npm, {need}"
        )
    command = [npm, "pack", package, "--silent", "--pack-destination", str(scratch)]
    before = set(scratch.glob("*.tgz"))
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    made = set(scratch.glob("*.tgz")) - before
    if done.returncode or len(made) != 1:
        raise OSError(f"{package}: npm could not download it: {done.stderr.strip()}; {need}")
    return made.pop()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
