"""The notes' equations on the pages, made from the one register, `numpyvae.equations`.

    ```{equation} 7            one equation: statement, code, and a check on three models
    ```{equation-table}        one table of all equations
    ```{equation-tests}        the tests that mention each equation

The checks are computed when the site is built. A check that fails gives a warning, and a build
with -W fails. "Eq. (7)" becomes a link in every text on every page.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import ClassVar

from course import title
from docutils import nodes
from docutils.parsers.rst import directives
from pieces import api_link, box, code_block, details, link, table
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from trying import try_function

from numpyvae import equations

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
REGISTER = {e.number: e for e in (*equations.EQUATIONS, *equations.KINGMA_WELLING)}
MODELS = {
    "linear-gaussian": "linear-Gaussian",
    "quadrature": "tanh decoder",
    "discrete": "finite mixture",
}
CHECK_OF_ALL = (
    "test_equations.py",
    "test_both_sides_of_every_equation_agree",
)  # it mentions no number
_MENTION = re.compile(r"Eq\. \((\d{1,2})\)(?:(?:[–-]| to Eq\. )\((\d{1,2})\))?")


# Contents of the register and of the package


def anchor(number: str) -> str:
    """Return the id of an equation: eq-7, or kw-2-3-a for a statement without a number."""
    if number.isdecimal():
        return f"eq-{number}"
    return "-".join(re.findall(r"[a-z0-9]+", number.lower().replace("k&w", "kw")))


def label(number: str) -> str:
    return f"({number})" if number.isdecimal() else number


@cache
def outcomes() -> dict[str, dict[str, equations.Outcome]]:
    """Check every equation on every model, once per build."""
    found = {}
    for model in MODELS:
        checked = equations.check_equations(equations.make_case(model))
        found[model] = {outcome.equation.number: outcome for outcome in checked}
        for outcome in checked:
            if not outcome.passed:
                log.warning("equation %s fails on the %s", outcome.equation.number, model)
    return found


def find(dotted: str):
    """Return the object with this dotted name under numpyvae."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["numpyvae", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise LookupError(f"numpyvae.{dotted}: no such name")


def without_docstring(source: str) -> tuple[str, str]:
    """Split the source of one function into its code and its docstring."""
    source = textwrap.dedent(source)
    function = ast.parse(source).body[0]
    doc = ast.get_docstring(function) or ""
    lines = source.splitlines()
    if doc:
        text = function.body[0]
        del lines[text.lineno - 1 : text.end_lineno]
        # Remove the blank line after the docstring, too.
        if len(lines) >= text.lineno and not lines[text.lineno - 1].strip():
            del lines[text.lineno - 1]
    return "\n".join(lines), doc


def in_lines(latex: str, width: int = 34) -> str:
    """Break a long statement before =, ≥, + and − outside all brackets."""
    depth, pieces, start = 0, [], 0
    for i, character in enumerate(latex):
        depth += (character in "{([") - (character in "})]")
        if depth == 0 and i and latex[i - 1] == " " and re.match(r"(=|\\geq|\+|-) ", latex[i:]):
            pieces.append(latex[start:i])
            start = i
    pieces.append(latex[start:])
    lines = [pieces[0]]
    for piece in pieces[1:]:
        if _length(lines[-1]) + _length(piece) <= width:
            lines[-1] += piece
        else:
            lines.append(piece)
    if len(lines) == 1:
        return latex
    # Sphinx sets lines that are divided by a double backslash in a `split`.
    indents = [
        "& " if i == 0 or lines[0].startswith("=") else r"&\quad {}" for i in range(len(lines))
    ]
    return r" \\ ".join(indent + line for indent, line in zip(indents, lines))


def _length(latex: str) -> float:
    """Estimate the width of a formula, in characters."""
    text = re.sub(r"[_^]\{\\text\{\w+\}\}", "", latex)  # words at a brace have their own line
    text = re.sub(r"\\(log|argmin)", "mmm", text)
    text = re.sub(r"\\(mathrm|mathbb|operatorname|tfrac|frac|tilde|mathcal)", "", text)
    text = re.sub(r"\\[a-zA-Z]+|\\.", "m", text)
    small = sum(len(s) for s in re.findall(r"[_^]\{([^{}]*)\}|[_^](\w)", text) for s in s)
    return len(re.sub(r"[{}_^&\s]", "", text)) - 0.4 * small


@cache
def tests() -> list[tuple[str, str, str]]:
    """List every test of the package: (file, test, source)."""
    found = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
                continue
            segment = ast.get_source_segment(source, node)
            for decorator in reversed(node.decorator_list):
                segment = f"@{ast.get_source_segment(source, decorator)}\n{segment}"
            found.append((path.name, node.name, segment))
    return found


def _check_of_all() -> tuple[str, str, str]:
    """Return the test that checks every equation of the register."""
    return next(test for test in tests() if test[:2] == CHECK_OF_ALL)


@cache
def tests_by_equation() -> dict[str, list[tuple[str, str, str]]]:
    """Map each number to the tests that mention it."""
    found = defaultdict(list)
    for test in tests():
        for number in mentioned(test[-1]):
            found[number].append(test)
    return found


@cache
def tutorials_by_equation() -> dict[str, list[str]]:
    """Map each number to the tutorials that mention it."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tutorials").glob("plot_*.py")):
        for number in mentioned(path.read_text(encoding="utf-8")):
            found[number].append(path.stem)
    return found


def mentioned(text: str) -> list[str]:
    """List the equations that a text mentions: Eq. (n), Eq. (n)–(m) and Eq. (n) to Eq. (m)."""
    numbers = set()
    for first, last in _MENTION.findall(re.sub(r"\s+", " ", text)):
        numbers.update(range(int(first), int(last or first) + 1))
    return [str(n) for n in sorted(numbers)]


# Nodes


def tick(outcome: equations.Outcome) -> nodes.Node:
    text, name = ("✓", "passed") if outcome.passed else ("✗ fails", "failed")
    return nodes.inline(text, text, classes=[name])


def functions(dotted_names, opened, docname: str):
    """Show the source of functions, each with its docstring folded away below the code."""
    for dotted in dotted_names:
        code, doc = without_docstring(inspect.getsource(find(dotted)))
        inside = [code_block(code)]
        if doc:
            folded = code_block(doc, "none")
            inside += details([nodes.Text("docstring")], folded, name="eq-docstring")
        inside += try_function(docname, dotted)
        text = api_link(dotted, dotted, docname)
        yield from details([text], *inside, name="eq-function", opened=dotted in opened)


# Directives


class EquationDirective(SphinxDirective):
    """One equation: statement and explanation on the left, code on the right, the check below.

    The content of the directive explains the equation. `:open:` names the functions to show
    unfolded; by default it is the first function of the register.
    """

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {"open": directives.unchanged}

    def run(self):
        number = self.arguments[0]
        if number not in REGISTER:
            raise self.error(f"equation {number!r}: not in the register")
        equation = REGISTER[number]
        row = box("eq-row", self._words(equation), self._code(equation), self._check(equation))
        return [row]

    def _words(self, equation):
        number = equation.number
        lead = box("eq-lead")
        self.state.nested_parse(self.content, self.content_offset, lead)
        latex = in_lines(equation.latex)
        formula = nodes.math_block(latex, latex, nowrap=False, number=None, label=None)
        name = anchor(number)
        mark = nodes.reference("", label(number), refid=name, internal=True)
        statement = box(
            "eq-statement", formula, nodes.paragraph("", "", mark, classes=["eq-number"])
        )
        statement["ids"].append(name)
        statement["names"].append(name)
        self.state.document.note_explicit_target(statement)
        meaning = nodes.paragraph("", equation.meaning, classes=["eq-meaning"])
        return box("eq-words", lead, statement, meaning)

    def _code(self, equation):
        opened = self.options.get("open", equation.functions[0]).split()
        for dotted in set(opened) - set(equation.functions):
            raise self.error(f":open: {dotted}: not a function of equation {equation.number}")
        # Functions shown unfolded come first.
        order = sorted(equation.functions, key=lambda dotted: dotted not in opened)
        return box("eq-code", *functions(order, opened, self.env.docname))

    def _check(self, equation):
        rows = []
        for model, name in MODELS.items():
            outcome = outcomes()[model].get(equation.number)
            if outcome is None:
                continue
            largest = outcome.largest_difference
            difference = "0" if largest == 0 else f"{largest:.0e}"
            numbers = (f"{outcome.left:.10f}", f"{outcome.right:.10f}", difference)
            cells = [[nodes.literal(text, text.replace("-", "−"))] for text in numbers]
            rows.append([[nodes.Text(name)], *cells, [tick(outcome)]])
        right = f"{equation.relation} right side"
        head = ["exact model", "left side", right, "largest difference", ""]
        about = nodes.paragraph("", "", nodes.strong("", "Checked in this build. "))
        about += self.parse_inline(_what(equation))[0]
        words = box("eq-about", about, *self._trace(equation))
        return box("eq-check", words, table(head, rows, "eq-sides"))

    def _trace(self, equation):
        """Link to the tests and tutorials that mention the equation."""
        docname, parts = self.env.docname, []
        number = equation.number
        if number.isdecimal():
            count = 1 + len(tests_by_equation().get(number, ()))  # with the check of all equations
            text = "1 test" if count == 1 else f"{count} tests"
            parts.append(
                link(f"{text} of Eq. ({number})", f"tests-{anchor(number)}", "std", "ref", docname)
            )
        for stem in tutorials_by_equation().get(number, ()):
            parts.append(link(title(stem), f"sphx_glr_tutorials_{stem}.py", "std", "ref", docname))
        if not parts:
            return []
        line = nodes.paragraph("", "See also: ", classes=["eq-trace"])
        for i, part in enumerate(parts):
            line += [nodes.Text(" · "), part] if i else [part]
        return [line]


def _what(equation) -> str:
    """Describe the two sides in a sentence."""
    if equation.check.__doc__:
        text = " ".join(equation.check.__doc__.split())
        text = re.sub(r"(: Eq\. \(\d+\)| \(K&W[^)]*\))?\.?$", "", text) + "."
        return text.replace("E_q[", r"$\mathbb{E}_q$[")
    number = int(equation.number)
    return f"Line ({number - 1}) and line ({number}), each summed or integrated as it is written."


class Beside(SphinxDirective):
    """Text on the left and functions on the right, for statements without a number."""

    required_arguments = 1
    optional_arguments = 9
    has_content = True

    def run(self):
        words = box("eq-words")
        self.state.nested_parse(self.content, self.content_offset, words)
        column = box("eq-code", *functions(self.arguments, self.arguments, self.env.docname))
        return [box("eq-row", words, column)]


class EquationTable(SphinxDirective):
    """All equations: statement, meaning, code, and the number of models that pass the check."""

    def run(self):
        rows = []
        for number, equation in REGISTER.items():
            checked = [outcomes()[model].get(number) for model in MODELS]
            checked = [outcome for outcome in checked if outcome is not None]
            worst = max(checked, key=lambda o: o.largest_difference / o.tolerance)
            number_link = link(label(number), anchor(number), "std", "ref", self.env.docname)
            latex = in_lines(equation.latex, width=40)
            formula = nodes.math_block(latex, latex, nowrap=False, number=None, label=None)
            meaning = nodes.paragraph("", equation.meaning, classes=["eq-meaning"])
            names = []
            for dotted in equation.functions:
                short = dotted.split(".", 1)[1]
                names += [nodes.Text(" "), api_link(short, dotted, self.env.docname)]
            passed = nodes.Text(f"{sum(o.passed for o in checked)} of {len(checked)} ")
            section = nodes.Text(equation.section)
            rows.append(
                [[number_link], [section], [formula, meaning], names, [passed, tick(worst)]]
            )
        head = ["", "notes", "statement", "code", "models"]
        return [table(head, rows, "eq-table")]


class EquationTests(SphinxDirective):
    """The tests that mention each equation, with their source."""

    def run(self):
        out, shown = [], {}
        for number in map(str, range(1, 23)):
            name = f"tests-{anchor(number)}"
            section = nodes.section(ids=[name], names=[name])
            section += nodes.title("", f"Tests of Eq. ({number})")
            self.state.document.note_explicit_target(section)
            back = link(f"Eq. ({number})", anchor(number), "std", "ref", self.env.docname)
            section += nodes.paragraph("", "", nodes.Text("Tests of "), back, nodes.Text(":"))
            for file, test, source in [_check_of_all(), *tests_by_equation().get(number, ())]:
                place = f"tests/{file}::{test}"
                if place in shown:
                    line = nodes.paragraph("", "", nodes.literal("", place), nodes.Text(", see "))
                    line += nodes.reference(
                        "", f"({shown[place]})", refid=f"tests-eq-{shown[place]}"
                    )
                    section += line
                    continue
                shown[place] = number
                section += details(
                    [nodes.literal("", place)], code_block(source), name="eq-function"
                )
            out.append(section)
        return out


class EquationLinks(SphinxTransform):
    """Turn each Eq. (n) in the text of docstrings, tutorials and pages into a link."""

    default_priority = 700

    def apply(self):
        closed = (
            nodes.reference, nodes.title, nodes.literal, nodes.literal_block, nodes.raw,
            nodes.math, nodes.math_block, addnodes.pending_xref, addnodes.desc_signature,
        )  # fmt: skip
        docname = self.env.docname
        for text in list(self.document.findall(nodes.Text)):
            parent = text.parent
            if "Eq. (" not in text or _inside(parent, closed):
                continue
            new, at = [], 0
            for match in re.finditer(r"Eq\. \((\d{1,2})\)", text):
                if not 1 <= int(match.group(1)) <= 22:
                    continue
                new += [nodes.Text(text[at : match.start()])]
                new += [link(match.group(), f"eq-{match.group(1)}", "std", "ref", docname)]
                at = match.end()
            parent.replace(text, [*new, nodes.Text(text[at:])])


def _inside(node, kinds) -> bool:
    while node is not None:
        if isinstance(node, kinds):
            return True
        node = node.parent
    return False


def _always_anew(app, env, added, changed, removed):
    """Read the notes' pages in every build, since they show code and tests of many files."""
    return [name for name in env.found_docs if name.startswith("notes/")]


def setup(app):
    app.connect("env-get-outdated", _always_anew)
    app.add_directive("equation", EquationDirective)
    app.add_directive("beside", Beside)
    app.add_directive("equation-table", EquationTable)
    app.add_directive("equation-tests", EquationTests)
    app.add_transform(EquationLinks)
    return {"parallel_read_safe": True}
