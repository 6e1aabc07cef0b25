"""Files that are whole or not there, and that know when they are damaged."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookbehind._atomic import atomic_write


class DamagedError(ValueError):
    """A file that is truncated, changed, or somebody else's. The message says which, after "it"."""


class UnwritableError(OSError):
    """The store cannot be written to: no space, no permission. What was there is as it was."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let an ``OSError`` say that it is about writing, and where."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), str(path)) from error


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name, through to the disk, then under its own name.

    Raises:
        UnwritableError: if that is not possible. The previous file, if any, is then as it was.

    """
    with writing(path), atomic_write(path) as file:
        file.write(content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values with a checksum of them.

    Raises:
        UnwritableError: if the file cannot be written.

    """
    checked = {**content, "checksum": _checksum(content)}
    write(path, json.dumps(checked, indent=1, allow_nan=False).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what ``write_json`` wrote, or None if there is no file.

    Raises:
        DamagedError: if the file is not what was written.
        OSError: if it may not be read.

    """
    content = read(path)
    return None if content is None else parsed(content)


def parsed(content: bytes) -> dict[str, Any]:
    """Return what is in bytes that ``write_json`` wrote.

    Raises:
        DamagedError: if they are not what was written.

    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:  # bytes that are no text, text that is no JSON
        raise DamagedError("it is truncated, damaged, or not a file of this program") from error
    if not isinstance(values, dict) or "checksum" not in values:
        raise DamagedError("it is not a file of this program")
    if values.pop("checksum") != _checksum(values):
        raise DamagedError("its checksum is wrong")
    return values


def read(path: Path) -> bytes | None:
    """Return the bytes of a file, or None if there is none.

    Raises:
        DamagedError: if the disk cannot give them.
        OSError: if the file may not be read.

    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise DamagedError("the disk cannot read it") from error


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
