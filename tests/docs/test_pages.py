"""The code on each page runs, in order, in one namespace and one folder."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from lookbehind.cli import main
from tests.docs.pages import DOCS, PAGES, ROOT, blocks
from tests.docs.printed import differences

RUNNABLE = [page for page in PAGES if any(block.runs for block in blocks(page))]
# What a fence may be called. Another name for Python would be Python that no test sees.
LANGUAGES = {"python", "sh", "text", "", "{.python .source}"}


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def test_there_are_pages_with_code() -> None:
    assert {"index.md", "start.md", "tuning.md", "extending.md", "measure.md", "real-training.md"} <= set(
        map(name, RUNNABLE)
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_code_of_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "page"}
    printed = io.StringIO()
    for number, block in enumerate(blocks(page), 1):
        if block.mark == "printed":
            assert differences(block.code, printed.getvalue()) == []
        if block.runs and block.language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, f"{name(page)}, block {number}", "exec"), namespace)
        elif block.runs:
            for line in block.code.splitlines():
                run(line)


def run(line: str) -> None:
    """Run a line of a shell block: only our own command."""
    command, *arguments = shlex.split(line)
    assert command == "lookbehind"
    assert main(arguments) == 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_code_hides_from_the_test(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert page.read_text().count("\n```") == 2 * len(blocks(page)) - page.read_text().startswith("```")


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_output_is_shown_that_no_test_produces(page: Path) -> None:
    """Texts with numbers are pseudo-code or code, or what a block prints."""
    texts = [block.code for block in blocks(page) if block.language in ("text", "") and block.mark != "printed"]
    assert [text for text in texts if re.search(r"\d\.\d", text) and not re.search("←|[a-z]=|⟨", text)] == []
