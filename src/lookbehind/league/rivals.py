"""Rivals at the price of plain training, and questions about when to climb: methods of the study's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lookbehind.league.study import study
from lookbehind.optim import SAM, Every, Lookahead, MomentumSAM, Sometimes, Window


class Averaged(Optimizer):
    """A base optimizer, and beside it an average of the weights and of batch norm's statistics, to evaluate with.

    ``slow_weights()`` is the context in which the model holds the average, as with ``Lookahead``.

    Args:
        base: what trains.
        model: whose buffers are averaged too.
        share: from the number of averaged steps so far to the share of the newest in the average.
        first: the first step, from 0, that counts.

    """

    def __init__(self, base: Optimizer, model: nn.Module, share: Callable[[int], float], first: int = 0) -> None:
        super().__init__(base.param_groups, {})
        self.base, self.share, self.first = base, share, first
        self.param_groups, self.state = base.param_groups, base.state
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        self.held: list[Tensor] = [*model.parameters(), *buffers]
        self.average = [t.detach().clone() for t in self.held]
        self.steps = 0
        self.shown = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Let the base step, and the average follow."""
        with torch.enable_grad():
            loss = self.base.step(closure)
        counted = self.steps - self.first
        if counted >= 0:
            torch._foreach_lerp_(self.average, [t.detach() for t in self.held], self.share(counted))
        self.steps += 1
        return loss

    def slow_weights(self) -> Showing:
        """Return a context in which the model holds the average; entered twice, the inner one changes nothing."""
        return Showing(self)

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state, the average and the number of steps."""
        return {"base": self.base.state_dict(), "average": self.average, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self.base.load_state_dict(state_dict["base"])
        self.average = [t.clone() for t in state_dict["average"]]
        self.steps = state_dict["steps"]


class Showing:
    """While entered, the model holds the average; without one yet, its own weights."""

    def __init__(self, optimizer: Averaged) -> None:
        self.optimizer = optimizer

    def __enter__(self) -> None:
        self.optimizer.shown += 1
        if self.optimizer.shown == 1:
            self._swap()

    def __exit__(self, *exception: object) -> None:
        self.optimizer.shown -= 1
        if self.optimizer.shown == 0:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        optimizer = self.optimizer
        if optimizer.steps > optimizer.first:
            for t, average in zip(optimizer.held, optimizer.average, strict=True):
                kept = t.clone()
                t.copy_(average)
                average.copy_(kept)


@study.method(gradients=1, title="EMA of the weights")
def ema(base: Optimizer, model: nn.Module, decay: float = 0.999) -> Optimizer:
    """An exponential moving average, warmed up as usual: its decay is at most (1 + t) / (10 + t)."""
    return Averaged(base, model, lambda t: 1.0 if t == 0 else 1.0 - min(decay, (1 + t) / (10 + t)))


@study.method(gradients=1, title="SWA")
def swa(base: Optimizer, model: nn.Module, steps: int, start: float = 0.75) -> Optimizer:
    """The mean of the weights after each step of the last part of training (Izmailov et al., 2018)."""
    return Averaged(base, model, lambda t: 1.0 / (t + 1), first=round(start * steps))


@study.method(gradients=2, title="Lookahead around SAM")
def lookahead_sam(base: Optimizer, rho: float = 0.05, k: int = 5, alpha: float = 0.5) -> Optimizer:
    """Algorithm 2 of the paper."""
    return Lookahead(SAM(base, rho=rho), k=k, alpha=alpha)


@study.method(gradients=1, title="Lookahead around Momentum-SAM")
def lookahead_momentum_sam(base: Optimizer, rho: float = 0.3, k: int = 5, alpha: float = 0.5) -> Optimizer:
    """Slow weights behind the cheapest climb."""
    return Lookahead(MomentumSAM(base, rho=rho), k=k, alpha=alpha)


# --- when should steps climb? each spends 1.25 gradients a step -----------------------------------------------------


@study.method(gradients=1.25, title="SAM in the first quarter")
def sam_early(base: Optimizer, steps: int, rho: float = 0.05) -> Optimizer:
    """Climb early (appendix A.2.2 of the paper)."""
    return SAM(base, rho=rho, when=Window(0.0, 0.25, total=steps))


@study.method(gradients=1.25, title="SAM in the last quarter")
def sam_late(base: Optimizer, steps: int, rho: float = 0.05) -> Optimizer:
    """Climb late (Zhou et al., 2025)."""
    return SAM(base, rho=rho, when=Window(0.75, 1.0, total=steps))


@study.method(gradients=1.25, title="SAM in every 4th step")
def sam_every(base: Optimizer, rho: float = 0.05, radius: float = 1.0) -> Optimizer:
    """Climb evenly; Composer takes a radius as many times as large as the steps are apart."""
    return SAM(base, rho=rho, when=Every(4, radius=radius))


@study.method(gradients=1.25, title="SAM in a quarter of the steps, drawn")
def sam_sometimes(base: Optimizer, rho: float = 0.05) -> Optimizer:
    """Climb with probability 1/4 (Zhao et al., 2022)."""
    return SAM(base, rho=rho, when=Sometimes(0.25))


@study.method(gradients=1, title="Momentum-SAM, either way")
def momentum_sam_either_way(base: Optimizer, rho: float = 0.3) -> Optimizer:
    """Momentum-SAM whose ε has a random sign each step: only the curvature's part is left of it."""
    return SignedMomentumSAM(base, rho=rho)


class SignedMomentumSAM(MomentumSAM):
    """Momentum-SAM with a random sign. The draws are the global random state's, which runs keep and restore."""

    def update(self, step: Any, closures: Any) -> None:
        """Draw a sign, and step with the radius of this sign."""
        key = self.group_key("rho")
        sign = 1.0 if torch.rand(()).item() < 0.5 else -1.0
        with _times(step, key, sign):
            super().update(step, closures)


@contextmanager
def _times(step: Any, key: str, factor: float) -> Iterator[None]:
    kept = [(group, group[key]) for group, _ in step.groups]
    try:
        for group, value in kept:
            group[key] = factor * value
        yield
    finally:
        for group, value in kept:
            group[key] = value
