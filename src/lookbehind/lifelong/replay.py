"""Episodic replay (Chaudhry et al., 2019) around any optimizer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from lookbehind._checks import nonnegative
from lookbehind.lifelong.learner import Learner, Observed
from lookbehind.lifelong.memory import Reservoir


class Replay(Learner):
    r"""Step with any optimizer on the minibatch together with images from the memory.

    .. math:: b_m = \text{Sample}(R) \cup b, \qquad \phi \leftarrow \text{step}(\phi, L(\cdot, b_m))

    then b is pushed to R (Chaudhry et al., 2019; appendix A.6 of Mordido et al., 2024). All gradients of a step are on
    the same b_m. With ``Reservoir(0)`` it is the bare optimizer.

    Gradients are clipped to a norm. That changes descents only: an ascent of SAM or ASAM is of length ρ, whatever the
    gradient's.

    Args:
        model: a net with tasks × ways outputs.
        optimizer: any optimizer of torch or of this package, around the model's parameters.
        memory: the replay memory.
        ways: classes a task.
        replay: images that are drawn from the memory for each minibatch; the code of Gupta et al. (2020) draws 1 here,
            Chaudhry et al. 10. Default 10.
        clip: the largest norm of a gradient; None: any. Default 2.0, as in the code of Gupta et al.
        push: "every" shows the minibatches of all epochs to the memory, as in that code; "first" those of a task's
            first epoch. Default "every".

    Raises:
        TypeError: if ``memory`` or ``optimizer`` is something else.
        ValueError: if a number is out of range or a word is unknown.

    Example:
        >>> import torch
        >>> from lookbehind import SAM
        >>> model = torch.nn.Linear(3, 4)  # two tasks of two classes
        >>> optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
        >>> learner = Replay(model, optimizer, Reservoir(50), ways=2)
        >>> learner.observe(torch.randn(10, 3), torch.tensor([0, 1] * 5)).gradients  # of one image
        20
        >>> learner.observe(torch.randn(10, 3), torch.tensor([2, 3] * 5)).gradients  # and 10 images of the memory
        40

    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        memory: Reservoir,
        ways: int,
        *,
        replay: int = 10,
        clip: float | None = 2.0,
        push: str = "every",
    ) -> None:
        super().__init__(model, memory, ways, replay=replay, push=push)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer is {optimizer!r}; an instance of torch.optim.Optimizer is needed")
        self.optimizer = optimizer
        self.clip = None if clip is None else nonnegative("clip", clip)

    def observe(self, images: Tensor, labels: Tensor, *, first: bool = True) -> Observed:
        """Learn from a minibatch."""
        images_m, labels_m = self.memory.joined(images, labels, self.replay)
        seen: list[tuple[Tensor, Tensor]] = []  # of each gradient

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            logits = self.model(images_m)
            loss = self._loss(logits, labels_m)
            loss.backward()
            seen.append((logits.detach(), self._clip()))
            return loss

        loss: Any = self.optimizer.step(closure)  # type: ignore[arg-type]
        if self._shows_memory(first):
            self.memory.push(images, labels)
        logits, norm = seen[0]
        n = len(labels_m)
        return Observed(torch.as_tensor(loss).detach(), self._right(logits, labels_m), n, norm, len(seen) * n)

    def _clip(self) -> Tensor:
        """Clip the gradients, and return their norm as it was."""
        held = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in held])
        if self.clip is not None:
            clip_grads_with_norm_(held, self.clip, norm)
        return norm

    def evaluation(self) -> AbstractContextManager[Any]:
        """Return a context in which the model holds the slow weights, where the optimizer is a Lookahead."""
        context: AbstractContextManager[Any] = getattr(self.optimizer, "slow_weights", nullcontext)()
        return context

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on, the optimizer's state too."""
        return super().state_dict() | {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved state."""
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
