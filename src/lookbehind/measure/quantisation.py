"""Accuracy of a model whose weights are rounded to a few bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lookbehind._checks import count
from lookbehind._minibatch import Score
from lookbehind._style import panel
from lookbehind.measure._progress import track
from lookbehind.measure._untouched import untouched
from lookbehind.measure.noise import accuracy, check_minibatches, parameters_of, reestimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Minibatches = Iterable[Any]


@dataclass(frozen=True)
class QuantisedAccuracy:
    """Accuracy in percent: of the weights as they are, and rounded, one entry for each number of bits."""

    accuracy: float
    bits: tuple[int, ...]
    per_tensor: tuple[float, ...]  # one step size for each tensor
    per_channel: tuple[float, ...]  # one step size for each output channel
    weights_only: bool
    reestimated: bool  # whether batch-norm statistics were estimated anew, also for ``accuracy``
    gradients: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw accuracy against bits, beside that of the weights as they are, and return the axes."""
        axes = panel(axes, "Accuracy with rounded weights", "bits of a weight", "accuracy (%)")
        order = sorted(range(len(self.bits)), key=self.bits.__getitem__)
        bits = [self.bits[i] for i in order]
        axes.axhline(self.accuracy, color="black", linestyle="--", label="not rounded")
        axes.plot(bits, [self.per_channel[i] for i in order], marker="s", label="per channel")
        axes.plot(bits, [self.per_tensor[i] for i in order], marker="o", label="per tensor")
        axes.set_xticks(bits)
        axes.legend(frameon=False)
        return axes


def quantised_accuracy(
    model: nn.Module,
    minibatches: Minibatches,
    bits: Sequence[int] = (8, 4),
    *,
    weights_only: bool = True,
    train_minibatches: Minibatches | None = None,
    score: Score | None = None,
) -> QuantisedAccuracy:
    r"""Round the weights to a few bits, symmetrically and uniformly, and measure accuracy.

    .. math:: \hat w = \Delta \operatorname{round}(w / \Delta), \quad \Delta = \max |w| / (2^{b - 1} - 1)

    with the maximum over a tensor, or over each output channel (a slice along the first dimension) of it. So b bits
    give 2ᵇ − 1 levels, 0 and the largest |w| among them, and no weight moves by more than Δ/2. Ties go to the even
    level. Activations are not rounded, and the rounded weights are computed with in the model's own precision.

    Costs no gradient: an evaluation of the data for the weights as they are, and two for each number of bits. The model
    comes back as it was.

    Args:
        model: a classifier, or any module with ``score``.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords, on which accuracy
            is measured; can be gone through again and again.
        bits: each b from 2 to 16. Default (8, 4).
        weights_only: leave parameters of one dimension (biases, batch norm's scale and shift) as they are. Otherwise
            each of them is rounded with one step size, per channel too. Default True.
        train_minibatches: if given, batch-norm statistics are estimated anew by one pass over these pairs before each
            accuracy, that of the weights as they are included. Default None: statistics stay.
        score: a function of (outputs, targets) that returns one number for each example. Then "accuracy" is its mean,
            in its own unit. Default: whether the class is right, in percent; see ``docs/measure-definitions.md``.

    Returns:
        A ``QuantisedAccuracy``.

    Raises:
        TypeError: if a number of bits is not a whole number.
        ValueError: if it is not from 2 to 16, or minibatches are missing or can be gone through only once.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.2], [0.0, 0.2]]))  # at 2 bits, 0.2 becomes 0
        >>> data = [(torch.tensor([[1.0, 0.0], [-1.0, 5.0]]), torch.tensor([0, 1]))]
        >>> quantised_accuracy(model, data, bits=[8, 2]).per_tensor
        (100.0, 100.0)

    """
    bits = tuple(_bits(b) for b in bits)
    check_minibatches("minibatches", minibatches)
    if train_minibatches is not None:
        check_minibatches("train_minibatches", train_minibatches)

    def measured() -> float:
        if train_minibatches is not None:
            reestimate(model, train_minibatches)
        return accuracy(model, minibatches, score)

    with untouched(model):
        parameters = parameters_of(model, weights_only)
        exact = [p.detach().clone() for p in parameters]
        unrounded = measured()
        found = {}
        for b, per_channel in track([(b, channel) for b in bits for channel in (False, True)], "quantised weights"):
            with torch.no_grad():
                for p, w in zip(parameters, exact, strict=True):
                    p.copy_(quantise(w, b, per_channel=per_channel))
            found[b, per_channel] = measured()
    return QuantisedAccuracy(
        accuracy=unrounded,
        bits=bits,
        per_tensor=tuple(found[b, False] for b in bits),
        per_channel=tuple(found[b, True] for b in bits),
        weights_only=weights_only,
        reestimated=train_minibatches is not None,
    )


def quantise(tensor: Tensor, bits: int, *, per_channel: bool) -> Tensor:
    """Return Δ round(w / Δ), with one Δ for the tensor, or one for each slice along the first dimension.

    Args:
        tensor: w. A tensor of one dimension has one Δ in any case.
        bits: b from 2 to 16; Δ = max |w| / (2ᵇ⁻¹ − 1).
        per_channel: one Δ for each slice.

    Raises:
        TypeError: if ``bits`` is not a whole number.
        ValueError: if ``bits`` is not from 2 to 16.

    Example:
        >>> import torch
        >>> w = torch.tensor([[3.0, 1.4], [0.3, 0.1]])
        >>> quantise(w, 3, per_channel=False)  # the levels are −3, −2, … 3
        tensor([[3., 1.],
                [0., 0.]])

    """
    w = tensor.to("cpu", torch.float64)
    dimensions = tuple(range(1, w.ndim)) if per_channel and w.ndim > 1 else tuple(range(w.ndim))
    step = w.abs().amax(dimensions, keepdim=True) / (2 ** (_bits(bits) - 1) - 1)
    rounded: Tensor = step * torch.round(w / torch.where(step == 0, 1.0, step))
    return rounded.to(tensor.device, tensor.dtype)


def _bits(value: int) -> int:
    if not 2 <= count("bits", value) <= 16:
        raise ValueError(f"bits is {value}; a whole number from 2 to 16 is needed")
    return value
