"""Loss against sharpness for several ρ, and α* during training, on the digits with 40 % label noise.

pip install -e ".[lab]"
python docs/pictures/digits.py      about 4 minutes the first time: the runs are kept in docs/pictures/digits.json
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib import pyplot
from torch import nn
from torch.optim import Optimizer

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM
from lookbehind._style import COLOURS, MARKERS
from lookbehind.data import load
from lookbehind.measure import alpha_trace, m_sharpness
from lookbehind.models import ConvNet
from lookbehind.training import train

FOLDER = Path(__file__).resolve().parent
EPOCHS, RHOS, SEEDS, KS = 20, (0.05, 0.1, 0.2, 0.4), (0, 1), (2, 5, 10)
METHODS: dict[str, Any] = {
    "SAM": SAM,
    "Multistep-SAM": partial(MultistepSAM, k=2),
    "Lookahead-SAM": lambda base, rho, model: Lookahead(SAM(base, rho=rho, model=model), k=2, alpha=0.8),
    "Lookbehind-SAM": partial(Lookbehind, k=2, alpha=0.8),
    "SAM at rate α·k·η": SAM,  # the control: is it the longer step?
}
STYLES = {
    "SAM": (COLOURS["blue"], MARKERS["square"]),
    "Multistep-SAM": (COLOURS["orange"], MARKERS["triangle"]),
    "Lookahead-SAM": (COLOURS["green"], MARKERS["down"]),
    "Lookbehind-SAM": (COLOURS["vermillion"], MARKERS["diamond"]),
    "SAM at rate α·k·η": (COLOURS["grey"], MARKERS["cross"]),
}

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "lookbehind", "axes.spines.top": False, "axes.spines.right": False})


def trained(make: Any, rho: float, seed: int, lr: float = 0.1) -> tuple[nn.Module, Optimizer, Any]:
    """Return what is needed to train one model, and the function that does."""
    data = load("digits", noise=0.4, seed=seed)
    torch.manual_seed(seed)
    model = ConvNet()
    base = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    optimizer = make(base, rho=rho, model=model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    return (
        model,
        optimizer,
        lambda: train(model, optimizer, *data.train.tensors(), epochs=EPOCHS, seed=seed, scheduler=scheduler),
    )


def trade_off(method: str, rho: float, seed: int) -> dict[str, float]:
    """Return training loss and sharpness of one run."""
    model, _, run = trained(METHODS[method], rho, seed, lr=0.16 if "rate" in method else 0.1)
    run()
    minibatches = list(load("digits", noise=0.4, seed=seed).train.minibatches(125))
    found = m_sharpness(model, nn.functional.cross_entropy, minibatches, [0.2])
    return {"loss": found.loss, "sharpness": found.values[0]}


def alphas(k: int) -> list[float]:
    """Return the mean α* of each epoch."""
    _, optimizer, run = trained(partial(Lookbehind, k=k, alpha="adaptive"), 0.2, 0)
    with alpha_trace(optimizer) as recording:
        run()
    means = recording.result().means
    steps = len(means) // EPOCHS
    return [sum(means[i : i + steps]) / steps for i in range(0, len(means), steps)]


def runs() -> dict[str, Any]:
    """Return every number, training what is not in the file yet."""
    file = FOLDER / "digits.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    wanted: dict[str, Any] = {f"alpha k={k}": partial(alphas, k) for k in KS}
    for seed in SEEDS:
        for rho in RHOS:
            for method in METHODS:
                wanted[f"{method} rho={rho} seed={seed}"] = partial(trade_off, method, rho, seed)
    for name, run in wanted.items():
        if name not in known:
            known[name] = run()
            file.write_text(json.dumps(known, indent=1) + "\n")
    return known


def draw_trade_off(known: dict[str, Any]) -> None:
    figure, axes = pyplot.subplots(figsize=(6.2, 4.2), layout="constrained")
    for method, (colour, marker) in STYLES.items():
        pairs = [[known[f"{method} rho={rho} seed={seed}"] for seed in SEEDS] for rho in RHOS]
        losses = [sum(p["loss"] for p in pair) / len(pair) for pair in pairs]
        rises = [sum(p["sharpness"] for p in pair) / len(pair) for pair in pairs]
        axes.plot(losses, rises, "--" if "rate" in method else "-", color=colour, marker=marker, label=method)
        for pair in pairs:
            axes.plot([p["loss"] for p in pair], [p["sharpness"] for p in pair], marker, color=colour, ms=3, alpha=0.5)
        for rho, x, y in zip(RHOS, losses, rises, strict=True):
            if method in ("SAM", "Lookbehind-SAM"):
                below = method == "Lookbehind-SAM"
                axes.annotate(
                    f"{rho:g}", (x, y), (-18 if below else 7, -12 if below else 5), textcoords="offset points",
                    color=colour, fontsize=8.5,
                )  # fmt: skip
    axes.set(xlabel="training loss (noisy labels)", ylabel="125-sharpness at r = 0.2", yscale="log")
    axes.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    axes.yaxis.set_minor_formatter("")
    axes.set_title("numbers at the points: ρ in training", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(FOLDER / "loss-sharpness.svg", metadata={"Date": None}, facecolor="white")


def draw_alphas(known: dict[str, Any]) -> None:
    figure, axes = pyplot.subplots(figsize=(6.2, 3.4), layout="constrained")
    for k, colour, line in zip(KS, ("blue", "orange", "vermillion"), ("-", "--", "-."), strict=True):
        axes.plot(range(1, EPOCHS + 1), known[f"alpha k={k}"], line, color=COLOURS[colour], lw=2, label=f"k = {k}")
    axes.set(xlabel="epoch", ylabel="α*, mean of the epoch's steps", ylim=(0.5, 1.0), xticks=range(0, EPOCHS + 1, 5))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(FOLDER / "alpha-star.svg", metadata={"Date": None}, facecolor="white")


def main() -> None:
    torch.set_num_threads(1)
    known = runs()
    draw_trade_off(known)
    draw_alphas(known)


if __name__ == "__main__":
    main()
