"""Numbers as the comparison's JSON has them, looked up as those of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lookbehind.compare import METHODS, Comparison
from lookbehind.compare.items import digits
from lookbehind.compare.report import Rows
from lookbehind.lab import Measurement, NoiseSettings, Record, Result, Run


class Saved:
    """Numbers of each method, one for each seed."""

    def __init__(self, comparison: Comparison, numbers: Mapping[str, list[dict[str, Any]]]) -> None:
        runs = {method: comparison.candidates[method].runs for method in numbers}
        self.numbers = {run: n for method, of in numbers.items() for run, n in zip(runs[method], of, strict=True)}

    def result(self, run: Run) -> Result:
        n = self.numbers[run]
        last = {"gradients": n["gradients"], "seconds": n["seconds"], "lr": 0.1}
        scores = {"test": n["test_accuracy"], "validation": n["validation_accuracy"]}
        unknown = dict.fromkeys(("accuracy", "gradient_norm", "alpha"))
        records = tuple(Record(epoch=i, loss=x, **last, **scores, **unknown) for i, x in enumerate(n["losses"], 1))
        status = "diverged" if n["diverged"] else "finished"
        return Result(status=status, records=records, weights="", data={}, environments=())

    def measured(self, run: Run, measurement: Measurement) -> dict[str, Any] | None:
        n = self.numbers[run]
        if n["diverged"]:
            return None
        if isinstance(measurement, NoiseSettings):
            return {"means": [n["noisy_accuracy"]]}
        return {"loss": n["train_loss"], "values": n["sharpness"]}

    def failure(self, run: Run) -> None:
        return None


def rows_of(runs: list[dict[str, Any]], labels: str) -> Rows:
    """Return the rows of a comparison, from the runs of its compare.json."""
    numbers: dict[str, list[dict[str, Any]]] = {}
    for one in runs:
        if one["run"]["labels"] == labels:
            numbers.setdefault(one["run"]["method"], []).append(one["result"])
    shared = {name: runs[0]["run"][name] for name in ("rho", "k", "alpha")}
    comparison = Comparison(labels, digits(labels), tuple(METHODS), 4, **shared, radii=(0.05, 0.2, 0.5))
    return Rows(comparison, Saved(comparison, numbers))
