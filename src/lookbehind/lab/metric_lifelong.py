"""What is read off a run through a stream of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lookbehind.lab.metric import Measured, Numbers, _OfResult
from lookbehind.lab.result import Result
from lookbehind.lifelong import average_accuracy, backward_transfer, forgetting

Matrix = tuple[tuple[float, ...], ...]


def matrix(result: Result, validation: bool = False) -> Matrix:
    """Return accuracies by task learnt and task evaluated; of held-out images there may be none."""
    rows = (record.validation_tasks if validation else record.tasks for record in result.records)
    return tuple(row for row in rows if row)


@dataclass(frozen=True)
class AverageAccuracy(_OfResult):
    """Average accuracy after the last task, on test images."""

    name: ClassVar[str] = "average accuracy (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return it."""
        return (average_accuracy(matrix(result)),)


@dataclass(frozen=True)
class ValidationAverageAccuracy(_OfResult):
    """Average accuracy after the last task, on held-out images: to select by."""

    name: ClassVar[str] = "average validation accuracy (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return it, if images were held out."""
        rows = matrix(result, validation=True)
        return (average_accuracy(rows),) if rows else ()


@dataclass(frozen=True)
class AverageAccuracyAfter(_OfResult):
    """Average accuracy over the tasks learnt so far, after a task."""

    task: int  # from 1
    name: ClassVar[str] = "average accuracy (%) so far"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return it."""
        return (average_accuracy(matrix(result)[: self.task]),)


@dataclass(frozen=True)
class TaskAccuracy(_OfResult):
    """Accuracy on a task after a task: an entry of the matrix."""

    after: int  # from 1
    on: int  # from 1
    name: ClassVar[str] = "accuracy (%) on a task"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return it."""
        return (matrix(result)[self.after - 1][self.on - 1],)


@dataclass(frozen=True)
class Forgetting(_OfResult):
    """Forgetting after the last task, as the paper defines it."""

    name: ClassVar[str] = "forgetting (%)"
    higher_is_better: ClassVar[bool] = False

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return it; none for a single task."""
        rows = matrix(result)
        return (forgetting(rows),) if len(rows) > 1 else ()


@dataclass(frozen=True)
class BackwardTransfer(_OfResult):
    """BTI of Gupta et al. (2020): accuracy at the end minus that when learnt."""

    name: ClassVar[str] = "BTI (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return it."""
        return (backward_transfer(matrix(result)),)


@dataclass(frozen=True)
class Gradients(_OfResult):
    """Gradient evaluations of the whole run, in minibatches; a Hessian-vector product counts as two."""

    name: ClassVar[str] = "gradient evaluations"
    higher_is_better: ClassVar[bool] = False

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return their number."""
        return (float(result.gradients),)


@dataclass(frozen=True)
class Chosen(_OfResult):
    """A hyper-parameter of the setting that was chosen."""

    symbol: str  # "η", "ρ", "k" or "α"
    name: ClassVar[str] = "value of the hyper-parameter"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return its value; none where the method has no such hyper-parameter."""
        value = result.data["setting"][self.symbol]
        return () if value is None else (float(value),)
