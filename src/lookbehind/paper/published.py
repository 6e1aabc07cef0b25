"""The numbers of the paper's tables, ``published.csv``."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from lookbehind.lab.cell import Published


@cache
def values() -> dict[tuple[str, str, str, str, str], Published]:
    """Return all published values by (table, data set, model, method, metric)."""
    with files("lookbehind.paper").joinpath("published.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            (row["table"], row["dataset"], row["model"], row["method"], row["metric"]): Published(
                float(row["mean"]), float(row["std"]) if row["std"] else None
            )
            for row in rows
        }


def published(table: int, dataset: str, model: str, method: str, metric: str = "val_accuracy_pct") -> Published:
    """Return what a table of the paper says.

    Args:
        table: its number.
        dataset: its data set, such as "CIFAR-10".
        model: its model, such as "ResNet-34".
        method: its row, such as "Lookbehind-SAM + adaptive alpha".
        metric: "val_accuracy_pct", "test_accuracy_pct", "best_epoch", "avg_accuracy_pct", "forgetting_pct",
            "test_bleu". Default "val_accuracy_pct".

    Returns:
        A ``Published``, with a standard deviation if there is one.

    Raises:
        KeyError: if the table has no such number.

    Example:
        >>> published(1, "CIFAR-10", "ResNet-34", "Lookbehind-SAM")
        Published(mean=96.27, std=0.07)

    """
    return values()[str(table), dataset, model, method, metric]
