"""Kinds of workloads: what is trained, and how its state is kept. The lab does the rest for all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, Protocol

from torch import nn

from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.run import Run, Workload
from lookbehind.lab.stream import Stream
from lookbehind.lab.translation import Translation
from lookbehind.training import Epoch

# A kind is a module with two functions: ``training(run, device)`` returns a ``Training``, and ``fetch(workload)`` gets
# the data before many processes want them, and raises ``ValueError`` if they cannot be had.
KINDS: dict[type, str] = {
    Workload: "lookbehind.lab.workloads.images",
    FineTuning: "lookbehind.lab.workloads.fine_tuning",
    Stream: "lookbehind.lab.workloads.lifelong",
    Translation: "lookbehind.lab.workloads.translation",
}

AfterEpoch = Callable[[Mapping[str, Any]], None]


class Training(Protocol):
    """The training of one run, which can be interrupted after each epoch.

    Attributes:
        model: what is trained; its state is kept as the run's weights.
        data: what was decided about the data, as plain values.
        diverged: whether it has ended with a loss or a weight that is not finite.

    """

    model: nn.Module
    data: Mapping[str, Any]
    diverged: bool

    def train(self, after_epoch: AfterEpoch) -> None:
        """Train from where it stands to the end.

        ``after_epoch`` is called with the fields of a ``Record``, but for ``epoch``; numbers may be not finite. The
        state may be taken in this call, and it may raise.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what it takes to go on bit for bit, beside the global random states: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Stand where the state was taken, after epochs with these records."""


def epochs_of(records: Iterable[Mapping[str, Any]]) -> list[Epoch]:
    """Return the epochs that are done, without their scores, from their records."""
    known = {f.name for f in fields(Epoch)}
    return [Epoch(**{name: value for name, value in record.items() if name in known}) for record in records]


def kind_of(workload: object) -> Any:
    """Return the module of a workload's kind."""
    return import_module(KINDS[type(workload)])


def training(run: Run, device: str) -> Training:
    """Return the training of a run, at its beginning."""
    made: Training = kind_of(run.workload).training(run, device)
    return made


def fetch(workload: object) -> None:
    """Get the data of a workload.

    Raises:
        ValueError: if there is no such data set, or its data cannot be had.

    """
    kind_of(workload).fetch(workload)
