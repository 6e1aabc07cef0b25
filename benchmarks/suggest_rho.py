"""Worth of the answers of suggest_rho: each against a full grid of complete trainings, on three real tasks.

pip install -e ".[lab]"        (and Debian's dataset-fashion-mnist, or a network)
python benchmarks/suggest_rho.py          about 10 minutes on two cores; the table is in docs/suggest-rho.md

For each seed a model is trained with SGD, and the range finder is asked with validation data. Then every ρ of its grid
is trained in full with SAM, and test accuracies are compared.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from torch import nn

from lookbehind import SAM
from lookbehind.data import load
from lookbehind.measure import suggest_rho
from lookbehind.measure.noise import accuracy
from lookbehind.measure.rho import GRID
from lookbehind.models import ConvNet
from lookbehind.training import train

TASKS: dict[str, dict[str, Any]] = {
    "digits, 40 % label noise": {"dataset": "digits", "noise": 0.4},
    "digits, clean labels": {"dataset": "digits"},
    "Fashion-MNIST 14×14, 2,000 images, 20 % label noise": {
        "dataset": "fashion-mnist", "noise": 0.2, "size": 14, "train": 2000, "validation": 1000, "test": 5000,
    },
}  # fmt: skip


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def trained(data: Any, rho: float, epochs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = ConvNet()
    base = sgd(model.parameters())
    optimizer = SAM(base, rho=rho, model=model) if rho > 0 else base
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    train(model, optimizer, *data.train.tensors(), epochs=epochs, seed=seed, scheduler=scheduler)
    return model


def one(task: str, seed: int, rho: float | None, epochs: int) -> tuple[str, int, float | None, Any]:
    """Train with one ρ and return test accuracy; or, with None, ask the range finder."""
    torch.set_num_threads(1)
    data = load(**TASKS[task], seed=seed)
    if rho is not None:
        return task, seed, rho, accuracy(trained(data, rho, epochs, seed), data.test.minibatches())
    train_minibatches = list(data.train.shuffled(64, seed=seed, augment=False))
    model = trained(data, 0.0, epochs, seed)
    loss = nn.functional.cross_entropy
    return task, seed, rho, suggest_rho(model, loss, train_minibatches, data.validation.minibatches(), sgd, seed=seed)


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    seeds = range(options.seeds)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        wanted = [(t, s, r, options.epochs) for t in TASKS for s in seeds for r in (None, *GRID)]
        found = {(t, s, r): value for t, s, r, value in pool.map(one, *zip(*wanted, strict=True))}
    for task in TASKS:
        print(f"\n{task}; {options.seeds} seeds, {options.epochs} epochs")
        means = {}
        for rho in GRID:
            values = [found[task, s, rho] for s in seeds]
            means[rho] = statistics.mean(values)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"  SAM, ρ = {rho:<7g} test accuracy {means[rho]:6.2f} ± {spread:.2f}")
        for s in seeds:
            answer = found[task, s, None]
            nearest = min(GRID, key=lambda rho: abs(rho - (answer.rho or 0.0)))
            print(
                f"  seed {s}: {answer.conclusion} ({answer.gradients} gradients). Full training with the nearest ρ of "
                f"the grid, {nearest:g}: {means[nearest]:.2f}; best of the grid: {max(means.values()):.2f}"
            )


if __name__ == "__main__":
    main()
