"""Where weights are in memory: a base optimizer can step at other weights although nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from lookbehind.optim._tensors import clones, copy_


class Places:
    """Where weights are in memory when a step begins, and where they are again when it ends.

    Weights whose memory may not be theirs alone stay there, and values change places instead: views of a larger tensor,
    which somebody may read by that name, and classes of tensors (DTensor) that keep their numbers in another one.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.data = [t.data if _alone(t) else None for t in self.weights]

    @contextmanager
    def at(self, others: Sequence[Tensor]) -> Iterator[None]:
        """Let the weights be others, which are changed by whatever changes the weights meanwhile."""
        trios = list(zip(self.weights, others, self.data, strict=True))
        moved = [(t, other) for t, other, data in trios if data is not None]
        stay = [t for t, _, data in trios if data is None]
        others = [other for _, other, data in trios if data is None]
        aside = clones(stay)
        copy_(stay, others)
        for t, other in moved:
            t.data = other
        try:
            yield
        finally:
            for t, other in moved:
                if t.data_ptr() != other.data_ptr():  # a base that makes new tensors, as in p.data = p.data - step
                    other.copy_(t)
            self.restore()
            copy_(others, stay)
            copy_(stay, aside)

    def restore(self) -> None:
        """Let the weights be where they were; their values are another matter."""
        for t, data in zip(self.weights, self.data, strict=True):
            if data is not None:
                t.data = data


def _alone(t: Tensor) -> bool:
    return type(t) in (nn.Parameter, Tensor) and t.untyped_storage().nbytes() == t.nbytes
