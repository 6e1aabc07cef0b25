"""One test for each promise of docs/promises.md, of the same name. The depth is in the other folders."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lookbehind import checkpoint
from tests.conformance.rows import ROWS, Row, Task, every_row, same, state_tensors

ROOT = Path(__file__).resolve().parent.parent
climbers = pytest.mark.parametrize("row", [r for r in ROWS if r.own_model], ids=lambda row: row.name)


def sgd(task: Task) -> torch.optim.SGD:
    return torch.optim.SGD(task.net.parameters(), lr=0.05, momentum=0.9)


def test_every_promise_has_a_test_of_its_name() -> None:
    promises = (ROOT / "docs" / "promises.md").read_text()
    names = [
        "test_" + name.lower().replace(",", "").replace(" ", "_")
        for name in re.findall(r"^- \*\*(.+?)\.\*\*", promises, flags=re.MULTILINE)
    ]
    assert len(names) >= 10
    assert [name for name in names if not callable(getattr(sys.modules[__name__], name, None))] == []


def test_exact() -> None:
    """SAM and Lookbehind (k = 2, α = 0.6) on L = ½‖A w‖², whose gradient is AᵀA w: computed here in NumPy."""
    np = pytest.importorskip("numpy")
    from lookbehind import SAM, Lookbehind

    a = np.random.default_rng(0).normal(size=(5, 3))
    start = np.array([1.0, -2.0, 3.0])

    def gradient(w):
        return a.T @ a @ w

    def climb(w):
        return w + 0.1 * gradient(w) / np.linalg.norm(gradient(w))

    sam, behind = start.copy(), start.copy()
    for _ in range(20):
        sam = sam - 0.02 * gradient(climb(sam))
        one, two = climb(behind), climb(climb(behind))
        fast = behind - 0.02 * gradient(one) - 0.02 * gradient(two)
        behind = behind + 0.6 * (fast - behind)
    for make, expected in ((lambda b: SAM(b, 0.1), sam), (lambda b: Lookbehind(b, 0.1, 2, 0.6), behind)):
        w = nn.Parameter(torch.tensor(start))
        optimizer = make(torch.optim.SGD([w], lr=0.02))
        for _ in range(20):
            optimizer.step(lambda w=w: (w.grad is not None and w.grad.zero_(), _backward(torch.tensor(a), w))[1])
        assert np.abs(w.detach().numpy() - expected).max() < 1e-10


def _backward(a: Tensor, w: Tensor) -> Tensor:
    loss = 0.5 * (a @ w).square().sum()
    loss.backward()
    return loss


@every_row
def test_cheap(row: Row) -> None:
    task = Task()
    row.make(sgd(task)).step(task.closure())
    assert task.calls == row.calls


@every_row
def test_one_optimizer(row: Row) -> None:
    a, b = Task(), Task()
    one, other = row.make(sgd(a)), row.make(sgd(b))
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in (one, other)]
    for i in range(4):
        one.step(a.closure(i))
        schedulers[0].step()
    b.net.load_state_dict(a.net.state_dict())
    schedulers[1].load_state_dict(schedulers[0].state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.step(a.closure(5))
    other.step(b.closure(5))
    assert same(a.weights(), b.weights())
    assert same(state_tensors(one), state_tensors(other))


@every_row
def test_nothing_is_lost(row: Row) -> None:
    task = Task()
    optimizer = row.make(sgd(task), rollback="full")
    optimizer.step(task.closure())
    before, state = task.weights(), state_tensors(optimizer)
    task.calls = 0

    def failing() -> Tensor:
        loss = task.closure(1)()
        if task.calls == row.calls:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(failing)
    assert same(task.weights(), before)
    assert same(state_tensors(optimizer), state)


@every_row
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_gradients_of_every_kind(row: Row, value: float) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1), nonfinite="skip")
    before = task.weights()

    def closure() -> Tensor:
        loss = value * task.loss(0)
        task.net.zero_grad()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert same(task.weights(), before)
    assert optimizer.skipped_steps == (value != 0)


@climbers
def test_batchnorm(row: Row) -> None:
    task = Task(norm=True)
    row.make(sgd(task), model=task.net).step(task.closure())
    assert task.net[1].num_batches_tracked == 1


@every_row
def test_mixed_precision(row: Row) -> None:
    a, b, scaler = Task(), Task(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    one, other = row.make(sgd(a)), row.make(sgd(b))
    for i in range(4):

        def closure() -> Tensor:
            a.net.zero_grad()
            loss = a.loss(i)  # noqa: B023 -- used within this pass of the loop only
            scaler.scale(loss).backward()
            return loss

        one.step(closure, grad_scaler=scaler)
        scaler.update()
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


@every_row
def test_accumulation_and_clipping(row: Row) -> None:
    ends = []
    for parts in (1, 2):
        task = Task()
        optimizer = row.make(sgd(task))
        for i in range(3):

            def closure() -> Tensor:
                task.net.zero_grad()  # noqa: B023 -- used within this pass of the loop only
                for x, y in zip(task.inputs[i].chunk(parts), task.targets[i].chunk(parts), strict=True):  # noqa: B023
                    (nn.functional.mse_loss(task.net(x), y) / parts).backward()  # noqa: B023
                return nn.utils.clip_grad_norm_(task.net.parameters(), 0.1)  # noqa: B023

            optimizer.step(closure)
        ends.append(task.weights())
    for w, v in zip(*ends, strict=True):
        torch.testing.assert_close(w, v, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@every_row
def test_several_processes(found, row: Row, kind: str) -> None:
    one, other = found(f"equals {kind} {row.name} momentum")
    task = Task(dtype=torch.float32)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2))
    for i in range(7):
        optimizer.step(task.closure(i))
    assert same(one, other)
    for w, v in zip(one, task.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=1e-6, atol=1e-6)


@every_row
def test_compiled(row: Row) -> None:
    task = Task()
    where = [p.data_ptr() for p in task.net.parameters()]
    net = torch.compile(task.net, backend="aot_eager", fullgraph=True)
    optimizer = row.make(sgd(task))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(task.inputs[0]), task.targets[0])
        loss.backward()
        return loss

    first, second = optimizer.step(closure), optimizer.step(closure)
    assert second < first
    assert [p.data_ptr() for p in task.net.parameters()] == where


@climbers
@pytest.mark.parametrize("same", [False, True])
def test_dropout(row: Row, same: bool) -> None:
    p, masks = nn.Parameter(torch.ones(50)), set()

    def closure() -> Tensor:
        mask = nn.functional.dropout(torch.ones(50))
        masks.add(tuple(mask.tolist()))
        p.grad = mask
        return mask.sum()

    row.make(torch.optim.SGD([p], lr=0.1), same_dropout=same).step(closure)
    assert len(masks) == (1 if same else row.calls)


@climbers
def test_trainers(row: Row) -> None:
    """A trainer calls the closure that it made, through a scheduler and a wrapper around the optimizer."""
    accelerate = pytest.importorskip("accelerate")
    task = Task(dtype=torch.float32)
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer = accelerator.prepare(row.make(sgd(task)))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task.closure()()
        return loss

    optimizer.step(closure)
    assert task.calls == row.calls


@every_row
def test_killed_and_resumed(row: Row, tmp_path: Path) -> None:
    a, b = Task(), Task()
    undisturbed, resumed = row.make(sgd(a)), row.make(sgd(b))
    for i in range(4):
        undisturbed.step(a.closure(i))
    checkpoint.save(tmp_path / "last.pt", {"net": a.net.state_dict(), "optimizer": undisturbed.state_dict()})
    state = checkpoint.load(tmp_path / "last.pt")
    b.net.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    for i in range(4, 7):
        undisturbed.step(a.closure(i))
        resumed.step(b.closure(i))
    assert same(a.weights(), b.weights())
