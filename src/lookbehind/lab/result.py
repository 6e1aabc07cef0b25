"""Result of a run, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Plain values. A number that is not finite, as of a diverged run, is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Record(Value):
    """One epoch, with scores after it: accuracies in percent, or BLEU.

    Means are over steps, at the unperturbed weights. In a stream of tasks the scores are those of the task at hand, and
    where a task ends there are those of every task.
    """

    epoch: int  # from 1
    loss: float | None
    accuracy: float | None  # of the training images
    gradient_norm: float | None
    alpha: float | None  # mean α*; None if α is not adaptive
    lr: float
    gradients: int | float  # gradient evaluations since the beginning
    seconds: float  # of training since the beginning
    validation: float | None  # the score; None without validation data
    test: float
    tasks: tuple[float, ...] = ()  # the test score of each task of a stream
    validation_tasks: tuple[float, ...] = ()


class Result(Value):
    """A finished or diverged run."""

    status: Literal["finished", "diverged"]
    records: tuple[Record, ...]
    weights: str  # sha256 of weights.safetensors
    data: dict[str, Any]  # what was decided about the data
    environments: tuple[dict[str, Any], ...]  # one for each place it was trained at, with the epochs done before

    @property
    def last(self) -> Record:
        """The last epoch."""
        return self.records[-1]

    @property
    def best_by_test(self) -> Record:
        """The first epoch of the best test accuracy: the paper's habit, which selects on the test images."""
        return max(self.records, key=lambda record: record.test)

    @property
    def best_by_validation(self) -> Record | None:
        """The first epoch of the best validation accuracy; None without validation images."""
        known = [record for record in self.records if record.validation is not None]
        return max(known, key=lambda record: record.validation or 0.0, default=None)

    @property
    def loss(self) -> float | None:
        """Mean training loss of the last epoch."""
        return self.last.loss

    @property
    def gradients(self) -> int | float:
        """Gradient evaluations of the whole run."""
        return self.last.gradients

    @property
    def seconds(self) -> float:
        """Seconds of training of the whole run."""
        return self.last.seconds

    def summary(self) -> dict[str, Any]:
        """Return the numbers that a reader of the file looks for first."""
        selected = {"test": self.best_by_test, "validation": self.best_by_validation}
        return {
            "status": self.status,
            "last": {"epoch": self.last.epoch, "validation": self.last.validation, "test": self.last.test},
            "best": {
                by: record and {"epoch": record.epoch, "validation": record.validation, "test": record.test}
                for by, record in selected.items()
            },
            "loss": self.loss,
            "gradients": self.gradients,
            "seconds": self.seconds,
        }


def finite(value: Any) -> Any:
    """Return plain values as JSON can hold them: what is not finite becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return value
