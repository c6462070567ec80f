"""The types of the public interface: all are declared, and a type checker reads them."""

import importlib
import inspect
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import pytest
from test_imports import COMPILED, ROOT, TO_IMPORT, name_of

import numpyvae
from numpyvae import Likelihood
from numpyvae.support import registry

# Methods of the core without any annotation have the types of the method that they override: the
# base class declares them once, and the classes are read for their mathematics.
DECLARED_ONCE = {"core.likelihoods", "core.optimizers"}
PROTOCOLS = {"__init__", "__call__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__"}


def missing_in(function):
    """The parameters, and "return", that have no annotation."""
    parameters = list(inspect.signature(function).parameters.values())
    first = parameters[:1] if parameters and parameters[0].name in ("self", "cls") else []
    names = [p.name for p in parameters if p not in first and p.annotation is p.empty]
    typed = inspect.signature(function).return_annotation is not inspect.Signature.empty
    return names + ([] if typed else ["return"])


def function_of(member):
    """The function of a method or a property, or None for what is neither."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, cached_property):
        return member.func
    function = inspect.unwrap(getattr(member, "__func__", member))
    return function if inspect.isfunction(function) else None


def of_the_package(function):
    """Whether the function was written, and not made by a dataclass or a protocol."""
    written = function is not None and function.__code__.co_filename.endswith(".py")
    return written and function.__module__ != "typing"


def declared_above(kind, name):
    """Whether a class above `kind` declares all types of the method."""
    above = (function_of(vars(base)[name]) for base in kind.__mro__[1:] if name in vars(base))
    return any(f is not None and not missing_in(f) for f in above)


def untyped_of_class(kind):
    """Yield (name, what has no annotation) of the public members of a class."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("numpyvae")]
    for base in own:
        for name, member in vars(base).items():
            function = function_of(member)
            if name.startswith("_") and name not in PROTOCOLS:
                continue
            if isinstance(member, property) and function.__name__ == "<lambda>":
                if not declared_above(base, name) and name not in annotated(base):
                    yield f"{base.__name__}.{name}", ["return"]
            elif of_the_package(function) and (missing := missing_in(function)):
                short = base.__module__.removeprefix("numpyvae.")
                once = short in DECLARED_ONCE and "return" in missing
                if not (once and declared_above(base, name)):
                    yield f"{base.__name__}.{name}", missing


def annotated(kind):
    """The attributes that a class or one above it declares."""
    return {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}


def untyped(module):
    """Yield (name, what has no annotation) of everything in the module's `__all__`."""
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) and thing.__module__.startswith("numpyvae"):
            yield from untyped_of_class(thing)
        elif (function := function_of(thing)) and (missing := missing_in(function)):
            yield name, missing


TYPED = [p for p in TO_IMPORT if p.relative_to(ROOT).as_posix() not in COMPILED]


@pytest.mark.parametrize("path", TYPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_public_interface_declares_its_types(path):
    # kills: a public parameter, result or property whose type a user's checker does not know.
    # Numba finds the types of the functions that it compiles; those files are left out.
    try:
        module = importlib.import_module(name_of(path))
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))  # a folder that belongs to an extra
    assert dict(untyped(module)) == {}


class Planted(Likelihood):
    """A class with one member of each kind, each without a part of its types."""

    size = property(lambda self: 3)

    def method(self, x: int, y) -> int:
        return x

    @classmethod
    def made(cls, x: int):
        return cls()

    @cached_property
    def cached(self):
        return 3

    @property
    def shown(self):
        return 3

    @staticmethod
    def static(x) -> int:
        return 3

    def mean(self, out):
        return out

    def _private(self, x):
        return x


def test_a_missing_type_is_found():
    # kills: a walk that looks at nothing
    assert missing_in(lambda x, *rows, **more: x) == ["x", "rows", "more", "return"]
    Planted.__module__ = "numpyvae.planted"
    assert dict(untyped_of_class(Planted)) == {
        "Planted.size": ["return"],
        "Planted.method": ["y"],
        "Planted.made": ["return"],
        "Planted.cached": ["return"],
        "Planted.shown": ["return"],
        "Planted.static": ["x"],
        "Planted.mean": ["out", "return"],  # declared above, but not in the core
    }


def test_an_override_in_the_core_has_the_types_above_it(monkeypatch):
    # kills: an exception for the core that holds for new methods too, or for half of a signature
    Planted.__module__ = "numpyvae.core.likelihoods"
    found = dict(untyped_of_class(Planted))
    assert "Planted.mean" not in found
    assert found["Planted.method"] == ["y"]
    assert found["Planted.made"] == ["return"]
    monkeypatch.delattr(Likelihood.mean, "__annotations__")
    assert "Planted.mean" in dict(untyped_of_class(Planted))


def test_attributes_that_a_model_computes_have_types():
    # kills: `property(attrgetter(…))`, which every checker takes for Any
    for kind, names in {
        numpyvae.VAE: ("data_dim", "latent_dim", "activation", "likelihood", "dtype"),
        numpyvae.History: ("last_parameters", "best_parameters"),
    }.items():
        for name in names:
            member = inspect.getattr_static(kind, name, None)
            typed = isinstance(member, property) and not missing_in(member.fget)
            assert typed or name in annotated(kind), name


def test_the_marker_of_a_typed_package_is_installed():
    # kills: a wheel whose types no checker reads
    assert (ROOT / "py.typed").read_bytes() == b""
    settings = ROOT.parent / "setup.cfg"
    if not settings.exists():
        pytest.skip("needs the repository, which has the settings of the package")
    assert "numpyvae = py.typed\n" in settings.read_text(encoding="utf-8")


def test_there_are_few_exceptions():
    # kills: a checker that is silenced line by line
    lines = [
        line
        for path in ROOT.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"type: ignore|\bcast\(", line)
    ]
    assert len(lines) <= 5
    assert all("type: ignore[" in line for line in lines)


# Files of users, as a checker sees them.

RIGHT = """
import numpy as np

import numpyvae
from numpyvae import VAE, Adam, EarlyStopping, Estimator, Likelihood, Optimizer
from numpyvae import datasets, elbo, elbo_and_grad, elbo_terms, fit, importance_log_likelihood
from numpyvae.bounds import sandwich
from numpyvae.estimators import DReG, IWAE
from numpyvae.exact import exact_model


@numpyvae.register_likelihood("mine")
class Mine(Likelihood):
    name = "mine"
    support = (0, 1)

    def mean(self, out: np.ndarray) -> np.ndarray:
        return out


class Halved(Optimizer):
    def compute_step(self, g: np.ndarray, state: dict[str, np.ndarray], rate: float) -> np.ndarray:
        return 0.5 * rate * g


@numpyvae.register_activation(smooth=True, increasing=True)
def cube(x: np.ndarray) -> tuple[np.ndarray, numpyvae.core.layers.Pull]:
    return x**3, lambda dy: 3 * x * x * dy


digits = datasets.load_digits()
vae = VAE(digits.x_train.shape[1], latent_dim=2, hidden=(32, 16), activation="tanh")
own = VAE(64, 2, activation=cube, likelihood=Mine())
stop = EarlyStopping(3)
history = fit(
    vae,
    digits.grays("train")[:200],
    epochs=2,
    optimizer=Adam(3e-4, clip_norm=10),
    estimator=DReG(5, n_samples=2),
    schedule=numpyvae.cosine_schedule(2),
    transform=datasets.binarize,
    x_valid=datasets.binarize(digits.grays("test")[:100], np.random.default_rng(0)),
    callbacks=[stop],
)
last: float = history["elbo"][-1].item()
x = np.zeros((3, 64))
eps = np.zeros((1, 3, 2))
reconstruction, kl = elbo_terms(vae, x, eps)
total: float = float(kl.sum() + elbo(vae, x, eps).mean())
value, gradient = elbo_and_grad(vae, x.tolist(), eps)
length: int = gradient.size + vae.parameters.flat.size + vae.latent_dim
means = numpyvae.mean_terms(vae, x)
number: float = means.elbo - means.kl
log_p = importance_log_likelihood(vae, x, 50)
bounds = sandwich(vae, n=3, n_temperatures=20)
exact = exact_model(vae)
if bounds.upper is not None and exact is not None:
    error: float = bounds.upper[0] - bounds.lower[0] - exact.log_evidence(x).mean()
shapes = vae.likelihood.mean(vae.decoder(eps)[0]).shape, vae.parameters["encoder.W0"].shape
vae.save("model.npz")
again = VAE.load("model.npz").with_flat(gradient)
rates = [e.n_importance for e in (Estimator(), IWAE(5))]
"""

BEFORE = """
import numpy as np
from numpyvae import SGD, VAE, EarlyStopping, Likelihood, elbo_and_grad, elbo_terms, fit
from numpyvae import importance_log_likelihood, register_activation
from numpyvae.bounds import sandwich
vae, x, eps = VAE(4, 2), np.zeros((3, 4)), np.zeros((1, 3, 2))
"""
WRONG = {  # a wrong line, and the kind of the error
    'VAE(data_dim="64", latent_dim=2)': "arg-type",
    "VAE(64, 2, hidden=32)": "arg-type",
    "VAE(64, 2, hiden=(32,))": "call-arg",
    "fit(vae, x)": "call-arg",
    "fit(vae, x, epochs=3, optimizer=SGD)": "arg-type",
    "fit(vae, x, epochs=3, callbacks=EarlyStopping(3))": "arg-type",
    "fit(vae, x, 3)": "call-arg",
    "value, gradient, more = elbo_and_grad(vae, x, eps)": "misc",
    "elbo_terms(vae, x, eps).ebo": "attr-defined",
    "elbo_terms(vae, x, eps).kl.upper()": "attr-defined",
    "vae.latent_dim = 3": "misc",
    "vae.latent_dim.shape": "attr-defined",
    "vae.likelihood.mean()": "call-arg",
    "vae.parameters.flat.upper()": "attr-defined",
    "VAE.load(3)": "arg-type",
    'importance_log_likelihood(vae, x, "many")': "arg-type",
    "sandwich(vae).upper[0]": "index",
    "register_activation(smooth=True)": "call-arg",
    "class Mine(Likelihood):\n    def mean(self, out: str) -> np.ndarray: return x": "override",
}


def checked(path, text):
    """The (line, kind) of each error that mypy finds in a user's file."""
    pytest.importorskip("mypy", reason='needs mypy: pip install "numpyvae[types]"')
    path.write_text(text, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports=silent", path.name],
        cwd=path.parent,
        env={"MYPYPATH": str(ROOT.parent), "PATH": "", "MYPY_CACHE_DIR": str(path.parent / "c")},
        capture_output=True,
        text=True,
    )
    assert run.stderr == ""
    errors = [line for line in run.stdout.splitlines() if ": error: " in line]
    assert all(line.startswith(path.name) for line in errors), errors
    return [(int(e.split(":")[1]), e.rpartition("[")[2].rstrip("]")) for e in errors]


def test_a_checker_accepts_right_use(tmp_path):
    # kills: a type that forbids what the documentation shows
    assert checked(tmp_path / "right.py", RIGHT) == []


def test_a_checker_finds_wrong_use(tmp_path):
    # kills: types so wide that no mistake is found
    lines, expected = [BEFORE.strip()], []
    for source, kind in WRONG.items():
        expected.append((len("\n".join(lines).splitlines()) + 1 + source.count("\n"), kind))
        lines.append(source)
    assert checked(tmp_path / "wrong.py", "\n".join(lines)) == expected


def test_right_use_runs(tmp_path, monkeypatch):
    # kills: a file of right use that no user could run
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "ACTIVATIONS", dict(registry.ACTIVATIONS))
    monkeypatch.setattr(registry, "LIKELIHOODS", dict(registry.LIKELIHOODS))
    exec(compile(RIGHT, "right.py", "exec"), {"__name__": "right"})
    assert Path("model.npz").exists()
