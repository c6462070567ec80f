"""Translate the formulas of docstrings, which are plain text, to LaTeX.

    σ_j² = exp(½ log v)  becomes  \\sigma_{j}^{2}=\\exp (\\tfrac{1}{2}\\,\\log v)

`to_latex` returns None for a text with a word or a sign that it does not know, so that the text
stays as it is.
"""

import re
import unicodedata


def _letter(sign: str) -> str:
    """Return the command of a Greek letter, as "alpha" of α."""
    kind, _, name = unicodedata.name(sign).removeprefix("GREEK ").partition(" LETTER ")
    name = name.lower().replace("lamda", "lambda")  # Unicode spells it so
    return "\\" + (name.capitalize() if kind == "CAPITAL" else name)


_LETTERS = {c: _letter(c) for c in "αβγδεζηθλμνπρστφχψωΓΔΛΠΦΨΩ"}
_SIGNS = {
    "−": "-", "·": r"\cdot ", "×": r"\times ", "←": r"\leftarrow ", "→": r"\rightarrow ",
    "∝": r"\propto ", "≈": r"\approx ", "≤": r"\leq ", "≥": r"\geq ", "∂": r"\partial ",
    "∇": r"\nabla ", "∫": r"\int ", "…": r"\dots ", "‖": r"\|", "~": r"\sim ",
    "½": r"\tfrac{1}{2}", "′": "'", "|": "|",
}  # fmt: skip
_SIGNS |= {c: c for c in "=+-/,;:.<>!*"}
_WORDS = {w: rf"\{w}" for w in ("log", "exp", "max", "min", "tanh", "cos")}
_WORDS |= {w: rf"\operatorname{{{w}}}" for w in ("Im", "Var", "diag", "tr", "sigmoid", "softplus")}
_WORDS |= {w: rf"\mathrm{{{w}}}" for w in ("KL", "ELBO", "CUBO")}
_WORDS |= {w: rf"\text{{{w}}}" for w in ("step", "final", "factor", "constant", "mean")}
_WORDS |= {w: rf"\;\text{{{w}}}\;" for w in ("for", "where", "else", "if", "since", "with", "and")}
_WORDS |= {"E": r"\mathbb{E}", "dz": r"dz", "ih": "ih"}
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀᵗ", [*"0123456789-", r"\top", "t"], strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar"}
_NAME = "[A-Za-z0-9α-ω]+"
_SUBSCRIPT = re.compile(rf"_(\{{|{_NAME}(?:,{_NAME})*|)")


class _Unknown(Exception):
    """A word or a sign that has no translation."""


def to_latex(text: str) -> str | None:
    """Return the LaTeX of a formula in one line, or None."""
    try:
        return _Reader(unicodedata.normalize("NFD", text.strip())).read().strip()
    except _Unknown:
        return None


class _Reader:
    """A text, and the place up to which it has been read."""

    def __init__(self, text: str):
        self.text, self.at = text, 0

    def read(self, end: str = "") -> str:
        """Return the translation up to the sign `end`."""
        made = ""
        while self.at < len(self.text) and self.text[self.at] != end:
            made += self.one(made)
        if end and self.at == len(self.text):
            raise _Unknown(end)
        return made

    def one(self, before: str) -> str:
        """Return the translation of what comes next."""
        text, c = self.text, self.text[self.at]
        if space := re.match(r" +", text[self.at :]):
            return self.space(space[0], before)
        if c == "_":
            return self.lowered()
        if c == "^":
            self.at += 1
            return f"^{{{self.exponent()}}}"
        if c in _RAISED or c in _LOWERED:
            table, mark = (_RAISED, "^") if c in _RAISED else (_LOWERED, "_")
            run = re.match(f"[{''.join(table)}]+", text[self.at :])[0]
            self.at += len(run)
            return f"{mark}{{{''.join(table[r] for r in run)}}}"
        if c == "√":
            self.at += 1
            return rf"\sqrt{{{self.group()}}}"
        return self.name()

    def space(self, spaces: str, before: str) -> str:
        self.at += len(spaces)
        if len(spaces) > 1:
            return r"\qquad "
        after_name = before[-1:] in ")]}" or before[-1:].isalnum()
        rest = self.text[self.at : self.at + 1]
        is_product = after_name and (rest.isalpha() or rest in "([√∂∫‖")
        return r"\," if is_product or before.endswith(r"\|") else ""

    def lowered(self) -> str:
        """Return a subscript, after the sign of it."""
        found = _SUBSCRIPT.match(self.text, self.at)
        self.at = found.end()
        if found[1] == "{":
            inner = self.read("}")
            self.at += 1
            return f"_{{{inner}}}"
        if not found[1]:
            raise _Unknown("_")
        return f"_{{{''.join(_LETTERS.get(c, c) for c in found[1])}}}"

    def exponent(self) -> str:
        """Return what a sign ^ raises: a sign and one name, or a group."""
        sign = ""
        if self.text[self.at] == "−":
            self.at, sign = self.at + 1, "-"
        if self.text[self.at] == "½":
            self.at += 1
            return f"{sign}1/2"
        return sign + self.group()

    def group(self) -> str:
        """Return the next group in parentheses or bars, or one name with its subscript."""
        c = self.text[self.at]
        if c in "(|":
            self.at += 1
            end = ")" if c == "(" else "|"
            inner = self.read(end)
            self.at += 1
            return inner if c == "(" else f"|{inner}|"
        made = self.name()
        if self.at < len(self.text) and self.text[self.at] == "_":
            made += self.lowered()
        return made

    def name(self) -> str:
        """Return a letter with its accent, a word, a number or a sign."""
        text, c = self.text, self.text[self.at]
        accent = _ACCENTS.get(text[self.at + 1 : self.at + 2])
        if accent:
            self.at += 2
            return f"{accent}{{{_LETTERS.get(c, c)}}}"
        if c == "Σ":
            self.at += 1
            is_sum = re.match(r"_| [exEw]", text[self.at :])
            return r"\sum" if is_sum else r"\Sigma "
        if c in "([":
            self.at += 1
            end = {"(": ")", "[": "]"}[c]
            inner = self.read(end)
            self.at += 1
            return c + inner + end
        word = re.match(r"[A-Za-z]+|\d+(?:\.\d+)?", text[self.at :])
        if word:
            return self.word(word[0])
        found = _LETTERS.get(c, _SIGNS.get(c))
        if found is None:
            raise _Unknown(c)
        self.at += 1
        after = text[self.at : self.at + 1]
        return found + " " * (c in _LETTERS and after.isalpha() and after.isascii())

    def word(self, word: str) -> str:
        self.at += len(word)
        if word == "N" and self.text[self.at : self.at + 1] == "(":
            return r"\mathcal{N}"
        if word in _WORDS:
            tail = " " if _WORDS[word].startswith("\\") and _WORDS[word][-1].isalpha() else ""
            return _WORDS[word] + tail
        if len(word) > 1 and word.isalpha():
            raise _Unknown(word)
        return word
