"""The picture of docs/tuning.md: the answer of suggest_rho on the digits with noisy labels, as its own plot shows it.

pip install -e ".[lab]"
python docs/pictures/rho.py      a minute; writes docs/pictures/suggest-rho.svg
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from lookbehind._style import save
from lookbehind.data import load
from lookbehind.measure import suggest_rho
from lookbehind.models import ConvNet
from lookbehind.training import train

FOLDER = Path(__file__).resolve().parent
EPOCHS = 20


def sgd(parameters: Iterable[torch.nn.Parameter]) -> SGD:
    return SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def main() -> None:
    """Train with SGD, ask for ρ, and draw the answer."""
    import matplotlib

    matplotlib.use("Agg")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    digits = load("digits", noise=0.4, seed=0)
    model = ConvNet()
    optimizer = sgd(model.parameters())
    scheduler = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    train(model, optimizer, *digits.train.tensors(), epochs=EPOCHS, seed=0, scheduler=scheduler)
    minibatches = list(digits.train.shuffled(64, seed=0, augment=False))
    found = suggest_rho(model, cross_entropy, minibatches, list(digits.validation.minibatches(200)), sgd)
    axes = found.plot()
    axes.set_ylabel("validation accuracy %")
    save(axes.get_figure(), FOLDER / "suggest-rho.svg")
    print(found.conclusion)


if __name__ == "__main__":
    main()
