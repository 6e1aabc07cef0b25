"""What the benchmarks compare with, and how they count."""

from __future__ import annotations

import pytest
import torch
from benchmarks import page
from benchmarks.contenders import Contender, around, ours, plain
from benchmarks.literal import LiteralLookbehind
from benchmarks.memory import copies
from benchmarks.tasks import TASKS
from benchmarks.timing import Lap, Trial, clock_seconds, compare, gradient
from torch.optim import SGD

from lookbehind import SAM, Lookbehind

MLP = TASKS[0]


@pytest.mark.parametrize("k", [1, 2, 10])
def test_the_literal_algorithm_takes_the_same_trajectory(k: int) -> None:
    weights = []
    for kind in (LiteralLookbehind, Lookbehind):
        model = MLP.model().double()
        inputs, targets = MLP.minibatch()
        inputs = inputs.double()
        optimizer = kind(SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3), rho=0.1, k=k, alpha=0.5)
        for _ in range(3):
            optimizer.step(lambda m=model, i=inputs, t=targets: gradient(m, i, t))
        weights.append(list(model.parameters()))
    torch.testing.assert_close(*weights, rtol=1e-9, atol=1e-12)


def test_gradients_and_base_steps_are_told_from_the_rest() -> None:
    trial = Trial(MLP, Contender("SAM", "lookbehind", around(SAM)), "SGD")
    lap = trial.lap()
    assert (lap.gradients, lap.base_steps) == (2, 1)
    assert 0 < lap.gradient_seconds < lap.seconds
    assert 0 < lap.base_seconds < lap.seconds - lap.gradient_seconds


def test_the_clock_is_no_share_of_a_step() -> None:
    alone = Lap(seconds=10.5, gradient_seconds=8.0, base_seconds=2.0, gradients=1, base_steps=1)
    assert clock_seconds([alone]) == 0.25
    assert alone.own(0.25) == 0.0
    climbs = Lap(seconds=20.75, gradient_seconds=16.0, base_seconds=2.0, gradients=2, base_steps=1)
    assert climbs.own(0.25) == 2.0 / 18.0


def test_a_row_for_each_contender() -> None:
    chosen = [*plain(), *ours()][:5]
    rows = list(compare(MLP, "AdamW", chosen, seconds=0.0))
    assert [row.name for row in rows] == [contender.name for contender in chosen]
    assert [row.gradients for row in rows] == [1, 4, 20, 2, 2]
    assert all(row.low <= row.ratio <= row.high for row in rows)


def test_copies_are_counted() -> None:
    expected = {
        "the base alone": 0,
        "SAM": 1,
        "Multistep-SAM, k = 2": 1,
        "Lookbehind, k = 2": 2,
        "Lookbehind, adaptive, k = 2": 3,
    }
    held = {c.name: copies(c).between_steps for c in [*plain(), *ours()] if c.name in expected}
    assert held == expected


def test_the_page_s_tables_are_those_of_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text) == text
