"""The numbers of a part, laid out as an HTML table is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lookbehind.lab.cell import Value
from lookbehind.lab.lookup import Results
from lookbehind.lab.page.behind import Behind, behind
from lookbehind.lab.page.svg import Curves
from lookbehind.lab.parts import Heatmap, Lines, Part, Scatter, Table
from lookbehind.lab.report import Filled, differences, ranks
from lookbehind.lab.statistics import Difference, shown


@dataclass(frozen=True)
class Entry:
    """A number with all that stands beside it, as text."""

    ours: str
    rank: int | None  # 1 the best, 2 the second best
    known: bool  # whether ours is a number, and not a word for its lack
    remark: str
    behind: str  # id; empty if there is nothing
    published: str
    gap: str
    difference: str
    shows: bool  # whether the difference's interval excludes zero


@dataclass(frozen=True)
class Line:
    """A row: entries by column, or one for all columns."""

    label: str
    begins: bool  # a group
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Sheet:
    """Heads of columns, what each column has beneath them, and rows."""

    heads: tuple[str, ...]
    fields: tuple[str, ...]
    lines: tuple[Line, ...]
    marked: bool  # whether there are marks of best and second best
    waits: bool  # whether a cell waits for others


def sheet(filled: Filled, results: Results, curves: Curves, number: Iterator[int]) -> tuple[Sheet, list[Behind]]:
    """Lay out a part's numbers.

    Args:
        filled: the part with its values.
        results: where runs are looked up.
        curves: to which drawings of runs are added.
        number: gives numbers for ids that are not used yet.

    Returns:
        The ``Sheet``, and what stands behind its numbers.

    """
    part, details = filled.part, list[Behind]()
    table = isinstance(part, Table)
    marks = ranks(filled) if table else tuple((None,) * len(row) for row in filled.values)
    compared = differences(filled) if table else tuple((None,) * len(row) for row in filled.values)
    heads, rows = _layout(part)
    digits, group = _digits(filled), None
    lines: list[Line] = []
    for i, (label, places) in enumerate(rows):
        entries: list[Entry | None] = [None] * (len(heads) if places else 1)
        for j, place in enumerate(places or (0,)):
            cell, value = part.grid[i][j], filled.values[i][j]
            if cell is None or value is None:
                continue
            name = f"n{next(number)}" if value.settings or value.waiting else ""
            if name:
                column = heads[place] if places else ""
                details.append(behind(cell, value, results, curves, name, (part.title, label, column), digits))
            entries[place] = _entry(value, marks[i][j], compared[i][j], digits, name)
        its = part.rows[i].group if isinstance(part, Table) else None
        lines.append(Line(label, bool(lines) and its != group, tuple(entries)))
        group = its
    values = [value for row in filled.values for value in row if value is not None]
    marked, waits = any(any(row) for row in marks), any(value.waiting for value in values)
    return Sheet(heads, _fields(values, part), tuple(lines), marked, waits), details


Rows = list[tuple[str, tuple[int, ...]]]  # labels, and the columns of their values; none: one value for all columns


def _layout(part: Part) -> tuple[tuple[str, ...], Rows]:
    match part:
        case Table():
            return part.columns, [(row.label, tuple(range(len(part.columns)))) for row in part.rows]
        case Heatmap():
            every = tuple(range(len(part.xs)))
            rows: Rows = [*((f"{part.y} = {y:g}", every) for y in part.ys), ("baseline", ())]
            return tuple(f"{part.x} = {x:g}" for x in part.xs), rows
        case Lines():
            xs = sorted({x for line in part.series for x in line.xs})
            rows = [(line.label, tuple(map(xs.index, line.xs))) for line in part.series]
            rows += [] if part.baseline is None else [(part.baseline_label or "baseline", ())]
            return tuple(f"{part.x} = {x:g}" for x in xs), rows
        case Scatter():
            return (part.x, part.y), [(point.label, (0, 1)) for point in part.points]


def _digits(filled: Filled) -> int:
    """Return a table's own; of figures, whose numbers may be small, as many as tell them apart."""
    if isinstance(filled.part, Table):
        return filled.part.digits
    means = [abs(value.mean) for row in filled.values for value in row if value is not None and value.mean is not None]
    return 2 if max(means, default=100.0) >= 10 else 4


def _fields(values: Sequence[Value], part: Part) -> tuple[str, ...]:
    ours = any(value.settings or value.waiting for value in values)
    published = any(value.published is not None for value in values)
    found = {"ours": ours or not published, "published": published, "gap": ours and published}
    found["difference"] = isinstance(part, Table) and part.against is not None
    return tuple(name for name, there in found.items() if there)


def _entry(value: Value, rank: int | None, difference: Difference | None, digits: int, name: str) -> Entry:
    known = value.published
    published = "" if known is None else Value(mean=known.mean, std=known.std).text(digits)
    return Entry(
        ours=value.text(digits) if name else "",
        rank=rank,
        known=value.mean is not None,
        remark="" if value.waiting else value.remark,
        behind=name,
        published=published,
        gap="" if value.gap is None else shown(value.gap, digits, sign=True),
        difference="" if difference is None else difference.text(digits),
        shows=difference is not None and difference.shows,
    )
