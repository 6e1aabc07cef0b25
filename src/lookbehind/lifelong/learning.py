"""Learning a stream of tasks, one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lookbehind.data.parts import mixed_seed
from lookbehind.lifelong.learner import Learner, Observed, task_accuracy
from lookbehind.lifelong.stream import Task, TaskStream
from lookbehind.training import Epoch, History


@dataclass
class Learnt(History):
    """Record of learning: ``epochs`` of all tasks, one task's after the other's, and accuracies in percent.

    ``epochs[i].gradients`` counts gradients of a minibatch of ``batch`` images, rounded: every image that a gradient is
    taken of counts, replayed ones too, and a Hessian-vector product counts as two gradients.
    """

    matrix: list[tuple[float, ...]] = field(default_factory=list)  # test accuracy on each task, after each task
    validation: list[tuple[float, ...]] = field(default_factory=list)  # likewise; empty without held-out images
    images: int = 0  # images × gradients since the beginning


def learn(
    learner: Learner,
    stream: TaskStream,
    *,
    epochs: int = 10,
    batch: int = 10,
    seed: int = 0,
    augment: bool = True,
    on_epoch: Callable[[Epoch], None] | None = None,
    learnt: Learnt | None = None,
) -> Learnt:
    """Let a learner go through a stream, several epochs a task, and evaluate it on all tasks after each.

    A run whose loss or weights are no longer finite at the end of an epoch stops there and is marked as diverged.

    To go on after an interruption, also inside a task, load the learner's state and pass what was ``learnt``.

    Args:
        learner: a ``Replay``, a ``LookaheadCMAML`` or a ``LookbehindCMAML``.
        stream: the tasks.
        epochs: of each task. Default 10, as in the paper.
        batch: images a minibatch. Default 10, as in the code of Gupta et al. (2020).
        seed: decides order and augmentation. Default 0.
        augment: crop and flip as the data set says. Default True.
        on_epoch: called with each finished ``Epoch``; at a task's last one accuracies are already there.
        learnt: what was before. It grows, and is returned. Default: nothing was.

    Returns:
        A ``Learnt``.

    Raises:
        ValueError: if there is no task, the heads are not those of the stream, or ``epochs`` is less than 1.

    Example:
        >>> import torch
        >>> from lookbehind.data import load
        >>> from lookbehind.lifelong import LookbehindCMAML, Reservoir, forgetting, split
        >>> stream = split(load("digits", train=200, stratified=True), tasks=2, ways=2)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, stream.classes))
        >>> learner = LookbehindCMAML(model, Reservoir(20), stream.ways)
        >>> learnt = learn(learner, stream, epochs=1)
        >>> len(learnt.epochs), len(learnt.matrix), forgetting(learnt.matrix) < 50
        (2, 2, True)

    """
    _check_heads(learner, stream)
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; a whole number from 1 on is needed")
    learnt = Learnt() if learnt is None else learnt
    while len(learnt.epochs) < epochs * len(stream.tasks) and not learnt.diverged:
        number, e = divmod(len(learnt.epochs), epochs)
        record = _epoch(learner, stream.tasks[number], number, e, batch, seed, augment, learnt)
        learnt.diverged = not (math.isfinite(record.loss) and _finite(learner))
        if e == epochs - 1 or learnt.diverged:
            learnt.matrix.append(accuracies(learner, stream, "test"))
            if len(stream.tasks[0].validation):
                learnt.validation.append(accuracies(learner, stream, "validation"))
        learnt.epochs.append(record)
        if on_epoch is not None:
            on_epoch(record)
    with learner.evaluation():  # a Lookahead's slow weights
        final = [p.detach().clone() for p in learner.model.parameters()]
    with torch.no_grad():
        for p, value in zip(learner.model.parameters(), final, strict=True):
            p.copy_(value)
    return learnt


def accuracies(learner: Learner, stream: TaskStream, part: str, batch: int = 256) -> tuple[float, ...]:
    """Return the accuracy in percent on each task of a stream, whose identities are given.

    Args:
        learner: what has learnt.
        stream: the tasks.
        part: "train", "validation" or "test".
        batch: images at a time. Default 256.

    """
    with learner.evaluation():
        return tuple(
            task_accuracy(learner.model, getattr(task, part).minibatches(batch), number, learner.ways)
            for number, task in enumerate(stream.tasks)
        )


def _epoch(
    learner: Learner, task: Task, number: int, e: int, batch: int, seed: int, augment: bool, learnt: Learnt
) -> Epoch:
    start, several = time.perf_counter(), learner.minibatches > 1
    learner.model.train()
    shown = task.train.shuffled(  # the state of an epoch is its number alone
        batch * learner.minibatches, seed=mixed_seed(seed, number, e), augment=augment, drop_last=several
    )
    seen: list[Observed] = []
    for images, labels in shown:
        seen.append(learner.observe(images, labels, first=e == 0))
        if learner.once_an_epoch:
            break
    learnt.images += sum(o.gradients for o in seen)
    return Epoch(
        loss=torch.stack([o.loss for o in seen]).mean().item(),
        accuracy=100.0 * int(torch.stack([o.right for o in seen]).sum()) / sum(o.classified for o in seen),
        gradient_norm=torch.stack([o.gradient_norm for o in seen]).mean().item(),
        alpha=None,
        lr=learner.lr,
        gradients=round(learnt.images / batch),
        seconds=learnt.seconds + time.perf_counter() - start,
    )


@torch.no_grad()
def _check_heads(learner: Learner, stream: TaskStream) -> None:
    if not stream.tasks:
        raise ValueError("the stream has no tasks; at least one is needed")
    if learner.ways != stream.ways:
        raise ValueError(f"the learner has heads of {learner.ways} classes, the stream tasks of {stream.ways}; use one")
    images, _ = next(iter(stream.tasks[0].test.minibatches(1)))
    outputs = learner.model.eval()(images).shape[1]
    if outputs != stream.classes:
        raise ValueError(
            f"the model has {outputs} outputs; the stream's {len(stream.tasks)} tasks of {stream.ways} classes need "
            f"{stream.classes}"
        )


def _finite(learner: Learner) -> bool:
    return all(bool(p.isfinite().all()) for p in learner.model.parameters())
