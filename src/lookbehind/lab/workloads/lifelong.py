"""Lifelong learning: a stream of tasks, replay around any method, C-MAML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD

from lookbehind.data import default_root
from lookbehind.data.parts import mixed_seed
from lookbehind.lab.build import Steps, fetched, loaded, optimizer_of
from lookbehind.lab.method import Method
from lookbehind.lab.run import Run
from lookbehind.lab.stream import Stream
from lookbehind.lab.workloads.trainer import EpochTrainer
from lookbehind.lifelong import Learner, Learnt, LookaheadCMAML, LookbehindCMAML, Replay, Reservoir, learn, split
from lookbehind.lifelong.learner import task_accuracy
from lookbehind.models import build
from lookbehind.training import Epoch


def fetch(workload: Stream) -> None:
    """Get the data."""
    fetched(workload.dataset, default_root())


def training(run: Run, device: str) -> Lifelong:
    """Return the training of a run."""
    return Lifelong(run, device)


class Lifelong(EpochTrainer):
    """The training of a stream. It can be interrupted after each epoch, also inside a task."""

    def __init__(self, run: Run, device: str) -> None:
        stream = run.workload
        assert isinstance(stream, Stream)
        self.workload, self.seed = stream, run.seed
        data = loaded(
            stream.dataset,
            default_root(),
            device,
            seed=run.seed,
            train=stream.train,
            validation=stream.validation,
            test=stream.test,
            stratified=True,  # of each class the same share held out
            size=stream.size,
        )
        self.stream = split(data, stream.tasks, stream.ways, seed=run.seed, brightness=stream.brightness)
        self.data = data.to_dict() | {
            "tasks": [[data.classes[c] for c in task.classes] for task in self.stream.tasks],
            "setting": {"η": stream.lr, "ρ": run.method.rho, "k": run.method.k, "α": run.method.alpha},
        }
        torch.manual_seed(run.seed)
        self.model = build(stream.model, channels=data.channels, classes=self.stream.classes).to(device)
        images = [len(task.train) for task in self.stream.tasks]
        steps = stream.epochs * sum(-(-n // stream.batch) for n in images)
        self.learner = learner_of(stream, run.method, self.model, run.seed, lambda: steps)
        self.history: Learnt = Learnt()

    def fit(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Learn to the end of the stream."""
        learn(
            self.learner,
            self.stream,
            epochs=self.workload.epochs,
            batch=self.workload.batch,
            seed=self.seed,
            augment=self.workload.augment,
            on_epoch=on_epoch,
            learnt=self.history,
        )

    def scores(self) -> dict[str, Any]:
        """Return accuracies on the task at hand, and where it ends on every task."""
        number, epoch = divmod(len(self.history.epochs) - 1, self.workload.epochs)
        if epoch == self.workload.epochs - 1 or self.diverged:
            test, validation = self.history.matrix[-1], self.history.validation[-1] if self.history.validation else ()
            scores = {"test": test[number], "validation": validation[number] if validation else None}
            return scores | {"tasks": test, "validation_tasks": validation}
        task, ways = self.stream.tasks[number], self.stream.ways
        with self.learner.evaluation():
            return {
                name: task_accuracy(self.model, part.minibatches(256), number, ways) if len(part) else None
                for name, part in (("test", task.test), ("validation", task.validation))
            }

    def parts(self) -> dict[str, Any]:
        """Return the learner, with its memory."""
        return {"learner": self.learner}


def learner_of(stream: Stream, method: Method, model: nn.Module, seed: int, steps: Steps = None) -> Learner:
    """Return the learner of a stream: replay around the method's optimizer, or C-MAML."""
    memory = Reservoir(stream.memory, seed=mixed_seed(seed, "memory"), replacement=stream.replacement)
    if stream.cmaml is None:
        base = SGD(model.parameters(), lr=stream.lr, momentum=stream.momentum, weight_decay=stream.weight_decay)
        optimizer = optimizer_of(method, base, model, steps)
        push = stream.push or "every"
        return Replay(model, optimizer, memory, stream.ways, replay=stream.replay, clip=stream.clip, push=push)
    given: dict[str, Any] = {
        "lr": stream.lr,
        "k": method.k,
        "replay": stream.replay,
        "clip": stream.clip,
        "push": stream.push or "first",
        **stream.cmaml.model_dump(include={"second_order", "clamp"}),
    }
    if method.kind == "lookahead":
        return LookaheadCMAML(model, memory, stream.ways, meta_loss=stream.cmaml.meta_loss, **given)
    given |= stream.cmaml.model_dump(include={"ascent", "meta_point", "draw", "meta_updates"})
    return LookbehindCMAML(model, memory, stream.ways, **given, **method.model_dump(include={"rho", "alpha"}))
