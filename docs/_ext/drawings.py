"""Drawings of `figures.py`, `guide_figures.py` and `reproduced.py`, in a light and a dark version.

    ```{drawing} NAME
    :alt: description of the drawing for readers who cannot see it

    The caption.
    ```

The code of the drawing is folded away below it, unless `:nocode:` is given.
"""

import inspect
from pathlib import Path
from typing import ClassVar

import figures
import guide_figures
import reproduced
from docutils import nodes
from docutils.parsers.rst import directives
from pieces import box, code_block, details
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import numpyvae

log = logging.getLogger(__name__)
figures.DRAWINGS.update(guide_figures.DRAWINGS | reproduced.DRAWINGS)

FOLDER = Path("_build", "generated", "drawings")  # under the pages


class Drawing(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged_required, "nocode": directives.flag}

    def run(self):
        name = self.arguments[0]
        if name not in figures.DRAWINGS or "alt" not in self.options:
            raise self.error(
                f"drawing {name!r}: expected one of figures.py, guide_figures.py or "
                "reproduced.py, with :alt:"
            )
        for module in (figures, guide_figures, reproduced):
            self.env.note_dependency(module.__file__)
        figure = nodes.figure(classes=["drawing", f"drawing-{name.replace('_', '-')}"])
        # The box around both pictures is needed: the theme hides a caption that directly follows a
        # picture of the other color scheme.
        pictures = box("drawing-pictures")
        for palette in ("light", "dark"):
            uri = f"/{(FOLDER / f'{name}-{palette}.svg').as_posix()}"
            relative, _ = self.env.relfn2path(uri)
            self.env.note_dependency(relative)
            pictures += nodes.image(
                uri=f"/{relative}", alt=self.options["alt"], classes=[f"only-{palette}"]
            )
        figure += pictures
        if self.content:
            caption = nodes.container()
            self.state.nested_parse(self.content, self.content_offset, caption)
            figure += nodes.caption("", "", *caption[0].children)
        if "nocode" in self.options:
            return [figure]
        source = inspect.getsource(figures.DRAWINGS[name])
        code = details(
            [nodes.Text("the code of this picture")], code_block(source), name="eq-docstring"
        )
        return [box("drawing-box", figure, *code)]


def changed(name: str) -> float:
    """Return when the sources of a drawing changed last."""
    if name in reproduced.DRAWINGS:
        sources = [Path(reproduced.__file__), reproduced.FOLDER / f"{name}.json"]
    else:
        files = [figures.__file__, guide_figures.__file__, *guide_figures.DATA]
        sources = [*map(Path, files), *Path(numpyvae.__file__).parent.rglob("*.py")]
    return max(path.stat().st_mtime for path in sources)


def draw_all(app):
    """Make each drawing that is missing or older than its sources."""
    folder = Path(app.srcdir, FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for name in figures.DRAWINGS:
        paths = [folder / f"{name}-{palette}.svg" for palette in ("light", "dark")]
        if not all(path.exists() and path.stat().st_mtime > changed(name) for path in paths):
            log.info("drawing %s", name)
            figures.draw(name, folder)


def setup(app):
    app.add_directive("drawing", Drawing)
    app.connect("builder-inited", draw_all)
    return {"parallel_read_safe": True}
