"""Metrics of a run through a stream of tasks."""

from __future__ import annotations

from typing import Any

from lookbehind.lab.metrics import metric
from lookbehind.lab.result import Result
from lookbehind.lifelong import average_accuracy, backward_transfer, forgetting

Matrix = tuple[tuple[float, ...], ...]


def matrix(result: Result, validation: bool = False) -> Matrix:
    """Return accuracies by task learnt and task evaluated; of held-out images there may be none."""
    rows = (record.validation_tasks if validation else record.tasks for record in result.records)
    return tuple(row for row in rows if row)


@metric("average accuracy (%)")
def final_accuracy(result: Result) -> Any:
    """Average over the tasks, after the last one, on test images."""
    return average_accuracy(matrix(result))


@metric("average validation accuracy (%)")
def final_validation_accuracy(result: Result) -> Any:
    """Average over the tasks, after the last one, on held-out images: to select by."""
    rows = matrix(result, validation=True)
    return average_accuracy(rows) if rows else ()


@metric("average accuracy (%) so far")
def average_accuracy_after(result: Result, task: int) -> Any:
    """Over the tasks learnt so far, after a task, counted from 1."""
    return average_accuracy(matrix(result)[:task])


@metric("accuracy (%) on a task")
def task_accuracy(result: Result, after: int, on: int) -> Any:
    """An entry of the matrix, counted from 1."""
    return matrix(result)[after - 1][on - 1]


@metric("forgetting (%)", higher_is_better=False)
def final_forgetting(result: Result) -> Any:
    """After the last task, as the paper defines it; none for a single task."""
    rows = matrix(result)
    return forgetting(rows) if len(rows) > 1 else ()


@metric("BTI (%)")
def final_backward_transfer(result: Result) -> Any:
    """BTI of Gupta et al. (2020): accuracy at the end minus that when learnt."""
    return backward_transfer(matrix(result))


@metric("value of the hyper-parameter")
def chosen_value(result: Result, symbol: str) -> Any:
    """Of the setting that was chosen: "η", "ρ", "k" or "α"; none where the method has no such one."""
    value = result.data["setting"][symbol]
    return () if value is None else float(value)
