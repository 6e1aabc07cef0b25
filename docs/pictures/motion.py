"""Lookbehind in motion: seven outer steps on a loss of two weights, gradient by gradient.

pip install -e ".[lab]"
python docs/pictures/motion.py      seconds; writes docs/pictures/lookbehind.gif
"""

from __future__ import annotations

from itertools import pairwise

from matplotlib import pyplot
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from paths import ALPHA, ASCENT, BLACK, FAST, FOLDER, KEY, SLOW, START, arrow, ground, legend, near
from recording import Point, Step, record, valley

from lookbehind import Lookbehind

Frame = list[tuple[str, list[Point]]]  # arrows: a colour, and the points along it


def frames(steps: list[Step]) -> list[Frame]:
    """Return what is seen after each gradient and each interpolation; a finished step leaves its slow arrow."""
    shown: list[Frame] = []
    past: Frame = []
    for step in steps:
        climbed, descended = [step.start], [step.start]
        shown.append(list(past))
        for up, down in zip(step.perturbed, step.moved, strict=True):
            climbed = [*climbed, up]
            shown.append([*past, (ASCENT, climbed), (FAST, descended)])
            descended = [*descended, down]
            shown.append([*past, (ASCENT, climbed), (FAST, descended)])
        past = [*past, (SLOW, [step.start, step.end])]
        shown += [[*past, (ASCENT, climbed), (FAST, descended)]] * 2
    return [*shown, *[past] * 4]


def draw(axes: Axes, frame: Frame) -> None:
    for old in [*axes.texts, *axes.lines]:
        old.remove()
    axes.plot(*START, "o", color=BLACK, markersize=5)
    for colour, points in frame:
        for start, end in pairwise(points):
            arrow(axes, start, end, colour)


def main() -> None:
    steps = record(lambda b: Lookbehind(b, rho=0.35, k=2, alpha=ALPHA), START, steps=7, lr=0.3)
    axes = ground(*near(steps, 0.3), valley)
    legend(axes, *KEY)
    pictures = frames(steps)
    film = FuncAnimation(axes.get_figure(), lambda i: draw(axes, pictures[i]), frames=len(pictures))
    film.save(FOLDER / "lookbehind.gif", writer=PillowWriter(fps=2), dpi=90, savefig_kwargs={"facecolor": "white"})
    pyplot.close(axes.get_figure())


if __name__ == "__main__":
    main()
