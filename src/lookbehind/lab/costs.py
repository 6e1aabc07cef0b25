"""Costs of the items of a study: computed, or read from a file where that takes seconds."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookbehind.lab.estimate import estimate

if TYPE_CHECKING:
    from lookbehind.lab.study import Study

ALL = "all"


@dataclass(frozen=True)
class Cost:
    """Number of runs that an item needs, and their hours."""

    runs: int
    hours: float


Costs = dict[tuple[str, str], Cost]  # by item, or ``ALL``, and scale


def computed(study: Study) -> Costs:
    """Return the costs of a study's items; all together, runs that items share are counted once."""
    found: Costs = {}
    for scale in study.scales:
        parts = {name: item.at(scale).parts for name, item in study.items.items() if scale in item.scales}
        together = tuple(part for each in parts.values() for part in each)
        for name, each in {**parts, ALL: together}.items():
            cost = estimate(each, study.device(scale))
            found[name, scale] = Cost(cost.runs, float(f"{cost.hours:.3g}"))
    return found


def written(costs: Costs) -> str:
    """Return costs as they stand in a file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("item", "scale", "runs", "hours"))
    writer.writerows((*place, cost.runs, cost.hours) for place, cost in costs.items())
    return text.getvalue()


def known(study: Study) -> Costs:
    """Return the costs of a study's items: those in its file, if it has one; a test keeps that true."""
    if study.costs is None:
        return computed(study)
    rows = csv.DictReader(io.StringIO(Path(study.costs).read_text()))
    return {(row["item"], row["scale"]): Cost(int(row["runs"]), float(row["hours"])) for row in rows}
