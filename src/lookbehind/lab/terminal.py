"""Tables for terminals of any width: no number is ever cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(console: Console, sentence: str) -> None:
    """Print a sentence as it is: a folder's name may hold what rich takes for markup, and is not to be wrapped."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_fitting(console: Console, table: Table, drop: Sequence[str] = ()) -> None:
    """Print a table, without as many of its columns as do not fit, and say so.

    Args:
        console: where to.
        table: columns of words may wrap; columns of numbers are made with ``no_wrap=True``.
        drop: heads of columns, or their first words, the first to go first.

    """
    from rich.cells import cell_len
    from rich.measure import Measurement
    from rich.text import Text

    for column in table.columns:
        if column.no_wrap:
            texts = (str(cell) for cell in (column.header, *column.cells))
            column.min_width = max(cell_len(line) for text in texts for line in text.split("\n"))
    left_out = []
    wide = console.options.update(max_width=10_000)
    for head in drop:
        if Measurement.get(console, wide, table).minimum <= console.width:
            break
        table.columns = [c for c in table.columns if not str(c.header).startswith(head)]
        left_out.append(head.replace("\n", " "))
    console.print(table)
    if left_out:
        console.print(Text(f"Left out at a width of {console.width}: {', '.join(left_out)}.", style="dim"))
