"""The adaptive α of Lookbehind during training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lookbehind._style import BAND, panel
from lookbehind.optim import Lookbehind

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AlphaTrace:
    """α* of each outer step: one number, or one for each parameter tensor."""

    values: tuple[tuple[float, ...], ...]
    adaptive: str  # "adaptive" or "adaptive_per_tensor"

    @property
    def means(self) -> tuple[float, ...]:
        """The mean over tensors at each step."""
        return tuple(sum(step) / len(step) for step in self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON takes them."""
        return asdict(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw α* against the outer step (Figure 12), with the range over tensors, and return the axes."""
        axes = panel(axes, "Adaptive α during training", "outer step", "α*")
        steps = range(1, len(self.values) + 1)
        axes.plot(steps, self.means)
        if self.adaptive == "adaptive_per_tensor":
            axes.fill_between(steps, [min(s) for s in self.values], [max(s) for s in self.values], alpha=BAND)
        return axes


class Recording:
    """Values that ``alpha_trace`` has recorded so far."""

    def __init__(self, adaptive: str) -> None:
        self.adaptive = adaptive
        self.tensors: list[Tensor] = []

    def result(self) -> AlphaTrace:
        """Return the trace, which waits for the device."""
        values = torch.stack(self.tensors).tolist() if self.tensors else []
        return AlphaTrace(tuple(map(tuple, values)), self.adaptive)


@contextmanager
def alpha_trace(optimizer: Lookbehind) -> Iterator[Recording]:
    r"""Record α* = (cos θ + 1) / 2 of each step that an optimizer takes meanwhile.

    θ is the angle between the first and the last displacement of the fast weights (eq. 6-7 of Mordido et al., 2024). A
    hook on the optimizer keeps α* as a tensor where it is: no gradient, no waiting for the device. Skipped steps are
    left out.

    Args:
        optimizer: ``Lookbehind`` with ``alpha="adaptive"`` or ``"adaptive_per_tensor"``.

    Yields:
        A recording; its ``result()`` is an ``AlphaTrace``, during training or afterwards.

    Raises:
        TypeError: if the optimizer is no ``Lookbehind``.
        ValueError: if its α is fixed.

    Example:
        >>> import torch
        >>> from lookbehind import Lookbehind
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = Lookbehind(torch.optim.SGD([w], lr=0.1), rho=0.1, k=2, alpha="adaptive")
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = w.square().sum()
        ...     loss.backward()
        ...     return loss
        >>> with alpha_trace(optimizer) as recording:
        ...     for _ in range(3):
        ...         loss = optimizer.step(closure)
        >>> [round(alpha, 3) for alpha in recording.result().means]  # all steps go straight to the minimum
        [1.0, 1.0, 1.0]

    """
    if not isinstance(optimizer, Lookbehind):
        raise TypeError(f"optimizer is {type(optimizer).__name__}; only Lookbehind has an adaptive α")
    if optimizer.adaptive is None:
        raise ValueError("the optimizer has a fixed alpha; make it with alpha='adaptive' or 'adaptive_per_tensor'")
    recording = Recording(optimizer.adaptive)

    def record(optimizer: Lookbehind, *_: Any) -> None:
        if optimizer.alpha_star is not None and not optimizer.last_step_skipped:
            recording.tensors.append(optimizer.alpha_star.detach().clone().reshape(-1))

    hook = optimizer.register_step_post_hook(record)
    try:
        yield recording
    finally:
        hook.remove()
