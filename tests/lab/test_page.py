"""Pages: what they say is what there is, nothing breaks out of its place, and a real browser can use them."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import math
import random
import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from lookbehind.lab import Run, Store, execute
from lookbehind.lab.budget import at_radius
from lookbehind.lab.cell import Candidate, Cell, Derived, Published
from lookbehind.lab.estimate import TWO_CORES
from lookbehind.lab.lookup import Results
from lookbehind.lab.method import Method
from lookbehind.lab.metrics import (
    accuracy_at_best_validation,
    best_validation_accuracy,
    noisy_accuracy_at,
    sharpness_at,
)
from lookbehind.lab.page import write
from lookbehind.lab.parts import Declaration, Heatmap, Item, Lines, Part, Point, Row, Scatter, Series, Table
from lookbehind.lab.report import tasks_possible
from lookbehind.lab.run import NoiseSettings, SharpnessSettings
from lookbehind.paper import DEVICES, ITEMS
from tests.lab.known import DIGITS, Known, lookbehind, result, sam, sgd
from tests.lab.runs import TINY

HOSTILE = "<script>alert(1)</script>\"'&amp;{{ 7 * 7 }}</style><b>"
# Best test accuracies of seeds 0, 1 and 2.
LOOKBEHIND, SAM, SGD, HALF = (96.0, 97.5, 98.0), (95.0, 96.5, 96.0), (94.0, 94.5, 94.2), (90.0, 91.0)


def known() -> Known:
    """Four finished settings, one that diverged for a seed, one that failed, one that has two of three seeds."""
    found = Known()
    found.put(lookbehind(2), *LOOKBEHIND)
    found.put(lookbehind(5), 96, 96, 96)
    found.put(sam(0.1), *SAM)
    found.put(sgd(), *SGD)
    found.put(sam(0.2), *HALF)
    found.put(sam(0.3), 80, 80)
    found.results[sam(0.3).runs[2]] = result([20, 10.0], status="diverged")
    found.failures[sam(0.4).runs[0]] = f"RuntimeError: {HOSTILE}"
    return found


def table(hostile: str = "") -> Table:
    rows = (
        Row("Lookbehind", (Cell((lookbehind(5), lookbehind(2)), published=Published(97.0, 0.5)),), "first"),
        Row("SAM", (Cell((sam(0.1),), published=Published(95.0)),), "first"),
        Row("SGD", (Cell((sgd(),)),), "first"),
        Row("two seeds", (Cell((sam(0.2),)),), "first"),
        Row("diverged", (Cell((sam(0.3),)),), "second"),
        Row("failed" + hostile, (Cell((sam(0.4),)),), "second"),
        Row("missing", (Cell((sam(0.5),)),), "second"),
        Row("waiting", (Derived((Cell((lookbehind(9),)),), at_radius),), "second"),
        Row("empty", (None,), "second"),
        Row("theirs", (Cell((), published=Published(50.0, 1.0)),), "third"),
    )
    return Table("Accuracy" + hostile, ("digits" + hostile,), rows, against="Lookbehind", caption="Said." + hostile)


def figures(hostile: str = "") -> tuple[Part, ...]:
    first, second, gone = Cell((sam(0.1),)), Cell((sam(0.2),)), Cell((sam(9.0),))
    return (
        Lines(
            "lines" + hostile, "ρ", "accuracy", (Series("SAM" + hostile, (0.1, 0.2), (first, second)),), first, "one"
        ),
        Heatmap("map", "k", (2, 5), "α", (0.8, 0.5), ((first, second), (gone, Cell((sam(0.3),)))), first),
        Scatter("points", "loss", "sharpness", (Point("SAM", first, second), Point("none", gone, gone))),
    )


def item(*parts: Part, name: str = "one", title: str = "An item", notes: tuple[str, ...] = ()) -> Item:
    return Item(name, title, ("cpu",), lambda scale: Declaration(parts, notes))


def parsed(path: Path) -> ElementTree.Element:
    """The pages are XML too: a strict parser finds what a browser forgives."""
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


def text(element: ElementTree.Element | None) -> str:
    assert element is not None
    return " ".join("".join(element.itertext()).split())


def rows(page: ElementTree.Element, at: str = ".//section") -> dict[str, list[ElementTree.Element]]:
    """The cells of the first table under a place, by the label of their row."""
    section = page.find(at)
    assert section is not None
    return {text(row.find("th")): row.findall("td") for row in section.findall(".//tbody/tr")}


def behind(page: ElementTree.Element, cell: ElementTree.Element) -> ElementTree.Element:
    button = cell.find("button")
    assert button is not None
    found = page.find(f".//div[@id='{button.get('popovertarget')}']")
    assert found is not None
    return found


@pytest.fixture
def page(tmp_path: Path) -> ElementTree.Element:
    write([item(table())], known(), tmp_path, "cpu")
    return parsed(tmp_path / "one.html")


# --- numbers ---------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_runs(page: ElementTree.Element) -> None:
    heads = [text(head) for head in page.findall(".//section//thead//th")]
    assert heads == ["digits", "ours", "published", "gap", "difference"]
    found = rows(page)
    for label, numbers in (("Lookbehind", LOOKBEHIND), ("SAM", SAM), ("SGD", SGD)):
        assert text(found[label][0]) == f"{statistics.mean(numbers):.2f} ± {statistics.stdev(numbers):.2f}"
    assert [text(cell) for cell in found["Lookbehind"][1:]] == ["97.00 ± 0.50", "+0.17", ""]
    assert [text(cell) for cell in found["SAM"][1:3]] == ["95.00", "+0.83"]
    assert [text(cell) for cell in found["theirs"]] == ["", "50.00 ± 1.00", "", ""]
    assert [text(cell) for cell in found["empty"]] == [""] * 4


def test_differences_and_their_intervals(page: ElementTree.Element) -> None:
    rivals = 8  # all other rows of the column that have a cell
    for label, numbers in (("SAM", SAM), ("SGD", SGD)):
        low, high = stats.ttest_rel(numbers, LOOKBEHIND).confidence_interval(1 - 0.05 / rivals)
        mean = statistics.mean(numbers) - statistics.mean(LOOKBEHIND)
        assert text(rows(page)[label][3]) == f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
    assert "*" not in text(rows(page)["SAM"][3])


def test_an_interval_that_excludes_zero_is_marked(tmp_path: Path) -> None:
    found = Known()
    found.put(lookbehind(2), 96, 97, 98)
    found.put(sam(0.1), 91.1, 92, 92.9)
    cells = (Row("Lookbehind", (Cell((lookbehind(2),)),)), Row("SAM", (Cell((sam(0.1),)),)))
    write([item(Table("t", ("c",), cells, against="Lookbehind"))], found, tmp_path, "cpu")
    assert text(rows(parsed(tmp_path / "one.html"))["SAM"][1]).endswith("]*")


def test_best_is_bold_and_second_best_underlined(page: ElementTree.Element) -> None:
    found = rows(page)
    assert text(found["Lookbehind"][0].find("button/b")) == "97.17 ± 1.04"
    assert text(found["SAM"][0].find("button/u")) == "95.83 ± 0.76"
    assert found["SGD"][0].find(".//b") is None
    assert found["SGD"][0].find(".//u") is None
    assert found["two seeds"][0].find(".//u") is None
    assert text(found["theirs"][1].find("b")) == "50.00 ± 1.00"
    assert "Best and second best of a column" in text(page)


def test_what_is_not_there_is_said(page: ElementTree.Element) -> None:
    found = {label: text(cells[0]) for label, cells in rows(page).items()}
    assert found["two seeds"] == "90.50 2 of 3 seeds; 1 of 3 runs missing"
    assert found["diverged"] == "N/A (diverged) 1 of 3 runs diverged"
    assert found["failed"] == "missing 1 of 3 runs failed; 2 of 3 runs missing"
    assert found["missing"] == "missing 3 of 3 runs missing"
    assert found["waiting"] == "waiting"
    assert "its settings follow from cells that are not done" in text(behind(page, rows(page)["waiting"][0]))


def test_figures_have_their_numbers(tmp_path: Path) -> None:
    write([item(*figures())], known(), tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    lines, heatmap, scatter = (rows(page, f".//section[@id='part{i}']") for i in (1, 2, 3))
    assert [text(cell)[:5] for cell in lines["SAM"]] == ["95.83", "90.50"]
    assert [text(cell)[:5] for cell in lines["one"]] == ["95.83"]
    assert [text(cell)[:5] for cell in heatmap["α = 0.8"]] == ["95.83", "90.50"]
    assert [text(cell)[:14] for cell in heatmap["α = 0.5"]] == ["missing 3 of 3", "N/A (diverged)"]
    assert [text(cell)[:5] for cell in heatmap["baseline"]] == ["95.83"]
    assert [text(cell)[:5] for cell in scatter["SAM"]] == ["95.83", "90.50"]
    drawn = page.findall(".//figure/{http://www.w3.org/2000/svg}svg")
    assert [svg.get("aria-label") for svg in drawn] == ["lines", "map", "points"]
    assert "baseline 95.83" in text(drawn[1])


def test_lines_need_not_share_their_axis(tmp_path: Path) -> None:
    first, second = Cell((sam(0.1),)), Cell((sam(0.2),))
    lines = Lines("l", "ρ", "y", (Series("left", (1.0, 2.0), (first, second)), Series("right", (3.0,), (first,))))
    write([item(lines)], known(), tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    assert [text(head) for head in page.findall(".//section//thead//th")] == ["ρ = 1", "ρ = 2", "ρ = 3"]
    assert [text(cell)[:5] for cell in rows(page)["right"]] == ["", "", "95.83"]


def test_small_numbers_keep_their_digits(tmp_path: Path) -> None:
    found, settings_ = known(), SharpnessSettings(radii=(0.1,))
    for i, run in enumerate(sam(0.1).runs):
        found.measurements[run, settings_] = {"values": [0.0011 + 0.0001 * i], "loss": 0.0}
    lines = Lines("l", "r", "sharpness", (Series("SAM", (0.1,), (Cell((sam(0.1),), sharpness_at(settings_, 0.1)),)),))
    write([item(lines)], found, tmp_path, "cpu")
    assert text(rows(parsed(tmp_path / "one.html"))["SAM"][0]) == "0.0012 ± 0.0001"


# --- what is behind a number -----------------------------------------------------------------------------------


def test_behind_a_number(page: ElementTree.Element) -> None:
    shown = behind(page, rows(page)["Lookbehind"][0])
    said = text(shown)
    assert "97.17 ± 1.04 best test accuracy (%)" in said
    assert "Of 2 settings the one with the highest mean over seeds of best test accuracy (%) is shown." in said
    assert "standard deviation of 3 seeds, with divisor n − 1" in said
    seeds, rivals = shown.findall(".//table")
    written = [[text(cell) for cell in row] for row in seeds.findall("tbody/tr")]
    assert [(row[0], row[1], row[2]) for row in written] == [
        ("0", "96", "finished"),
        ("1", "97.5", "finished"),
        ("2", "98", "finished"),
    ]
    assert [row[6] for row in written] == [run.address for run in lookbehind(2).runs]
    fields = {text(pair.find("dt")): text(pair.find("dd")) for pair in shown.findall(".//dl/div")}
    expected = {"dataset": "digits", "epochs": "4", "kind": "lookbehind", "rho": "0.1", "k": "2", "alpha": "0.5"}
    assert expected.items() <= fields.items()
    assert [[text(cell) for cell in row] for row in rivals.findall("tbody/tr")] == [
        ["k=5, α=0.5", "96.00 ± 0.00", "96.00 ± 0.00", ""],
        ["k=2, α=0.5 (shown)", "97.17 ± 1.04", "97.17 ± 1.04", ""],
    ]


def test_a_run_has_an_address_on_the_page(page: ElementTree.Element) -> None:
    """It opens the first number that it stands behind."""
    addresses = [run.address for run in lookbehind(2).runs]
    for address in addresses:
        (row,) = page.findall(f".//tr[@id='run={address}']")
        link = row.find("td/a")
        assert link is not None
        assert (link.get("href"), text(link)) == (f"#run={address}", address)
    every = [row.get("id") for row in page.iter("tr") if row.get("id")]
    assert len(every) == len(set(every)) > len(addresses)
    style = page.find(".//style")
    assert ".behind:has(:target) { display: block; }" in text(style)


def test_behind_the_lack_of_a_number(page: ElementTree.Element) -> None:
    diverged, failed = (behind(page, rows(page)[label][0]) for label in ("diverged", "failed"))
    assert [text(row[2]) for row in diverged.findall(".//table/tbody/tr")] == ["finished, without the number"] * 2 + [
        "diverged"
    ]
    assert diverged.find(".//{*}use") is not None
    assert f"failed: RuntimeError: {HOSTILE}" in text(failed)
    assert failed.find(".//{*}use") is None


def test_what_selects_is_told_beside_what_is_reported(tmp_path: Path) -> None:
    found, first, second = Known(), sam(0.1, seeds=1), sam(0.2, seeds=1)
    found.results[first.runs[0]] = result([90, 99], validation=[80, 70])
    found.results[second.runs[0]] = result([91, 92], validation=[85, 82])
    cell = Cell((first, second), accuracy_at_best_validation(), best_validation_accuracy())
    write([item(Table("t", ("c",), (Row("SAM", (cell,)),)))], found, tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    shown = behind(page, rows(page)["SAM"][0])
    rivals = [[text(cell) for cell in row] for row in shown.findall(".//table")[1].findall("tbody/tr")]
    assert rivals == [["ρ=0.1", "80.00", "90.00", ""], ["ρ=0.2 (shown)", "85.00", "91.00", ""]]
    assert "highest mean over seeds of best validation accuracy (%)" in text(shown)


def test_a_derived_cell_says_what_it_follows_from(tmp_path: Path) -> None:
    found, source = known(), Cell((lookbehind(5), lookbehind(2)))
    control = Derived((source,), at_radius)
    found.put(at_radius(lookbehind(2)), 95, 95.5, 96)
    write([item(Table("t", ("c",), (Row("radius", (control,)),)))], found, tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    assert text(rows(page)["radius"][0]) == "95.50 ± 0.50"
    shown = text(behind(page, rows(page)["radius"][0]))
    assert "The setting follows from what won elsewhere: k=2, α=0.5." in shown
    assert "rho 0.2" in shown


def test_a_switched_run_has_both_methods(tmp_path: Path) -> None:
    found, first = Known(), Method(kind="sam", perturbation="sam", rho=0.1)
    run = Run(workload=DIGITS, method=first, later=Method(kind="base"), switch=3)
    found.results[run] = result([90.0])
    cell = Cell((Candidate("switched", (run,)),))
    write([item(Table("t", ("c",), (Row("r", (cell,)),)))], found, tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    shown = text(behind(page, rows(page)["r"][0]))
    for words in ("epochs of the first method 3", "first: rho 0.1", "later: kind base"):
        assert words in shown


def test_curves_are_the_accuracies(tmp_path: Path) -> None:
    found, candidate = Known(), sam(0.1, seeds=2)
    tests = [[50, 60, 90, 70], [50, 55, 60, 80]]
    for run, accuracies in zip(candidate.runs, tests, strict=True):
        found.results[run] = result(accuracies, validation=[a - 5 for a in accuracies])
    cells = (Row("a", (Cell((candidate,)),)), Row("b", (Cell((candidate,)),)))
    write([item(Table("t", ("c",), cells))], found, tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    (symbol,) = page.findall(".//{*}symbol")  # drawn once, shown twice
    assert [use.get("href") for use in page.findall(".//{*}use")] == [f"#{symbol.get('id')}"] * 2
    for kind, shift in (("test", 0), ("validation", -5)):
        lines = symbol.findall(f"{{*}}polyline[@class='{kind}']")
        for line, accuracies in zip(lines, tests, strict=True):
            points = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
            xs, ys = zip(*points, strict=True)
            assert (xs[0], xs[-1]) == (40, 312)  # the ends of the axis
            assert [b - a for a, b in itertools.pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * 3, abs=0.11)
            # 45 to 90 % is the whole height, from 130 up to 8: the axis ends are written beside it.
            expected = [130 - 122 * (a + shift - 45) / 45 for a in accuracies]
            assert ys == pytest.approx(expected, abs=0.06)
    assert {"90.0", "45.0", "1", "4"} <= {label.text for label in symbol.findall("{*}text")}


# --- what a page states ----------------------------------------------------------------------------------------


def stated(page: ElementTree.Element) -> dict[str, str]:
    facts = page.find(".//dl[@class='facts']")
    assert facts is not None
    return {text(name): text(value) for name, value in zip(facts.findall("dt"), facts.findall("dd"), strict=True)}


def test_facts(tmp_path: Path) -> None:
    found = known()
    trained = ({"libraries": {"torch": "2.6.0"}, "device": "cpu", "device_name": None, "after": 0},)
    other = ({"libraries": {"torch": "2.7.1"}, "device": "cpu", "device_name": None, "after": 0},)
    for run, place in ((sgd().runs[0], trained), (sgd().runs[1], other)):
        found.results[run] = found.results[run].model_copy(update={"environments": place})
    write([item(table())], found, tmp_path, "cpu", TWO_CORES)
    facts = stated(parsed(tmp_path / "one.html"))
    assert facts["Scale"] == "cpu"
    assert facts["Seeds"] == "0, 1, 2"
    # Eight cells of three runs with one of two settings, and Lookbehind with k = 9 that one follows from.
    assert facts["Runs"] == "27 runs: 16 finished, 1 diverged, 1 failed, 9 missing"
    assert facts["Missing"].startswith("10 runs; 1 cell depends on unfinished runs")
    assert "digits, convnet: sam, missing: 6" in facts["Missing"]
    assert facts["Failed"] == f"1 run: RuntimeError: {HOSTILE}"
    assert facts["Cost so far"].startswith("17 gradient evaluations; 17 s of training")
    assert facts["Trained with"] == "torch 2.6.0 and 2.7.1; device cpu"
    # Digits: 1000 images in minibatches of 128, 4 epochs; 27 runs with 1, 2 or k + 1 gradients a step, and one control.
    steps, gradients = 4 * math.ceil(1000 / 128), 3 * (3 + 6 + 5 * 2 + 1 + 10 + 2)
    assert facts["Planned cost"].startswith(f"{steps * gradients:,} gradient evaluations; about ")
    assert stated(parsed(tmp_path / "index.html"))["Runs"] == facts["Runs"]


def test_a_finished_run_without_its_measurement_is_not_done(tmp_path: Path) -> None:
    cell = Cell((sgd(),), noisy_accuracy_at(NoiseSettings(sigmas=(0.1,)), 0.1))
    write([item(Table("t", ("c",), (Row("SGD", (cell,)),)))], known(), tmp_path, "cpu")
    page = parsed(tmp_path / "one.html")
    assert stated(page)["Runs"] == "3 runs: 3 not measured"
    assert stated(page)["Missing"].startswith("3 runs")


def test_data_of_unknown_size_have_no_estimate(tmp_path: Path) -> None:
    mine = sgd(workload=DIGITS.model_copy(update={"dataset": "mine"}))
    write([item(Table("t", ("c",), (Row("r", (Cell((mine,)),)),)))], known(), tmp_path, "cpu", TWO_CORES)
    assert "the cost of training on 'mine' is unknown" in stated(parsed(tmp_path / "one.html"))["Planned cost"]


def test_the_index_leads_to_every_page(tmp_path: Path) -> None:
    paths = write([item(table(), name=name, title=f"About {name}") for name in "abc"], known(), tmp_path, "cpu")
    assert paths[-1].name == "index.html"
    assert sorted(paths) == sorted(tmp_path.iterdir())
    index = parsed(tmp_path / "index.html")
    assert [link.get("href") for link in index.findall(".//table//a")] == ["a.html", "b.html", "c.html"]
    around = {"a": ["b.html"], "b": ["a.html", "c.html"], "c": ["b.html"]}
    for name, others in around.items():
        links = parsed(tmp_path / f"{name}.html").findall(".//nav/a")
        assert [link.get("href") for link in links] == ["index.html", *others]


def test_a_run_that_items_share_is_counted_once_in_the_index(tmp_path: Path) -> None:
    write([item(table(), name="a"), item(table(), name="b")], known(), tmp_path, "cpu")
    one, together = stated(parsed(tmp_path / "a.html")), stated(parsed(tmp_path / "index.html"))
    assert together["Runs"] == one["Runs"]
    assert together["Cost so far"] == one["Cost so far"]


# --- files -----------------------------------------------------------------------------------------------------


def test_downloads_are_the_files_beside(tmp_path: Path) -> None:
    paths = write([item(table(HOSTILE), *figures())], known(), tmp_path, "cpu")
    assert [path.name for path in paths] == [
        "one-1.csv",
        "one-1.tex",
        "one-2.csv",
        "one-3.csv",
        "one-4.csv",
        "one.svg",
        "one.html",
        "index.html",
    ]
    links = parsed(tmp_path / "one.html").findall(".//a[@download]")
    assert sorted(link.get("download") or "" for link in links) == sorted(path.name for path in paths[:-2])
    for link in links:
        beside = (tmp_path / (link.get("download") or "")).read_text(encoding="utf-8")
        assert unquote((link.get("href") or "").split(",", 1)[1]) == beside
    with (tmp_path / "one-1.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["mean"]) == pytest.approx(statistics.mean(LOOKBEHIND))
    assert first["column"] == "digits" + HOSTILE


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write([item(table(), *figures())], known(), tmp_path / name, "cpu") for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("mine")
    write([item(table())], known(), tmp_path, "cpu")
    assert (tmp_path / "mine.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["index", "../up", "a/b", "", ".hidden", "a b"])
def test_names_that_no_page_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        write([item(table(), name=name)], known(), tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def test_items_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write([], known(), tmp_path, "cpu")
    with pytest.raises(ValueError, match=r"'one'.*once"):
        write([item(table()), item(table())], known(), tmp_path, "cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write([item(table())], known(), tmp_path / "file", "cpu")


def test_a_real_store(tmp_path: Path) -> None:
    """The numbers of a page are those of the store's files, read here without the lab."""
    store = Store(tmp_path / "store")
    methods = {"SGD": Method(kind="base"), "SAM": Method(kind="sam", perturbation="sam", rho=0.1)}
    runs = {label: tuple(Run(workload=TINY, method=each, seed=s) for s in (0, 1, 2)) for label, each in methods.items()}
    for each in runs.values():
        for run in each:
            execute(run, store)
    parts = Table("t", ("tiny",), tuple(Row(label, (Cell((Candidate("", each),)),)) for label, each in runs.items()))
    write([item(parts)], store, tmp_path / "out", "cpu", TWO_CORES)
    page = parsed(tmp_path / "out" / "one.html")
    for label, each in runs.items():
        contents = [json.loads((store.folder(run) / "result.json").read_text())["result"] for run in each]
        best = [max(record["test"] for record in content["records"]) for content in contents]
        assert text(rows(page)[label][0]) == f"{statistics.mean(best):.2f} ± {statistics.stdev(best):.2f}"
    # 60 images in minibatches of 16, 2 epochs: 8 steps of each run, of 1 and 2 gradients, three seeds.
    assert stated(page)["Cost so far"].startswith("72 gradient evaluations")
    assert stated(page)["Planned cost"].startswith("72 gradient evaluations")
    assert "torch 2." in stated(page)["Trained with"]


# --- what others wrote stays text ------------------------------------------------------------------------------


def sound(folder: Path) -> None:
    """Every page parses, its ids are unique, what is referred to is there, and nothing is fetched."""
    pages = {path.name: parsed(path) for path in folder.glob("*.html")}
    for page in pages.values():
        ids = [element.get("id") for element in page.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert len(page.findall(".//{*}style")) == 1  # one of a figure would hold for all
        assert page.findall(".//{*}metadata") == []
        wanted = set()
        for element in page.iter():
            assert not element.tag.endswith("script")
            assert not [name for name in element.attrib if name.lower().startswith("on")]
            for name in ("popovertarget", "aria-labelledby"):
                wanted |= {element.get(name)} - {None}
            for name in ("href", "src", "{http://www.w3.org/1999/xlink}href"):
                address = element.get(name)
                if address is not None and address.startswith("#"):
                    wanted.add(address[1:])
                elif address is not None:
                    assert address.startswith("data:") or (folder / address).is_file()
            wanted |= set(re.findall(r"url\(#([^)]*)\)", " ".join(element.attrib.values())))
        assert wanted <= set(ids)


def test_hostile_labels_stay_text(tmp_path: Path) -> None:
    shown = item(table(HOSTILE), *figures(HOSTILE), title="An item" + HOSTILE, notes=("A note" + HOSTILE,))
    write([shown], known(), tmp_path, "cpu" + HOSTILE)
    sound(tmp_path)
    page = parsed(tmp_path / "one.html")
    said = text(page)
    for words in (
        "Accuracy",
        "digits",
        "failed",
        "Said.",
        "lines",
        "SAM",
        "An item",
        "A note",
        "RuntimeError: ",
        "cpu",
    ):
        assert words + HOSTILE in said, words
    assert HOSTILE in text(page.find(".//figure"))
    assert "cpu" + HOSTILE in text(parsed(tmp_path / "index.html"))


letters = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Cs")), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(letters, letters, letters, letters)
def test_any_label_stays_text(tmp_path: Path, row: str, column: str, setting: str, reason: str) -> None:
    found, candidate = Known(), Candidate(setting, sgd().runs)
    found.failures[candidate.runs[0]] = reason
    cells = (Row(row, (Cell((candidate,)),)), Row("other", (Cell((candidate, sam(0.1))),)))
    write([item(Table("t", (column,), cells))], found, tmp_path, "cpu")
    sound(tmp_path)
    page = parsed(tmp_path / "one.html")
    section = page.find(".//section")
    assert section is not None
    whole = "".join(page.itertext())
    assert [head.text or "" for head in section.findall(".//thead//th")] == [column]
    assert [head.text or "" for head in section.findall(".//tbody//th")] == [row, "other"]
    assert setting in whole
    assert f"failed: {reason}" in whole


# --- in a browser ----------------------------------------------------------------------------------------------


def invented(names: list[str]) -> Results:
    """Results for whole items of the paper, with some runs missing, failed and diverged."""
    found, chance = known(), random.Random(0)
    for name in names:
        for run, measurements in tasks_possible(ITEMS[name].at("smoke").parts):
            fate = chance.random()
            if fate < 0.06:
                found.results[run] = result([1.0], status="diverged")
            elif fate < 0.09:
                found.failures[run] = "RuntimeError: out of memory"
            elif fate > 0.12:
                accuracies = [chance.gauss(80, 2) for _ in range(2)]
                found.results[run] = result(accuracies, [a - chance.random() for a in accuracies], [0.9, 0.8])
            for measurement in measurements:
                assert isinstance(measurement, SharpnessSettings)
                found.measurements[run, measurement] = {"values": [r * 2 for r in measurement.radii], "loss": fate}
    return found


NAMES = ["table1", "figure1", "figure6", "figure7"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    hostile = Item("hostile", HOSTILE, ("smoke",), lambda scale: Declaration((table(HOSTILE), *figures(HOSTILE))))
    write([*(ITEMS[name] for name in NAMES), hostile], invented(NAMES), folder, "smoke", DEVICES["smoke"])
    return folder


def test_pages_of_the_paper_are_sound(folder: Path) -> None:
    sound(folder)
    assert len(list(folder.glob("*.html"))) == len(NAMES) + 2


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """A window that remembers everything that went wrong in it, and has no network."""
    opened = []

    def visit(width: int = 1280, scheme: str = "light") -> tuple[Any, list[str]]:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, is_mobile=width < 500, color_scheme=scheme, offline=True
        )
        opened.append(context)
        window, wrong = context.new_page(), []
        window.on("console", lambda message: wrong.append(f"console: {message.text}"))
        window.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        # A picture that is still loading when the window moves on is aborted, and not missing.
        window.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or wrong.append(f"failed: {r.url}"))
        window.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        window.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(f"network: {r.url}"))
        return window, wrong

    yield visit
    for context in opened:
        context.close()


def test_clicking_through(folder: Path, visit: Any) -> None:
    window, wrong = visit()
    window.goto((folder / "index.html").as_uri())
    for name in [*NAMES, "hostile"]:
        window.get_by_role("link", name=name, exact=True).click()
        assert window.locator("h1").inner_text().startswith(f"{name}:")
        buttons = window.locator("td button")
        assert buttons.count() > 5
        for i in range(buttons.count()):
            button = buttons.nth(i)
            label = button.inner_text()
            button.click()
            shown = window.locator("[popover]:popover-open")
            assert shown.count() == 1
            assert shown.locator(".big").inner_text() == label
            for curve in shown.locator("svg.curve use").all():
                assert curve.bounding_box()["height"] > 50
            shown.locator(".close").click()
            assert shown.count() == 0
        window.get_by_role("link", name="All items").click()
    assert wrong == []


def test_the_keyboard_is_enough(folder: Path, visit: Any) -> None:
    window, wrong = visit()
    window.goto((folder / "table1.html").as_uri())
    window.locator("td button").nth(3).focus()
    for key in ("Enter", "Space"):
        window.keyboard.press(key)
        shown = window.locator("[popover]:popover-open")
        assert shown.count() == 1
        assert window.evaluate("document.activeElement.className") == "close"
        window.keyboard.press("Escape")
        assert shown.count() == 0
        assert window.evaluate("document.activeElement.closest('td') !== null")  # back where it was
    assert wrong == []


def test_a_download_is_the_file(folder: Path, visit: Any) -> None:
    window, wrong = visit()
    window.goto((folder / "table1.html").as_uri())
    with window.expect_download() as download:
        window.get_by_role("link", name="table1-1.csv").click()
    assert download.value.suggested_filename == "table1-1.csv"
    assert Path(download.value.path()).read_bytes() == (folder / "table1-1.csv").read_bytes()
    assert wrong == []


def test_a_phone_needs_no_sideways_scrolling(folder: Path, visit: Any) -> None:
    window, wrong = visit(width=360)
    for path in sorted(folder.glob("*.html")):
        window.goto(path.as_uri())
        assert window.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360], path.name
        for button in window.locator("td button").all()[::5]:
            button.click()
            inside = "e => [e.scrollWidth - e.clientWidth, e.getBoundingClientRect().width]"
            over, width = window.locator("[popover]:popover-open").evaluate(inside)
            assert over <= 0, path.name
            assert 300 < width <= 360
            window.keyboard.press("Escape")
    window.goto((folder / "table1.html").as_uri())
    assert window.locator(".box").first.evaluate("e => getComputedStyle(e).overflowX") == "auto"
    assert wrong == []


CONTRAST = """() => {
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = channels(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] > 0.99) return colour;
        }
        throw new Error("nothing behind " + element.outerHTML);
    };
    const ratios = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest("svg")) continue;
        const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
        ratios.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 120)]);
    }
    return ratios.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(folder: Path, visit: Any, scheme: str) -> None:
    """The contrast of WCAG 2.1 at level AA, 4.5, of every text; figures stand on a light card in both."""
    window, wrong = visit(scheme=scheme)
    for name in ("index", "table1", "figure6"):
        window.goto((folder / f"{name}.html").as_uri())
        ground = window.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        ratio, element = window.evaluate(CONTRAST)
        assert ratio >= 4.5, element
    card = window.locator("figure").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert card == "rgb(255, 255, 255)"
    assert wrong == []


def test_print(folder: Path, visit: Any) -> None:
    window, wrong = visit(scheme="dark")
    for path in sorted(folder.glob("*.html")):
        window.goto(path.as_uri())
        assert window.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        window.emulate_media(media="print")
        assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"  # no ink
        assert window.locator("nav, .copies").filter(visible=True).count() == 0
        window.set_viewport_size({"width": 1031, "height": 700})  # A4 landscape less its margins
        assert window.evaluate("document.documentElement.scrollWidth") <= 1031, path.name  # nothing is cut off
        window.emulate_media(media="screen")
    assert wrong == []


def test_the_tests_would_notice(tmp_path: Path, visit: Any) -> None:
    """A page with a script that fails, and one that wants the network."""
    picture = base64.b64encode(b"no picture").decode()
    (tmp_path / "bad.html").write_text(
        f"<script>console.error(1); throw 2</script><img src='https://example.org/a.png'><img src='data:,{picture}'>"
    )
    window, wrong = visit()
    window.goto((tmp_path / "bad.html").as_uri())
    assert {word.split(":")[0] for word in wrong} >= {"console", "error", "network", "failed"}
