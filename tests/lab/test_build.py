"""From descriptions to what trains: methods, learning rates, and a change of method that keeps momentum."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lookbehind.data import DATASETS, load
from lookbehind.data.published import Published
from lookbehind.lab import Method, NoiseSettings, Run, Store, Workload, build, execute
from lookbehind.lab.build import data_of, segments, trainer_of
from lookbehind.lab.estimate import gradients
from lookbehind.optim import SAM, Adaptive, Euclidean, Lookahead, Lookbehind, MultistepSAM
from lookbehind.training import fit

TINY = Workload(
    dataset="digits", model="convnet", train=40, validation=10, test=10, batch=16, epochs=4, schedule="constant"
)
SAM_ = {"perturbation": "sam", "rho": 0.1}
METHODS = {
    "sgd": (Method(kind="base"), torch.optim.SGD, 1),
    "sam": (Method(kind="sam", **SAM_), SAM, 2),
    "asam": (Method(kind="sam", perturbation="asam", rho=1.0), SAM, 2),
    "multistep": (Method(kind="multistep", k=3, gather="last", **SAM_), MultistepSAM, 4),
    "multistep, mean": (Method(kind="multistep", k=2, gather="mean", **SAM_), MultistepSAM, 3),
    "lookahead": (Method(kind="lookahead", k=2, alpha=0.5), Lookahead, 1),
    "lookahead-sam": (Method(kind="lookahead", k=2, alpha=0.5, **SAM_), Lookahead, 2),
    "lookbehind": (Method(kind="lookbehind", k=2, alpha=0.5, **SAM_), Lookbehind, 3),
    "adaptive": (Method(kind="lookbehind", k=2, alpha="adaptive", **SAM_), Lookbehind, 3),
    "per tensor": (Method(kind="lookbehind", k=2, alpha="adaptive_per_tensor", **SAM_), Lookbehind, 3),
}


def trainer(run: Run):
    return trainer_of(run, data_of(run, "cpu"), "cpu")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_built_and_spends_its_gradients(name: str) -> None:
    method, kind, per_step = METHODS[name]
    run = Run(workload=TINY, method=method)
    built = trainer(run)
    assert type(built.optimizer) is kind
    before = [p.detach().clone() for p in built.model.parameters()]
    batches = data_of(run, "cpu").train.shuffled(16)
    history = fit(built.model, built.optimizer, batches, epochs=2)
    assert history.gradients == 2 * 3 * per_step == 2 * 3 * method.gradients
    assert not any(torch.equal(p, b) for p, b in zip(built.model.parameters(), before, strict=True) if p.ndim > 1)
    assert (history.epochs[0].alpha is not None) == isinstance(method.alpha, str)


def test_the_memory_format_is_of_the_recipe(tmp_path) -> None:
    one, last = (
        Run(workload=TINY.model_copy(update={"channels_last": which}), method=METHODS["sam"][0])
        for which in (False, True)
    )
    assert one.address != last.address
    for run in (one, last):
        weight = trainer(run).model.features[4].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == run.workload.channels_last
    store, noise = Store(tmp_path), NoiseSettings(sigmas=(0.3,), draws=2)
    losses = [[record.loss for record in execute(run, store, [noise]).records] for run in (one, last)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert store.measured(last, noise)["means"]


def test_a_run_switches_minibatches_and_its_cost_is_known(tmp_path) -> None:
    method = Method(kind="lookbehind", k=2, alpha=0.5, switching=True, **SAM_)
    run = Run(workload=TINY, method=method)  # 3 minibatches an epoch, of which one is left out
    assert gradients(run) == execute(run, Store(tmp_path)).gradients == 4 * 2 * 2
    with pytest.raises(ValueError, match="only lookbehind can switch"):
        Method(kind="sam", switching=True, **SAM_)


def test_runs_of_many_seeds_read_their_data_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = DATASETS["digits"].read
    reads: list[int] = []

    def counted(folder: Path, size: int) -> Published:
        reads.append(size)
        return read(folder, size)

    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], read=counted))
    build.loaded.cache_clear()
    build._source.cache_clear()
    runs = [
        Run(workload=TINY.model_copy(update={"noise": 0.5}), method=Method(kind="base"), seed=seed) for seed in range(5)
    ]
    found = [data_of(run, "cpu") for run in runs]
    assert reads == [8]
    for seed, data in enumerate(found):
        alone = load("digits", seed=seed, train=40, validation=10, test=10, noise=0.5)
        assert data.selection == alone.selection
        for part in ("train", "validation", "test"):
            for one, other in zip(getattr(data, part).tensors(), getattr(alone, part).tensors(), strict=True):
                assert torch.equal(one, other)


def test_settings_arrive_where_they_belong() -> None:
    lookbehind = trainer(Run(workload=TINY, method=METHODS["lookbehind"][0])).optimizer
    group = lookbehind.param_groups[0]
    assert (lookbehind.k, group["rho"], group["alpha"]) == (2, 0.1, 0.5)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 1e-4)
    assert isinstance(lookbehind.perturbation, Euclidean)
    assert lookbehind.model is None

    mean = trainer(Run(workload=TINY, method=METHODS["multistep, mean"][0])).optimizer
    assert mean.gradient == "mean"

    both = {"perturbation": "asam", "rho": 1.0, "eta": 0.02, "unperturbed_statistics": True}
    outer = trainer(Run(workload=TINY, method=Method(kind="lookahead", k=5, alpha=0.2, **both)))
    assert isinstance(outer.optimizer.base, SAM)
    assert outer.optimizer.base.model is outer.model
    assert isinstance(outer.optimizer.base.perturbation, Adaptive)
    assert outer.optimizer.base.perturbation.eta == 0.02
    assert outer.optimizer.base.perturbation.scaled is None
    assert (outer.optimizer.k, outer.base.param_groups[0]["alpha"]) == (5, 0.2)

    divided = trainer(Run(workload=TINY, method=Method(kind="lookbehind", k=4, alpha=1.0, divided=True, **SAM_)))
    assert divided.base.param_groups[0]["rho"] == 0.1 / 4
    faster = trainer(Run(workload=TINY, method=Method(kind="sam", rate=1.6, **SAM_)))
    assert faster.base.param_groups[0]["lr"] == 0.1 * 1.6


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (trainer(Run(workload=TINY, method=Method(kind="base"), seed=seed)) for seed in (1, 1, 2))
    a, b, c = (torch.cat([p.flatten() for p in t.model.parameters()]) for t in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"schedule": "constant"}, lambda epoch: 1.0),
        ({"schedule": "cosine"}, lambda epoch: (1 + math.cos(math.pi * epoch / 6)) / 2),
        ({"schedule": "steps", "milestones": (2, 5)}, lambda epoch: 0.1 ** ((epoch >= 2) + (epoch >= 5))),
        ({"schedule": "steps", "milestones": (3,), "factor": 0.5}, lambda epoch: 0.5 ** (epoch >= 3)),
    ],
)
def test_learning_rates(recipe, expected) -> None:
    workload = TINY.model_copy(update={"epochs": 6, "lr": 0.2, **recipe})
    built = trainer(Run(workload=workload, method=Method(kind="sam", rate=2.0, **SAM_)))
    batches = [(torch.randn(4, 1, 8, 8), torch.arange(4))]
    history = fit(built.model, built.optimizer, batches, epochs=6, scheduler=built.scheduler)
    assert [e.lr for e in history.epochs] == pytest.approx([0.2 * 2.0 * expected(epoch) for epoch in range(6)])


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
def test_a_change_of_method_keeps_momentum_and_schedule(schedule: str) -> None:
    workload = TINY.model_copy(update={"epochs": 6, "schedule": schedule, "milestones": (1, 4)})
    first, later = Method(kind="sam", **SAM_), Method(kind="lookbehind", perturbation="sam", rho=0.3, k=2, alpha=0.5)
    built = trainer(Run(workload=workload, method=first, later=later, switch=2))
    plain = trainer(Run(workload=workload, method=first))
    batches = [(torch.randn(4, 1, 8, 8), torch.arange(4))]
    history = fit(built.model, built.optimizer, batches, epochs=2, scheduler=built.scheduler)
    buffers = [built.base.state[p]["momentum_buffer"] for p in built.model.parameters()]
    assert all(b.abs().sum() > 0 for b in buffers)
    built.change(later)
    after = [built.base.state[p]["momentum_buffer"] for p in built.model.parameters()]
    assert all(b is a for b, a in zip(buffers, after, strict=True))
    group = built.optimizer.param_groups[0]
    assert (type(built.optimizer), group["rho"], group["alpha"]) == (Lookbehind, 0.3, 0.5)  # not the ρ of before
    fit(built.model, built.optimizer, batches, epochs=6, scheduler=built.scheduler, history=history)
    never = fit(plain.model, plain.optimizer, batches, epochs=6, scheduler=plain.scheduler)
    assert [e.lr for e in history.epochs] == [e.lr for e in never.epochs]
    assert history.gradients == 2 * 2 + 4 * 3


def test_a_change_of_method_changes_the_rate_with_it() -> None:
    workload = TINY.model_copy(update={"epochs": 6, "schedule": "cosine"})
    first, later = Method(kind="sam", rate=2.0, **SAM_), Method(kind="base", rate=0.5)
    built = trainer(Run(workload=workload, method=first, later=later, switch=2))
    batches = [(torch.randn(4, 1, 8, 8), torch.arange(4))]
    history = fit(built.model, built.optimizer, batches, epochs=2, scheduler=built.scheduler)
    built.change(later)
    fit(built.model, built.optimizer, batches, epochs=6, scheduler=built.scheduler, history=history)
    factors = [2.0] * 2 + [0.5] * 4
    cosine = [(1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert [e.lr for e in history.epochs] == pytest.approx([0.1 * f * c for f, c in zip(factors, cosine, strict=True)])


def test_segments() -> None:
    sam, sgd = Method(kind="sam", **SAM_), Method(kind="base")
    assert segments(Run(workload=TINY, method=sam)) == [(sam, 4)]
    switched = {s: segments(Run(workload=TINY, method=sam, later=sgd, switch=s)) for s in (0, 1, 4)}
    assert switched == {0: [(sgd, 4)], 1: [(sam, 1), (sgd, 4)], 4: [(sam, 4)]}


def test_label_smoothing_and_data_that_runs_share() -> None:
    from lookbehind.lab.build import loss_of

    logits, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    log = logits.log_softmax(1)[0]
    smooth = loss_of(TINY.model_copy(update={"label_smoothing": 0.3}))(logits, labels)
    torch.testing.assert_close(smooth, -(0.7 * log[0] + 0.3 * log.mean()))
    one, other = Run(workload=TINY, method=Method(kind="base")), Run(workload=TINY, method=Method(kind="sam", **SAM_))
    assert data_of(one, "cpu") is data_of(other, "cpu")
    assert data_of(one.model_copy(update={"seed": 1}), "cpu") is not data_of(one, "cpu")
