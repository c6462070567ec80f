"""Download MathJax when the site is built, so that no network is needed to read the site.

It is taken from the npm package of MathJax, in a fixed version, and verified by its SHA-256. One
file contains all that the site needs: the TeX input, the SVG output and the fonts as paths.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "mathjax@3.2.2"
SCRIPT = "tex-svg.js"
SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"


def fetch(folder: Path) -> Path:
    """Return the path of the script in `folder`; download it if it is missing."""
    script = folder / SCRIPT
    if script.exists() and _sha256(script) == SHA256:
        return script
    if (npm := shutil.which("npm")) is None:
        raise OSError(
            f"npm: expected this program, to download {PACKAGE}; install Node.js with npm, or put "
            f"{SCRIPT} of that package into {folder}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", scratch]
        subprocess.run(command, check=True, cwd=scratch, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as tar:
            folder.mkdir(parents=True, exist_ok=True)
            for member in (f"package/es5/{SCRIPT}", "package/LICENSE"):
                (folder / Path(member).name).write_bytes(tar.extractfile(member).read())
    if (found := _sha256(script)) != SHA256:
        script.unlink()
        raise OSError(f"{PACKAGE}, {SCRIPT}: expected SHA-256 {SHA256}, got {found}; not used")
    return script


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
