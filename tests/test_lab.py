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
from browsing import CONTRAST, SITE, needs_site
from scipy import stats

from numpyvae import VAE, Adam, datasets, fit
from numpyvae.equations import EQUATIONS, KINGMA_WELLING
from numpyvae.estimators import SGVBB

ROOT = Path(__file__).parents[1]
LAB = ROOT / "docs" / "lab"
sys.path[:0] = [str(LAB), str(ROOT / "docs")]

import runtime  # noqa: E402
from numpyvae_lab import bridge, cell, check, gap, train  # noqa: E402

# The functions that the pages call


def answer(name, /, **arguments):
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
    radii = [] if latent_dim == 1 else stats.chi(2).ppf([0.5, 0.95])
    np.testing.assert_allclose(shown["radii"], radii)


def test_what_the_model_knows_of_a_drawing_adds_up_and_is_in_the_picture():
    # kills: a close-up that leaves out q, another x than the drawing, and images of counts
    answer("decode.restart", seed=0)
    for _ in range(2):
        answer("train.epoch", beta=1, learning_rate=0.01, picture=False)
    found, x = answer("decode.digit", number=4), datasets.load_digits().x_test[4]
    np.testing.assert_array_equal(found["x"], x)
    known, vae = answer("decode.examine", x=list(found["x"])), train.network()
    np.testing.assert_allclose(known["elbo"] + known["gap"], known["log_px"], rtol=1e-9)
    np.testing.assert_allclose(known["reconstruction"] - known["kl"], known["elbo"], rtol=1e-12)
    mu, logvar = vae.encode([x])
    np.testing.assert_allclose(known["mu"], mu[0], rtol=1e-5)
    away = np.abs(known["mu"] - known["center"]) + 4 * np.exp(0.5 * logvar[0])
    assert (away <= known["reach"] * (1 + 1e-5)).all()
    np.testing.assert_allclose(known["ellipse"].mean(axis=0), mu[0], atol=0.1)
    assert known["density"].max() == 1
    np.testing.assert_allclose(answer("decode.at", z=mu[0].tolist())["image"], known["image"])


@pytest.mark.parametrize("model", ["linear-gaussian", "tanh"])
def test_the_best_q_has_the_smallest_gap_of_all_that_the_sliders_have(model):
    # kills: a search that leaves its grid, and a curve at another width than that of q
    drawn = answer("gap.restart", name=model, seed=2)
    best = gap.best()
    at_best = answer("gap.move", **best)
    np.testing.assert_allclose(at_best["elbo"] + at_best["kl"], drawn["log_px"], rtol=1e-10)
    for mu, log_sigma in [(-1, -0.5), (best["mu"] + 0.1, best["log_sigma"]), (0, 0)]:
        other = answer("gap.move", mu=mu, log_sigma=log_sigma)
        assert other["kl"] > at_best["kl"]
        np.testing.assert_allclose(other["elbo"] + other["kl"], drawn["log_px"], rtol=1e-10)
    narrow = answer("gap.move", mu=0, log_sigma=-0.5)["q"]
    spread = (drawn["z"] ** 2 * narrow).sum() / narrow.sum()
    np.testing.assert_allclose(np.sqrt(spread), np.exp(-0.5), rtol=1e-3)
    curve = answer("gap.curve", log_sigma=best["log_sigma"])
    np.testing.assert_allclose(curve["elbo"].max(), at_best["elbo"])
    spacing = drawn["z"][1] - drawn["z"][0]
    for density in (drawn["posterior"], at_best["q"], drawn["prior"]):
        np.testing.assert_allclose(density.sum() * spacing, 1, atol=1e-3)


def test_the_check_is_that_of_the_command(capsys):
    # kills: a table of the page that is not the command's, and an equation that is left out
    from numpyvae.command.cli import main

    for model in ("discrete", "linear-gaussian"):
        main(["equations", "--model", model, "--seed", "3"])
        assert answer("check.check", model=model, seed=3, number="")["text"] == (
            capsys.readouterr().out.rstrip("\n")
        )
    assert "continuous z" in check.check("discrete", 0, "K&W §2.4")["text"]
    assert check.check("discrete", 0, "9")["checked"] == 1
    assert len(check.register()["numbers"]) == 27


def test_an_equation_that_needs_scipy_says_so(monkeypatch):
    # kills: a check of all equations that stops at Eq. (5) in the browser
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    found = check.check("discrete", 0, "")
    assert (found["checked"], found["passed"]) == (21, 21)
    assert found["text"].endswith("(5) needs scipy, which is not in the browser.")


def test_a_cell_keeps_its_names_and_shows_values_and_errors(capsys):
    # kills: a cell that forgets, an error without its line, and frames of the lab in a traceback
    assert cell.run("import math\na = 6\na * 7") == {"error": ""}
    assert cell.run("_ + math.floor(0.5)\n") == {"error": ""}
    assert capsys.readouterr().out == "42\n42\n"
    error = cell.run("def f():\n    return a / 0\nf()")["error"]
    assert error.endswith("ZeroDivisionError: division by zero")
    assert 'File "<cell>", line 2, in f\n    return a / 0' in error
    assert "cell.py" not in error
    assert "SyntaxError" in cell.run("a = (")["error"]
    assert cell.run("raise SystemExit(3)")["error"].endswith("SystemExit: 3")


def listed_functions():
    """Return the functions whose code is on the pages of the notes."""
    found = {f for e in (*EQUATIONS, *KINGMA_WELLING) for f in e.functions}
    for path in (ROOT / "docs" / "notes").glob("*.md"):
        for names in re.findall(r"^```{beside} (.+)", path.read_text("utf-8"), re.M):
            found |= set(names.split())
    return sorted(found)


@pytest.mark.parametrize("dotted", listed_functions())
def test_each_listing_of_the_notes_has_an_example_that_runs(dotted, capsys):
    # kills: a link "Try it" that leads to an error, or to a cell that shows nothing
    code = cell.example(dotted)["code"]
    assert cell.run(code) == {"error": ""}
    assert capsys.readouterr().out


def test_a_name_that_does_not_exist_is_refused():
    # kills: an empty cell for a wrong address
    with pytest.raises(LookupError, match=r"numpyvae\.core\.nothing: expected a public name"):
        cell.example("core.nothing")


WITHOUT = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scipy", "matplotlib", "threadpoolctl"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def test_the_lab_needs_numpy_alone():
    # kills: an import of SciPy or Matplotlib, which are not in the browser, a cell of the notes
    # that needs them, and a listing without a cell that could have one
    modules = sorted(path.stem for path in (LAB / "numpyvae_lab").glob("[!_]*.py"))
    imports = "".join(f"import numpyvae_lab.{name}\n" for name in modules)
    run = "from numpyvae_lab import train\ntrain.restart(2, [4], 'bernoulli', 0)\n"
    run += "train.epoch(1.0, 0.01, True)\n"
    run += f"listed = {listed_functions()}\n"
    run += """
from numpyvae import equations
for name in equations.CASES:
    case = equations.make_case(name)
    for equation in equations.EQUATIONS:
        if equation.number != "5":  # which searches for the best q by SciPy
            assert equations.check_equation(equation, case).passed
from numpyvae_lab import cell
for dotted in listed:
    runs = cell.run(cell.example(dotted)["code"])["error"] == ""
    assert runs != cell.needs_scipy(dotted), dotted
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


def test_the_archive_has_the_data_sets():
    # kills: a cell that cannot load the digits or the wines
    data = {f"numpyvae/datasets/{name}" for name in ("optdigits.npz", "wine.csv")}
    assert data <= runtime.own_files().keys()


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


def test_the_page_names_the_versions_that_are_loaded():
    # kills: a page that names an old version
    page = (LAB / "index.md").read_text("utf-8")
    for (package, _), name in ((runtime.PYODIDE, r"Pyodide\]\([^)]*\)"), (runtime.NUMPY, "NumPy")):
        version = re.search(r"@(\d+\.\d+\.\d+)", package)[1]
        assert re.search(rf"{name} {re.escape(version)}", page), package


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
        text = path.read_text("utf-8")
        loads = re.findall(r'(?:src|href)="[^"]*_static/lab/([^"?]*)', text)
        if path.parent.name == "lab" and path.stem != "index":
            assert not [name for name in loads if name.startswith(("part-", "worker"))], path
        else:  # a page with cells loads the small script that opens them
            assert loads == ["beside.js"] * ('id="lab-cell"' in text), path


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


def pixels(page, selector):
    """Return what a canvas shows, as text."""
    return page.evaluate(f"document.querySelector('{selector}').toDataURL()")


@needs_site
def test_a_point_is_dragged_and_a_digit_is_drawn(lab):
    # kills: a plane that does not follow the pointer or the keys, and a pad that Python never sees
    page, complaints = lab("decode")
    values = "document.querySelector('.lab-values').innerText"
    wait_until(page, f"{values}.includes('log p(x)')")
    before, z = pixels(page, ".lab-decoded"), page.locator(".lab-z").text_content()
    box = page.locator(".lab-plane").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    page.mouse.up()
    wait_until(page, f"document.querySelector('.lab-z').textContent !== '{z}'")
    assert pixels(page, ".lab-decoded") != before
    z = page.locator(".lab-z").text_content()
    page.press(".lab-plane", "ArrowLeft")
    wait_until(page, f"document.querySelector('.lab-z').textContent !== '{z}'")

    known = page.locator(".lab-values").inner_text()
    page.click("button[name=clear]")
    box = page.locator(".lab-pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"], steps=12)
    page.mouse.up()
    wait_until(page, f"{values} !== {json.dumps(known)}")
    assert page.locator(".lab-error").text_content() == ""
    assert complaints == []


@needs_site
def test_elbo_and_kl_add_up_wherever_q_is(lab):
    # kills: sliders that Python never sees, and a model that does not change
    page, complaints = lab("gap", 400)
    seen = set()
    for model in ("linear-gaussian", "tanh"):
        page.select_option("select[name=model]", model)
        for mu in ("-0.5", "1.5"):
            page.fill("input[name=mu]", mu)
            rows = "document.querySelector('.lab-values').innerText"
            wait_until(page, f"!{json.dumps(sorted(seen))}.includes({rows})")
            page.wait_for_timeout(500)
            text = page.locator(".lab-values").inner_text()
            seen.add(text)
            numbers = [float(t.replace("−", "-")) for t in re.findall(r"−?\d+\.\d{6}", text)]
            elbo, kl, both, log_px = numbers[:4]
            assert abs(elbo + kl - both) < 2e-6
            assert both == log_px
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert complaints == []


@needs_site
def test_equations_are_checked_in_the_page(lab):
    # kills: a page that shows another seed's numbers, or none
    page, complaints = lab("check", 1400, "dark")
    page.select_option("select[name=model]", "discrete")
    page.select_option("select[name=number]", "9")
    now = "document.querySelector('.lab-now').textContent"
    wait_until(page, f"{now}.startsWith('1 of 1 hold') && {now}.includes('discrete')")
    assert page.locator(".lab-output").text_content() == check.check("discrete", 0, "9")["text"]
    assert complaints == []


@needs_site
def test_a_cell_with_an_error_and_a_loop_that_is_stopped(lab):
    # kills: an error that only the console shows, and a loop that freezes the page
    page, complaints = lab("try")
    output = "document.querySelector('.lab-output').textContent"
    now = "document.querySelector('.lab-now').textContent"

    def run(code, until):
        page.fill("textarea", code)
        page.press("textarea", "Control+Enter")
        wait_until(page, until)

    run("print(VAE(4, 2, (3,)))\n1 / 0", f"{output}.includes('ZeroDivisionError')")
    shown = page.locator(".lab-output").text_content()
    assert shown.startswith("VAE(4-3-2")
    run("while True:\n    pass", f"{now}.startsWith('Running')")
    page.click("button[name=stop]")
    wait_until(page, f"{now}.startsWith('Stopped')")
    run(
        "numpyvae.importance_log_likelihood(VAE(4, 2, (3,)), np.eye(4), 5)",
        f"{output}.includes('array(')",
    )
    assert complaints == []


@needs_site
def test_a_cell_opens_below_its_listing(lab, open_page):
    # kills: a cell with another listing's code, one without the variables of the listings before
    # it, a second load of Python, and an output that is not the one that the page prints
    page, complaints = open_page("notes/2-intractable.html", 1400, "light")
    loaded = "performance.getEntriesByType('resource').map((e) => e.name.split('/').pop())"
    links = page.locator(".lab-try a")
    assert links.count() == 3
    assert [n for n in page.evaluate(loaded) if n in ("engine.js", "try.js", "lab.css")] == []
    links.nth(0).click()
    page.click(".lab-start")
    page.wait_for_selector(".lab[data-ready]", timeout=240_000)
    links.nth(2).focus()
    links.nth(2).press(" ")
    source = (ROOT / "docs" / "notes" / "2-intractable.md").read_text("utf-8")
    sessions = re.findall(r"```python\n(.*?)```", source, re.S)
    for i, beside in zip((0, 2), page.locator(".lab-beside").all(), strict=True):
        beside.locator("textarea").press("Control+Enter")
        beside.locator(".lab-now:text-is('')").wait_for(timeout=120_000)
        # the last one prints what those before it print, too
        printed = re.sub(r"(?m)^(>>>|\.\.\.).*\n", "", "".join(sessions[: i + 1]))
        assert beside.locator(".lab-output").text_content().strip() == printed.strip()
    links.nth(0).click()
    assert page.locator(".lab-beside >> visible=true").count() == 1
    assert complaints == []


@needs_site
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["train", "try"])
def test_all_text_of_the_lab_has_enough_contrast(lab, name, scheme):
    # kills: a control whose text is too pale once Python is there
    page, _ = lab(name, 1400, scheme)
    seen, pale = page.evaluate(CONTRAST)
    assert seen > 10
    assert pale == {}
