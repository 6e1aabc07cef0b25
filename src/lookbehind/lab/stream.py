"""A stream of tasks as data (section 4.5): which classes, which net, how each task is trained, what is replayed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lookbehind.lab.frozen import Count, Declared, Frozen, NonNegative, Positive
from lookbehind.lab.method import Method


class CMAML(Frozen):
    """C-MAML in place of plain steps: with the method lookahead it is algorithm 3, with lookbehind algorithm 4.

    The method's k is the number of inner steps, and Lookahead's α has to be 1. ``None`` bounds mean none; what each
    option means stands with ``lookbehind.lifelong.LookaheadCMAML`` and ``LookbehindCMAML``.
    """

    second_order: bool = True
    meta_loss: Literal["mean", "end", "slow"] = "mean"  # of algorithm 3
    ascent: Literal["continue", "restart", "fast"] = "continue"  # this one and the next three: of algorithm 4
    meta_point: Literal["fast", "slow"] = "fast"
    draw: Literal["once", "each"] = "once"
    meta_updates: Literal["minibatch", "epoch"] = "minibatch"
    clamp: NonNegative | None = 2.0


class Stream(Declared):
    """Tasks of different classes of one data set, learnt one after the other with SGD, or a method around it.

    The run's seed decides the order of the classes too.
    """

    tasks: Count
    ways: Count  # classes a task
    size: int | None = None  # of the images
    train: Count | None = None  # images of all tasks together; None: all that are not held out
    validation: int | None = None
    test: int | None = None
    augment: bool = True
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    epochs: Count = 10  # of each task
    batch: Count = 10
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.0
    memory: Annotated[int, Field(ge=0)] = 0  # images that the replay memory holds; 0: no replay
    replay: Annotated[int, Field(ge=0)] = 10  # of them drawn for each minibatch
    replacement: bool = True
    push: Literal["first", "every"] | None = None  # None: of "first" epochs for C-MAML, else of "every" one
    clip: NonNegative | None = 2.0
    cmaml: CMAML | None = None

    @property
    def title(self) -> str:
        """Return its name in a sentence."""
        return f"{self.dataset} in {self.tasks} tasks, {self.model}"

    def for_epochs(self, epochs: int) -> Stream:
        """Return the same stream for another number of epochs a task."""
        return self.model_copy(update={"epochs": epochs})

    def check(self, method: Method) -> None:
        """See that the method can be used.

        Raises:
            ValueError: if it cannot.

        """
        if method.switching:
            raise ValueError("switching is True; in a stream all gradients of a step are on one minibatch")
        if method.rate != 1.0:
            raise ValueError(f"rate is {method.rate}; a stream has a learning rate of its own: give it another lr")
        if self.cmaml is None:
            return
        if self.momentum or self.weight_decay:
            raise ValueError("momentum and weight_decay are of SGD; C-MAML has steps of its own")
        if method.kind not in ("lookahead", "lookbehind") or (method.kind == "lookahead" and method.perturbation):
            raise ValueError(f"the method is {method.title!r}; C-MAML exists with lookahead and with lookbehind sam")
        if method.kind == "lookahead" and method.alpha != 1.0:
            raise ValueError(f"alpha is {method.alpha}; Lookahead-C-MAML has no outer step size: it has to be 1")
        if method.kind == "lookbehind" and (
            method.perturbation != "sam" or isinstance(method.alpha, str) or method.divided
        ):
            raise ValueError(
                f"the method is {method.title!r}; Lookbehind-C-MAML has perturbation sam and a fixed alpha"
            )

    def gradients(self, method: Method) -> float:
        """Return the gradients of a step, each on a minibatch of ``batch`` images, once there is enough to replay.

        Replayed images count, and a Hessian-vector product as two gradients.
        """
        shown = 1 + min(self.replay, self.memory) / self.batch  # b_m, in minibatches
        if self.cmaml is None:
            return round(method.gradients * shown)
        k = method.k or 1
        second = 2 if self.cmaml.second_order else 0
        if method.kind == "lookahead":
            losses = k if self.cmaml.meta_loss == "mean" else 1
            return round(1 + (0 if self.cmaml.meta_loss == "slow" else second) + losses * shown)
        return round(2 + 2 * shown + second * (2 if self.cmaml.meta_point == "fast" else 1))
