"""Changes to the pages that sphinx-gallery makes from the tutorials.

The number of a tutorial's file is put before its title, so that the course has an order. In the
section "Exercises", the solution after each numbered question is folded away.
"""

import ast
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from pieces import details
from sphinx.transforms import SphinxTransform

FOLDER = Path(__file__).parents[2] / "tutorials"


@cache
def title(stem: str) -> str:
    """Return the number and the title of a tutorial: "1. A first …" for plot_01_first_vae."""
    doc = ast.get_docstring(ast.parse((FOLDER / f"{stem}.py").read_text("utf-8")))
    return f"{number(stem)}. {doc.strip().splitlines()[0]}"


def number(stem: str) -> int:
    return int(re.match(r"plot_(\d+)_", stem)[1])


class NumberTitle(SphinxTransform):
    """Put the number of the file before the title, which also puts it into links and menus."""

    default_priority = 300

    def apply(self):
        stem = self.env.docname.removeprefix("tutorials/")
        if not stem.startswith("plot_"):
            return
        head = next(self.document.findall(nodes.title))
        head.insert(0, nodes.Text(f"{number(stem)}. "))


class FoldSolutions(SphinxTransform):
    """Fold away the solution after each numbered question of the section Exercises."""

    default_priority = 880

    def apply(self):
        if not self.env.docname.startswith("tutorials/plot_"):
            return
        for section in self.document.findall(nodes.section):
            if section.next_node(nodes.title).astext() == "Exercises":
                section.children = [*_folded(section.children)]
                for child in section.children:
                    child.parent = section


def _folded(children):
    """Yield the children of the section, each solution inside a <details> element."""
    solution: list[nodes.Node] = []
    asked = False
    for child in [*children, None]:
        question = isinstance(child, nodes.enumerated_list)
        if question or child is None or _is_end(child):
            if any(not isinstance(node, nodes.comment) for node in solution):
                yield from details([nodes.Text("a solution")], *solution, name="solution")
            solution = []
            asked = question
        if asked and not question:
            solution.append(child)
        elif child is not None:
            yield child


def _is_end(node: nodes.Node) -> bool:
    """Tell whether a node belongs to the gallery's footer: the time and the downloads."""
    return any(name.startswith(("sphx-glr-timing", "sphx-glr-footer")) for name in _classes(node))


def _classes(node: nodes.Node) -> list[str]:
    return [name for n in node.findall(nodes.Element) for name in n.get("classes", ())]


def setup(app):
    app.add_transform(NumberTitle)
    app.add_transform(FoldSolutions)
    return {"parallel_read_safe": True}
