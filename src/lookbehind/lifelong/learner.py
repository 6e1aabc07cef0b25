"""Base of the methods of lifelong learning: a model with heads, a memory, and one ``observe``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lookbehind._checks import choice, count
from lookbehind.lifelong.heads import multihead_loss, own_head
from lookbehind.lifelong.memory import Reservoir


@dataclass(frozen=True)
class Observed:
    """Record of a step, left on the device."""

    loss: Tensor  # before the step, at the weights that are kept
    right: Tensor  # images of those that the loss is over that were classified right
    classified: int
    gradient_norm: Tensor  # of that loss
    gradients: int  # images × gradients; a Hessian-vector product counts as two gradients


class Learner(ABC):
    """A method of lifelong learning. A minibatch at a time is shown to ``observe``.

    Args:
        model: a net with tasks × ways outputs.
        memory: the replay memory.
        ways: classes a task.
        replay: images that are drawn from the memory for each minibatch.
        push: "first" shows the minibatches of a task's first epoch to the memory, "every" those of all epochs.

    """

    minibatches = 1  # how many of them ``observe`` takes at a time, side by side
    once_an_epoch = False  # whether an epoch has one observation only, whatever its minibatches

    def __init__(self, model: nn.Module, memory: Reservoir, ways: int, *, replay: int, push: str) -> None:
        if not isinstance(memory, Reservoir):
            raise TypeError(f"memory is {memory!r}; a Reservoir is needed, such as Reservoir(200)")
        self.model, self.memory, self.ways = model, memory, count("ways", ways)
        if isinstance(replay, bool) or not isinstance(replay, int) or replay < 0:
            raise ValueError(f"replay is {replay!r}; a whole number of images from 0 on is needed")
        self.replay = replay
        self.push = choice("push", push, ("first", "every"))

    @abstractmethod
    def observe(self, images: Tensor, labels: Tensor, *, first: bool = True) -> Observed:
        """Learn from a minibatch.

        Args:
            images: shape (n, ...).
            labels: of a ``TaskStream``, int64, shape (n,).
            first: whether this is the task's first epoch.

        """

    def evaluation(self) -> AbstractContextManager[Any]:
        """Return a context in which the model holds the weights that are to be evaluated."""
        return nullcontext()

    @property
    @abstractmethod
    def lr(self) -> float:
        """The learning rate η."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, but for the global random state."""
        return {"model": self.model.state_dict(), "memory": self.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved state."""
        self.model.load_state_dict(state["model"])
        self.memory.load_state_dict(state["memory"])

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """L, and ℓ_t where all labels are of one task: the mean over images, each in its own head."""
        return multihead_loss(logits, labels, self.ways)

    def _right(self, logits: Tensor, labels: Tensor) -> Tensor:
        predicted = own_head(logits.detach(), labels // self.ways, self.ways).argmax(1)
        return (predicted == labels % self.ways).sum()

    def _observed(self, loss: Tensor, logits: Tensor, labels: Tensor, gradient: list[Tensor]) -> Observed:
        """Return what an inner step was like; of the first one it is at φ."""
        right, norm = self._right(logits, labels), get_total_norm([g.detach() for g in gradient])
        return Observed(loss.detach(), right, len(labels), norm, gradients=len(labels))

    def _shows_memory(self, first: bool) -> bool:
        return first or self.push == "every"


@torch.no_grad()
def task_accuracy(model: nn.Module, minibatches: Any, task: int, ways: int) -> float:
    """Return the accuracy in percent on images of one task, whose identity the model is given.

    Args:
        model: a net with tasks × ways outputs; it is put into eval mode, and back.
        minibatches: pairs (images, labels) of the task.
        task: its number, from 0.
        ways: classes a task.

    Raises:
        ValueError: if there is no minibatch.

    """
    training, right, images = model.training, [], 0
    model.eval()
    try:
        for inputs, labels in minibatches:
            head = own_head(model(inputs), torch.full_like(labels, task), ways)
            right.append((head.argmax(1) == labels - task * ways).sum())
            images += len(labels)
    finally:
        model.train(training)
    if not images:
        raise ValueError(f"task {task} has no images to be evaluated on; hold out more, or split into fewer tasks")
    return 100.0 * int(torch.stack(right).sum()) / images
