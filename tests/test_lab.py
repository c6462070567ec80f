"""The lab: its Python functions here, and its pages in a browser without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browsing import SITE, needs_site

from numpyvae import VAE, Adam, datasets, fit
from numpyvae.estimators import SGVBB

ROOT = Path(__file__).parents[1]
LAB = ROOT / "docs" / "lab"
sys.path[:0] = [str(LAB), str(ROOT / "docs")]

import runtime  # noqa: E402
from numpyvae_lab import bridge, train  # noqa: E402

# The functions that the pages call


def answer(name, **arguments):
    """Call a function as a page does, and put its arrays back into the answer."""
    text, arrays = bridge.call(name, json.dumps(arguments))

    def restored(found):
        if found.keys() == {"array", "shape"}:
            return arrays[found["array"]].reshape(found["shape"])
        return found

    return json.loads(text, object_hook=restored, parse_constant=pytest.fail)


def test_an_answer_arrives_with_its_arrays_and_without_what_json_does_not_have():
    # kills: arrays in another order, a float32 buffer read as float64, and NaN in JSON
    value = {"a": [np.arange(6, dtype="float32").reshape(2, 3).T, 1.5], "b": (np.int64(2), np.nan)}
    text, arrays = bridge.pack(value | {"c": np.ones(1), "d": float("inf"), "e": np.bool_(True)})
    assert json.loads(text) == {
        "a": [{"array": 0, "shape": [3, 2]}, 1.5],
        "b": [2, None],
        "c": {"array": 1, "shape": [1]},
        "d": None,
        "e": True,
    }
    assert [array.dtype for array in arrays] == [np.float64] * 2
    np.testing.assert_array_equal(arrays[0], [0, 3, 1, 4, 2, 5])


def test_epochs_one_by_one_are_those_of_one_call_of_fit():
    # kills: an epoch that starts from a fresh optimizer, or that draws the noise of another one
    answer("train.restart", latent_dim=2, hidden=[5], likelihood="bernoulli", seed=3)
    rows = [
        answer("train.epoch", beta=0.5, learning_rate=0.01, picture=False)["row"] for _ in range(3)
    ]
    vae = VAE(64, 2, (5,), seed=3)
    history = fit(
        vae,
        datasets.load_digits().grays(),
        epochs=3,
        optimizer=Adam(0.01),
        estimator=SGVBB(beta=0.5),
        transform=datasets.binarize,
        seed=3,
    )
    assert [row["elbo"] for row in rows] == list(history["elbo"])


@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_the_picture_shows_the_model_of_the_moment(latent_dim):
    # kills: images over another plane than that of the points, and counts drawn 16 times too dark
    start = {"latent_dim": latent_dim, "hidden": [4], "likelihood": "binomial:16", "seed": 0}
    answer("train.restart", **start)
    trained = answer("train.epoch", beta=1, learning_rate=0.01, picture=True)
    shown, vae = trained["picture"], train.network()
    mu, _ = vae.encode(datasets.load_digits().x_test[: len(shown["mu"])])
    axes = shown["axes"].astype(int)
    np.testing.assert_allclose(shown["mu"], mu[:, axes])
    assert set(axes) == set(np.argsort(-shown["kl"])[:2])
    corner = np.zeros((1, latent_dim))  # top left: low on the first axis, high on the second
    corner[:, axes] = [-1.7317, 1.7317][: len(axes)] if latent_dim > 1 else [-2.7]
    np.testing.assert_allclose(shown["images"][:1], vae.decode(corner) / 16, atol=2e-3)
    assert shown["images"].shape == (shown["side"] ** 2, 64)


WITHOUT = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scipy", "matplotlib", "threadpoolctl"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def test_the_lab_needs_numpy_alone():
    # kills: an import of SciPy or Matplotlib, which are not in the browser
    modules = sorted(path.stem for path in (LAB / "numpyvae_lab").glob("[!_]*.py"))
    imports = "".join(f"import numpyvae_lab.{name}\n" for name in modules)
    run = "from numpyvae_lab import train\ntrain.restart(2, [4], 'bernoulli', 0)\n"
    run += "train.epoch(1.0, 0.01, True)\n"
    run += """
from numpyvae import equations
for name in equations.CASES:
    case = equations.make_case(name)
    for equation in equations.EQUATIONS:
        if equation.number != "5":  # which searches for the best q by SciPy
            assert equations.check_equation(equation, case).passed
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT + imports + run],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(LAB), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


# What the build makes


def test_the_archive_contains_its_files():
    # kills: a header whose places are not those of the files
    import gzip

    files = {"a.js": b"let a;" * 99, "b.zip": b"\0\1"}
    archive = runtime.packed(files)
    start = 4 + int.from_bytes(archive[:4], "little")
    found = {name: archive[start + at :][:n] for name, at, n in json.loads(archive[4:start])}
    assert {"a.js": gzip.decompress(found["a.js.gz"]), "b.zip": found["b.zip"]} == files


def test_a_download_with_another_hash_is_not_used(tmp_path, monkeypatch):
    # kills: a package that is unpacked unseen
    def pack(package, scratch, need):
        made = scratch / "package.tgz"
        made.write_bytes(b"another")
        return made

    monkeypatch.setattr(runtime.npm, "pack", pack)
    with pytest.raises(OSError, match=r"pyodide@.*: expected SHA-256 .*not used"):
        runtime.write(tmp_path / "lab", tmp_path / "npm")
    assert not list(tmp_path.rglob("*.tgz"))
    assert not (tmp_path / "lab").exists()


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    # kills: a download at each build, and an old package in the pages
    made = []
    monkeypatch.setattr(runtime, "download", made.append)
    monkeypatch.setattr(runtime, "numpy_files", lambda folder: {})
    monkeypatch.setattr(runtime, "pyodide_files", lambda folder: {"pyodide.js": b"-"})
    write = partial(runtime.write, tmp_path / "lab", tmp_path)
    write()
    write()
    assert len(made) == 1
    monkeypatch.setattr(runtime, "own_files", lambda: {"numpyvae/__init__.py": b""})
    write()
    assert len(made) == 2


# The pages


@pytest.fixture
def lab(open_page, record_property):
    """Return a function that opens a page of the lab and loads Python there."""
    if not list((Path(SITE) / "_static" / "lab").glob("part-*.js")):
        if os.environ.get("CI"):
            pytest.fail("the site was built without the lab: npm could not download it")
        pytest.skip("the site was built without the lab")

    def start(name, width=1400, scheme="light"):
        page, complaints = open_page(f"lab/{name}.html", width, scheme)
        begin = time.perf_counter()
        page.click(".lab-start")
        page.wait_for_selector(".lab[data-ready]", timeout=240_000)
        print(f"{name}: ready after {time.perf_counter() - begin:.1f} s")
        return page, complaints

    return start


def wait_until(page, condition, seconds=120):
    page.wait_for_function(condition, timeout=1000 * seconds)


@needs_site
def test_the_lab_is_small_and_no_other_page_loads_it():
    # kills: an archive that outgrew its promise, and a page of the notes that loads a megabyte
    files = list((Path(SITE) / "_static" / "lab").iterdir())
    assert sum(path.stat().st_size for path in files) <= 30e6
    for path in Path(SITE).rglob("*.html"):
        loads = re.findall(r'(?:src|href)="[^"]*_static/lab/([^"?]*)', path.read_text("utf-8"))
        if path.parent.name != "lab" or path.stem == "index":
            assert loads == [], path
        else:
            assert not [name for name in loads if name.startswith(("part-", "worker"))], path


@needs_site
def test_training_reaches_the_elbo_of_cpython(lab):
    # kills: a lab that does not start offline, and one whose numbers are not those of the package
    page, complaints = lab("train")
    begin = time.perf_counter()
    page.click("button[name=go]")
    wait_until(page, "document.querySelector('.lab-now').textContent.startsWith('epoch')")
    print(f"first epoch after {time.perf_counter() - begin:.1f} s")
    elbo = "Number(/ELBO −([\\d.]+)/.exec(document.querySelector('.lab-now').textContent)[1])"
    wait_until(page, f"{elbo} < 190")
    page.click("button[name=go]")  # pause
    wait_until(page, "document.querySelector('button[name=go]').textContent === 'Train'")
    settings = {"latent_dim": 3, "hidden": [32, 16], "likelihood": "bernoulli", "seed": 5}
    step = {"beta": 1, "learning_rate": 0.003, "picture": False}
    there = page.evaluate(
        """async ([settings, step]) => {
          const { python } = document.querySelector(".lab");
          await python.call("train.restart", settings);
          const found = [];
          for (let i = 0; i < 4; i++) {
            found.push((await python.call("train.epoch", step)).row.elbo);
          }
          return found;
        }""",
        [settings, step],
    )
    train.restart(**settings)
    here = [train.epoch(**step)["row"]["elbo"] for _ in range(4)]
    np.testing.assert_allclose(there, here, rtol=2e-5)  # float32 has 6e-8 in each of 156 steps
    assert complaints == []


@needs_site
def test_a_change_of_the_network_starts_over_and_a_bad_one_says_why(lab):
    # kills: a form whose change is ignored, and an error of Python that only the console shows
    page, complaints = lab("train", 400, "dark")
    page.click("button[name=go]")
    wait_until(page, "document.querySelector('.lab-now').textContent.startsWith('epoch 2')")
    page.fill("input[name=latent_dim]", "4")
    page.press("input[name=latent_dim]", "Enter")
    wait_until(page, "document.querySelector('.lab-plane-caption').textContent.includes('of 4')")
    wait_until(page, "document.querySelector('.lab-now').textContent.startsWith('epoch')")
    page.click("button[name=go]")
    wait_until(page, "document.querySelector('button[name=go]').textContent === 'Train'")
    page.evaluate("document.querySelector('[name=likelihood] option').value = 'cauchy'")
    page.click("button[name=again]")
    wait_until(page, "document.querySelector('.lab-error').textContent.includes('cauchy')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert complaints == []
