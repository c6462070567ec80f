"""Names in code in a table may be broken after a dot or an underscore, and nowhere else."""

import re

from docutils import nodes
from pieces import html
from sphinx.transforms.post_transforms import SphinxPostTransform


class BreakNames(SphinxPostTransform):
    default_priority = 500  # after the links are resolved
    formats = ("html",)

    def run(self, **kwargs):
        for entry in self.document.findall(nodes.entry):
            for literal in list(entry.findall(nodes.literal)):
                parts = re.split(r"(?<=[a-zA-Z][._])(?=\w)", literal.astext())
                if len(parts) == 1:
                    continue
                literal.clear()
                for i, part in enumerate(parts):
                    literal += [html("<wbr>")] * (i > 0) + [nodes.Text(part)]


def setup(app):
    app.add_post_transform(BreakNames)
    return {"parallel_read_safe": True}
