"""Run the tests of the core in Node.js, by the Python and NumPy of the lab's pages.

    python .ci/pyodide.py FOLDER [TEST …]

FOLDER receives the runtime, the package and pytest. SciPy is not there, and file descriptors
cannot be captured: the tests that need one of these are skipped.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs" / "lab")]

import runtime  # noqa: E402

DOWNLOADS = ROOT / "docs" / "_build" / "generated" / "npm"  # where the build of the site looks
TESTS = (
    *("test_parameters.py", "test_layers.py", "test_distributions.py", "test_likelihoods.py"),
    *("test_vae.py", "test_elbo.py", "test_optimizers.py", "test_training.py"),
)
RUN = '''
"""Run pytest; what the tests import from SciPy skips the test that calls it."""
import sys
import types

import pytest


class Absent(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")

    def __call__(self, *args, **kwargs):
        pytest.skip(f"{self.__name__} is not in the browser")


for name in ("scipy", "scipy.special", "scipy.stats", "scipy.integrate", "scipy.optimize"):
    sys.modules[name] = Absent(name)


class NoDescriptors:
    """Skip what captures file descriptors, which Pyodide cannot duplicate."""

    def pytest_collection_modifyitems(self, items):
        for item in items:
            if "capfd" in item.fixturenames:
                item.add_marker(pytest.mark.skip(reason="file descriptors cannot be captured"))


options = ["-p", "no:cacheprovider", "--capture=sys", "-c", "setup.cfg"]
sys.exit(pytest.main([*options, *sys.argv[1:]], plugins=[NoDescriptors()]))
'''


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def prepare(folder: Path) -> None:
    runtime.download(DOWNLOADS)
    put(folder / "pyodide", runtime.pyodide_files(DOWNLOADS))
    files = folder / "files"
    put(files / "site-packages", runtime.numpy_files(DOWNLOADS))
    put(files, runtime.own_files())
    names = ["setup.cfg", *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("tests/*.py"))]
    put(files, {name: (ROOT / name).read_bytes() for name in names})
    put(files, {"run.py": RUN.encode()})
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-compile",
        "--python-version",
        "3.12",
    ]
    pip += ["--only-binary", ":all:", "--platform", "any", "--target"]
    subprocess.run([*pip, files / "site-packages", "pytest", "hypothesis"], check=True)


def main() -> int:
    folder, *tests = sys.argv[1:]
    prepare(Path(folder))
    tests = tests or [f"tests/{name}" for name in TESTS]
    command = ["node", ROOT / ".ci" / "pyodide.mjs", folder, "run.py", *tests]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
