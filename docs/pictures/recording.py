"""Where an optimizer goes on a loss of two weights: each point at which it takes a gradient, each step of its base.

The optimizers are the real ones. A closure sees the weights at which a gradient is taken, and a hook on the base
optimizer sees where it went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

Point = tuple[float, float]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Step:
    """One outer step: from φ_{t-1} to φ_t."""

    start: Point
    gradients: list[Point] = field(default_factory=list)  # where they were taken: φ_{t-1}, φ'_1, ..., φ'_k
    moved: list[Point] = field(default_factory=list)  # where the base optimizer went: φ_{t,1}, ..., φ_{t,k}
    end: Point = (0.0, 0.0)
    alpha: float | None = None

    @property
    def perturbed(self) -> list[Point]:
        """φ'_1, …, φ'_k."""
        return [point for point in self.gradients if point != self.start]


def valley(x: Tensor, y: Tensor) -> Tensor:
    """A long valley along x: climbing from near its floor, the gradient turns from along it to across it."""
    return 0.1 * x**2 + 0.8 * y**2


def tilted(x: Tensor, y: Tensor) -> Tensor:
    """Another minibatch of the same data: the valley, turned and moved a little."""
    u, v = 0.94 * (x - 0.4) + 0.34 * y, 0.94 * (y - 0.2) - 0.34 * (x - 0.4)
    return 0.1 * u**2 + 0.8 * v**2


def record(
    make: Callable[[SGD], Optimizer],
    start: Point,
    steps: int = 1,
    lr: float = 0.6,
    losses: tuple[Loss, ...] = (valley,),
    together: bool = False,
) -> list[Step]:
    """Take steps and return what happened in each.

    Args:
        make: the optimizer around a base.
        start: φ_0.
        steps: number of calls of ``step``.
        lr: η of the base.
        losses: one for each minibatch, in turn.
        together: hand a closure for each of the losses to one step: switching minibatches.

    """
    w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    base = SGD([w], lr=lr)
    optimizer = make(base)
    taken: list[Step] = []

    def here() -> Point:
        x, y = w.tolist()
        return (x, y)

    base.register_step_post_hook(lambda *_: taken[-1].moved.append(here()))

    def closure_of(loss: Loss) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            taken[-1].gradients.append(here())
            optimizer.zero_grad()
            value = loss(w[0], w[1])
            value.backward()
            return value

        return closure

    closures = [closure_of(loss) for loss in losses]
    for t in range(steps):
        taken.append(Step(start=here()))
        optimizer.step(closures if together else closures[t % len(closures)])  # type: ignore[arg-type]
        taken[-1].end = here()
        alpha = getattr(optimizer, "alpha_star", None)
        taken[-1].alpha = None if alpha is None else float(alpha)
    return taken
