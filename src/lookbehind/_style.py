"""The look of every plot of this package: colours, markers, names of axes, and how a picture is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every kind of colour vision; controls are grey and differ by marker.
COLOURS = {
    "black": "#000000",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "grey": "#777777",
}
MARKERS = {
    "circle": "o",
    "triangle": "^",
    "down": "v",
    "square": "s",
    "diamond": "D",
    "plus": "P",
    "cross": "X",
    "star": "*",
    "none": "",
}
CYCLE = ("blue", "vermillion", "green", "orange", "purple", "sky", "black")  # of lines that have no method's colour
LINES = 0.3  # opacity of a grid
BAND = 0.2  # opacity of a spread


def panel(axes: Axes | None, title: str, x: str, y: str) -> Axes:
    """Return axes with a title, if they have none yet, and names for both sides.

    Args:
        axes: where to draw. None: new ones.
        title: what is shown.
        x: what runs from left to right, with its unit.
        y: what runs upwards, with its unit.

    """
    if axes is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(f"a picture needs matplotlib: pip install matplotlib ({error})") from error

        axes = pyplot.figure(figsize=(5, 3.5), layout="constrained").add_subplot()
        axes.set_prop_cycle(color=[COLOURS[name] for name in CYCLE])
    if not axes.get_title():
        axes.set_title(title, fontsize=10)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=LINES)
    return axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, .svg or .png. The same numbers, drawn anew, give the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "lookbehind", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
