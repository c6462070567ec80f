"""The files that the lab loads: Python, NumPy and this package, for a browser.

`write(folder)` makes them when the site is built. Pyodide (CPython for WebAssembly) and a build of
NumPy for it are taken from their npm packages, in fixed versions, verified by SHA-256. They and
the sources of numpyvae become one archive, in scripts of about a megabyte each. A page opened as
`file://` may not fetch a file, but it may load a script; so each script contains one part of the
archive as text (base64), and hands it to the page:

    numpyvaeLab.receive(0, "…")

The archive is 4 bytes with the length of its header, the header [[name, start, length], …] in
JSON, and the files; those whose name ends with .gz are compressed.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

import npm
import threadpoolctl

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# NumPy was compiled for the same Python and by the same version of Emscripten as this Pyodide.
PYODIDE = (
    "pyodide@0.27.7",
    "89d5d952675eb08e11286e52c7238f1248ce71726e896db9703e73bef23dc343",
)
NUMPY = (
    "@emscripten-forge/numpy@2.0.1-py312h4e66579-0",
    "7c6dab4b681b15286f10ab9972147f599d91df4ea881f61fb58ad39349423d84",
)
PYODIDE_FILES = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
# What `import numpy` does not need: its tests, headers and type stubs.
_LEFT_OUT = re.compile(
    r"/(tests|f2py|include|distutils|_pyinstaller|_examples|__pycache__)/|conftest"
    r"|_(simd|rational_tests|operand_flag_tests|struct_ufunc_tests|umath_tests)\."
    r"|\.(pyi|pxd|h|a|c)$"
)
# NumPy asks the C library for its callers before it reuses a large temporary array. WebAssembly
# has no list of callers, and Pyodide no such function; told of 0 callers, NumPy reuses nothing.
_IMPORTS = b"var wasmImports={"
_BACKTRACE = b"backtrace:()=>0,"
_PART = 3 << 18  # bytes of the archive in one script: a megabyte of base64
STAMP = "made-of.json"


def download(folder: Path) -> None:
    """Bring both npm packages into `folder`, each in a subfolder of its name, if not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, expected in (PYODIDE, NUMPY):
        archive = folder / f"{expected}.tgz"
        if archive.exists() and npm.sha256(archive) == expected:
            continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            found = npm.pack(package, Path(scratch), "or build the site where it is")
            if (got := npm.sha256(found)) != expected:
                raise OSError(f"{package}: expected SHA-256 {expected}, got {got}; not used")
            found.replace(archive)


def pyodide_files(folder: Path) -> dict[str, bytes]:
    """Return the files of Pyodide that are needed, from the archive in `folder`."""
    with tarfile.open(folder / f"{PYODIDE[1]}.tgz") as tar:
        files = {n: tar.extractfile(f"package/{n}").read() for n in PYODIDE_FILES}
        lock = json.load(tar.extractfile("package/pyodide-lock.json"))
    before, found, after = files["pyodide.asm.js"].partition(_IMPORTS)
    if not found:
        raise ValueError(f"pyodide.asm.js: expected {_IMPORTS.decode()!r} in it; see _BACKTRACE")
    files["pyodide.asm.js"] = before + _IMPORTS + _BACKTRACE + after
    lock["packages"] = {}  # none of these can be downloaded without a network
    return files | {"pyodide-lock.json": json.dumps(lock).encode()}


def numpy_files(folder: Path) -> dict[str, bytes]:
    """Return the files of NumPy, by their path in site-packages."""
    with tarfile.open(folder / f"{NUMPY[1]}.tgz") as tar:
        name = next(n for n in tar.getnames() if n.endswith(".tar.gz"))
        inner = io.BytesIO(tar.extractfile(name).read())
    files = {}
    with tarfile.open(fileobj=inner) as tar:
        for member in tar:
            _, found, path = member.name.partition("/site-packages/")
            if found and member.isfile() and not _LEFT_OUT.search(f"/{path}"):
                files[path] = tar.extractfile(member).read()
    return files


def own_files() -> dict[str, bytes]:
    """Return the sources and data of numpyvae, of threadpoolctl, and of the lab's functions.

    `threadpoolctl`, one file in Python, is one of numpyvae's requirements, and so it is here.
    """
    found = {"threadpoolctl.py": Path(threadpoolctl.__file__).read_bytes()}
    for folder, place in ((ROOT / "numpyvae", ROOT), (HERE / "numpyvae_lab", HERE)):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".npz", ".csv"):
                found[path.relative_to(place).as_posix()] = path.read_bytes()
    return found


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive whose bytes depend on nothing but the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def packed(files: dict[str, bytes]) -> bytes:
    """Return the archive of the module's docstring; what gzip makes smaller is compressed."""
    head, parts, start = [], [], 0
    for name, data in files.items():
        if not name.endswith(".zip"):
            name, data = f"{name}.gz", gzip.compress(data, 9, mtime=0)
        head.append([name, start, len(data)])
        parts.append(data)
        start += len(data)
    header = json.dumps(head).encode()
    return b"".join([len(header).to_bytes(4, "little"), header, *parts])


def write(folder: Path, downloads: Path) -> None:
    """Write the scripts part-0.js … and worker-source.js into `folder`, if they are not there.

    Raises OSError if the npm packages cannot be downloaded.
    """
    own, worker = own_files(), (HERE / "worker.js").read_text("utf-8")
    sources = hashlib.sha256(repr(sorted(own.items())).encode() + worker.encode()).hexdigest()
    made_of = json.dumps([PYODIDE, NUMPY, _BACKTRACE.decode(), sources])
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text("utf-8") == made_of:
        return
    download(downloads)
    packages = {"numpy.zip": zipped(numpy_files(downloads)), "numpyvae.zip": zipped(own)}
    archive = packed(pyodide_files(downloads) | packages)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("part-*.js"), stamp):
        old.unlink(missing_ok=True)
    for i, start in enumerate(range(0, len(archive), _PART)):
        text = base64.b64encode(archive[start : start + _PART]).decode()
        (folder / f"part-{i}.js").write_text(f'numpyvaeLab.receive({i}, "{text}");\n')
    source = f"numpyvaeLab.workerSource = {json.dumps(worker)};\n"
    (folder / "worker-source.js").write_text(source, "utf-8")
    stamp.write_text(made_of, "utf-8")
