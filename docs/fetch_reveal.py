"""Download reveal.js when the site is built: it turns the pages of the slides with the keys.

It is taken from its npm package, in a fixed version; each file is verified by its SHA-256.
"""

import tarfile
import tempfile
from pathlib import Path

import npm

PACKAGE = "reveal.js@6.0.2"
FILES = {
    "dist/reveal.js": "aa1bbbf2617b23a623b23612cb3c5bdb63de512e652bf20fcfa832b045d37844",
    "dist/reveal.css": "615ee850cbbb98a0f688b60ed37b21819a3f54c9f3e6f20e33e63693ab74a0c0",
    "dist/plugin/notes.js": "447c42f365876e41853de81453d0c53c580c5b2099132e8f61200de4a0ba2af3",
    "LICENSE": "b2883e4b610bfa1b4d8fff84c4d4b825cc7d553cbd9fec4777c04068a2859dc0",
}


def fetch(folder: Path) -> None:
    """Put the files into `folder`; download them if one is missing."""
    if all(_is_right(folder, member) for member in FILES):
        return
    with tempfile.TemporaryDirectory() as scratch:
        need = f"or put its files {', '.join(Path(m).name for m in FILES)} into {folder}"
        with tarfile.open(npm.pack(PACKAGE, Path(scratch), need)) as tar:
            folder.mkdir(parents=True, exist_ok=True)
            for member in FILES:
                data = tar.extractfile(f"package/{member}").read()
                (folder / Path(member).name).write_bytes(data)
    for member in FILES:
        if not _is_right(folder, member):
            (folder / Path(member).name).unlink()
            raise OSError(
                f"{PACKAGE}, {member}: not the file with SHA-256 {FILES[member]}; not used"
            )


def _is_right(folder: Path, member: str) -> bool:
    path = folder / Path(member).name
    return path.exists() and npm.sha256(path) == FILES[member]
