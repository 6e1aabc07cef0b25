"""The Hessian of the loss, through products with vectors: largest eigenvalues and trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lookbehind._checks import count, nonnegative
from lookbehind._minibatch import Loss
from lookbehind._style import BAND, panel
from lookbehind.measure._lanczos import lanczos
from lookbehind.measure._objective import Objective
from lookbehind.measure._progress import track
from lookbehind.measure._untouched import untouched

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Minibatches = Iterable[Any]


@dataclass(frozen=True)
class TopEigenvalues:
    """The largest eigenvalues of the Hessian, with what is left over of each equation Hv = λv."""

    values: tuple[float, ...]  # the largest first
    residuals: tuple[float, ...]  # ‖Hv − λv‖₂ for ‖v‖₂ = 1, measured: some eigenvalue is this close to λ
    converged: bool  # whether every residual is at most tolerance × the largest |λ| met
    steps: int
    tolerance: float
    parameters: int
    minibatches: int
    mode: str  # of batch norm and dropout: "eval" or "train"
    seed: int
    gradients: int  # evaluated, each on one minibatch

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the eigenvalues in order, with their residuals as error bars, and return the axes."""
        said = "" if self.converged else " (not converged)"
        axes = panel(axes, "Largest eigenvalues of the Hessian", "rank", f"eigenvalue λ{said}")
        axes.errorbar(range(1, len(self.values) + 1), self.values, yerr=self.residuals, fmt="o", capsize=2)
        axes.set_xticks(range(1, len(self.values) + 1))
        return axes


@dataclass(frozen=True)
class HessianTrace:
    """The trace of the Hessian, estimated from random vectors."""

    trace: float  # mean of the estimates
    standard_error: float  # of the mean
    estimates: tuple[float, ...]  # vᵀHv of each draw
    converged: bool  # whether the standard error is at most tolerance × |trace|
    tolerance: float
    parameters: int
    minibatches: int
    mode: str
    seed: int
    gradients: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the mean after each draw, within its standard error, and return the axes."""
        said = "" if self.converged else " (not converged)"
        axes = panel(axes, "Mean of the estimates so far", "draws", f"trace of the Hessian{said}")
        draws = range(2, len(self.estimates) + 1)
        means, errors = zip(*(_mean_and_error(self.estimates[:n]) for n in draws), strict=True)
        axes.plot(draws, means)
        low = [mean - error for mean, error in zip(means, errors, strict=True)]
        high = [mean + error for mean, error in zip(means, errors, strict=True)]
        axes.fill_between(draws, low, high, alpha=BAND)
        return axes


def top_eigenvalues(
    model: nn.Module,
    loss: Loss | None,
    minibatches: Minibatches,
    *,
    top: int = 1,
    steps: int = 100,
    tolerance: float = 1e-3,
    mode: str = "eval",
    seed: int = 0,
) -> TopEigenvalues:
    r"""Find the largest (not the largest in absolute value) eigenvalues of the Hessian of the mean loss.

    .. math:: H v = \lambda v, \quad H = \nabla^2 L(\phi)

    with L the mean loss over all minibatches, each weighted by its number of targets. This is Lanczos iteration from a
    random vector, with full reorthogonalisation (Golub and Van Loan, 2013, section 10.3). It ends when its estimates of
    the residuals are small enough. The residuals reported are then measured with one more product each. An eigenvalue
    that occurs several times counts once. If there are fewer different ones than asked for, fewer are returned.

    Costs 2 gradients for each minibatch, step and eigenvalue returned: 2 · minibatches · (steps + top) at most. Memory:
    ``steps`` vectors of the size of the model, on the host. The model comes back as it was.

    Args:
        model: any module. Only parameters that require a gradient count.
        loss: a function of (outputs, targets) that returns the mean loss over a minibatch. None: the model's own, its
            outputs' ``loss``.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords; a list, or a loader that can be
            gone through again and again.
        top: number of eigenvalues. Default 1.
        steps: iterations at most. Default 100.
        tolerance: residual at which an eigenvalue counts as found, relative to the largest |λ| met. Default 0.001.
        mode: "eval" measures with batch norm's running statistics, "train" with each minibatch's own (and with dropout,
            the same masks in every product). Default "eval".
        seed: decides the first vector. Default 0.

    Returns:
        A ``TopEigenvalues``; look at ``converged``.

    Raises:
        ValueError: if there is no minibatch or no parameter that requires a gradient; if an argument is out of range;
            if the vectors do not fit into memory, or second derivatives are not finite.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> minibatches = [(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1))]  # H = 2 x xᵀ
        >>> result = top_eigenvalues(model, torch.nn.functional.mse_loss, minibatches)
        >>> round(result.values[0], 4), result.converged
        (10.0, True)

    """
    count("top", top)
    count("steps", steps)
    tolerance = nonnegative("tolerance", tolerance)
    with untouched(model):
        objective = Objective(model, loss, minibatches, mode)
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(objective.size, generator=generator, dtype=objective.dtype, device="cpu")
        for _, state in zip(track(range(steps), "eigenvalues"), lanczos(objective, start, steps), strict=False):
            matrix, basis, beta = state
            ritz, vectors = torch.linalg.eigh(matrix)
            largest = ritz.abs().max().item()
            estimates = beta * vectors[-1, -top:].abs()
            if len(ritz) >= top and estimates.max() <= tolerance * largest:
                break
        values = ritz[-top:].flip(0).tolist()
        eigenvectors = (basis.T @ vectors[:, -top:].flip(1).to(basis.dtype)).T
        residuals = [
            (objective.hessian_times(v / v.norm()) - value * v / v.norm()).norm().item()
            for v, value in zip(eigenvectors, values, strict=True)
        ]
    return TopEigenvalues(
        values=tuple(values),
        residuals=tuple(residuals),
        converged=max(residuals) <= tolerance * largest,
        steps=len(ritz),
        tolerance=tolerance,
        parameters=objective.size,
        minibatches=objective.minibatches,
        mode=mode,
        seed=seed,
        gradients=objective.gradients,
    )


def hessian_trace(
    model: nn.Module,
    loss: Loss | None,
    minibatches: Minibatches,
    *,
    draws: int = 100,
    tolerance: float = 0.05,
    mode: str = "eval",
    seed: int = 0,
) -> HessianTrace:
    r"""Estimate the trace of the Hessian of the mean loss (Hutchinson, 1990).

    .. math:: \operatorname{tr} H \approx \frac{1}{n} \sum_{i=1}^n v_i^T H v_i, \quad H = \nabla^2 L(\phi)

    with the entries of each v drawn from {−1, 1}, and L the mean loss over all minibatches, each weighted by its number
    of targets. The estimate is unbiased.

    Costs 2 · minibatches · draws gradients. The model comes back as it was.

    Args:
        model: any module. Only parameters that require a gradient count.
        loss: a function of (outputs, targets) that returns the mean loss over a minibatch. None: the model's own, its
            outputs' ``loss``.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords; a list, or a loader that can be
            gone through again and again.
        draws: n, 2 or more. Default 100.
        tolerance: standard error at which the trace counts as known, relative to the trace. Default 0.05.
        mode: "eval" measures with batch norm's running statistics, "train" with each minibatch's own (and with dropout,
            the same masks in every product). Default "eval".
        seed: decides the draws. Default 0.

    Returns:
        A ``HessianTrace``; look at ``standard_error`` and ``converged``.

    Raises:
        ValueError: if there is no minibatch or no parameter that requires a gradient, an argument is out of range,
            or second derivatives are not finite.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> minibatches = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1))]  # H = diag(1, 9)
        >>> hessian_trace(model, torch.nn.functional.mse_loss, minibatches, draws=5).trace
        10.0

    """
    if count("draws", draws) < 2:
        raise ValueError(f"draws is {draws}; at least 2 are needed for a standard error")
    tolerance = nonnegative("tolerance", tolerance)
    with untouched(model):
        objective = Objective(model, loss, minibatches, mode)
        generator = torch.Generator().manual_seed(seed)
        estimates = []
        for _ in track(range(draws), "trace"):
            v = torch.randint(2, (objective.size,), generator=generator, device="cpu").to(objective.dtype) * 2 - 1
            estimates.append((v @ objective.hessian_times(v)).item())
    trace, error = _mean_and_error(estimates)
    return HessianTrace(
        trace=trace,
        standard_error=error,
        estimates=tuple(estimates),
        converged=error <= tolerance * abs(trace),
        tolerance=tolerance,
        parameters=objective.size,
        minibatches=objective.minibatches,
        mode=mode,
        seed=seed,
        gradients=objective.gradients,
    )


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))
