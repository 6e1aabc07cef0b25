"""Each mean ± deviation that a page quotes is one of the stored results, to the digits that it is quoted with."""

from __future__ import annotations

import csv
import json
import re
import statistics
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES

QUOTED = re.compile(r"(\d[\d.]*(?:e\+\d+)?)\**(?: %)? ± (\d+(?:\.\d+)?)")
# Pages whose numbers other tests compare: with the comparison's file, the league's archive, the stored measurements.
ELSEWHERE = {"which-method.md", "comparison.md", "league.md", "measure.md"}
LEAGUE = (DOCS / "league.md").read_text()  # compared with its archive; the pages of methods quote it
# On fine-tuning: printed by benchmarks/full_fine_tuning.py and by single runs, of which no results are stored.
# The list may only get shorter.
UNSTORED = {
    "fine-tuning.md": {
        "29.1 ± 5.6", "29.5 ± 3.9", "18.4 ± 6.1", "31.5 ± 6.5", "39.9 ± 6.0", "35.5 ± 3.9", "40.1 ± 5.1", "39.5 ± 4.4",
        "37.1 ± 5.5", "34.9 ± 6.3", "37.7 ± 5.9", "35.2 ± 6.5", "35.7 ± 7.5", "36.3 ± 7.2", "34.3 ± 5.1", "33.8 ± 4.7",
        "36.0 ± 4.5", "35.6 ± 4.5",
    }
}  # fmt: skip


def stored() -> list[tuple[float, float]]:
    rows = [row for file in (DOCS / "results" / "cpu").glob("*.csv") for row in csv.DictReader(file.open())]
    return [(float(row["mean"]), float(row["std"])) for row in rows if row.get("mean") and row.get("std")]


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
    without = {f"{a} ± {b}" for a, b in found if not is_stored(a, b) and f"{a} ± {b}" not in LEAGUE}
    assert without <= UNSTORED.get(page.name, set())


def test_the_worked_example_of_measuring() -> None:
    """The table of docs/measure.md, from the measurements that docs/pictures/measurements.py stored."""
    seeds = json.loads((DOCS / "results" / "measure" / "measurements.json").read_text()).values()
    picks = {
        "training loss": lambda r: r["sharpness"]["loss"],
        "125-sharpness, r = 0.2": lambda r: r["sharpness"]["values"][3],
        "125-sharpness of ASAM, r = 1": lambda r: r["relative sharpness"]["values"][3],
        "largest eigenvalue": lambda r: r["eigenvalues"]["values"][0],
        "trace": lambda r: r["trace"]["trace"],
        "accuracy %": lambda r: r["noise"]["means"][0],
        "… with noisy weights, σ = 0.2": lambda r: r["noise"]["means"][2],
        "… with noisy weights, σ = 0.4": lambda r: r["noise"]["means"][4],
        "… with 4-bit weights, per tensor": lambda r: r["quantisation"]["per_tensor"][3],
        "… with 4-bit weights, per channel": lambda r: r["quantisation"]["per_channel"][3],
        "… with 3-bit weights, per channel": lambda r: r["quantisation"]["per_channel"][4],
    }
    page = (DOCS / "measure.md").read_text()
    for name, pick in picks.items():
        values = [[pick(seed[method]) for seed in seeds] for method in ("SGD", "SAM", "Lookbehind-SAM")]
        cells = [f"{statistics.mean(v):.3g} ± {statistics.stdev(v):.2g}" for v in values]
        assert f"| {name} | {' | '.join(cells)} |" in page


@pytest.mark.parametrize("picture", ["front.svg", "front-dark.svg"])
def test_the_picture_of_the_readme_shows_the_stored_means(picture: str) -> None:
    rows = list(csv.DictReader((DOCS / "pictures" / "front.csv").open()))
    shown = re.findall(r">(\d+\.\d) %</text>", (DOCS / "pictures" / picture).read_text())
    values = {m: [float(r["test accuracy"]) for r in rows if r["method"] == m] for m in ("SGD", "SAM", "Lookbehind")}
    assert shown == [f"{statistics.mean(of_seeds):.1f}" for of_seeds in values.values()]
    assert {len(of_seeds) for of_seeds in values.values()} == {5}
