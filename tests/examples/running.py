"""Run an example as a script, within this process, and look at what it leaves."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest import mock

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


def run(name: str, *arguments: str | Path) -> tuple[dict[str, Any], str]:
    """Return the script's globals and what it printed."""
    path, printed = EXAMPLES / f"{name}.py", io.StringIO()
    argv = [str(path), *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(printed):
        return runpy.run_path(str(path), run_name="__main__"), printed.getvalue()


def definitions(name: str) -> dict[str, Any]:
    """Return what a script defines, without running it."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def accuracy(printed: str) -> float:
    """Return the test accuracy in percent that a script printed last."""
    return float(re.findall(r"test accuracy (\d+\.\d) %", printed)[-1])
