"""The command `clinic`: files of users, reports in four formats, and the package's own VAE."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from clinic_subjects import Patient

from numpyvae import VAE
from numpyvae.clinic import Finding, Report, Subject, examine, own, own_subjects, subject_of
from numpyvae.command import clinic as command
from numpyvae.command.cli import main
from numpyvae.core import elbo, layers
from numpyvae.core.likelihoods import Likelihood
from numpyvae.support import registry

KL = "0.5 * (mu**2 + np.exp(s) - s - 1).sum(-1)"
HEAD = "import numpy as np\nfrom numpyvae.clinic import Subject\n"


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def subject_text(name="vae", factor=1):
    return f'{name} = Subject(kl=lambda mu, s: {factor} * {KL}, scale="logvar", name="{name}")\n'


def error_of(capsys):
    """The one line on standard error, and nothing on standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("numpyvae")
    return line


# Files of users


def test_the_exit_code_says_whether_there_is_a_bug(tmp_path, capsys):
    # Kills: an exit code that does not depend on the report, or that a mere choice sets.
    right = write(tmp_path, HEAD + subject_text())
    assert main(["clinic", right]) == 0
    assert "no bug found" in capsys.readouterr().out
    wrong = write(tmp_path, HEAD + subject_text(factor=2), "wrong.py")
    assert main(["clinic", wrong]) == 1
    assert "KL without ½" in capsys.readouterr().out


def test_a_name_is_that_of_a_subject_or_of_a_function(tmp_path, capsys):
    # Kills: the first subject of the file taken for the named one, and a maker that is not called.
    text = HEAD + subject_text("a") + subject_text("b", 2)
    path = write(tmp_path, text + "def maker():\n    return b\n")
    assert [main(["clinic", f"{path}:{name}"]) for name in ("a", "b", "maker")] == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("import numpy\nx = 1 / 0\n", "", "line 2: expected a file that runs, got ZeroDivision"),
        ("x = (1\ny = 3\n", "", "line 1: expected a file that runs, got SyntaxError"),
        ("import sys\nsys.exit(3)\n", "", "line 2: expected a file that runs, got SystemExit: 3"),
        ("import no_such_module\n", "", "line 1: expected a file that runs, got ModuleNotFound"),
        ("def f():\n    return g()\ndef g():\n    return [][1]\n", ":f", "line 4"),
        (HEAD + "Subject(loss=3)\n", "", "line 3: expected a file that runs, got TypeError: loss"),
        (HEAD + subject_text("a") + subject_text("b"), "", "got several (a, b)"),
        (HEAD + "def make():\n    return 3\n", "", "got none; name it"),
        (HEAD + "def make():\n    return 3\n", ":make", "returns 3"),
        (HEAD + "def make(n):\n    return 3\n", ":make", "a function without arguments"),
        (HEAD + "x = 3\n", ":x", "expected a Subject"),
        (HEAD + subject_text("model"), ":modle", "did you mean model?"),
        (HEAD, "", "make one with numpyvae.clinic.Subject"),
        (HEAD, ":a b", "expected a name of the file after the colon"),
    ],
)
def test_a_bad_file_is_2_and_one_line(tmp_path, capsys, text, name, said):
    # Kills: a traceback, a line number of the package, and a guess between several subjects.
    path = write(tmp_path, text)
    assert main(["clinic", path + name]) == 2
    line = error_of(capsys)
    assert said in line
    assert str(path) in line or name == ":a b"


@pytest.mark.parametrize("where", ["missing.py", "folder.py", "notes.txt"])
def test_what_is_not_a_python_file_is_2(tmp_path, capsys, where):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert main(["clinic", str(tmp_path / where)]) == 2
    assert "expected a" in error_of(capsys)


def test_the_file_runs_once_with_its_folder_on_the_path(tmp_path, capsys):
    # Kills: a second run for the name, a helper beside the file that is not found when a function
    # imports it late, and a search path or a module that stays changed.
    write(tmp_path, "ONE = 1.0\n", "beside_mine.py")
    text = (
        f"{HEAD}print('runs')\ndef kl(mu, s):\n    import beside_mine\n"
        f"    return beside_mine.ONE * {KL}\nvae = Subject(kl=kl, scale='logvar')\n"
    )
    path = write(tmp_path, text)
    before = list(sys.path)
    assert main(["clinic", f"{path}:vae", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("runs") == 1
    assert json.loads(out)["counts"]["right"] == 2
    assert sys.path == before
    assert "mine" not in sys.modules
    del sys.modules["beside_mine"]


def test_nothing_that_could_be_examined_is_2(tmp_path, capsys):
    # Kills: exit code 0 for a subject whose functions all fail.
    path = write(tmp_path, "from numpyvae.clinic import Subject\nvae = Subject(kl=len)\n")
    assert main(["clinic", path]) == 2
    out, err = capsys.readouterr()
    assert "nothing could be examined" in out
    assert len(err.splitlines()) == 1


# Formats and files of the report


@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".txt", "vae: "), (".json", "{"), (".md", "# vae"), (".html", "<!doctype")],
)
def test_the_suffix_chooses_the_format(tmp_path, capsys, suffix, start):
    path = write(tmp_path, HEAD + subject_text())
    output = tmp_path / f"report{suffix}"
    assert main(["clinic", path, "--output", str(output)]) == 0
    assert output.read_text("utf-8").startswith(start)
    assert capsys.readouterr().out.startswith("vae: no bug found. 2 tests run, 2 passed")
    assert main(["clinic", path, "--out", str(output), "--format", "markdown"]) == 0
    assert output.read_text("utf-8").startswith("# vae")


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    # Kills: an examination of minutes whose report has no place.
    monkeypatch.setattr(command, "examined", None)
    assert main(["clinic", "mine.py", "--output", str(tmp_path / "report.pdf")]) == 2
    assert "--format" in error_of(capsys)
    assert main(["clinic", "mine.py", "--output", str(tmp_path / "none" / "report.md")]) == 1
    assert "expected a folder" in error_of(capsys)


def test_a_report_is_written_completely_or_not_at_all(tmp_path, capsys, monkeypatch):
    # Kills: a file that is opened before the report is ready, and an old one that is lost.
    path = write(tmp_path, HEAD + subject_text())
    output = tmp_path / "report.md"
    output.write_text("old")

    def fails(report):
        raise ValueError("no page")

    monkeypatch.setitem(command.FORMATS, "markdown", fails)
    assert main(["clinic", path, "--output", str(output)]) == 1
    assert output.read_text() == "old"
    names = {p.name for p in tmp_path.iterdir()} - {"__pycache__"}  # Python may write one
    assert names == {"mine.py", "report.md"}


def test_only_some_examinations_with_the_facts_of_the_others():
    # Kills: examinations that are left out although others need what they find.
    model = Patient(3)
    report = examine(model.graded(), only=["gradient"])
    assert {f.examination.partition(":")[0] for f in report.findings} == {"gradient"}
    assert report.findings[0].verdict == "right"
    with pytest.raises(ValueError, match="expected one of"):
        examine(model.graded(), only=["gradeint"])


# The report itself


FOUND = Report(
    "a <b> | c",
    ("log σ² (declared)",),
    (
        Finding("freeze", "right", found="1, 1"),
        Finding(
            "log p | x", "wrong", "report", "sum over rows reported", "1 < 2", "3", "Eq. (11)"
        ),
        Finding("KL: value", "wrong", "bug", "KL without ½", "1 | 2", "2", "K&W", "Multiply."),
        Finding("range", "unusual but legitimate", "choice", "σ ≥ 1 everywhere"),
        Finding("form", "undecided", advice="unclear"),
        *(Finding(f"test {i}", "not examined", advice=f"f{i % 2} not given") for i in range(9)),
        Finding("test 9", "not examined", advice="free bits"),
    ),
)


@pytest.mark.parametrize("width", [40, 60, 72, 100])
def test_the_text_is_as_wide_as_the_terminal(width, monkeypatch):
    # Kills: a column that does not wrap.
    monkeypatch.setenv("COLUMNS", str(width))
    text = str(FOUND)
    assert max(map(len, text.splitlines())) <= width
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, str(FOUND).splitlines())) <= 100


def test_bugs_come_first_and_the_last_line_counts():
    # Kills: findings in the order of the examinations, and a verdict that is only a color.
    text = FOUND.to_text(100)
    places = [text.index(t) for t in ("KL: value", "log p | x", "range", "form", "freeze")]
    assert places == sorted(places)
    assert text.splitlines()[0].startswith("a <b> | c: 1 bug found: KL without ½. Not right")
    assert text.splitlines()[-1] == (
        "5 tests run, 1 passed, 2 wrong, 1 unusual but legitimate, 1 undecided; 10 not examined."
    )
    for word in ("BUG", "wrong figure", "unusual", "undecided", "right"):
        assert word in text
    assert text.count("docs/clinic-catalog.md#kl-without-½") == 1


def test_what_was_not_examined_is_grouped_by_its_reason():
    # Kills: a line for each of many tests.
    assert FOUND.not_examined == {
        "not given: f0, f1": tuple(f"test {i}" for i in range(9)),
        "free bits": ("test 9",),
    }
    assert "3 more" in FOUND.to_text(100)


def test_the_dictionary_of_a_report_goes_there_and_back():
    # Kills: a field that is lost in JSON.
    saved = json.loads(json.dumps(FOUND.to_dict()))
    assert Report.from_dict(saved) == FOUND
    assert saved["findings"][2]["page"] == "docs/clinic-catalog.md#kl-without-½"
    assert saved["ok"] is False


def test_markdown_has_its_columns_whatever_the_texts_are():
    # Kills: a pipe in a text that begins a new column, and HTML that comes through.
    rows = [line for line in FOUND.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert len(rows) == 2 + 5
    assert r"\<b\>" in FOUND.to_markdown()


class Elements(HTMLParser):
    """The elements of a page, whether each is closed, and its texts."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_sound_complete_and_needs_nothing_else():
    # Kills: an element that is not closed, a text that is taken for HTML, a file from elsewhere,
    # and a verdict that only its color tells.
    page = Elements(FOUND.to_html())
    assert page.open == []
    tags = [tag for tag, _ in page.seen]
    assert tags.count("article") == 4
    assert tags.count("tr") == 2
    assert not any({"src", "href"} & set(attributes) for _, attributes in page.seen)
    assert {"b", "script", "link", "img"}.isdisjoint(tags)
    assert {"BUG", "wrong figure", "unusual", "undecided", "right"} <= set(page.texts)
    assert any(t.startswith("1 bug found: KL without ½") for t in page.texts)
    assert "prefers-color-scheme: dark" in FOUND.to_html()


def test_joined_reports_name_the_subject_of_each_finding():
    parts = [Report(n, ("g", n), (Finding("KL", "right"),)) for n in ("one", "two")]
    report = Report.joined("both", parts)
    assert [f.examination for f in report.findings] == ["one: KL", "two: KL"]
    assert report.guesses == ("g (one, two)", "one (one)", "two (two)")


# The package's own VAE


CHEAP = ["kl", "draws", "reconstruction", "assembly", "forms", "gradient", "numbers"]


def test_the_own_vae_is_right_in_every_likelihood():
    # Kills: a likelihood that is left out, or that the clinic accuses.
    reports = [examine(subject, 3, CHEAP) for subject in own_subjects(3)]
    assert len(reports) == len(registry.LIKELIHOODS)
    for report in reports:
        assert report.names == (), str(report)
        told = {f.examination: f.verdict for f in report.findings}
        for test in ("KL: value", "reconstruction: value", "assembly: loss = −ELBO"):
            assert told[test] == "right", str(report)
        assert told["gradient: derivative of the loss"] == "right", str(report)


def test_no_examination_of_an_own_vae_fails():
    # Kills: an examination that cannot handle a likelihood of one's own, or noise as an argument.
    (subject,) = (s for s in own_subjects(1) if s.name == "poisson")
    report = examine(subject, 1)
    assert report.names == (), str(report)
    assert report.counts["undecided"] == 0, str(report)
    assert list(report.not_examined) == [
        "not given: eval",
        "the reconstruction is not a Bernoulli log-likelihood",
        "the mean of a likelihood of one's own is not known",
    ]


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian:head", "binomial:16"])
def test_a_bug_of_the_own_elbo_is_named_in_any_likelihood(likelihood, monkeypatch):
    # Kills: a subject whose loss is not computed by the package.
    right = elbo.gaussian_kl

    def doubled(mu, logvar):
        kl, pull = right(mu, logvar)
        return 2 * kl, lambda d: pull(2 * d)

    monkeypatch.setattr(elbo, "gaussian_kl", doubled)
    (subject,) = (s for s in own_subjects(0) if s.name == likelihood)
    assert examine(subject, only=["assembly"]).names == ("KL without ½",)


class Exponential(Likelihood):
    """x ≥ 0 from log rates l: log p = l − x e^l."""

    name = "exponential"
    support = (0, np.inf)

    def log_prob(self, x, out, parameters):
        return (out - x * np.exp(out)).sum(-1), None

    def mean(self, out):
        return np.exp(-out)


@pytest.mark.parametrize(("factor", "names"), [(1, ()), (2, ("KL without ½",))])
def test_a_likelihood_that_the_clinic_does_not_know_is_examined_too(factor, names, monkeypatch):
    # Kills: a model of a user's own likelihood that is refused, accused, or always acquitted.
    right = elbo.gaussian_kl
    monkeypatch.setattr(elbo, "gaussian_kl", lambda m, s: (factor * right(m, s)[0], None))
    rng = np.random.Generator(np.random.PCG64(4))
    vae = VAE(6, 2, (5,), likelihood=Exponential(), dtype="float64")
    vae.parameters.flat = rng.normal(0, 0.6, vae.parameters.flat.size)
    report = examine(subject_of(vae, rng.exponential(1, (24, 6))), only=["kl", "assembly"])
    assert report.names == names, str(report)
    told = {f.examination: f.verdict for f in report.findings}
    assert told["assembly: loss = −ELBO"] == ("wrong" if names else "right")


def test_a_likelihood_without_a_term_of_x_alone_is_not_accused():
    # Kills: log x! of a Poisson, which a loss may leave out, taken for a bug.
    (subject,) = (s for s in own_subjects(0) if s.name == "poisson")
    fields = {f: getattr(subject, f) for f in ("encode", "decode", "loss", "reconstruction", "x")}
    likelihood = lambda x, out: x * out - np.exp(out)  # noqa: E731
    more = {"noise": "eps", "scale": "logvar", "likelihood": likelihood}
    report = examine(Subject(**fields, **more), only=["reconstruction", "assembly"])
    assert report.names == (), str(report)
    told = {f.examination: f.verdict for f in report.findings}
    assert told["reconstruction: value"] == "right"
    assert told["assembly: loss = −ELBO"] == "undecided"


def test_without_a_file_all_is_one_report(capsys, monkeypatch):
    # Kills: subjects or complex steps that are not in the report, and a choice of both.
    monkeypatch.setattr(own, "LIKELIHOODS", {"bernoulli": None, "poisson": None})
    assert main(["clinic", "--only", "kl", "complex-step", "--format", "json"]) == 0
    tests = [f["examination"] for f in json.loads(capsys.readouterr().out)["findings"]]
    assert tests[:2] == ["bernoulli: KL: value", "poisson: KL: value"]
    for name in ("layer tanh", "layer dense", "gaussian_kl", "ELBO Eq. (7) gaussian:head"):
        assert any(test.startswith(f"complex step: {name}") for test in tests)
    assert main(["clinic", "mine.py", "--only", "complex-step"]) == 2
    assert "complex-step without a file" in error_of(capsys)
    with pytest.raises(SystemExit):
        main(["clinic", "--only", "kl", "mine.py"])
    assert "write the file before --only" in error_of(capsys)


def test_a_wrong_gradient_of_this_package_is_a_bug(capsys, monkeypatch):
    def wrong_tanh(x):
        y, pull = layers.tanh(x)
        return y, lambda dy: pull(dy) * (1 + 1e-9)

    monkeypatch.setitem(registry.ACTIVATIONS, "tanh", wrong_tanh)
    assert main(["clinic", "--only", "complex-step"]) == 1
    assert re.search(r"complex step: layer tanh +BUG", capsys.readouterr().out)


# In a test suite


def test_check_and_parametrize_in_a_run_of_pytest(tmp_path):
    # Kills: a decorator that pytest cannot collect, a bug that passes, and a skip without reason.
    write(
        tmp_path,
        HEAD
        + subject_text("right")
        + subject_text("wrong", 2)
        + "import numpyvae.clinic as clinic\n"
        "@clinic.parametrize([right, wrong])\n"
        "def test_vae(check_vae):\n    check_vae()\n"
        "def test_right():\n    clinic.check(right)\n"
        "def test_wrong():\n    clinic.check(wrong)\n",
        "test_mine.py",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    failed = re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    assert done.returncode == 1, done.stdout
    assert failed == ["test_vae[wrong-assembly]", "test_wrong"], done.stdout
    assert "KL without ½" in done.stdout
    assert re.search(r"2 failed, \d+ passed, \d+ skipped", done.stdout), done.stdout
    assert "gradient, parameters, loss not given" in done.stdout
