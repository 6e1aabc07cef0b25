"""IWSLT'14 German-English, as published or as plain parallel files."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lookbehind.data import DataError
from lookbehind.translation.pairs import Pair, Published

FOLDER = "iwslt14-de-en"
TALKS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")  # together the test pairs
_TAGS = re.compile(r"</?(?:title|description)>")
_SEGMENT = re.compile(r'<seg id="\d+">(.*?)</seg>')


def find(root: Path) -> Path:
    """Return the folder iwslt14-de-en under the root.

    Raises:
        DataError: if it has not what is needed.

    """
    folder = root / FOLDER
    if all((folder / f"{part}.{side}").is_file() for part in ("train", "test") for side in ("de", "en")):
        return folder
    if all(path.is_file() for side in ("de", "en") for path in _published(folder, side)):
        return folder
    raise DataError(
        f"IWSLT'14 DE-EN is not in {folder}: put there the files of the evaluation campaign's de-en.tgz "
        "(train.tags.de-en.de, IWSLT14.TED.dev2010.de-en.de.xml, …); or plain files train.de, train.en, test.de, "
        "test.en (and valid.de, valid.en) with a sentence a line; or name another root folder in LOOKBEHIND_DATA"
    )


def read(folder: Path) -> Published:
    """Read plain files if they are there, else the published ones, whose five development sets are the test pairs.

    Without files valid.de and valid.en every 23rd training pair is to be a validation pair. Marks ``@@`` of subwords,
    which prepared files have, are taken out.

    Raises:
        DataError: if a file is missing, or the two sides are not parallel.

    """
    if (folder / "train.de").is_file():
        validation = _plain(folder, "valid") if (folder / "valid.de").is_file() else ()
        return Published(_plain(folder, "train"), validation, _plain(folder, "test"))
    train, *talks = zip(_published(folder, "de"), _published(folder, "en"), strict=True)
    test = tuple(pair for files in talks for pair in _parallel(*files, segments))
    return Published(_parallel(*train, talk_lines), (), test)


def every_23rd(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs without every 23rd one, and these."""
    return [pair for i, pair in enumerate(pairs, 1) if i % 23], list(pairs[22::23])


def talk_lines(text: str) -> list[str]:
    """Return the sentences, titles and descriptions of a training file, without its other tags."""
    lines = (line for line in text.split("\n") if not line.startswith(("<url>", "<talkid>", "<keywords>")))
    return [_TAGS.sub("", line).strip() for line in lines]


def segments(text: str) -> list[str]:
    """Return the segments of a development set."""
    return [html.unescape(segment).strip() for segment in _SEGMENT.findall(text)]


def plain_lines(text: str) -> list[str]:
    """Return the lines of a file, without marks of subwords."""
    return [line.replace("@@ ", "").strip() for line in text.split("\n")]


def _published(folder: Path, side: str) -> list[Path]:
    """Return the paths of the published files: training, then development sets."""
    talks = [folder / f"IWSLT14.{talk}.de-en.{side}.xml" for talk in TALKS]
    return [folder / f"train.tags.de-en.{side}", *talks]


def _plain(folder: Path, part: str) -> tuple[Pair, ...]:
    return _parallel(folder / f"{part}.de", folder / f"{part}.en", plain_lines)


def _parallel(german: Path, english: Path, lines: Callable[[str], list[str]]) -> tuple[Pair, ...]:
    sides = []
    for path in (german, english):
        try:
            sides.append(lines(path.read_text(encoding="utf-8").removesuffix("\n")))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({error})") from error
    here, there = map(len, sides)
    if here != there:
        raise DataError(f"{german} has {here:,} sentences and {english} has {there:,}; they must be parallel")
    return tuple(pair for pair in zip(*sides, strict=True) if all(pair))
