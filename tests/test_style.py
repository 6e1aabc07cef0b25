"""One module decides what plots look like."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lookbehind._style import COLOURS, CYCLE, panel

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("matplotlib")


def test_colours_are_written_down_once() -> None:
    folders = (ROOT / "src" / "lookbehind", ROOT / "docs" / "pictures")
    palette = re.compile("|".join(set(COLOURS.values()) - {"#000000"}), flags=re.IGNORECASE)
    found = [path.name for folder in folders for path in folder.rglob("*.py") if palette.search(path.read_text())]
    # front.py has a dark page's colours, and start.py is the code of a page.
    assert set(found) - {"front.py", "start.py"} == {"_style.py"}


def test_every_plot_of_a_measurement_is_made_by_it() -> None:
    for path in (ROOT / "src" / "lookbehind" / "measure").glob("*.py"):
        text = path.read_text()
        assert text.count("def plot(") == text.count("= panel(axes, "), path
        assert "pyplot" not in text, path


def test_a_picture_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="a picture needs matplotlib: pip install matplotlib"):
        panel(None, "What is shown", "x", "y")


def test_new_axes_have_the_colours_and_given_ones_keep_theirs() -> None:
    from matplotlib import pyplot

    axes = panel(None, "What is shown", "x", "y")
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("What is shown", "x", "y")
    assert axes.plot([1, 2])[0].get_color() == COLOURS[CYCLE[0]]
    pyplot.close(axes.get_figure())
    given = pyplot.figure().add_subplot(title="Mine")
    given.set_prop_cycle(color=["red"])
    assert panel(given, "What is shown", "x", "y") is given
    assert given.get_title() == "Mine"
    assert given.plot([1, 2])[0].get_color() == "red"
    pyplot.close(given.get_figure())
