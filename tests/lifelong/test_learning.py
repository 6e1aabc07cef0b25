"""Streams are learnt, and learning that is interrupted inside a task goes on bit for bit."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from lookbehind import Lookahead, Lookbehind
from lookbehind.data import load
from lookbehind.lifelong import (
    Learner,
    Learnt,
    LookaheadCMAML,
    LookbehindCMAML,
    Replay,
    Reservoir,
    TaskStream,
    accuracies,
    average_accuracy,
    forgetting,
    learn,
    split,
)
from lookbehind.training import Epoch


@pytest.fixture(scope="module")
def stream() -> TaskStream:
    return split(load("digits", train=300, validation=300, stratified=True), tasks=3, ways=2)


def net(outputs: int = 6) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Dropout(0.1), nn.Linear(30, outputs))


def replay(optimizer: str, memory: int = 40) -> Learner:
    model = net()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    optimizers: dict[str, Callable[[], Any]] = {
        "sgd": lambda: base,
        "lookahead": lambda: Lookahead(base, k=4),
        "lookbehind": lambda: Lookbehind(base, rho=0.05),
    }
    return Replay(model, optimizers[optimizer](), Reservoir(memory), 2)


LEARNERS: dict[str, Callable[[], Learner]] = {
    "sgd": lambda: replay("sgd", memory=0),
    "er-lookahead": lambda: replay("lookahead"),
    "er-lookbehind": lambda: replay("lookbehind"),
    "lookahead-c-maml": lambda: LookaheadCMAML(net(), Reservoir(40), 2),
    "lookbehind-c-maml": lambda: LookbehindCMAML(net(), Reservoir(40), 2),
    "lookbehind-c-maml-each": lambda: LookbehindCMAML(net(), Reservoir(40), 2, draw="each"),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_interrupted_inside_a_task_it_ends_where_it_would_have_ended(name: str, stream: TaskStream) -> None:
    def run(stop: int | None) -> tuple[dict[str, Any], Learnt]:
        learner, learnt = LEARNERS[name](), Learnt()

        class Stop(Exception):
            pass

        saved = io.BytesIO()

        def on_epoch(epoch: Epoch) -> None:
            if len(learnt.epochs) == stop:
                torch.save({"learner": learner.state_dict(), "random": torch.get_rng_state()}, saved)
                raise Stop

        torch.manual_seed(1)
        try:
            learn(learner, stream, epochs=3, seed=2, on_epoch=on_epoch, learnt=learnt)
        except Stop:
            learner = LEARNERS[name]()
            with torch.no_grad():
                next(learner.model.parameters()).zero_()  # what is loaded counts
            state = torch.load(io.BytesIO(saved.getvalue()), weights_only=True)
            learner.load_state_dict(state["learner"])
            torch.manual_seed(77)
            torch.set_rng_state(state["random"])
            learn(learner, stream, epochs=3, seed=2, learnt=learnt)
        return learner.state_dict(), learnt

    whole, expected = run(None)
    for stop in (1, 5):
        state, learnt = run(stop)
        words = [tree_map_only(str, len, each) for each in (state, whole)]  # only numbers can be compared so
        torch.testing.assert_close(*words, rtol=0, atol=0)
        assert (learnt.matrix, learnt.validation, learnt.images) == (
            expected.matrix,
            expected.validation,
            expected.images,
        )
        for ours, theirs in zip(learnt.epochs, expected.epochs, strict=True):
            assert replace(ours, seconds=0.0) == replace(theirs, seconds=0.0)
    if name != "sgd":
        assert len(whole["memory"]["labels"]) == (18 if name.endswith("each") else 40)


@pytest.mark.parametrize("name", [name for name in LEARNERS if not name.endswith("each")])  # it uses few images
def test_tasks_are_learnt_and_memory_is_remembered(name: str, stream: TaskStream) -> None:
    learner, learnt, seen = LEARNERS[name](), Learnt(), []
    torch.manual_seed(1)
    assert learn(learner, stream, epochs=4, on_epoch=lambda _: seen.append(len(learnt.matrix)), learnt=learnt) is learnt
    assert seen == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]  # the row is there when the last epoch is told
    assert [len(row) for row in learnt.matrix + learnt.validation] == [3] * 6
    assert all(learnt.matrix[t][t] > 85 for t in range(3))
    assert average_accuracy(learnt.matrix) > (60 if name == "sgd" else 85)
    assert average_accuracy(learnt.validation) > (60 if name == "sgd" else 85)
    assert learnt.matrix[-1] == accuracies(learner, stream, "test")  # a Lookahead's slow weights stay in the model
    assert not learnt.diverged
    if name != "sgd":
        assert forgetting(learnt.matrix) < 12
    epochs = learnt.epochs
    assert all(e.lr == (0.1 if name in ("sgd", "er-lookahead", "er-lookbehind") else 0.03) for e in epochs)
    assert all(a.gradients < b.gradients and a.seconds < b.seconds for a, b in pairwise(epochs))
    assert all(math.isfinite(e.gradient_norm) and e.alpha is None for e in epochs)


def test_what_learning_costs(stream: TaskStream) -> None:
    """One gradient of every image; with a memory of each replayed one too: 10 a step, but for the first."""
    images = [len(task.train) for task in stream.tasks]
    steps = [math.ceil(n / 10) for n in images]
    learnt = learn(replay("sgd", memory=0), stream, epochs=2)
    assert learnt.images == 2 * sum(images)
    assert learnt.gradients == round(2 * sum(images) / 10)
    learnt = learn(replay("sgd"), stream, epochs=2)
    assert learnt.images == 2 * sum(images) + 10 * (2 * sum(steps) - 1)


def test_as_printed_an_epoch_has_one_meta_update(stream: TaskStream) -> None:
    learner = LookbehindCMAML(net(), Reservoir(40), 2, draw="each", meta_updates="epoch", push="every")
    counted = []
    observe = learner.observe
    learner.observe = lambda *a, **k: counted.append(len(a[1])) or observe(*a, **k)  # type: ignore[method-assign]
    learn(learner, stream, epochs=2, batch=2)
    assert counted == [4] * 6
    assert learner.memory.seen == 2 * 6


def test_every_epoch_has_an_order_of_its_own(stream: TaskStream) -> None:
    def orders(seed: int) -> list[list[int]]:
        learner, shown = LEARNERS["sgd"](), []
        observe = learner.observe
        learner.observe = lambda *a, **k: shown.extend(a[0].sum((1, 2, 3)).tolist()) or observe(*a, **k)  # type: ignore[method-assign]
        learn(learner, stream, epochs=2, seed=seed)
        sizes = [len(task.train) for task in stream.tasks for _ in range(2)]
        return [shown[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(6)]

    one, again, other = orders(0), orders(0), orders(1)
    assert one == again
    for i in range(6):
        assert one[i] != other[i]
        assert sorted(one[i]) == sorted(other[i])
    for i in (0, 2, 4):
        assert one[i] != one[i + 1]
        assert sorted(one[i]) == sorted(one[i + 1])


def test_a_memory_larger_than_the_stream_keeps_all_of_it(stream: TaskStream) -> None:
    learner = LookbehindCMAML(net(), Reservoir(5000), 2)
    learn(learner, stream, epochs=2)
    assert len(learner.memory) == sum(len(task.train) for task in stream.tasks)


def test_a_run_that_diverges_stops(stream: TaskStream) -> None:
    model = net()
    learner = Replay(model, torch.optim.SGD(model.parameters(), lr=1e30), Reservoir(10), 2, clip=None)
    learnt = learn(learner, stream, epochs=3)
    assert learnt.diverged
    assert len(learnt.epochs) < 9
    assert len(learnt.matrix) == 1


def test_mistakes(stream: TaskStream) -> None:
    with pytest.raises(ValueError, match="heads of 3 classes, the stream tasks of 2"):
        learn(LookbehindCMAML(net(), Reservoir(5), 3), stream)
    with pytest.raises(ValueError, match="epochs is 0"):
        learn(LEARNERS["sgd"](), stream, epochs=0)
    with pytest.raises(ValueError, match="the stream has no tasks"):
        learn(LEARNERS["sgd"](), TaskStream((), 2))
    with pytest.raises(TypeError, match="optimizer is 'sgd'; an instance"):
        Replay(net(), "sgd", Reservoir(5), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the model has 4 outputs; the stream's 3 tasks of 2 classes need 6"):
        learn(LookbehindCMAML(net(4), Reservoir(5), 2), stream)
