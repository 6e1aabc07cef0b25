"""Results as pages: one self-contained HTML file for each item, and an index. They need no network and no script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined  # torch depends on it

from lookbehind.lab import files
from lookbehind.lab.estimate import Device, duration
from lookbehind.lab.export import to_csv, to_latex
from lookbehind.lab.lookup import Results, remembered
from lookbehind.lab.page.behind import Behind
from lookbehind.lab.page.facts import facts
from lookbehind.lab.page.sheet import sheet
from lookbehind.lab.page.svg import Curves, figure, inline, side_by_side
from lookbehind.lab.parts import Declaration, Item, Table
from lookbehind.lab.report import read

TYPES = {"csv": "text/csv", "tex": "application/x-tex", "svg": "image/svg+xml"}

__all__ = ["write"]


def write(
    items: Iterable[Item],
    results: Results,
    folder: str | Path,
    scale: str,
    device: Device | None = None,
    on_page: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Write a page for each item, its tables as CSV and LaTeX, its figures as CSV and SVG, and an index.

    A page holds all that it shows: behind each number are its settings, its seeds and the curves of its runs, and the
    other files are in it too. What is missing, failed or diverged is shown as such. Other files of the folder are
    left alone.

    Args:
        items: what is shown, in this order.
        results: a ``Store``, or whatever has results.
        folder: where to write; made if it is not there.
        scale: the scale of all items.
        device: what the planned cost is estimated for. Default: no estimate.
        on_page: called after each page.

    Returns:
        The files, ``index.html`` last.

    Raises:
        ValueError: if there is no item, or the name of one cannot be a file's.
        OSError: if a file cannot be written.

    Example:
        >>> import tempfile
        >>> from lookbehind.lab import Store
        >>> from lookbehind.paper import ITEMS
        >>> with tempfile.TemporaryDirectory() as root:
        ...     paths = write([ITEMS["table5"]], Store(root), root, "smoke")
        >>> [path.name for path in paths]
        ['table5-1.csv', 'table5-1.tex', 'table5-2.csv', 'table5-2.tex', 'table5.html', 'index.html']

    """
    items = tuple(items)
    _check([item.name for item in items])
    results, folder = remembered(results), Path(folder)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    declared = [item.at(scale) for item in items]
    known, written = [], list[Path]()
    for i, (item, declaration) in enumerate(zip(items, declared, strict=True)):
        known.append(facts(declaration.parts, results, device))
        about = {"item": item, "facts": known[i], "before": items[i - 1] if i else None}
        about |= {"after": items[i + 1] if i + 1 < len(items) else None, "scale": scale, "notes": declaration.notes}
        written += _item(folder, item, declaration, results, about)
        on_page()
    together = facts([part for each in declared for part in each.parts], results, device)
    earlier = _earlier(folder, {item.name for item in items})
    page = _template("index.html").render(
        scale=scale,
        items=list(zip(items, known, strict=True)),
        facts=together,
        earlier=earlier,
        pictured={path.stem for path in written if path.suffix == ".svg"},
    )
    return [*written, _file(folder / "index.html", page)]


def _earlier(folder: Path, names: set[str]) -> list[tuple[str, str]]:
    """Return name and title of the pages of earlier reports."""
    found = []
    for path in sorted(folder.glob("*.html")):
        if path.stem not in names | {"index"}:
            with path.open(encoding="utf-8") as file:
                title = re.search(rf"<title>{re.escape(path.stem)}: (.*)</title>", file.read(2000))
            if title is not None:
                found.append((path.stem, unescape(title[1])))
    return found


def _check(names: Sequence[str]) -> None:
    if not names:
        raise ValueError("there is no item to write a page for; at least one is needed")
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name) or name == "index" or names.count(name) > 1:
            raise ValueError(
                f"item name {name!r} cannot be the name of a page; letters, digits, dots and dashes are allowed, not "
                "'index', and each once"
            )


def _item(folder: Path, item: Item, declaration: Declaration, results: Results, about: dict[str, Any]) -> list[Path]:
    """Write an item's page and the files beside it."""
    curves, number, written = Curves(results), count(1), []
    behind: list[Behind] = []
    blocks: list[dict[str, Any]] = []
    figures: list[str] = []
    for i, part in enumerate(declaration.parts, 1):
        filled = read(part, results)
        shown, details = sheet(filled, results, curves, number)
        behind += details
        copies = {f"{item.name}-{i}.csv": to_csv(filled)}
        block = {"part": part, "sheet": shown, "id": f"part{i}", "table": isinstance(part, Table)}
        if isinstance(part, Table):
            copies[f"{item.name}-{i}.tex"] = to_latex(filled)
        else:
            figures.append(figure(filled))
            block["svg"] = inline(figures[-1], f"p{i}-", part.title)
        written += [_file(folder / name, text) for name, text in copies.items()]
        blocks.append({**block, "copies": _links(copies)})
    whole = {f"{item.name}.svg": side_by_side(figures, declaration.across)} if figures else {}
    written += [_file(folder / name, text) for name, text in whole.items()]
    anchors: dict[str, str] = {}  # of runs: the first number that they stand behind
    for each in behind:
        for seed in each.seeds:
            anchors.setdefault(seed.address, each.id)
    page = _template("item.html").render(
        **about,
        anchors=anchors,
        blocks=blocks,
        behind=behind,
        curves=curves.drawn(),
        across=declaration.across,
        copies=_links(whole),
    )
    return [*written, _file(folder / f"{item.name}.html", page)]


def _links(copies: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return what is downloaded: name, kind, and an address that is the file itself."""
    return [
        (name, kind := name.rsplit(".")[-1], f"data:{TYPES[kind]};charset=utf-8,{quote(text)}")
        for name, text in copies.items()
    ]


def _file(path: Path, text: str) -> Path:
    files.write(path, text.encode())
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lookbehind.lab", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)
