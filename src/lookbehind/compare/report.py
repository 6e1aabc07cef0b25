"""From finished runs to tables, paired differences, one honest sentence, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from lookbehind.compare.runs import METHODS, TITLES, Labels, Result, Run
from lookbehind.lab.statistics import FEWEST, Difference, mean, paired, shown, std

Finished = Sequence[tuple[Run, Result]]


class Rows:
    """The finished runs of one label setting, by method."""

    def __init__(self, finished: Finished, labels: Labels) -> None:
        self.labels = labels
        self.by_method = {
            method: runs
            for method in METHODS
            if (runs := sorted(((r, x) for r, x in finished if (r.method, r.labels) == (method, labels)), key=_seed))
        }

    def values(self, method: str, pick: Callable[[Result], float | None]) -> list[float]:
        """Return one number for each seed, leaving out what diverged runs do not have."""
        return [value for _, result in self.by_method[method] if (value := pick(result)) is not None]

    def against(self, method: str, other: str, comparisons: int = 1) -> Difference:
        """Return the paired difference of test accuracies, over the seeds that both have."""
        one = {run.seed: result.test_accuracy for run, result in self.by_method[method]}
        two = {run.seed: result.test_accuracy for run, result in self.by_method[other]}
        seeds = sorted(one.keys() & two.keys())
        return paired([one[s] for s in seeds], [two[s] for s in seeds], comparisons)

    @property
    def seeds(self) -> int:
        """Return how many seeds the method with the most has."""
        return max(map(len, self.by_method.values()))

    @property
    def enough(self) -> bool:
        """Return whether there are seeds enough for a spread and an interval."""
        return self.seeds >= FEWEST

    def budget(self) -> int | None:
        """Return Lookbehind's gradient evaluations, the budget at which methods are compared."""
        for method in ("lookbehind", "lookbehind-adaptive"):
            if method in self.by_method and self.diverged(method) < len(self.by_method[method]):
                return self.gradients(method)
        return None

    def gradients(self, method: str) -> int:
        """Return the gradient evaluations of a whole run. A diverged one stopped early, so the longest counts."""
        return max(result.gradients for _, result in self.by_method[method])

    def diverged(self, method: str) -> int:
        """Return how many of a method's runs diverged."""
        return sum(result.diverged for _, result in self.by_method[method])

    def name(self, method: str) -> str:
        """Return a method's name, with a remark if runs of it diverged."""
        count, runs = self.diverged(method), len(self.by_method[method])
        return METHODS[method].label + (f" ({count} of {runs} diverged)" if count else "")

    def equal_cost(self) -> list[str]:
        """Return the methods that spent Lookbehind's budget, to 2 %, best test accuracy first."""
        budget = self.budget()
        if budget is None:
            return []
        equal = [m for m in self.by_method if abs(self.gradients(m) - budget) <= 0.02 * budget]
        return sorted(equal, key=lambda m: -mean(self.values(m, _accuracy)))


def _seed(pair: tuple[Run, Result]) -> int:
    return pair[0].seed


def _accuracy(result: Result) -> float:
    return result.test_accuracy


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write mean ± sample standard deviation (ddof = 1), or that there is nothing to write.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        '2.00 ± 1.00'

    """
    if not values:
        return "not finite"
    error = std(values) if len(values) >= FEWEST else None
    return shown(mean(values), digits) + ("" if error is None else f" ± {shown(error, digits)}")


def describe(labels: Labels, run: Run, seeds: int) -> str:
    """Return a table's title: the setting."""
    return (
        f"{TITLES.get(labels, labels)} · {seeds} seed{'s' * (seeds > 1)} · {run.epochs} epochs · "
        f"ρ {run.rho:g}, k {run.k}, α {run.alpha:g} for all, not tuned"
    )


SHARPNESS, NOISY, LOSS, SECONDS = "sharpness", "with noisy\nweights %", "training\nloss", "seconds"
LAST_FIRST = (SECONDS, LOSS, SHARPNESS, NOISY)  # what is left out where a terminal is too narrow


def table(rows: Rows) -> Table:
    """Return the table of one label setting."""
    methods = rows.by_method
    first = next(iter(methods.values()))
    equal = rows.equal_cost()
    result = Table(title=describe(rows.labels, first[0][0], max(map(len, methods.values()))), box=box.SIMPLE_HEAD)
    result.add_column("method", no_wrap=True)
    radii = [f"{SHARPNESS}\nr = {r:g}" for r in first[0][0].radii]
    for name in ("test\naccuracy %", NOISY, LOSS, *radii, "gradients", SECONDS):
        result.add_column(name, justify="right", no_wrap=True)
    was_control = False
    for method, runs in methods.items():
        if METHODS[method].control and not was_control:
            result.add_section()
            was_control = True
        sharpness = [
            spread(rows.values(method, lambda x, i=i: x.sharpness[i]), 3)  # type: ignore[misc]
            for i in range(len(radii))
        ]
        result.add_row(
            rows.name(method),
            spread(rows.values(method, _accuracy)),
            spread(rows.values(method, lambda x: x.noisy_accuracy)),
            spread(rows.values(method, lambda x: x.train_loss), 3),
            *sharpness,
            f"{rows.gradients(method):,}" + (" =" if method in equal else ""),
            f"{mean([x.seconds for _, x in runs]):.1f}",
        )
    spread_is = (
        "mean ± standard deviation over seeds"
        if rows.enough
        else f"{rows.seeds} seed{'s' * (rows.seeds > 1)} at most: no spread"
    )
    result.caption = (
        f"{spread_is}; = marks Lookbehind's cost; rows below the line are controls; training "
        "loss and 125-sharpness (eq. 5, one step) on the training labels in eval mode; noisy weights: σ 0.4, "
        "batch norm re-estimated"
    )
    if any(map(rows.diverged, methods)):
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


WHERE = {"noisy": "With noisy labels", "clean": "With clean labels"}


def verdict(rows: Rows) -> str:
    """Return one sentence that says who wins at equal cost, and whether these seeds can show it.

    "Can show" means that the 95 % interval of the paired difference to a rival excludes zero, widened for the number of
    rivals.
    """
    where = WHERE.get(rows.labels, rows.labels)
    equal = rows.equal_cost()
    if len(equal) < 2:
        if "lookbehind" in rows.by_method and rows.budget() is None:
            return f"{where}: nothing to compare at equal cost; Lookbehind diverged with every seed."
        budget = rows.budget()
        missing = [m for m in ("lookbehind", "multistep", "sam-longer", "sgd-longer") if m not in rows.by_method]
        if budget is not None:
            missing = [m for m in missing if m != "lookbehind"]
        return f"{where}: nothing to compare at equal cost; add --methods {' '.join(missing)}."
    best, rivals = equal[0], equal[1:]
    open_ = [m for m in rivals if not rows.against(best, m, len(rivals)).shows]
    names = [rows.name(m) for m in open_]
    accuracy, ahead = mean(rows.values(best, _accuracy)), "is best" if rows.enough else "is ahead"
    sentence = f"{where}, at {rows.budget():,} gradients each, {rows.name(best)} {ahead} ({accuracy:.2f} %)"
    if not rows.enough:
        return f"{sentence}; so few seeds show nothing, --seeds 4 or more do."
    if not names:
        return f"{sentence}, and these seeds show it against all {len(rivals)} rivals."
    if len(names) == len(rivals):
        return f"{sentence}, but these seeds can show no difference to any of its {len(rivals)} rivals."
    return f"{sentence}; these seeds can show no difference to {' and '.join(names)}."


def to_json(finished: Finished) -> str:
    """Return all settings and results, with the verdicts."""
    labels = sorted({run.labels for run, _ in finished}, reverse=True)
    content = {
        "verdicts": {which: verdict(Rows(finished, which)) for which in labels},
        "runs": [
            {"run": run.model_dump(mode="json"), "result": result.model_dump(mode="json")} for run, result in finished
        ],
    }
    return json.dumps(content, indent=1)


def to_csv(finished: Finished) -> str:
    """Return one line for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    radii = finished[0][0].radii
    kept = ("method", "labels", "seed", "rho", "k", "alpha", "epochs")
    numbers = (
        "test_accuracy",
        "validation_accuracy",
        "noisy_accuracy",
        "train_loss",
        "gradients",
        "seconds",
        "diverged",
    )
    writer.writerow([*kept, *numbers, *(f"sharpness_{r:g}" for r in radii)])
    for run, result in finished:
        writer.writerow([*(getattr(run, n) for n in kept), *(getattr(result, n) for n in numbers), *result.sharpness])
    return text.getvalue()
