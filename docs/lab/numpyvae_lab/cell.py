"""The page *Try*: code of the reader, run with the package imported."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import linecache
import re
import sys
import traceback
from typing import Any

import numpy as np

import numpyvae

__all__ = ["example", "needs_scipy", "run", "shown"]

FILE = "<cell>"
names: dict[str, Any] = {"__name__": "__main__", "np": np, "numpyvae": numpyvae}
names |= {name: getattr(numpyvae, name) for name in numpyvae.__all__}


def run(code: str) -> dict[str, str]:
    """Run the code, print the value of its last expression, and return the error, or ""."""
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    try:
        tree = ast.parse(code, FILE)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, FILE, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), FILE, "eval"), names)
            if value is not None:
                names["_"] = value
                print(repr(value))
    except BaseException as error:  # also SystemExit: the page goes on
        return {"error": text_of(error)}
    finally:
        sys.stdout.flush()
    return {"error": ""}


def text_of(error: BaseException) -> str:
    """Return the traceback, without the lines of this file."""
    inside = error.__traceback__
    while inside is not None and inside.tb_frame.f_code.co_filename == __file__:
        inside = inside.tb_next
    return "".join(traceback.format_exception(type(error), error, inside)).rstrip()


def found(dotted: str) -> tuple[Any, Any, str]:
    """Return what has a dotted name under numpyvae, what contains it, and the name of its module.

    Raises LookupError if there is nothing of that name.
    """
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(["numpyvae", *parts[:cut]])
        try:
            thing = inside = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            inside, thing = thing, getattr(thing, name, None)
        if thing is not None:
            return thing, inside, module
    raise LookupError(f"numpyvae.{dotted}: expected a public name of the package")


def example(dotted: str) -> dict[str, str]:
    """Return code that uses a function: its imports and the examples of its docstring.

    A method without examples has those of its class. What takes a case of an equation is called
    with one.
    """
    thing, inside, module = found(dotted)
    for owner in (thing, inside):
        text = "" if inspect.ismodule(owner) else inspect.getdoc(owner) or ""
        if statements := doctest.DocTestParser().get_examples(text):
            head = [
                "import numpy as np",
                "from numpyvae import VAE",
                f"from {module} import *",
                "",
            ]
            return {"code": "\n".join([*head, *(shown(each.source) for each in statements)])}
    name = dotted.rpartition(".")[2]
    head = ["from numpyvae.equations import make_case", f"from {module} import {name}", ""]
    return {"code": "\n".join([*head, 'case = make_case("quadrature")', f"print({name}(case))"])}


def needs_scipy(text: str) -> bool:
    """Tell whether code uses the functions of the notes that search by SciPy."""
    return re.search(r"\b(m_step|variational_(inference|em))\b", text) is not None


def shown(source: str) -> str:
    """Return a statement; an expression is printed, as a session of Python does."""
    try:
        expression = ast.parse(source, mode="eval")
    except SyntaxError:
        return source.rstrip()
    return f"print({ast.get_source_segment(source, expression.body)})"
