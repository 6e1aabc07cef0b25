"""DistributedDataParallel and FSDP2 on two gloo processes, against one process on the concatenated batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lookbehind import SAM, MultistepSAM
from tests.conformance.rows import ROWS, Row, Task, every_base, every_row
from tests.real_training import two_processes
from tests.real_training.two_processes import BASES

OLD = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 7)
no_fsdp = pytest.mark.skipif(OLD, reason="torch 2.6 cannot run FSDP2 on a CPU: it asks the CPU for a stream's event")
both_kinds = pytest.mark.parametrize("kind", ["ddp", pytest.param("fsdp", marks=no_fsdp)])


pytestmark = pytest.mark.timeout(900)  # the first test waits for both processes


def assert_near(a: list[Tensor], b: list[Tensor], tolerance: float) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@both_kinds
@every_row
@pytest.mark.parametrize("base", BASES)
def test_equals_one_process_on_the_whole_batch(found, kind: str, row: Row, base: str) -> None:
    ours = found(f"equals {kind} {row.name} {base}")
    task = Task(dtype=torch.float32)
    optimizer = row.make(BASES[base](task.net.parameters()))
    for i in range(two_processes.STEPS):
        optimizer.step(task.closure(i))
    assert all(map(torch.equal, *ours))
    assert_near(ours[0], task.weights(), 1e-6)


@both_kinds
@every_row
@pytest.mark.parametrize("how", ["skip", "scaler"])
def test_an_overflow_in_one_process_is_skipped_by_both(found, kind: str, row: Row, how: str) -> None:
    a, b = found(f"skips {kind} {row.name} {how}")
    assert a["all"]
    assert b["all"]
    assert all(map(torch.equal, a["weights"], b["weights"]))


@pytest.mark.parametrize("row", [r for r in ROWS if r.own_model and r.own_ascent], ids=lambda row: row.name)
@pytest.mark.parametrize("how", ["skip", "scaler"])
def test_an_overflow_is_agreed_on_also_when_gradients_are_not(found, row: Row, how: str) -> None:
    a, b = found(f"skips rank {row.name} {how}")
    assert a["all"]
    assert b["all"]
    assert all(map(torch.equal, a["weights"], b["weights"]))


@both_kinds
@every_row
def test_distributed_checkpoints_resume_bit_for_bit(found, kind: str, row: Row) -> None:
    """Before the first step, and in the middle of a Lookahead cycle."""
    for result in found(f"resumes {kind} {row.name}"):
        assert result["each"] == [True, True, True]


def _simulate(name: str) -> list[Tensor]:
    """Each rank's own perturbation in one process: two climbs, and descents by the mean of their gradients."""
    k = 1 if name in ("SAM", "ASAM") else 3
    rho = 0.5 if name == "ASAM" else 0.1
    task = Task(dtype=torch.float64)
    weights = list(task.net.parameters())
    base = torch.optim.SGD(weights, lr=0.05, momentum=0.5)

    def gradient(at: list[Tensor], rank: int, i: int) -> list[Tensor]:
        names = [n for n, _ in task.net.named_parameters()]
        leaves = [w.detach().clone().requires_grad_() for w in at]
        inputs, targets = task.inputs[i % 8].chunk(2)[rank], task.targets[i % 8].chunk(2)[rank]
        outputs = torch.func.functional_call(task.net, dict(zip(names, leaves, strict=True)), inputs)
        return list(torch.autograd.grad(torch.nn.functional.mse_loss(outputs, targets), leaves))

    def ascend(at: list[Tensor], g: list[Tensor]) -> list[Tensor]:
        t = [w.abs() + 0.01 if name == "ASAM" else torch.ones_like(w) for w in at]
        length = torch.cat([(ti * gi).flatten() for ti, gi in zip(t, g, strict=True)]).norm()
        return [w + rho * ti**2 * gi / length for w, ti, gi in zip(at, t, g, strict=True)]

    def descend(g: list[Tensor]) -> None:
        for p, gi in zip(weights, g, strict=True):
            p.grad = gi
        base.step()

    for i in range(two_processes.STEPS):
        start = task.weights()
        climbs, means, first = [start, start], [], []
        for inner in range(k):
            if name == "Accumulating":
                pair = [gradient(at, rank, i) for rank, at in enumerate(climbs)]
                means.append([(a + b) / 2 for a, b in zip(*pair, strict=True)])
                climbs = [ascend(at, g) for at, g in zip(climbs, pair, strict=True)]
                continue
            climbs = [ascend(at, gradient(at, rank, i)) for rank, at in enumerate(climbs)]
            pair = [gradient(at, rank, i) for rank, at in enumerate(climbs)]
            means.append([(a + b) / 2 for a, b in zip(*pair, strict=True)])
            if name.startswith("Lookbehind"):
                descend(means[-1])
                first = task.weights() if inner == 0 else first
        if name.startswith("Lookbehind"):
            d_1, d_k = (
                torch.cat([(w - s).flatten() for w, s in zip(end, start, strict=True)])
                for end in (first, task.weights())
            )
            alpha = 0.6 if name == "Lookbehind" else (torch.cosine_similarity(d_1, d_k, dim=0, eps=0) + 1) / 2
            with torch.no_grad():
                for p, s in zip(weights, start, strict=True):
                    p.copy_(s + alpha * (p - s))
        else:
            descend(
                [sum(g) / k for g in zip(*means, strict=True)]
                if name in ("Multistep mean", "Accumulating")
                else means[-1]
            )
    return task.weights()


@pytest.mark.parametrize("name", two_processes.RANK_METHODS)
def test_each_rank_s_own_perturbation_against_a_simulation(found, name: str) -> None:
    a, b = found(f"rank {name}")
    assert all(map(torch.equal, a["weights"], b["weights"]))
    assert_near(a["weights"], _simulate(name), 1e-10)


# Gradient-sized collectives of one step with k = 3: those of DDP and those of the optimizer.
COLLECTIVES = {
    "SAM": (2, 1),
    "ASAM": (2, 1),
    "Multistep last": (4, 1),
    "Multistep mean": (4, 1),  # the mean is averaged once
    "Lookbehind": (4, 3),
    "Lookbehind adaptive": (4, 3),
    "Accumulating": (3, 1),  # and so is this one
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_of_a_step(found, name: str) -> None:
    for sync, expected in zip((True, False), COLLECTIVES[name], strict=True):
        assert found(f"collectives ddp {name} {sync}") == (expected, expected)


@no_fsdp
@pytest.mark.parametrize("name", COLLECTIVES)
def test_reductions_of_a_step(found, name: str) -> None:
    # FSDP2: one number for the norm of each ascent, and three for adaptive α.
    ascents = {"SAM": 1, "ASAM": 1, "Accumulating": 2}.get(name, 3)
    expected = ascents + 3 * ("adaptive" in name)
    assert found(f"reductions fsdp {name}") == (expected, expected)


@pytest.mark.parametrize("make", [SAM, MultistepSAM])
@every_base
def test_rank_without_ddp_is_refused(make, base) -> None:
    task = Task()
    with pytest.raises(ValueError, match=r"sync_ascent is False, .*needs model=DistributedDataParallel.*Sequential"):
        make(base(task.net.parameters()), sync_ascent=False, model=task.net)
