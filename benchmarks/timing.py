"""Steps, timed one after another in turn, so that what else the machine does meets all alike.

Time is the processor time of the one thread that computes: on an idle machine it equals the time on the wall, and on a
busy one it leaves out the time in which others had the core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from benchmarks.contenders import Contender
from benchmarks.tasks import Task
from torch import Tensor, nn
from torch.optim import Optimizer

T = TypeVar("T")
TURN = 0.02  # seconds

BASES: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}),
    "AdamW": (torch.optim.AdamW, {"lr": 1e-4}),
}


@dataclass
class Lap:
    """Seconds of a step, and of the gradients and base steps in it; and the numbers of them."""

    seconds: float = 0.0
    gradient_seconds: float = 0.0
    base_seconds: float = 0.0
    gradients: int = 0
    base_steps: int = 0

    def own_seconds(self, clock: float) -> float:
        """Return the seconds outside of gradients and base steps, less those of the clock around each of them."""
        return self.seconds - self.gradient_seconds - self.base_seconds - (self.gradients + self.base_steps) * clock

    def own(self, clock: float) -> float:
        """Return the own seconds relative to the gradients and base steps."""
        return self.own_seconds(clock) / (self.gradient_seconds + self.base_seconds)


def clock_seconds(alone: list[Lap]) -> float:
    """Return what the clock takes around a gradient or a base step: that is all that the base alone has of its own."""
    return statistics.median(lap.own_seconds(0.0) / (lap.gradients + lap.base_steps) for lap in alone)


class Trial:
    """A net that trains with one contender, whose gradients and base steps are timed by themselves."""

    def __init__(self, task: Task, contender: Contender, base: str) -> None:
        kind, options = BASES[base]
        self.model = task.model()
        self.inputs, self.targets = task.minibatch()
        self.step = contender.step(self.model, self._timed(kind), options)
        self.now = Lap()

    def lap(self) -> Lap:
        """Take a step."""
        self.now = Lap()
        start = time.thread_time()
        self.step(self.closure)
        self.now.seconds = time.thread_time() - start
        return self.now

    def closure(self) -> Tensor:
        start = time.thread_time()
        loss = gradient(self.model, self.inputs, self.targets)
        self.now.gradient_seconds += time.thread_time() - start
        self.now.gradients += 1
        return loss

    def _timed(self, kind: type[Optimizer]) -> type[Optimizer]:
        trial = self

        class Timed(kind):  # type: ignore[misc, valid-type]
            """The base, whose steps are timed as one who calls them sees them, with torch's own wrapping of them."""

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                self.step = trial._base_step(self.step)

        return Timed

    def _base_step(self, step: Callable[..., Any]) -> Callable[..., None]:
        def timed_step(*args: Any, **options: Any) -> None:
            start = time.thread_time()
            step(*args, **options)
            self.now.base_seconds += time.thread_time() - start
            self.now.base_steps += 1

        return timed_step


def gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Do what a closure does."""
    model.zero_grad()
    with torch.enable_grad():
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
    return loss


def alternately(actions: dict[str, Callable[[], T]], seconds: float, rounds: int = 20) -> dict[str, list[T]]:
    """Do each action in turn, again and again, for so many seconds or rounds, but two rounds at least.

    A turn of a fast action is some 20 ms of it, the first of which is left out: in training the caches hold what the
    step before has left there, and not what other actions have.

    Returns:
        What they returned in each round but the first, which warms up.

    """
    found: dict[str, list[T]] = {name: [] for name in actions}
    repeats = dict.fromkeys(actions, 1)
    start = time.monotonic()
    done = -1
    while done < 2 or (done < rounds and time.monotonic() - start < seconds):
        # Forth and back, so that none always comes after the same other, with the caches as that one leaves them.
        for name, action in list(actions.items())[:: 1 if done % 2 else -1]:
            begun = time.thread_time()
            values = [action() for _ in range(repeats[name])]
            if done >= 0:
                found[name] += values[1:] or values
            elif time.thread_time() - begun < TURN:
                begun = time.thread_time()
                action()  # the first one has allocated its buffers
                repeats[name] = 1 + min(15, int(TURN / (time.thread_time() - begun)))
        done += 1
    return found


def timed(action: Callable[[], Any]) -> Callable[[], float]:
    """Return an action that returns its seconds."""

    def measured() -> float:
        start = time.thread_time()
        action()
        return time.thread_time() - start

    return measured


@dataclass(frozen=True)
class Row:
    """One contender on one task: times relative to the limit, its bare gradients and base steps."""

    task: str
    base: str
    owner: str
    name: str
    gradients: float
    base_steps: float
    milliseconds: float  # a step
    gradient_ms: float  # a bare gradient
    base_ms: float  # a bare base step
    ratio: float  # median of step / limit
    low: float  # quartiles
    high: float
    own: float  # median share of the step outside its gradients, base steps and clocks, relative to the former two
    steps: int  # that were timed


def compare(task: Task, base: str, contenders: list[Contender], seconds: float) -> Iterator[Row]:
    """Time a step of each contender in turn, among them the base alone, whose gradients and steps are the limit."""
    found = alternately({f"{c.owner}: {c.name}": Trial(task, c, base).lap for c in contenders}, seconds)
    alone = found["torch: the base alone"]
    one = statistics.median(lap.gradient_seconds for lap in alone)
    move = statistics.median(lap.base_seconds for lap in alone)
    clock = clock_seconds(alone)
    for contender, laps in zip(contenders, found.values(), strict=True):
        # Of a LookSAM or a Lookahead, steps differ: a limit for each.
        ratios = [lap.seconds / (lap.gradients * one + lap.base_steps * move) for lap in laps]
        low, _, high = statistics.quantiles(ratios, n=4)
        yield Row(
            task=task.name,
            base=base,
            owner=contender.owner,
            name=contender.name,
            gradients=statistics.mean(lap.gradients for lap in laps),
            base_steps=statistics.mean(lap.base_steps for lap in laps),
            milliseconds=1e3 * statistics.median(lap.seconds for lap in laps),
            gradient_ms=1e3 * one,
            base_ms=1e3 * move,
            ratio=statistics.median(ratios),
            low=low,
            high=high,
            own=statistics.median(lap.own(clock) for lap in laps),
            steps=len(laps),
        )
