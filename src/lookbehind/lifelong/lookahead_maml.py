"""Lookahead-C-MAML (Gupta et al., 2020), algorithm 3 of Mordido et al., 2024."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lookbehind._checks import choice, count, nonnegative
from lookbehind.lifelong._lists import Net, clamped, clipped, descend_, grad, moved
from lookbehind.lifelong.learner import Learner, Observed
from lookbehind.lifelong.memory import Reservoir


class LookaheadCMAML(Learner):
    r"""Look ahead by k inner steps on pieces of the minibatch, and descend with the gradient of what they lead to.

    .. math::
        b_m &= \text{Sample}(R) \cup b, \qquad \phi_0 = \phi \\
        \phi_{k'+1} &= \phi_{k'} - \eta \nabla_{\phi_{k'}} \ell_t(\phi_{k'}, b[k']), & k' &= 0, \dots, k - 1 \\
        \phi &\leftarrow \phi - \eta \nabla_\phi \frac{1}{k} \sum_{k'=1}^{k} L(\phi_{k'}, b_m)

    Algorithm 3. Its line 13 is printed as :math:`\nabla L(\phi_0, b_m)`, which would leave the inner steps without any
    effect: ``meta_loss="slow"``. The defaults are those of the code of Gupta et al.: second-order gradients, the mean
    over inner steps, pieces of two images, entries of inner gradients within ±2, meta-gradients of norm at most 2.

    Args:
        model: a net with tasks × ways outputs.
        memory: the replay memory R.
        ways: classes a task.
        lr: η > 0, of inner and outer steps. Gupta et al.: 0.075 on Split-CIFAR100, 0.03 on Split-TinyImageNet.
            Default 0.03.
        k: pieces of a minibatch; None: one for each image, as printed (line 7). Default 5.
        replay: images that are drawn from the memory for each minibatch. Default 10.
        second_order: differentiate the inner steps too. Default True.
        meta_loss: "mean" over the weights after each inner step, "end" at the last, "slow" at φ, as printed.
            Default "mean".
        clamp: bound for the entries of inner gradients; None: none. Default 2.0.
        clip: bound for the norm of the meta-gradient; None: none. Default 2.0.
        push: "first" shows the minibatches of a task's first epoch to the memory, "every", as printed, those of all.
            Default "first".

    Raises:
        TypeError: if ``memory`` is no ``Reservoir``, or a number is not a number.
        ValueError: if a number is out of range or a word is unknown.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 4)  # two tasks of two classes
        >>> learner = LookaheadCMAML(model, Reservoir(50), ways=2, lr=0.1)
        >>> seen = learner.observe(torch.randn(10, 3), torch.tensor([0, 1] * 5))
        >>> seen = learner.observe(torch.randn(10, 3), torch.tensor([2, 3] * 5))

    """

    def __init__(
        self,
        model: nn.Module,
        memory: Reservoir,
        ways: int,
        *,
        lr: float = 0.03,
        k: int | None = 5,
        replay: int = 10,
        second_order: bool = True,
        meta_loss: str = "mean",
        clamp: float | None = 2.0,
        clip: float | None = 2.0,
        push: str = "first",
    ) -> None:
        super().__init__(model, memory, ways, replay=replay, push=push)
        self.net = Net(model)
        self.eta = nonnegative("lr", lr)
        self.k = None if k is None else count("k", k)
        self.second_order = second_order
        self.meta_loss = choice("meta_loss", meta_loss, ("mean", "end", "slow"))
        self.clamp = None if clamp is None else nonnegative("clamp", clamp)
        self.clip = None if clip is None else nonnegative("clip", clip)

    def observe(self, images: Tensor, labels: Tensor, *, first: bool = True) -> Observed:
        """Learn from a minibatch b."""
        k = len(labels) if self.k is None else self.k
        phi = self.net.weights
        images_m, labels_m = self.memory.joined(images, labels, self.replay)  # line 8: b_m = Sample(R) ∪ b
        fast, losses = phi, []
        seen: list[Observed] = []
        for x, y in zip(images.chunk(k), labels.chunk(k), strict=True):  # line 9
            if self._shows_memory(first):
                self.memory.push(x, y)  # line 10
            logits = self.net(fast, x)
            loss = self._loss(logits, y)
            gradient = grad(loss, fast, create_graph=self.second_order)
            fast = moved(fast, clamped(gradient, self.clamp), -self.eta)  # line 11
            if self.meta_loss == "mean":
                losses.append(self._loss(self.net(fast, images_m), labels_m))
            seen.append(self._observed(loss, logits, y, gradient))
        if self.meta_loss != "mean":
            losses.append(self._loss(self.net(fast if self.meta_loss == "end" else phi, images_m), labels_m))
        meta = grad(torch.stack(losses).mean(), phi)
        descend_(phi, clipped(meta, self.clip), self.eta)  # line 13
        return replace(seen[0], gradients=self.cost(len(labels), len(labels_m), len(losses)))

    def cost(self, n: int, m: int, losses: int) -> int:
        """Return images × gradients of an observation: of n images in b, m in b_m."""
        curvature = 2 * n if self.second_order and self.meta_loss != "slow" else 0
        return n + curvature + losses * m

    @property
    def lr(self) -> float:
        """The learning rate η."""
        return self.eta
