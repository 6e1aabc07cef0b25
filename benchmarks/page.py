"""Write the tables of docs/speed.md from the stored results.

python -m benchmarks.page
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import loop, memory, timing
from benchmarks.__main__ import RESULTS, _read, by_net, markdown

from lookbehind.lab import statistics

PAGE = Path(__file__).resolve().parent.parent / "docs" / "speed.md"
NETS = ("WRN-10-1", "WRN-28-2", "ResNet-18", "ViT")


def shown(name: str) -> bool:
    """Return whether the page shows a variant; all are in the results."""
    return not name.endswith(("k = 1", "k = 5")) or name.startswith("Lookahead")


def steps() -> str:
    """Return ratios and own shares with SGD, a column for each net."""
    return by_net([row for row in _rows() if shown(row.name)], "SGD")


def shares() -> str:
    """Return the range of own shares of each method over bases and k, on each net."""
    lines = [["own share of a step, SGD and AdamW", "MLP", *NETS], ["---"] * (2 + len(NETS))]
    rows = [row for row in _rows() if row.owner == "lookbehind"]
    for name in dict.fromkeys(_without_k(row) for row in rows):
        cells = []
        for net in ("MLP", *NETS):
            own = [100 * row.own for row in rows if row.task == net and _without_k(row) == name]
            cells.append(f"{min(own):.1f} to {max(own):.1f} %" if own else "")
        lines.append([name, *cells])
    return markdown(lines)


def copies() -> str:
    """Return parameter-sized copies between steps, at the peak, and allocated by a step."""
    rows: Sequence[memory.Row] = _read(RESULTS / "memory.csv", memory.Row)
    lines = [["", "", "between steps", "peak in a step", "allocated by a step"], ["---"] * 5]
    for row in rows:
        if shown(row.name):
            lines.append(
                [row.owner, row.name, *(f"{x:.3g}" for x in (row.between_steps, row.peak, row.allocated_by_a_step))]
            )
    return markdown(lines)


def whole_lab() -> str:
    """Return images per second of the lab's loop and of a bare one, and what m-sharpness takes."""
    heads = ["", "", "lab, images/s", "bare, images/s", "lab takes longer by", "m-sharpness, in epochs"]
    lines = [heads, ["---"] * len(heads)]
    rows: Sequence[loop.Row] = _read(RESULTS / "loop.csv", loop.Row)
    for row in rows:
        longer, low, high = (statistics.shown(100 * (x - 1), 0) for x in (row.slower, row.low, row.high))
        lines.append(
            [
                row.workload,
                row.method,
                f"{row.lab:,.0f}",
                f"{row.bare:,.0f}",
                f"{longer} % ({low} to {high})",
                f"{row.sharpness_epochs:.1f}",
            ]
        )
    return markdown(lines)


def machine() -> str:
    """Return what was measured on."""
    return f"Measured on: {(RESULTS / 'machine.txt').read_text().split(';')[0]}."


TABLES: dict[str, Callable[[], str]] = {
    "machine": machine,
    "steps": steps,
    "shares": shares,
    "copies": copies,
    "whole lab": whole_lab,
}


def written(text: str) -> str:
    """Return the page with each table between its marks."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: written by benchmarks/page.py -->", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table()}\n\n{end}{rest.split(end)[1]}"
    return text


def _without_k(row: timing.Row) -> str:
    return row.name.partition(", k = ")[0]


def _rows() -> list[timing.Row]:
    return _read(RESULTS / "steps.csv", timing.Row)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
