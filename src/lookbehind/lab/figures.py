"""Figures in the paper's layout: lines, points and heatmaps, as SVG or PNG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lookbehind._style import COLOURS, LINES, MARKERS
from lookbehind.lab.cell import Value
from lookbehind.lab.parts import Heatmap, Lines, Scatter, Style
from lookbehind.lab.report import Filled
from lookbehind.lab.statistics import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLIPPED = 3.0  # points from the baseline: the colours of all heat maps, which tell no more apart
RUINED = 20.0  # points below the baseline: hatched
LIGHTEST = 0.35  # a shade of 0 has so much of its colour, the rest is white


def draw(filled: Filled) -> Figure:
    """Draw a figure.

    What has no number is not drawn: lines have gaps, cells of a heatmap say why.

    Args:
        filled: an evaluated heatmap, lines or scatter.

    Returns:
        A matplotlib ``Figure``.

    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    with matplotlib.rc_context({"text.parse_math": False}):  # a label with two $ is no formula
        match filled.part:
            case Heatmap():
                _heatmap(figure, axes, filled.part, filled)
            case Lines():
                _lines(axes, filled.part, filled)
            case Scatter():
                _scatter(axes, filled.part, filled)
            case _:
                raise TypeError(f"{filled.part.title!r} is a table, and no figure")
        axes.set_title(filled.part.title, fontsize=10)
    return figure


def _look(style: Style) -> dict[str, Any]:
    from matplotlib.colors import to_rgb

    share = LIGHTEST + (1 - LIGHTEST) * style.shade
    colour = tuple(1 - share * (1 - channel) for channel in to_rgb(COLOURS[style.colour]))
    face = colour if style.filled else "white"
    return {"color": colour, "marker": MARKERS[style.marker], "markerfacecolor": face, "markeredgecolor": colour}


def _lines(axes: Axes, part: Lines, filled: Filled) -> None:
    for line, values in zip(part.series, filled.values, strict=False):
        look, means = _look(line.style), [_mean(value) for value in values]
        spread = [value.std or 0.0 if value else 0.0 for value in values]
        low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(line.xs, low, high, color=look["color"], alpha=0.12, linewidth=0)
        axes.plot(line.xs, means, label=line.label, markersize=6, **look)
    if part.baseline is not None and (value := filled.values[-1][0]) is not None and value.mean is not None:
        axes.axhline(value.mean, color="black", linestyle="--", linewidth=1, label=part.baseline_label)
    axes.set(xlabel=part.x, ylabel=part.y)
    _finish(axes, filled)


def _scatter(axes: Axes, part: Scatter, filled: Filled) -> None:
    for point, (x, y) in zip(part.points, filled.values, strict=True):
        if x is None or y is None or x.mean is None or y.mean is None:
            continue
        look = _look(point.style)
        axes.errorbar(
            x.mean,
            y.mean,
            xerr=x.std,
            yerr=y.std,
            elinewidth=0.6,
            linestyle="",
            markersize=8,
            label=point.label,
            **look,
        )
    axes.set(xlabel=part.x, ylabel=part.y)
    _finish(axes, filled)


def _finish(axes: Axes, filled: Filled) -> None:
    axes.grid(alpha=LINES)
    axes.margins(0.06)
    if (entries := len(axes.get_legend_handles_labels()[1])) > 6:  # too many to leave the data in sight
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    elif entries:
        axes.legend(fontsize=7, frameon=False)
    if not any(value and value.mean is not None for row in filled.values for value in row):
        axes.text(0.5, 0.5, "no number yet", transform=axes.transAxes, ha="center", va="center")


def _heatmap(figure: Figure, axes: Axes, part: Heatmap, filled: Filled) -> None:
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    cells, (baseline, *_) = filled.values[:-1], filled.values[-1]
    middle = _mean(baseline)
    if not math.isfinite(middle):  # nothing to be better or worse than: no colour
        picture = [[math.nan] * len(part.xs) for _ in part.ys]
    else:
        picture = [[_mean(value) - middle for value in row] for row in cells]
    size = min(9.0, 60 / len(part.xs))  # to be zoomed into where there are many
    image = axes.imshow(picture, cmap="RdBu", norm=Normalize(-CLIPPED, CLIPPED), aspect="auto")
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            if value is None or value.mean is None or picture[i][j] < -RUINED:
                axes.add_patch(
                    Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="///", edgecolor="0.8", linewidth=0)
                )
            text = "" if value is None else shown(value.mean) if value.mean is not None else value.text()
            dark = abs(picture[i][j]) > 0.65 * CLIPPED
            axes.text(j, i, text, ha="center", va="center", color="white" if dark else "black", fontsize=size)
    axes.set_xticks(range(len(part.xs)), [f"{x:g}" for x in part.xs])
    axes.set_yticks(range(len(part.ys)), [f"{y:g}" for y in part.ys])
    axes.set(xlabel=part.x, ylabel=part.y)
    bar = figure.colorbar(image, ax=axes)
    ends = (-CLIPPED, 0.0, CLIPPED)
    text = "baseline missing" if not math.isfinite(middle) else f"baseline {shown(middle)}"
    bar.set_ticks(
        ends, labels=[f"{shown(ends[0], 0)} or less", text, f"{shown(ends[2], 0, sign=True)} or more"], fontsize=8
    )


def _mean(value: Value | None) -> float:
    return math.nan if value is None or value.mean is None else value.mean
