"""Streams in the lab: settings, killed and resumed inside a task, numbers, cost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lookbehind.data import load
from lookbehind.lab import Method, Run, Store, execute
from lookbehind.lab.cell import Candidate, Cell, evaluate
from lookbehind.lab.estimate import TWO_CORES, gradients, seconds
from lookbehind.lab.metrics import gradient_evaluations
from lookbehind.lab.metrics_lifelong import (
    average_accuracy_after,
    chosen_value,
    final_accuracy,
    final_backward_transfer,
    final_forgetting,
    final_validation_accuracy,
    task_accuracy,
)
from lookbehind.lab.result import Record, Result
from lookbehind.lab.stream import CMAML, Stream
from lookbehind.lab.work import IMAGES, work
from lookbehind.lab.workloads import fetch, training
from lookbehind.lab.workloads.lifelong import Lifelong, learner_of
from lookbehind.lifelong import Learner, LookaheadCMAML, LookbehindCMAML, Replay, Reservoir, learn, split
from lookbehind.models import build
from lookbehind.optim import SAM, Lookbehind, MultistepSAM
from tests.lab.known import Known
from tests.lab.runs import numbers

STREAM = Stream(
    dataset="digits", model="lifelong-conv2", tasks=3, ways=2, train=200, validation=100, test=100, epochs=3, lr=0.05
)
REPLAYED = STREAM.model_copy(update={"memory": 20})
META = STREAM.model_copy(update={"memory": 20, "cmaml": CMAML()})
CLIMB: dict[str, Any] = {"perturbation": "sam", "rho": 0.05}
SGD = Method(kind="base")
METHODS: dict[str, tuple[Stream, Method, Callable[[torch.nn.Module], Learner]]] = {
    "sgd": (STREAM, SGD, lambda m: Replay(m, torch.optim.SGD(m.parameters(), lr=0.05), Reservoir(0), 2)),
    "sgd-momentum": (
        STREAM.model_copy(update={"momentum": 0.9, "weight_decay": 1e-3}),
        SGD,
        lambda m: Replay(m, torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3), Reservoir(0), 2),
    ),
    "er-sam": (
        REPLAYED,
        Method(kind="sam", **CLIMB),
        lambda m: Replay(m, SAM(torch.optim.SGD(m.parameters(), lr=0.05), rho=0.05), Reservoir(20), 2),
    ),
    "er-multistep": (
        REPLAYED,
        Method(kind="multistep", k=2, gather="last", **CLIMB),
        lambda m: Replay(m, MultistepSAM(torch.optim.SGD(m.parameters(), lr=0.05), 0.05, 2), Reservoir(20), 2),
    ),
    "er-lookbehind": (
        REPLAYED,
        Method(kind="lookbehind", k=3, alpha=0.4, **CLIMB),
        lambda m: Replay(m, Lookbehind(torch.optim.SGD(m.parameters(), lr=0.05), 0.05, 3, 0.4), Reservoir(20), 2),
    ),
    "lookahead-c-maml": (
        META,
        Method(kind="lookahead", k=5, alpha=1.0),
        lambda m: LookaheadCMAML(m, Reservoir(20), 2, lr=0.05),
    ),
    "lookbehind-c-maml": (
        META,
        Method(kind="lookbehind", k=2, alpha=0.7, **CLIMB),
        lambda m: LookbehindCMAML(m, Reservoir(20), 2, lr=0.05, rho=0.05, k=2, alpha=0.7),
    ),
}


def run_of(name: str, seed: int = 3) -> Run:
    workload, method, _ = METHODS[name]
    return Run(workload=workload, method=method, seed=seed)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_equals_the_package_used_by_hand(name: str, tmp_path: Path) -> None:
    result = execute(run_of(name), Store(tmp_path))
    data = load("digits", seed=3, train=200, validation=100, test=100, stratified=True)
    stream = split(data, 3, 2, seed=3)
    torch.manual_seed(3)
    model = build("lifelong-conv2", channels=1, classes=6)
    learner = METHODS[name][2](model)
    like = training(run_of(name), "cpu")
    assert isinstance(like, Lifelong)
    learner.memory._generator.set_state(like.learner.memory._generator.get_state())  # whose seed is the lab's own
    learnt = learn(learner, stream, epochs=3, seed=3)
    assert [r.tasks for r in result.records if r.tasks] == learnt.matrix
    assert [r.validation_tasks for r in result.records if r.validation_tasks] == learnt.validation
    assert [bool(r.tasks) for r in result.records] == [False, False, True] * 3
    assert [r.loss for r in result.records] == [e.loss for e in learnt.epochs]
    assert [r.test for r in result.records[2::3]] == [learnt.matrix[t][t] for t in range(3)]
    assert result.gradients == learnt.gradients
    weights = Store(tmp_path).weights(run_of(name))
    assert weights is not None
    torch.testing.assert_close(weights, dict(model.state_dict()), rtol=0, atol=0)
    assert result.data["tasks"] == [[str(c) for c in task.classes] for task in stream.tasks]


def killed(root: str, name: str, epochs: int) -> None:
    """Execute a run, and be killed in the middle of what follows the so-manieth epoch."""
    torch.set_num_threads(1)

    def on_epoch(record: Record) -> None:
        if record.epoch == epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    execute(run_of(name), Store(root), on_epoch=on_epoch, save_every=0.0)


@pytest.mark.parametrize("name", ["er-lookbehind", "lookahead-c-maml", "lookbehind-c-maml"])
def test_killed_inside_a_task_it_ends_bit_for_bit(name: str, tmp_path: Path, forked: Any) -> None:
    run, whole, disturbed = run_of(name), Store(tmp_path / "whole"), Store(tmp_path / "disturbed")
    expected = execute(run, whole)
    for epochs in (2, 4):  # inside the first task and inside the second
        process = forked.Process(target=killed, args=(str(tmp_path / "disturbed"), name, epochs))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        checkpoint = disturbed.checkpoint(run)
        assert checkpoint is not None
        assert len(checkpoint["records"]) == epochs
        assert len(checkpoint["training"]["learner"]["memory"]["labels"]) == 20
    assert numbers(execute(run, disturbed)) == numbers(expected)


def test_random_numbers_of_the_memory_depend_on_the_seed() -> None:
    states = [
        learner_of(REPLAYED, SGD, torch.nn.Linear(2, 6), seed).memory.state_dict()["generator"] for seed in (0, 0, 1)
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_every_option_arrives() -> None:
    changed = META.model_copy(
        update={
            "clip": None,
            "push": "every",
            "replay": 3,
            "replacement": False,
            "cmaml": CMAML(
                second_order=False, ascent="fast", meta_point="slow", draw="each", meta_updates="epoch", clamp=None
            ),
        }
    )
    learner = learner_of(changed, METHODS["lookbehind-c-maml"][1], torch.nn.Linear(2, 6), 0)
    assert isinstance(learner, LookbehindCMAML)
    assert (learner.eta, learner.rho, learner.k, learner.alpha) == (0.05, 0.05, 2, 0.7)
    assert (learner.clip, learner.clamp, learner.push, learner.replay) == (None, None, "every", 3)
    assert (learner.second_order, learner.ascent, learner.meta_point) == (False, "fast", "slow")
    assert (learner.minibatches, learner.once_an_epoch, learner.memory.replacement) == (2, True, False)
    changed = META.model_copy(update={"cmaml": CMAML(meta_loss="slow")})
    ahead = learner_of(changed, METHODS["lookahead-c-maml"][1], torch.nn.Linear(2, 6), 0)
    assert isinstance(ahead, LookaheadCMAML)
    assert (ahead.meta_loss, ahead.push, ahead.clip, ahead.clamp, ahead.k) == ("slow", "first", 2.0, 2.0, 5)
    replay = learner_of(REPLAYED, SGD, torch.nn.Linear(2, 6), 0)
    assert isinstance(replay, Replay)
    assert (replay.push, replay.clip, replay.memory.capacity) == ("every", 2.0, 20)


def test_a_method_that_asks_for_the_steps_of_all_tasks_gets_them() -> None:
    """SWA starts after half of them."""
    from lookbehind.league import rivals

    run = Run(workload=STREAM, method=Method(kind="swa", options={"start": 0.5}), seed=1)
    trained = training(run, "cpu")
    assert isinstance(trained, Lifelong)
    swa: Any = trained.learner.optimizer
    assert isinstance(swa, rivals.Averaged)
    trained.train(lambda record: None)
    assert swa.first == round(0.5 * swa.steps)


def test_c_maml_takes_no_momentum() -> None:
    with pytest.raises(ValidationError, match="C-MAML has steps of its own"):
        Run(workload=META.model_copy(update={"momentum": 0.9}), method=METHODS["lookbehind-c-maml"][1])


@pytest.mark.parametrize("name", METHODS)
def test_descriptions_come_back_from_plain_values(name: str) -> None:
    run = run_of(name)
    assert Run.model_validate(run.model_dump(mode="json")) == run
    assert len({run_of(n).address for n in METHODS}) == len(METHODS)


@pytest.mark.parametrize(
    ("workload", "method", "match"),
    [
        (META, SGD, "the method is 'base'; C-MAML exists with lookahead and with lookbehind sam"),
        (META, Method(kind="lookahead", k=2, alpha=0.5), "alpha is 0.5; Lookahead-C-MAML has no outer step size"),
        (META, Method(kind="lookbehind", k=2, alpha="adaptive", **CLIMB), "has perturbation sam and a fixed alpha"),
        (META, Method(kind="lookbehind", k=2, alpha=0.5, rho=1, perturbation="asam"), "has perturbation sam and"),
        (META, Method(kind="lookahead", k=2, alpha=1.0, **CLIMB), "C-MAML exists with lookahead and with"),
        (STREAM, Method(kind="lookbehind", k=2, alpha=0.5, switching=True, **CLIMB), "all gradients of a step are on"),
        (STREAM, Method(kind="sam", rate=2.0, **CLIMB), "a stream has a learning rate of its own"),
    ],
)
def test_methods_that_do_not_fit(workload: Stream, method: Method, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Run(workload=workload, method=method)


def test_data_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKBEHIND_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="dataset is 'mnist'"):
        fetch(STREAM.model_copy(update={"dataset": "mnist"}))
    with pytest.raises(ValueError, match="tasks is 6 and ways 2: 12 classes are needed and there are 10"):
        training(Run(workload=STREAM.model_copy(update={"tasks": 6}), method=SGD), "cpu")
    with pytest.raises(ValueError, match="has one method from beginning to end"):
        training(Run(workload=STREAM, method=SGD, later=SGD, switch=1), "cpu")


@pytest.mark.parametrize("name", METHODS)
def test_the_estimate_is_what_a_run_costs(name: str, tmp_path: Path) -> None:
    """But for the first minibatch, before which there is nothing to replay, and last ones that are smaller."""
    run = run_of(name)
    result = execute(run, Store(tmp_path))
    assert gradients(run) == pytest.approx(result.gradients, rel=0.05)
    assert seconds(run, (), TWO_CORES) > 0


def test_the_work_of_the_papers_streams() -> None:
    cifar = Stream(dataset="cifar100", model="lifelong-conv3", tasks=20, ways=5, lr=0.1)
    tiny = Stream(dataset="tiny-imagenet", model="lifelong-conv4", tasks=40, ways=5, lr=0.1)
    for stream, classes in ((cifar, 100), (tiny, 200)):
        needed = work(Run(workload=stream, method=SGD))
        assert (needed.examples, needed.minibatches) == (2250, 225)
        assert needed.epochs == stream.tasks * 10
        assert gradients(Run(workload=stream, method=SGD)) == stream.tasks * 10 * 225
        assert IMAGES[stream.dataset].classes == classes
    assert work(Run(workload=cifar, method=SGD)).flops() == 2 * (
        160 * 27 * 16**2 + 160 * 1440 * (8**2 + 4**2) + 2560 * 320 + 320 * 320 + 320 * 100
    )


def result_of(test: list[tuple[float, ...]], validation: list[tuple[float, ...]]) -> Result:
    records = []
    for i in range(2 * len(test)):
        last = i % 2 == 1
        records.append(
            Record(
                epoch=i + 1, loss=1.0, accuracy=50.0, gradient_norm=1.0, alpha=None, lr=0.1, gradients=10 * i,
                seconds=1.0, validation=None, test=50.0, tasks=test[i // 2] if last else (),
                validation_tasks=validation[i // 2] if last and validation else (),
            )
        )  # fmt: skip
    data = {"setting": {"η": 0.1, "ρ": None, "k": 2, "α": 0.5}}
    return Result(status="finished", records=tuple(records), weights="", data=data, environments=())


def test_metrics_by_hand() -> None:
    test = [(90.0, 40.0, 50.0), (70.0, 80.0, 60.0), (60.0, 75.0, 95.0)]
    result = result_of(test, [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0)])
    assert final_accuracy().of(result, {}) == ((60 + 75 + 95) / 3,)
    assert final_validation_accuracy().of(result, {}) == (8.0,)
    assert final_forgetting().of(result, {}) == (((90 - 60) + (80 - 75)) / 2,)
    assert final_backward_transfer().of(result, {}) == (((60 - 90) + (75 - 80)) / 3,)
    assert average_accuracy_after(2).of(result, {}) == (75.0,)
    assert task_accuracy(after=2, on=3).of(result, {}) == (60.0,)
    assert gradient_evaluations().of(result, {}) == (50.0,)
    assert [chosen_value(s).of(result, {}) for s in "ηρkα"] == [(0.1,), (), (2.0,), (0.5,)]
    without = result_of(test[:1], [])
    assert final_validation_accuracy().of(without, {}) == ()
    assert final_forgetting().of(without, {}) == ()


def test_the_setting_is_chosen_on_held_out_images() -> None:
    known, candidates = Known(), []
    for label, test, validation in (("a", 90.0, 10.0), ("b", 60.0, 20.0)):
        run = Run(workload=STREAM.model_copy(update={"lr": test}), method=SGD)
        known.results[run] = result_of([(test, 0.0), (test, test)], [(1.0, 1.0), (validation, validation)])
        candidates.append(Candidate(label, (run,)))
    honest = Cell(tuple(candidates), final_accuracy(), final_validation_accuracy())
    assert evaluate(honest, known).winner is candidates[1]
    assert evaluate(honest, known).mean == 60.0
    assert evaluate(Cell(tuple(candidates), final_accuracy(), final_accuracy()), known).mean == 90.0
