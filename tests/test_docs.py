"""The documentation: its snippets run, its equations agree with the register, its links work.

The site is checked where it has been built: NUMPYVAE_SITE names the folder with its index.html.
The browser's tests need playwright and a Chromium besides.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import shlex
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import CONTRAST, SITE, is_external, needs_site

import numpyvae
from numpyvae.support.registry import ACTIVATIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTES = sorted((DOCS / "notes").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """Return the fenced blocks of a language: line number and text."""
    text = path.read_text(encoding="utf-8")
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(text[: m.start(1)].count("\n"), m.group(1)) for m in fence.finditer(text)]


# Snippets

NEEDS = {  # the extras of a page
    "scikit-learn.md": ("sklearn", "pandas"),
    "weights.md": ("torch", "safetensors"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if blocks(p, "python")],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_every_snippet_of_a_page_runs_in_order_and_prints_what_it_says(
    page, tmp_path, monkeypatch
):
    # Kills: a renamed function, a changed default, or a wrong figure in the docs.
    for module in NEEDS.get(page.name, ()):
        pytest.importorskip(module, reason=f"this page needs {module}")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for line, text in blocks(page, "python"):
        if ">>>" not in text:
            exec(compile("\n" * line + text, str(page), "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), line)
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        result = runner.run(test, out=report.append, clear_globs=False)
        assert result.failed == 0, "".join(report)
        names.update(test.globs)


def test_the_landing_page_has_the_commands_of_the_readme():
    # Kills: two sets of instructions that differ.
    readme = [text for _, text in blocks(ROOT / "README.md", "sh")]
    landing = [text for _, text in blocks(DOCS / "index.md", "sh")]
    assert len(landing) == 2
    assert landing == readme[:2]


def shell_commands() -> list[str]:
    """Every `numpyvae …` of the shell blocks, README first, each once."""
    lines = [
        line.split("#")[0].strip()
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for _, text in blocks(page, "sh")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return list(dict.fromkeys(line for line in lines if line.startswith("numpyvae ")))


@pytest.mark.filterwarnings("ignore:people.csv. all rows are measured")  # the page says so
def test_every_command_of_the_pages_runs(tmp_path, monkeypatch):
    # Kills: an option that was renamed, and a command that needs a file that does not exist.
    from numpyvae.command.cli import main

    monkeypatch.chdir(tmp_path)
    quick = {  # the last value of an option counts
        "train": ["--epochs", "1", "--test-rows", "5", "--eval-importance", "5", "--overwrite"],
        "evaluate": ["--test-rows", "5", "--n-importance", "5"],
        "reproduce": ["--until", "1"],
        "clinic": ["--only", "draws"],
    }
    names: dict = {}
    for _, text in blocks(DOCS / "own-data.md", "python"):  # which write the files
        exec(text, names)
    (tmp_path / "my_vae.py").write_text(
        "from numpyvae import VAE, clinic\n"
        "mine = clinic.subject_of(VAE(4, 2, (3,)), [[0, 1, 1, 0], [1, 1, 0, 0]])\n"
    )
    commands = [shlex.split(command)[1:] for command in shell_commands()]
    assert {words[0] for words in commands} >= {"train", "evaluate", "sample", "clinic"}
    # The first command of the README makes the model that the later ones read.
    for words in [["train", "--output", "runs/digits"], *commands]:
        hours = words[0] == "reproduce" and "--quick" not in words
        if hours or ("mnist" in words and "NUMPYVAE_DATA" not in os.environ):
            with pytest.raises(SystemExit):  # parses all options, and then only prints the help
                main([*words, "--help"])
            continue
        more = [] if "--resume" in words else quick.get(words[0], [])
        assert main([*words, *more]) == 0, words


def test_the_picture_of_the_readme_is_what_the_code_draws(tmp_path):
    # Kills: a picture older than its code; `python docs/figures.py` draws it again.
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    sys.modules["figures"] = figures  # its dataclass looks there
    spec.loader.exec_module(figures)
    figures.draw_for_readme(tmp_path / "drawn.svg")
    number = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
    # Versions of matplotlib differ in the names of glyphs, and by one point in the
    # places of texts; the texts themselves stand in comments.
    glyphs = re.compile(r"<defs>.*?</defs>|<use [^>]*>|<metadata>.*?</metadata>", re.DOTALL)
    (drawn, kept) = (
        re.sub(r"\s+", " ", glyphs.sub("", path.read_text("utf-8")))
        for path in (tmp_path / "drawn.svg", figures.README_PICTURE)
    )
    assert number.sub("0", drawn) == number.sub("0", kept)
    pairs = zip(number.findall(drawn), number.findall(kept), strict=True)
    assert all(abs(float(a) - float(b)) < 1.5 for a, b in pairs)
    assert f"](docs/{figures.README_PICTURE.name})" in (ROOT / "README.md").read_text("utf-8")


# Tutorials

TUTORIALS = sorted((ROOT / "tutorials").glob("plot_*.py"))


def test_the_tutorials_are_numbered_without_a_gap():
    # Kills: two tutorials with the same number, and a missing number.
    numbers = [int(path.stem.split("_")[1]) for path in TUTORIALS]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_has_all_required_parts(path):
    # Kills: a tutorial without aim, prerequisites or exercises, or whose solutions are not folded.
    source = path.read_text("utf-8")
    doc = ast.get_docstring(ast.parse(source))
    title, rule, blank, *rest = doc.splitlines()
    assert len(title) == len(rule)
    assert set(rule) == {"="}
    assert blank == ""
    fields = re.findall(r"^:(\w[\w ]*): \S", "\n".join(rest), flags=re.MULTILINE)
    assert fields == ["Aim", "You need", "Time"]
    assert re.search(r"Eq\. \(\d+\)", source), "expected an equation that leads to the notes"
    text, _, exercises = source.rpartition("# Exercises\n# ---------\n")
    assert text, "expected a last section called Exercises"
    questions = [int(n) for n in re.findall(r"^# (\d+)\. ", exercises, flags=re.MULTILINE)]
    assert questions == list(range(1, len(questions) + 1))
    assert questions, "expected questions, 1. …"
    assert "assert" in exercises, "expected solutions that are checked"
    for number, exercise in zip(questions, re.split(r"^# \d+\. ", exercises, flags=re.M)[1:]):
        _, *cells = exercise.split("\n# %%\n")
        words = re.match(r"(?:#[^\n]*\n)*", cells[0])[0].split() if cells else []
        assert len(words) > 15, f"expected an answer in words to exercise {number}"
    assert source.endswith("\nplt.show()\n")


# The bibliography

CITED = re.compile(
    r"(?<![A-Z]\. )\b([A-Z][a-zé]+)(?:(?:, [A-Z][a-z]+)* & (?:van )?[A-Z][a-z]+)?(?: et al\.)?"
    r" \(?((?:19|20)\d\d)\b"
)
NO_NAMES = {"January", "February", "March", "April", "May", "June", "July", "August"} | {
    *("September", "October", "November", "December", "Figure", "Table", "Python", "Created"),
}


def citations(text: str) -> set[tuple[str, str]]:
    """Find what is cited as "First & Second 2013" or "First et al. (2013)": first name, year.

    A reference in full, with initials, needs no entry.
    """
    text = re.sub(r"\s*\n(?: *#)?\s*", " ", text)
    return {(name, year) for name, year in CITED.findall(text) if name not in NO_NAMES}


def test_every_paper_that_is_cited_is_in_the_bibliography():
    # Kills: a citation that a reader cannot look up.
    listed = {
        (re.match(r"[\wé]+", names)[0], year)
        for names, years in re.findall(
            r"^- \*\*(\D+?) ((?:\d{4}(?:, )?)+)\.\*\*",
            (DOCS / "bibliography.md").read_text("utf-8"),
            re.MULTILINE,
        )
        for year in years.split(", ")
    }
    assert ("Kingma", "2013") in listed
    files = [*ROOT.glob("numpyvae/**/*.py"), *ROOT.glob("tutorials/*.py"), *PAGES]
    texts = {path: path.read_text("utf-8") for path in files if path.name != "bibliography.md"}
    cited = {path.name: citations(text) - listed for path, text in texts.items()}
    assert {name: found for name, found in cited.items() if found} == {}


# Equations


def directives() -> list[tuple[str, str, str]]:
    """List every {equation}: page, number, and its text with options."""
    found = []
    for page in NOTES:
        text = page.read_text(encoding="utf-8")
        pattern = re.compile(r"^```\{equation\} (.+?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
        found += [(page.stem, m.group(1).strip(), m.group(2)) for m in pattern.finditer(text)]
    return found


def test_each_equation_of_the_register_has_one_place_in_the_notes():
    # Kills: an equation without an anchor, or with two.
    from numpyvae import equations

    registered = [e.number for e in (*equations.EQUATIONS, *equations.KINGMA_WELLING)]
    assert registered[:22] == [str(n) for n in range(1, 23)]
    shown = [number for _, number, _ in directives()]
    assert sorted(shown) == sorted(registered)


def test_each_equation_is_in_the_section_that_the_register_names():
    # Kills: a register whose sections are not those of the pages.
    from numpyvae import equations

    page_of = {number: page for page, number, _ in directives()}
    for equation in equations.EQUATIONS:
        title = (DOCS / "notes" / f"{page_of[equation.number]}.md").read_text("utf-8")
        head = title.splitlines()[0]
        if equation.section.startswith("App."):
            assert head.startswith(f"# Appendix {equation.section[-1]}"), equation.number
        else:
            first, last = _sections(head)
            assert first <= _section(equation.section) <= last, equation.number


def _section(text: str) -> tuple[int, int]:
    major, _, minor = text.strip("§ ").partition(".")
    return int(major), int(minor or 0)


def _sections(head: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read the sections of a page from its title, as "§1 – 3.1"."""
    found = re.match(r"# §([\d.]+)(?: – ([\d.]+))?", head)
    return _section(found[1]), _section(found[2] or found[1])


def test_functions_shown_unfolded_belong_to_their_equation():
    # Kills: an :open: with a function that is not in the register.
    from numpyvae import equations

    functions = {e.number: e.functions for e in (*equations.EQUATIONS, *equations.KINGMA_WELLING)}
    for page, number, text in directives():
        for opened in re.findall(r"^:open: (.+)$", text, re.MULTILINE):
            assert set(opened.split()) <= set(functions[number]), (page, number)


COMPUTED = ("1", "3", "4", "5", "7", "8", "11")  # their listing is the computation itself


def listings() -> set[str]:
    """Name what the pages show beside these equations, and the exact models' own methods for them.

    Eq. (11) has functions of one line on top of the one that is shown, and `Quadrature` computes
    by rules that have modules of their own: both are folded away on the pages.
    """
    from numpyvae import equations

    functions = {e.number: e.functions for e in equations.EQUATIONS}
    shown = set()
    for _, number, text in directives():
        if number in COMPUTED:
            opened = re.search(r"^:open: (.+)$", text, re.MULTILINE)
            shown |= set(opened[1].split() if opened else functions[number][:1])
            shown |= {f for f in functions[number] if re.match(r"exact\.(?!Quadrature)", f)}
    return shown


def delegation(source: str) -> str | None:
    """Say why a function is no computation in consecutive lines, or None if it is one."""
    body = ast.parse(textwrap.dedent(source)).body[0].body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # without its docstring
    if len(body) < 3:
        return f"{len(body)} statements"
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            called = node.value.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name.startswith("_"):
                return f"returns {name}(…)"
    return None


@pytest.mark.parametrize("name", sorted(listings()))
def test_the_code_beside_an_equation_is_its_computation(name):
    # Kills: a listing that only calls a private function.
    parts = name.split(".")
    home = importlib.import_module(".".join(["numpyvae", *parts[:-2]]))
    if inspect.isclass(getattr(home, parts[-2], None)):
        function = getattr(getattr(home, parts[-2]), parts[-1])
    else:
        home = importlib.import_module(".".join(["numpyvae", *parts[:-1]]))
        function = getattr(home, parts[-1])
    assert delegation(inspect.getsource(function)) is None


@pytest.mark.parametrize(
    "source",
    [
        "def f(vae, x, eps):\n    check(vae)\n    return _terms(vae, *vae.check_batch(x, eps))",
        "def f(self, x, q):\n    'Doc.'\n    return self._checked(x, q).kl(self.posterior(x))",
        "def f(x):\n    a = 1\n    if a:\n        return _f(x)\n    return x + a",
        "def f(self, x):\n    check(x)\n    x = x + 0\n    return self._f(x)",
    ],
)
def test_a_planted_delegation_is_found(source):
    # Kills: a test of listings that accepts everything.
    assert delegation(source)


def test_a_listing_of_three_lines_is_no_delegation():
    # Kills: a test of listings that refuses everything.
    source = "def f(a, b):\n    'Doc.'\n    a = a + 1\n    b = _g(b)\n    return h(a - b)"
    assert delegation(source) is None


def test_estimator_a_comes_before_estimator_b():
    # Kills: the order of the register reversed on the page.
    numbers = [number for _, number, _ in directives()]
    assert numbers.index("K&W §2.3 A") < numbers.index("K&W §2.3 B")


def test_the_table_of_equations_is_made_from_the_register():
    # Kills: a table written by hand.
    assert "```{equation-table}" in (DOCS / "notes" / "equations.md").read_text("utf-8")


REMARKS = {
    "2-intractable": "why actually not",
    "3-kl": "appendix A",
    "4-elbo": "contains the true",
    "5-inference-and-em": "M-step",
    "appendix-a": "$dz$",
}


@pytest.mark.parametrize("page", REMARKS)
def test_the_remarks_on_the_notes_are_on_their_pages(page):
    # Kills: a page rewritten without its remark.
    text = (DOCS / "notes" / f"{page}.md").read_text("utf-8")
    remarks = re.findall(r"^:::\{admonition\} A remark on the notes\n(.*?)^:::", text, re.M | re.S)
    assert any(REMARKS[page] in remark for remark in remarks)


# The API pages

NOT_FOR_USERS = {"core", "support", "command"}  # the eight files of `core` are listed instead


def public_modules() -> list[str]:
    """Every module or package that users are meant to import, without `numpyvae.`."""
    folders = [module.name for module in pkgutil.iter_modules(numpyvae.__path__)]
    files = [f"core.{module.name}" for module in pkgutil.iter_modules(numpyvae.core.__path__)]
    others = [f for f in folders if f not in NOT_FOR_USERS and not f.startswith("_")]
    return files + others


@pytest.mark.parametrize("module", public_modules())
def test_each_public_module_has_its_place_on_the_api_pages(module):
    # Kills: a new module that is not on an API page.
    pages = "".join(page.read_text("utf-8") for page in (DOCS / "api").glob("*.md"))
    assert f".. automodule:: numpyvae.{module}\n" in pages


def public_things() -> dict[str, object]:
    """Every public function and class, by the name under which users find it."""
    found = {}
    for module in public_modules():
        if module == "sklearn" and importlib.util.find_spec("sklearn") is None:
            continue
        home = importlib.import_module(f"numpyvae.{module}")
        for name in getattr(home, "__all__", ()):
            thing = getattr(home, name)
            thing = inspect.unwrap(thing) if callable(thing) else thing
            if inspect.isfunction(thing) or inspect.isclass(thing):
                found[f"{module}.{name}"] = thing
    return found


PUBLIC = public_things()
MATHEMATICS = {
    *("core.layers", "core.distributions", "core.elbo", "core.optimizers"),
    *("exact", "inference", "bounds", "estimators", "diagnostics"),
}


def sections(thing: object) -> dict[str, str]:
    """Split a numpydoc docstring: its words under "", and each section under its title."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return {"": parts[0].strip()} | dict(zip(parts[1::2], parts[2::2]))


def described(section: str) -> dict[str, str]:
    """Map the names that a section describes to what stands in their type slots."""
    found = {}
    for names, kind in re.findall(r"^(\S[^:\n]*?)(?: : (.*))?$", section, flags=re.MULTILINE):
        found |= {name.strip().lstrip("*"): kind for name in names.split(",")}
    return found


def expected_names(thing: object) -> set[str]:
    """The fields of a record, and the parameters of everything else that a caller makes."""
    if hasattr(thing, "_fields"):
        return set(thing._fields)
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return set()
    return set(inspect.signature(thing).parameters) - {"self", "args", "kwargs"}


def can_refuse(function) -> bool:
    """Tell whether a function raises, or checks what it is given."""
    tree = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    return any(
        isinstance(node, ast.Raise)
        or (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")).startswith("check_")
        )
        for node in tree
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_the_docstring_of_a_public_name_is_complete(name):
    # Kills: a parameter, a shape, an error, an example or a source that is left out.
    thing, parts = PUBLIC[name], sections(PUBLIC[name])
    # Parameters that several functions share may be described once, as "- `x : (B, D) array`", in
    # the module that defines the functions or in the one from which users import them.
    imported = importlib.import_module(f"numpyvae.{name.rpartition('.')[0]}")
    contract = "\n".join(map(inspect.getdoc, (inspect.getmodule(thing), imported)))
    names = dict(re.findall(r"^- `(\w+) : ([^`]*)`", contract, re.M))
    shared = bool(names)
    names |= described(parts.get("Parameters", "")) | described(parts.get("Attributes", ""))
    assert parts[""], "expected a summary"
    if thing in ACTIVATIONS.values():  # y, pull = f(x), as the module says
        assert "′ = " in parts[""]
        assert ">>>" in parts[""]
        return
    assert expected_names(thing) <= names.keys(), "expected every parameter"
    for each, kind in names.items():
        assert kind, f"expected a type or shape for {each}"
        assert "array" not in kind or "(" in kind, f"expected a shape for {each}, got {kind}"
    assert ">>>" in parts.get("Examples", ""), "expected an example that runs"
    if inspect.isfunction(thing):
        nothing = thing.__annotations__.get("return") == "None"
        assert nothing or parts.keys() & {"Returns", "Yields"}, "expected what it returns"
        assert shared or "Raises" in parts or not can_refuse(thing), "expected what it raises"
    if name.rpartition(".")[0] in MATHEMATICS and not re.search(r"\.(make|find|register)_", name):
        said = "".join(text for title, text in parts.items() if title != "Examples")
        source = r"Eq\. \(|\b(19|20)\d\d\b|§|[=≈≤←]"
        assert re.search(source, said), "expected an equation or a paper"


# The built site


class Page(HTMLParser):
    """Ids, links, resources, headings and images of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.headings: list[int] = []
        self.images: list[dict] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "object"):
            self.resources += [attrs[k] for k in ("src", "data", "poster") if attrs.get(k)]
            self.resources += [
                part.split()[0] for part in attrs.get("srcset", "").split(",") if part
            ]
        if tag == "link" and attrs.get("rel") not in ("canonical", "next", "prev"):
            self.resources.append(attrs.get("href", ""))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(attrs)


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """Every page of the built site."""
    root = Path(SITE).resolve()
    pages = {
        path: Page(path) for path in sorted(root.rglob("*.html")) if "_static" not in path.parts
    }
    assert root / "index.html" in pages, f"NUMPYVAE_SITE: expected index.html in {root}"
    return pages


@needs_site
def test_no_page_loads_a_script_style_font_or_picture_from_elsewhere(site):
    # Kills: a site that cannot be read offline.
    loaded = {
        (path.name, r) for path, page in site.items() for r in page.resources if is_external(r)
    }
    root = Path(SITE)
    for style in root.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        for url in re.findall(r"""(?:@import\s+|url\()\s*["']?([^"')\s]+)""", text):
            if is_external(url):
                loaded.add((style.name, url))
    assert loaded == set()


@needs_site
def test_every_internal_link_leads_to_a_page_and_to_an_anchor_on_it(site):
    # Kills: a renamed page or equation that something still points to.
    broken = []
    for path, page in site.items():
        for href in page.links:
            url = urlsplit(href)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(url.fragment)
            known = target in site and anchor in site[target].ids
            if not target.exists() or (anchor and target in site and not known):
                broken.append((path.name, href))
    assert broken == []


@needs_site
def test_all_22_equations_have_anchor_code_and_check_on_the_site(site):
    # Kills: a directive that leaves out one of its three parts.
    rows = []
    for path in site:
        if path.parent.name == "notes":
            rows += re.split(r'<div class="eq-row', path.read_text("utf-8"))[1:]
    found = {m[1]: row for row in rows if (m := re.search(r'id="eq-(\d+)"', row))}
    assert sorted(map(int, found)) == list(range(1, 23))
    for number, row in found.items():
        assert row.count('class="eq-function"') >= 1, number
        assert row.count('class="passed"') == 3, number
        assert "failed" not in row, number


@needs_site
def test_each_equation_leads_to_code_test_and_tutorial_and_each_of_them_back(site):
    # Kills: an equation that no tutorial uses, and a page without a link back.
    ways = {"api/": 0, "notes/tests": 0, "tutorials/": 0}
    for path in site:
        if path.parent.name != "notes" or path.stem in ("tests", "equations", "index"):
            continue
        rows = re.split(r'<div class="eq-row', path.read_text("utf-8"))[1:]
        for row in rows:
            if not (found := re.search(r'id="(eq-\d+)"', row)):
                continue
            for way, place in (
                ("api/", r'href="\.\./(api/\w+\.html)#'),
                ("notes/tests", rf'href="(tests\.html)#tests-{found[1]}"'),
                ("tutorials/", r'href="\.\./(tutorials/plot_\w+\.html)#'),
            ):
                leads = re.findall(place, row)
                assert leads, (found[1], way)
                root = path.parent if way == "notes/tests" else path.parents[1]
                back = {link for to in leads for link in site[root / to].links}
                # A tutorial may name a range, and leads to its ends.
                anchor = f"/{path.name}#eq-" if way == "tutorials/" else f"#{found[1]}"
                ends = re.compile(re.escape(anchor) + (r"\d+$" if anchor.endswith("-") else "$"))
                assert any(map(ends.search, back)), (found[1], way)
                ways[way] += 1
    assert set(ways.values()) == {22}


@needs_site
def test_each_figure_of_a_tutorial_has_both_themes_and_its_files(site):
    # Kills: a white figure on the dark theme, a figure without SVG and PDF.
    for path in site:
        if path.name.startswith("plot_"):
            html = path.read_text("utf-8")
            counts = [
                html.count(f"only-{theme} docutils container") for theme in ("light", "dark")
            ]
            counts.append(html.count("figure-files docutils container"))
            assert counts == [counts[0]] * 3, path.name
            assert counts[0] >= 1, path.name


@needs_site
def test_the_solutions_of_the_exercises_are_folded(site):
    # Kills: an answer that is visible below its question.
    pages = [path for path in site if path.name.startswith("plot_")]
    assert len(pages) == len(TUTORIALS)
    for path in pages:
        html = path.read_text("utf-8")
        exercises = html[html.index('<section id="exercises">') :]
        questions = len(re.findall(r'<ol class="arabic', exercises))
        assert exercises.count('<details class="solution">') == questions, path.name
        shown = re.sub(r'<details class="solution">.*?</details>', "", exercises, flags=re.DOTALL)
        assert "<pre>" not in shown, path.name


@needs_site
def test_the_table_on_the_site_agrees_with_the_register(site):
    # Kills: an old page after a change of the register.
    from numpyvae import equations

    html = (Path(SITE) / "notes" / "equations.html").read_text("utf-8")
    rows = re.findall(r"<tr.*?</tr>", html, re.S)[1:]
    register = (*equations.EQUATIONS, *equations.KINGMA_WELLING)
    assert len(rows) == len(register)
    for row, equation in zip(rows, register, strict=True):
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", row))
        for expected in (equation.section, equation.meaning.replace("’", "'")):
            assert expected in text.replace("’", "'"), equation.number
        for function in equation.functions:
            assert f"#numpyvae.{function}" in row, equation.number


@needs_site
def test_every_public_name_is_on_the_api_pages(site):
    # Kills: a function without a docstring, which autodoc leaves out silently.
    ids = set().union(*(page.ids for path, page in site.items() if path.parent.name == "api"))
    missing = [
        f"numpyvae.{module}.{name}"
        for module in public_modules()
        for name in getattr(importlib.import_module(f"numpyvae.{module}"), "__all__", ())
        if f"numpyvae.{module}.{name}" not in ids
    ]
    assert missing == []


@needs_site
def test_headings_are_in_order_and_pictures_have_alternative_text(site):
    # Kills: a page that a screen reader cannot follow.
    for path, page in site.items():
        if path.name in ("search.html", "genindex.html", "py-modindex.html"):
            continue
        assert page.headings.count(1) == 1, path
        steps = zip(page.headings, page.headings[1:])
        assert all(after <= before + 1 for before, after in steps), (path, page.headings)
        for image in page.images:
            # The gallery's thumbnails stand beside their titles: decoration, with an empty text.
            decoration = image["src"].endswith("_thumb.png") and image.get("alt") == ""
            assert image.get("alt") or decoration, (path, image)
            # Without a title the gallery writes the name of the file.
            assert not image["alt"].startswith("plot "), (path.name, image)


# In a browser, with the network cut

READ = [
    *("index", "faq", "results", "reproductions", "architecture", "teaching", "glossary"),
    *("clinic-catalog", "scikit-learn", "notes/tests", "api/libraries"),
    *(f"api/{name}" for name in ("elbo", "exact", "measuring", "model", "training")),
    *(f"notes/{name}" for name in ("index", "1-setting", "4-elbo", "6-together")),
    *(f"notes/{name}" for name in ("appendix-a", "equations")),
]


def wait_for_mathematics(page) -> None:
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise")


@needs_site
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", READ)
def test_a_page_is_read_without_network_errors_or_overflow(open_page, name, scheme):
    # Kills: raw TeX, a script that fails offline, and content wider than the screen.
    for width in (1400, 400):
        page, complaints = open_page(f"{name}.html", width, scheme)
        wait_for_mathematics(page)
        assert complaints == []
        for formula in page.locator(".math").all():
            assert formula.locator("svg").count() >= 1, formula.text_content()
        assert page.locator("merror, mjx-merror").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # the article alone can be wider, where it scrolls in the page
        article = page.locator(".bd-article-container")
        assert article.evaluate("(e) => e.scrollWidth - e.clientWidth") <= 1


@needs_site
def test_the_notes_have_two_columns_on_a_wide_screen_and_one_on_a_narrow(open_page):
    # Kills: a grid with the same number of columns on every screen.
    for width, columns in ((1400, 2), (400, 1)):
        page, _ = open_page("notes/4-elbo.html", width)
        row = page.locator(".eq-row").first
        words, code = (row.locator(c).bounding_box() for c in (".eq-words", ".eq-code"))
        side_by_side = code["x"] >= words["x"] + words["width"]
        assert side_by_side == (columns == 2), width
        assert code["x"] + code["width"] <= width


SLIDES = """() => {
  const all = [...document.querySelectorAll('.slides section')];
  return all.filter((slide) => !slide.querySelector('section')).map((slide) => {
    const { h, v } = Reveal.getIndices(slide);
    Reveal.slide(h, v);
    const shown = [...slide.children].filter((e) => !e.matches('aside'));
    const box = slide.getBoundingClientRect();
    const height = (e) => (e.getBoundingClientRect().bottom - box.top) / Reveal.getScale();
    const wide = (e) => e.getBoundingClientRect().right > box.right + 2;
    const said = (e) => (e.matches('img') ? e.alt : e.textContent).trim();
    return {
      name: `${h}/${v || 0} ${slide.firstElementChild.textContent}`,
      text: shown.filter((e) => !e.matches('h1, h2')).map(said).join(' ').trim(),
      height: Math.max(...shown.map(height)),
      wide: [...slide.querySelectorAll('pre, table, mjx-container, img')].filter(wide).length,
    };
  });
}"""


@needs_site
@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_every_slide_says_something_and_fits(open_page, number):
    # kills: a slide with its title alone, with a link alone, and one that is cut
    page, complaints = open_page(f"notes/slides-{number}.html")
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    page.evaluate("MathJax.startup.promise.then(() => Reveal.layout())")
    slides = page.evaluate(SLIDES)
    assert len(slides) > 20
    for slide in slides:
        assert len(slide["text"]) > 8, slide
        assert not slide["text"].endswith((":", "Try it")), slide
        assert slide["height"] <= 700, slide
        assert not slide["wide"], slide
    assert complaints == []


@needs_site
def test_the_search_finds_reparameterization(open_page):
    # Kills: a search that needs a server.
    page, complaints = open_page("search.html?q=reparameterization")
    results = page.locator("#search-results li")  # they come one after another
    for found in ("§3.7", "The model"):  # the second contains distributions.reparameterize
        results.filter(has_text=found).first.wait_for(timeout=20_000)
    assert complaints == []


@needs_site
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast(site, open_page, scheme):
    # Kills: text, and code in colors, below the contrast that WCAG 2 requires at level AA.
    page, _ = open_page("index.html", 1400, scheme)
    for path in site:
        if "_modules" in path.parts and path.stem != "elbo":
            continue
        page.goto(path.as_uri())
        seen, pale = page.evaluate(CONTRAST)
        assert seen > (1 if path.stem.startswith("slides") else 10)
        assert pale == {}, path.name


TOO_WIDE = """selector => [...document.querySelectorAll(selector)]
  .filter(e => e.checkVisibility() && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
  .map(e => [e.scrollWidth, e.clientWidth, e.textContent.trim().slice(0, 40)])"""
CODE = ".bd-article pre"
TABLES = (  # those in a box "wide-table" scroll
    ".pst-scrollable-table-container:not(.wide-table *), .eq-table-scroll, .eq-sides-scroll, "
    ".prev-next-area"
)
FORMULAS = ".bd-article div.math, .bd-article div.math mjx-container"


@needs_site
def test_code_fits_a_wide_screen_and_tables_and_formulas_a_narrow_one(site, open_page):
    # Kills: a column of code or of numbers that needs horizontal scrolling.
    for width, selector in ((1400, f"{CODE}, {TABLES}, {FORMULAS}"), (400, TABLES)):
        page, _ = open_page("index.html", width)
        for path in site:
            if "_modules" in path.parts or path.stem.startswith("slides"):
                continue
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            wait_for_mathematics(page)
            # On a narrow screen the long formulas of the API scroll in their boxes.
            wide = "" if path.parent.name == "api" else f", {FORMULAS}"
            assert page.evaluate(TOO_WIDE, selector + wide) == [], (path.name, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name


@needs_site
def test_the_landing_page_is_one_screen(open_page):
    # Kills: an idea, a picture or a card that is not visible without scrolling.
    page, _ = open_page("index.html")
    cards = page.locator(".sd-card")
    assert cards.count() == 3
    for what in cards.all() + page.locator(".landing .math, .landing img").all():
        if what.is_visible():
            box = what.bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 900
    lines = page.locator(".landing-start pre").all()
    assert len(lines) == 2
    assert all(line.bounding_box()["height"] < 60 for line in lines)  # a command is one line
