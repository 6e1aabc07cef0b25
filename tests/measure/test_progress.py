"""The bar appears where somebody watches, and only for what takes long."""

from __future__ import annotations

import io
import sys

import pytest

from lookbehind.measure import _progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("patience", "stream", "shown"), [(0, Terminal, True), (9, Terminal, False), (0, io.StringIO, False)]
)
def test_bar(monkeypatch, patience: float, stream: type[io.StringIO], shown: bool) -> None:
    monkeypatch.setattr(_progress, "PATIENCE", patience - 1e-9)
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setenv("TERM", "xterm")
    assert list(_progress.track(range(5), "climbing")) == [0, 1, 2, 3, 4]
    assert ("climbing" in sys.stderr.getvalue()) is shown
    assert shown or sys.stderr.getvalue() == ""


def test_without_rich_there_is_no_bar(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(_progress.track(iter("ab"), "climbing")) == ["a", "b"]
    assert sys.stderr.getvalue() == ""
