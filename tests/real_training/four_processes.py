"""What runs in each of four gloo processes: meshes of two dimensions, policies, odd shards. See `test_meshes.py`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP1
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM
from tests.conformance.rows import FAMILY, ROWS, Row
from tests.real_training import processes

WORLD = 4
STEPS = 7
BASES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-2, foreach=False),
    # Adam divides a gradient by its own size: a larger eps keeps the rounding of sums over ranks small.
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, eps=1e-3, foreach=False),
}


class Net(nn.Module):
    """A layer that is not parallelised, a norm, and two that are."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=generator) + 0.1)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(torch.tanh(self.up(self.norm(torch.tanh(self.first(x))))))
        return found


def data(i: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return a minibatch of eight."""
    generator = torch.Generator().manual_seed(100 + i)
    return torch.randn(8, 4, generator=generator).to(dtype), torch.randn(8, 3, generator=generator).to(dtype)


def closure_of(net: nn.Module, i: int, share: tuple[int, int], then: Callable[[], None] = lambda: None) -> Any:
    """Return the closure of one of several equal parts of a minibatch."""
    dtype = next(net.parameters()).dtype
    x, y = (t.chunk(share[1])[share[0]] for t in data(i, dtype))
    if getattr(net, "gathers", False):  # of parts of the inputs the net returns all outputs
        y = data(i, dtype)[1]

    def closure() -> Tensor:
        net.zero_grad()
        loss = nn.functional.mse_loss(net(x).to(dtype), y)
        loss.backward()
        then()
        return loss

    return closure


def mesh_of(kind: str) -> Any:
    if kind in ("tp", "fsdp", "offload", "bf16", "sequence"):
        return mesh("tp" if kind in ("tp", "sequence") else "dp")
    return mesh("dp", "shard" if kind == "hsdp" else "tp")


@functools.cache  # each new group of processes brings threads of its own, which all wait
def mesh(*names: str) -> Any:
    return init_device_mesh("cpu", (4,) if len(names) == 1 else (2, 2), mesh_dim_names=names)


def built(kind: str) -> tuple[nn.Module, tuple[int, int], Callable[[], None]]:
    """Return a sharded net, this rank's part of the data and of how many, and what follows its backward."""
    net: nn.Module = Net(torch.float32 if kind == "bf16" else torch.float64)
    rank, mesh = dist.get_rank(), mesh_of(kind)
    share, then = (rank, WORLD), lambda: None
    if kind == "sequence":
        plan = {"norm": SequenceParallel(sequence_dim=0), "up": ColwiseParallel(input_layouts=Shard(0))}
        parallelize_module(net, mesh["tp"], {**plan, "down": RowwiseParallel(output_layouts=Replicate())})
        net.gathers = True  # type: ignore[assignment]
        mine = list(net.first.parameters())

        def add_up() -> None:  # each rank has seen its rows only
            for p in mine:
                dist.all_reduce(p.grad)

        return net, share, add_up
    if kind.startswith("tp"):
        parallelize_module(net, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        if kind == "tp":
            return net, (0, 1), then
        share = (rank // 2, 2)
        fully_shard(net, mesh=mesh["dp"])
    elif kind == "ignored":  # plain parameters beside DTensors; their gradients are averaged by the closure
        share = (rank // 2, 2)
        mine = list(net.first.parameters())
        fully_shard(net, mesh=mesh["dp"], ignored_params=set(mine))

        def then() -> None:
            for p in mine:
                dist.all_reduce(p.grad, group=mesh["dp"].get_group())
                p.grad /= 2

    elif kind == "hsdp":
        fully_shard(net, mesh=mesh)
    elif kind == "offload":
        fully_shard(net, mesh=mesh, offload_policy=CPUOffloadPolicy(pin_memory=False))
    elif kind == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        fully_shard(net, mesh=mesh, mp_policy=policy)
    else:  # uneven: the last layer has three rows for four ranks
        fully_shard(net, mesh=mesh)
    return net, share, then


def full(net: nn.Module) -> list[Tensor]:
    return [(p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone() for p in net.parameters()]


def trains(kind: str, make: Callable[..., Any], base: str) -> list[Tensor]:
    net, share, then = built(kind)
    optimizer = make(BASES[base](net.parameters()))
    for i in range(2 if kind == "bf16" else STEPS):  # later steps enlarge the rounding of bf16
        optimizer.step(closure_of(net, i, share, then))
    return full(net)


def some_ranks_lack_a_gradient(make: Callable[..., Any]) -> list[Tensor]:
    """Rank 1 has no gradient for its shard of a layer. Its rows then count as zero and do not move."""
    net, share, _ = built("fsdp")

    def then() -> None:
        if dist.get_rank() == 1:
            net.up.weight.grad = None

    optimizer = make(torch.optim.SGD(net.parameters(), lr=0.1, foreach=False))
    for i in range(STEPS):
        optimizer.step(closure_of(net, i, share, then))
    return full(net)


def partial_gradients() -> list[str]:
    """The placements of the norm's gradients before a step sees them, and after."""
    net, share, add_up = built("sequence")
    seen: list[str] = []
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.1, foreach=False))

    def look() -> None:
        add_up()
        seen.append(str(net.norm.weight.grad.placements))

    optimizer.step(closure_of(net, 0, share, look))
    return [*seen, str(net.norm.weight.grad.placements)]


def skips(kind: str, row: Row, how: str) -> bool:
    """An overflow on one rank, in each pass: all skip, and nothing has changed."""
    good = []
    for at in range(1, row.calls + 1):
        net, share, then = built(kind)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8) if how == "scaler" else None
        optimizer = row.make(BASES["momentum"](net.parameters()), **({} if scaler else {"nonfinite": "skip"}))
        calls = 0

        def poison() -> None:
            nonlocal calls
            calls += 1
            then()  # noqa: B023 -- used in this pass of the loop only
            if calls == at and dist.get_rank() == 1:  # noqa: B023
                [p.grad for p in net.parameters() if p.grad is not None][-1].mul_(float("inf"))  # noqa: B023

        options = {"grad_scaler": scaler} if scaler else {}
        before = full(net)
        if scaler:
            scaler.scale(torch.zeros(()))
        optimizer.step(closure_of(net, 0, share, poison), **options)
        good += [optimizer.last_step_skipped, all(map(torch.equal, full(net), before))]
        if scaler:
            scaler.update()
            good.append(scaler.get_scale() == 2.0**7)
    return all(good)


def resumes(row: Row, folder: str, flatten: bool) -> bool:
    """Within a cycle, on a mesh of two dimensions, through torch.distributed.checkpoint."""
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    net, share, _ = built("tp x fsdp")
    optimizer = row.make(BASES["adamw"](net.parameters()))
    for i in range(2):
        optimizer.step(closure_of(net, i, share))
    where = Path(folder) / f"{row.name} {flatten}"
    model_state, optimizer_state = get_state_dict(net, optimizer, options=options)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=where)
    other, share, _ = built("tp x fsdp")
    for p in other.parameters():
        nn.init.zeros_(p)
    again = row.make(BASES["adamw"](other.parameters()))
    model_state, optimizer_state = get_state_dict(other, again, options=options)
    state = {"model": model_state, "optimizer": optimizer_state}
    dcp.load(state, checkpoint_id=where)
    set_state_dict(other, again, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=options)
    for i in range(2, STEPS):
        optimizer.step(closure_of(net, i, share))
        again.step(closure_of(other, i, share))
    return all(map(torch.equal, full(net), full(other)))


def saved_within_slow_weights(folder: str, flatten: bool) -> str:
    """A distributed checkpoint loads what the new optimizer has; the fast weights would be lost."""
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    net, share, _ = built("fsdp")
    optimizer = Lookahead(BASES["momentum"](net.parameters()), k=3)
    optimizer.step(closure_of(net, 0, share))
    where = Path(folder) / f"shown {flatten}"
    with optimizer.slow_weights():
        _, optimizer_state = get_state_dict(net, optimizer, options=options)
        dcp.save({"optimizer": optimizer_state}, checkpoint_id=where)
    other, _, _ = built("fsdp")
    again = Lookahead(BASES["momentum"](other.parameters()), k=3)
    model_state, optimizer_state = get_state_dict(other, again, options=options)
    state = {"optimizer": optimizer_state}
    dcp.load(state, checkpoint_id=where)
    try:
        set_state_dict(other, again, model_state_dict=model_state, optim_state_dict=state["optimizer"], options=options)
    except ValueError as error:
        return str(error)
    return "loaded"


class Branches(nn.Module):
    """Two branches, of which each rank uses one."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
        self.unused = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.double()

    def forward(self, x: Tensor, branch: int) -> Tensor:
        found: Tensor = self.branches[branch](x)
        return torch.tanh(found)


RANK_METHODS: dict[str, Callable[..., Any]] = {
    "SAM": lambda base, **o: SAM(base, rho=0.1, **o),
    "Multistep mean": lambda base, **o: MultistepSAM(base, rho=0.1, k=2, gradient="mean", **o),
    "Lookbehind": lambda base, **o: Lookbehind(base, rho=0.1, k=2, alpha=0.6, **o),
}


def own_ascents_with_unused_parameters(name: str) -> list[Tensor]:
    rank, net = dist.get_rank(), Branches()
    ddp = DistributedDataParallel(net, find_unused_parameters=True)
    base = torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.5, weight_decay=0.1)
    optimizer = RANK_METHODS[name](base, sync_ascent=False, model=ddp)
    for i in range(3):
        x, y = (t.chunk(WORLD)[rank] for t in data(i))

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(ddp(x, rank % 2), y)  # noqa: B023 -- used in this pass of the loop only
            loss.backward()
            return loss

        optimizer.step(closure)
    return full(net)


def zero(row: Row, view: bool, options: dict[str, Any]) -> list[Tensor]:
    rank, net = dist.get_rank(), Net()
    ddp = DistributedDataParallel(net)
    base = ZeroRedundancyOptimizer(
        net.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, parameters_as_bucket_view=view
    )
    optimizer = row.make(base, **options)
    for i in range(STEPS):
        if i == 3 and options:
            before = full(net)

            def failing() -> Tensor:
                closure_of(ddp, i, (rank, WORLD))()  # noqa: B023
                if "nonfinite" in options:
                    for p in net.parameters():
                        p.grad.fill_(float("nan"))
                    return torch.zeros(())
                raise MemoryError

            with contextlib.suppress(MemoryError):
                optimizer.step(failing)
            assert all(map(torch.equal, full(net), before))
        optimizer.step(closure_of(ddp, i, (rank, WORLD)))
    return full(net)


def refused(what: str) -> str:
    try:
        if what == "static graph":
            ddp = DistributedDataParallel(Net(), static_graph=True)
            SAM(torch.optim.SGD(ddp.parameters(), lr=0.1), sync_ascent=False, model=ddp)
        else:
            net = FSDP1(Net(), use_orig_params=what == "FSDP1, own parameters", device_id=torch.device("cpu"))
            SAM(torch.optim.SGD(net.parameters(), lr=0.1))
    except ValueError as error:
        return str(error)
    return "taken"


KINDS = ("tp x fsdp", "tp", "ignored", "hsdp", "fsdp", "offload", "sequence")
# The family takes the steps of the others, so two kinds do for it; and one base, so two do on one mesh.
EQUALS = [
    (kind, row, base)
    for kind in KINDS
    for row in ROWS
    for base in BASES
    if (row.name not in FAMILY or kind in ("tp x fsdp", "ignored"))
    and (base == "momentum" or (row.name not in FAMILY and kind == "tp x fsdp"))
]
ZERO = [(row, view) for row in ROWS for view in (False, True) if view or row.name not in FAMILY]
LOOKAHEADS = [row for row in ROWS if row.name.startswith("Lookahead")]
FEW = [row for row in ROWS if row.name in ("SAM", "Lookahead-SAM", "Lookbehind-adaptive")]
ZERO_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "full": {"rollback": "full"},
    "skip": {"nonfinite": "skip"},
}


def cases(folder: str) -> dict[str, Callable[[], Any]]:
    """Return all cases by name."""
    every: dict[str, Callable[[], Any]] = {"partial gradients": partial_gradients}
    for kind, row, base in EQUALS:
        every[f"{kind} {row.name} {base}"] = lambda k=kind, r=row, b=base: trains(k, r.make, b)
    for row, view in ZERO:
        every[f"zero {row.name} {view}"] = lambda r=row, v=view: zero(r, v, {})
    for row in ROWS:
        every[f"bf16 {row.name}"] = lambda r=row: trains("bf16", r.make, "momentum")
        every[f"lacking {row.name}"] = lambda r=row: some_ranks_lack_a_gradient(r.make)
    every["bf16 SGD"] = lambda: trains("bf16", lambda base: base, "momentum")
    for row in FEW:
        for name, options in ZERO_OPTIONS.items():
            every[f"zero {row.name} {name}"] = lambda r=row, o=options: zero(r, True, o)
        for kind in ("tp x fsdp", "hsdp"):
            for how in ("skip", "scaler"):
                every[f"skips {kind} {row.name} {how}"] = lambda k=kind, r=row, h=how: skips(k, r, h)
    for row in [*LOOKAHEADS, *FEW]:
        for flatten in (False, True):
            every[f"resumes {row.name} {flatten}"] = lambda r=row, f=flatten: resumes(r, folder, f)
    for flatten in (False, True):
        every[f"shown {flatten}"] = lambda f=flatten: saved_within_slow_weights(folder, f)
    for name in RANK_METHODS:
        every[f"unused {name}"] = lambda n=name: own_ascents_with_unused_parameters(n)
    for what in ("static graph", "FSDP1", "FSDP1, own parameters"):
        every[f"refused {what}"] = lambda w=what: refused(w)
    return every


def run() -> list[dict[str, Any]]:
    """Run all cases and return what each process found."""
    return processes.run(__name__, WORLD)
