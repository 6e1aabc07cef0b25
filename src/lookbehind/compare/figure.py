"""The picture of a comparison: training loss against sharpness, and accuracy per method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from lookbehind.compare.report import Finished, Rows
from lookbehind.compare.runs import METHODS, TITLES, Result
from lookbehind.lab.files import writing

# Okabe and Ito's colours, told apart with every kind of colour vision; controls are grey and differ by marker.
STYLES: dict[str, dict[str, Any]] = {
    "sgd": {"color": "#000000", "marker": "o"},
    "sam": {"color": "#0072B2", "marker": "s"},
    "multistep": {"color": "#E69F00", "marker": "^"},
    "lookahead": {"color": "#009E73", "marker": "v"},
    "lookbehind": {"color": "#D55E00", "marker": "D"},
    "lookbehind-adaptive": {"color": "#CC79A7", "marker": "P"},
    "sam-radius": {"color": "#777777", "marker": "s"},
    "sam-rate": {"color": "#777777", "marker": "X"},
    "sgd-longer": {"color": "#777777", "marker": "o"},
    "sam-longer": {"color": "#777777", "marker": "*"},
}


def draw(finished: Finished, folder: Path) -> list[Path]:
    """Draw one row of two panels for each label setting; write compare.png and compare.svg."""
    labels = list(dict.fromkeys(run.labels for run, _ in finished))
    figure, grid = pyplot.subplots(
        len(labels),
        2,
        figsize=(11, 3.8 * len(labels) + 0.9),
        layout="constrained",
        squeeze=False,
        width_ratios=(1, 1.1),
    )
    for axes, which in zip(grid, labels, strict=True):
        rows = Rows(finished, which)
        _trade_off(axes[0], rows)
        _accuracies(axes[1], rows)
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    paths = [folder / "compare.png", folder / "compare.svg"]
    for path in paths:
        with writing(path):
            figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return paths


def _trade_off(axes: Axes, rows: Rows) -> None:
    run = next(iter(rows.by_method.values()))[0][0]
    i = min(range(len(run.radii)), key=lambda i: abs(run.radii[i] - run.rho))
    shown: list[float] = []
    for method in rows.by_method:
        pairs = [(x.train_loss, x.sharpness[i]) for _, x in rows.by_method[method]]
        points = [(loss, rise) for loss, rise in pairs if loss is not None and rise is not None]
        if not points:
            continue
        losses, sharpness = zip(*points, strict=True)
        shown.extend(sharpness)
        axes.scatter(losses, sharpness, s=14, alpha=0.35, linewidths=0, **STYLES[method])
        mean = (sum(losses) / len(losses), sum(sharpness) / len(sharpness))
        axes.scatter(*mean, s=70, edgecolors="white", label=METHODS[method].label, zorder=3, **STYLES[method])
    axes.set(
        xlabel="training loss",
        ylabel=f"125-sharpness at r = {run.radii[i]:g}",
        title=TITLES.get(rows.labels, rows.labels),
    )
    # One-step sharpness can be negative, and a logarithmic axis would drop such points without a word.
    if all(y > 0 for y in shown):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.margins(0.08)


def _accuracies(axes: Axes, rows: Rows) -> None:
    methods = list(rows.by_method)
    for height, method in enumerate(methods):
        values = rows.values(method, _accuracy)
        axes.scatter(values, [height] * len(values), s=14, alpha=0.35, linewidths=0, **STYLES[method])
        axes.scatter(sum(values) / len(values), height, s=70, edgecolors="white", zorder=3, **STYLES[method])
    equal = rows.equal_cost()
    names = [rows.name(m) + (" =" if m in equal else "") for m in methods]
    axes.set_yticks(range(len(methods)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="test accuracy (%), each seed and the mean", title="= marks Lookbehind's gradient budget")


def _accuracy(result: Result) -> float:
    return result.test_accuracy
