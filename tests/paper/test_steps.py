"""Every training of scale paper can be built, at its full size, and takes a step."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
import torch

from lookbehind.lab.build import loss_of, scheduler_of, trainer_of
from lookbehind.lab.method import Method
from lookbehind.lab.report import tasks
from lookbehind.lab.run import Run, Workload
from lookbehind.lab.work import IMAGES
from lookbehind.paper import ITEMS


@dataclass(frozen=True)
class Shape:
    """What a model has to know of data."""

    channels: int
    classes: tuple[str, ...]


def trainings() -> dict[tuple[str, str], dict[Method, Run]]:
    """Return a run for each model and method of all items: beyond that, runs differ in seeds and epochs."""
    found: dict[tuple[str, str], dict[Method, Run]] = {}
    for item in ITEMS.values():
        for run, _ in tasks(item.at("paper").parts):
            if isinstance(run.workload, Workload):
                methods = {run.method_at(0), run.method_at(run.workload.epochs - 1)}
                key = (run.workload.dataset, run.workload.model)
                found.setdefault(key, {}).update(dict.fromkeys(methods, run))
    return found


def without_numbers(method: Method) -> tuple[object, ...]:
    """Return what decides which code a method runs through."""
    adaptive = isinstance(method.alpha, str) and method.alpha
    return method.kind, method.gather, adaptive, method.divided


TRAININGS = trainings()
EVERY = os.environ.get("EVERY_STEP") == "1"  # else one for each way through the code: 5 minutes less


def test_they_are_all_here() -> None:
    assert {"resnet34", "wrn-28-2", "resnet50", "wrn-28-10", "resnet18"} <= {model for _, model in TRAININGS}
    assert sum(map(len, TRAININGS.values())) > 250


@pytest.mark.parametrize("key", TRAININGS)
@pytest.mark.timeout(3600)
def test_a_step_of_each(key: tuple[str, str]) -> None:
    channels, classes = IMAGES[key[0]].channels, IMAGES[key[0]].classes
    torch.manual_seed(0)
    inputs, targets = torch.randn(2, channels, 8, 8), torch.randint(classes, (2,))
    shape = Shape(channels, tuple(map(str, range(classes))))
    chosen = TRAININGS[key]
    if not EVERY:
        chosen = dict({without_numbers(method): (method, run) for method, run in chosen.items()}.values())
    for method, run in chosen.items():
        built = trainer_of(run.model_copy(update={"method": method, "later": None, "switch": None}), shape, "cpu")
        before = [p.detach().clone() for p in built.model.parameters()]
        loss, spent = loss_of(run.workload), 0

        def closure() -> torch.Tensor:
            nonlocal spent
            built.optimizer.zero_grad()  # noqa: B023
            value = loss(built.model(inputs), targets)  # noqa: B023
            value.backward()
            spent += 1
            return value

        built.optimizer.step(closure)
        scheduler_of(run.workload, built.base).step()
        assert spent == method.gradients
        assert all(p.isfinite().all() for p in built.model.parameters())
        # Lookahead's slow weights have not moved after one step, but what the model holds has.
        assert any(not torch.equal(p, b) for p, b in zip(built.model.parameters(), before, strict=True))
