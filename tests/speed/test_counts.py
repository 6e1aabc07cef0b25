"""What a step costs, in numbers that do not depend on the machine: gradients, kernels, bytes.

A kernel is an operation that the optimizer itself calls, outside of closures and base steps; one on a list of tensors
counts once, as it does on a GPU. Views and empty tensors are none. Where a number here has to grow, say why in
benchmarks/profile.md.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM


@dataclass(frozen=True)
class Cost:
    """Of one step with k inner steps and n tensors.

    e is 0 for weights on the CPU, where ε is added without being written; elsewhere 1.
    """

    make: Callable[[Optimizer, int], Optimizer]
    gradients: Callable[[int], int]  # of k
    kernels: Callable[[int, int, bool], int]  # of k, n and whether the weights are elsewhere than on the CPU
    copies: Callable[[int, int], float]  # parameter-sized tensors that a step allocates and frees again; of k and e


# An ascent: norms (1), norm of the norms (2); on the CPU its number, read twice (2), ρ (1), φ' + ε (1); else 1 / norm
# (2), ε (1), φ' + ε (1). For ASAM also |w|, + η, T g, T² g.
ASCENT, ASAM = 7, 4
# φ copied, in case something fails; the loss that is returned, a copy.
BEGIN = 2


def behind(k: int, n: int, elsewhere: bool) -> int:
    """Kernels of Lookbehind with a fixed α.

    Each descent but the last copies φ' aside, the fast weights in and out, and φ' back; the last copies them in. On the
    CPU each tensor is set aside by itself, and interpolated in its place. Elsewhere all are together (1), and copied
    (1).
    """
    return BEGIN + ASCENT * k + (3 + (1 if elsewhere else n)) * (k - 1) + 1 + (2 if elsewhere else n)


def followed(k: int, n: int, elsewhere: bool) -> int:
    """Kernels of Lookahead's step that ends a cycle.

    α (1), the weights that it leaves, to compare with (1), the slow weights (1), which a cycle of one step also begins
    with (1). In longer cycles each tensor is compared (1 each); elsewhere the device decides what begins anew (1 each).
    """
    return BEGIN + 3 + (1 if k == 1 else n * (2 if elsewhere else 1))


COSTS = {
    # φ copied back.
    "SAM": Cost(lambda base, k: SAM(base), lambda k: 2, lambda k, n, elsewhere: BEGIN + 1 + ASCENT, lambda k, e: e),
    "ASAM": Cost(
        lambda base, k: SAM(base, perturbation="asam"),
        lambda k: 2,
        lambda k, n, elsewhere: BEGIN + 1 + ASCENT + ASAM,
        lambda k, e: 2 + e,
    ),
    "Multistep-SAM": Cost(
        lambda base, k: MultistepSAM(base, k=k),
        lambda k: k + 1,
        lambda k, n, elsewhere: BEGIN + 1 + ASCENT * k,
        lambda k, e: e * k,
    ),
    # k − 1 sums, the first of which is a copy; the last sum and a division.
    "Multistep-SAM, mean": Cost(
        lambda base, k: MultistepSAM(base, k=k, gradient="mean"),
        lambda k: k + 1,
        lambda k, n, elsewhere: BEGIN + 1 + ASCENT * k + (k - 1 + 2 if k > 1 else 0),
        lambda k, e: e * k,
    ),
    # φ' aside in each descent but the last; elsewhere the interpolation.
    "Lookbehind": Cost(
        lambda base, k: Lookbehind(base, k=k), lambda k: k + 1, behind, lambda k, e: e * k + (k - 1) + e
    ),
    # φ_{t,1}, φ_{t,k} kept; d_1, d_k; three dot products of a product, n sums and a stack, each summed up; 9 for α*.
    "Lookbehind, adaptive": Cost(
        lambda base, k: Lookbehind(base, k=k, alpha="adaptive"),
        lambda k: k + 1,
        lambda k, n, elsewhere: behind(k, n, elsewhere) + 2 + 2 + 3 * (1 + n + 1 + 1) + 9,
        lambda k, e: e * k + (k - 1) + e + 3,
    ),
    "Lookbehind, adaptive per tensor": Cost(
        lambda base, k: Lookbehind(base, k=k, alpha="adaptive_per_tensor"),
        lambda k: k + 1,
        lambda k, n, elsewhere: behind(k, n, elsewhere) + 2 + 2 + 3 * (1 + n + 1) + 9,
        lambda k, e: e * k + (k - 1) + e + 3,
    ),
    # Elsewhere, a byte for each weight tells which were changed.
    "Lookahead": Cost(
        lambda base, k: Lookahead(base, k=k), lambda k: 1, followed, lambda k, e: 0.25 * e if k > 1 else 0
    ),
}
every_cost = pytest.mark.parametrize("name", COSTS)
K = (1, 2, 5, 10)


class Kernels(TorchDispatchMode):
    """Counts operations while ``counting``."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.counting = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, name = func.name().split("::")
        if self.counting and namespace == "aten" and not func.is_view and not name.startswith("empty"):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def trained(cost: Cost, k: int, tensors: int, size: int = 3) -> tuple[Optimizer, Callable[[], Tensor], list[int]]:
    """Return an optimizer that has taken 2k steps, a closure for it, and a list that grows by each of its calls."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(size, generator=generator)) for _ in range(tensors)]
    gradients = [torch.randn(size, generator=generator) for _ in weights]
    calls: list[int] = []
    for p in weights:
        p.grad = torch.zeros(size)

    def closure() -> Tensor:
        calls.append(1)
        with torch.no_grad():
            torch._foreach_copy_([p.grad for p in weights], gradients)
        return torch.zeros(())

    optimizer = cost.make(SGD(weights, lr=0.1), k)
    for _ in range(2 * k - 1 if isinstance(optimizer, Lookahead) else 2):
        optimizer.step(closure)
    calls.clear()
    return optimizer, closure, calls


@pytest.mark.parametrize("k", K)
@every_cost
def test_gradients(name: str, k: int) -> None:
    cost = COSTS[name]
    optimizer, closure, calls = trained(cost, k, tensors=2)
    optimizer.step(closure)
    assert len(calls) == cost.gradients(k)


@pytest.mark.parametrize("tensors", [1, 7])
@pytest.mark.parametrize("k", K)
@every_cost
def test_kernels(name: str, k: int, tensors: int, elsewhere: bool) -> None:
    cost = COSTS[name]
    optimizer, closure, _ = trained(cost, k, tensors)
    kernels = Kernels()

    def aside(counting: bool) -> None:
        kernels.counting = counting

    def uncounted() -> Tensor:
        aside(False)
        loss = closure()
        aside(True)
        return loss

    optimizer.base.register_step_pre_hook(lambda *_: aside(False))
    optimizer.base.register_step_post_hook(lambda *_: aside(True))
    with kernels:
        optimizer.step(uncounted)
    assert kernels.found.total() == cost.kernels(k, tensors, elsewhere), kernels.found


@pytest.mark.parametrize("k", K)
@every_cost
def test_bytes(name: str, k: int, elsewhere: bool) -> None:
    cost = COSTS[name]
    size = 1 << 16
    optimizer, closure, _ = trained(cost, k, tensors=1, size=size)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        optimizer.step(closure)
    changes = [e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    large = [change for change in changes if abs(change) >= size]  # the others are single numbers
    assert sum(change for change in large if change > 0) == cost.copies(k, elsewhere) * size * 4
    assert sum(large) == 0
