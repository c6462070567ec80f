"""What imports what: each folder imports only from folders below it, and the core from NumPy."""

import ast
import doctest
import functools
import importlib
import inspect
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest

import numpyvae
from numpyvae.support.streams import Purpose, stream

ROOT = Path(numpyvae.__file__).parent

# Each folder imports only from folders above it in this list.
FOLDERS = [
    "support",
    "core",
    "weights",
    "datasets",
    "estimators",
    "fast",
    "exact",
    "bounds",
    "inference",
    "diagnostics",
    "equations",
    "clinic",
    "plotting",
    "experiments",
    "command",
    "sklearn",
]
# Inside `core`, each file imports only from files above it.
CORE_FILES = [
    "parameters",
    "layers",
    "distributions",
    "likelihoods",
    "vae",
    "elbo",
    "optimizers",
    "training",
]
NUMPY_ALONE = {"support", "core", "datasets"}
ENTRIES = {"__init__", "__main__"}  # these only hand on what the folders define

# Beside NumPy and the standard library, and who may import it, wherever in the file.
THIRD_PARTY = {
    "scipy": {"fast", "exact", "bounds", "inference", "diagnostics", "equations"},
    "matplotlib": {"plotting"},
    "tqdm": {"support"},
    "pooch": {"datasets"},
    "PIL": {"datasets"},
    "numba": {"fast"},
    "torch": {"clinic"},
    "jax": {"clinic"},
    "keras": {"clinic"},
    "sklearn": {"sklearn"},
    "safetensors": {"weights"},
    "threadpoolctl": {"support", "command"},
    "joblib": {"support", "command"},
    "cloudpickle": {"support"},
    "dask": {"support"},
    "distributed": {"support", "command"},
    "pytest": {"clinic"},
    "mpi4py": {"estimators"},
    "shtab": {"command"},
}
IN_A_FUNCTION = {
    "tqdm",
    "pooch",
    "PIL",
    "threadpoolctl",
    "joblib",
    "cloudpickle",
    "dask",
    "distributed",
    "numba",
    "torch",
    "jax",
    "keras",
    "pytest",
    "mpi4py",
    "shtab",
    "safetensors",
}  # never when the module is imported
# These import Numba or SciPy at their top, and are themselves imported in functions alone.
COMPILED = {
    f"fast/{name}.py"
    for name in (
        *("compiling", "decoding", "densities", "evaluation", "networks"),
        *("optimizer_kernels", "posterior", "scalars", "whole"),
    )
}
WITH_NUMBA = {f"numpyvae.{path.removesuffix('.py').replace('/', '.')}" for path in COMPILED}

MODULES = {
    path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in sorted(ROOT.rglob("*.py"))
}


TO_IMPORT = [path for path in MODULES if path.name != "__main__.py"]  # that one runs the command


def name_of(path):
    """`numpyvae.datasets` for datasets/__init__.py, as Python imports it."""
    return MODULES[path].removesuffix(".__init__")


def folder(module):
    """The folder of `numpyvae.folder.anything`, None for what is outside the package."""
    top, _, rest = module.partition(".")
    if top != "numpyvae":
        return None
    return rest.partition(".")[0] or "__init__"


class Imports(ast.NodeVisitor):
    """Collect (imported module, under TYPE_CHECKING, inside a function) of a source text."""

    def __init__(self, package, source):
        self.package = package.split(".")
        self.found, self.types, self.function = [], False, False
        self.visit(ast.parse(source))

    def add(self, module):
        self.found.append((module, self.types, self.function))

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name)

    def visit_ImportFrom(self, node):
        if node.level:
            base = self.package[: len(self.package) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
        else:
            module = node.module
        for alias in node.names:  # `from . import plotting` imports a module, not a name
            inner = ROOT.parent.joinpath(*module.split("."), alias.name)
            is_module = inner.with_suffix(".py").exists() or (inner / "__init__.py").exists()
            self.add(f"{module}.{alias.name}" if is_module else module)

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("import_module", "__import__"):
            text = ast.unparse(node.args[0]).strip("f'\"")
            self.add(".".join(self.package) if text.startswith(".") else text)
        self.generic_visit(node)

    def visit_If(self, node):
        before = self.types
        self.types = before or "TYPE_CHECKING" in ast.dump(node.test)
        for child in node.body:
            self.visit(child)
        self.types = before
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node):
        before, self.function = self.function, True
        self.generic_visit(node)
        self.function = before

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef


read_imports = functools.cache(Imports)


def imports():
    """Yield (importing file, its folder, imported module, under TYPE_CHECKING, in a function)."""
    for path, name in MODULES.items():
        package, _, _ = name.rpartition(".")
        for found in read_imports(package, path.read_text(encoding="utf-8")).found:
            yield (path.relative_to(ROOT).as_posix(), folder(name_of(path)), *found)


def test_every_folder_has_its_place():
    # kills: a module that stands nowhere in the order
    assert {folder(name) for name in MODULES.values()} - ENTRIES == set(FOLDERS)


def test_folders_import_only_from_folders_above():
    # kills: a circle, and a lower folder that imports from a higher one, late or for types alone
    seen = 0
    for path, here, module, _, _ in imports():
        there = folder(module)
        if there is None or here in ENTRIES or here == there:
            continue
        if there == "__init__":  # the version, and no more, is the package's own
            assert here == "command", f"{path} imports the whole package"
            continue
        seen += 1
        assert FOLDERS.index(there) < FOLDERS.index(here), f"{path} imports {module}"
    assert seen > 40


def test_the_files_of_the_core_are_read_from_top_to_bottom():
    # kills: a ninth file, a file of the core that imports from a later one, and a late import
    assert {path.stem for path in ROOT.glob("core/*.py")} == {"__init__", *CORE_FILES}
    for path, here, module, _, in_function in imports():
        if here != "core" or path == "core/__init__.py":
            continue
        assert not in_function, f"{path} imports {module} in a function"
        if folder(module) == "core":
            order = CORE_FILES.index(module.split(".")[2]), CORE_FILES.index(Path(path).stem)
            assert order[0] < order[1], f"{path} imports {module}"


def test_the_pages_name_the_folders_and_files_in_the_tested_order():
    # kills: an order on a page that is not the tested one, and a folder that a page leaves out
    if not (ROOT.parent / "CONTRIBUTING.md").exists():
        pytest.skip("needs the repository, which contains the pages")
    contributing = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = contributing.partition("checks the order.")[2].partition("The core")[0]
    assert re.findall(r"`(\w+)`", listed) == FOLDERS
    for page in ("README.md", "docs/architecture.md", "CONTRIBUTING.md"):
        text = (ROOT.parent / page).read_text(encoding="utf-8")
        assert [
            f for f in FOLDERS if not re.search(rf"`(numpyvae[./])?{f}/?( <[^>]*>)?`", text)
        ] == [], page
        places = [
            re.search(rf"`(numpyvae\.core\.)?{f}(\.py)?( <[^>]*>)?`", text) for f in CORE_FILES
        ]
        assert all(places), page
        starts = [place.start() for place in places]
        assert starts == sorted(starts), page


# How much there is to read.

MOST = {  # lines of code and words of each file of the core, docstrings in the words alone
    "parameters": (70, 693),
    "layers": (75, 798),
    "distributions": (82, 1070),
    "likelihoods": (172, 1249),
    "vae": (170, 1519),
    "elbo": (95, 1287),
    "optimizers": (121, 1146),
    "training": (163, 1238),
}
IN_AN_HOUR = 949, 9000  # lines of code and words of all eight files


def lines_of_code(source):
    """The lines of `source` that are code: no docstrings, comments or blank lines."""
    docstrings, lines = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            docstrings |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in quiet and token.string:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def test_the_core_is_read_in_an_hour():
    # kills: a file that grows past what a reader has time for
    total = np.zeros(2, int)
    for name in CORE_FILES:
        source = (ROOT / "core" / f"{name}.py").read_text(encoding="utf-8")
        size = len(lines_of_code(source)), len(source.split())
        total += size
        grown = [most < now for now, most in zip(size, MOST[name], strict=True)]
        assert not any(grown), f"core/{name}.py has {size[0]} lines and {size[1]} words"
    assert (total <= IN_AN_HOUR).all(), f"the core has {total[0]} lines and {total[1]} words"


def functions():
    """Yield (where, function node, its lines of code) for every function of the package."""
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        code = lines_of_code(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                span = set(range(node.lineno, node.end_lineno + 1))
                yield f"{path.relative_to(ROOT).as_posix()}: {node.name}", node, len(span & code)


def test_no_function_is_long_or_has_many_parameters():
    # kills: a function that does not fit on a screen, and a call that nobody can remember
    for where, node, code in functions():
        a = node.args
        count = len(a.posonlyargs + a.args + a.kwonlyargs) - (
            bool(a.args) and a.args[0].arg == "self"
        )
        assert code <= 60, f"{where} has {code} lines of code"
        assert count <= 13, f"{where} has {count} parameters"


def test_the_gradient_of_the_elbo_is_read_in_few_lines(monkeypatch):
    # kills: one more file, or one more hop, between `elbo_and_grad` and its last callee
    vae = numpyvae.VAE(4, 2, (3,))
    x, eps = np.eye(4, dtype=np.float32), np.zeros((1, 4, 2), np.float32)
    met = set()
    elbo = importlib.import_module("numpyvae.core.elbo")
    monkeypatch.setattr(elbo, "check_batch", lambda vae, x, eps: (x, eps))  # the mathematics alone

    def watch(frame, event, _):
        name = frame.f_code.co_filename
        if event == "call" and f"{os.sep}core{os.sep}" in name and "numpyvae" in name:
            met.add((name, frame.f_code.co_firstlineno))

    sys.setprofile(watch)
    try:
        numpyvae.elbo_and_grad(vae, x, eps)
    finally:
        sys.setprofile(None)
    lines = {}
    for name in {name for name, _ in met}:
        source = Path(name).read_text(encoding="utf-8")
        code = lines_of_code(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (name, node.lineno) in met:
                span = set(range(node.lineno, node.end_lineno + 1))
                lines.setdefault(Path(name).stem, set()).update(span & code)
    # Four files have the mathematics; of the other two, `parameters` has the views of the flat
    # vector, and `likelihoods` the line that hands the logits to their density. The logarithms of
    # `support.special` stand where NumPy's could.
    files = {"parameters", "layers", "distributions", "likelihoods", "vae", "elbo"}
    assert set(lines) == files
    assert len(lines["likelihoods"]) <= 4
    assert sum(len(lines[f]) for f in files - {"parameters", "likelihoods"}) <= 107


def test_the_core_needs_numpy_and_the_standard_library_alone():
    """Kills a dependency that creeps in."""
    for path, here, module, _, in_function in imports():
        top = module.partition(".")[0]
        if top in ("numpyvae", "numpy") or top in sys.stdlib_module_names:
            continue
        assert top in THIRD_PARTY, f"{path} imports {module}"
        assert here in THIRD_PARTY[top], f"{path} imports {module}"
        late = top in IN_A_FUNCTION or here in {*NUMPY_ALONE, "fast"}
        if late and path not in COMPILED:
            assert in_function, f"{path} imports {module} at its top"


def test_what_imports_numba_is_imported_in_functions_alone():
    """Kills `import numpyvae` that takes a second, or fails where there is no Numba."""
    uses = [
        (path, inside)
        for path, _, m, _, inside in imports()
        if m in WITH_NUMBA and path not in COMPILED
    ]
    assert uses
    assert all(inside for _, inside in uses)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from ..estimators import SGVBB", "parameters.py imports numpyvae.estimators"),
        ("from .. import estimators", "parameters.py imports numpyvae.estimators"),
        ("import numpyvae.bounds", "parameters.py imports numpyvae.bounds"),
        ("def f():\n    from ..exact import Gaussian", "parameters.py imports numpyvae.exact"),
        ("import scipy.special", "parameters.py imports scipy.special"),
        ("def f():\n    from scipy import special", "parameters.py imports scipy"),
        ("import requests", "parameters.py imports requests"),
        ("def f():\n    import_module('scipy.special')", "parameters.py imports scipy.special"),
        ("m = __import__(f'{a}scipy')", "parameters.py imports {a}scipy"),
    ],
)
def test_the_walk_sees_a_planted_import(source, message, monkeypatch):
    """Kills a walk that looks at nothing: the tests above must fail for each of these."""
    real = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, **kw: source if path.name == "parameters.py" else real(path, **kw),
    )
    test = (
        test_folders_import_only_from_folders_above
        if "numpyvae" in message
        else test_the_core_needs_numpy_and_the_standard_library_alone
    )
    with pytest.raises(AssertionError, match=message):
        test()


def imported_by(statement):
    """The modules that are loaded after `statement` in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert run.stderr == ""
    return set(run.stdout.split())


def test_importing_the_package_loads_numpy_alone():
    """Kills a slow start: what is not needed for training is loaded when it is used."""
    loaded = imported_by("import numpyvae") - imported_by("import numpy")
    assert "numpyvae.core.training" in loaded
    others = {name.partition(".")[0] for name in loaded}
    assert others - {"numpyvae"} <= sys.stdlib_module_names  # nothing more of NumPy either
    assert not others & {"zipfile", "difflib", "hashlib"}
    folders = {name.split(".")[1] for name in loaded if name.startswith("numpyvae.")}
    assert folders == {"core", "support"}


@pytest.mark.parametrize("package", ["numpyvae", "numpyvae.bounds"])
def test_what_is_loaded_later_is_complete(package):
    # kills: a name of __all__ that nothing gives, and one that dir() does not show
    code = f"""
import {package} as package
assert set(package.__all__) <= set(dir(package))
for name in package.__all__:
    assert getattr(package, name).__name__ == name
try:
    package.no_such_name
except AttributeError as error:
    assert str(error) == "module '{package}' has no attribute 'no_such_name'"
else:
    raise AssertionError
"""
    assert package in imported_by(code)  # in a new process, which fails if an assertion does


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    # kills: "No module named 'sklearn'", which has the same name as the folder here
    for name in [name for name in sys.modules if name.startswith("numpyvae.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'expected scikit-learn .* pip install "numpyvae\[sk'):
        importlib.import_module("numpyvae.sklearn")


def test_datasets_load_no_downloader():
    """Kills pooch, and the network's modules, loaded for digits that are in the package."""
    loaded = imported_by("import numpyvae.datasets; numpyvae.datasets.load_digits()")
    assert not loaded & {"pooch", "requests", "urllib.request", "scipy", "matplotlib"}


# Every module says why it exists, what it offers, and shows examples that run.


WITH_EXAMPLES = {*(f"core.{name}" for name in CORE_FILES), "bounds"}


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def load_module(name):
        if name in WITH_NUMBA:
            pytest.importorskip("numba", reason='needs Numba: pip install "numpyvae[fast]"')
        if name.startswith("numpyvae.sklearn"):
            pytest.importorskip("sklearn", reason='pip install "numpyvae[sklearn]"')
        return importlib.import_module(name)

    return load_module


@pytest.mark.parametrize("path", TO_IMPORT, ids=lambda path: MODULES[path])
def test_module_is_documented(path, load):
    """Kills a module without a reason, a name that does not exist and one without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    module = load(name_of(path))
    assert isinstance(module.__all__, list)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        assert thing.__doc__, name
        # A dataclass without a docstring is given its signature for one.
        assert not thing.__doc__.startswith(f"{name}("), name
        if inspect.isclass(thing) and thing.__module__.startswith("numpyvae"):
            for member, value in vars(thing).items():
                if not member.startswith("_") and inspect.isfunction(value):
                    assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


@pytest.mark.parametrize("path", TO_IMPORT, ids=lambda path: MODULES[path])
def test_examples_in_docstrings_run(path, load, monkeypatch, tmp_path):
    """Kills an example that has gone stale, that writes a file, and the lack of any."""
    monkeypatch.chdir(tmp_path)
    for framework in ("torch", "jax", "keras"):
        if path.parent.name == "clinic" and framework in path.stem.split("_"):
            pytest.importorskip(framework, reason=f'pip install "numpyvae[{framework}]"')
    result = doctest.testmod(load(name_of(path)))
    assert result.failed == 0
    assert not list(tmp_path.iterdir())
    if MODULES[path].removeprefix("numpyvae.") in WITH_EXAMPLES:
        assert result.attempted > 0


# Random numbers: every one comes from a stream with a seed and a purpose.

STREAMS = "support/streams.py"


def generators_made_in(source):
    """The calls in `source` that make a random generator without a `Purpose`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("default_rng", "SeedSequence", "RandomState", "Generator"):
            found.append(name)
        elif name == "stream" and any(isinstance(arg, ast.Constant) for arg in node.args[1:2]):
            found.append("stream of a bare number")
    return found


def test_random_generators_are_made_in_one_place():
    # kills: draws whose seed is shared with other draws, and a purpose that is not in the list
    for path in MODULES:
        name = path.relative_to(ROOT).as_posix()
        if name == STREAMS:
            continue
        assert generators_made_in(path.read_text(encoding="utf-8")) == [], name


@pytest.mark.parametrize(
    "source",
    [
        "np.random.default_rng(0)",
        "rng = default_rng(np.random.SeedSequence([seed, 301]))",
        "np.random.RandomState(0)",
        "stream(seed, 301)",
    ],
)
def test_a_generator_made_elsewhere_is_found(source):
    # kills: a search that finds nothing
    assert generators_made_in(source)


def test_purposes_keep_their_values():
    # kills: a number used twice, or changed: every result that was drawn with it would change
    values = {purpose.name: int(purpose) for purpose in Purpose}
    assert len(values) == len(Purpose.__members__)  # no alias
    assert values == {
        "SHUFFLE": 1,
        "NOISE": 2,
        "TRANSFORM": 3,
        "DREAMS": 4,
        "CHAINS": 5,
        "CHAIN_STARTS": 6,
        "WEIGHT_NOISE": 7,
        "INIT": 101,
        "SAMPLE": 102,
        "WEIGHT_SAMPLE": 103,
        "EVALUATION": 201,
        "IMPORTANCE": 301,
        "CUBO": 302,
        "ELBO": 303,
        "ANNEAL_PILOT": 311,
        "ANNEAL_FORWARD": 312,
        "ANNEAL_REVERSE": 313,
        "SIMULATE": 314,
        "POSTERIOR_CHAINS": 321,
        "SPLIT": 401,
        "BINARIZE_TEST": 402,
        "TEST_ROWS": 403,
        "VALIDATION": 404,
        "BINARIZE_VALIDATION": 405,
        "LINEAR_GAUSSIAN": 501,
        "FINITE_MIXTURE": 502,
        "CLIMBS": 503,
        "NOISE_NODES": 511,
        "GAP": 521,
        "RATE": 522,
        "SURGERY": 523,
        "SIGNAL": 524,
        "EQUATIONS": 601,
        "GRADIENT_CASES": 701,
        "GRADIENT_DIRECTIONS": 702,
        "CLINIC": 711,
    }


def test_a_stream_is_named_by_all_its_parts():
    # kills: a part that is left out, and an entropy in another order, which would move all draws
    expected = np.random.default_rng(np.random.SeedSequence([7, 2, 5])).random(3)
    np.testing.assert_array_equal(stream(7, Purpose.NOISE, 5).random(3), expected)
    np.testing.assert_array_equal(
        stream(7, Purpose.NOISE).random(3),
        np.random.default_rng(np.random.SeedSequence([7, 2])).random(3),
    )
