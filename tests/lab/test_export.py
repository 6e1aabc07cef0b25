"""What is written: CSV, LaTeX, figures."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lookbehind._style import COLOURS, save
from lookbehind.lab.budget import at_radius
from lookbehind.lab.cell import Cell, Derived, Published
from lookbehind.lab.export import escaped, to_csv, to_latex
from lookbehind.lab.figures import draw
from lookbehind.lab.page.svg import figure, side_by_side
from lookbehind.lab.parts import Heatmap, Lines, Part, Point, Row, Scatter, Series, Style, Table
from lookbehind.lab.report import read
from tests.lab.known import Known, lookbehind, result, sam, sgd


def small_table() -> tuple[Known, Table]:
    known = Known()
    known.put(lookbehind(2), 96, 97, 98)
    known.put(sam(0.1), 95, 96.5, 97)
    known.results[sgd().runs[0]] = result([10.0], status="diverged")
    rows = (
        Row("Lookbehind-SAM", (Cell((lookbehind(2),), published=Published(96.27, 0.07)),), "first"),
        Row("SAM at α·k·η", (Cell((sam(0.1),), published=Published(95.8)),), "first"),
        Row("SGD & more", (Cell((sgd(),)),), "second"),
        Row("published", (Cell((), published=Published(50.0, 1.0)),), "second"),
        Row("radius", (Derived((Cell((lookbehind(9),)),), at_radius),), "second"),
        Row("nothing", (None,), "second"),
        Row("missing", (Cell((sam(7.0),), published=Published(1.0)),), "second"),
    )
    return known, Table("Accuracy", ("digits, 40 %",), rows, against="Lookbehind-SAM")


def test_latex() -> None:
    known, table = small_table()
    # The differences −1, −½, −1 have mean −5/6 and standard error 1/6; t(1 − 0.025/5; 2) = 9.925 for five rivals.
    assert to_latex(read(table, known)) == (
        "% Accuracy\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        " & digits, 40 \\% \\\\\n"
        "\\midrule\n"
        "Lookbehind-SAM & \\textbf{97.00 $\\pm$ 1.00 (96.27)} \\\\\n"
        "SAM at $\\alpha$$\\cdot$k$\\cdot$$\\eta$ "
        "& \\underline{96.17 $\\pm$ 1.04 (95.80)} ($-$0.83 [$-$2.49, +0.82]) \\\\\n"
        "\\midrule\n"
        "SGD \\& more & N/A (diverged) \\\\\n"
        "published & \\textbf{50.00 $\\pm$ 1.00} \\\\\n"
        "radius & waiting \\\\\n"
        "nothing &  \\\\\n"
        "missing & missing (1.00) \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_csv() -> None:
    known, table = small_table()
    text = to_csv(read(table, known))
    first, second, third, fourth, fifth, _ = csv.DictReader(io.StringIO(text))
    assert text.splitlines()[1].startswith('Lookbehind-SAM,"digits, 40 %","k=2, α=0.5",97.0,1.0,3,3,96.27,0.07,0.73')
    assert first["remark"] == first["difference"] == ""
    assert float(second["difference"]) == pytest.approx(-5 / 6)
    assert (third["mean"], third["remark"]) == ("", "1 of 3 runs diverged; 2 of 3 runs missing")
    assert (fourth["published_mean"], fourth["mean"]) == ("50.0", "")
    assert fifth["remark"] == "its settings follow from cells that are not done"


def test_escaped() -> None:
    assert escaped("a_b{c}\\^~#$") == r"a\_b\{c\}\textbackslash{}\textasciicircum{}\textasciitilde{}\#\$"


def figures(known: Known) -> list[Part]:
    cells = (Cell((known.put(sam(0.1), 90, 91, 92),)), Cell((known.put(sam(0.2), 93, 94, 95),)))
    gone = Cell((sam(9.0),))
    for run in sam(8.0).runs:
        known.results[run] = result([1.0], status="diverged")
    diverged = Cell((sam(8.0),))
    return [
        Lines("lines", "ρ", "accuracy", (Series("SAM", (0.1, 0.2), cells), Series("none", (0.1,), (gone,)))),
        Lines("with baseline", "ρ", "y", (Series("SAM", (0.1, 0.2), cells, Style("blue")),), cells[0], "plain"),
        Heatmap("map", "k", (2, 5), "α", (0.8, 0.5), (cells, (gone, diverged)), cells[0]),
        Heatmap("no baseline", "k", (2,), "α", (0.8,), ((cells[0],),), gone),
        Scatter("points", "loss", "sharpness", (Point("SAM", *cells, Style("green", "triangle", False, 0.3)),)),
        Scatter("nothing", "loss", "sharpness", (Point("none", gone, gone),)),
    ]


def test_figures_show_what_there_is_and_say_what_there_is_not(tmp_path: Path) -> None:
    known = Known()
    filled = [read(part, known) for part in figures(known)]
    svg = side_by_side([figure(each) for each in filled], across=2)
    drawn = [draw(each) for each in filled]
    save(drawn[0], tmp_path / "figure.png")
    for text in ("91.00", "94.00", "missing", "N/A (diverged)", "baseline 91.00", "baseline missing", "no number yet"):
        assert f">{text}<" in svg, text
    assert svg.count("#009e73") == 0  # light green is mixed with white
    assert COLOURS["blue"].lower() in svg
    assert side_by_side([figure(each) for each in filled], across=2) == svg
    root = ElementTree.fromstring(svg)
    assert [(part.get("x"), part.get("y")) for part in root] == [
        (x, y) for y in ("0", "316.8", "633.6") for x in ("0", "374.4")
    ]
    assert root.get("viewBox") == "0 0 748.8 950.4"
    names = [name for element in root.iter() if (name := element.get("id"))]
    assert len(names) == len(set(names))
    assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg)) <= {(n, "") for n in names} | {
        ("", n) for n in names
    }
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    [axes] = drawn[0].axes
    lines = axes.get_lines()
    assert lines[0].get_ydata()[0] == 91
    assert str(lines[1].get_ydata()[0]) == "nan"
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (90, 95)  # 91 − 1 and 94 + 1
    colours = drawn[2].axes[0].get_images()[0].get_array()
    assert colours is not None
    assert colours.tolist() == [[0, 3], [None, None]]  # 91 and 94 less the baseline's 91


def test_figures_as_csv() -> None:
    known = Known()
    lines, baseline, heatmap, *_, scatter, _ = figures(known)
    rows = list(csv.DictReader(io.StringIO(to_csv(read(lines, known)))))
    assert [(row["row"], row["column"], row["mean"]) for row in rows] == [
        ("SAM", "ρ=0.1", "91.0"),
        ("SAM", "ρ=0.2", "94.0"),
        ("none", "ρ=0.1", ""),
    ]
    assert to_csv(read(baseline, known)).splitlines()[-1].startswith("plain,,ρ=0.1,91.0")
    places = [row["row"] + row["column"] for row in csv.DictReader(io.StringIO(to_csv(read(heatmap, known))))]
    assert places == ["α=0.8k=2", "α=0.8k=5", "α=0.5k=2", "α=0.5k=5", "baseline"]
    assert [row["column"] for row in csv.DictReader(io.StringIO(to_csv(read(scatter, known))))] == ["loss", "sharpness"]


def test_wrong_kinds() -> None:
    known, table = small_table()
    filled = read(table, known)
    with pytest.raises(TypeError, match="'Accuracy' is a table"):
        draw(filled)
    with pytest.raises(TypeError, match="'lines' is a figure"):
        to_latex(read(figures(known)[0], known))


def test_a_label_with_dollars_is_no_formula(tmp_path: Path) -> None:
    known = Known()
    part = figures(known)[0]
    hostile = replace(part, title=r"costs $5 or $\foo$")
    save(draw(read(hostile, known)), tmp_path / "dollars.svg")
    assert r"costs $5 or $\foo$" in (tmp_path / "dollars.svg").read_text()
