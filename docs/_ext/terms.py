"""Link the first mention of each term of the glossary on a page to the glossary."""

import re
from functools import cache
from pathlib import Path

from docutils import nodes
from pieces import link
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

PAGE = Path(__file__).parents[1] / "glossary.md"
PLACES = ("notes/", "tutorials/plot_", "faq", "own-data", "clinic", "results")
_CLOSED = (
    nodes.reference, nodes.title, nodes.literal, nodes.literal_block, nodes.raw, nodes.math,
    nodes.math_block, nodes.caption, nodes.thead, nodes.term, addnodes.pending_xref,
    addnodes.desc_signature,
)  # fmt: skip


@cache
def terms() -> list[str]:
    """Return the terms of the glossary, the longest first."""
    text = re.search(r"```\{glossary\}\n(.*?)\n```", PAGE.read_text("utf-8"), re.S)[1]
    found = re.findall(r"^(?! )(\S.*)$", text, re.M)
    return sorted(found, key=len, reverse=True)


@cache
def pattern() -> re.Pattern:
    """Return the pattern of a mention; a small first letter may be a capital at the start."""
    forms = [
        f"[{t[0]}{t[0].upper()}]{re.escape(t[1:])}" if t[0].islower() else re.escape(t)
        for t in terms()
    ]
    return re.compile(rf"(?<![\w-])({'|'.join(forms)})(?![\w-])")


class TermLinks(SphinxTransform):
    """Link the first mention of a term in the text of a page."""

    default_priority = 690

    def apply(self):
        if not self.env.docname.startswith(PLACES):
            return
        left = {term.lower(): term for term in terms()}
        for text in list(self.document.findall(nodes.Text)):
            if not _in_a_sentence(text):
                continue
            new, at = [], 0
            for match in pattern().finditer(text):
                if term := left.pop(match[0].lower(), None):
                    new += [nodes.Text(text[at : match.start()])]
                    new += [link(match[0], term, "std", "term", self.env.docname)]
                    at = match.end()
            if new:
                text.parent.replace(text, [*new, nodes.Text(text[at:])])


def _in_a_sentence(text: nodes.Text) -> bool:
    """Tell whether a text is part of a paragraph, where a link can stand."""
    node, paragraph = text.parent, False
    while node is not None:
        if isinstance(node, _CLOSED):
            return False
        paragraph = paragraph or isinstance(node, nodes.paragraph)
        node = node.parent
    return paragraph


def setup(app):
    app.add_transform(TermLinks)
    return {"parallel_read_safe": True}
