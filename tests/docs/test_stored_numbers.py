"""Each mean ± deviation that a page quotes is one of the stored results, to the digits that it is quoted with."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, WRITTEN, script

QUOTED = re.compile(r"(\d[\d.]*(?:e\+\d+)?)\**(?: %)? ± (\d+(?:\.\d+)?)")
# Pages whose numbers other tests compare: with the comparison's file, the league's archive, the stored measurements.
ELSEWHERE = {"which-method.md", "comparison.md", "league.md", "measure.md"}
LEAGUE = (DOCS / "league.md").read_text()  # compared with its archive; the pages of methods quote it


def stored() -> list[tuple[float, float]]:
    rows = [row for file in (DOCS / "results" / "cpu").glob("*.csv") for row in csv.DictReader(file.open())]
    return [(float(row["mean"]), float(row["std"])) for row in rows if row.get("mean") and row.get("std")]


TABLES = script("tables")
STORED = stored()


def is_stored(mean: str, deviation: str) -> bool:
    a, b = (len(number.partition(".")[2]) for number in (mean, deviation))
    return any(f"{m:.{a}f}" == mean and f"{s:.{b}f}" == deviation for m, s in STORED)


def test_there_are_results() -> None:
    assert len(STORED) > 1000
    assert is_stored("95.83", "1.63")
    assert not is_stored("95.84", "1.63")


@pytest.mark.parametrize(
    "page", [p for p in PAGES if QUOTED.search(p.read_text()) and p.name not in ELSEWHERE], ids=lambda page: page.name
)
def test_every_mean_with_a_deviation_is_stored(page: Path) -> None:
    found = QUOTED.findall(page.read_text())
    written = LEAGUE + TABLES.full_fine_tuning() + TABLES.compare("noisy")
    without = {f"{a} ± {b}" for a, b in found if not is_stored(a, b) and f"{a} ± {b}" not in written}
    assert without == set()


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "results.md"], ids=lambda page: page.name)
def test_no_mean_with_a_deviation_is_typed_by_hand(page: Path) -> None:
    """But for the board of results, whose numbers the test above compares."""
    text = page.read_text()
    by_hand = "" if "<!-- written by docs/" in text else WRITTEN.sub("", text)
    assert QUOTED.findall(by_hand) == []


def test_the_tables_are_those_of_the_stored_results() -> None:
    for file, text in TABLES.pages().items():
        assert file.read_text(encoding="utf-8") == text, f"{file}: run python docs/tables.py"


@pytest.mark.parametrize("picture", ["front.svg", "front-dark.svg"])
def test_the_picture_of_the_readme_shows_the_stored_means(picture: str) -> None:
    rows = list(csv.DictReader((DOCS / "pictures" / "front.csv").open()))
    shown = re.findall(r">(\d+\.\d) %</text>", (DOCS / "pictures" / picture).read_text())
    values = {m: [float(r["test accuracy"]) for r in rows if r["method"] == m] for m in ("SGD", "SAM", "Lookbehind")}
    assert shown == [f"{statistics.mean(of_seeds):.1f}" for of_seeds in values.values()]
    assert {len(of_seeds) for of_seeds in values.values()} == {5}
