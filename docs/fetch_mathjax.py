"""Download MathJax when the site is built, so that no network is needed to read the site.

It is taken from the npm package of MathJax, in a fixed version, and verified by its SHA-256. One
file contains all that the site needs: the TeX input, the SVG output and the fonts as paths.
"""

import tarfile
import tempfile
from pathlib import Path

import npm

PACKAGE = "mathjax@3.2.2"
SCRIPT = "tex-svg.js"
SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"


def fetch(folder: Path) -> Path:
    """Return the path of the script in `folder`; download it if it is missing."""
    script = folder / SCRIPT
    if script.exists() and npm.sha256(script) == SHA256:
        return script
    with tempfile.TemporaryDirectory() as scratch:
        need = f"or put {SCRIPT} of that package into {folder}"
        with tarfile.open(npm.pack(PACKAGE, Path(scratch), need)) as tar:
            folder.mkdir(parents=True, exist_ok=True)
            for member in (f"package/es5/{SCRIPT}", "package/LICENSE"):
                (folder / Path(member).name).write_bytes(tar.extractfile(member).read())
    if (found := npm.sha256(script)) != SHA256:
        script.unlink()
        raise OSError(f"{PACKAGE}, {SCRIPT}: expected SHA-256 {SHA256}, got {found}; not used")
    return script
