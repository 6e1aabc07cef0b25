"""The picture of a comparison: training loss against sharpness, and accuracy per method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lookbehind._style import COLOURS, LINES, MARKERS, save
from lookbehind.compare.items import LOSS, METHODS, TEST
from lookbehind.compare.report import Rows
from lookbehind.lab.files import writing
from lookbehind.lab.statistics import mean


def draw(compared: Sequence[Rows], folder: Path) -> list[Path]:
    """Draw one row of two panels for each workload; write compare.png and compare.svg."""
    figure = Figure(figsize=(11, 3.8 * len(compared) + 0.9), layout="constrained")
    grid = figure.subplots(len(compared), 2, squeeze=False, width_ratios=(1, 1.1))
    for axes, rows in zip(grid, compared, strict=True):
        _trade_off(axes[0], rows)
        _accuracies(axes[1], rows)
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    paths = [folder / "compare.png", folder / "compare.svg"]
    for path in paths:
        with writing(path):
            save(figure, path)
    return paths


def _points(axes: Axes, method: str, xs: Sequence[float], ys: Sequence[float], **mean_only: Any) -> None:
    """Draw a method's seeds, pale, and their mean."""
    style = METHODS[method].style
    look: dict[str, Any] = {"color": COLOURS[style.colour], "marker": MARKERS[style.marker]}
    axes.scatter(xs, ys, s=14, alpha=0.35, linewidths=0, **look)
    axes.scatter(mean(xs), mean(ys), s=70, edgecolors="white", zorder=3, **look, **mean_only)


def _trade_off(axes: Axes, rows: Rows) -> None:
    radii, rho = rows.comparison.radii, rows.comparison.rho
    i = min(range(len(radii)), key=lambda i: abs(radii[i] - rho))
    shown: list[float] = []
    for method, values in rows.by_method.items():
        losses, rises = values[LOSS].by_seed, values[LOSS + 1 + i].by_seed
        if seeds := sorted(losses.keys() & rises.keys()):
            _points(axes, method, [losses[s] for s in seeds], [rises[s] for s in seeds], label=METHODS[method].label)
            shown.extend(rises[s] for s in seeds)
    axes.set(
        xlabel="training loss",
        ylabel=f"sharpness over minibatches of 125, r = {radii[i]:g}",
        title=rows.comparison.names.title,
    )
    # One-step sharpness can be negative, and a logarithmic axis would drop such points without a word.
    if all(y > 0 for y in shown):
        axes.set_yscale("log")
    axes.grid(alpha=LINES)
    axes.margins(0.08)


def _accuracies(axes: Axes, rows: Rows) -> None:
    for height, (method, values) in enumerate(rows.by_method.items()):
        accuracies = list(values[TEST].by_seed.values())
        _points(axes, method, accuracies, [height] * len(accuracies))
    equal = rows.equal_cost()
    names = [rows.name(method) + (" =" if method in equal else "") for method in rows.by_method]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=LINES)
    axes.set(xlabel="test accuracy (%), each seed and the mean", title="= marks Lookbehind's gradient budget")
