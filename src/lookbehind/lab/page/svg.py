"""Drawings inside a page: figures of the lab, and small curves of runs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup

from lookbehind._style import save
from lookbehind.lab.figures import draw
from lookbehind.lab.lookup import Results
from lookbehind.lab.report import Filled
from lookbehind.lab.result import Record
from lookbehind.lab.run import Run

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320.0, 150.0, 40.0, 8.0, 8.0, 20.0


def figure(filled: Filled) -> str:
    """Return a figure as an SVG file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        save(draw(filled), path)
        return path.read_text(encoding="utf-8")


def side_by_side(figures: Sequence[str], across: int) -> str:
    """Return SVG files of one size, so many in a row, as one."""
    across = min(across, len(figures))
    inside = [_part(svg, f"p{i}-", without=("metadata",)) for i, svg in enumerate(figures, 1)]
    width, height = map(float, inside[0].attrib["viewBox"].split()[2:])
    size = width * across, height * math.ceil(len(figures) / across)
    root = ElementTree.Element(f"{{{SVG}}}svg", {"viewBox": f"0 0 {size[0]:g} {size[1]:g}"})
    root.attrib |= {"width": f"{size[0]:g}pt", "height": f"{size[1]:g}pt"}
    for i, svg in enumerate(inside):
        svg.attrib |= {"x": f"{i % across * width:g}", "y": f"{i // across * height:g}"}
        svg.attrib |= {"width": f"{width:g}", "height": f"{height:g}"}
        root.append(svg)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def inline(svg: str, prefix: str, label: str) -> Markup:
    """Return an SVG file as part of a page: names inside it made unique, size left to the page, a label to read out."""
    root = _part(svg, prefix, without=("metadata", "style"))  # a style inside would hold for the whole page
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _part(svg: str, prefix: str, without: Sequence[str]) -> ElementTree.Element:
    """Return an SVG file as an element whose names begin with a prefix, without some kinds of elements."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{{{SVG}}}{kind}" for kind in without}:
                parent.remove(child)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, prefix + value)
            elif name == f"{{{XLINK}}}href" and value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))
    return root


class Curves:
    """Accuracy over epochs for groups of runs; those of one group are drawn once, however often they are shown."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._drawn: dict[tuple[Run, ...], tuple[str, str]] = {}

    def of(self, runs: tuple[Run, ...]) -> str:
        """Return the id of the runs' drawing; empty if no run has an epoch to show."""
        if runs not in self._drawn:
            found = [result.records for run in runs if (result := self._results.result(run)) and result.records]
            name = f"c{len(self._drawn) + 1}"
            self._drawn[runs] = (name, _symbol(name, found)) if found else ("", "")
        return self._drawn[runs][0]

    def drawn(self) -> Markup:
        """Return all drawings, to be used where they are shown."""
        return Markup("\n".join(symbol for _, symbol in self._drawn.values() if symbol))


def _symbol(name: str, runs: Sequence[Sequence[Record]]) -> str:
    lines = [
        (kind, [(record.epoch, value) for record in records if (value := getattr(record, field)) is not None])
        for kind, field in (("training", "accuracy"), ("validation", "validation"), ("test", "test"))
        for records in runs
    ]
    values = [value for _, points in lines for _, value in points]
    low, high, last = min(values), max(values), max(records[-1].epoch for records in runs)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(epoch: int, value: float) -> str:
        x = LEFT + (right - LEFT) * (epoch - 1) / max(last - 1, 1)
        y = bottom - (bottom - TOP) * (value - low) / ((high - low) or 1.0)
        return f"{x:.1f},{y:.1f}"

    drawn = [
        f'<polyline class="{kind}" points="{" ".join(place(*point) for point in points)}"/>'
        for kind, points in lines
        if len(points) > 1
    ]
    for kind, points in lines:  # a line of one epoch is not seen
        if len(points) == 1:
            x, y = place(*points[0]).split(",")
            drawn.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="2.5"/>')
    axes = (
        f'<path class="axes" d="M{LEFT},{TOP}V{bottom}H{right}"/>'
        f'<text x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end">{high:.1f}</text>'
        f'<text x="{LEFT - 4}" y="{bottom}" text-anchor="end">{low:.1f}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">1</text>'
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 5}" text-anchor="middle">epoch</text>'
        f'<text x="{right}" y="{HEIGHT - 5}" text-anchor="end">{last}</text>'
    )
    return f'<symbol id="{name}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}">{axes}{"".join(drawn)}</symbol>'
