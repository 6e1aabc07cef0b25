"""The pages of the site, their words, and their blocks of code."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

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


# No prose: code, tables, what a script writes between marks, marks, tags, calls of the API's reader, addresses.
_CODE = re.compile(r"^```.*?^```$", re.M | re.S)
WRITTEN = re.compile(
    r"<!-- ([^>]+): written by [^>]+ -->.*?<!-- end of \1 -->|<!-- league -->.*?<!-- /league -->", re.S
)
_TAGS = re.compile(r"<!--.*?-->|<[^>]+>", re.S)
_TABLE = re.compile(r"^\|.*$", re.M)
_CALL = re.compile(r"^:::.*(?:\n    .*)*", re.M)
_ADDRESS = re.compile(r"\]\([^)]*\)")


def prose(text: str) -> list[str]:
    """Return the words of a page that are read as sentences, headings included."""
    for part, instead in ((_CODE, ""), (WRITTEN, ""), (_TAGS, ""), (_TABLE, ""), (_CALL, ""), (_ADDRESS, "]")):
        text = part.sub(instead, text)
    return [word for word in text.split() if re.search(r"\w", word)]


def blocks(page: Path) -> list[Block]:
    return [Block(m["language"], m["code"], m["mark"]) for m in _BLOCK.finditer(page.read_text())]


def script(name: str) -> ModuleType:
    """Import a script of the folder docs."""
    specification = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[f"docs_{name}"] = module  # where its dataclasses look for their types
    specification.loader.exec_module(module)
    return module
