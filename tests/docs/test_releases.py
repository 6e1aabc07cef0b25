"""The table of releases of torch says what is stored."""

from __future__ import annotations

from importlib.metadata import requires

import pytest

from tests.docs.pages import ROOT
from tests.releases import PAGE, SUITES, page_with_table, read


def test_the_table_is_that_of_the_stored_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page_with_table(text) == text


def test_every_release_ran_every_suite_and_nothing_failed() -> None:
    rows = read()
    releases = {row["torch"] for row in rows}
    assert {(row["torch"], row["suite"]) for row in rows} == {(r, s) for r in releases for s in SUITES}
    assert all(row["failed"] == row["errors"] == "0" and int(row["passed"]) > 0 for row in rows)


def test_the_lowest_release_that_is_promised_is_in_the_table() -> None:
    [promised] = [line for line in requires("lookbehind") or [] if line.startswith("torch") and "extra" not in line]
    lowest = promised.partition(">=")[2]
    assert any(row["torch"].startswith(lowest) for row in read())


@pytest.mark.parametrize("extra", ["lab"])
def test_no_extra_holds_torch_back(extra: str) -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [line for line in project["optional-dependencies"][extra] if line.startswith("torch") and "<" in line]
