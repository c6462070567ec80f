"""The lab: pages that run numpyvae in the reader's browser.

    ```{lab} train        the panel that loads Python, and the controls in lab/train.html
    ```

When the site is built, `lab/runtime.py` makes what is loaded. Without npm, or a network for it,
the site is built all the same, and the pages of the lab say that Python is missing. Only these
pages load the lab's scripts, and they load Python only when the reader asks for it.
"""

import sys
from pathlib import Path

from pieces import html
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LAB = Path(__file__).parents[1] / "lab"
sys.path.insert(0, str(LAB))

import runtime  # noqa: E402

log = logging.getLogger(__name__)

SCRIPTS = ("engine", "draw")  # then the page's own

PANEL = """<div class="lab" data-page="{page}" data-parts="{parts}">
<div class="lab-panel">
<p class="lab-about">{about}</p>
<button type="button" class="lab-start"{disabled}>Load Python ({megabytes:.1f} MB)</button>
<progress class="lab-progress" max="1" value="0" aria-label="Loading Python" hidden></progress>
<p class="lab-status" role="status"></p>
<noscript><p>This page needs JavaScript.</p></noscript>
</div>
<div class="lab-work" hidden>
{work}
</div>
</div>"""
ABOUT = (
    "This page runs numpyvae in your browser. Python and NumPy are files of this site: "
    "{megabytes:.1f} MB, loaded when you press the button. Nothing is sent anywhere."
)
MISSING = (
    "This copy of the site was built without Python for the browser, so this page cannot run; "
    "a build on a machine with npm and a network has it."
)


def parts(app) -> list[Path]:
    """Return the scripts that contain the archive; none if it could not be made."""
    return sorted(Path(app.srcdir, "_build/generated/static/lab").glob("part-*.js"))


class Lab(SphinxDirective):
    required_arguments = 1

    def run(self):
        page = self.arguments[0]
        source = LAB / f"{page}.html"
        if not source.exists():
            raise self.error(f"lab {page!r}: expected a file {source.name} in lab/")
        self.env.note_dependency(str(source))
        if found := parts(self.env.app):  # their number stands on the page
            self.env.note_dependency(str(found[0].parent / runtime.STAMP))
        return [html(panel(page, found))]


def panel(page: str, found: list[Path]) -> str:
    """Return what a page of the lab shows, with the scripts `found` of the archive."""
    megabytes = sum(path.stat().st_size for path in found) / 1e6
    return PANEL.format(
        page=page,
        parts=len(found),
        megabytes=megabytes,
        about=ABOUT.format(megabytes=megabytes) if found else MISSING,
        disabled="" if found else " hidden",
        work=(LAB / f"{page}.html").read_text("utf-8"),
    )


def make_runtime(app):
    generated = Path(app.srcdir, "_build", "generated")
    try:
        runtime.write(generated / "static" / "lab", generated / "npm")
    except OSError as error:
        log.info("the lab is left out: %s", error)


def add_scripts(app, pagename, templatename, context, doctree):
    """Load the lab's style and scripts on pages with its panel, and on no other."""
    folder, _, page = pagename.rpartition("/")
    if folder == "lab" and (LAB / f"{page}.html").exists():
        app.add_css_file("lab/lab.css")
        for name in (*SCRIPTS, page):
            app.add_js_file(f"lab/{name}.js", loading_method="defer")


def setup(app):
    app.add_directive("lab", Lab)
    app.connect("builder-inited", make_runtime)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True}
