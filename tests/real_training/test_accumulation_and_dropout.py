"""Gradient accumulation and clipping inside the closure; dropout masks that passes share, or do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lookbehind import Lookahead, Lookbehind, MultistepSAM
from tests.conformance.rows import ROWS, Row, Task, every_base, every_row

climbers = pytest.mark.parametrize("row", [r for r in ROWS if r.own_model], ids=lambda row: row.name)


@every_row
@every_base
def test_accumulated_micro_batches_equal_the_big_batch(row: Row, base) -> None:
    a, b = Task(), Task()
    whole, parts = row.make(base(a.net.parameters())), row.make(base(b.net.parameters()))
    for i in range(6):

        def closure() -> Tensor:
            b.net.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            for x, y in zip(b.inputs[i].split(5), b.targets[i].split(5), strict=True):  # noqa: B023
                loss = nn.functional.mse_loss(b.net(x), y) / 2
                loss.backward()
                total += loss.detach()
            return total

        torch.testing.assert_close(parts.step(closure), whole.step(a.closure(i)))
    for w, v in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
def test_clipping_bounds_each_descent(clip: Callable[..., object]) -> None:
    """With plain SGD and clipped gradients, each of k inner steps moves at most η times the bound."""
    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=1.0), rho=0.1, k=3, alpha=1.0)

    def closure() -> Tensor:
        loss = task.closure()()
        clip(task.net.parameters(), 1e-3)
        return loss

    before = task.weights()
    optimizer.step(closure)
    moved = torch.cat([(w - b).flatten() for w, b in zip(task.weights(), before, strict=True)])
    size = moved.norm() if clip is nn.utils.clip_grad_norm_ else moved.abs().max()
    assert 0 < size <= 3e-3 * (1 + 1e-9)


def _masks(make: Callable[[torch.optim.Optimizer], torch.optim.Optimizer], closures: int = 1) -> list[Tensor]:
    """Return the dropout masks of the passes of two steps."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.ones(50))
    optimizer = make(torch.optim.SGD([p], lr=0.1))
    masks: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        kept = nn.functional.dropout(torch.ones(50))
        masks.append(kept)
        loss = (kept * p).sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure if closures == 1 else [closure] * closures)
    return masks


@climbers
def test_fresh_masks_in_each_pass_by_default(row: Row) -> None:
    masks = _masks(lambda base: row.make(base))
    assert len({tuple(m.tolist()) for m in masks}) == 2 * row.calls


@climbers
def test_shared_masks_within_a_step_and_new_ones_in_the_next(row: Row) -> None:
    masks = _masks(lambda base: row.make(base, same_dropout=True))
    assert len(masks) == 2 * row.calls
    assert len({tuple(m.tolist()) for m in masks[: row.calls]}) == 1
    assert len({tuple(m.tolist()) for m in masks}) == 2


def test_switching_minibatches_can_share_masks_too() -> None:
    masks = _masks(lambda base: Lookbehind(base, k=2, same_dropout=True), closures=2)
    assert len({tuple(m.tolist()) for m in masks}) == 2


def test_shared_masks_make_lookbehind_its_law_with_dropout() -> None:
    """Lookbehind equals mean-gradient Multistep-SAM at rate α·k·η also with dropout, if the passes share masks."""
    ends = []
    for make in (
        lambda p: Lookbehind(torch.optim.SGD(p, lr=0.1), 0.1, 3, 0.5, same_dropout=True),
        lambda p: MultistepSAM(torch.optim.SGD(p, lr=0.1 * 0.5 * 3), 0.1, 3, "mean", same_dropout=True),
    ):
        task = Task()
        torch.manual_seed(0)
        optimizer = make(list(task.net.parameters()))

        def closure() -> Tensor:
            task.net.zero_grad()  # noqa: B023 -- used within this pass of the loop only
            hidden = nn.functional.dropout(task.net[:2](task.inputs[0]))  # noqa: B023
            loss = nn.functional.mse_loss(task.net[2](hidden), task.targets[0])  # noqa: B023
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        ends.append(task.weights())
    for w, v in zip(*ends, strict=True):
        torch.testing.assert_close(w, v, rtol=1e-10, atol=1e-12)


def test_random_numbers_after_a_step_do_not_repeat() -> None:
    """A step with shared masks leaves the random state where its last pass left it."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.ones(3))
    drawn: list[Tensor] = []

    def closure() -> Tensor:
        drawn.append(torch.rand(4))
        p.grad = torch.ones(3)
        return torch.zeros(())

    Lookbehind(torch.optim.SGD([p], lr=0.1), same_dropout=True).step(closure)
    after = torch.rand(4)
    torch.manual_seed(0)
    assert torch.equal(drawn[0], torch.rand(4))
    assert torch.equal(after, torch.rand(4))


def test_lookahead_has_one_pass_and_no_such_argument() -> None:
    with pytest.raises(TypeError):
        Lookahead(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), same_dropout=True)  # type: ignore[call-arg]
