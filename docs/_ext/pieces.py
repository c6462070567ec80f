"""Functions that return the nodes which several extensions use."""

from docutils import nodes
from sphinx import addnodes


def box(name: str, *children: nodes.Node) -> nodes.container:
    return nodes.container("", *children, classes=[name])


def html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def details(summary: list[nodes.Node], *children: nodes.Node, name: str, opened=False):
    """Return the nodes of an HTML <details> element."""
    state = " open" if opened else ""
    yield html(f'<details class="{name}"{state}><summary>')
    yield nodes.inline("", "", *summary)
    yield html("</summary>")
    yield from children
    yield html("</details>")


def code_block(source: str, language: str = "python") -> nodes.literal_block:
    return nodes.literal_block(source, source, language=language, linenos=False)


def link(text: str, target: str, domain: str, kind: str, docname: str, code=False):
    inner = nodes.literal(text, text) if code else nodes.inline(text, text)
    return addnodes.pending_xref(
        "", inner, refdomain=domain, reftype=kind, reftarget=target, refexplicit=True,
        refdoc=docname, refwarn=True,
    )  # fmt: skip


def api_link(text: str, dotted: str, docname: str):
    return link(text, f"numpyvae.{dotted}", "py", "obj", docname, code=True)


def table(head: list[str], rows: list[list[list[nodes.Node]]], name: str) -> nodes.container:
    """Return a table in a box that scrolls if the screen is too narrow."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    header = nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in head))
    body = nodes.tbody("")
    for cells in rows:
        body += nodes.row("", *map(_entry, cells))
    group += [nodes.thead("", header), body]
    return box(f"{name}-scroll", nodes.table("", group, classes=[name]))


def _entry(cell: list[nodes.Node]) -> nodes.entry:
    """Return a table cell: blocks as they are, and text inside a paragraph."""
    if isinstance(cell[0], nodes.math_block):
        return nodes.entry("", *cell)
    return nodes.entry("", nodes.paragraph("", "", *cell))
