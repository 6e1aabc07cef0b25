"""The pages of the site, and their blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not page.is_relative_to(DOCS / "results"))

# A comment before a block says what a test does with it, and a reader does not see it.
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>run|printed|not run: [^>]+) -->\n)?```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A block of code. Python runs unless it is marked ``not run: reason``; sh runs if it is marked ``run``.

    A text marked ``printed`` is what the Python before it prints, within a tolerance.
    """

    language: str
    code: str
    mark: str | None

    @property
    def runs(self) -> bool:
        return self.mark is None if self.language == "python" else self.mark == "run"


def blocks(page: Path) -> list[Block]:
    return [Block(m["language"], m["code"], m["mark"]) for m in _BLOCK.finditer(page.read_text())]
