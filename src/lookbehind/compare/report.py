"""From finished runs to tables, paired differences, one honest sentence, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from lookbehind.compare.items import GRADIENTS, HEADS, LABELS, LOSS, METHODS, NOISY, SECONDS, TEST, Comparison
from lookbehind.lab.cell import Value
from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.report import difference, read
from lookbehind.lab.statistics import FEWEST, Difference


class Rows:
    """The table of a comparison with its numbers, by method."""

    def __init__(self, comparison: Comparison, results: Results) -> None:
        self.comparison, self.results = comparison, remembered(results)
        self.table = comparison.table
        values = read(self.table, self.results).values
        self.by_method = {
            method: tuple(value or Value() for value in row)
            for method, row in zip(comparison.methods, values, strict=True)
        }

    def against(self, method: str, other: str, rivals: int = 1) -> Difference:
        """Return the paired difference of test accuracies."""
        found = difference(self.by_method[method][TEST], self.by_method[other][TEST], rivals)
        assert found is not None  # a diverged run has an accuracy too
        return found

    @property
    def enough(self) -> bool:
        """Return whether there are seeds enough for a spread and an interval."""
        return self.comparison.seeds >= FEWEST

    def budget(self) -> int | None:
        """Return Lookbehind's gradient evaluations, the budget at which methods are compared."""
        for method in ("lookbehind", "lookbehind-adaptive"):
            if method in self.by_method and self.diverged(method) < self.comparison.seeds:
                return self.gradients(method)
        return None

    def gradients(self, method: str) -> int:
        """Return the gradient evaluations of a whole run. A diverged one stopped early, so the longest counts."""
        return round(max(self.by_method[method][GRADIENTS].by_seed.values()))

    def diverged(self, method: str) -> int:
        """Return how many of a method's runs diverged."""
        return self.by_method[method][NOISY].states.get("diverged", 0)

    def name(self, method: str) -> str:
        """Return a method's name, with a remark if runs of it diverged."""
        count = self.diverged(method)
        return METHODS[method].label + (f" ({count} of {self.comparison.seeds} diverged)" if count else "")

    def equal_cost(self) -> list[str]:
        """Return the methods that spent Lookbehind's budget, to 2 %, best test accuracy first."""
        budget = self.budget()
        if budget is None:
            return []
        equal = [m for m in self.by_method if abs(self.gradients(m) - budget) <= 0.02 * budget]
        return sorted(equal, key=lambda m: -(self.by_method[m][TEST].mean or 0.0))


# What is left out where a terminal is too narrow; "sharpness" stands for each radius.
LAST_FIRST = (HEADS[SECONDS], HEADS[LOSS], "sharpness", HEADS[NOISY])


def table(rows: Rows) -> Table:
    """Return the table of one workload."""
    result = Table(title=rows.table.title, box=box.SIMPLE_HEAD)
    result.add_column("method", no_wrap=True)
    for head in rows.table.columns:
        result.add_column(head, justify="right", no_wrap=True)
    equal, controls = rows.equal_cost(), [method for method in rows.by_method if METHODS[method].control]
    for method, values in rows.by_method.items():
        if method in controls[:1]:
            result.add_section()
        result.add_row(
            rows.name(method),
            *("not finite" if value.mean is None else value.text() for value in values[:GRADIENTS]),
            f"{rows.gradients(method):,}" + (" =" if method in equal else ""),
            f"{values[SECONDS].mean:.1f}",
        )
    seeds = rows.comparison.seeds
    spread = (
        "mean ± standard deviation over seeds" if rows.enough else f"{seeds} seed{'s' * (seeds > 1)} at most: no spread"
    )
    result.caption = (
        f"{spread}; = marks Lookbehind's cost; rows below the line are controls; training "
        "loss and 125-sharpness (eq. 5, one step) on the training labels in eval mode; noisy weights: σ 0.4, "
        "batch norm re-estimated"
    )
    if any(map(rows.diverged, rows.by_method)):
        result.caption += "; accuracies include diverged runs, losses and sharpness only what is finite"
    return result


def differences(rows: Rows) -> Table | None:
    """Return the table of paired differences against SAM and, at equal cost, against the longer SAM."""
    others = [other for other in ("sam", "sam-longer") if other in rows.by_method]
    if not others or not rows.enough:
        return None
    result = Table(title="Test accuracy, paired over seeds: difference [95 % interval each]", box=box.SIMPLE_HEAD)
    result.add_column("method", no_wrap=True)
    for other in others:
        result.add_column(f"− {METHODS[other].label}", justify="right", no_wrap=True)
    for method in rows.by_method:
        cells = ["" if method == other else str(rows.against(method, other)) for other in others]
        result.add_row(rows.name(method), *cells)
    return result


def verdict(rows: Rows) -> str:
    """Return one sentence that says who wins at equal cost, and whether these seeds can show it.

    "Can show" means that the 95 % interval of the paired difference to a rival excludes zero, widened for the number of
    rivals.
    """
    where = rows.comparison.names.where
    equal, budget = rows.equal_cost(), rows.budget()
    if len(equal) < 2:
        if "lookbehind" in rows.by_method and budget is None:
            return f"{where}: nothing to compare at equal cost; Lookbehind diverged with every seed."
        missing = [m for m in ("lookbehind", "multistep", "sam-longer", "sgd-longer") if m not in rows.by_method]
        if budget is not None:
            missing = [m for m in missing if m != "lookbehind"]
        return f"{where}: nothing to compare at equal cost; add --methods {' '.join(missing)}."
    best, rivals = equal[0], equal[1:]
    open_ = [m for m in rivals if not rows.against(best, m, len(rivals)).shows]
    names = [rows.name(m) for m in open_]
    ahead = "is best" if rows.enough else "is ahead"
    accuracy = rows.by_method[best][TEST].mean
    sentence = f"{where}, at {budget:,} gradients each, {rows.name(best)} {ahead} ({accuracy:.2f} %)"
    if not rows.enough:
        return f"{sentence}; so few seeds show nothing, --seeds 4 or more do."
    if not names:
        return f"{sentence}, and these seeds show it against all {len(rivals)} rivals."
    if len(names) == len(rivals):
        return f"{sentence}, but these seeds can show no difference to any of its {len(rivals)} rivals."
    return f"{sentence}; these seeds can show no difference to {' and '.join(names)}."


def records(compared: Sequence[Rows]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the settings and the numbers of each run, seed by seed."""
    for seed in range(compared[0].comparison.seeds):
        for rows in compared:
            yield from (_record(rows, method, seed) for method in rows.by_method)


def _record(rows: Rows, method: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and the numbers of one run. What is not finite, as of a diverged run, is None."""
    each = rows.comparison
    result = rows.results.result(each.candidates[method].runs[seed])
    assert result is not None  # all runs are finished
    values = [value.by_seed.get(seed) for value in rows.by_method[method]]
    run = {
        "method": method,
        "labels": each.labels,
        "seed": seed,
        **{name: getattr(each, name) for name in ("rho", "k", "alpha", "radii")},
        "epochs": each.workload.epochs,
        "workload": None if each.labels in LABELS else each.workload.model_dump(mode="json"),
    }
    numbers = {
        "test_accuracy": values[TEST],
        "validation_accuracy": result.last.validation or 0.0,
        "noisy_accuracy": values[NOISY],
        "train_loss": values[LOSS],
        "sharpness": values[LOSS + 1 : GRADIENTS],
        "gradients": round(result.gradients),
        "seconds": result.seconds,
        "diverged": result.status == "diverged",
        "losses": [record.loss for record in result.records if record.loss is not None],
    }
    return run, numbers


def to_json(compared: Sequence[Rows]) -> str:
    """Return all settings and results, with the verdicts."""
    ordered = sorted(compared, key=lambda rows: rows.comparison.labels, reverse=True)
    content = {
        "verdicts": {rows.comparison.labels: verdict(rows) for rows in ordered},
        "runs": [{"run": run, "result": numbers} for run, numbers in records(compared)],
    }
    return json.dumps(content, indent=1)


def to_csv(compared: Sequence[Rows]) -> str:
    """Return one line for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    radii = compared[0].comparison.radii
    for i, (run, numbers) in enumerate(records(compared)):
        sharpness = dict(zip((f"sharpness_{r:g}" for r in radii), numbers["sharpness"], strict=True))
        line = {**run, **numbers}
        for left_out in ("radii", "workload", "sharpness", "losses"):
            del line[left_out]
        if i == 0:
            writer.writerow([*line, *sharpness])
        writer.writerow([*line.values(), *sharpness.values()])
    return text.getvalue()
