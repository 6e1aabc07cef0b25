"""The README's picture: the loss along a direction, and test accuracy, of SGD, SAM and Lookbehind on noisy digits.

pip install -e ".[lab]"
python docs/pictures/front.py      a minute; writes docs/pictures/front.svg, front-dark.svg and front.csv
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from lookbehind import SAM, Lookbehind
from lookbehind._style import COLOURS, save
from lookbehind.data import load_digits
from lookbehind.lab.statistics import mean, std
from lookbehind.measure import loss_slice
from lookbehind.models import ConvNet
from lookbehind.training import train

FOLDER = Path(__file__).resolve().parent
SEEDS, EPOCHS, SPAN, POINTS = range(5), 20, 1.0, 21
METHODS: dict[str, tuple[str, Any]] = {
    "SGD": ("black", lambda base, model: base),
    "SAM": ("blue", lambda base, model: SAM(base, rho=0.2, model=model)),
    "Lookbehind": ("vermillion", lambda base, model: Lookbehind(base, rho=0.2, k=2, alpha=0.8, model=model)),
}
DARK = {"black": "#FFFFFF", "blue": "#56B4E9", "vermillion": "#F2A36B"}


def run(name: str, seed: int) -> tuple[list[float], float]:
    """Train once; return the loss along a random direction, and the test accuracy in percent."""
    torch.manual_seed(seed)
    data = load_digits(seed=seed, noise=0.4)
    model = ConvNet(channels=1, classes=10)
    base = SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    optimizer = METHODS[name][1](base, model)
    scheduler = CosineAnnealingLR(base, T_max=EPOCHS)
    train(model, optimizer, data.train_images, data.train_labels, epochs=EPOCHS, seed=seed, scheduler=scheduler)
    minibatches = [(data.train_images, data.train_labels)]
    found = loss_slice(
        model, nn.functional.cross_entropy, minibatches, ("random",), span=SPAN, points=POINTS, seed=seed
    )
    model.eval()
    with torch.no_grad():
        right = (model(data.test_images).argmax(1) == data.test_labels).double().mean()
    return [value for row in found.losses for value in row], 100.0 * right.item()


def draw(curves: dict[str, list[list[float]]], accuracies: dict[str, list[float]], dark: bool) -> None:
    """Draw both panels, large enough to be read on a phone."""
    import matplotlib
    from matplotlib.figure import Figure

    ink = "#E6E6E6" if dark else "#222222"
    colours = DARK if dark else COLOURS
    keys = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context(dict.fromkeys(keys, ink)):
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        figure.patch.set_alpha(0.0)
        left, right = figure.subplots(1, 2)
        xs = [SPAN * (2 * i / (POINTS - 1) - 1) for i in range(POINTS)]
        for height, (name, (key, _)) in enumerate(METHODS.items()):
            columns = list(zip(*curves[name], strict=True))
            middle = [mean(column) for column in columns]
            left.plot(xs, middle, color=colours[key], linewidth=2.5, label=name)
            left.fill_between(xs, list(map(min, columns)), list(map(max, columns)), color=colours[key], alpha=0.15)
            values = accuracies[name]
            right.errorbar(mean(values), height, xerr=std(values), fmt="o", color=colours[key], markersize=9, capsize=5)
            right.text(mean(values), height - 0.28, f"{mean(values):.1f} %", ha="center", fontsize=13)
        left.set(xlabel="along a random direction", ylabel="training loss")
        right.set(xlabel="test accuracy", yticks=range(len(METHODS)), yticklabels=list(METHODS), ylim=(2.4, -0.6))
        right.margins(x=0.14)
        for axes in (left, right):
            axes.patch.set_alpha(0.0)
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=12)
            axes.xaxis.label.set_fontsize(13)
            axes.yaxis.label.set_fontsize(13)
        left.legend(fontsize=12, frameon=False)
        save(figure, FOLDER / ("front-dark.svg" if dark else "front.svg"))


def main() -> None:
    """Train, keep the numbers, and draw them for light and dark pages."""
    torch.set_num_threads(1)
    curves: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    accuracies: dict[str, list[float]] = {name: [] for name in METHODS}
    for name in METHODS:
        for seed in SEEDS:
            losses, accuracy = run(name, seed)
            curves[name].append(losses)
            accuracies[name].append(accuracy)
    with (FOLDER / "front.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "seed", "test accuracy", *(f"loss {i}" for i in range(POINTS))])
        for name in METHODS:
            for seed in SEEDS:
                writer.writerow(
                    [name, seed, f"{accuracies[name][seed]:.4f}", *(f"{x:.6g}" for x in curves[name][seed])]
                )
    for dark in (False, True):
        draw(curves, accuracies, dark)


if __name__ == "__main__":
    main()
