"""From declarations to numbers, ranks and differences, and to the runs that are needed for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lookbehind.lab.cell import AnyCell, Cell, Derived, Value, cells_of, evaluate
from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.metrics import accuracy_at_best_validation, best_validation_accuracy
from lookbehind.lab.parts import Part, Row, Table, cells
from lookbehind.lab.run import Measurement, Run
from lookbehind.lab.statistics import FEWEST, Difference, paired


@dataclass(frozen=True)
class Filled:
    """A part with its numbers: ``values`` has the shape of ``part.grid``."""

    part: Part
    values: tuple[tuple[Value | None, ...], ...]


def read(part: Part, results: Results) -> Filled:
    """Evaluate every cell of a part.

    Args:
        part: what is to be shown.
        results: a ``Store``; to show many parts, ``Remembered(store)``, which reads each file once.

    Returns:
        A ``Filled``.

    """
    results = remembered(results)
    return Filled(
        part, tuple(tuple(None if cell is None else evaluate(cell, results) for cell in row) for row in part.grid)
    )


def ranks(table: Filled) -> tuple[tuple[int | None, ...], ...]:
    """Return 1 for the best and 2 for the second best of each column within a group of rows, else None.

    Equal numbers share a rank, and after two best there is no second. A number of which seeds are missing, or of fewer
    than three, has none.
    Cells with nothing but a published number are ranked by it.
    """
    part = table.part
    assert isinstance(part, Table)
    found: list[list[int | None]] = [[None] * len(part.columns) for _ in part.rows]
    for group in {row.group for row in part.rows}:
        for column in range(len(part.columns)):
            numbers = {
                i: number
                for i, row in enumerate(part.rows)
                if row.group == group
                and row.ranked
                and (number := _comparable(row, table.values[i], column)) is not None
            }
            for i, number in numbers.items():
                rank = 1 + sum(other > number for other in numbers.values())
                found[i][column] = rank if rank <= 2 else None
    return tuple(map(tuple, found))


def _comparable(row: Row, values: Sequence[Value | None], column: int) -> float | None:
    cell, value = row.cells[column], values[column]
    if cell is None or value is None:
        return None
    sign = 1 if cell.metric.higher_is_better else -1
    if isinstance(cell, Cell) and not cell.candidates and value.published is not None:
        return sign * value.published.mean
    whole = value.winner is not None and FEWEST <= len(value.by_seed) == len(value.winner.runs)
    return sign * value.mean if whole and value.mean is not None else None


def differences(table: Filled) -> tuple[tuple[Difference | None, ...], ...]:
    """Return each cell minus that of the row ``against``, paired over the seeds that both have.

    Intervals are 95 % for all rivals of a column together (Bonferroni), as many as are declared there, whether done or
    not: the comparison is planned, not found.
    """
    part = table.part
    assert isinstance(part, Table)
    if part.against is None:
        return tuple((None,) * len(part.columns) for _ in part.rows)
    labels = [row.label for row in part.rows]
    reference = table.values[labels.index(part.against)]
    rivals = [sum(row.cells[column] is not None for row in part.rows) - 1 for column in range(len(part.columns))]
    return tuple(
        (None,) * len(part.columns) if values is reference else tuple(map(difference, values, reference, rivals))
        for values in table.values
    )


def difference(value: Value | None, reference: Value | None, rivals: int = 1) -> Difference | None:
    """Return a number minus another, paired over the seeds that both have, its interval widened for so many rivals."""
    if value is None or reference is None:
        return None
    ours, theirs = value.by_seed, reference.by_seed
    seeds = sorted(ours.keys() & theirs.keys())
    return paired([ours[s] for s in seeds], [theirs[s] for s in seeds], rivals) if seeds else None


def on_validation(table: Table) -> Table | None:
    """Return the honest table: settings and epoch chosen on held-out images, test accuracy reported.

    None if a run of it has no held-out images, as in the paper's own settings.
    """
    if any(run.workload.validation == 0 for cell in cells(table) for plain in cells_of(cell) for run in plain.runs):
        return None
    rows = tuple(replace(row, cells=tuple(map(_honest, row.cells))) for row in table.rows)
    return replace(table, title=f"{table.title}: selected on validation images", rows=rows)


def _honest(cell: AnyCell | None) -> AnyCell | None:
    if isinstance(cell, Cell):
        return honest(cell)
    return None if cell is None else replace(cell, metric=accuracy_at_best_validation(), published=None)


def honest(cell: Cell) -> Cell:
    """Return the cell with settings and epoch chosen on held-out images. The published number had no such choice."""
    return replace(cell, metric=accuracy_at_best_validation(), select_by=best_validation_accuracy(), published=None)


Task = tuple[Run, tuple[Measurement, ...]]


def tasks(parts: Iterable[Part]) -> list[Task]:
    """Return the runs that are certain to be needed, each once, with the measurements on each."""
    return _collected(plain for part in parts for cell in cells(part) for plain in cells_of(cell))


def tasks_now(parts: Iterable[Part], results: Results) -> list[Task]:
    """Return the runs needed as far as results can tell: with those of derived cells whose winners are known.

    To be asked again after these are done, until nothing is new.
    """
    results = remembered(results)
    found: list[Cell] = []
    for part in parts:
        for cell in cells(part):
            found.extend(cells_of(cell))
            settled = cell.settle(results) if isinstance(cell, Derived) else None
            if isinstance(settled, Cell):
                found.append(settled)
    return _collected(found)


def tasks_possible(parts: Iterable[Part]) -> list[Task]:
    """Return every run that any result could make needed."""
    found: list[Cell] = []
    for part in parts:
        for cell in cells(part):
            found.extend(cells_of(cell))
            if isinstance(cell, Derived):
                found.append(Cell(cell.possible, cell.metric))
    return _collected(found)


def _collected(plain: Iterable[Cell]) -> list[Task]:
    needed: dict[Run, dict[Measurement, None]] = {}
    for cell in plain:
        measurements = [m.measurement for m in cell.metrics if m.measurement is not None]
        for run in cell.runs:
            needed.setdefault(run, {}).update(dict.fromkeys(measurements))
    # Seed by seed, so that what is interrupted has whole seeds, and data that are split by a seed are loaded once.
    return [(run, tuple(needed[run])) for run in sorted(needed, key=lambda run: run.seed)]
