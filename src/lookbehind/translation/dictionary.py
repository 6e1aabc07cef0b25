"""The German-English dictionary of Frank Richter (TU Chemnitz), as Debian's package trans-de-en installs it.

It is under the GPL (version 2 or later): it is read where it is installed, and no part of it is in this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lookbehind.data import DataError
from lookbehind.translation.pairs import Pair

DEBIAN = Path("/usr/share/trans/de-en")
# {grammar}, [field], (context), <spelling variant>, /abbreviation/; they can hold each other.
_BRACKETS = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)|<[^<>]*>|(?<!\S)/[^/\s]+/(?!\S)")
_LEFT_OVER = re.compile(r"[{}\[\]()<>/]")


def find(root: Path) -> Path:
    """Return the file: in the folder trans-de-en under the root, or where the Debian package has it.

    Raises:
        DataError: if it is in neither place.

    """
    own = root / "trans-de-en" / "de-en"
    for path in (own, DEBIAN):
        if path.is_file():
            return path
    raise DataError(
        f"the dictionary trans-de-en is neither at {DEBIAN} nor at {own}: apt-get install trans-de-en, or put the file "
        "de-en of that package there, or name another root folder in LOOKBEHIND_DATA"
    )


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
