"""The source distribution, as a file of the site.

    {source}`Download the source`      a link to numpyvae-VERSION.tar.gz

Setuptools makes it in a copy of the project, so that the build leaves nothing among the sources.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole
from sphinx.util.osutil import relative_uri

import numpyvae

ROOT = Path(__file__).parents[2]
NAME = f"numpyvae-{numpyvae.__version__}.tar.gz"
KEPT = ("numpyvae", "tests", "docs", "tutorials", "benchmarks", ".ci")
_MAKE = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


class Source(SphinxRole):
    def run(self):
        uri = relative_uri(f"{self.env.docname}.html", NAME)
        return [nodes.reference("", self.text, refuri=uri, internal=False)], []


def write(app, exception):
    """Make the source distribution and put it into the site."""
    if exception is not None or app.builder.format != "html":
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy, made = Path(scratch, "project"), Path(scratch, "made")
        copy.mkdir()
        made.mkdir()
        ignored = shutil.ignore_patterns("__pycache__", "_build", "*.egg-info", "sg_*")
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy2(path, copy)
            elif path.name in KEPT:
                shutil.copytree(path, copy / path.name, ignore=ignored)
        shutil.rmtree(copy / "docs" / "tutorials", ignore_errors=True)  # made by the build
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [sys.executable, "-c", _MAKE, str(made)]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"{NAME}: setuptools could not make it: {done.stderr[-2000:]}")
        shutil.copy2(made / NAME, app.outdir)


def setup(app):
    app.add_role("source", Source())
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
