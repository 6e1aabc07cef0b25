"""Accuracy of a model whose weights are noisy, as on analog hardware."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookbehind._checks import count, nonnegative, repeatable
from lookbehind._minibatch import Score, call, pairs, scores_of
from lookbehind._modes import clear_weight_caches
from lookbehind._style import panel
from lookbehind._warning import warn
from lookbehind.measure._progress import track
from lookbehind.measure._untouched import untouched

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Minibatches = Iterable[Any]


@dataclass(frozen=True)
class NoisyAccuracy:
    """Accuracy under noise of several sizes, in percent; one entry for each σ."""

    sigmas: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]  # over the draws, divided by their number (ddof = 0)
    accuracies: tuple[tuple[float, ...], ...]  # of each draw
    draws: int
    weights_only: bool
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw accuracy against σ, with the spread over draws, and return the axes."""
        axes = panel(axes, "Accuracy with noisy weights", "noise σ, relative to each parameter", "accuracy (%)")
        axes.errorbar(self.sigmas, self.means, yerr=self.stds, marker="o", capsize=2)
        return axes


def noisy_accuracy(
    model: nn.Module,
    train_minibatches: Minibatches,
    test_minibatches: Minibatches,
    sigmas: Sequence[float],
    *,
    draws: int = 10,
    weights_only: bool = False,
    score: Score | None = None,
    seed: int = 0,
) -> NoisyAccuracy:
    r"""Multiply each parameter by its own :math:`\delta \sim N(1, \sigma^2)` and measure accuracy, several times.

    Section 4.4 of Mordido et al., 2024. After each draw, batch-norm statistics are estimated anew by one pass over the
    training data, as hardware with noisy weights would be calibrated. The draws are the same for each σ but for their
    size. The model comes back as it was.

    Costs no gradient: for each σ and draw an evaluation of the test data, and one of the training data if the model has
    batch norm.

    Args:
        model: a classifier, or any module with ``score``.
        train_minibatches: pairs (inputs, targets), or dicts that the model takes by keywords, for the batch-norm
            statistics; can be gone through again and again.
        test_minibatches: pairs on which accuracy is measured; likewise.
        sigmas: each σ ≥ 0, the noise relative to each parameter.
        draws: how often noise is drawn for each σ. Default 10, as in the paper.
        weights_only: leave one-dimensional parameters (biases, batch norm) without noise. Default False.
        score: a function of (outputs, targets) that returns one number for each example. Then "accuracy" is its mean,
            in its own unit. Default: whether the class is right, in percent; see ``docs/measure-definitions.md``.
        seed: decides the noise. Default 0.

    Returns:
        A ``NoisyAccuracy``.

    Raises:
        ValueError: if a σ is negative or ``draws`` less than 1; if minibatches are missing or can be gone through only
            once; if the model has no parameter, or its outputs and targets have no accuracy.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.eye_(model.weight)
        >>> data = [(torch.eye(2), torch.arange(2))]
        >>> noisy_accuracy(model, data, data, [0.0, 0.1], draws=3).means
        (100.0, 100.0)

    """
    sigmas = tuple(nonnegative("sigma", sigma) for sigma in sigmas)
    count("draws", draws)
    check_minibatches("train_minibatches", train_minibatches)
    check_minibatches("test_minibatches", test_minibatches)
    accuracies: dict[float, list[float]] = {sigma: [] for sigma in sigmas}
    with untouched(model):
        parameters = parameters_of(model, weights_only)
        exact = [p.detach().clone() for p in parameters]
        generator = torch.Generator().manual_seed(seed)
        for _ in track(range(draws), "noisy weights"):
            noise = [torch.randn(p.shape, generator=generator, dtype=torch.float64, device="cpu") for p in parameters]
            for sigma, measured in accuracies.items():
                with torch.no_grad():
                    for p, value, n in zip(parameters, exact, noise, strict=True):
                        p.copy_(value * (1 + sigma * n).to(p.device, p.dtype))
                reestimate(model, train_minibatches)
                measured.append(accuracy(model, test_minibatches, score))
    values = [torch.tensor(accuracies[sigma], dtype=torch.float64, device="cpu") for sigma in sigmas]
    return NoisyAccuracy(
        sigmas=sigmas,
        means=tuple(v.mean().item() for v in values),
        stds=tuple(v.std(correction=0).item() for v in values),
        accuracies=tuple(tuple(accuracies[sigma]) for sigma in sigmas),
        draws=draws,
        weights_only=weights_only,
        seed=seed,
    )


def check_minibatches(name: str, minibatches: Minibatches) -> None:
    """Refuse what would leave the second draw without data: its batch-norm statistics would be wrong, silently."""
    repeatable(name, minibatches)
    if next(pairs(minibatches), None) is None:
        raise ValueError(f"{name} is empty; at least one minibatch is needed")


def parameters_of(model: nn.Module, weights_only: bool) -> list[nn.Parameter]:
    """Return the parameters that are changed. A quantised model has none, and would pass for one that noise spares."""
    parameters = [p for p in model.parameters() if not weights_only or p.ndim > 1]
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter to change; a quantised model cannot be measured")
    return parameters


@torch.no_grad()
def accuracy(model: nn.Module, minibatches: Minibatches, score: Score | None = None) -> float:
    """Return the accuracy in percent, or the mean score, in eval mode. The model's mode is left at eval."""
    model.eval()
    clear_weight_caches()
    scores = [scores_of(score, x, call(model, x), y).cpu() for x, y in pairs(minibatches)]
    return torch.cat(scores).mean().item()


@torch.no_grad()
def reestimate(model: nn.Module, minibatches: Minibatches) -> None:
    """Estimate batch-norm statistics anew by one pass, with the calls with which the model is evaluated.

    It is what ``torch.optim.swa_utils.update_bn`` does, for models of several inputs too.

    Raises:
        ValueError: if a batch norm is scripted: its momentum is compiled into it.

    """
    for name, module in model.named_modules():
        if "BatchNorm" in getattr(module, "original_name", "") and getattr(module, "running_mean", None) is not None:
            raise ValueError(
                f"the scripted layer {name or 'model'} is a batch norm, whose statistics cannot be estimated anew; "
                "measure the model as it was before torch.jit.script"
            )
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    estimated = {id(buffer) for layer in layers for buffer in layer.buffers()}
    own = {name: b.clone() for name, b in model.named_buffers() if id(b) not in estimated and b.is_floating_point()}
    if not (layers or own):
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all minibatches
    model.train()
    clear_weight_caches()
    for inputs, _ in pairs(minibatches):
        call(model, inputs)
    moved = [name for name, buffer in model.named_buffers() if name in own and not torch.equal(buffer, own[name])]
    if moved:
        warn(
            f"{', '.join(moved)} changed while batch-norm statistics were estimated anew: statistics of a layer of "
            "your own keep a share of what they were before"
        )
