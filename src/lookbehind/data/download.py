"""Published files on disk: found, downloaded where the network allows, resumed, and checked."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lookbehind.data.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 18  # bytes
KEPT = "what has arrived is kept, and running again goes on from there"
PATIENCE = 2.0  # seconds before progress is shown


@dataclass(frozen=True)
class File:
    """A published file: where it is, and what it must be."""

    name: str
    url: str
    size: int  # bytes
    sha256: str
    repacked: str = ""  # SHA-256 of another packing of the same content

    def check(self, path: Path) -> None:
        """Compare the checksum of a file on disk.

        Raises:
            DataError: if it is another.

        """
        try:
            found = sha256(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from error
        if found not in (self.sha256, self.repacked):
            raise DataError(
                f"{path} has {path.stat().st_size:,} bytes and SHA-256 {found}, but {self.size:,} bytes and "
                f"{self.sha256} are expected: it is damaged or another file; delete it and run again"
            )

    def __str__(self) -> str:
        return f"{self.name} ({self.size:,} bytes, SHA-256 {self.sha256}, from {self.url})"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def obtain(title: str, files: Sequence[File], folders: Sequence[Path], download: bool) -> Path:
    """Return a folder with all files, each checked; the first of the folders is where missing ones are downloaded.

    Raises:
        DataError: if a file is damaged, or missing and not to be had.

    """
    folder = next((f for f in folders if all((f / file.name).exists() for file in files)), folders[0])
    missing = [file for file in files if not (folder / file.name).exists()]
    try:
        if missing and not download:
            raise DataError("downloading is turned off")
        if missing:
            with _alone(folder):
                for file in missing:
                    if not (folder / file.name).exists():  # else another process was first
                        _fetch(file, folder)
    except (OSError, http.client.HTTPException, DataError) as error:
        missing = [file for file in missing if not (folder / file.name).exists()]
        raise DataError(
            f"{title} is missing from {folder} and could not be downloaded ({_reason(error)}): put there "
            f"{', '.join(map(str, missing))}, or name another root folder, as an argument or in LOOKBEHIND_DATA"
        ) from error
    for file in files:
        file.check(folder / file.name)
    return folder


def _reason(error: Exception) -> str:
    match error:
        case urllib.error.HTTPError():
            return f"{error.url} answered {error.code} {error.reason}"
        case urllib.error.URLError():
            return f"no connection: {error.reason}"
        case DataError():
            return str(error)
        case TimeoutError() | ConnectionError() | http.client.HTTPException():
            return f"{type(error).__name__}; {KEPT}"
    return str(error)


def _fetch(file: File, folder: Path) -> None:
    """Download to a temporary name, check, and rename."""
    part = folder / f"{file.name}.part"
    have = part.stat().st_size if part.exists() else 0
    if have != file.size:  # else only the check was missing
        try:
            _receive(file, part, have if have < file.size else 0)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)  # or the same would be asked for again and again
            raise
    have = part.stat().st_size
    if have < file.size:
        raise DataError(f"{file.url} ended after {have:,} of {file.size:,} bytes; {KEPT}")
    found = sha256(part)
    if found != file.sha256:
        part.unlink()
        raise DataError(f"{file.url} sent another file, with SHA-256 {found}")
    part.replace(folder / file.name)


def _receive(file: File, part: Path, have: int) -> None:
    """Ask for the bytes from ``have`` on. A server that does not know ranges sends all of them."""
    headers = {"User-Agent": "lookbehind"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(file.url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)  # likewise
            raise DataError(f"{file.url} sent other bytes than those that were asked for")
        offered = have + int(response.headers.get("Content-Length", file.size - have))
        if offered != file.size:
            raise DataError(f"{file.url} offers another file, of {offered:,} bytes")
        with part.open("ab" if have else "wb") as out, _progress(file.name, file.size) as show:
            while have <= file.size and (block := response.read1(BLOCK)):  # not without end
                have += out.write(block)
                show(have)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process of this machine download at a time.

    Where a file system knows no locks, two that mix are told by the checksum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".downloading").open("w") as lock:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many bytes there are: on a terminal, after a while, where rich is installed."""
    start = time.monotonic()
    wanted = sys.stderr.isatty() and find_spec("rich") is not None
    bar: Any = None

    def show(done: int) -> None:
        nonlocal bar
        if bar is None and wanted and time.monotonic() - start > PATIENCE:
            bar = _bar(name, total)
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def _bar(name: str, total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(name, markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    bar.add_task(name, total=total)
    bar.start()
    return bar
