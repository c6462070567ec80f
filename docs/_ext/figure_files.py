"""Each figure of a tutorial in a light and a dark version, and as SVG and PDF below it."""

import re
from pathlib import Path
from textwrap import indent

import matplotlib.pyplot as plt
from dark_figures import DARK, darken
from sphinx_gallery.scrapers import matplotlib_scraper

_IMAGE = re.compile(r"/\S*?/(images/sphx_glr_\w+_\d{3})\.png")
_LINKS = """
.. container:: figure-files

   This figure as {links}

"""


def scrape(block, block_vars, gallery_conf, **settings):
    """Save the figures of a block of a tutorial, and return the lines that show them."""
    figures = [plt.figure(number) for number in plt.get_fignums()]
    text = matplotlib_scraper(block, block_vars, gallery_conf, **settings)
    names = list(dict.fromkeys(_IMAGE.findall(text)))
    folder = Path(block_vars["target_file"]).parent
    if not names:
        return text
    links, dark = [], text
    for name, figure in zip(names, figures, strict=True):
        for kind in ("svg", "pdf"):
            figure.savefig(folder / f"{name}.{kind}")
            links.append(f":download:`{kind.upper()} <{name}.{kind}>`")
        darken(figure)
        figure.savefig(folder / f"{name}_dark.png", dpi=200, facecolor=DARK)
        dark = re.sub(rf"{name}(_2_00x)?\.png", f"{name}_dark.png", dark)
    both = _of_theme(text, "light") + _of_theme(dark, "dark")
    return both + _LINKS.format(links=", ".join(links))


def _of_theme(text: str, theme: str) -> str:
    """Show the pictures in one theme alone."""
    return f"\n.. container:: only-{theme}\n\n{indent(text, '   ')}\n"
