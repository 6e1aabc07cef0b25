"""Each `lookbehind ...` that the README or a page shows is one that the command line understands."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from lookbehind.cli import lab, measure
from lookbehind.cli.compare import compare
from lookbehind.cli.main import main
from lookbehind.paper import ITEMS
from tests.docs.pages import PAGES, ROOT

TEXTS = [(ROOT / "README.md").read_text(), *(page.read_text() for page in PAGES)]
SHOWN = re.compile(r"(?:^|`|&& )(lookbehind [a-z][^`#\n]*?)\s*(?:`|#|$)", flags=re.MULTILINE)
# Where alternatives are shown at once ("noise | spectrum"), there is no command to try.
COMMANDS = sorted({match for text in TEXTS for match in SHOWN.findall(text) if "|" not in match})


def test_there_are_commands() -> None:
    assert {"lookbehind compare", "lookbehind list", "lookbehind run table1 --scale cpu"} <= set(COMMANDS)
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("line", COMMANDS)
def test_command_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def unrun(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(*_: Any, **__: Any) -> None:
            ran.append(command.__name__)

        return called

    monkeypatch.setattr("lookbehind.cli.compare.compare", unrun(compare))
    monkeypatch.setattr(lab, "COMMANDS", {name: unrun(command) for name, command in lab.COMMANDS.items()})
    monkeypatch.setattr(measure, "COMMANDS", tuple(map(unrun, measure.COMMANDS)))
    assert main(shlex.split(line.replace("…", ""))[1:]) == 0
    assert len(ran) == 1
    assert set(re.findall(r"\b(?:table|figure)\d+", line)) <= set(ITEMS)
