"""Pairs of sentences, as readers of data sets give them."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[str, str]  # a German and an English sentence


@dataclass(frozen=True)
class Published:
    """Pairs in the published parts; no validation pairs if they are yet to be taken from the training pairs."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
