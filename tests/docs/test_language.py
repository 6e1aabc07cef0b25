"""A floor for plain English: first words of docstrings, lengths of sentences, of pages and of the site.

It judges no style. It keeps what was mended from coming back. Sentences are those of pages with their tables, of
docstrings of public names, and of errors and warnings. Words are those of `tests.docs.pages.prose`: without
code, tables and what scripts write between marks. A page that a script writes as a whole counts as a whole.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
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
    text = path.read_text()
    cells = [cell for row in re.findall(r"^\|.*", text, re.M) for cell in row.split(" | ")]
    assert long(re.sub(left_out, "\n\n", text, flags=re.S | re.M)) == []
    assert [sentence for cell in cells for sentence in long(cell)] == []


def long(text: str) -> list[str]:
    """Return the sentences with too many words. Rows of links are none."""
    text = re.sub(r"\]\([^)]*\)", "]", text)
    sentences = re.split(r"(?<=[.!?])\s+(?=[^a-z])|\n\n|\n\s*(?:[-*]|\d+\.) |;\s|:\s", text)
    return [" ".join(s.split()) for s in sentences if len(s.split()) > LONGEST and " · " not in s]


def public(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings of public classes and functions, without examples, formulas and names of arguments."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            if child.name.startswith("_"):
                continue
            text = ast.get_docstring(child) or ""
            text = re.sub(
                r"^\s*(?:>>>|\.\.\. ).*$|::\n\n(?:    .*\n|\n)*|\.\. math::.*?\n\n", "\n\n", text, flags=re.M | re.S
            )
            yield re.sub(r"^\s*\w+: ", "\n\n", text, flags=re.M)
        yield from public(child)


def said(node: ast.AST) -> Iterator[str]:
    """Yield the texts of errors and warnings; a value counts as a word."""
    for child in ast.walk(node):
        if isinstance(child, ast.Raise) or (isinstance(child, ast.Call) and ast.unparse(child.func).endswith("warn")):
            parts = [part for part in ast.walk(child) if isinstance(part, ast.JoinedStr | ast.Constant)]
            within = {id(value) for part in parts if isinstance(part, ast.JoinedStr) for value in ast.walk(part)}
            for part in parts:
                if isinstance(part, ast.JoinedStr):
                    yield "".join(str(v.value) if isinstance(v, ast.Constant) else "value" for v in part.values)
                elif id(part) not in within:
                    yield str(part.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_sentences_of_docstrings_and_messages_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text())
    private = path.name.startswith("_") and path.name != "__init__.py"
    texts = [*said(tree), *(() if private else public(tree))]
    assert [sentence for text in texts for sentence in long(text)] == []


def test_which_sentences_are_found() -> None:
    many = "word " * LONGEST
    code = f"""
def shown():
    '''Return it.

    Args:
        one: {many}more.

    Example:
        >>> {many}more

    '''
    raise ValueError(f"{{one}} is wrong: {many}more")
"""
    tree = ast.parse(code)
    assert [sentence for text in public(tree) for sentence in long(text)] == [f"{many}more."]
    assert [sentence for text in said(tree) for sentence in long(text)] == [f"{many}more"]
    assert long(f"\n1. {many}\n2. {many}; {many}") == []


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
