"""English phrases by their subject, from the German-English dictionary of TU Chemnitz (GPL-2+).

The dictionary is read where it is installed. A line is ``German :: English``; either side has senses between ``|``,
variants between ``;``, grammar in ``{}``, remarks in ``()``, and subjects such as ``[bot.]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lookbehind.data.errors import DataError
from lookbehind.data.trans_de_en import find

CLASSES = (
    "agr", "anat", "bot", "chem", "comp", "constr", "cook", "econ", "electr", "geogr",
    "jur", "math", "med", "mil", "min", "mus", "ornith", "pol", "textil", "zool",
)  # fmt: skip
_TAG = re.compile(r"\[([^\[\]]+)\.\]")
_ASIDE = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)|<[^<>]*>|/[^/]*/")


@dataclass(frozen=True)
class Phrases:
    """Texts with class numbers, the names of the classes, and a sentence about the source."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    source: str


def read(root: Path) -> Phrases:
    """Read the phrases: of each line the first English variant of the first sense, if its subject is beyond doubt.

    That is, the first sense has a tag of ``CLASSES``, and the line no other of them. A phrase that occurs twice, but
    for case, spaces and punctuation, is taken once, and not at all if the subjects differ: so no phrase is both trained
    on and tested on, and no two phrases are of one line.

    Args:
        root: the folder for data. The file is ``trans-de-en/de-en`` in it, or where Debian's package puts it.

    Raises:
        DataError: if it is missing, or not this dictionary.

    """
    path = find(root)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a dictionary ({error}); install it anew") from error
    known: dict[str, tuple[str, int] | None] = {}
    for line in lines:
        if (entry := phrase(line)) is None:
            continue
        key = re.sub(r"[\W_]", "", entry[0].casefold()).removesuffix("s")
        if key not in known:
            known[key] = entry
        elif (before := known[key]) is not None and before[1] != entry[1]:
            known[key] = None
    entries = [entry for entry in known.values() if entry is not None]
    if {label for _, label in entries} != set(range(len(CLASSES))):
        raise DataError(f"{path} has not a phrase of each subject ({', '.join(CLASSES)}): it is another file")
    version = next((line.strip("# ") for line in lines if line.startswith("# Version")), "version unknown")
    texts, labels = zip(*entries, strict=True)
    return Phrases(texts, labels, CLASSES, f"trans-de-en, {version}")


def phrase(line: str) -> tuple[str, int] | None:
    """Return the phrase of a line and its class number, or None.

    Example:
        >>> phrase("Tonleiter {f} [mus.] | Tonleitern {pl} :: musical scale; gamut | musical scales")
        ('musical scale', 15)
        >>> phrase("Leiter {f} :: ladder"), phrase("Kiel {m} [bot.] [ornith.] :: quill")
        (None, None)

    """
    if line.startswith("#") or line.count(" :: ") != 1:
        return None
    sides = line.split(" :: ")
    subjects = _subjects(line)
    if len(subjects) != 1 or not any(_subjects(side.split("|")[0]) for side in sides):
        return None
    first = sides[1].split("|")[0]
    text = " ".join(_ASIDE.sub(" ", first).split(";")[0].split())
    return (text, CLASSES.index(subjects.pop())) if re.search(r"\w", text) else None


def _subjects(text: str) -> set[str]:
    return set(_TAG.findall(text)) & set(CLASSES)
