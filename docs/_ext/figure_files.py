"""Each figure of a tutorial as SVG and PDF too, with links below its picture."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
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
    links = []
    for name, figure in zip(names, figures, strict=True):
        for kind in ("svg", "pdf"):
            figure.savefig(folder / f"{name}.{kind}", bbox_inches="tight")
            links.append(f":download:`{kind.upper()} <{name}.{kind}>`")
    return text + _LINKS.format(links=", ".join(links))
