"""One step of each algorithm on a loss of two weights: the pictures of docs/algorithms (the paper's Figure 2).

pip install -e ".[lab]"
python docs/pictures/paths.py      seconds; writes docs/pictures/*.svg
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Ellipse
from recording import Loss, Point, Step, record, tilted, valley

from lookbehind import METHODS, SAM, Adaptive, Lookahead, Lookbehind, MultistepSAM
from lookbehind._style import COLOURS

FOLDER = Path(__file__).resolve().parent
BLACK, ASCENT, FAST, SLOW, OTHER, GREY = (
    COLOURS[name] for name in ("black", "vermillion", "blue", "green", "purple", "grey")
)
START, RHO, ETA, ALPHA = (-1.7, -0.12), 0.45, 0.6, 0.5

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "lookbehind", "font.size": 11, "axes.spines.top": False})


def ground(x: tuple[float, float], y: tuple[float, float], *losses: Loss) -> Axes:
    """Return axes with the contours of the losses, in one unit for both weights."""
    height = 5.4 * (y[1] - y[0]) / (x[1] - x[0])
    axes = pyplot.figure(figsize=(5.6, min(height, 5.0) + 0.7), layout="constrained").add_subplot()
    xs, ys = torch.meshgrid(torch.linspace(*x, 120), torch.linspace(*y, 120), indexing="xy")
    levels = [0.01 * 1.6**i for i in range(20)]
    for loss, colour in zip(losses, ("#BBBBBB", "#E3B778"), strict=False):
        axes.contour(xs, ys, loss(xs, ys), levels=levels, colors=colour, linewidths=0.7)
    axes.set(aspect="equal", xlim=x, ylim=y)
    axes.set_axis_off()
    return axes


def arrow(axes: Axes, start: Point, end: Point, colour: str, **style: object) -> None:
    axes.annotate(
        "",
        end,
        start,
        zorder=3,
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0, "shrinkB": 0, **style},
    )


def name(axes: Axes, point: Point, text: str, colour: str, shift: tuple[float, float] = (6, 4)) -> None:
    axes.plot(*point, "o", color=colour, markersize=5, zorder=4)
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
    axes.annotate(text, point, shift, textcoords="offset points", color=colour, bbox=box, zorder=5)


def climb(axes: Axes, step: Step, shift: tuple[float, float] = (-20, 6)) -> None:
    """Draw φ'_0 … φ'_k."""
    before = step.start
    for i, point in enumerate(step.perturbed, 1):
        arrow(axes, before, point, ASCENT)
        index = f"_{i}" if len(step.perturbed) > 1 else ""
        name(axes, point, rf"$\phi'{index}$", ASCENT, shift)
        before = point


def legend(axes: Axes, *entries: tuple[str, str]) -> None:
    for colour, text in entries:
        axes.plot([], [], color=colour, lw=2.5, label=text)
    axes.get_figure().legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9.5)


def save(axes: Axes, file: str) -> None:
    axes.get_figure().savefig(FOLDER / file, metadata={"Date": None}, facecolor="white")
    pyplot.close(axes.get_figure())


def near(steps: list[Step], margin: float = 0.35) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return ranges that hold all points, with room for names."""
    points = [p for s in steps for p in [s.start, s.end, *s.gradients, *s.moved]]
    xs, ys = zip(*points, strict=True)
    height = max(ys) - min(ys) + 2 * margin
    aside = max(margin, (1.4 * height - (max(xs) - min(xs))) / 2)  # at least 1.4 times as wide as high
    return (min(xs) - aside, max(xs) + aside), (min(ys) - margin, max(ys) + margin)


def sam() -> None:
    [step], [plain] = record(lambda b: SAM(b, rho=RHO), START, lr=ETA), record(lambda b: b, START, lr=ETA)
    axes = ground(*near([step, plain], 0.6), valley)
    axes.add_patch(Circle(START, RHO, fill=False, color=ASCENT, ls=":", lw=1.2))
    climb(axes, step)
    arrow(axes, START, plain.end, GREY, ls="--")
    arrow(axes, START, step.end, SLOW)
    name(axes, START, r"$\phi_{t-1}$", BLACK, (-34, -4))
    name(axes, step.end, r"$\phi_t$", SLOW)
    legend(axes, (ASCENT, "ascent of length ρ"), (SLOW, "descent with the gradient at φ′"), (GREY, "SGD's step"))
    save(axes, "sam.svg")


def asam() -> None:
    eta, rho = 0.0, 0.35
    [step] = record(lambda b: SAM(b, rho=rho, perturbation=Adaptive(eta=eta)), (-1.3, -0.3), lr=ETA)
    [other] = record(lambda b: SAM(b, rho=RHO), (-1.3, -0.3), lr=ETA)
    x, y = step.start
    axes = ground(*near([step, other], 0.55), valley)
    axes.add_patch(Ellipse((x, y), 2 * rho * abs(x), 2 * rho * abs(y), fill=False, color=ASCENT, ls=":", lw=1.2))
    axes.add_patch(Circle((x, y), RHO, fill=False, color=GREY, ls=":", lw=1.2))
    arrow(axes, step.start, other.perturbed[0], GREY)
    climb(axes, step)
    arrow(axes, step.start, step.end, SLOW)
    name(axes, step.start, r"$\phi_{t-1}$", BLACK, (8, -12))
    name(axes, step.end, r"$\phi_t$", SLOW)
    legend(axes, (ASCENT, "ASAM: ‖ε / φ‖ ≤ ρ"), (GREY, "SAM: ‖ε‖ ≤ ρ"), (SLOW, "ASAM's descent"))
    save(axes, "asam.svg")


def multistep() -> None:
    [step] = record(lambda b: MultistepSAM(b, rho=RHO, k=2), START, lr=ETA)
    [mean] = record(lambda b: MultistepSAM(b, rho=RHO, k=2, gradient="mean"), START, lr=ETA)
    axes = ground(*near([step, mean], 0.45), valley)
    climb(axes, step)
    arrow(axes, START, step.end, SLOW)
    arrow(axes, START, mean.end, OTHER)
    name(axes, START, r"$\phi_{t-1}$", BLACK, (-34, -4))
    name(axes, step.end, r"$\phi_t$", SLOW)
    name(axes, mean.end, r"$\phi_t$, mean", OTHER)
    legend(axes, (ASCENT, "ascents"), (SLOW, "descent with the last gradient"), (OTHER, "… with their mean"))
    save(axes, "multistep-sam.svg")


def lookahead() -> None:
    steps = record(lambda b: Lookahead(SAM(b, rho=RHO), k=2, alpha=ALPHA), START, 2, ETA, (valley, tilted))
    axes = ground(*near(steps, 0.45), valley, tilted)
    before = START
    for i, step in enumerate(steps, 1):
        arrow(axes, before, step.gradients[-1], ASCENT)
        name(axes, step.gradients[-1], rf"$\phi_{{t,{i - 1}}}+\epsilon$", ASCENT, (-24, 9))
        arrow(axes, before, step.moved[-1], FAST)
        name(axes, step.moved[-1], rf"$\phi_{{t,{i}}}$", FAST)
        before = step.moved[-1]
    arrow(axes, START, steps[-1].end, SLOW)
    name(axes, START, r"$\phi_{t-1}$", BLACK, (-34, -4))
    name(axes, steps[-1].end, r"$\phi_t$", SLOW, (-20, -12))
    legend(axes, (ASCENT, "SAM's ascent"), (FAST, "fast weights, a minibatch each"), (SLOW, "slow weights"))
    save(axes, "lookahead.svg")


def draw_lookbehind(axes: Axes, step: Step) -> None:
    climb(axes, step)
    before = step.start
    for i, point in enumerate(step.moved, 1):
        arrow(axes, before, point, FAST)
        axes.plot(*zip(step.perturbed[i - 1], point, strict=True), ":", color=COLOURS["sky"], lw=1.1)
        name(axes, point, rf"$\phi_{{t,{i}}}$", FAST)
        before = point
    arrow(axes, step.start, step.end, SLOW)
    name(axes, step.start, r"$\phi_{t-1}$", BLACK, (-34, -4))
    name(axes, step.end, r"$\phi_t$", SLOW, (-20, -12))


KEY = ((ASCENT, "k ascents"), (FAST, "k descents, each with the gradient met there"), (SLOW, "interpolation, α"))


def lookbehind() -> None:
    [step] = record(lambda b: Lookbehind(b, rho=RHO, k=2, alpha=ALPHA), START, lr=ETA)
    axes = ground(*near([step], 0.45), valley)
    draw_lookbehind(axes, step)
    legend(axes, *KEY)
    save(axes, "lookbehind.svg")


def adaptive(file: str, *losses: Loss) -> None:
    [step] = record(
        lambda b: Lookbehind(b, rho=RHO, k=2, alpha="adaptive"),
        START,
        lr=ETA,
        losses=losses,
        together=len(losses) > 1,
    )
    axes = ground(*near([step], 0.45), *losses)
    draw_lookbehind(axes, _once(step))
    arrow(axes, step.start, step.moved[-1], OTHER, ls="--")
    legend(axes, (FAST, r"$d_1$: the first of these"), (OTHER, r"$d_k$"), (SLOW, f"α* = {step.alpha:.2f} of $d_k$"))
    save(axes, file)


def _once(step: Step) -> Step:
    """Leave out that the gradient at φ'_i was taken again, on the next minibatch."""
    step.gradients = list(dict.fromkeys(step.gradients))
    return step


def switching() -> None:
    [step] = record(
        lambda b: Lookbehind(b, rho=RHO, k=2, alpha=ALPHA), START, lr=ETA, losses=(valley, tilted), together=True
    )
    axes = ground(*near([step], 0.45), valley, tilted)
    draw_lookbehind(axes, _once(step))
    legend(axes, *KEY, ("#BBBBBB", "loss of minibatch 1"), ("#E3B778", "loss of minibatch 2"))
    save(axes, "switching-minibatches.svg")


# How many steps a picture shows, and whether minibatches take turns or come together in one step.
STEPS = {"momentum_sam": 3, "friendly_sam": 2, "vasso": 2, "s2_sam": 3, "looksam": 2}
TOGETHER = {"fraction_sam": (tilted, valley), "accumulating_sam": (valley, tilted)}
FOR_PICTURES = {"looksam": {"every": 2}, "xsam": {"alpha": 0.5}, "gsam": {"alpha": 0.8}}


def family(method: str) -> None:
    """Draw the steps of a method beside one of SAM. The climbs of each step are orange, its move green."""
    count = STEPS.get(method, 1)
    losses = TOGETHER.get(method, (valley, tilted) if count > 1 else (valley,))
    options = {"rho": RHO, **FOR_PICTURES.get(method, {})}
    steps = record(
        lambda b: METHODS[method].build(b, **options), START, count, ETA, losses, together=method in TOGETHER
    )
    [other] = record(lambda b: SAM(b, rho=RHO), START, lr=ETA)
    axes = ground(*near([*steps, other], 0.5), *dict.fromkeys(losses))
    arrow(axes, START, other.end, GREY, ls="--")
    for t, step in enumerate(steps, 1):
        before = step.start
        for point in step.perturbed:
            arrow(axes, before, point, ASCENT)
            axes.plot(*point, "o", color=ASCENT, markersize=4, zorder=4)
            before = point
        arrow(axes, step.start, step.end, SLOW)
        name(axes, step.end, rf"$\phi_{t}$", SLOW, (6, 6 if t % 2 else -14))
    name(axes, START, r"$\phi_0$", BLACK, (-22, -4))
    legend(axes, (ASCENT, "climbs"), (SLOW, METHODS[method].title), (GREY, "SAM's first step"))
    save(axes, f"{method.replace('_', '-')}.svg")


if __name__ == "__main__":
    for method in METHODS.keys() - {"sam", "asam", "multistep_sam", "lookahead", "lookbehind"}:
        family(method)
    for draw in (sam, asam, multistep, lookahead, lookbehind, switching):
        draw()
    adaptive("adaptive-alpha.svg", valley)
    adaptive("adaptive-alpha-switching.svg", valley, tilted)
