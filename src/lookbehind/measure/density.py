"""The distribution of the Hessian's eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lookbehind._checks import count, fraction
from lookbehind._minibatch import Loss
from lookbehind._style import BAND, panel
from lookbehind.measure._lanczos import lanczos
from lookbehind.measure._objective import Objective
from lookbehind.measure._progress import track
from lookbehind.measure._untouched import untouched

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class SpectralDensity:
    """Distribution of the eigenvalues of the Hessian: a density of integral 1, smoothed by a normal."""

    grid: tuple[float, ...]
    density: tuple[float, ...]  # mean over probes, at each point of the grid
    standard_error: tuple[float, ...]  # of that mean
    nodes: tuple[tuple[float, ...], ...]  # Ritz values of each probe, ascending
    weights: tuple[tuple[float, ...], ...]  # of the nodes; those of a probe sum to 1
    width: float  # standard deviation of the normal, in units of the eigenvalues
    steps: int
    parameters: int
    minibatches: int
    mode: str  # of batch norm and dropout: "eval" or "train"
    seed: int
    gradients: int  # evaluated, each on one minibatch

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the density on a logarithmic axis, within its standard error, and return the axes."""
        axes = panel(axes, "Spectrum of the Hessian", "eigenvalue λ of the Hessian", "density")
        axes.semilogy(self.grid, self.density)
        low = [max(d - e, 0.0) for d, e in zip(self.density, self.standard_error, strict=True)]
        high = [d + e for d, e in zip(self.density, self.standard_error, strict=True)]
        axes.fill_between(self.grid, low, high, alpha=BAND)
        # Tails of normals reach down hundreds of decades; less than a tenth of one eigenvalue's peak tells nothing.
        axes.set_ylim(bottom=0.04 / (self.width * self.parameters))
        return axes


def spectral_density(
    model: nn.Module,
    loss: Loss | None,
    minibatches: Iterable[Any],
    *,
    probes: int = 10,
    steps: int = 30,
    width: float = 0.01,
    mode: str = "eval",
    seed: int = 0,
) -> SpectralDensity:
    r"""Estimate the density of the Hessian's eigenvalues by stochastic Lanczos quadrature.

    .. math:: \frac{1}{p} \sum_{i=1}^p N(t; \lambda_i, \sigma^2)
              \approx \operatorname{mean}_v \sum_j \tau_j N(t; \theta_j, \sigma^2)

    with p eigenvalues λ of the Hessian of the mean loss over all minibatches, each weighted by its number of targets.
    From a random vector v, ``steps`` steps of Lanczos make a tridiagonal matrix (Lin, Saad and Yang, 2016; Ghorbani et
    al., 2019). θ are its eigenvalues, the Ritz values, and τ the squared first components of its eigenvectors. For each
    v, moments up to 2 · steps − 1 are exact. Few steps resolve the ends of the spectrum and smear the bulk. The
    standard error is over the random vectors.

    Costs 2 · minibatches · steps · probes gradients. Memory: ``steps`` vectors of the size of the model, on the host.
    The model comes back as it was.

    Args:
        model: any module. Only parameters that require a gradient count.
        loss: a function of (outputs, targets) that returns the mean loss over a minibatch. None: the model's own, its
            outputs' ``loss``.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords; a list, or a loader that can be
            gone through again and again.
        probes: number of random vectors, 2 or more. Default 10.
        steps: Lanczos steps for each. Default 30.
        width: σ of the smoothing normal, as a fraction in (0, 1] of the range of the eigenvalues. Default 0.01.
        mode: "eval" measures with batch norm's running statistics, "train" with each minibatch's own (and with dropout,
            the same masks in every product). Default "eval".
        seed: decides the random vectors. Default 0.

    Returns:
        A ``SpectralDensity``.

    Raises:
        ValueError: if there is no minibatch or no parameter that requires a gradient; if an argument is out of range;
            if the vectors do not fit into memory, or second derivatives are not finite.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> minibatches = [(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.zeros(2, 1))]  # H = diag(1, 9)
        >>> result = spectral_density(model, torch.nn.functional.mse_loss, minibatches)
        >>> [round(node, 3) for node in result.nodes[0]]
        [1.0, 9.0]

    """
    if count("probes", probes) < 2:
        raise ValueError(f"probes is {probes}; at least 2 are needed for a standard error")
    count("steps", steps)
    fraction("width", width)
    nodes, weights = [], []
    with untouched(model):
        objective = Objective(model, loss, minibatches, mode)
        generator = torch.Generator().manual_seed(seed)
        for _ in track(range(probes), "spectral density"):
            start = torch.randn(objective.size, generator=generator, dtype=objective.dtype, device="cpu")
            *_, (matrix, _, _) = lanczos(objective, start, steps)
            ritz, vectors = torch.linalg.eigh(matrix)
            nodes.append(ritz)
            weights.append(vectors[0].square())
    grid, sigma = _grid(nodes, width)
    densities = torch.stack(
        [(tau * _normal(grid[:, None] - theta, sigma)).sum(1) for theta, tau in zip(nodes, weights, strict=True)]
    )
    return SpectralDensity(
        grid=tuple(grid.tolist()),
        density=tuple(densities.mean(0).tolist()),
        standard_error=tuple((densities.std(0) / math.sqrt(probes)).tolist()),
        nodes=tuple(tuple(n.tolist()) for n in nodes),
        weights=tuple(tuple(w.tolist()) for w in weights),
        width=sigma,
        steps=steps,
        parameters=objective.size,
        minibatches=objective.minibatches,
        mode=mode,
        seed=seed,
        gradients=objective.gradients,
    )


def _grid(nodes: Sequence[Tensor], width: float) -> tuple[Tensor, float]:
    """Return the points at which the density is computed, and σ."""
    low, high = min(n[0].item() for n in nodes), max(n[-1].item() for n in nodes)
    sigma = width * (high - low or abs(high) or 1.0)  # a Hessian with one eigenvalue has no range
    # Half a σ between points keeps the sum over the grid equal to the integral; four σ on each side hold all of it.
    spaces = math.ceil((high - low + 8 * sigma) / (sigma / 2) - 1e-6)  # their number does not depend on rounding
    return low - 4 * sigma + sigma / 2 * torch.arange(spaces + 1, dtype=torch.float64, device="cpu"), sigma


def _normal(x: Tensor, sigma: float) -> Tensor:
    return torch.exp(-((x / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
