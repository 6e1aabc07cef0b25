"""The declarations of the league: equal budgets, equal trials, and runs that can be built and stepped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lookbehind.cli import main
from lookbehind.lab import Store
from lookbehind.lab.cell import evaluate
from lookbehind.lab.lookup import Remembered
from lookbehind.lab.metrics import noisy_accuracy_at
from lookbehind.lab.metrics_lifelong import final_forgetting
from lookbehind.lab.work import IMAGES
from lookbehind.lab.workloads import training
from lookbehind.league import study
from lookbehind.league.entrants import ENTRANTS, WHEN
from lookbehind.league.items import reported
from lookbehind.league.tasks import tasks
from lookbehind.methods import METHODS
from lookbehind.models import build

ALL = {**ENTRANTS, **WHEN}


def test_every_method_takes_part() -> None:
    kinds = {entrant.kind for entrant in ENTRANTS.values()}
    assert METHODS.keys() - {"multistep_sam"} <= kinds  # which the lab calls multistep
    assert "multistep" in kinds


@pytest.mark.parametrize("name", ALL)
def test_eight_settings_that_differ(name: str) -> None:
    settings = ALL[name].settings
    assert len(settings) == 8
    assert len({tuple(sorted(setting.items())) for setting in settings}) == 8


@pytest.mark.parametrize(("scale", "name"), [(scale, name) for scale in study.scales for name in tasks(scale)])
def test_equal_budgets(name: str, scale: str) -> None:
    """In sample gradients, up to half an epoch of the method; never less than one epoch."""
    task = tasks(scale)[name]
    for entrant in (*task.entrants.values(), *(() if task.lifelong else WHEN.values())):
        for budget in task.budgets:
            for candidate in entrant.candidates(task.workload, task.tuning, budget, task.trials):
                run = candidate.runs[0]
                spent = run.workload.epochs * run.method.gradients
                off = abs(spent - budget * task.workload.epochs)
                assert off <= run.method.gradients / 2 + 1e-9 or run.workload.epochs == 1


@pytest.mark.parametrize("scale", study.scales)
def test_each_entrant_tries_as_many_settings(scale: str) -> None:
    for task in tasks(scale).values():
        assert task.plain in task.entrants
        for entrant in task.entrants.values():
            for budget in task.budgets:
                tried = entrant.candidates(task.workload, task.tuning, budget, task.trials)
                assert len({candidate.runs for candidate in tried}) == task.trials
        assert len(task.fresh) >= (1 if scale == "smoke" else 5)
        assert not set(task.fresh) & set(task.tuning)


def test_fields_of_the_workload_are_in_units_of_its_own() -> None:
    by = {task.plain: task for task in tasks("cpu").values()}
    for plain, rates in (("SGD", (0.01, 0.02, 0.005)), ("AdamW", (1e-3, 2e-3, 5e-4))):
        task = by[plain]
        tried = task.entrants[plain].candidates(task.workload, (0,), 1.0, 3)
        assert tuple(candidate.runs[0].workload.lr for candidate in tried) == rates
    halves = by["AdamW"].entrants["Climb while accumulating"].candidates(by["AdamW"].workload, (0,), 1.0, 1)
    assert halves[0].runs[0].workload.batch == 16
    assert halves[0].runs[0].method.minibatches == 2


@pytest.mark.parametrize("name", tasks("paper"))
def test_models_at_scale_paper(name: str) -> None:
    """At full size, on the meta device: nothing is computed."""
    workload = tasks("paper")[name].workload
    images = IMAGES[workload.dataset]
    with torch.device("meta"):
        model = build(workload.model, 3, images.classes)
    inputs = torch.empty(2, 3, images.size, images.size, device="meta")
    assert model(inputs).shape == (2, images.classes)


def test_a_step_of_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At full size, on four images: AdamW alone, and SAM around it."""
    for part in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            folder = tmp_path / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (256, 256), (40 * i, 90, 200)).save(folder / f"{i}.JPEG")
    monkeypatch.setenv("LOOKBEHIND_DATA", str(tmp_path))
    task = tasks("paper")["imagenet"]
    small = {"train": 4, "validation": 2, "test": 2, "batch": 4, "epochs": 1, "warmup": 0}
    for name, gradients in (("AdamW", 1), ("SAM", 2)):
        [first] = task.entrants[name].candidates(task.workload.model_copy(update=small), (0,), gradients, 1)
        trained = training(first.runs[0], "cpu")
        before = [p.detach().clone() for p in trained.model.parameters()]
        records: list[Any] = []
        trained.train(records.append)
        [record] = records
        assert (record["gradients"], record["lr"]) == (gradients, 3e-3)
        assert sum(p.numel() for p in before) == 22_050_664 - 998 * (384 + 1)  # a head of two classes
        assert all(p.isfinite().all() for p in trained.model.parameters())
        assert any(not torch.equal(p, b) for p, b in zip(trained.model.parameters(), before, strict=True))


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("forked_workers")
def test_at_scale_smoke_all_of_it_works(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert main(["run", "league", "--scale", "smoke", "--store", store]) == 0
    assert main(["report", "league", "--scale", "smoke", "--store", store, "--output", str(tmp_path)]) == 0
    found = Remembered(Store(store))
    for task in tasks("smoke").values():
        second = final_forgetting() if task.lifelong else noisy_accuracy_at(task.noise, 0.2)
        for entrant in task.entrants.values():
            for metric in (task.accuracy, *(() if entrant.stops_early else (second,))):
                value = evaluate(reported(entrant, task, task.budgets[0], metric), found)
                assert value.mean is not None
                assert len(value.by_seed) == len(task.fresh)
                # Chosen with seeds of their own.
                assert value.by_seed.keys().isdisjoint(task.tuning)
