"""A data set as a stream of tasks, each with classes of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lookbehind._checks import count
from lookbehind.data import Data, Part
from lookbehind.lifelong.brightness import Brightness


@dataclass(frozen=True, eq=False)
class Task:
    """Images of a task's classes. Labels are those of the stream: task t's are t·ways to (t + 1)·ways − 1."""

    classes: tuple[int, ...]  # of the data set, in the order of their labels
    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True, eq=False)
class TaskStream:
    """Tasks in the order in which they are learnt."""

    tasks: tuple[Task, ...]
    ways: int

    @property
    def classes(self) -> int:
        """Return how many outputs a model needs: tasks × ways."""
        return len(self.tasks) * self.ways


def split(data: Data, tasks: int, ways: int, *, seed: int = 0, brightness: float = 0.0) -> TaskStream:
    """Divide the classes of a data set into tasks of ``ways`` classes each, in a seeded order.

    Split-CIFAR100 is ``split(data, 20, 5)``, Split-TinyImageNet ``split(data, 40, 5)`` (appendix A.6 of Mordido et al.,
    2024). Classes that are left over are left out.

    Args:
        data: a data set; hold out images of each class with ``load(..., stratified=True)``.
        tasks: number of tasks.
        ways: classes a task.
        seed: decides the order of the classes. Default 0.
        brightness: in training, images are multiplied by a random factor in 1 ± ``brightness``; 63 / 255 in the code of
            Gupta et al. (2020) for CIFAR-100. Default 0.

    Returns:
        A ``TaskStream``.

    Raises:
        TypeError: if a number is no whole number.
        ValueError: if there are not enough classes, or a class or task has no images.

    Example:
        >>> from lookbehind.data import load
        >>> stream = split(load("digits", stratified=True), tasks=5, ways=2)
        >>> len(stream.tasks), stream.tasks[1].train.labels.unique().tolist()
        (5, [2, 3])

    """
    count("tasks", tasks), count("ways", ways)
    if tasks * ways > len(data.classes):
        raise ValueError(
            f"tasks is {tasks} and ways {ways}: {tasks * ways} classes are needed and there are {len(data.classes)}; "
            "ask for fewer"
        )
    order = torch.randperm(len(data.classes), generator=torch.Generator().manual_seed(seed))
    held_out = len(data.validation) > 0
    found = []
    for t in range(tasks):
        classes = order[t * ways : (t + 1) * ways].tolist()
        parts = [_of_classes(part, classes, t * ways) for part in (data.train, data.validation, data.test)]
        task = Task(tuple(classes), *parts)
        _check(task, t, data.classes, held_out)
        if brightness:
            task = replace(task, train=replace(task.train, pixels=Brightness(task.train.pixels, brightness)))
        found.append(task)
    return TaskStream(tuple(found), ways)


def _of_classes(part: Part, classes: Sequence[int], first: int) -> Part:
    """Return the images of some classes, labelled from ``first`` on."""
    labels = torch.full_like(part.labels, -1)
    for i, c in enumerate(classes):
        labels[part.labels == c] = first + i
    index = (labels >= 0).nonzero().squeeze(1)
    return Part(part.pixels[index], labels[index], part.normalisation)


def _check(task: Task, number: int, names: Sequence[str], held_out: bool) -> None:
    lacking = set(range(len(task.classes))) - set((task.train.labels - number * len(task.classes)).tolist())
    if lacking:
        name = names[task.classes[min(lacking)]]
        raise ValueError(
            f"class {name!r} of task {number} has no training images; take more of them, or take them stratified"
        )
    for part, wanted in (("test", True), ("validation", held_out)):
        if wanted and not len(getattr(task, part)):
            raise ValueError(f"task {number} has no {part} images; take more of them, or take them stratified")
