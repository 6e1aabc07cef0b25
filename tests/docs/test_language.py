"""A floor for plain English: first words of docstrings, lengths of sentences, of pages and of the site.

It judges no style. It keeps what was mended from coming back. Words are those of `tests.docs.pages.prose`: without
code, tables and what scripts write between marks. A page that a script writes as a whole counts as a whole.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, blocks, prose

SOURCES = sorted((ROOT / "src").rglob("*.py"))
NOT_FIRST = {"What", "How", "Where", "Which", "Whether", "When", "Who"}
LONGEST = 25  # words
MOST = 1200  # words of a page
ALL = 14_000  # words of all pages
WIDEST = 84  # columns of code

GUIDES = [
    DOCS / f"{name}.md"
    for name in (
        *("index", "migrating", "cheat-sheet", "faq"),
        *("which-method", "comparison", "tuning"),
        *("real-training", "processes", "trainers", "logging", "resuming", "transformers", "scripts"),
        *("measure", "measure-definitions", "suggest-rho"),
        *("reproducing", "works-with", "promises"),
    )
]
PLAIN = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *PAGES,
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            words = (ast.get_docstring(node) or "").split()
            if words and words[0] in NOT_FIRST:
                found.append(" ".join(words[:8]))
    assert found == []


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.name)
def test_sentences_are_short(path: Path) -> None:
    left_out = r"```.*?```|<!--.*?-->|<picture>.*?</picture>|^#.*?$|^\|.*?$|^:::.*?$|^    options:.*?\n\n"
    text = re.sub(left_out, "\n\n", path.read_text(), flags=re.S | re.M)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    sentences = re.split(r"(?<=[.!?])\s+(?=[^a-z])|\n\n|\n- |;\s|:\s", text)
    long = [" ".join(s.split()) for s in sentences if len(s.split()) > LONGEST]
    assert [s for s in long if " · " not in s] == []  # rows of links are no sentences


def words(page: Path) -> int:
    return len(prose(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pages_are_short(page: Path) -> None:
    assert words(page) <= MOST


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_guides_are_short_with_their_code_and_tables(page: Path) -> None:
    assert len(page.read_text().split()) <= MOST or page.name == "works-with.md"


def test_the_site_is_short() -> None:
    """Changelog and contributing are included from the repository, and the API is written by docstrings."""
    assert sum(map(words, PAGES)) <= ALL


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_code_is_not_cut_off(page: Path) -> None:
    lines = [line for block in blocks(page) for line in block.code.splitlines()]
    assert [line for line in lines if len(line) > WIDEST] == []


def test_how_words_are_counted() -> None:
    text = """# Two words

Three [more words](here.md#there). <!-- none -->

| none | none |

```python
none = None
```

<!-- a: written by docs/b.py -->
none
<!-- end of a -->

::: none.none
    options:
      none: none

Last – 2."""
    assert prose(text) == ["Two", "words", "Three", "[more", "words].", "Last", "2."]
