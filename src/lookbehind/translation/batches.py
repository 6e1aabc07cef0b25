"""Minibatches of sentences of about the same length, limited by their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lookbehind.translation.tokens import END, PADDING

Minibatch = tuple[Any, Tensor]  # ((source, target so far), target)


class Minibatches:
    """Training pairs in a new order each pass, in minibatches of at most so many tokens, padding included.

    Each pass sorts the pairs by length, with equal ones in a new order. It cuts the row into minibatches, and yields
    these in a new order.

    Args:
        sources: tokens of each source sentence.
        targets: tokens of each target sentence.
        tokens: most tokens of a minibatch: its pairs times the longest sentence of either side.
        seed: decides the order.
        device: where minibatches are yielded. Default "cpu".

    Raises:
        ValueError: if a sentence has more than ``tokens`` tokens.

    """

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        tokens: int,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.sources, self.targets, self.tokens = sources, targets, tokens
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        lengths = [(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
        self.lengths = torch.tensor(lengths, dtype=torch.long).view(-1, 2)
        self.number = len(cut(sorted(map(tuple, lengths)), tokens))

    def __len__(self) -> int:
        """Return the number of minibatches of a pass: the lengths decide it, and not the order of equal ones."""
        return self.number

    def __iter__(self) -> Iterator[Minibatch]:
        for batch in self._drawn():
            yield collate([self.sources[i] for i in batch], [self.targets[i] for i in batch], self.device)

    def _drawn(self) -> list[list[int]]:
        order = torch.randperm(len(self.lengths), generator=self.generator)
        for side in (1, 0):  # by source, then target
            order = order[self.lengths[order, side].argsort(stable=True)]
        pieces = cut([(s, t) for s, t in self.lengths[order].tolist()], self.tokens)
        batches = [order[start:end].tolist() for start, end in pieces]
        return [batches[i] for i in torch.randperm(len(batches), generator=self.generator).tolist()]

    def state_dict(self) -> dict[str, Any]:
        """Return what the passes to come depend on."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken."""
        self.generator.set_state(state["generator"])


def cut(lengths: Sequence[tuple[int, ...]], tokens: int) -> list[tuple[int, int]]:
    """Return beginnings and ends of minibatches in a row of pairs with these lengths, each as large as allowed.

    Example:
        >>> cut([(2, 3), (3, 2), (4, 4), (5, 1)], tokens=8)
        [(0, 2), (2, 3), (3, 4)]

    """
    pieces, start, longest = [], 0, 0
    for i, length in enumerate(map(max, lengths)):
        if length > tokens:
            raise ValueError(f"a sentence has {length} tokens; at most the {tokens} of a minibatch are allowed")
        longest = max(longest, length)
        if (i + 1 - start) * longest > tokens:
            pieces.append((start, i))
            start, longest = i, length
    return [*pieces, (start, len(lengths))] if lengths else []


def collate(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], device: str = "cpu") -> Minibatch:
    """Return a minibatch. The decoder sees the target one place later, after the end of the sentence before.

    Example:
        >>> (source, previous), target = collate([[5, 1], [6, 7, 1]], [[3, 1], [1]])
        >>> previous.tolist(), target.tolist()
        ([[1, 3], [1, 0]], [[3, 1], [1, 0]])

    """
    before = [[END, *target[:-1]] for target in targets]
    source, previous, target = (filled(side).to(device) for side in (sources, before, targets))
    return (source, previous), target


def filled(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return sentences of different lengths as one tensor, filled up with padding."""
    rows = [torch.tensor(sentence, dtype=torch.long) for sentence in sentences]
    return pad_sequence(rows, batch_first=True, padding_value=PADDING)
