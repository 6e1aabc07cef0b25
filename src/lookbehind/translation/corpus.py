"""Sentence pairs in three parts, by name: IWSLT'14, the Debian package trans-de-en, and sentences of our own."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookbehind._words import allowed
from lookbehind.data import default_root, trans_de_en
from lookbehind.translation import dictionary, grammar, iwslt
from lookbehind.translation.pairs import Pair, Published

RATIO = 1.5  # of the words of the longer side to those of the shorter, at most, in training pairs


@dataclass(frozen=True)
class Corpus:
    """Pairs to train on, to select by, and to report on."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """Sixteen digits that stand for every sentence."""
        return hashlib.sha256(repr((self.train, self.validation, self.test)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """Source of the pairs of a data set: found without reading, then read."""

    find: Callable[[Path], Path]
    read: Callable[[Path], Published | tuple[Pair, ...]]


CORPORA: dict[str, Source] = {
    "iwslt14": Source(iwslt.find, iwslt.read),
    "trans-de-en": Source(trans_de_en.find, dictionary.read),
    "sentences": Source(lambda root: root, lambda path: grammar.pairs()),
}


def find(name: str, root: str | Path | None = None) -> Path:
    """Find the files of a data set, without reading them.

    Args:
        name: one of ``CORPORA``.
        root: the folder with a folder for each data set. Default ``lookbehind.data.default_root()``.

    Raises:
        ValueError: if there is no data set of this name.
        DataError: a ``ValueError`` too, if its files are not there; it says where they are had.

    """
    if name not in CORPORA:
        raise ValueError(f"dataset is {name!r}; {allowed(name, CORPORA)}")
    return CORPORA[name].find(default_root() if root is None else Path(root).expanduser())


def load(
    name: str,
    root: str | Path | None = None,
    *,
    seed: int = 0,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    words: tuple[int, int] = (1, 175),
    frequent: int | None = None,
    lowercase: bool = True,
) -> Corpus:
    """Read a data set, and choose training, validation and test pairs.

    IWSLT'14 has parts of its own, and keeps them: no test pair is left out or chosen. Of the others, pairs whose source
    or target sentence was there before are left out, so that no sentence is in two parts; the rest is shuffled and
    split. Training pairs whose sides differ in length by more than a factor of 1.5 are left out, as in the recipe for
    IWSLT'14.

    Args:
        name: "iwslt14", "trans-de-en" or "sentences".
        root: the folder with a folder for each data set. Default ``lookbehind.data.default_root()``.
        seed: decides the split, where there is none, and the subset. Default 0.
        train: number of training pairs, a seeded subset. Default: all that are not held out.
        validation: number of validation pairs. Default: those of the data set, else a tenth.
        test: number of test pairs. Default: those of the data set, else a tenth.
        words: least and most words of a side. Of IWSLT'14 only training pairs are left out. Default (1, 175).
        frequent: leave out pairs with a word that is not among so many most frequent ones of its language (never of
            IWSLT'14). Default: none is left out for that.
        lowercase: whether letters are. Default True.

    Returns:
        A ``Corpus``.

    Raises:
        ValueError: if a number is out of range, or there are fewer pairs than asked for.
        DataError: a ``ValueError`` too, if files are missing or hold something else.

    Example:
        >>> corpus = load("sentences", train=200, validation=50, test=50)
        >>> len(corpus.train), len(corpus.validation), len(corpus.test)
        (200, 50, 50)

    """
    read = CORPORA[name].read(find(name, root)) if name in CORPORA else find(name, root)
    assert not isinstance(read, Path)
    drawn = random.Random(seed)
    if isinstance(read, Published):
        parts = [[_cased(pair, lowercase) for pair in part] for part in (read.train, read.validation, read.test)]
        parts[0] = [pair for pair in parts[0] if fits(pair, words) and balanced(pair)]
        if read.validation == ():
            parts[0], parts[1] = iwslt.every_23rd(parts[0])
        wanted = (train, validation, test)
        chosen = [_subset(part, count, drawn) for part, count in zip(parts, wanted, strict=True)]
        return Corpus(*map(tuple, chosen))
    pairs = unrepeated(pair for pair in (_cased(pair, lowercase) for pair in read) if fits(pair, words))
    if frequent is not None:
        pairs = of_frequent_words(pairs, frequent)
    drawn.shuffle(pairs)
    tenth = len(pairs) // 10
    held = [tenth if count is None else count for count in (validation, test)]
    if sum(held) >= len(pairs):
        raise ValueError(f"validation and test are {held[0]} and {held[1]}; there are {len(pairs)} pairs of {name}")
    validation_pairs, test_pairs, rest = pairs[: held[0]], pairs[held[0] : sum(held)], pairs[sum(held) :]
    rest = [pair for pair in rest if balanced(pair)]
    if train is not None and train > len(rest):
        raise ValueError(f"train is {train}; {name} has {len(rest)} pairs beside validation and test")
    return Corpus(tuple(rest[:train]), tuple(validation_pairs), tuple(test_pairs))


def words_of(sentence: str) -> list[str]:
    """Return words and punctuation marks.

    Example:
        >>> words_of("Wie geht's dir?")
        ['Wie', 'geht', "'", 's', 'dir', '?']

    """
    return re.findall(r"\w+|[^\w\s]", sentence)


def fits(pair: Pair, words: tuple[int, int]) -> bool:
    """Return whether both sides have as many words as allowed."""
    return all(words[0] <= len(words_of(side)) <= words[1] for side in pair)


def balanced(pair: Pair) -> bool:
    """Return whether the sides are of about the same length."""
    shorter, longer = sorted(len(words_of(side)) for side in pair)
    return longer <= RATIO * shorter


def unrepeated(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs of which neither side is in one before it that is returned, whatever the capital letters."""
    sources: set[str] = set()
    targets: set[str] = set()
    kept = []
    for pair in pairs:
        source, target = (side.casefold() for side in pair)
        if source not in sources and target not in targets:
            kept.append(pair)
            sources.add(source)
            targets.add(target)
    return kept


def of_frequent_words(pairs: Sequence[Pair], frequent: int) -> list[Pair]:
    """Return the pairs all of whose words are among the most frequent of their language; ties go by the alphabet."""
    known = []
    for side in (0, 1):
        counts = Counter(word for pair in pairs for word in words_of(pair[side]))
        known.append({word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:frequent]})
    return [pair for pair in pairs if all(known[side].issuperset(words_of(pair[side])) for side in (0, 1))]


def _cased(pair: Pair, lowercase: bool) -> Pair:
    return (pair[0].lower(), pair[1].lower()) if lowercase else pair


def _subset(pairs: list[Pair], count: int | None, drawn: random.Random) -> list[Pair]:
    if count is None:
        return pairs
    if count > len(pairs):
        raise ValueError(f"{count} pairs are asked for; there are {len(pairs)}")
    return [pairs[i] for i in sorted(drawn.sample(range(len(pairs)), count))]
