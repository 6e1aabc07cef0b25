"""The site as it is built: files, anchors, and where links lead."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.docs.pages import ROOT

# What the site is made of. It is built from a copy, since the tool writes beside its configuration.
SOURCES = ("docs", "src", "examples", "benchmarks", "zensical.toml", "CHANGELOG.md", "CONTRIBUTING.md")
LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src", "iframe": "src"}


def copy_sources(folder: Path) -> None:
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)


def write_pages(folder: Path) -> None:
    """Write the pages of the paper's results from their archive, as CONTRIBUTING.md says."""
    results = folder / "docs" / "results"
    arguments = ["report", "all", "--store", str(results / "paper.xz"), "--output", str(results)]
    subprocess.run([sys.executable, "-m", "lookbehind.cli", *arguments], check=True, timeout=240, capture_output=True)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of the sources in a folder, strictly."""
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


@dataclass
class Page(HTMLParser):
    """A page of HTML."""

    source: str
    ids: set[str] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)  # the tag, and where it leads

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := values.get(name))}
        if (link := values.get(LINKS.get(tag, ""))) is not None:
            self.links.append((tag, link))

    @property
    def text(self) -> str:
        """What a reader sees, in one line."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", "", self.source)).split())


@dataclass(frozen=True)
class Site:
    """A folder with a built site."""

    folder: Path

    @cached_property
    def pages(self) -> dict[str, Page]:
        return {f.relative_to(self.folder).as_posix(): Page(f.read_text()) for f in self.folder.rglob("*.html")}

    def dead(self, name: str) -> list[str]:
        """Return the links of a page that lead nowhere, within the site."""
        return [link for _, link in self.pages[name].links if not self._leads_somewhere(name, link)]

    def elsewhere(self, name: str) -> list[str]:
        """Return what a browser would fetch from another server to show a page."""
        return [link for tag, link in self.pages[name].links if tag != "a" and urlsplit(link).netloc]

    def target(self, name: str, link: str) -> Path:
        """Return the file that a link within the site leads to."""
        path = unquote(urlsplit(link).path)
        if not path:
            return self.folder / name
        start = self.folder if path.startswith("/") else (self.folder / name).parent
        found = (start / path.lstrip("/")).resolve()
        return found / "index.html" if found.is_dir() else found

    def _leads_somewhere(self, name: str, link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return True
        found = self.target(name, link)
        if not (found.is_file() and found.is_relative_to(self.folder.resolve())):
            return False
        if not parts.fragment or found.suffix != ".html":
            return True
        return unquote(parts.fragment) in self.pages[found.relative_to(self.folder.resolve()).as_posix()].ids
