"""Kinds of workloads: what is trained, and how its state is kept. The lab does the rest for all of them alike."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.run import Run, Workload
from lookbehind.lab.stream import Stream
from lookbehind.lab.translation import Translation
from lookbehind.lab.workloads.trainer import EpochTrainer

# A kind is a module with two functions: ``training(run, device)`` returns an ``EpochTrainer``, and ``fetch(workload)``
# gets the data before many processes want them, and raises ``ValueError`` if they cannot be had.
KINDS: dict[type, str] = {
    Workload: "lookbehind.lab.workloads.images",
    FineTuning: "lookbehind.lab.workloads.fine_tuning",
    Stream: "lookbehind.lab.workloads.lifelong",
    Translation: "lookbehind.lab.workloads.translation",
}


def kind_of(workload: object) -> Any:
    """Return the module of a workload's kind."""
    return import_module(KINDS[type(workload)])


def training(run: Run, device: str) -> EpochTrainer:
    """Return the trainer of a run, at its beginning."""
    made: EpochTrainer = kind_of(run.workload).training(run, device)
    return made


def fetch(workload: object) -> None:
    """Get the data of a workload.

    Raises:
        ValueError: if there is no such data set, or its data cannot be had.

    """
    kind_of(workload).fetch(workload)
