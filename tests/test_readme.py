"""What the README shows, runs, and so do links from page to page. The pages of docs are run in tests/docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES[:2]
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL), 1)
]


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 1


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet_runs(code: str) -> None:
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?:|#)[^)]+)\)", page.read_text())
    assert [link for link in links if not _leads(page.parent / link.split("#")[0])] == []


def _leads(path: Path) -> bool:
    """Return whether a file is there, or is a page of results: the site's build makes these, beside what is stored."""
    made = path.suffix == ".html" and path.parent.name == "cpu"
    return path.exists() or (made and (path.stem == "index" or any(path.parent.glob(f"{path.stem}[-.]*"))))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 700


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert re.search(
        r"^pip install .*pytest -n auto --dist loadfile$", (ROOT / "README.md").read_text(), flags=re.MULTILINE
    )


def test_what_works_with_what_has_no_empty_cell_and_names_tests_that_are_there() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (ROOT / "docs" / "works-with.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| |")
    ]
    assert len(rows) > 40
    assert all(cell for row in rows for cell in row)
    named = {name for row in rows if len(row) == 7 for name in re.findall(r"`([^`]+)`$", row[-1])}
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
