"""The trainer that all kinds of workloads share: epochs, scores after each, and states that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from lookbehind.training import Epoch, History


class EpochTrainer(ABC):
    """Train one run epoch by epoch. It can be interrupted after each.

    Attributes:
        model: what is trained; its state is kept as the run's weights.
        data: what was decided about the data, as plain values.
        history: the epochs that are done.

    """

    model: nn.Module
    data: dict[str, Any]
    history: History

    @abstractmethod
    def fit(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Train from the end of ``history`` to the last epoch."""

    @abstractmethod
    def scores(self) -> Mapping[str, Any]:
        """Return the scores of a ``Record``, at the weights of now."""

    @abstractmethod
    def parts(self) -> Mapping[str, Any]:
        """Return all that changes in training, by name, as it is after ``history``.

        Each part has ``state_dict`` and ``load_state_dict``. Global random states are kept elsewhere.
        """

    @property
    def diverged(self) -> bool:
        """Return whether training has ended with a loss or a weight that is not finite."""
        return self.history.diverged

    def train(self, after_epoch: Callable[[Mapping[str, Any]], None]) -> None:
        """Train to the end.

        ``after_epoch`` is called with the fields of a ``Record``, but for ``epoch``; numbers may be not finite. The
        state may be taken in this call, and it may raise.
        """
        self.fit(lambda epoch: after_epoch({**asdict(epoch), **self.scores()}))

    def state_dict(self) -> dict[str, Any]:
        """Return what it takes to go on bit for bit: tensors and plain values."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return {"history": self.history.state_dict(), **states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken."""
        self.history.load_state_dict(state["history"])
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
