"""How docstrings are shown: formulas as MathML, which browsers draw themselves, with nothing to download or run."""

from __future__ import annotations

import re
import textwrap

from griffe import Extension, Object
from latex2mathml.converter import convert

# Sphinx's notation, on one line or indented below. Several lines with & are aligned, as Sphinx does.
BLOCK = re.compile(r"^\.\. math::(?P<first>.*)\n(?P<rest>(?:[ \t]*\n|[ ]{4,}.*(?:\n|\Z))*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)  # the reader knows it in the plural only


def mathml(docstring: str) -> str:
    """Return the docstring with its TeX formulas as MathML."""
    return INLINE.sub(lambda found: convert(found[1]), BLOCK.sub(_block, docstring + "\n")).rstrip()


def _block(found: re.Match[str]) -> str:
    tex = f"{found['first'].strip()}\n{textwrap.dedent(found['rest'])}".strip()
    if "&" in tex:
        tex = rf"\begin{{align}}{tex}\end{{align}}"
    return convert(tex, display="block") + "\n\n"


class Docstrings(Extension):
    """Called by the reader of the sources for every object."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Convert the docstring in place."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub("Examples:", mathml(obj.docstring.value))
