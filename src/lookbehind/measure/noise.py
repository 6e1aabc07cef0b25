"""Accuracy of a model whose weights are noisy, as on analog hardware."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lookbehind.measure._untouched import untouched
from lookbehind.optim._arguments import count, nonnegative


@dataclass(frozen=True)
class NoisyAccuracy:
    """Accuracy over several draws of the noise, in percent."""

    sigma: float
    accuracies: tuple[float, ...]  # one for each draw
    mean: float
    std: float  # over the draws, divided by their number (ddof = 0)
    weights_only: bool
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)


def noisy_accuracy(
    model: nn.Module,
    train_minibatches: Iterable[tuple[Tensor, Tensor]],
    test_minibatches: Iterable[tuple[Tensor, Tensor]],
    *,
    sigma: float,
    draws: int = 10,
    weights_only: bool = False,
    seed: int = 0,
) -> NoisyAccuracy:
    r"""Multiply each parameter by its own :math:`\delta \sim N(1, \sigma^2)` and measure accuracy, several times.

    Section 4.4 of Mordido et al., 2024. After each draw, batch-norm statistics are estimated anew by one pass over the
    training data (``torch.optim.swa_utils.update_bn``), as hardware with noisy weights would be calibrated. The model
    comes back as it was.

    Args:
        model: a classifier.
        train_minibatches: pairs (inputs, targets) for the batch-norm statistics; can be gone through again and again.
        test_minibatches: pairs on which accuracy is measured; likewise.
        sigma: σ ≥ 0, the noise relative to each parameter.
        draws: how often noise is drawn. Default 10, as in the paper.
        weights_only: leave one-dimensional parameters (biases, batch norm) without noise. Default False.
        seed: decides the noise.

    Returns:
        A ``NoisyAccuracy``.

    Raises:
        ValueError: if ``sigma`` is negative, ``draws`` less than 1, or minibatches are missing or can be gone through
            only once.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.eye_(model.weight)
        >>> data = [(torch.eye(2), torch.arange(2))]
        >>> noisy_accuracy(model, data, data, sigma=0.1, draws=3).mean
        100.0

    """
    nonnegative("sigma", sigma)
    count("draws", draws)
    _check_minibatches("train_minibatches", train_minibatches)
    _check_minibatches("test_minibatches", test_minibatches)
    accuracies = []
    with untouched(model):
        parameters = [p for p in model.parameters() if not weights_only or p.ndim > 1]
        exact = [p.detach().clone() for p in parameters]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(draws):
            with torch.no_grad():
                for p, value in zip(parameters, exact, strict=True):
                    noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                    p.copy_(value * (1 + sigma * noise).to(p.device, p.dtype))
            update_bn((inputs for inputs, _ in train_minibatches), model)
            accuracies.append(accuracy(model, test_minibatches))
    values = torch.tensor(accuracies, dtype=torch.float64)
    return NoisyAccuracy(
        sigma=float(sigma),
        accuracies=tuple(accuracies),
        mean=values.mean().item(),
        std=values.std(correction=0).item(),
        weights_only=weights_only,
        seed=seed,
    )


def _check_minibatches(name: str, minibatches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Refuse what would leave the second draw without data: its batch-norm statistics would be wrong, silently."""
    if isinstance(minibatches, Iterator):
        raise ValueError(f"{name} is an iterator, which can be gone through only once; pass a list or a loader")
    if next(iter(minibatches), None) is None:
        raise ValueError(f"{name} is empty; at least one minibatch is needed")


@torch.no_grad()
def accuracy(model: nn.Module, minibatches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the accuracy in percent, in eval mode. The model's mode is left at eval."""
    model.eval()
    pairs = [((model(inputs).argmax(1) == targets).sum(), len(targets)) for inputs, targets in minibatches]
    return 100.0 * int(sum(right for right, _ in pairs)) / sum(number for _, number in pairs)
