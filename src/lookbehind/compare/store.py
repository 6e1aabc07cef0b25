"""Finished runs on disk: one JSON file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path

import torch
from pydantic import ValidationError

from lookbehind.compare.runs import Result, Run


class Store:
    """A folder with one file for each finished run, named by the run's address.

    A file is believed only if its checksum is right and it holds exactly the settings asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        """Make the folder and see that it can be written to.

        Raises:
            OSError: if it cannot.

        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder):
            pass

    def path(self, run: Run) -> Path:
        """Return where a run is kept."""
        return self.folder / f"{run.address}.json"

    def load(self, run: Run) -> Result | None:
        """Return the result of a finished run, or None if there is none.

        Raises:
            ValueError: if there is a file that cannot be believed, with the reason.

        """
        try:
            text = self.path(run).read_text()
        except FileNotFoundError:
            return None
        except (UnicodeDecodeError, OSError) as error:
            raise ValueError(f"it cannot be read ({error})") from error
        try:
            content = json.loads(text)
            if content["checksum"] != _checksum(content):
                raise ValueError("its checksum is wrong")
            if Run.model_validate(content["run"]) != run:
                raise ValueError("it belongs to other settings")
            return Result.model_validate(content["result"])
        except (json.JSONDecodeError, ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ValueError("it is damaged, or not a file of this program") from error

    def save(self, run: Run, result: Result) -> None:
        """Write a finished run: to a temporary name, through to the disk, then under its own name."""
        where = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
        content: dict[str, object] = {
            "run": run.model_dump(mode="json"),
            "result": result.model_dump(mode="json"),
            "environment": where,
        }
        content["checksum"] = _checksum(content)
        write(self.path(run), json.dumps(content, indent=1))


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _checksum(content: dict[str, object]) -> str:
    kept = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
