"""From words to items: those of the paper, of the file of a study, or of a study that a package offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookbehind._words import allowed
from lookbehind.cli.errors import UserError

if TYPE_CHECKING:
    from lookbehind.lab.estimate import Device
    from lookbehind.lab.parts import Item, Part
    from lookbehind.lab.study import Study

PAPER = "paper"


@dataclass(frozen=True)
class Chosen:
    """Items that were asked for.

    Args:
        items: by name.
        scale: at which.
        device: what trains there, for estimates.
        studies: files and names of the studies other than the paper, for processes that train for them.
        words: as they were given, for a command to be suggested.

    """

    items: dict[str, Item]
    scale: str
    device: Device
    studies: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def parts(self) -> dict[str, tuple[Part, ...]]:
        """Return the parts of each item."""
        from lookbehind.lab.study import StudyError

        try:
            return {name: item.at(self.scale).parts for name, item in self.items.items()}
        except StudyError as error:
            raise UserError(str(error)) from error

    @property
    def folder(self) -> Path:
        """Return where its pages stand below the folder of all: by study, but for the paper's, and by scale."""
        named = [Path(where).stem for where in self.studies]
        return Path("+".join(named)) / self.scale if named else Path(self.scale)

    @property
    def prepare(self) -> Any:
        """Return the function by which a process that trains loads the studies, or None."""
        from lookbehind.lab.study import load_all

        return partial(load_all, self.studies) if self.studies else None


def chosen(command: str, words: Sequence[str], scale: str) -> Chosen:
    """Return the items that words name: items, studies for all their items, or ``all``.

    Args:
        command: the command that they were given to, for a message.
        words: what was given.
        scale: of the items.

    Raises:
        UserError: if a word names nothing, or an item has no such scale.

    """
    studies, others = loaded(words)
    if not words:
        raise UserError(f"no item is named; there are all, {', '.join(paper().items)}, or a study.py")
    known = [*studies.values(), paper()]
    items = {word: _item(command, word, known) for word in others if word != "all"}
    if "all" in others or not others:
        _add(items, studies.values() or known, scale)
    for name, item in items.items():
        if scale not in item.scales:
            raise UserError(f"--scale is {scale!r}, which {name} lacks; {allowed(scale, item.scales)}")
    ordered = {name: item for study in known for name, item in study.items.items() if items.get(name) is item}
    first = next((item.study for item in ordered.values() if item.study is not None), known[0])
    return Chosen(ordered, scale, first.device(scale), tuple(studies), tuple(words))


def loaded(words: Sequence[str]) -> tuple[dict[str, Study], list[str]]:
    """Return the studies that words name, by where they are, and the other words."""
    from lookbehind.lab.study import SUFFIX, offered

    studies: dict[str, Study] = {}
    others: list[str] = []
    for word in words:
        file = word.endswith(SUFFIX)
        if not file and (word in ("all", PAPER) or word in paper().items or word not in offered()):
            others += ["all"] if word == PAPER else [word]
            continue
        where = str(Path(word).expanduser().resolve()) if file else word
        studies[where] = load_study(where)
    return studies, others


def load_study(where: str) -> Study:
    """Return a study, or refuse it by its own sentence."""
    from lookbehind.lab.study import StudyError, load

    try:
        return load(where)
    except StudyError as error:
        raise UserError(str(error)) from error


def paper() -> Study:
    """Return the study that the paper's items are."""
    from lookbehind.paper import study

    return study


def _add(items: dict[str, Item], studies: Iterable[Study], scale: str) -> None:
    """Add all items of studies at a scale. Studies must not share a name."""
    for study in studies:
        if scale not in study.scales:
            raise UserError(f"--scale is {scale!r}, which {study.title} lacks; {allowed(scale, study.scales)}")
        for name, item in study.items.items():
            if scale in item.scales and items.setdefault(name, item) is not item:
                raise UserError(f"two studies have an item {name}; name one study at a time, or rename an item")


def _item(command: str, word: str, studies: Sequence[Study]) -> Item:
    """Return an item of the first study that has it."""
    for study in studies:
        if word in study.items:
            return study.items[word]
    for name in _offering(word):
        raise UserError(f"item {word!r} is of the study {name}: lookbehind {command} {name} {word}")
    from lookbehind.lab.study import offered

    known = dict.fromkeys([*(name for study in (paper(), *studies) for name in study.items), *offered()])
    file = f"; a study is named by its file, such as {word}.py" if Path(f"{word}.py").exists() else ""
    raise UserError(f"item {word!r} is unknown{file}; {allowed(word, ('all', *known))}")


def _offering(word: str) -> Iterator[str]:
    """Yield the names of packages' studies that have an item."""
    from lookbehind.lab.study import load, offered

    for name in offered():
        with suppress(Exception):  # a study that fails has no say here
            if word in load(name).items:
                yield name
