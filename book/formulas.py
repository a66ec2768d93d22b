"""Formulas of notebooks, written in TeX between dollars, as MathML: browsers draw it by themselves.

Nothing is loaded for it. It knows the TeX that the notebooks use, and says what it does not know.
"""

from __future__ import annotations

import re
from html import escape


def _named(pairs: str) -> dict[str, str]:
    """Return what stands in a text by turns as names and what they are."""
    words = pairs.split()
    return dict(zip(words[::2], words[1::2], strict=True))


LETTERS = _named(
    """
    alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε eta η theta θ kappa κ lambda λ mu μ nu ν
    pi π rho ρ sigma σ tau τ phi ϕ varphi φ chi χ psi ψ omega ω Delta Δ Sigma Σ Omega Ω ell ℓ
    """
)
SIGNS = _named(
    r"""
    cdot ⋅ times × le ≤ ge ≥ ne ≠ in ∈ notin ∉ cap ∩ cup ∪ sum ∑ prod ∏ to → leftarrow ← infty ∞
    approx ≈ propto ∝ sim ∼ top ⊤ dots … ldots … mid | lVert ‖ rVert ‖ | ‖ partial ∂ odot ⊙ pm ±
    % % { { } }
    """
)
WORDS = {"exp", "log", "max", "min", "arg", "cos", "det", "argmin", "argmax"}
SPACES = {",": "0.17em", ";": "0.28em", "quad": "1em", " ": "0.25em", "!": "0"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[0-9]+(?:\.[0-9]+)?|\s+|.")
_FORMULA = re.compile(
    r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^\s$](?:[^$]*[^\s$])?)\$", re.DOTALL
)


def with_formulas(markdown: str) -> str:
    """Return a text with its formulas as MathML; code keeps its dollars."""

    def drawn(match: re.Match[str]) -> str:
        code, block, inline = match.groups()
        return code or mathml(block or inline, block=bool(block))

    return _FORMULA.sub(drawn, markdown)


def mathml(tex: str, block: bool = False) -> str:
    """Return a formula in TeX as MathML; ValueError names what is not known, or not closed."""
    reader = _Reader(tex)
    row = reader.row("")
    kind = ' display="block"' if block else ""
    return f"<math{kind}><mrow>{row}</mrow></math>"


class _Reader:
    """Reads a formula token by token."""

    def __init__(self, tex: str) -> None:
        self.tex = tex
        found = [each for each in _TOKEN.finditer(tex) if each[0].strip() or each[0] == "\\ "]
        self.tokens, self.starts = [each[0] for each in found], [each.start() for each in found]
        self.place = 0

    def row(self, end: str) -> str:
        """Return everything up to a closing token, which is taken too."""
        parts = []
        while self.place < len(self.tokens):
            if end and self.tokens[self.place] == end:
                self.place += 1
                return "".join(parts)
            parts.append(self._with_scripts())
        if end:
            raise ValueError(f"a formula ends without {end!r}: {self.tex}")
        return "".join(parts)

    def _with_scripts(self) -> str:
        tall = self.tokens[self.place] in ("\\sum", "\\prod", "\\max", "\\min")
        base, scripts = self._atom(), {}
        while self.place < len(self.tokens) and self.tokens[self.place] in "_^":
            sign = self.tokens[self.place]
            self.place += 1
            scripts[sign] = self._atom()
        if not scripts:
            return base
        kind = ("munder", "mover", "munderover") if tall else ("msub", "msup", "msubsup")
        name = kind[2] if len(scripts) == 2 else kind["_" not in scripts]
        found = "".join(scripts[sign] for sign in "_^" if sign in scripts)
        return f"<{name}>{base}{found}</{name}>"

    def _atom(self) -> str:
        if self.place == len(self.tokens):
            raise ValueError(f"a formula ends too early: {self.tex}")
        token = self.tokens[self.place]
        self.place += 1
        if token == "{":
            return f"<mrow>{self.row('}')}</mrow>"
        if token[0] == "\\":
            return self._command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        return f"<mo>{escape({'-': '−', '*': '∗'}.get(token, token))}</mo>"

    def _command(self, name: str) -> str:
        if name == "frac":
            return f"<mfrac>{self._atom()}{self._atom()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self._atom()}</msqrt>"
        if name in ("hat", "bar"):
            return f"<mover>{self._atom()}<mo>{'^' if name == 'hat' else '¯'}</mo></mover>"
        if name in ("mathrm", "text", "operatorname"):
            return f"<mi>{escape(self._said())}</mi>"
        if name in ("left", "right", "big", "Big"):
            return self._atom()
        if name in LETTERS:
            return f"<mi>{LETTERS[name]}</mi>"
        if name in WORDS:
            return f"<mi>{name}</mi>"
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"></mspace>'
        if name in SIGNS:
            return f"<mo>{SIGNS[name]}</mo>"
        raise ValueError(f"\\{name} is not known in the formula {self.tex}; add it to formulas.py")

    def _said(self) -> str:
        """Return the words in braces as they are written, spaces too."""
        place = self.starts[self.place] if self.place < len(self.tokens) else len(self.tex)
        found = re.compile(r"\{([^{}]*)\}").match(self.tex, place)
        if not found:
            raise ValueError(f"words without braces in the formula {self.tex}")
        while self.tokens[self.place] != "}":
            self.place += 1
        self.place += 1
        return found[1].replace(" ", "\N{NO-BREAK SPACE}")
