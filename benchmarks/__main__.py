"""Speed and memory, against what a user would pick instead.

pip install -e ".[lab,bench]"
python -m benchmarks             about 25 minutes on one core
python -m benchmarks --quick     about 3 minutes

Writes tables and a picture into benchmarks/results; docs/speed.md says what they mean.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from benchmarks import growth, loop, memory, picture, timing
from benchmarks.contenders import CONTENDERS
from benchmarks.tasks import TASKS

from lookbehind.lab.statistics import shown

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and smaller sizes")
    parser.add_argument("--to", type=Path, default=RESULTS, help="the folder for tables and picture")
    parser.add_argument("--only", choices=("memory", "steps", "growth", "loop"), help="one part, not all")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    quick, found = options.quick, {}
    parts: dict[str, Callable[[], list[Any]]] = {
        "memory": lambda: [memory.copies(contender) for contender in CONTENDERS],
        "steps": lambda: steps(quick),
        "growth": lambda: grown(quick),
        "loop": lambda: list(loop.measured(20 if quick else 180)),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            found[name] = part()
            _write(options.to / f"{name}.csv", found[name])
            print(table(found[name]), "\n", flush=True)
    if "steps" in found:
        for base in timing.BASES:
            (options.to / f"steps-{base.lower()}.md").write_text(by_net(found["steps"], base) + "\n")
    measured = [_read(options.to / "steps.csv", timing.Row), _read(options.to / "growth.csv", growth.Point)]
    if all(measured):
        picture.draw(*measured, options.to / "speed.svg")
    (options.to / "machine.txt").write_text(machine())


def steps(quick: bool) -> list[timing.Row]:
    """Time steps on every net with SGD and AdamW; variants that differ little are left out on large nets."""
    rows: list[timing.Row] = []
    for task in TASKS:
        if quick and task.name in ("WRN-28-2", "ResNet-18"):
            continue
        chosen = [c for c in CONTENDERS if c.core or (task.name in ("MLP", "WRN-10-1") and not quick)]
        for base in timing.BASES:
            rows += timing.compare(task, base, chosen, 6 if quick else 100)
            print(task.name, base, flush=True)
    return rows


def grown(quick: bool) -> list[growth.Point]:
    """Measure growth with k, parameters and minibatch."""
    points = list(growth.over_k(5 if quick else 40))
    sizes = (10**4, 10**6) if quick else tuple(10**n for n in range(4, 9))
    points += growth.over_parameters(10 if quick else 90, sizes)
    points += growth.over_batch(10 if quick else 90, (8, 64) if quick else (8, 32, 128, 512))
    return points


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, heads and their rule first, as a markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(rows: Sequence[Any]) -> str:
    """Return rows as a markdown table."""
    names = list(asdict(rows[0]))
    lines = [names, ["---"] * len(names), *([_text(value) for value in asdict(row).values()] for row in rows)]
    return markdown(lines)


def by_net(rows: Sequence[timing.Row], base: str) -> str:
    """Return ratios to the limit as a markdown table with a column for each net, and a step's own share in brackets."""
    rows = [row for row in rows if row.base == base]
    cells = {(row.owner, row.name, row.task): f"{row.ratio:.3f} ({shown(100 * row.own, 1)} %)" for row in rows}
    nets = list(dict.fromkeys(row.task for row in rows))
    lines = [["", f"with {base}", *nets], ["---"] * (2 + len(nets))]
    for owner, name in dict.fromkeys((row.owner, row.name) for row in rows):
        lines.append([owner, name, *(cells.get((owner, name, net), "") for net in nets)])
    return markdown(lines)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows({k: _text(v) for k, v in asdict(row).items()} for row in rows)
    path.with_suffix(".md").write_text(table(rows) + "\n")


def _read(path: Path, kind: type[Any]) -> list[Any]:
    """Return the rows of a file that this or an earlier command has written; none if there is no file."""
    if not path.exists():
        return []
    types = {"str": str, "int": int, "float": float}
    with path.open(newline="") as file:
        return [kind(**{f.name: types[f.type](row[f.name]) for f in fields(kind)}) for row in csv.DictReader(file)]


def machine() -> str:
    """Return what was measured on, and how busy it was."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "?"
    return (
        f"{cpu}, {os.cpu_count()} cores, one thread; Python {platform.python_version()}, torch {torch.__version__}; "
        f"load average at the end {load}\n"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    main()
