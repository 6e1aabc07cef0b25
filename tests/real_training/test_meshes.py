"""Sharding as people use it, on four gloo processes: equal to one process on the whole batch, for every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.rows import ROWS, Row, every_row
from tests.real_training import four_processes
from tests.real_training.four_processes import (
    BASES,
    EQUALS,
    FEW,
    LOOKAHEADS,
    RANK_METHODS,
    STEPS,
    WORLD,
    ZERO,
    ZERO_OPTIONS,
    Branches,
    Net,
    closure_of,
    data,
)
from tests.real_training.test_processes import no_fsdp

pytestmark = pytest.mark.timeout(900)  # the first test waits for all processes


@pytest.fixture(scope="module")
def found(forked: Any) -> Callable[[str], list[Any]]:
    """All cases run in one group of four processes; a test looks at what they found."""
    results = four_processes.run()

    def look(name: str) -> list[Any]:
        for result in results:
            assert not str(result[name]).startswith("Traceback"), result[name]
        return [result[name] for result in results]

    return look


def alone(
    make: Callable[..., Any], base: Any, dtype: torch.dtype = torch.float64, then: Any = None, steps: int = STEPS
) -> list[Tensor]:
    """Train in one process on the whole batch."""
    net = Net(dtype)
    optimizer = make(base(net.parameters()))
    for i in range(steps):
        optimizer.step(closure_of(net, i, (0, 1), (lambda: then(net)) if then else lambda: None))
    return [p.detach().clone() for p in net.parameters()]


def assert_equal_on_all_ranks_and_near(ranks: list[list[Tensor]], expected: list[Tensor], tolerance: float) -> None:
    for weights in ranks[1:]:
        assert all(map(torch.equal, weights, ranks[0]))
    for w, v in zip(ranks[0], expected, strict=True):
        torch.testing.assert_close(w, v, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "row", "base"),
    [pytest.param(*case, marks=() if case[0] in ("tp", "sequence") else no_fsdp) for case in EQUALS],
    ids=lambda value: getattr(value, "name", value),
)
def test_equals_one_process(found, kind: str, row: Row, base: str) -> None:
    expected = alone(row.make, BASES[base])
    assert_equal_on_all_ranks_and_near(found(f"{kind} {row.name} {base}"), expected, 1e-9)


@no_fsdp
@every_row
def test_mixed_precision_policy(found, row: Row) -> None:
    """bf16 forward and backward: near float32, and the ascent is seen."""
    ranks, plain = found(f"bf16 {row.name}"), found("bf16 SGD")[0]
    expected = alone(row.make, BASES["momentum"], torch.float32, steps=2)
    assert_equal_on_all_ranks_and_near(ranks, expected, 0.05)
    moved = max((w - v).abs().max().item() for w, v in zip(ranks[0], plain, strict=True))
    if row.name != "Lookahead-SGD":
        assert moved > 1e-3


def test_gradients_that_ranks_hold_addends_of(found) -> None:
    """Sequence parallelism leaves Partial gradients; a step has them reduced, once."""
    for first, second, after in found("partial gradients"):
        assert first == second
        assert "Partial" in first
        assert "Partial" not in after


@no_fsdp
@every_row
def test_a_gradient_that_some_ranks_lack_counts_as_zero(found, row: Row) -> None:
    def then(net: Net) -> None:
        assert net.up.weight.grad is not None
        net.up.weight.grad[2:4] = 0.0  # the rows of rank 1

    expected = alone(row.make, lambda params: torch.optim.SGD(params, lr=0.1), then=then)
    assert_equal_on_all_ranks_and_near(found(f"lacking {row.name}"), expected, 1e-9)


@no_fsdp
@pytest.mark.parametrize("kind", ["tp x fsdp", "hsdp"])
@pytest.mark.parametrize("row", FEW, ids=lambda row: row.name)
@pytest.mark.parametrize("how", ["skip", "scaler"])
def test_an_overflow_on_one_rank_is_skipped_by_all(found, kind: str, row: Row, how: str) -> None:
    assert found(f"skips {kind} {row.name} {how}") == [True] * WORLD


@no_fsdp
@pytest.mark.parametrize("row", [*LOOKAHEADS, *FEW], ids=lambda row: row.name)
@pytest.mark.parametrize("flatten", [False, True])
def test_distributed_checkpoints_resume_bit_for_bit(found, row: Row, flatten: bool) -> None:
    assert found(f"resumes {row.name} {flatten}") == [True] * WORLD


@no_fsdp
@pytest.mark.parametrize("flatten", [False, True])
def test_a_checkpoint_whose_fast_weights_are_missing_is_refused(found, flatten: bool) -> None:
    for said in found(f"shown {flatten}"):
        assert "the fast weights are missing in it" in said


def simulated(name: str) -> list[Tensor]:
    """Four ranks in one process, each with its own climb; a gradient that a rank lacks counts as zero."""
    k = 1 if name == "SAM" else 2
    net = Branches()
    weights = list(net.parameters())[:4]  # the last layer is never used, and never moves
    base = torch.optim.SGD(weights, lr=0.1, momentum=0.5, weight_decay=0.1)

    def gradient(at: list[Tensor], rank: int, i: int) -> list[Tensor]:
        x, y = (t.chunk(WORLD)[rank] for t in data(i))
        leaves = [w.detach().clone().requires_grad_() for w in at]
        mine = leaves[2 * (rank % 2) : 2 * (rank % 2) + 2]
        loss = nn.functional.mse_loss(torch.tanh(nn.functional.linear(x, *mine)), y)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return [g.detach() for g in gradients]

    for i in range(3):
        start = [p.detach().clone() for p in weights]
        climbs, means = [start] * WORLD, []
        for _ in range(k):
            for rank in range(WORLD):
                g = gradient(climbs[rank], rank, i)
                length = torch.cat([t.flatten() for t in g]).norm()
                climbs[rank] = [w + 0.1 * t / length for w, t in zip(climbs[rank], g, strict=True)]
            each = [gradient(climbs[rank], rank, i) for rank in range(WORLD)]
            means.append([sum(parts) / WORLD for parts in zip(*each, strict=True)])
            if name == "Lookbehind":
                for p, mean in zip(weights, means[-1], strict=True):
                    p.grad = mean
                base.step()
        if name == "Lookbehind":
            with torch.no_grad():
                for p, s in zip(weights, start, strict=True):
                    p.copy_(s + 0.6 * (p - s))
            continue
        for p, *parts in zip(weights, *means, strict=True):
            p.grad = sum(parts) / k
        base.step()
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("name", RANK_METHODS)
def test_each_rank_s_own_ascent_with_parameters_that_it_does_not_use(found, name: str) -> None:
    assert_equal_on_all_ranks_and_near(found(f"unused {name}"), simulated(name), 1e-10)


@pytest.mark.parametrize(("row", "view"), ZERO, ids=lambda value: getattr(value, "name", value))
def test_zero_redundancy_optimizer_as_base(found, row: Row, view: bool) -> None:
    expected = alone(row.make, lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))
    assert_equal_on_all_ranks_and_near(found(f"zero {row.name} {view}"), expected, 1e-7)


@pytest.mark.parametrize("row", FEW, ids=lambda row: row.name)
@pytest.mark.parametrize("options", ZERO_OPTIONS)
def test_zero_redundancy_optimizer_is_put_back(found, row: Row, options: str) -> None:
    expected = alone(row.make, lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))
    assert_equal_on_all_ranks_and_near(found(f"zero {row.name} {options}"), expected, 1e-7)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("static graph", "static_graph=True, which allows no evaluation without averaging"),
        ("FSDP1", "belongs to FSDP1"),
        ("FSDP1, own parameters", "belongs to FSDP1"),
    ],
)
def test_what_cannot_be_right_is_refused(found, what: str, words: str) -> None:
    for said in found(f"refused {what}"):
        assert words in said
        assert "\n" not in said


def test_every_row_takes_part() -> None:
    assert {row.name for row in [*FEW, *LOOKAHEADS]} <= {row.name for row in ROWS}
