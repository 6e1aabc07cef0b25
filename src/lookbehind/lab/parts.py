"""Tables and figures as declarations. No paper is known here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from lookbehind._words import allowed
from lookbehind.lab.cell import AnyCell

Grid = tuple[tuple[AnyCell | None, ...], ...]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        label: its name.
        cells: one for each column; None leaves a gap.
        group: rows of a group stand together, and best and second best are marked within it.
        ranked: whether marks are given. Default True.

    """

    label: str
    cells: tuple[AnyCell | None, ...]
    group: str = ""
    ranked: bool = True


@dataclass(frozen=True)
class Table:
    """Methods by data and model.

    Args:
        title: what it shows.
        columns: their names.
        rows: the methods.
        against: the row to which the others are compared, paired over seeds. None: no comparison.
        caption: what a reader must know.
        digits: after the decimal point. Default 2.

    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    against: str | None = None
    caption: str = ""
    digits: int = 2

    def __post_init__(self) -> None:
        labels = [row.label for row in self.rows]
        if self.against is not None and self.against not in labels:
            raise ValueError(f"table {self.title!r}: against is {self.against!r}; {allowed(self.against, labels)}")
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                has = f"{len(row.cells)} cells for {len(self.columns)} columns"
                raise ValueError(f"table {self.title!r}: row {row.label!r} has {has}")

    @property
    def grid(self) -> Grid:
        """Cells by row and column."""
        return tuple(row.cells for row in self.rows)

    def row(self, label: str) -> Row:
        """Return a row by its label."""
        return next(row for row in self.rows if row.label == label)


@dataclass(frozen=True)
class Heatmap:
    """A number over two hyper-parameters, coloured by its distance from a baseline."""

    title: str
    x: str  # name of the axis
    xs: tuple[float, ...]
    y: str
    ys: tuple[float, ...]
    cells: Grid  # a row for each y
    baseline: AnyCell

    @property
    def grid(self) -> Grid:
        """Cells by y and x, then the baseline in a row of its own."""
        return (*self.cells, (self.baseline,))


@dataclass(frozen=True)
class Style:
    """Look of a series: colour of Okabe and Ito's palette, marker, and shade (0 light, 1 full)."""

    colour: str = "black"
    marker: Literal["circle", "triangle", "down", "square", "diamond", "plus", "cross", "star", "none"] = "circle"
    filled: bool = True
    shade: float = 1.0


@dataclass(frozen=True)
class Series:
    """A line: a number at each x."""

    label: str
    xs: tuple[float, ...]
    cells: tuple[AnyCell, ...]
    style: Style = Style()


@dataclass(frozen=True)
class Lines:
    """Lines over an axis, with the spread over seeds, and a baseline across if there is one."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    baseline: AnyCell | None = None
    baseline_label: str = ""

    @property
    def grid(self) -> Grid:
        """Cells by series and x, then the baseline in a row of its own."""
        lines: Grid = tuple(line.cells for line in self.series)
        return lines if self.baseline is None else (*lines, (self.baseline,))


@dataclass(frozen=True)
class Point:
    """A point of two numbers."""

    label: str
    x: AnyCell
    y: AnyCell
    style: Style = Style()


@dataclass(frozen=True)
class Scatter:
    """One number against another."""

    title: str
    x: str
    y: str
    points: tuple[Point, ...]

    @property
    def grid(self) -> Grid:
        """Pairs of cells (x, y)."""
        return tuple((point.x, point.y) for point in self.points)


Part = Table | Heatmap | Lines | Scatter


@dataclass(frozen=True)
class Declaration:
    """Content of an item at one scale: its parts, how many figures stand side by side, and what was decided."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    across: int = 2


@dataclass(frozen=True)
class Item:
    """A table or figure of a study.

    Args:
        name: its name on the command line, such as "table1".
        title: what it shows.
        scales: the names of the scales it is declared at.
        at: from such a name to its ``Declaration``.
        study: the ``Study`` that it belongs to.

    """

    name: str
    title: str
    scales: tuple[str, ...]
    at: Callable[[str], Declaration]
    study: Any = field(default=None, compare=False, repr=False)


def cells(part: Part) -> Iterator[AnyCell]:
    """Yield the cells of a part."""
    return (cell for row in part.grid for cell in row if cell is not None)
