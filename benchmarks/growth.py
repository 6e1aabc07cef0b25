"""How the cost of a step grows: with k, with the number of parameters and of tensors, with the minibatch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from benchmarks.contenders import Contender, around, plain
from benchmarks.tasks import TASKS, Task
from benchmarks.timing import alternately, compare, timed
from torch import Tensor, nn
from torch.optim import Optimizer

from lookbehind import SAM, Lookbehind, MultistepSAM


@dataclass(frozen=True)
class Point:
    """One measured number: ``what`` of a method where ``axis`` has a value."""

    axis: str
    value: float
    method: str
    what: str
    number: float


def _ours(name: str, make: Callable[[Optimizer], Optimizer]) -> Contender:
    return Contender(name, "lookbehind", around(make))


def over_k(seconds: float) -> Iterator[Point]:
    """Yield milliseconds of a step on the MLP, and its ratio to the limit, for k from 1 to 32."""
    ks = (1, 2, 4, 8, 16, 32)
    contenders = [next(plain())]
    contenders += [_ours(f"Multistep-SAM {k}", lambda base, k=k: MultistepSAM(base, k=k)) for k in ks]
    contenders += [_ours(f"Lookbehind {k}", lambda base, k=k: Lookbehind(base, k=k)) for k in ks]
    for row in compare(TASKS[0], "SGD", contenders, seconds):
        if row.owner == "lookbehind":
            method, k = row.name.rsplit(" ", 1)
            yield Point("k", int(k), method, "ms", row.milliseconds)
            yield Point("k", int(k), method, "ratio", row.ratio)


def over_batch(seconds: float, batches: tuple[int, ...]) -> Iterator[Point]:
    """Yield ratios to the limit on WRN-10-1 for growing minibatches."""
    contenders = [next(plain()), _ours("SAM", SAM), _ours("Lookbehind, k = 2", Lookbehind)]
    wrn = TASKS[1]
    for batch in batches:
        task: Task = replace(wrn, shape=(batch, *wrn.shape[1:]))
        for row in compare(task, "SGD", contenders, seconds / len(batches)):
            yield Point("batch", batch, row.name, "ms", row.milliseconds)
            yield Point("batch", batch, row.name, "ratio", row.ratio)


class Tensors(nn.Module):
    """Parameters of a given number in a given number of tensors."""

    def __init__(self, parameters: int, tensors: int) -> None:
        super().__init__()
        self.parts = nn.ParameterList([nn.Parameter(torch.ones(parameters // tensors)) for _ in range(tensors)])


def over_parameters(seconds: float, sizes: tuple[int, ...]) -> Iterator[Point]:
    """Yield milliseconds of steps whose gradients cost nothing: what the optimizer itself takes; and of one copy."""
    for size in sizes:
        for tensors in (10, 1000):
            model = Tensors(size, tensors)
            weights = list(model.parameters())
            for p in weights:
                p.grad = torch.full_like(p, 1e-3)
            other = [p.detach().clone() for p in weights]

            def closure() -> Tensor:
                return torch.zeros(())

            makes = {
                "SGD": lambda base: base,
                "SAM": SAM,
                "Multistep-SAM, k = 2": MultistepSAM,
                "Lookbehind, k = 2": Lookbehind,
            }
            actions = {"one copy": timed(lambda other=other, w=weights: _copy(other, w))}
            for name, make in makes.items():
                optimizer = make(torch.optim.SGD(weights, lr=1e-3))
                actions[name] = timed(lambda step=optimizer.step: step(closure))
            found = alternately(actions, seconds / len(sizes) / 2)
            for name, times in found.items():
                yield Point(f"parameters in {tensors} tensors", size, name, "ms", 1e3 * statistics.median(times))


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    torch._foreach_copy_(targets, sources)
