"""The items: for each task a board, and one on when to climb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lookbehind.lab.cell import Candidate, Cell, Derived
from lookbehind.lab.metrics import (
    Metric,
    accuracy_at_best_validation,
    best_validation_accuracy,
    calibration_error,
    last_test_accuracy,
    noisy_accuracy_at,
    quantised_accuracy_at,
    sharpness_at,
    top_eigenvalue,
)
from lookbehind.lab.metrics_lifelong import final_forgetting
from lookbehind.lab.parts import Declaration, Part, Point, Row, Scatter, Style, Table
from lookbehind.lab.run import Workload
from lookbehind.league.entrants import MORE, ONE, RIVALS, TWO, WHEN, Entrant
from lookbehind.league.study import study
from lookbehind.league.tasks import Task, tasks

SCALES = ("smoke", "cpu", "paper")
WHEN_BUDGET = 1.25
STYLES = {
    RIVALS: Style("black", "square"),
    ONE: Style("blue", "circle"),
    TWO: Style("orange", "triangle"),
    MORE: Style("vermillion", "triangle", filled=False),
}
NOTES = (
    "A budget counts sample gradients, one forward and backward pass of one image, in units of the recipe's own. A "
    "part of a minibatch counts as a part. Epochs and schedule are fitted to it. Evaluation is not counted.",
    "Each entrant tries the same number of settings on validation images, with seeds of their own. The winner is "
    "trained anew with fresh seeds, and its test accuracy after the last epoch is reported.",
    "No setting is chosen on test images.",
    "Intervals are 95 % for all entrants of a column together, paired over seeds.",
    "Batch norm's statistics follow every pass of a method, and are estimated anew for noisy and rounded weights.",
)


@dataclass(frozen=True)
class Fresh:
    """From the setting that won to runs of it with seeds that have chosen nothing."""

    seeds: tuple[int, ...]

    def __call__(self, winner: Candidate) -> Candidate:
        """Return these runs."""
        run = winner.runs[0]
        return Candidate(winner.label, tuple(run.model_copy(update={"seed": seed}) for seed in self.seeds))


def reported(entrant: Entrant, task: Task, budget: float, metric: Metric) -> Derived:
    """Return the number of an entrant: tuned with some seeds, measured with fresh ones."""
    candidates = entrant.candidates(task.workload, task.tuning, budget, task.trials)
    if entrant.stops_early:
        tuned = Cell(candidates, accuracy_at_best_validation(), best_validation_accuracy())
        metric = accuracy_at_best_validation() if metric == task.accuracy else metric
    else:
        tuned = Cell(candidates, task.accuracy, task.validation)
    return Derived((tuned,), Fresh(task.fresh), metric)


def _table(
    title: str,
    task: Task,
    entrants: dict[str, Entrant],
    metric: Metric,
    budgets: Sequence[float],
    against: str | None = None,
    digits: int = 2,
) -> Table:
    rows = tuple(
        Row(name, tuple(reported(entrant, task, budget, metric) for budget in budgets), entrant.group)
        for name, entrant in entrants.items()
    )
    heads = tuple(f"{budget:g} × the recipe's gradients" for budget in budgets)
    return Table(f"{task.name}: {title}", heads, rows, against=against, digits=digits)


def _measured(task: Task) -> list[tuple[str, Metric, str | None, int]]:
    """Return the task's other numbers: title, metric, the row to compare with, digits."""
    found: list[tuple[str, Metric, str | None, int]] = []
    if task.lifelong:
        found.append(("forgetting (%)", final_forgetting(), task.plain, 2))
    if task.noise is not None:
        sigma = task.noise.sigmas[1]
        title = f"test accuracy (%) with noisy weights, σ = {sigma:g}"
        found.append((title, noisy_accuracy_at(task.noise, sigma), "SAM", 2))
    if task.bits is not None:
        found.append(("test accuracy (%) with weights of 4 bits", quantised_accuracy_at(task.bits, 4), "SAM", 2))
    if task.sharpness is not None:
        radius = task.sharpness.radii[0]
        found.append((f"sharpness at radius {radius:g}", sharpness_at(task.sharpness, radius), None, 4))
    if task.eigenvalue is not None:
        found.append(("largest Hessian eigenvalue", top_eigenvalue(task.eigenvalue), None, 2))
    if task.calibration is not None:
        found.append(("expected calibration error (%)", calibration_error(task.calibration), None, 2))
    return found


def _board(name: str, scale: str) -> Declaration:
    task = tasks(scale)[name]
    entrants = task.entrants
    known = {n: e for n, e in entrants.items() if not e.stops_early}  # its weights are those of the last epoch
    middle = task.budgets[len(task.budgets) // 2]
    parts: list[Part] = [
        _table(f"test accuracy (%), against {rival}", task, entrants, task.accuracy, task.budgets, rival)
        for rival in (task.plain, "SAM")
    ]
    measured = _measured(task)
    for title, metric, against, digits in measured:
        parts.append(_table(title, task, known, metric, task.budgets, against, digits))
    said, second = measured[0][:2]
    points = tuple(
        Point(
            n,
            reported(e, task, middle, task.accuracy),
            reported(e, task, middle, second),
            STYLES[e.group],
        )
        for n, e in known.items()
    )
    title = f"{task.name}: at {middle:g} × the recipe's gradients"
    parts.append(Scatter(title, "test accuracy (%)", said, points))
    return Declaration(tuple(parts), NOTES)


def _when(scale: str) -> Declaration:
    parts = tuple(
        _table(title, task, WHEN, metric, (WHEN_BUDGET,), "SGD")
        for task in tasks(scale).values()
        if isinstance(task.workload, Workload) and task.workload.noise and task.noise
        for title, metric in (
            ("test accuracy (%) by which steps climb", last_test_accuracy()),
            ("with noisy weights", noisy_accuracy_at(task.noise, task.noise.sigmas[1])),
        )
    )
    return Declaration(parts, (*NOTES, "SAM in every step has as many gradients, and so fewer steps."))


def _all() -> None:
    names = dict.fromkeys(name for scale in SCALES for name in tasks(scale))
    for name in names:
        scales = tuple(scale for scale in SCALES if name in tasks(scale))
        title = next(tasks(scale)[name].name for scale in scales)
        study.item(f"Board: {title}", name=name, scales=scales)(partial(_board, name))
    study.item("Which steps should climb, at 1.25 gradients a step", name="when", scales=("smoke", "cpu"))(_when)


_all()
