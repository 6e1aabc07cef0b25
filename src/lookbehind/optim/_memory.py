"""Where weights are in memory: a base optimizer can step at other weights although nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from lookbehind._tensors import clones, copy_


class Places:
    """Where weights are in memory, and the other weights that they can be for a while.

    Weights whose memory may not be theirs alone stay there, and values change places instead: views of a larger tensor,
    which somebody may read by that name, and classes of tensors (DTensor) that keep their numbers in another one.
    """

    def __init__(self, weights: Sequence[Tensor], others: Sequence[Tensor]) -> None:
        pairs = list(zip(weights, others, strict=True))
        self.moved = [(t, t.data, other) for t, other in pairs if _alone(t)]
        shared = [] if len(self.moved) == len(pairs) else [pair for pair in pairs if not _alone(pair[0])]
        self.stay = [t for t, _ in shared]
        self.others = [other for _, other in shared]

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Let the weights be the others, which are changed by whatever changes the weights meanwhile."""
        aside = clones(self.stay)
        copy_(self.stay, self.others)
        for t, _, other in self.moved:
            t.data = other
        try:
            yield
        finally:
            for t, _, other in self.moved:
                if t.data_ptr() != other.data_ptr():  # a base that makes new tensors, as in p.data = p.data - step
                    other.copy_(t)
            self.restore()
            copy_(self.others, self.stay)
            copy_(self.stay, aside)

    def restore(self) -> None:
        """Let the weights be where they were; their values are another matter."""
        for t, data, _ in self.moved:
            t.data = data


def _alone(t: Tensor) -> bool:
    return type(t) in (nn.Parameter, Tensor) and t.untyped_storage().nbytes() == t.nbytes
