"""Notebooks of the problem sheets.

{problems}`1 student`      a link to the notebook with blanks
{problems}`1 teacher`      a link to the notebook with solutions and answers
"""

from pathlib import Path

from docutils import nodes
from sheets import READERS, SHEETS, file_name, notebook
from sphinx.util.docutils import SphinxRole
from sphinx.util.osutil import relative_uri


class Problems(SphinxRole):
    """A link to a notebook."""

    def run(self):
        number, reader = self.text.split()
        target = f"problems/{file_name(number, reader)}"
        uri = relative_uri(f"{self.env.docname}.html", target)
        text = "with blanks" if reader == "student" else "with solutions"
        return [nodes.reference("", text, refuri=uri, internal=False)], []


def write_all(app, exception):
    """Write the notebooks into the site."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir, "problems")
        folder.mkdir(exist_ok=True)
        for number in SHEETS:
            for reader in READERS:
                (folder / file_name(number, reader)).write_text(notebook(number, reader), "utf-8")


def setup(app):
    app.add_role("problems", Problems())
    app.connect("build-finished", write_all)
    return {"parallel_read_safe": True}
