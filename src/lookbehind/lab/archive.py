"""Results as one file: what a store holds of its runs, without weights and checkpoints."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lookbehind.lab import files
from lookbehind.lab.store import FAILURE, RESULT, Store

KEPT = re.compile(rf"({re.escape(RESULT)}|{re.escape(FAILURE)}|[0-9a-f]{{16}}\.json)")
SUFFIX = ".xz"


class ArchiveError(ValueError):
    """A file that is no archive of results, or a damaged one."""


def pack(store: Store, path: str | Path) -> int:
    """Pack the results, measurements and failures of a store into one file, a tar compressed by xz.

    The same results give the same bytes. Files whose checksum is wrong are left out, and the store says so.

    Args:
        store: where the runs are.
        path: the file to write.

    Returns:
        How many runs it holds.

    Raises:
        ArchiveError: if there is no result.
        OSError: if the file cannot be written.

    """
    content, runs = io.BytesIO(), set()
    with (
        lzma.open(content, "wb", preset=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for file in sorted((store.root / "runs").glob("*/*.json")):
            if KEPT.fullmatch(file.name) is None:
                continue
            try:
                text = files.read(file)
                if text is None:  # gone since it was listed
                    continue
                files.parsed(text)
            except files.DamagedError as error:
                store.say(f"{file} is left out: {error}.")
                continue
            info = tarfile.TarInfo(file.relative_to(store.root).as_posix())  # its times and owners are zero
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
            if file.name == RESULT:
                runs.add(file.parent.name)
    if not runs:
        raise ArchiveError(f"{store.root} has no finished run; there is nothing to archive")
    files.write(Path(path), content.getvalue())
    return len(runs)


class Archive(Store):
    """A store to read from, packed by ``pack``. It has no weights.

    Args:
        path: the file.
        say: as for ``Store``.

    Raises:
        ArchiveError: if it is none, or damaged.
        OSError: if it cannot be read.

    """

    def __init__(self, path: str | Path, say: Callable[[str], None] | None = None) -> None:
        super().__init__(path, say)
        try:
            with tarfile.open(self.root, "r:xz") as tar:
                self._texts = {member.name: _bytes(tar, member) for member in tar if member.isfile()}
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise ArchiveError(f"{path} is damaged, or no archive of results ({error})") from error

    def _content(self, path: Path) -> dict[str, Any] | None:
        text = self._texts.get(path.relative_to(self.root).as_posix())
        return None if text is None else files.parsed(text)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def opened(path: str | Path, say: Callable[[str], None] | None = None) -> Store:
    """Return the store at a path: an archive if that is what its name says, else a folder."""
    return Archive(path, say) if Path(path).suffix == SUFFIX else Store(path, say)
