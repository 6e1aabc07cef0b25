"""The declarations of the league: equal budgets, equal trials, and runs that can be built and stepped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lookbehind.cli import main
from lookbehind.lab import Store
from lookbehind.lab.cell import evaluate
from lookbehind.lab.metrics import last_test_accuracy
from lookbehind.lab.work import work
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


@pytest.mark.parametrize("scale", study.scales)
@pytest.mark.parametrize("name", ALL)
def test_equal_budgets(name: str, scale: str) -> None:
    """In sample gradients, up to half an epoch of the method."""
    for task in tasks(scale).values():
        epoch = work_of(task.workload)
        for budget in task.budgets:
            for candidate in ALL[name].candidates(task.workload, task.tuning, budget, task.trials):
                run = candidate.runs[0]
                spent = run.workload.epochs * epoch * run.gradients_per_step
                assert abs(spent - budget * task.workload.epochs * epoch) <= run.gradients_per_step * epoch / 2


def work_of(workload: object) -> int:
    """Return the examples of an epoch."""
    from lookbehind.lab.run import Method, Run

    return work(Run(workload=workload, method=Method(kind="base"))).examples


@pytest.mark.parametrize("name", tasks("paper"))
def test_models_at_scale_paper(name: str) -> None:
    """At full size, on the meta device: nothing is computed."""
    workload = tasks("paper")[name].workload
    classes = 100 if workload.dataset == "cifar100" else 10
    with torch.device("meta"):
        model = build(workload.model, 3, classes)
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, classes)


@pytest.mark.timeout(300)
def test_at_scale_smoke_all_of_it_works(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert main(["run", "league", "--scale", "smoke", "--store", store]) == 0
    assert main(["report", "league", "--scale", "smoke", "--store", store, "--output", str(tmp_path)]) == 0
    [task] = tasks("smoke").values()
    for entrant in ENTRANTS.values():
        value = evaluate(reported(entrant, task, task.budgets[0], last_test_accuracy()), Store(store))
        assert value.mean is not None
        assert len(value.by_seed) == len(task.fresh)
        # Chosen with seeds of their own.
        assert value.by_seed.keys().isdisjoint(task.tuning)
