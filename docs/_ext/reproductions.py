"""The tables of the page "Reproductions", from the results of `numpyvae reproduce`.

    ```{reproduced} altosaar       the table of an experiment, and which of its claims hold
    :counts:                       only if its figures are named as "phi, STL, K = 16"
    :only: -L_K; active units      with these columns alone
    ```
    ```{methods} kingma-welling-fig2       the same figures, with a column for each method
    :columns: aevb wake-sleep
    :quantity: test bound
    ```
    {ours}`altosaar | mean-field | log p(x)`          a figure of the table, in a sentence
    {ours}`burda-table1 | vae-1 | -L_K | 121`         that after 121 passes
    {apart}`altosaar | mean-field | log p(x)`         its difference from the published one
    {done}`burda-table1 | vae-1 | -L_K`               after how many passes it was measured
    {spent}`altosaar`                                 the seconds of all its trainings and figures

The results are the files `docs/measured/reproduce/NAME.json`: copies of `results.json` in the
folder of a run. To bring a section up to date, run its command and copy this file.
"""

import json
from functools import cache
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from pieces import table
from sphinx.util.docutils import SphinxDirective, SphinxRole

from numpyvae.experiments import EXPERIMENTS

FOLDER = Path(__file__).parents[1] / "measured" / "reproduce"


@cache
def results(name: str) -> dict:
    """Return the results of an experiment."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def number(value: float | None, sign: str = "") -> str:
    """Return a number with a minus sign; whole numbers and small ones as they are."""
    if value is None:
        return ""
    whole = float(value).is_integer()
    text = f"{value:{sign}.{0 if whole else 2 if abs(value) >= 0.01 else 4}f}"
    return text.replace("-", "−")


def find(name: str, training: str, quantity: str, epoch: int | None = None) -> dict:
    """Return the row of a figure: by default that after the most passes."""
    rows = [
        row
        for row in results(name)["table"]
        if (row["training"], row["quantity"]) == (training, quantity)
        and epoch in (None, row["epoch"])
    ]
    if not rows:
        raise KeyError(f"{name}: no figure {quantity!r} of {training!r} after {epoch} passes")
    return max(rows, key=lambda row: row["epoch"])


def passes(row: dict) -> str:
    """Return after how many passes a figure was measured, of how many."""
    whole = row["epoch"] == row["epochs"]
    return f"{row['epoch']:,}" if whole else f"{row['epoch']:,} of {row['epochs']:,}"


def with_error(row: dict) -> str:
    """Return our figure ± its standard error."""
    if row["se"] is None:
        return number(row["ours"])
    decimals = 2 if abs(row["ours"]) >= 0.01 else 4
    return f"{number(row['ours'])} ± {row['se']:.{decimals}f}"


def lines(name: str, only: list[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a table: a column for each figure, or for those of `only`.

    Under the stages of a training are the spread over the seeds, the published figures, and the
    differences of those that are finished.
    """
    published = {(p.training, p.quantity): p.value for p in EXPERIMENTS[name].published}
    rows = results(name)["table"]
    figures = only or [*dict.fromkeys(row["quantity"] for row in rows)]
    made = []
    for training in dict.fromkeys(row["training"] for row in rows):
        stages: dict[int, dict[str, dict]] = {}
        for row in rows:
            if row["training"] == training:
                stages.setdefault(row["epoch"], {})[row["quantity"]] = row

        def line(title, after, cell, have):
            return [title, after, *(cell(have[q]) if q in have else "" for q in figures)]

        for stage in stages.values():
            one = next(iter(stage.values()))
            made.append(line(training, passes(one), with_error, stage))
            if one["seeds"] > 1:
                title = f"spread over {one['seeds']} seeds"
                made.append(line(title, "", lambda row: number(row["spread"]), stage))
        theirs = {q: published[training, q] for q in figures if (training, q) in published}
        if theirs:
            made.append(line("published", f"{one['epochs']:,}", number, theirs))
            compared = {q: row for q, row in stage.items() if row["difference"] is not None}
            if compared:
                made.append(
                    line("difference", "", lambda row: number(row["difference"], "+"), compared)
                )
    return ["", "passes", *(q.replace("-", "−") for q in figures)], made


def by_method(name: str, methods: list[str], quantity: str) -> list[list[str]]:
    """Return a line for each model and number of passes, with a column for each method."""
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for row in results(name)["table"]:
        method = next((m for m in methods if m in row["training"]), None)
        if row["quantity"] == quantity and method:
            model = row["training"].replace(method, "").strip("-").replace("--", ", J = ")
            found.setdefault((model, passes(row)), {})[method] = row
    made = []
    for (model, after), rows in found.items():
        values = [with_error(rows[m]) if m in rows else "" for m in methods]
        more = [
            number(rows[methods[0]]["ours"] - rows[m]["ours"], "+")
            if {m, methods[0]} <= {*rows}
            else ""
            for m in methods[1:]
        ]
        made.append([model, after, *values, *more])
    return made


def by_count(name: str) -> tuple[list[str], list[list[str]]]:
    """Return the table of figures with names as "phi, STL, K = 16": a column for each K.

    Under the figures of several seeds are their spreads.
    """
    found: dict[str, dict[str, str]] = {}
    for row in results(name)["table"]:
        which, _, count = row["quantity"].rpartition(", ")
        found.setdefault(which, {})[count] = with_error(row)
        if row["seeds"] > 1:
            spread = f"{which}: spread over {row['seeds']} seeds"
            found.setdefault(spread, {})[count] = f"{row['spread']:.2f}"
    counts = [*dict.fromkeys(count for row in found.values() for count in row)]
    return ["", *counts], [[w, *(row.get(c, "") for c in counts)] for w, row in found.items()]


def seconds(name: str) -> float:
    """Return how long all trainings of an experiment took, and all that was measured."""
    training: dict[tuple[str, int], float] = {}
    spent = 0.0
    for model in results(name)["models"]:
        training[model["training"], model["seed"]] = model["seconds"]["training"]
        spent += model["seconds"]["measurement"]
    return spent + sum(training.values())


def claims(name: str) -> nodes.Node:
    """Return the claims of an experiment as a list, each with whether it holds.

    Of more than ten claims those that hold are counted.
    """
    found = results(name)["claims"]
    held = [f"holds: {c['text']}" for c in found if c["holds"]]
    texts = [f"does not hold: {c['text']}" for c in found if not c["holds"]]
    if len(found) > 10:
        texts.append(f"{len(held)} of {len(found)} claims hold")
    else:
        texts += held
    items = [nodes.list_item("", nodes.paragraph("", text)) for text in texts]
    return nodes.bullet_list("", *items)


def show(head: list[str], lines: list[list[str]], name: str) -> list[nodes.Node]:
    """Return a table of texts, and the claims of the experiment."""
    made = [table(head, [[[nodes.Text(cell)] for cell in line] for line in lines], "reproduced")]
    return [*made, claims(name)] if results(name)["claims"] else made


def _columns(text: str) -> list[str]:
    """Return the names of figures between semicolons."""
    return [name.strip() for name in text.split(";")]


class Reproduced(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {"counts": directives.flag, "only": _columns}

    def run(self):
        name = self.arguments[0]
        self.env.note_dependency(str(FOLDER / f"{name}.json"))
        only = self.options.get("only")
        made = by_count(name) if "counts" in self.options else lines(name, only)
        return show(*made, name)


class Methods(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {
        "columns": directives.unchanged_required,
        "quantity": directives.unchanged_required,
    }

    def run(self):
        name, methods = self.arguments[0], self.options["columns"].split()
        self.env.note_dependency(str(FOLDER / f"{name}.json"))
        head = ["model", "passes", *methods, *(f"{methods[0]} − {m}" for m in methods[1:])]
        return show(head, by_method(name, methods, self.options["quantity"]), name)


def named(text: str) -> dict:
    """Return the row that the text of a role names."""
    name, training, quantity, *epoch = (part.strip() for part in text.split("|"))
    return find(name, training, quantity, *map(int, epoch))


FIGURES = {
    "ours": lambda row: number(row["ours"]),
    "apart": lambda row: number(abs(row["difference"])),
    "done": lambda row: f"{row['epoch']:,}",
}


class Figure(SphinxRole):
    def run(self):
        self.env.note_dependency(str(FOLDER / f"{self.text.partition('|')[0].strip()}.json"))
        return [nodes.Text(FIGURES[self.name](named(self.text)))], []


class Spent(SphinxRole):
    def run(self):
        self.env.note_dependency(str(FOLDER / f"{self.text}.json"))
        return [nodes.Text(f"{seconds(self.text):,.0f}")], []


def setup(app):
    app.add_directive("reproduced", Reproduced)
    app.add_directive("methods", Methods)
    for name in FIGURES:
        app.add_role(name, Figure())
    app.add_role("spent", Spent())
    return {"parallel_read_safe": True}
