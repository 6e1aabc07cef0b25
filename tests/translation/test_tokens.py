"""Subwords there and back."""

from __future__ import annotations

import pytest

from lookbehind.translation.grammar import pairs
from lookbehind.translation.tokens import END, PADDING, SPECIAL, UNKNOWN, dictionaries

PAIRS = pairs()


def test_there_and_back() -> None:
    both = dictionaries(PAIRS, 150)
    for german, english in PAIRS:
        assert both.source.decode(both.source.encode(german)) == german
        assert both.target.decode(both.target.encode(english)) == english
    numbers = both.source.encode(PAIRS[0][0])
    assert numbers[-1] == END
    assert both.source.decode([*numbers, 5, 5, PADDING]) == PAIRS[0][0]


def test_dictionaries_are_of_each_language() -> None:
    both = dictionaries(PAIRS, 150)
    assert both.source.pieces[:3] == both.target.pieces[:3] == SPECIAL
    assert any("ö" in piece for piece in both.source.pieces)
    assert not any("ö" in piece for piece in both.target.pieces)
    assert UNKNOWN in both.target.encode("schön")
    assert both.target.encode("")[0] == END
    assert len(set(both.source.pieces)) == len(both.source)
    shared = set(both.source.pieces) & set(both.target.pieces)
    assert 20 < len(shared) < min(len(both.source), len(both.target))  # one encoding for both


def test_the_same_pairs_give_the_same_dictionaries() -> None:
    one, other = dictionaries(PAIRS, 150), dictionaries(PAIRS, 150)
    assert one.digest == other.digest
    assert one.source.pieces == other.source.pieces
    assert dictionaries(PAIRS[:-1], 150).digest != one.digest


@pytest.mark.parametrize("pieces", [5, 100_000])
def test_too_few_or_too_many_pieces(pieces: int) -> None:
    with pytest.raises(ValueError, match=f"pieces is {pieces}, which these sentences cannot give"):
        dictionaries(PAIRS, pieces)
