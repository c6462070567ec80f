"""Slides made from the pages of the notes: of two lectures, and of the appendices.

    {slides}`lecture 1 <1>`      a link to the slides of a lecture

Each statement of the notes is a slide: its section as title, its equation, its first sentences;
the code is on a second slide below it. Drawings, examples and remarks have slides of their own.
The full text is in the speaker notes. reveal.js shows the slides, and MathJax the formulas.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole
from sphinx.util.osutil import relative_uri

LECTURES = {
    "1": (
        "From Bayes’ theorem to the ELBO",
        "Lecture 1",
        ["1-setting", "2-intractable", "3-kl", "4-elbo"],
    ),
    "2": ("A network learns it", "Lecture 2", ["5-inference-and-em", "6-together"]),
    "3": ("Two derivations", "The appendices", ["appendix-a", "appendix-b"]),
}
_SENTENCE = re.compile(r"(?<![A-Z]\.)(?<!\bEq)(?<!\bvs)[.?!](?=\s|$)")
_ITEMS = 4  # of a list on one slide
_PAGE = (Path(__file__).parent / "slides.html").read_text("utf-8")


def file_name(lecture: str) -> str:
    return f"notes/slides-{lecture}.html"  # beside the notes, whose links are relative


class SlidesLink(SphinxRole):
    def run(self):
        title, number = re.fullmatch(r"(.*) <(\d)>", self.text, re.S).groups()
        uri = relative_uri(f"{self.env.docname}.html", file_name(number))
        return [nodes.reference("", title, refuri=uri, internal=False)], []


def sentences(paragraph: nodes.Node, most: int = 1) -> nodes.paragraph:
    """Return the paragraph up to the end of its first sentences."""
    short = nodes.paragraph()
    for child in paragraph.children:
        ends = list(_SENTENCE.finditer(child)) if isinstance(child, nodes.Text) else []
        if len(ends) >= most:
            short += nodes.Text(child[: ends[most - 1].end()])
            return short
        most -= len(ends)
        short += child.deepcopy()
    return short


def parts(child: nodes.Node) -> list[nodes.Node]:
    """Divide a long list into lists that fit on a slide."""
    if not isinstance(child, (nodes.bullet_list, nodes.enumerated_list)):
        return [child]
    found = []
    for start in range(0, len(child), _ITEMS):
        part = child.copy()  # without the items
        if isinstance(child, nodes.enumerated_list):
            part["start"] = start + 1
        part += [item.deepcopy() for item in child[start : start + _ITEMS]]
        found.append(part)
    return found


class Deck:
    """The slides of one lecture, as HTML."""

    def __init__(self, builder):
        self.builder = builder
        self.slides: list[str] = []

    def html(self, *children: nodes.Node) -> str:
        return "".join(self.builder.render_partial(child)["fragment"] for child in children)

    def add(self, title: str, body: str, notes: str = "", below: str = "") -> None:
        """Add a slide, and one below it."""
        aside = f'<aside class="notes">{notes}</aside>' if notes else ""
        slide = f"<section><h2>{title}</h2>{body}{aside}</section>"
        if below:
            slide = f"<section>{slide}<section><h2>{title}</h2>{below}</section></section>"
        self.slides.append(slide)

    def section(self, section: nodes.section) -> None:
        """Add the slides of a section, and of the sections in it."""
        title = html.escape(section.next_node(nodes.title).astext())
        words: list[nodes.Node] = []
        for child in section.children:
            if isinstance(child, nodes.paragraph):
                words.append(child)
            elif isinstance(child, (nodes.title, nodes.target, nodes.comment)):
                continue
            elif "lab-try" not in child.get("classes", []):  # a link to a cell below a listing
                words = self.block(title, child, words)
        if words:
            self.text(title, words)

    def block(self, title: str, child: nodes.Node, words: list[nodes.Node]) -> list[nodes.Node]:
        """Add the slide of one block, after the text before it; return the text that is left."""
        classes = child.get("classes", [])
        if isinstance(child, nodes.section):
            if words:
                self.text(title, words)
            self.section(child)
        elif "eq-row" in classes:
            if words:
                self.text(title, words)
            self.equation(title, child)
        elif child.next_node(nodes.figure) or isinstance(child, nodes.figure):
            if words:
                self.text(title, words)
            self.figure(title, child)
        elif isinstance(child, nodes.Admonition):
            if words:
                self.text(title, words)
            texts = list(child.findall(nodes.paragraph))
            self.add(html.escape(child.next_node(nodes.title).astext()), self.html(*texts))
        else:  # a formula, an example, a list, a table: with the sentence before it
            lead = self.html(sentences(words[-1])) if words else ""
            if words[:-1]:
                self.text(title, words[:-1])
            for part in parts(child):
                self.add(title, lead + self.html(part), self.html(*words[-1:]))
        return []

    def text(self, title: str, words: list[nodes.Node]) -> None:
        """Add a slide with the first sentence of each paragraph, or three of a single one."""
        most = 3 if len(words) == 1 else 1
        self.add(title, self.html(*(sentences(w, most) for w in words)), self.html(*words))

    def equation(self, title: str, row: nodes.container) -> None:
        """Add the slide of a statement, and that of its code."""
        lead = [n for n in row.findall(nodes.container) if "eq-lead" in n["classes"]]
        texts = list((lead or row)[0].findall(nodes.paragraph))
        formulas = [self.html(n) for n in row[0].findall(nodes.math_block)]
        marks = [
            n.astext() for n in row[0].findall(nodes.paragraph) if "eq-number" in n["classes"]
        ]
        number = f'<p class="number">{html.escape(" ".join(marks))}</p>' if marks else ""
        words = texts[:1] if formulas else texts
        shown = "".join(formulas) + number + self.html(*(sentences(text, 2) for text in words))
        codes = list(row.findall(nodes.literal_block))
        self.add(title, shown, self.html(*texts), self.html(*codes[:1]))

    def figure(self, title: str, child: nodes.Node) -> None:
        """Add a slide with a drawing."""
        image = next(n for n in child.findall(nodes.image) if "only-dark" not in n["classes"])
        uri = f"../_images/{self.builder.images[image['uri']]}"
        alt = html.escape(image.get("alt", ""))
        captions = list(child.findall(nodes.caption))
        text = self.html(*(sentences(caption, 9) for caption in captions))
        shown = self.html(*(sentences(caption) for caption in captions))
        self.add(title, f'<img src="{uri}" alt="{alt}">{shown}', text)


def write_all(app, exception):
    """Write the slides into the site."""
    if exception is not None or app.builder.format != "html":
        return
    for number, (title, about, pages) in LECTURES.items():
        deck = Deck(app.builder)
        for page in pages:
            app.builder.current_docname = f"notes/{page}"
            app.builder.imgpath = "../_images"
            tree = app.env.get_and_resolve_doctree(f"notes/{page}", app.builder)
            before = len(deck.slides)
            deck.section(tree.next_node(nodes.section))
            for i in range(before, len(deck.slides)):  # a place on the page, not on the slides
                deck.slides[i] = deck.slides[i].replace('href="#', f'href="{page}.html#')
        head = f"<section><h1>{title}</h1><p>{about} · numpyvae</p></section>"
        body = "\n".join([head, *deck.slides]).replace(' id="', ' data-id="')
        page = _PAGE.replace("{{title}}", title).replace("{{slides}}", body)
        Path(app.outdir, file_name(number)).write_text(page, "utf-8")


def setup(app):
    app.add_role("slides", SlidesLink())
    app.connect("build-finished", write_all)
    return {"parallel_read_safe": True}
