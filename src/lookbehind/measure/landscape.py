"""The loss along one or two directions from the weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from lookbehind._checks import choice, count, nonnegative
from lookbehind._minibatch import Loss
from lookbehind._style import panel
from lookbehind._tensors import add_, copy_, dots, norm, unit
from lookbehind.measure._objective import Objective
from lookbehind.measure._progress import track
from lookbehind.measure._untouched import untouched
from lookbehind.optim import Perturbation
from lookbehind.optim.perturbation import perturbation_of, unit_perturbation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tensors = list[Tensor] | tuple[Tensor, ...]
Direction = Literal["random", "sam", "asam"] | Perturbation | Tensors


@dataclass(frozen=True)
class LossSlice:
    """The mean loss on a line or a plane through the weights φ."""

    coordinates: tuple[tuple[float, ...], ...]  # along each direction
    losses: tuple[tuple[float, ...], ...]  # [j][i]: at coordinate i of the first and j of the second; a line is one row
    loss: float  # at φ
    directions: tuple[str, ...]
    norms: tuple[float, ...]  # ‖d‖₂ of each: a coordinate times this is the distance from φ
    cosine: float | None  # of the angle between two directions
    one_dimensional: str  # "ignore" or "normalise"
    minibatches: int
    mode: str  # of batch norm and dropout: "eval" or "train"
    seed: int
    gradients: int  # evaluated, each on one minibatch
    evaluations: int  # losses without a gradient, likewise

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw a curve or contours, with φ marked, and return the axes."""
        x, *others = (f"coordinate along {direction}" for direction in self.directions)
        axes = panel(axes, "Loss around the weights", x, others[0] if others else "loss")
        if not others:
            axes.plot(self.coordinates[0], self.losses[0])
            axes.plot(0, self.loss, "o", color="black")
        else:
            self._contours(axes)
            axes.plot(0, 0, "o", color="black")
        return axes

    def _contours(self, axes: Axes) -> None:
        import numpy
        from matplotlib.colors import LogNorm

        losses = numpy.ma.masked_invalid(numpy.array(self.losses))
        low, high = losses.min(), losses.max()
        if losses.count() and 0 < low < high:  # levels in equal ratios show the bottom of a valley too
            lines = axes.contour(*self.coordinates, losses, levels=numpy.geomspace(low, high, 16), norm=LogNorm())
            axes.clabel(lines, fmt="%.3g", fontsize=7)
        elif losses.count() and low < high:
            axes.clabel(axes.contour(*self.coordinates, losses, levels=16), fontsize=7)


def loss_slice(
    model: nn.Module,
    loss: Loss | None,
    minibatches: Iterable[Any],
    directions: Direction | Sequence[Direction] = "random",
    *,
    span: float | Sequence[float] = 1.0,
    points: int = 21,
    one_dimensional: str = "ignore",
    mode: str = "eval",
    seed: int = 0,
) -> LossSlice:
    r"""Measure the mean loss on a line or a plane through the weights.

    .. math:: L(\phi + x d_1), \quad L(\phi + x d_1 + y d_2)

    with L the mean loss over all minibatches, each weighted by its number of targets. A direction d is one of:

    * ``"random"``: normal, then filter-normalised (Li et al., 2018): each filter f gets the norm of φ's own,
      d_f ← d_f ‖φ_f‖ / ‖d_f‖. A filter is a slice along the first dimension of a layer's weight. So slices of
      nets whose layers are scaled differently can be compared. Parameters of one dimension (biases, batch norm's scale
      and shift) stay at φ, as there, unless ``one_dimensional="normalise"`` treats each as one filter.
    * ``"sam"``, ``"asam"`` or a rule object: where SAM itself climbs, d = ε / ‖ε‖₂ with ε from the gradient of L. All
      parameters move, and a coordinate is a distance, as ρ of SAM is.
    * a list of tensors, one for each parameter that requires a gradient: taken as it is, for instance the difference to
      another net's weights.

    Costs an evaluation for each minibatch and point, and one for φ; for rules also one gradient for each minibatch. The
    model comes back as it was.

    Args:
        model: any module. Only parameters that require a gradient move.
        loss: a function of (outputs, targets) that returns the mean loss over a minibatch. None: the model's own, its
            outputs' ``loss``.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords; a list, or a loader that can be
            gone through again and again.
        directions: one direction, or a sequence of one or two. Default "random".
        span: coordinates go from −span to span; one number, or one for each direction. Default 1.0.
        points: coordinates along each direction, 2 or more; an odd number includes φ. Default 21.
        one_dimensional: "ignore" or "normalise" in random directions. Default "ignore".
        mode: "eval" measures with batch norm's running statistics, "train" with each minibatch's own (and with dropout,
            the same masks at every point). Default "eval".
        seed: decides random directions. Default 0.

    Returns:
        A ``LossSlice``.

    Raises:
        ValueError: if there is no minibatch or no parameter that requires a gradient; if an argument is out of range,
            a direction does not fit the model, or two directions are parallel.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 2.0)
        >>> minibatches = [(torch.ones(4, 1), torch.zeros(4, 1))]  # the loss is w² = 4, and SAM climbs to larger w
        >>> loss_slice(model, torch.nn.functional.mse_loss, minibatches, "sam", points=3).losses
        ((1.0, 4.0, 9.0),)

    """
    chosen = _several(directions)
    if len(chosen) not in (1, 2):
        raise ValueError(f"there are {len(chosen)} directions; one or two are allowed")
    coordinates = _coordinates(span, len(chosen), points)
    choice("one_dimensional", one_dimensional, ("ignore", "normalise"))
    with untouched(model):
        objective = Objective(model, loss, minibatches, mode)
        sources = _Directions(objective, one_dimensional, seed)
        d = [sources.of(direction) for direction in chosen]
        cosine = _cosine(*d) if len(d) == 2 else None
        center = objective.value()
        losses = _losses(objective, d, coordinates)
    return LossSlice(
        coordinates=tuple(map(tuple, coordinates)),
        losses=tuple(tuple(losses[i : i + points]) for i in range(0, len(losses), points)),
        loss=center,
        directions=tuple(map(_name, chosen)),
        norms=tuple(norm(direction).item() for direction in d),
        cosine=cosine,
        one_dimensional=one_dimensional,
        minibatches=objective.minibatches,
        mode=mode,
        seed=seed,
        gradients=objective.gradients,
        evaluations=objective.evaluations,
    )


def _coordinates(span: float | Sequence[float], directions: int, points: int) -> list[list[float]]:
    """Return the coordinates along each direction."""
    spans = tuple(span) if isinstance(span, Sequence) else (span,) * directions
    if len(spans) != directions:
        raise ValueError(f"span is {span!r}; one number is needed, or one for each of {directions} directions")
    if count("points", points) < 2:
        raise ValueError(f"points is {points}; at least 2 are needed")
    steps = range(1 - points, points, 2)  # symmetric to the last bit, and 0 in the middle if there is one
    return [[nonnegative("span", s) * step / (points - 1) for step in steps] for s in spans]


def _losses(objective: Objective, d: list[list[Tensor]], coordinates: list[list[float]]) -> list[float]:
    """Return the losses at all points, the first direction's coordinate varying fastest."""
    start = [p.detach().clone() for p in objective.weights]
    losses = []
    grid = [(x, y) for y in (coordinates[1] if len(d) == 2 else [0.0]) for x in coordinates[0]]
    for point in track(grid, "loss"):
        with torch.no_grad():
            copy_(objective.weights, start)
            for direction, coordinate in zip(d, point, strict=False):
                add_(objective.weights, direction, coordinate)
        losses.append(objective.value())
    return losses


class _Directions:
    """Directions in the space of the weights that an objective holds."""

    def __init__(self, objective: Objective, one_dimensional: str, seed: int) -> None:
        self.objective, self.one_dimensional = objective, one_dimensional
        self.generator = torch.Generator().manual_seed(seed)
        self.gradient: list[Tensor] | None = None

    def of(self, direction: Direction) -> list[Tensor]:
        if isinstance(direction, (list, tuple)):
            return self._given(direction)
        if isinstance(direction, str):
            choice("direction", direction, ("random", "sam", "asam"))
        if direction == "random":
            return [self._filter_normalised(p) for p in self.objective.weights]
        return self._ascent(perturbation_of(direction))

    def _ascent(self, rule: Perturbation) -> list[Tensor]:
        if self.gradient is None:
            self.gradient = self.objective.gradient()
        with torch.no_grad():
            epsilon = unit_perturbation(rule, self.objective.weights, self.gradient)
            return unit(epsilon, norm(epsilon))

    @torch.no_grad()
    def _filter_normalised(self, weight: Tensor) -> Tensor:
        # Drawn for every parameter, so that what is ignored does not change the others' directions.
        drawn = torch.randn(weight.shape, generator=self.generator, dtype=torch.float64, device="cpu")
        d = drawn.to(weight.device, weight.dtype)
        if weight.ndim <= 1 and self.one_dimensional == "ignore":
            return torch.zeros_like(weight)
        filters = tuple(range(1, weight.ndim)) or None
        sizes = [torch.linalg.vector_norm(t, dim=filters, keepdim=True) for t in (weight, d)]
        normalised: Tensor = d * (sizes[0] / sizes[1])
        return normalised

    def _given(self, tensors: Tensors) -> list[Tensor]:
        shapes, needed = [tuple(t.shape) for t in tensors], [tuple(p.shape) for p in self.objective.weights]
        if shapes != needed:
            raise ValueError(f"a direction has tensors of shapes {shapes}; the model's parameters have {needed}")
        return [t.detach().to(p.device, p.dtype) for t, p in zip(tensors, self.objective.weights, strict=True)]


def _several(directions: Direction | Sequence[Direction]) -> Sequence[Direction]:
    """Tell one direction (a word, a rule, or tensors) from a sequence of directions."""
    if not isinstance(directions, (list, tuple)):
        return (cast("Direction", directions),)
    if directions and all(isinstance(item, Tensor) for item in directions):
        return (cast("Tensors", directions),)
    return cast("Sequence[Direction]", directions)


def _cosine(a: list[Tensor], b: list[Tensor]) -> float:
    lengths = (norm(a) * norm(b)).item()
    cosine = dots(a, b).sum().item() / lengths if lengths else 0.0
    if abs(cosine) > 1 - 1e-6:
        raise ValueError("the two directions are parallel, so they span no plane; choose others, or one of them")
    return cosine


def _name(direction: Direction) -> str:
    if isinstance(direction, str):
        return direction
    return "given tensors" if isinstance(direction, (list, tuple)) else repr(direction)
