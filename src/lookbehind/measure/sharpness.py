"""m-sharpness: how much worse the loss of a minibatch gets within a radius of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lookbehind._checks import choice, count, nonnegative
from lookbehind._minibatch import Loss, call, examples, loss_of, pairs, weight_of
from lookbehind._modes import clear_weight_caches
from lookbehind._random import RandomState, random_state, set_random_state
from lookbehind._style import panel
from lookbehind._tensors import copy_, norm, unit
from lookbehind.measure._progress import track
from lookbehind.measure._untouched import untouched
from lookbehind.optim import Adaptive, Euclidean, Perturbation
from lookbehind.optim.perturbation import PerturbationName, perturbation_of, unit_perturbation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Sharpness:
    """m-sharpness at several radii, and how it was measured."""

    radii: tuple[float, ...]
    values: tuple[float, ...]  # mean over minibatches, one for each radius
    loss: float  # mean over minibatches at the weights themselves
    m: int  # size of the (largest) minibatch
    minibatches: int
    steps: int
    perturbation: str
    mode: str  # of batch norm: "eval" or "train"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw sharpness against radius, and return the axes."""
        axes = panel(axes, "Rise of the loss near the weights", "radius r", f"sharpness over minibatches of {self.m}")
        axes.plot(self.radii, self.values, marker="o")
        return axes


def m_sharpness(
    model: nn.Module,
    loss: Loss | None,
    minibatches: Iterable[Any],
    radii: Sequence[float],
    *,
    perturbation: PerturbationName | Perturbation = "sam",
    steps: int = 1,
    mode: str = "eval",
) -> Sharpness:
    r"""Measure m-sharpness at several radii.

    .. math:: \frac{1}{n} \sum_M \max_{\|\epsilon\|_2 \le r} L_M(\phi + \epsilon) - L_M(\phi)

    over n disjoint minibatches M of size m (eq. 5 of Mordido et al., 2024, after Foret et al., 2021; with
    ``perturbation="asam"`` its eq. 8, the radius being relative to the weights). The mean over minibatches is
    unweighted.

    With one step the maximum is approximated as SAM does, by ε = r g / ‖g‖: the paper's way. Such a value is a lower
    bound of the maximum and can be negative. With more steps, ε climbs by 2r/steps, or r/10 if that is more, along the
    steepest direction at the perturbed point. ASAM's ball keeps the shape that it has at φ. Outside the ball, ε is
    projected back into it. The best of all points counts, ε = 0 among them, so the value is never negative.

    Costs 1 gradient and one evaluation a radius for each minibatch; with several steps, steps − 1 gradients and steps
    evaluations for each radius beside the first gradient. The model comes back as it was.

    Args:
        model: any module.
        loss: a function of (outputs, targets) that returns the mean loss over a minibatch. None: the model's own, its
            outputs' ``loss``.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords, each one M. A loader or a list.
        radii: the radii r ≥ 0, in units of the parameters (ASAM: relative units).
        perturbation: "sam", "asam" or a rule object. With several steps, "sam" or "asam" (or an object of theirs),
            whose neighbourhood is a ball. Default "sam".
        steps: ascent steps. Default 1.
        mode: "eval" measures with batch norm's running statistics, "train" with each minibatch's own. Default "eval".

    Returns:
        A ``Sharpness`` with one value for each radius.

    Raises:
        ValueError: if there is no minibatch or one is no pair; if the loss is not one number, or no parameter requires
            a gradient; if a radius is negative, or several steps are asked of a rule without a ball.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 2.0)
        >>> minibatches = [(torch.ones(4, 1), torch.zeros(4, 1))]  # the loss is w² = 4
        >>> m_sharpness(model, torch.nn.functional.mse_loss, minibatches, [1.0]).values  # (2 + 1)² − 2²
        (5.0,)

    """
    radii = tuple(nonnegative("radius", r) for r in radii)
    rule = perturbation_of(perturbation)
    if count("steps", steps) > 1 and not isinstance(rule, (Euclidean, Adaptive)):
        raise ValueError(f"steps is {steps}, which needs the ball of 'sam' or 'asam'; for {rule!r} only 1 is allowed")
    choice("mode", mode, ("eval", "train"))
    rises: list[Tensor] = []
    losses: list[Tensor] = []
    m = 0
    with untouched(model):
        model.train(mode == "train")
        for inputs, targets in pairs(track(minibatches, "sharpness")):
            if not weight_of(model, loss, inputs, targets):
                continue
            random = random_state(p.device for p in model.parameters())
            climb = _Climb(model, partial(_evaluate, model, loss, inputs, targets, random), rule)
            rises.append(climb.rises(radii, steps))
            losses.append(climb.loss)
            m = max(m, examples(inputs))
    if not rises:
        raise ValueError("there is no minibatch to measure on, or none has a target that counts")
    return Sharpness(
        radii=radii,
        values=tuple(torch.stack(rises).mean(0).tolist()),
        loss=torch.stack(losses).mean().item(),
        m=m,
        minibatches=len(rises),
        steps=steps,
        perturbation=repr(rule),
        mode=mode,
    )


def _evaluate(model: nn.Module, loss: Loss | None, inputs: Any, targets: Any, random: RandomState) -> Tensor:
    set_random_state(random)  # the same dropout masks at every point
    clear_weight_caches()
    return loss_of(model, loss, call(model, inputs), targets)


class _Climb:
    """Ascents of one minibatch's loss from the model's weights φ, of any radius."""

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor], rule: Perturbation) -> None:
        self.weights: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        if not self.weights:
            raise ValueError("the model has no parameter that requires a gradient, so nothing to perturb")
        self.start = [p.detach().clone() for p in self.weights]
        self.evaluate = loss
        with torch.no_grad():
            self.ball = rule.scale(self.weights) if isinstance(rule, Adaptive) else [w.new_ones(()) for w in self.start]
        self.loss, gradients = self._gradients()
        with torch.no_grad():
            self.first = unit_perturbation(rule, self.weights, gradients)

    @torch.no_grad()
    def rises(self, radii: Sequence[float], steps: int) -> Tensor:
        """Return max L(φ + ε) − L(φ) over the ascent to each radius, and go back to φ."""
        best = [self._best(radius, steps) for radius in radii]
        copy_(self.weights, self.start)
        return torch.stack(best) - self.loss if best else self.loss.new_zeros(0)

    def _best(self, radius: float, steps: int) -> Tensor:
        if radius == 0:
            return self.loss
        return self._at(list(torch._foreach_mul(self.first, radius))) if steps == 1 else self._several(radius, steps)

    def _several(self, radius: float, steps: int) -> Tensor:
        size = radius * max(2 / steps, 0.1)
        best, direction = self.loss, self.first
        epsilon = [torch.zeros_like(d) for d in self.first]
        for step in range(1, steps + 1):
            epsilon = self._project([e + size * d for e, d in zip(epsilon, direction, strict=True)], radius)
            best = torch.maximum(best, self._at(epsilon))
            if step < steps:
                direction = self._steepest(self._gradients()[1])
        return best

    def _gradients(self) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            loss = self.evaluate()
            gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        return loss.detach(), list(gradients)

    def _at(self, epsilon: list[Tensor]) -> Tensor:
        copy_(self.weights, list(torch._foreach_add(self.start, epsilon)))
        return self.evaluate()

    def _steepest(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return T² g / ‖T g‖, with T of the ball."""
        scaled = [t * g for t, g in zip(self.ball, gradients, strict=True)]
        return unit([t * s for t, s in zip(self.ball, scaled, strict=True)], norm(scaled))

    def _project(self, epsilon: list[Tensor], radius: float) -> list[Tensor]:
        """Return the point of the ball ‖T⁻¹ ε‖₂ ≤ r on the ray from φ to φ + ε, nearest to φ + ε."""
        relative = [torch.where(e == 0, 0.0, e / t) for e, t in zip(epsilon, self.ball, strict=True)]
        length = norm(relative)
        shrink = torch.where(length > radius, radius / length, 1.0)
        return [shrink * e for e in epsilon]
