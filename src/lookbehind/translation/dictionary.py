"""Pairs of phrases from the German-English dictionary of Debian's package trans-de-en."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lookbehind.data import DataError
from lookbehind.translation.pairs import Pair

# {grammar}, [field], (context), <spelling variant>, /abbreviation/; they can hold each other.
_BRACKETS = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)|<[^<>]*>|(?<!\S)/[^/\s]+/(?!\S)")
_LEFT_OVER = re.compile(r"[{}\[\]()<>/]")


def read(path: Path) -> tuple[Pair, ...]:
    """Return every pair of the file.

    Raises:
        DataError: if it cannot be read, or holds no pair.

    """
    try:
        with path.open(encoding="utf-8") as file:
            pairs = tuple(pair for line in file for pair in pairs_of(line))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    if not pairs:
        raise DataError(f"{path} has no line of the form DE :: EN")
    return pairs


def pairs_of(line: str) -> Iterator[Pair]:
    r"""Yield the pairs of a line ``German :: English``: for each sense, between ``|``, its first variant, before ``;``.

    Remarks in brackets are left out. A sense that names alternatives inside a phrase (``a/b``) is passed over, and so
    is a line whose sides have different numbers of senses.

    Example:
        >>> list(pairs_of("Haus {n}; Heim {n} [arch.] | ein altes Haus :: house; home | an old house"))
        [('Haus', 'house'), ('ein altes Haus', 'an old house')]

    """
    german, separator, english = line.partition("::")
    if line.startswith("#") or not separator:
        return
    senses = [_without_remarks(side).split("|") for side in (german, english)]
    if len(senses[0]) != len(senses[1]):
        return
    for source, target in zip(*senses, strict=True):
        pair = _first(source), _first(target)
        if all(pair) and not any(map(_LEFT_OVER.search, pair)):
            yield pair


def _without_remarks(text: str) -> str:
    while (less := _BRACKETS.sub(" ", text)) != text:
        text = less
    return text


def _first(variants: str) -> str:
    return " ".join(variants.split(";")[0].split())
