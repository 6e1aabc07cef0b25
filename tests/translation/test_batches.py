"""Minibatches by tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbehind.translation.batches import Minibatches
from lookbehind.translation.tokens import END, PADDING

LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=60)


def sentences(lengths: list[int]) -> list[list[int]]:
    """Sentence i begins with 10 + i."""
    return [[10 + i] * (length - 1) + [END] if length > 1 else [END] for i, length in enumerate(lengths)]


@settings(max_examples=60)
@given(LENGTHS, st.integers(9, 40), st.integers(0, 5))
def test_every_pair_once_and_never_too_many_tokens(lengths: list[tuple[int, int]], tokens: int, seed: int) -> None:
    sources, targets = (sentences([pair[side] for pair in lengths]) for side in (0, 1))
    minibatches = Minibatches(sources, targets, tokens, seed)
    for _ in range(2):
        seen = []
        batches = list(minibatches)
        assert len(batches) == len(minibatches)
        for (source, previous), target in batches:
            assert max(source.numel(), target.numel()) <= tokens
            assert previous.shape == target.shape
            assert (previous[:, 0] == END).all()
            assert torch.equal(previous[:, 1:], target[:, :-1].masked_fill(target[:, 1:] == PADDING, PADDING))
            for row in zip(source.tolist(), target.tolist(), strict=True):
                seen.append(tuple(tuple(t for t in side if t != PADDING) for side in row))
        expected = [(tuple(s), tuple(t)) for s, t in zip(sources, targets, strict=True)]
        assert sorted(seen) == sorted(expected)


def test_lengths_are_alike_and_orders_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 30, (400,), generator=generator).tolist()
    sources = sentences(lengths)
    minibatches = Minibatches(sources, sources, 200, seed=0)
    first, second = list(minibatches), list(minibatches)
    filled = sum(source.numel() for (source, _), _ in first)
    assert filled < 1.1 * sum(lengths)  # padding
    assert [s.tolist() for (s, _), _ in first] != [s.tolist() for (s, _), _ in second]
    widths = [source.shape[1] for (source, _), _ in first]
    assert widths != sorted(widths)
    assert sorted(widths) == sorted(source.shape[1] for (source, _), _ in second)
    again = list(Minibatches(sources, sources, 200, seed=0))
    other = list(Minibatches(sources, sources, 200, seed=1))
    assert [s.tolist() for (s, _), _ in first] == [s.tolist() for (s, _), _ in again]
    assert [s.tolist() for (s, _), _ in first] != [s.tolist() for (s, _), _ in other]


def test_the_state() -> None:
    sources = sentences(list(range(1, 20)))
    one, other = (Minibatches(sources, sources, 40, seed) for seed in (0, 7))
    list(one)
    other.load_state_dict(one.state_dict())
    assert [t.tolist() for _, t in one] == [t.tolist() for _, t in other]


def test_too_long() -> None:
    with pytest.raises(ValueError, match="a sentence has 8 tokens; at most the 7 of a minibatch"):
        Minibatches([[3] * 8], [[1]], 7, 0)
