"""Lookbehind-C-MAML, algorithm 4 of Mordido et al., 2024."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from lookbehind._checks import choice, count, fraction, nonnegative
from lookbehind.lifelong._lists import Net, clamped, climb, clipped, descend_, grad, interpolated, moved
from lookbehind.lifelong.learner import Learner, Observed
from lookbehind.lifelong.memory import Reservoir


class LookbehindCMAML(Learner):
    r"""Climb k steps behind on pieces of the minibatch, descend ahead with what is met there, and meta-learn like SAM.

    .. math::
        b_m &= \text{Sample}(R) \cup b, \qquad \phi_0 = \phi'_0 = \phi \\
        \phi'_{k'+1} &= \phi'_{k'} + \rho \frac{g}{\|g\|_2}, \quad g = \nabla \ell_t(\phi'_{k'}, b[k']), \qquad
        \phi_{k'+1} = \phi_{k'} - \eta \nabla \ell_t(\phi'_{k'+1}, b[k']) \\
        \hat\phi &= \phi + \alpha (\phi_k - \phi), \qquad
        \epsilon = \rho \frac{\nabla_\phi L(\hat\phi, b_m)}{\|\nabla_\phi L(\hat\phi, b_m)\|_2}, \qquad
        \phi \leftarrow \phi - \eta \nabla_\phi L(\hat\phi + \epsilon, b_m)

    Algorithm 4, where ε are constants to all derivatives. As printed it has no loop over minibatches, and nothing
    assigns :math:`\phi'_{k'}` for k' > 0. It descends at :math:`\phi + \epsilon`, whatever the inner steps led to. The
    defaults follow algorithm 3 and algorithm 1 there; what is printed can be chosen.

    With ρ = 0 and one piece it is ``LookaheadCMAML`` with ``meta_loss="end"``, for α = 1; with several pieces so it is
    for ``ascent="fast"``, while by default all inner gradients are then at φ.

    Args:
        model: a net with tasks × ways outputs.
        memory: the replay memory R.
        ways: classes a task.
        lr: η > 0, of inner and outer steps. Default 0.03.
        rho: ρ ≥ 0, the length of each ascent. Default 0.005.
        k: inner steps, each on a piece of the minibatch. Default 2.
        alpha: α in (0, 1], the outer step size. Default 1.0, the best of Table 7.
        replay: images that are drawn from the memory for each minibatch. Default 10.
        second_order: differentiate the inner steps too. Default True.
        ascent: from where an ascent starts: "continue" from the last perturbed point, as in algorithm 1; "restart" from
            φ, the only point that the printed algorithm assigns; "fast" from the fast weights. Default "continue".
        meta_point: where the meta-gradient is taken: "fast" at φ̂ + ε, "slow" at φ + ε, as printed. Default "fast".
        draw: "once" splits one minibatch into k pieces; "each", as printed, takes a minibatch for each inner step, of
            which it uses the k'-th image, and the last for b_m: ``observe`` wants k of them. Default "once".
        meta_updates: "minibatch": one meta-update for each; "epoch", as printed: one an epoch. Default "minibatch".
        clamp: bound for the entries of descending inner gradients; None: none, as printed. Default 2.0.
        clip: bound for the norm of the meta-gradient; None: none, as printed. Default 2.0.
        push: "first" shows the minibatches of a task's first epoch to the memory, "every", as printed, those of all.
            Default "first".

    Raises:
        TypeError: if ``memory`` is no ``Reservoir``, or a number is not a number.
        ValueError: if a number is out of range or a word is unknown.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 4)  # two tasks of two classes
        >>> learner = LookbehindCMAML(model, Reservoir(50), ways=2, lr=0.1, rho=0.05, k=5, alpha=0.5)
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
        rho: float = 0.005,
        k: int = 2,
        alpha: float = 1.0,
        replay: int = 10,
        second_order: bool = True,
        ascent: str = "continue",
        meta_point: str = "fast",
        draw: str = "once",
        meta_updates: str = "minibatch",
        clamp: float | None = 2.0,
        clip: float | None = 2.0,
        push: str = "first",
    ) -> None:
        super().__init__(model, memory, ways, replay=replay, push=push)
        self.net = Net(model)
        self.eta, self.rho = nonnegative("lr", lr), nonnegative("rho", rho)
        self.k, self.alpha = count("k", k), fraction("alpha", alpha)
        self.second_order = second_order
        self.ascent = choice("ascent", ascent, ("continue", "restart", "fast"))
        self.meta_point = choice("meta_point", meta_point, ("fast", "slow"))
        self.draw = choice("draw", draw, ("once", "each"))
        self.minibatches = self.k if draw == "each" else 1
        self.once_an_epoch = choice("meta_updates", meta_updates, ("minibatch", "epoch")) == "epoch"
        self.clamp = None if clamp is None else nonnegative("clamp", clamp)
        self.clip = None if clip is None else nonnegative("clip", clip)

    def observe(self, images: Tensor, labels: Tensor, *, first: bool = True) -> Observed:
        """Learn from a minibatch b; with ``draw="each"`` from k of them, one after the other."""
        phi, eta, rho = self.net.weights, self.eta, self.rho
        fast = behind = phi  # lines 4 and 7: φ_0 = φ'_0 = φ
        seen: list[Observed] = []
        for x, y, *b_m in self._pieces(images, labels):  # noqa: B007 - lines 8-10; the last b_m is used
            if self._shows_memory(first):
                self.memory.push(x, y)  # line 11
            behind = {"continue": behind, "restart": phi, "fast": fast}[self.ascent]
            logits = self.net(behind, x)
            loss = self._loss(logits, y)
            up = grad(loss, behind)
            behind = moved(behind, climb(up), rho)  # line 12: φ'_{k'+1} = φ'_k' + ε
            down = grad(self._loss(self.net(behind, x), y), behind, create_graph=self.second_order)
            fast = moved(fast, clamped(down, self.clamp), -eta)  # line 13
            seen.append(self._observed(loss, logits, y, up))
        fast = interpolated(phi, fast, self.alpha)  # line 15
        images_m, labels_m = b_m
        up = grad(self._loss(self.net(fast, images_m), labels_m), phi, retain_graph=True)  # line 16
        point = moved(fast if self.meta_point == "fast" else phi, climb(up), rho)
        meta = grad(self._loss(self.net(point, images_m), labels_m), phi)  # line 17
        descend_(phi, clipped(meta, self.clip), eta)
        return replace(seen[0], gradients=self.cost(sum(o.classified for o in seen), len(labels_m)))

    def _pieces(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield b[k'] and b_m for each inner step."""
        if self.draw == "once":
            b_m = self.memory.joined(images, labels, self.replay)
            yield from ((x, y, *b_m) for x, y in zip(images.chunk(self.k), labels.chunk(self.k), strict=True))
            return
        if len(labels) < self.k * self.k:
            raise ValueError(
                f"the minibatches have {len(labels)} images together; draw='each' needs {self.k} minibatches of at "
                f"least k = {self.k}"
            )
        for i, (x, y) in enumerate(zip(images.chunk(self.k), labels.chunk(self.k), strict=True)):
            yield (x[i : i + 1], y[i : i + 1], *self.memory.joined(x, y, self.replay))

    def cost(self, n: int, m: int) -> int:
        """Return images × gradients of an observation: of n images in all b[k'], m in b_m."""
        curvature = 2 * n if self.second_order else 0
        return 2 * n + (m + curvature) + (m + (curvature if self.meta_point == "fast" else 0))

    @property
    def lr(self) -> float:
        """The learning rate η."""
        return self.eta
