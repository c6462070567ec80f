"""The catalog of bugs, made from the clinic's names and from the measured costs.

    ```{bug-catalog} KL       a section for each bug of a group
    ```{bug-costs}            a table of all measured costs
    ```{bug-samples}          samples of the right model
    {bug}`KL without ½`       a link to the section of this bug

The names, cures, equations and sources are those of `numpyvae.clinic.names`; the figures are those
of `docs/measured/bug_costs.json`, which `benchmarks/bug_costs.py` writes; how a bug shows is in
`signs.toml`. The anchor of a section is the name of the bug, with hyphens.
"""

import base64
import io
import json
import re
import tomllib
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from docutils import nodes
from matplotlib import image
from pieces import html, link, table
from sphinx.util.docutils import SphinxDirective, SphinxRole

from numpyvae.clinic.names import BUGS, Bug, bug, misreading
from numpyvae.clinic.subject import SCALES
from numpyvae.support.statistics import mean_and_error

FILE = Path(__file__).parents[1] / "measured" / "bug_costs.json"
FIRST = {  # the first bug of each group, in the order of BUGS, and the examination that finds it
    "KL": ("KL without its −1", "KL: value"),
    "draws": ("exp(¼ log σ²) as standard deviation", "draws"),
    "pixels": ("reconstruction averaged over pixels", "reconstruction: value"),
    "assembly": ("sign of the loss", "assembly: loss = −ELBO"),
    "gradient": ("sign of the gradient", "gradient: derivative of the loss"),
    "evaluation": ("weights averaged in log space", "evaluation"),
}
PLACES = {"KL": "KL: value", "sampler": "draws: z as a function of μ and σ", "decoder": "assembly"}
SIGNS = tomllib.loads((Path(__file__).parent / "signs.toml").read_text("utf-8"))
LATENTS = (8, 2)
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def anchor(name: str) -> str:
    """Return the id of a section: letters, digits and hyphens."""
    return re.sub(r"[^\w-]", "", name.lower().replace(" ", "-"))


def groups() -> dict[str, list[str]]:
    """Return the names of each group, and those of one output that is read as another."""
    found: dict[str, list[str]] = {}
    starts = {first: group for group, (first, _) in FIRST.items()}
    for name in BUGS:
        if name in starts:
            group = starts[name]
        found.setdefault(group, []).append(name)
    found["readings"] = [
        misreading(declared, read, place)
        for place, declared, read in product(PLACES, SCALES, SCALES)
        if read != declared
    ]
    return found


def examination(name: str) -> str:
    """Return the examination that finds a bug which was not planted."""
    _, _, place = name.partition(" in the ")
    if " read as " in name:
        return PLACES[place]
    return next(FIRST[group][1] for group, names in groups().items() if name in names)


# The measured costs


@cache
def measured() -> dict:
    return json.loads(FILE.read_text("utf-8"))


def runs(name: str, latents: int) -> list[tuple[dict, dict]]:
    """Return what was measured of a bug and of the right code, for each seed."""
    trained = measured()["trained"]
    keys = [(f"{name}|{latents}|{s}", f"right|{latents}|{s}") for s in range(10)]
    return [(trained[a], trained[b]) for a, b in keys if a in trained and b in trained]


def number(value: float, digits: int = 2) -> str:
    """Return a number with a minus sign, and without one if it rounds to 0."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


def cost(name: str, latents: int) -> tuple[float, str]:
    """Return the mean cost in nats, inf for a training that diverges, and its text."""
    pairs = runs(name, latents)
    if not pairs:
        return np.nan, ""
    if any(mine["log_p"] is None for mine, _ in pairs):
        return np.inf, "diverges"
    costs = [right["log_p"] - mine["log_p"] for mine, right in pairs]
    mean, error = mean_and_error(costs) if len(costs) > 1 else (costs[0], None)
    return mean, number(mean) if error is None else f"{number(mean)} ± {number(error)}"


def last_loss(name: str, latents: int) -> str:
    """Return where the curve of the code ends."""
    value = runs(name, latents)[0][0]["curve"][-1]
    if value is None:
        return "not finite"
    if abs(value) >= 1000:
        exponent = int(np.log10(abs(value)))
        return f"{number(value / 10.0**exponent, 1)} · 10{str(exponent).translate(RAISED)}"
    return number(value)


# The pieces of a section


def samples(name: str) -> list[nodes.Node]:
    """Return a picture of eight samples of the model that was trained with a bug."""
    pairs = runs(name, 8) or runs(name, 2)
    text = pairs[0][0].get("samples", "") if pairs else ""
    if not text:
        return []
    tiles = np.array([int(c, 16) for c in text]).reshape(-1, 8, 8)
    strip = np.hstack([np.pad(t, ((0, 0), (0, 1))) for t in tiles])[:, :-1]
    with io.BytesIO() as file:
        image.imsave(file, strip, cmap="gray_r", vmin=0, vmax=15, format="png")
        data = base64.b64encode(file.getvalue()).decode()
    alt = f"Eight samples of the model trained with the bug: {name}" if name != "right" else (
        "Eight samples of the model trained with the right code"
    )  # fmt: skip
    return [html(f'<img class="bug-samples" src="data:image/png;base64,{data}" alt="{alt}">')]


def price(name: str) -> str:
    """Return what a bug costs, in a sentence."""
    parts = [(latents, cost(name, latents)[1]) for latents in LATENTS]
    parts = [(latents, text) for latents, text in parts if text]
    reported = [r[name] for r in measured()["reported"].values() if name in r]
    if reported:
        wrong, right = reported[0]["found"], reported[0]["right"]
        figures = f"The code reports {number(wrong)} where {number(right)} is right"
        return f"nothing in training. {figures} (8 latents, K = 50, nats per digit)."
    if not parts:
        return "not measured"
    if all(text == "diverges" for _, text in parts):
        return "everything: the training diverges"
    told = [f"the training {text}" if text == "diverges" else f"{text} nats" for _, text in parts]
    return ", ".join(f"{t} with {latents} latents" for t, (latents, _) in zip(told, parts))


def curve(name: str) -> str:
    """Return where the loss of the code ends, in a sentence; nothing if it was not measured."""
    latents = next((j for j in LATENTS if runs(name, j)), None)
    if latents is None:
        return ""
    end, right = last_loss(name, latents), last_loss("right", latents)
    if end == "not finite":
        return f"The loss of the code becomes infinite or NaN ({latents} latents)."
    return f"The loss of the code ends at {end} nats, that of the right code at {right}."


def found_by(name: str) -> str:
    """Return the examination, with the figures that it gave for the planted bug."""
    planted = measured()["found"].get(name)
    if not planted:
        return examination(name)
    expected = f"expected {planted['expected']}, " if planted["expected"] else ""
    text = f"{planted['examination']} ({expected}found {planted['found']})"
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def fields(name: str, known: Bug) -> list[tuple[str, list[nodes.Node]]]:
    """Return the lines of a section: their titles and contents."""
    shows = " ".join(filter(None, (SIGNS.get(name, ""), curve(name))))
    lines = {
        "Mend": known.cure,
        "Breaks": known.equation or "no equation",
        "Shows": shows,
        "Costs": price(name),
        "Found by": found_by(name),
        "Seen in": known.reference,
        "Severity": "" if known.severity == "bug" else known.severity,
    }
    found = [(k, [nodes.paragraph("", v)]) for k, v in lines.items() if v]
    picture = samples(name)
    if picture:
        found.insert(3, ("Samples", picture))
    return found


def section(env, names: list[str], title: str, lines: list) -> nodes.section:
    """Return a section with an anchor for each name."""
    node = nodes.section("", nodes.title(title, title), ids=[anchor(n) for n in names])
    body = nodes.field_list()
    for head, content in lines:
        body += nodes.field("", nodes.field_name(head, head), nodes.field_body("", *content))
    node += body
    for name in names:
        label = f"bug-{anchor(name)}"
        env.get_domain("std").note_hyperlink_target(label, env.docname, anchor(name), name)
    return node


class BugCatalog(SphinxDirective):
    required_arguments = 1

    def run(self):
        if self.arguments[0] not in groups():
            raise self.error(f"bug-catalog: expected one of {', '.join(groups())}")
        self.env.note_dependency(str(FILE))
        names = groups()[self.arguments[0]]
        rest = []
        if self.arguments[0] == "readings":
            rest = [n for n in names if not runs(n, 2)]
            names = [n for n in names if n not in rest]
        found = [section(self.env, [n], n, fields(n, bug(n))) for n in names]
        for place in PLACES if rest else ():
            others = [n for n in rest if n.endswith(f" in the {place}")]
            known = bug(others[0])
            lines = [
                ("Mend", [nodes.paragraph("", f"The {place} must take the output as it is.")]),
                ("Breaks", [nodes.paragraph("", known.equation)]),
                ("Found by", [nodes.paragraph("", PLACES[place])]),
                ("Seen in", [nodes.paragraph("", known.reference)]),
                ("Names", [nodes.paragraph("", "; ".join(others))]),
            ]
            found.append(section(self.env, others, f"Other readings in the {place}", lines))
        return found


class BugCosts(SphinxDirective):
    def run(self):
        self.env.note_dependency(str(FILE))
        planted = dict.fromkeys(k.split("|")[0] for k in measured()["trained"])
        planted.pop("right")
        costs = {n: [cost(n, j) for j in LATENTS] for n in planted}
        order = sorted(planted, key=lambda n: -np.nan_to_num(costs[n][0][0], nan=costs[n][1][0]))
        here = self.env.docname
        rows = [
            [
                [link(n, f"bug-{anchor(n)}", "std", "ref", here)],
                *([nodes.Text(text)] for _, text in costs[n]),
                [nodes.Text(last_loss(n, 8) if runs(n, 8) else "")],
            ]
            for n in order
        ]
        right = [[nodes.Text(t)] for t in ("right code", "0", "0", last_loss("right", 8))]
        head = ["bug", "cost, J = 8", "cost, J = 2", "its loss ends at"]
        return [table(head, [right, *rows], "bug-costs")]


class BugSamples(SphinxDirective):
    def run(self):
        return samples("right")


class BugRole(SphinxRole):
    def run(self):
        return [link(self.text, f"bug-{anchor(self.text)}", "std", "ref", self.env.docname)], []


def setup(app):
    app.add_directive("bug-catalog", BugCatalog)
    app.add_directive("bug-costs", BugCosts)
    app.add_directive("bug-samples", BugSamples)
    app.add_role("bug", BugRole())
    return {"parallel_read_safe": True}
