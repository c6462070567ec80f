"""The links *Try it* below the listings of the notes, and the cell of Python that they open.

A link leads to the page Try of the lab, and its address says what the cell contains:
`?example=core.elbo.elbo`, the examples of a function, or `?code=…`. On the pages of the notes
the script `lab/beside.js` opens the cell below the listing instead. It loads the other scripts of
the lab at the first link that is pressed, and Python when the reader asks for it.
"""

import doctest
from html import escape
from urllib.parse import urlencode

import lab
from docutils import nodes
from numpyvae_lab.cell import needs_scipy, shown  # found by the path that `lab` sets
from pieces import html
from sphinx.transforms import SphinxTransform


def try_it(docname: str, what: str, **query: str) -> nodes.raw:
    """Return a link to a cell; `what` is the name of the listing, for screen readers."""
    address = escape("../" * docname.count("/") + f"lab/try.html?{urlencode(query)}")
    link = html(f'<p class="lab-try"><a href="{address}" aria-label="Try {what}">Try it</a></p>')
    link["classes"].append("lab-try")  # by which the slides leave it out
    return link


def try_function(docname: str, dotted: str) -> list[nodes.Node]:
    """Return the link for a function with this name under numpyvae, unless it needs SciPy."""
    return [] if needs_scipy(dotted) else [try_it(docname, dotted, example=dotted)]


class TryBlocks(SphinxTransform):
    """Add a link below each session of Python on the pages of the notes.

    Its cell contains the sessions before it on the page, too, whose variables it uses.
    """

    default_priority = 800

    def apply(self):
        docname = self.env.docname
        if not docname.startswith("notes/"):
            return
        statements: list[str] = []
        for number, block in enumerate(list(self.document.findall(nodes.literal_block)), 1):
            found = doctest.DocTestParser().get_examples(block.astext())
            if _beside_equation(block) or not found or needs_scipy(block.astext()):
                continue
            statements += [shown(each.source) for each in found]
            if any(each.want for each in found):
                code = "\n".join(statements)
                block.parent.insert(
                    block.parent.index(block) + 1, try_it(docname, f"listing {number}", code=code)
                )


def _beside_equation(node: nodes.Node) -> bool:
    """Tell whether a block is in the code of an equation, where each function has its own link."""
    while node is not None:
        if isinstance(node, nodes.container) and "eq-code" in node["classes"]:
            return True
        node = node.parent
    return False


def add_cell(app, pagename, templatename, context, doctree):
    """Add the script and the cell that it copies to each page with a link."""
    if 'class="lab-try"' not in context.get("body", ""):
        return
    if found := lab.parts(app):
        context["body"] += f'<template id="lab-cell">{lab.panel("try", found)}</template>'
        app.add_js_file("lab/beside.js", loading_method="defer")


def setup(app):
    app.add_transform(TryBlocks)
    app.connect("html-page-context", add_cell)
    return {"parallel_read_safe": True}
