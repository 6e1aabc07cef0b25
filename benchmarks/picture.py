"""The picture of the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth import Point
from benchmarks.tasks import TASKS
from benchmarks.timing import Row
from matplotlib import pyplot


def draw(steps: Sequence[Row], growth: Sequence[Point], path: Path) -> None:
    """Draw the own shares of steps on the left, growth on the right."""
    pyplot.rcParams["svg.hashsalt"] = "lookbehind"
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 5.2), layout="constrained")
    _steps(left, [row for row in steps if row.base == "SGD" and row.task == TASKS[0].name])
    _nets(middle, [row for row in steps if row.base == "SGD" and row.owner == "lookbehind"])
    _parameters(right, growth)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _steps(axes: pyplot.Axes, rows: Sequence[Row]) -> None:
    rows = sorted((row for row in rows if row.owner != "torch"), key=lambda row: -row.own)
    places = range(len(rows))
    colours = {"lookbehind": "tab:blue", "algorithm 1": "tab:red"}
    axes.barh(places, [100 * row.own for row in rows], color=[colours.get(row.owner, "tab:grey") for row in rows])
    names = [row.name if row.owner == "lookbehind" else f"{row.name} ({row.owner})" for row in rows]
    axes.set_yticks(places, names, fontsize=6)
    axes.axvline(15, color="black", linestyle=":", linewidth=1)
    axes.set_xlabel("% of a step beyond its gradients and base steps")
    axes.set_title("MLP, gradient of 1 ms, SGD")


def _nets(axes: pyplot.Axes, rows: Sequence[Row]) -> None:
    for task in TASKS:
        here = [row for row in rows if row.task == task.name]
        axes.plot([row.gradient_ms for row in here], [100 * row.own for row in here], "o", label=task.name, alpha=0.6)
    axes.axhline(3, color="black", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("milliseconds of a gradient")
    axes.set_ylabel("% of a step beyond its gradients and base steps")
    axes.set_title("all optimizers of lookbehind, SGD")
    axes.legend()


def _parameters(axes: pyplot.Axes, points: Sequence[Point]) -> None:
    for tensors, style in ((10, "-"), (1000, "--")):
        here = [p for p in points if p.axis == f"parameters in {tensors} tensors"]
        for colour, method in enumerate(dict.fromkeys(p.method for p in here)):
            line = [p for p in here if p.method == method]
            axes.plot(
                [p.value for p in line],
                [p.number for p in line],
                style,
                marker=".",
                color=f"C{colour}",
                label=f"{method}, {tensors} tensors",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("ms of a step without gradients")
    axes.set_title("growth with the parameters")
    axes.legend(fontsize=7)
