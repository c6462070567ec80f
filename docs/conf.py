"""Sphinx configuration of the site.

    sphinx-build -n -W docs docs/_build/html                     everything, tutorials executed
    sphinx-build -n -W -D plot_gallery=0 docs docs/_build/html   without executing them

The pages load only files of the site, so they can be read offline. The formulas are drawn by
MathJax, and reveal.js shows the slides; copies of both are downloaded when the site is built.
"""

import sys
from pathlib import Path

import numpyvae

HERE = Path(__file__).parent
GENERATED = HERE / "_build" / "generated"  # MathJax and the drawings; git ignores it
sys.path[:0] = [str(HERE), str(HERE / "_ext")]

import fetch_mathjax  # noqa: E402
import fetch_reveal  # noqa: E402

fetch_mathjax.fetch(GENERATED / "static" / "mathjax")
fetch_reveal.fetch(GENERATED / "static" / "reveal")

project = "numpyvae"
author = "the numpyvae contributors"
version = release = numpyvae.__version__
copyright = "the numpyvae contributors, BSD-3-Clause license"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "equations",
    "course",
    "catalog",
    "drawings",
    "reproductions",
    "docstrings",
    "breaks",
    "lab",
    "problems",
    "slides",
    "source",
    "terms",
    "trying",
]
exclude_patterns = ["_build", "problems", "tutorials/*.ipynb", "tutorials/*.py", "tutorials/*.zip"]
nitpicky = True

# Markdown pages
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings contain types and shapes
numpydoc_show_class_members = False
viewcode_line_numbers = True

# Mathematics
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"ignoreHtmlClass": "document", "processHtmlClass": "math"}}

# Tutorials
FIRST_CELL = """\
# What the notebook needs, where it is not installed yet
import importlib.util

if importlib.util.find_spec("numpyvae") is None:
    %pip install -q numpyvae"""
sphinx_gallery_conf = {
    "first_notebook_cell": FIRST_CELL,
    "examples_dirs": "../tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("figure_files.scrape",),
    "image_srcset": ["2x"],
    "thumbnail_size": (640, 448),
    "abort_on_example_error": True,
    "capture_repr": (),
    "write_computation_times": False,  # that page loads scripts from elsewhere
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1,
}

# Copy buttons: an example without its prompts and its output
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_selector = "div.highlight-python pre, div.highlight-default pre, div.highlight-sh pre"

# Appearance
html_theme = "pydata_sphinx_theme"
html_title = "numpyvae"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static", "_build/generated/static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_copy_source = False
html_show_search_summary = (
    False  # it would load pages by a script, which browsers forbid for file://
)
html_show_sphinx = False
TEXTS = (
    "architecture",
    "bibliography",
    "clinic",
    "clinic-catalog",
    "clinic-exercises",
    "data-parallel",
    "faq",
    "glossary",
    "machines",
    "many-machines",
    "own-data",
    "reproductions",
    "results",
    "scikit-learn",
    "teaching",
    "weights",
)
# No sidebar where a page has no others beside it; the notes need the width for two columns.
html_sidebars = {page: [] for page in ("index", "notes/*", *TEXTS)}
html_context = {
    "default_mode": "auto",
    "notes_pages": [
        ("1-setting", "§1–3.1"),
        ("2-intractable", "§3.2"),
        ("3-kl", "§3.3"),
        ("4-elbo", "§3.4"),
        ("5-inference-and-em", "§3.5–3.6"),
        ("6-together", "§3.7"),
        ("appendix-a", "App. A"),
        ("appendix-b", "App. B"),
        ("equations", "all equations"),
    ],
}
html_theme_options = {
    "logo": {"text": "numpyvae"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "show_nav_level": 1,
    "navigation_with_keys": True,
    "article_header_start": ["breadcrumbs"],
    "article_header_end": ["notes-strip"],
    "secondary_sidebar_items": {
        **{page: [] for page in ("index", "notes/*", "lab/*")},
        **{page: ["page-toc"] for page in (*TEXTS, "api/*", "tutorials/*")},
    },
    "footer_start": ["copyright"],
    "footer_end": [],
    "primary_sidebar_end": [],
}
