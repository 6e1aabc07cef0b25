"""What runs in each of two gloo processes. Each case returns something that `test_processes.py` looks at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from lookbehind import SAM, AccumulatingSAM, Lookbehind, MultistepSAM
from tests.conformance.rows import BASES as PLAIN_BASES
from tests.conformance.rows import ROWS, Row, Task, _repeating
from tests.real_training import processes

STEPS = 7
WORLD = 2
# Adam divides a gradient by its own size, so where that is about zero it enlarges the rounding of a sum by processes.
BASES = PLAIN_BASES | {"adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=1e-2, eps=1e-3)}


def wrap(task: Task, kind: str) -> nn.Module:
    """Return the task's net as a data-parallel or a sharded module."""
    if kind == "ddp":
        return DistributedDataParallel(task.net)
    for layer in (task.net[0], task.net[2]):
        fully_shard(layer)
    return fully_shard(task.net)


def my_part(task: Task, i: int) -> tuple[Tensor, Tensor]:
    """Return this process's half of a minibatch."""
    rank = dist.get_rank()
    return task.inputs[i % 8].chunk(WORLD)[rank], task.targets[i % 8].chunk(WORLD)[rank]


def closure_of(task: Task, net: nn.Module, i: int, scaler: Any = None) -> Callable[[], Tensor]:
    inputs, targets = my_part(task, i)

    def closure() -> Tensor:
        net.zero_grad()
        loss = nn.functional.mse_loss(net(inputs), targets)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    return closure


def poisoned(closure: Callable[[], Tensor], at: int, net: nn.Module) -> Callable[[], Tensor]:
    """In one pass, in process 1 only, the loss has an infinite gradient."""
    calls = 0

    def poisoning() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == at and dist.get_rank() == 1:
            handle = net.register_forward_hook(lambda _, __, output: output * float("inf"))
            try:
                return closure()
            finally:
                handle.remove()
        return closure()

    return poisoning


def whole_weights(net: nn.Module) -> list[Tensor]:
    full = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in net.parameters()]
    return [p.detach().clone() for p in full]


def equals_one_process(kind: str, row: Row, base: str) -> list[Tensor]:
    task = Task(dtype=torch.float32)
    net = wrap(task, kind)
    optimizer = row.make(BASES[base](net.parameters()))
    for i in range(STEPS):
        optimizer.step(closure_of(task, net, i))
    return whole_weights(net)


def skips_together(kind: str, row: Row, how: str, perturb: str) -> dict[str, Any]:
    """An overflow in one process in some pass: both skip, and then go on as if the step had not been."""
    found = []
    for at in range(1, row.calls + 1):
        task = Task(dtype=torch.float32)
        net = wrap(task, kind)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8) if how == "scaler" else None
        options = {"nonfinite": "skip"} if how == "skip" else {}
        if perturb == "rank":
            options |= {"sync_ascent": False, "model": net}
        optimizer = row.make(BASES["momentum"](net.parameters()), **options)
        step_options = {"grad_scaler": scaler} if scaler is not None else {}
        before: list[Tensor] = []
        for i in range(4):
            closure = closure_of(task, net, i, scaler)
            if i == 2:
                before = whole_weights(net)
                optimizer.step(poisoned(closure, at, net), **step_options)
                found.append(optimizer.last_step_skipped)
                found.append(all(map(torch.equal, whole_weights(net), before)))
            else:
                optimizer.step(closure, **step_options)
            if scaler is not None:
                scaler.update()
        if scaler is not None:
            found.append(scaler.get_scale() == 2.0**7)
        else:
            found.append(optimizer.skipped_steps == 1)
    return {"all": all(found), "weights": whole_weights(net)}


def each_rank_s_own_perturbation(name: str) -> dict[str, Any]:
    task = Task(dtype=torch.float64)
    net = DistributedDataParallel(task.net)
    base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5)
    optimizer = RANK_METHODS[name](base, sync_ascent=False, model=net)
    for i in range(STEPS):
        optimizer.step(closure_of(task, net, i))
    return {"weights": whole_weights(net)}


RANK_METHODS: dict[str, Callable[..., Any]] = {
    "SAM": lambda base, **c: SAM(base, rho=0.1, **c),
    "ASAM": lambda base, **c: SAM(base, rho=0.5, perturbation="asam", **c),
    "Multistep last": lambda base, **c: MultistepSAM(base, rho=0.1, k=3, **c),
    "Multistep mean": lambda base, **c: MultistepSAM(base, rho=0.1, k=3, gradient="mean", **c),
    "Lookbehind": lambda base, **c: Lookbehind(base, rho=0.1, k=3, alpha=0.6, **c),
    "Lookbehind adaptive": lambda base, **c: Lookbehind(base, rho=0.1, k=3, alpha="adaptive", **c),
    "Accumulating": lambda base, **c: _repeating(AccumulatingSAM, 3)(base, rho=0.1, **c),
}


def collectives_of_ddp(name: str, sync: bool) -> int:
    """Count gradient-sized collectives of one step: those of DDP, through its hook, and ours."""
    task = Task(dtype=torch.float32)
    net = DistributedDataParallel(task.net)
    counted = 0

    def hook(_, bucket):  # type: ignore[no-untyped-def]  # DDP insists on annotations of its own, or none
        nonlocal counted
        counted += 1
        return dist.all_reduce(bucket.buffer().div_(WORLD), async_op=True).get_future().then(lambda f: f.value()[0])

    net.register_comm_hook(None, hook)
    ours = dist.all_reduce

    def counting(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        nonlocal counted
        if not options.get("async_op"):
            counted += tensor.numel() > 1
        return ours(tensor, *arguments, **options)

    dist.all_reduce = counting
    try:
        optimizer = RANK_METHODS[name](torch.optim.SGD(net.parameters(), lr=0.1), sync_ascent=sync, model=net)
        optimizer.step(closure_of(task, net, 0))
        counted = 0  # DDP rebuilds its buckets after the first step
        optimizer.step(closure_of(task, net, 1))
    finally:
        dist.all_reduce = ours
    return counted


def reductions_of_fsdp(name: str) -> int:
    """Count the all-reduces of DTensors in one step. They are the optimizer's: the module's have other names."""
    task = Task(dtype=torch.float32)
    net = wrap(task, "fsdp")
    optimizer = RANK_METHODS[name](torch.optim.SGD(net.parameters(), lr=0.1))
    optimizer.step(closure_of(task, net, 0))
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        optimizer.step(closure_of(task, net, 1))
    ours = ("c10d::allreduce_", "_c10d_functional::all_reduce")
    return sum(event.count for event in profiler.key_averages() if event.key in ours)


def resumes(kind: str, row: Row, folder: str) -> dict[str, Any]:
    """Save with torch.distributed.checkpoint after some steps, load into new objects, go on."""
    results = []
    for at in (0, 1, 2):
        undisturbed = Task(dtype=torch.float32)
        net = wrap(undisturbed, kind)
        optimizer = row.make(BASES["adamw"](net.parameters()))
        resumed = Task(dtype=torch.float32)
        for p in resumed.net.parameters():
            nn.init.zeros_(p)
        for i in range(at):
            optimizer.step(closure_of(undisturbed, net, i))
        where = Path(folder) / f"{kind} {row.name} {at}"
        model_state, optimizer_state = get_state_dict(net, optimizer)
        dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=where)

        other = wrap(resumed, kind)
        again = row.make(BASES["adamw"](other.parameters()))
        model_state, optimizer_state = get_state_dict(other, again)
        state = {"model": model_state, "optimizer": optimizer_state}
        dcp.load(state, checkpoint_id=where)
        set_state_dict(other, again, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        for i in range(at, STEPS):
            optimizer.step(closure_of(undisturbed, net, i))
            again.step(closure_of(resumed, other, i))
        results.append(all(map(torch.equal, whole_weights(net), whole_weights(other))))
    return {"all": all(results), "each": results}


def cases(folder: str) -> dict[str, Callable[[], Any]]:
    """Return all cases by name."""
    every: dict[str, Callable[[], Any]] = {}
    for kind in ("ddp", "fsdp"):
        for row in ROWS:
            for base in BASES:
                every[f"equals {kind} {row.name} {base}"] = lambda k=kind, r=row, b=base: equals_one_process(k, r, b)
            for how in ("skip", "scaler"):
                every[f"skips {kind} {row.name} {how}"] = lambda k=kind, r=row, h=how: skips_together(k, r, h, "global")
            every[f"resumes {kind} {row.name}"] = lambda k=kind, r=row: resumes(k, r, folder)
    for row in ROWS:
        if row.own_model and row.own_ascent:
            for how in ("skip", "scaler"):
                every[f"skips rank {row.name} {how}"] = lambda r=row, h=how: skips_together("ddp", r, h, "rank")
    for name in RANK_METHODS:
        every[f"rank {name}"] = lambda n=name: each_rank_s_own_perturbation(n)
        for sync in (True, False):
            every[f"collectives ddp {name} {sync}"] = lambda n=name, s=sync: collectives_of_ddp(n, s)
        every[f"reductions fsdp {name}"] = lambda n=name: reductions_of_fsdp(n)
    return every


def run() -> list[dict[str, Any]]:
    """Run all cases and return what each process found."""
    return processes.run(__name__, WORLD)
